//! Resources.

use bpf2sys_simulator::image::{Directory, DirectoryKind, Image, Rva};

use crate::rule::{Group, Rule, Scope, Verdict, Weight};
use crate::subject::Subject;

/// `RT_VERSION`.
const VERSION: u32 = 16;
/// What a resource's offset says that leads to another directory.
const SUBDIRECTORY: u32 = 0x8000_0000;
/// Type, name and language.
const LEVELS: usize = 3;
/// Signature of a `VS_FIXEDFILEINFO`.
const FIXED_FILE_INFO: [u8; 4] = 0xFEEF_04BDu32.to_le_bytes();

pub(crate) const RULES: &[Rule] = &[
    Rule::new(
        Group::Resources,
        Scope::Image,
        "resource.directory",
        [
            "the resource directory lies in raw data and leads to data in the image",
            "whoever shows the file's properties follows it",
            "PE format, \"The .rsrc Section\"",
        ],
        |s| match s.image.directory(DirectoryKind::Resource) {
            None => Verdict::none("there are no resources"),
            Some(directory) => match resources(s.image, directory) {
                Ok(list) => Verdict::Pass(format!("{} resources", list.len())),
                Err(problem) => Verdict::Fail(problem),
            },
        },
    ),
    Rule::new(
        Group::Resources,
        Scope::Image,
        "resource.version",
        [
            "there is a version resource",
            "Explorer and inventories show nothing of the file",
            "Microsoft, \"VERSIONINFO resource\"",
        ],
        version,
    )
    .weighing(Weight::Advice),
];

fn version(s: &Subject<'_>) -> Verdict {
    let Some(directory) = s.image.directory(DirectoryKind::Resource) else {
        return Verdict::Fail("there are no resources".into());
    };
    let Ok(list) = resources(s.image, directory) else {
        return Verdict::none("the resource directory can't be read");
    };
    let Some((_, data)) = list.into_iter().find(|(kind, _)| *kind == VERSION) else {
        return Verdict::Fail("no version resource".into());
    };
    let Some(at) = data.windows(4).position(|bytes| bytes == FIXED_FILE_INFO) else {
        return Verdict::Fail("a version resource without fixed information".into());
    };
    let half = |offset: usize| {
        data.get(at + offset..at + offset + 2)
            .map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
    };
    // dwFileVersionMS, dwFileVersionLS
    Verdict::Pass(format!("{}.{}.{}.{}", half(10), half(8), half(14), half(12)))
}

/// All resources: number of the type (0 of types with names) and data.
fn resources<'a>(image: &Image<'a>, directory: Directory) -> Result<Vec<(u32, &'a [u8])>, String> {
    /// More than any driver has.
    const MOST: usize = 4096;
    let word = |rva: u32| {
        let bytes = image.file_bytes(Rva(rva), 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let start = directory.rva.0;
    let mut found = Vec::new();
    // Offset of a table, its level, and the type that it belongs to.
    let mut waiting = vec![(0, 0, 0)];
    let mut seen = 0;
    while let Some((offset, level, kind)) = waiting.pop() {
        let outside = || format!("the table at {offset:#x} is not in raw data");
        let at = start.checked_add(offset).ok_or_else(outside)?;
        let counts = word(at.saturating_add(12)).ok_or_else(outside)?;
        for index in 0..(counts & 0xFFFF) + (counts >> 16) {
            seen += 1;
            if seen > MOST {
                return Err(format!("more than {MOST} entries"));
            }
            let entry = at.saturating_add(16 + 8 * index);
            let (Some(name), Some(target)) = (word(entry), word(entry.saturating_add(4))) else {
                return Err(outside());
            };
            let kind = if level == 0 && name < SUBDIRECTORY { name } else { kind };
            if target & SUBDIRECTORY != 0 {
                if level + 1 >= LEVELS {
                    return Err(format!("the table at {offset:#x} has tables below the third level"));
                }
                waiting.push((target & !SUBDIRECTORY, level + 1, kind));
                continue;
            }
            let data = start
                .checked_add(target)
                .and_then(|at| Some((word(at)?, word(at.checked_add(4)?)?)));
            let data = data.and_then(|(rva, size)| image.file_bytes(Rva(rva), size as usize));
            found.push((
                kind,
                data.ok_or_else(|| format!("the data at {target:#x} is not in raw data"))?,
            ));
        }
    }
    Ok(found)
}
