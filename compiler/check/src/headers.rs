//! What the headers say.

use bpf2sys_simulator::directories::exports;
use bpf2sys_simulator::image::{DirectoryKind, Image, Section};

use crate::rule::{Group, Rule, Scope, Verdict, Weight, Wrong};
use crate::subject::{NATIVE, Subject};

const EXECUTABLE_IMAGE: u16 = 0x2;
const RELOCS_STRIPPED: u16 = 0x1;
const LARGE_ADDRESS_AWARE: u16 = 0x20;
const HIGH_ENTROPY_VA: u16 = 0x20;
const DYNAMIC_BASE: u16 = 0x40;
const FORCE_INTEGRITY: u16 = 0x80;
const NX_COMPAT: u16 = 0x100;
const WDM_DRIVER: u16 = 0x2000;
/// `IMAGE_SUBSYSTEM_WINDOWS_GUI` and `IMAGE_SUBSYSTEM_WINDOWS_CUI`.
const USER_MODE: [u16; 2] = [2, 3];
/// Bytes of the optional header of a PE32+ image before the data directories.
const BEFORE_DIRECTORIES: usize = 112;
const GLOBAL_POINTER: usize = 8;

const fn rule(id: &'static str, text: [&'static str; 3], judge: fn(&Subject<'_>) -> Verdict) -> Rule {
    Rule::new(Group::Headers, Scope::Image, id, text, judge)
}

pub(crate) const RULES: &[Rule] = &[
    rule(
        "pe.machine",
        [
            "the machine is x64 or ARM64",
            "Windows loads images of its own machine only, and eBPF for Windows exists for these two",
            "PE format, \"Machine Types\"",
        ],
        |s| {
            Verdict::when(
                matches!(s.image.machine, Image::X64 | Image::ARM64),
                s.image.machine_name(),
            )
        },
    ),
    rule(
        "pe.directory-count",
        [
            "the optional header holds the data directories that it counts, at most 16",
            "readers take what lies behind the header for directories",
            "PE format, \"Optional Header Windows-Specific Fields\"",
        ],
        directory_count,
    ),
    rule(
        "pe.executable-image",
        [
            "the file header says that it is an image that can be executed",
            "the linker clears the bit when it left something unresolved, and Windows does not load the image",
            "PE format, \"Characteristics\"",
        ],
        |s| Verdict::when(s.image.characteristics & EXECUTABLE_IMAGE != 0, characteristics(s)),
    ),
    rule(
        "pe.relocations-kept",
        [
            "the file header does not say that relocations were stripped",
            "drivers are never at their preferred base",
            "PE format, \"Characteristics\"",
        ],
        |s| Verdict::when(s.image.characteristics & RELOCS_STRIPPED == 0, characteristics(s)),
    ),
    rule(
        "pe.large-address-aware",
        [
            "the file header says that addresses of more than 2 GiB are handled",
            "every linker for 64-bit images sets it",
            "PE format, \"Characteristics\"",
        ],
        |s| Verdict::when(s.image.characteristics & LARGE_ADDRESS_AWARE != 0, characteristics(s)),
    )
    .weighing(Weight::Advice),
    rule(
        "pe.subsystem",
        [
            "the subsystem is native of a driver, graphical or console of a DLL",
            "Windows does not load the image as what it is",
            "PE format, \"Windows Subsystem\"",
        ],
        subsystem,
    ),
    rule(
        "pe.subsystem-version",
        [
            "the subsystem version is one that Windows has had, up to 10.0",
            "user mode refuses images for a Windows that is newer than the running one",
            "PE format, \"Optional Header Windows-Specific Fields\"",
        ],
        |s| {
            let version @ (major, minor) = s.image.versions[2];
            Verdict::when(((5, 2)..=(10, 0)).contains(&version), format!("{major}.{minor}"))
        },
    ),
    rule(
        "pe.versions",
        [
            "operating system, image and subsystem version are 10.0, as the WDK has them",
            "tools expect it of a driver for current systems",
            "WDK default, seen in shipped drivers",
        ],
        |s| {
            let text = s
                .image
                .versions
                .map(|(major, minor)| format!("{major}.{minor}"))
                .join(", ");
            Verdict::when(s.image.versions.iter().all(|version| *version == (10, 0)), text)
        },
    )
    .weighing(Weight::Advice),
    rule(
        "pe.image-base",
        [
            "the preferred base is a multiple of 64 KiB",
            "Windows refuses the image",
            "PE format, \"Optional Header Windows-Specific Fields\"",
        ],
        |s| {
            Verdict::when(
                s.image.image_base.is_multiple_of(0x1_0000),
                format!("{:#x}", s.image.image_base),
            )
        },
    ),
    rule(
        "pe.file-alignment",
        [
            "the file alignment is a power of two from 512 to 64 KiB, not above the section alignment",
            "Windows refuses the image",
            "PE format, \"Optional Header Windows-Specific Fields\"",
        ],
        |s| {
            let (file, section) = (s.image.file_alignment, s.image.section_alignment);
            // A section alignment below a page is a rule of its own.
            let kept = file.is_power_of_two() && (0x200..=0x1_0000).contains(&file) && file <= section.max(0x1000);
            Verdict::when(kept, format!("{file:#x}"))
        },
    ),
    rule(
        "pe.headers-size",
        [
            "SizeOfHeaders covers the section table, is file-aligned, and ends before the first section",
            "Windows maps that many bytes as headers",
            "PE format, \"Optional Header Windows-Specific Fields\"",
        ],
        headers_size,
    ),
    rule(
        "pe.image-size",
        [
            "SizeOfImage is the end of the last section, rounded up to a page",
            "Windows refuses the image",
            "PE format, \"Optional Header Windows-Specific Fields\"",
        ],
        image_size,
    ),
    rule(
        "pe.entry-point",
        [
            "the entry point lies in an executable section; only a DLL can be without",
            "Windows calls it first",
            "PE format, \"Optional Header Standard Fields\"",
        ],
        entry_point,
    ),
    Rule::new(
        Group::Headers,
        Scope::Driver,
        "pe.checksum",
        [
            "the checksum is right",
            "Windows compares it when it loads a driver, and refuses one with another",
            "PE format, \"Optional Header Windows-Specific Fields\"",
        ],
        |s| {
            let (stated, computed) = (s.image.checksum, s.image.computed_checksum());
            Verdict::when(
                stated == computed,
                format!("stated {stated:#010x}, computed {computed:#010x}"),
            )
        },
    ),
    rule(
        "pe.nx-compatible",
        [
            "DllCharacteristics say that data need not be executable",
            "the image asks for memory that memory integrity does not give",
            "native module contract §2.4",
        ],
        |s| dll_characteristic(s, NX_COMPAT),
    )
    .weighing(Weight::RequiredOfModules),
    rule(
        "pe.dynamic-base",
        [
            "DllCharacteristics say that the image can be relocated",
            "drivers are never at their preferred base",
            "native module contract §2.4",
        ],
        |s| dll_characteristic(s, DYNAMIC_BASE),
    )
    .weighing(Weight::RequiredOfModules),
    rule(
        "pe.high-entropy",
        [
            "DllCharacteristics say that any 64-bit address will do",
            "addresses are easier to guess without",
            "PE format, \"DLL Characteristics\"",
        ],
        |s| dll_characteristic(s, HIGH_ENTROPY_VA),
    )
    .weighing(Weight::Advice),
    Rule::new(
        Group::Headers,
        Scope::Driver,
        "pe.wdm-driver",
        [
            "DllCharacteristics say that it is a WDM driver",
            "linkers set it with /DRIVER:WDM; Windows does not ask for it",
            "Microsoft, \"/DRIVER (Windows NT Kernel Mode Driver)\"",
        ],
        |s| dll_characteristic(s, WDM_DRIVER),
    )
    .weighing(Weight::Advice),
    rule(
        "pe.force-integrity",
        [
            "DllCharacteristics ask for an integrity check",
            "without it a signature is checked where policy says so, which for drivers is always",
            "Microsoft, \"/INTEGRITYCHECK (Require Signature Check)\"",
        ],
        |s| dll_characteristic(s, FORCE_INTEGRITY),
    )
    .weighing(Weight::Advice),
    rule(
        "pe.directories",
        [
            "data directories lie inside the image",
            "readers follow them without looking",
            "PE format, \"Optional Header Data Directories\"",
        ],
        directories,
    ),
    Rule::new(
        Group::Headers,
        Scope::Module,
        "pe.unused-directories",
        [
            "there are no thread local storage, bound or delay-loaded imports, and no CLR header",
            "a native module imports a handful of functions, and the kernel serves none of these",
            "native module contract §2.1",
        ],
        unused_directories,
    ),
    rule(
        "pe.exports",
        [
            "the export directory is well formed and lies in raw data",
            "pe-parse refuses the whole file, and names are not found",
            "PE format, \"The .edata Section\"; native module contract §5.1",
        ],
        |s| {
            if s.image.directory(DirectoryKind::Export).is_none() {
                return Verdict::none("nothing is exported");
            }
            match exports(s.image) {
                Ok(list) => Verdict::Pass(format!("{} names", list.len())),
                Err(violation) => Verdict::Fail(violation.detail),
            }
        },
    )
    // Forwarded exports are what other drivers may have.
    .weighing(Weight::RequiredOfModules),
];

fn characteristics(s: &Subject<'_>) -> String {
    format!("{:#06x}", s.image.characteristics)
}

fn dll_characteristic(s: &Subject<'_>, flag: u16) -> Verdict {
    let stated = s.image.dll_characteristics;
    Verdict::when(stated & flag != 0, format!("{stated:#06x}"))
}

fn directory_count(s: &Subject<'_>) -> Verdict {
    let (size, count) = (
        usize::from(s.image.optional_header_size),
        s.image.directory_count as usize,
    );
    let kept = count <= 16 && BEFORE_DIRECTORIES + 8 * count <= size;
    Verdict::when(kept, format!("{count} directories in a header of {size:#x} bytes"))
}

fn subsystem(s: &Subject<'_>) -> Verdict {
    let subsystem = s.image.subsystem;
    let kept = if s.is_dll {
        USER_MODE.contains(&subsystem)
    } else {
        subsystem == NATIVE
    };
    Verdict::when(kept, subsystem.to_string())
}

fn headers_size(s: &Subject<'_>) -> Verdict {
    let image = s.image;
    let table_end = image.checksum_offset() - 64 + usize::from(image.optional_header_size) + 40 * s.section_count;
    let first = image
        .sections
        .iter()
        .map(|section| section.rva.0)
        .min()
        .unwrap_or(u32::MAX);
    let size = image.header_size;
    let kept = size as usize >= table_end
        && size <= first
        && size as usize <= image.bytes.len()
        && size.is_multiple_of(image.file_alignment.max(1));
    Verdict::when(kept, format!("{size:#x}, the section table ends at {table_end:#x}"))
}

fn image_size(s: &Subject<'_>) -> Verdict {
    if s.section_count > s.image.sections.len() {
        return Verdict::none("not all sections are looked at");
    }
    let end = |section: &Section| u64::from(section.rva.0) + u64::from(section.memory_size());
    let last = s.image.sections.iter().map(end).max().unwrap_or(0);
    let due = last.next_multiple_of(crate::sections::PAGE.into());
    let stated = u64::from(s.image.image_size);
    Verdict::when(
        stated == due,
        format!("stated {stated:#x}, the last section ends at {due:#x}"),
    )
}

fn entry_point(s: &Subject<'_>) -> Verdict {
    let entry = s.image.entry;
    if entry.0 == 0 && s.image.is_dll() {
        return Verdict::none("a DLL without an entry point");
    }
    Verdict::when(s.is_code(entry), s.place(entry))
}

fn directories(s: &Subject<'_>) -> Verdict {
    let mut wrong = Wrong::default();
    let mut present = 0;
    let room = usize::from(s.image.optional_header_size).saturating_sub(BEFORE_DIRECTORIES) / 8;
    for (index, directory) in s.image.directories.iter().enumerate().take(room) {
        let (start, size) = (directory.rva.0, directory.size);
        // The certificate table has rules of its own; a global pointer has no size.
        if (start == 0 && size == 0) || index == DirectoryKind::Certificate as usize || index == GLOBAL_POINTER {
            continue;
        }
        present += 1;
        if start == 0 || size == 0 || u64::from(start) + u64::from(size) > u64::from(s.image.image_size) {
            wrong.add(|| format!("directory {index} is at {start:#x} with {size:#x} bytes"));
        }
    }
    Verdict::of(wrong, format!("{present} directories"))
}

fn unused_directories(s: &Subject<'_>) -> Verdict {
    let wrong = [
        (DirectoryKind::Tls, "thread local storage"),
        (DirectoryKind::BoundImport, "bound imports"),
        (DirectoryKind::DelayImport, "delay-loaded imports"),
        (DirectoryKind::Clr, "a CLR header"),
    ];
    let wrong = wrong.into_iter().filter(|(kind, _)| s.image.directory(*kind).is_some());
    Verdict::of(wrong.map(|(_, name)| name.to_owned()).collect(), "none")
}
