//! The function table and its unwind data.

mod arm64;
mod x64;

use bpf2sys_simulator::image::{DirectoryKind, Image, Rva, Section};

use crate::rule::{Group, Rule, Scope, Verdict, Weight, Wrong};
use crate::subject::Subject;

/// Most bytes of a function's frame. The kernel's stack has 24 KiB in all, and larger frames need probes.
const MAX_FRAME: u32 = 4096;

/// An entry of the function table.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    /// RVA of its first byte.
    pub(crate) begin: u32,
    /// RVA of the first byte behind it.
    pub(crate) end: u32,
    /// Its unwind data.
    pub(crate) unwind: Result<Unwind, String>,
}

/// What unwind data says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unwind {
    /// Bytes of stack that the function takes, the return address aside.
    pub(crate) frame: u32,
    /// The first thing that does not fit the code.
    pub(crate) mismatch: Option<Mismatch>,
}

/// A prologue that does something else than its unwind data says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mismatch {
    /// Bytes from the start of the function to the end of the instruction.
    pub(crate) offset: u32,
    /// What the unwind data says.
    pub(crate) says: &'static str,
}

/// What may still be read of unwind data. Real images need a small part of it; without an end, every entry of a large table
/// could lead to the same large record.
struct Budget(usize);

impl Budget {
    /// For a file of that many bytes.
    fn new(file: usize) -> Budget {
        Budget(file.saturating_mul(16))
    }

    /// Takes that many bytes away.
    fn take(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.map(drop)
            .ok_or_else(|| "more unwind data than the file can have".to_owned())
    }
}

/// Reads the function table: empty if there is none.
pub(crate) fn functions(image: &Image<'_>) -> Result<Vec<Function>, String> {
    let directory = image.directory(DirectoryKind::Exception);
    let Some(directory) = directory.filter(|_| matches!(image.machine, Image::X64 | Image::ARM64)) else {
        return Ok(Vec::new());
    };
    let data = image
        .file_bytes(directory.rva, directory.size as usize)
        .ok_or_else(|| {
            format!(
                "{:#x} bytes at {} are not all in raw data",
                directory.size, directory.rva
            )
        })?;
    let arm64 = image.machine == Image::ARM64;
    let width = if arm64 { 8 } else { 12 };
    if !data.len().is_multiple_of(width) {
        return Err(format!(
            "{:#x} bytes are no whole number of entries of {width}",
            data.len()
        ));
    }
    let word = |entry: &[u8], at: usize| {
        let bytes = entry
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .unwrap_or_default();
        u32::from_le_bytes(bytes)
    };
    let mut budget = Budget::new(image.bytes.len());
    let read = |entry: &[u8]| {
        let begin = word(entry, 0);
        if arm64 {
            let (length, unwind) = arm64::read(image, begin, word(entry, 4), &mut budget);
            Function {
                begin,
                end: begin.saturating_add(length),
                unwind,
            }
        } else {
            let end = word(entry, 4);
            Function {
                begin,
                end,
                unwind: x64::read(image, begin, end, word(entry, 8), &mut budget),
            }
        }
    };
    Ok(data.chunks_exact(width).map(read).collect())
}

const fn rule(id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::ExceptionData, Scope::Image, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "unwind.table",
        [
            "the function table lies in raw data and holds whole entries",
            "the kernel searches it when something goes wrong, and then goes wrong itself",
            "PE format, \"The .pdata Section\"",
        ],
        |s| match &s.functions {
            Ok(_) if s.image.directory(DirectoryKind::Exception).is_none() => Verdict::none("there is no function table"),
            Ok(list) => Verdict::Pass(format!("{} functions", list.len())),
            Err(problem) => Verdict::Fail(problem.clone()),
        },
    ),
    rule(
        "unwind.sorted",
        [
            "its entries are ascending and do not overlap",
            "it is searched by halving",
            "PE format, \"The .pdata Section\"",
        ],
        |s| {
            of(s, |list| {
                let pairs = list.windows(2).filter(|pair| pair[1].begin < pair[0].end.max(pair[0].begin.saturating_add(1)));
                pairs.map(|pair| format!("{:#x} follows {:#x} to {:#x}", pair[1].begin, pair[0].begin, pair[0].end)).collect()
            })
        },
    ),
    rule(
        "unwind.in-code",
        [
            "each entry describes bytes of one executable section",
            "an entry for something else is never found, and one that is missing not either",
            "PE format, \"The .pdata Section\"",
        ],
        |s| {
            of(s, |list| {
                let step = if s.image.machine == Image::ARM64 { 4 } else { 1 };
                let in_code = |function: &&Function| {
                    let last = Rva(function.end.saturating_sub(1));
                    let section = s.image.section_at(Rva(function.begin)).filter(|x| x.has(Section::EXECUTE));
                    function.begin < function.end
                        && function.begin.is_multiple_of(step)
                        && section.is_some_and(|section| section.contains(last))
                };
                let wrong = list.iter().filter(|function| !in_code(function));
                wrong.map(|function| format!("{:#x} to {:#x}", function.begin, function.end)).collect()
            })
        },
    ),
    rule(
        "unwind.data",
        [
            "unwind data of each function is there, and made of codes that exist",
            "the kernel stops the machine where it can't unwind",
            "Microsoft, \"x64 exception handling\" and \"ARM64 exception handling\"",
        ],
        |s| {
            of(s, |list| {
                let wrong = list.iter().filter_map(|function| Some((function.begin, function.unwind.as_ref().err()?)));
                wrong.map(|(begin, problem)| format!("{}: {problem}", s.place(Rva(begin)))).collect()
            })
        },
    ),
    rule(
        "unwind.matches-code",
        [
            "prologues do what their unwind data says",
            "registers and return address of the caller are looked for elsewhere",
            "Microsoft, \"x64 exception handling\" and \"ARM64 exception handling\"",
        ],
        |s| {
            of(s, |list| {
                let wrong = list.iter().filter_map(|function| Some((function, function.unwind.as_ref().ok()?.mismatch?)));
                let text = |(function, found): (&Function, Mismatch)| {
                    let place = s.place(Rva(function.begin));
                    format!("{place}: the instruction that ends at {:#x} is not {}", found.offset, found.says)
                };
                wrong.map(text).collect()
            })
        },
    )
    .weighing(Weight::RequiredOfModules),
    rule(
        "unwind.covers-frames",
        [
            "every function that moves the stack pointer or calls has an entry",
            "what has none is taken for a leaf: its caller's address is looked for at the stack pointer",
            "Microsoft, \"x64 exception handling\" and \"ARM64 exception handling\"",
        ],
        |s| match &s.functions {
            Ok(_) => s.code.verdict(&s.code.uncovered, "covered"),
            Err(_) => Verdict::none("the function table can't be read"),
        },
    )
    .weighing(Weight::RequiredOfModules),
    Rule::new(
        Group::ExceptionData,
        Scope::Driver,
        "stack.frame",
        [
            "no function takes more than 4 KiB of stack",
            "the kernel's stack has 12 KiB to 24 KiB for all that runs on it, and one such step can jump its guard page",
            "Microsoft, \"Using the Kernel Stack\"",
        ],
        |s| {
            let frames = s.functions.iter().flatten();
            let sizes: Vec<(u32, u32)> = frames.filter_map(|f| Some((f.begin, f.unwind.as_ref().ok()?.frame))).collect();
            let largest = sizes.iter().map(|(_, frame)| *frame).max();
            let mut wrong = Wrong::default();
            for (begin, frame) in sizes.iter().filter(|(_, frame)| *frame > MAX_FRAME) {
                wrong.add(|| format!("{} takes {frame} bytes", s.place(Rva(*begin))));
            }
            match largest {
                None => Verdict::none("no frame is known"),
                Some(largest) => Verdict::of(wrong, format!("at most {largest} bytes")),
            }
        },
    )
    .weighing(Weight::RequiredOfModules),
];

fn of(s: &Subject<'_>, wrong: impl Fn(&[Function]) -> Wrong) -> Verdict {
    match &s.functions {
        Ok(list) if list.is_empty() => Verdict::none("there is no function table"),
        Ok(list) => Verdict::of(wrong(list), format!("{} functions", list.len())),
        Err(_) => Verdict::none("the function table can't be read"),
    }
}
