//! The debug directory.

use bpf2sys_simulator::image::{DirectoryKind, Image, Rva};

use crate::rule::{Group, Rule, Scope, Verdict, Weight};
use crate::subject::Subject;

/// Bytes of an `IMAGE_DEBUG_DIRECTORY`.
const ENTRY: usize = 28;
/// `IMAGE_DEBUG_TYPE_REPRO`.
const REPRO: u32 = 16;
/// `IMAGE_DEBUG_TYPE_EX_DLLCHARACTERISTICS`.
const EX_DLL_CHARACTERISTICS: u32 = 20;
/// `IMAGE_DLLCHARACTERISTICS_EX_CET_COMPAT`.
const CET_COMPAT: u32 = 0x1;
/// `IMAGE_DLLCHARACTERISTICS_EX_FORWARD_CFI_COMPAT`.
const FORWARD_CFI_COMPAT: u32 = 0x40;

/// An entry of the debug directory.
struct Entry<'a> {
    kind: u32,
    rva: u32,
    offset: u32,
    /// Its data, if that is in the file.
    data: Option<&'a [u8]>,
}

fn entries<'a>(image: &Image<'a>) -> Result<Vec<Entry<'a>>, String> {
    /// More than any image has.
    const MOST: usize = 256;
    let Some(directory) = image.directory(DirectoryKind::Debug) else {
        return Ok(Vec::new());
    };
    let size = directory.size as usize;
    let data = image
        .file_bytes(directory.rva, size)
        .ok_or_else(|| format!("{size:#x} bytes at {} are not all in raw data", directory.rva))?;
    let (list, rest) = data.as_chunks::<ENTRY>();
    if !rest.is_empty() || list.len() > MOST {
        return Err(format!("{size:#x} bytes are no whole number of entries"));
    }
    let entry = |bytes: &[u8; ENTRY]| {
        let word = |at: usize| bytes[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
        let (size, offset) = (word(16) as usize, word(24));
        let start = offset as usize;
        Entry {
            kind: word(12),
            rva: word(20),
            offset,
            data: start.checked_add(size).and_then(|end| image.bytes.get(start..end)),
        }
    };
    Ok(list.iter().map(entry).collect())
}

const fn rule(id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::DebugDirectory, Scope::Image, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "debug.readable",
        [
            "the debug directory lies in raw data, and its entries point to data in the file",
            "debuggers, and the loader for the extended characteristics, read it",
            "PE format, \"Debug Directory (Image Only)\"",
        ],
        readable,
    ),
    rule(
        "debug.places-agree",
        [
            "address and file offset of each entry's data mean the same bytes",
            "the loader takes one and tools the other",
            "PE format, \"Debug Directory (Image Only)\"",
        ],
        |s| {
            of(s, |list| {
                let mapped: Vec<&Entry<'_>> = list
                    .iter()
                    .filter(|entry| entry.rva != 0 && entry.data.is_some())
                    .collect();
                let apart = mapped.iter().filter(|entry| {
                    let section = s.image.section_at(Rva(entry.rva));
                    let place = section.map(|x| u64::from(x.raw_offset) + u64::from(entry.rva - x.rva.0));
                    place != Some(entry.offset.into())
                });
                let text =
                    |entry: &&Entry<'_>| format!("type {}: {:#x} and {:#x}", entry.kind, entry.rva, entry.offset);
                Verdict::of(apart.map(text).collect(), format!("{} entries", mapped.len()))
            })
        },
    ),
    rule(
        "debug.forward-cfi",
        [
            "it is not said that all targets of indirect calls are marked, unless they are",
            "a processor that checks it stops at the first that is not",
            "LLVM, COFF.h, IMAGE_DLL_CHARACTERISTICS_EX_FORWARD_CFI_COMPAT",
        ],
        forward_cfi,
    ),
    rule(
        "debug.reproducible",
        [
            "the time stamp is a hash of the content (REPRO entry)",
            "the same input does not give the same image",
            "PE format, \"Debug Type\"",
        ],
        |s| {
            of(s, |list| {
                let found = list.iter().any(|entry| entry.kind == REPRO);
                Verdict::when(found, if found { "REPRO" } else { "no REPRO entry" })
            })
        },
    )
    .weighing(Weight::Advice),
    rule(
        "debug.cet-compatible",
        [
            "an x64 image says that it is compatible with shadow stacks",
            "where kernel-mode hardware-enforced stack protection is strict, Windows does not load other drivers",
            "Microsoft, \"Kernel Mode Hardware-enforced Stack Protection\"",
        ],
        |s| {
            if s.image.machine != Image::X64 {
                return Verdict::none("only x64 has shadow stacks");
            }
            let flags = extended(s);
            let text = flags.map_or("no extended characteristics".to_owned(), |flags| format!("{flags:#x}"));
            Verdict::when(flags.unwrap_or(0) & CET_COMPAT != 0, text)
        },
    )
    .weighing(Weight::Advice),
];

fn of(s: &Subject<'_>, judge: impl Fn(&[Entry<'_>]) -> Verdict) -> Verdict {
    match entries(s.image) {
        Ok(list) if list.is_empty() => Verdict::none("there is no debug directory"),
        Ok(list) => judge(&list),
        Err(_) => Verdict::none("the debug directory can't be read"),
    }
}

fn readable(s: &Subject<'_>) -> Verdict {
    match entries(s.image) {
        Ok(list) if list.is_empty() => Verdict::none("there is no debug directory"),
        Ok(list) => {
            let outside = list.iter().filter(|entry| entry.data.is_none());
            let text = |entry: &Entry<'_>| format!("type {} has its data at {:#x}", entry.kind, entry.offset);
            Verdict::of(outside.map(text).collect(), format!("{} entries", list.len()))
        }
        Err(problem) => Verdict::Fail(problem),
    }
}

/// The extended characteristics, if they are stated.
fn extended(s: &Subject<'_>) -> Option<u32> {
    let list = entries(s.image).ok()?;
    let entry = list.iter().find(|entry| entry.kind == EX_DLL_CHARACTERISTICS)?;
    entry.data?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn forward_cfi(s: &Subject<'_>) -> Verdict {
    let Some(flags) = extended(s) else {
        return Verdict::none("there are no extended characteristics");
    };
    if flags & FORWARD_CFI_COMPAT == 0 {
        return Verdict::Pass(format!("{flags:#x}, not said"));
    }
    let targets = s.pointers().filter_map(|(_, value)| s.image.rva_of(value));
    let targets: Vec<Rva> = targets.filter(|rva| s.is_code(*rva)).collect();
    let marked = |rva: &Rva| match s.image.file_bytes(*rva, 4).and_then(|b| b.first_chunk::<4>()) {
        // BTI with any operand; signing the return address marks as well.
        Some(bytes) if s.image.machine == Image::ARM64 => {
            let word = u32::from_le_bytes(*bytes);
            word & 0xFFFF_FF3F == 0xD503_241F || matches!(word, 0xD503_233F | 0xD503_237F)
        }
        // ENDBR64
        Some(bytes) => *bytes == [0xF3, 0x0F, 0x1E, 0xFA],
        None => false,
    };
    let plain = targets
        .iter()
        .filter(|rva| !marked(rva))
        .map(|rva| s.place(*rva))
        .collect();
    Verdict::of(plain, format!("{flags:#x}, {} targets", targets.len()))
}
