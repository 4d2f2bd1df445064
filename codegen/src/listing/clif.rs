//! Optimized Cranelift IR, with the instructions it was made of as comments.

use std::fmt::Write;

use bpf2sys_bytecode::{InsnIndex, SourceLine};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::VerifiedModule;

use super::ebpf::{Source, line_text, title};
use crate::Lowered;
use crate::lowered::Numbering;

const LEGEND: &str = "\
;
; Comments before IR give the source line and the eBPF instruction, by slot, that it was made of. `u0:N` is function N of
; the module, `u1:N` and so on are its pieces; `@` numbers count the instructions of the module in hexadecimal.
";

/// The Cranelift IR of every function that was emitted, as [`Options::keep_ir`](crate::Options::keep_ir) kept it, in the
/// syntax that `cranelift-reader` and `clif-util` take. Comments give the function's name, and before the IR of another
/// eBPF instruction its source line and itself.
///
/// `lowered` must be made of `verified`.
pub fn clif(verified: &VerifiedModule, platform: &Platform, lowered: &Lowered) -> String {
    let numbering = Numbering::of(verified.module());
    let mut text = title(verified, lowered) + LEGEND;
    for function in &lowered.functions {
        let (Some(ir), Some(source)) = (&function.ir, Source::new(verified, platform, function.function)) else {
            continue;
        };
        let _ = writeln!(text, "\n; {}", source.heading(function, lowered));
        let (mut last, mut last_line) = (None, None);
        let mut inlined = source;
        let mut of = function.function;
        for line in ir.lines() {
            if let Some(number) = source_location(line)
                && last.replace(number) != Some(number)
            {
                let place = numbering.place(number);
                if place.function != of
                    && let Some(other) = Source::new(verified, platform, place.function)
                {
                    (inlined, of) = (other, place.function);
                }
                comment(&mut text, &inlined, place.instruction, &mut last_line);
            }
            text += line;
            text.push('\n');
        }
    }
    text
}

fn comment<'a>(text: &mut String, source: &Source<'a>, index: InsnIndex, last_line: &mut Option<&'a SourceLine>) {
    if let Some(line) = source.new_line(index, last_line) {
        let _ = writeln!(text, "{}", line_text(line));
    }
    let _ = writeln!(text, ";{:>6}  {}", source.slot(index), source.text(index));
}

/// The number of the eBPF instruction that a line of IR was made of: Cranelift prints it before the line, as `@` and hexadecimal digits.
fn source_location(line: &str) -> Option<u32> {
    let digits = line.strip_prefix('@')?.split(' ').next()?;
    u32::from_str_radix(digits, 16).ok()
}
