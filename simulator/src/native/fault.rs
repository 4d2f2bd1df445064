//! What a fault of native code means: which instruction of which program, and what it touched.

use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};

use super::cpu::Exception;
use super::kernel::Kernel;
use crate::address_space::AddressSpace;
use crate::error::{CodeLocation, Fault, SimulatorError, TimeOut};

/// Page fault error code: the access was a write.
const WRITE: u64 = 0x2;
/// Page fault error code: the access was an instruction fetch.
const FETCH: u64 = 0x10;

impl Kernel {
    /// The error for an exception of native code.
    pub fn exception(&self, exception: &Exception) -> SimulatorError {
        // After a system call, the instruction pointer is behind its instruction of two bytes.
        let before = if exception.signal == libc::SIGSYS { 2 } else { 0 };
        let location = self.locate(exception.rip.wrapping_sub(before));
        if exception.signal == libc::SIGALRM {
            return SimulatorError::TimeOut(Box::new(TimeOut {
                limit_ms: self.request.time_limit_ms,
                during: Some(self.during()),
                location: Some(location),
            }));
        }
        // A non-canonical address raises a general protection fault, which names no address.
        let has_address =
            matches!(exception.signal, libc::SIGSEGV | libc::SIGBUS) && exception.code > 0 && exception.code < 0x80;
        let kind = match exception.signal {
            libc::SIGSEGV | libc::SIGBUS if !has_address => "general protection fault (an address that cannot exist)",
            libc::SIGSEGV | libc::SIGBUS if exception.error & FETCH != 0 => "access violation (execute)",
            libc::SIGSEGV | libc::SIGBUS if exception.error & WRITE != 0 => "access violation (write)",
            libc::SIGSEGV | libc::SIGBUS => "access violation (read)",
            libc::SIGILL => "illegal instruction",
            libc::SIGFPE => "divide error",
            libc::SIGTRAP => "breakpoint",
            libc::SIGSYS => "system call instruction",
            _ => "exception",
        };
        SimulatorError::Fault(Box::new(Fault {
            kind: kind.into(),
            during: self.during(),
            location,
            accessed: has_address.then(|| self.memory.place(exception.address)),
        }))
    }

    /// Where an instruction pointer is.
    pub fn locate(&self, rip: u64) -> CodeLocation {
        let Some(section) = self.image.section_at(rip) else {
            return CodeLocation {
                outside: Some(self.memory.place(rip)),
                ..CodeLocation::default()
            };
        };
        let program = self
            .functions
            .range(..=rip)
            .next_back()
            .filter(|&(&start, _)| start >= section.start)
            .map(|(&start, name)| (name.clone(), (rip - start) as u32));
        CodeLocation {
            section: Some(section.name.clone()),
            rva: Some((rip - self.image.base) as u32),
            program: program.as_ref().map(|(name, _)| name.clone()),
            program_offset: program.map(|(_, offset)| offset),
            instruction: self.disassemble(rip),
            outside: None,
        }
    }

    /// The instruction at an address of the image, with targets as RVAs.
    fn disassemble(&self, rip: u64) -> Option<String> {
        let region = self.memory.region(rip)?;
        let length = (region.start + region.length - rip).min(15) as usize;
        let bytes = self.memory.read(rip, length)?;
        let mut decoder = Decoder::with_ip(64, &bytes, rip - self.image.base, DecoderOptions::NONE);
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        let mut text = String::new();
        NasmFormatter::new().format(&instruction, &mut text);
        Some(text)
    }
}
