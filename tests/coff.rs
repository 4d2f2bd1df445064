//! Object files of the tool, judged by LLVM's linker and reader: linked with somebody else's C into a DLL or a driver, the
//! programs do what they do in the tool's own driver.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpf2sys_codegen::Skeleton;
use bpf2sys_pe_emit::{
    Machine, NativeObject, Purpose, Relocation, RelocationKind, Section, SectionIndex, SectionKind, Symbol,
    SymbolIndex, SymbolPlace, coff, link,
};
use bpf2sys_simulator::image::{DirectoryKind, Image, Rva};
use bpf2sys_simulator::{loader_rules, usermode};
use libtest_mimic::{Failed, Trial};

use crate::examples::EXAMPLES;
use crate::forms::{MACHINES, expect_same, lowered, lowered_unguarded, machine_name, needs_to_run};
use crate::support::{Need, output, root, succeed, test, test_with, tool};

const CLANG: &str = "clang-19";
const LINKER: &str = "lld-link-19";
const DLLTOOL: &str = "llvm-dlltool-19";
const READER: &str = "llvm-readobj-19";

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("coff::inspect_tells_sections_and_names", inspected),
        test("coff::garbled_object_files_are_described_or_refused", garbled),
        test_with(
            "coff::what_the_page_warns_of_is_noticed",
            &[Need::Program(CLANG), Need::Program(LINKER)],
            warned_of,
        ),
    ];
    for (machine, name) in MACHINES.map(|machine| (machine, machine_name(machine))) {
        let needs = |programs: &[Need]| [programs, needs_to_run(machine)].concat();
        for example in EXAMPLES {
            trials.push(test_with(
                &format!("coff::{example}_links_into_somebody_elses_dll_for_{name}"),
                &needs(&[Need::Program(CLANG), Need::Program(LINKER)]),
                move || links_into_a_dll(example, machine),
            ));
            trials.push(test_with(
                &format!("coff::llvm_readobj_reads_{example}_for_{name}"),
                &[Need::Program(READER)],
                move || is_read(example, machine),
            ));
        }
        trials.push(test_with(
            &format!("coff::a_driver_links_with_import_libraries_for_{name}"),
            &needs(&[Need::Program(LINKER), Need::Program(DLLTOOL)]),
            move || links_into_a_driver("tail_dispatch", machine),
        ));
        trials.push(test_with(
            &format!("coff::lld_link_follows_100_000_relocations_in_80_sections_for_{name}"),
            &[Need::Program(LINKER)],
            move || links_a_large_object(machine),
        ));
    }
    trials
}

/// Writes an example's object file into a folder.
fn object_file(folder: &Path, example: &str, machine: Machine, skeleton: Skeleton) -> Result<PathBuf, Failed> {
    let path = folder.join("module.obj");
    std::fs::write(&path, coff(&lowered(example, machine, skeleton)?)?)?;
    Ok(path)
}

/// Runs the linker; what it warns of is a failure too.
fn lld_link(arguments: &[&str], files: &[&Path], to: &Path) -> Result<Vec<u8>, Failed> {
    let mut command = Command::new(LINKER);
    command
        .arg("/nologo")
        .args(arguments)
        .arg(format!("/out:{}", to.display()))
        .args(files);
    let out = output(&mut command)?;
    let said = [out.stdout, out.stderr].concat();
    if !out.status.success() || !said.is_empty() {
        return Err(format!("{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&said)).into());
    }
    Ok(std::fs::read(to)?)
}

fn links_into_a_dll(example: &str, machine: Machine) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let module = object_file(folder.path(), example, machine, Skeleton::Object)?;
    let stub = folder.path().join("stub.obj");
    let target = match machine {
        Machine::X64 => "x86_64-pc-windows-msvc",
        Machine::Arm64 => "aarch64-pc-windows-msvc",
    };
    succeed(
        Command::new(CLANG)
            .arg(format!("--target={target}"))
            .args(["-O1", "-ffreestanding", "-Wall", "-Werror", "-c", "-o"])
            .arg(&stub)
            .arg(root().join("tests/fixtures/coff/stub.c")),
    )?;
    let driver = link(&lowered_unguarded(example, machine, Skeleton::Driver)?)?;
    let dll = folder.path().join("linked.dll");
    let options = [
        "/dll",
        "/entry:DllMain",
        "/nodefaultlib",
        "/noimplib",
        "/export:get_metadata_table",
    ];
    let optimized = [&options[..], &["/opt:ref,icf", "/release"]].concat();
    // Whichever comes first, and whatever the linker may leave out or merge.
    for (what, options, files) in [
        ("stub first", &options[..], [stub.as_path(), module.as_path()]),
        ("module first", &options[..], [module.as_path(), stub.as_path()]),
        ("optimized", &optimized, [stub.as_path(), module.as_path()]),
    ] {
        let image = lld_link(options, &files, &dll)?;
        sections_are_whole(driver.bytes(), &image).map_err(|e| format!("{what}: {e}"))?;
        unwinds_alike(driver.bytes(), &image).map_err(|e| format!("{what}: {e}"))?;
        expect_same(example, what, driver.bytes(), &image)?;
        let exports: Vec<String> = bpf2sys_simulator::describe::describe(&image)?.exports;
        if exports != ["get_metadata_table", "stub_name"] {
            return Err(format!("{what}: exports are {exports:?}").into());
        }
    }
    Ok(())
}

/// Tables have the linked image's sections of their names to themselves, and those who read the file see the same.
fn sections_are_whole(driver: &[u8], linked: &[u8]) -> Result<(), String> {
    let (driver, linked) = (Image::parse(driver), Image::parse(linked));
    let (driver, linked) = (driver.map_err(|e| e.to_string())?, linked.map_err(|e| e.to_string())?);
    let violations = loader_rules::check(&linked);
    if !violations.is_empty() {
        return Err(format!("{violations:?}"));
    }
    for name in ["maps", "programs", "hash"] {
        let size = |image: &Image<'_>| -> Vec<u32> {
            let named = |section: &&bpf2sys_simulator::image::Section| section.name == name.as_bytes();
            image
                .sections
                .iter()
                .filter(named)
                .map(|section| section.virtual_size)
                .collect()
        };
        if size(&driver) != size(&linked) || size(&linked).len() > 1 {
            return Err(format!(
                "{name}: sizes are {:?} in the driver, {:?} linked",
                size(&driver),
                size(&linked)
            ));
        }
    }
    let views = [&driver, &linked].map(|image| usermode::read(image).map_err(|e| e.to_string()));
    let [wanted, got] = views;
    let (wanted, got) = (wanted?, got?);
    if wanted.maps != got.maps || wanted.elf_hash != got.elf_hash {
        return Err("user mode sees other maps or another hash".into());
    }
    // Code sizes differ where the stub's code shares the section.
    let key = |view: &usermode::UserModeView| -> Vec<[String; 5]> {
        let of = |p: &usermode::UserModeProgram| {
            [&p.name, &p.section, &p.pe_section, &p.program_type, &p.attach_type].map(Clone::clone)
        };
        view.programs.iter().map(of).collect()
    };
    if key(&wanted) != key(&got) {
        return Err(format!("user mode sees {:?}, not {:?}", key(&got), key(&wanted)));
    }
    Ok(())
}

/// The linked image's function table has every function of the programs, with the unwind data that the driver has for it.
fn unwinds_alike(driver: &[u8], linked: &[u8]) -> Result<(), String> {
    let table = |bytes: &[u8]| -> Result<BTreeSet<Unwind>, String> {
        let image = Image::parse(bytes).map_err(|e| e.to_string())?;
        let directory = image.directory(DirectoryKind::Exception).ok_or("no function table")?;
        let entries = image
            .file_bytes(directory.rva, directory.size as usize)
            .ok_or("it is outside the file")?;
        let read = |entry: &[u8]| -> Option<Unwind> {
            let word = |at: usize| Some(u32::from_le_bytes(*entry.get(at..)?.first_chunk()?));
            let begin = word(0)?;
            let section = image.section_at(Rva(begin))?;
            let (size, record) = match entry.len() {
                8 => (0, word(4)?),
                _ => (word(4)? - begin, word(8)?),
            };
            Some(Unwind {
                section: section.display_name(),
                offset: begin - section.rva.0,
                size,
                record: image.file_bytes(Rva(record), 8)?.to_vec(),
            })
        };
        let size = if image.machine == Image::ARM64 { 8 } else { 12 };
        let entries: Option<BTreeSet<Unwind>> = entries.chunks_exact(size).map(read).collect();
        entries.ok_or_else(|| "an entry cannot be read".into())
    };
    // In `.text` the stub's functions may come first.
    let of_programs = |mut entries: BTreeSet<Unwind>| {
        entries.retain(|entry| entry.section != ".text");
        entries
    };
    let (wanted, got) = (table(driver)?, table(linked)?);
    let (wanted, got) = (of_programs(wanted), of_programs(got));
    if wanted.is_empty() || wanted != got {
        return Err(format!("the function table says {got:x?}, not {wanted:x?}"));
    }
    Ok(())
}

/// What a function table says of a function.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Unwind {
    section: String,
    offset: u32,
    size: u32,
    /// The start of its unwind record.
    record: Vec<u8>,
}

/// More relocations than a section header can count, and more sections than most objects have.
fn links_a_large_object(machine: Machine) -> Result<(), Failed> {
    const POINTERS: u32 = 100_000;
    const SECTIONS: u32 = 80;
    let section = |name: String, kind, data: Vec<u8>| Section {
        name,
        kind,
        align: 16,
        data,
        relocations: Vec::new(),
    };
    // xor eax, eax; ret or mov w0, wzr; ret
    let code = match machine {
        Machine::X64 => vec![0x31, 0xC0, 0xC3, 0xCC, 0xCC, 0xCC, 0xCC, 0xCC],
        Machine::Arm64 => vec![0xE0, 0x03, 0x1F, 0x2A, 0xC0, 0x03, 0x5F, 0xD6],
    };
    let mut sections = vec![section(".text".into(), SectionKind::Code, code)];
    sections
        .extend((0..SECTIONS).map(|n| section(format!("s{n}"), SectionKind::ReadOnlyData, n.to_le_bytes().to_vec())));
    let mut pointers = section(
        "pointers".into(),
        SectionKind::ReadOnlyData,
        vec![0; 8 * POINTERS as usize],
    );
    pointers.relocations = (0..POINTERS)
        .map(|n| Relocation {
            offset: 8 * n,
            kind: RelocationKind::Absolute64,
            symbol: SymbolIndex(1 + n % SECTIONS),
            addend: i64::from(n % 4),
        })
        .collect();
    sections.push(pointers);
    let place = |(name, section): (String, u32)| Symbol {
        name,
        place: SymbolPlace::Section {
            section: SectionIndex(section),
            offset: 0,
        },
    };
    let names = std::iter::once("get_metadata_table".to_owned()).chain((0..SECTIONS).map(|n| format!("symbol{n}")));
    let object = NativeObject {
        machine,
        sections,
        symbols: names.zip(0..).map(place).collect(),
        functions: Vec::new(),
        imports: Vec::new(),
        purpose: Purpose::Object {
            exports: vec![SymbolIndex(0)],
        },
        load_config: None,
        shadow_stack: false,
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("large.obj");
    std::fs::write(&file, coff(&object)?)?;
    let options = [
        "/dll",
        "/noentry",
        "/nodefaultlib",
        "/noimplib",
        "/export:get_metadata_table",
    ];
    let bytes = lld_link(&options, &[&file], &folder.path().join("large.dll"))?;
    let image = Image::parse(&bytes)?;
    let section = |name: &str| {
        image
            .sections
            .iter()
            .find(|s| s.name == name.as_bytes())
            .ok_or("a section is missing")
    };
    let pointers = image.raw_data(section("pointers")?).ok_or("no pointers")?;
    for n in 0..POINTERS {
        let found = pointers[8 * n as usize..]
            .first_chunk()
            .map(|bytes| u64::from_le_bytes(*bytes));
        let target = section(&format!("s{}", n % SECTIONS))?.rva.0 + n % 4;
        if found != Some(image.image_base + u64::from(target)) {
            return Err(format!("pointer {n} is {found:x?}").into());
        }
    }
    let relocated = bpf2sys_simulator::directories::base_relocations(&image)
        .map_err(|e| e.to_string())?
        .len();
    if relocated == POINTERS as usize {
        Ok(())
    } else {
        Err(format!("{relocated} base relocations").into())
    }
}

/// The tool's own driver as an object file: its imports are found in import libraries.
fn links_into_a_driver(example: &str, machine: Machine) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let module = object_file(folder.path(), example, machine, Skeleton::Driver)?;
    let driver = link(&lowered(example, machine, Skeleton::Driver)?)?;
    let mut files = vec![module];
    for (library, functions) in [
        ("ntoskrnl.exe", &["RtlQueryRegistryValues"][..]),
        (
            "NETIO.SYS",
            &[
                "NmrRegisterClient",
                "NmrDeregisterClient",
                "NmrWaitForClientDeregisterComplete",
                "NmrClientAttachProvider",
            ],
        ),
    ] {
        let definition = folder.path().join(library).with_extension("def");
        let import_library = definition.with_extension("lib");
        std::fs::write(
            &definition,
            format!("LIBRARY {library}\nEXPORTS\n{}\n", functions.join("\n")),
        )?;
        let machine = match machine {
            Machine::X64 => "i386:x86-64",
            Machine::Arm64 => "arm64",
        };
        succeed(
            Command::new(DLLTOOL)
                .args(["-m", machine, "-d"])
                .arg(&definition)
                .arg("-l")
                .arg(&import_library),
        )?;
        files.push(import_library);
    }
    let options = [
        "/driver",
        "/subsystem:native",
        "/entry:DriverEntry",
        "/nodefaultlib",
        "/release",
    ];
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let image = lld_link(&options, &files, &folder.path().join("linked.sys"))?;
    sections_are_whole(driver.bytes(), &image)?;
    expect_same(example, "linked", driver.bytes(), &image)
}

fn inspected() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let module = object_file(folder.path(), "tail_dispatch", Machine::X64, Skeleton::Driver)?;
    let text = succeed(tool().arg("inspect").arg(&module))?;
    for part in [
        "COFF object file for x64",
        "\n  programs 640 bytes\n",
        "\n  .pdata   ",
        "\ndefines: DriverEntry\n",
        "\nneeds: __imp_RtlQueryRegistryValues, __imp_NmrRegisterClient",
    ] {
        if !text.contains(part) {
            return Err(format!("no {part:?} in {text}").into());
        }
    }
    for (arguments, status, part) in [
        (["inspect", "--disassemble"], 2, "which a driver no longer has"),
        (["run", "--json"], 6, "a COFF object file for x64, not an image"),
    ] {
        let out = output(tool().args(arguments).arg(&module))?;
        let said = String::from_utf8_lossy(&out.stderr);
        if out.status.code() != Some(status) || !said.contains(part) {
            return Err(format!("{arguments:?}: {}: {said}", out.status).into());
        }
    }
    Ok(())
}

/// No object file makes the reader panic, and nothing that it says is longer than the file.
fn garbled() -> Result<(), Failed> {
    let good = coff(&lowered("tail_dispatch", Machine::X64, Skeleton::Driver)?)?;
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    };
    let mut described = 0;
    for _ in 0..5_000 {
        let mut bytes = good.clone();
        for _ in 0..3 {
            // Headers and the ends, where symbols and strings are, matter most.
            let at = match next() % 3 {
                0 => next() % 0x200,
                1 => bytes.len() - 1 - next() % 0x400,
                _ => next() % bytes.len(),
            };
            bytes[at] = if next() % 4 == 0 { 0xFF } else { next() as u8 };
        }
        bytes.truncate(if next() % 4 == 0 {
            next() % good.len()
        } else {
            good.len()
        });
        if let Some(Ok(description)) = bpf2sys_simulator::object_file::describe(&bytes) {
            described += 1;
            if description.sections.len() * 40 > bytes.len() || description.defined.len() * 18 > bytes.len() {
                return Err(format!("{description:?} of {} bytes", bytes.len()).into());
            }
        }
    }
    if described > 500 {
        Ok(())
    } else {
        Err(format!("only {described} were described").into())
    }
}

/// The main page says what a linker must not do: what comes of it does not load.
fn warned_of() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let module = object_file(folder.path(), "udp_filter", Machine::X64, Skeleton::Object)?;
    let dll = folder.path().join("linked.dll");
    let options = ["/dll", "/noentry", "/nodefaultlib", "/noimplib"];
    for (extra, part) in [
        (
            &["/export:get_metadata_table", "/fixed"][..],
            "relocations were stripped",
        ),
        (
            &["/export:get_metadata_table", "/merge:.rdata=maps"],
            "user-mode-map-table",
        ),
        (&["/export:get_metadata_table", "/section:maps,rwe"], "writable-code"),
        (&[], "metadata-export"),
    ] {
        let linked = lld_link(&[&options[..], extra].concat(), &[&module], &dll);
        let said = match linked {
            Ok(_) => String::from_utf8_lossy(&output(tool().arg("run").arg(&dll))?.stderr).into_owned(),
            Err(refused) => refused.message().unwrap_or_default().to_owned(),
        };
        if said.is_empty() || !said.contains(part) {
            return Err(format!("{extra:?}: no {part:?} in {said:?}").into());
        }
    }
    // Two modules in one image: both define the function.
    let second = folder.path().join("second.obj");
    std::fs::copy(&module, &second)?;
    match lld_link(&options, &[&module, &second], &dll) {
        Err(refused) if refused.message().is_some_and(|said| said.contains("duplicate symbol")) => Ok(()),
        other => Err(format!("two modules: {other:?}").into()),
    }
}

/// LLVM's reader finds sections, symbols, relocations and unwind data, and has nothing to complain of.
fn is_read(example: &str, machine: Machine) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let module = object_file(folder.path(), example, machine, Skeleton::Object)?;
    let mut command = Command::new(READER);
    command
        .args(["--file-headers", "--sections", "--relocations", "--symbols", "--unwind"])
        .arg(&module);
    let out = output(&mut command)?;
    let complaints = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() || !complaints.is_empty() {
        return Err(format!("{command:?}: {}\n{complaints}", out.status).into());
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let function = match machine {
        // That one is a leaf, but the programs are not.
        Machine::X64 => "StartAddress: ",
        Machine::Arm64 => "Function: ",
    };
    for part in [
        "TimeDateStamp: 1970-01-01 00:00:00 (0x0)",
        "Name: programs ",
        "Name: get_metadata_table",
        function,
    ] {
        if !text.contains(part) {
            return Err(format!("no `{part}`:\n{text}").into());
        }
    }
    // Nothing is left for others to define, and one thing is for others to use.
    let external = text.matches("StorageClass: External").count();
    if external != 1 || text.contains("IMAGE_SYM_UNDEFINED") {
        return Err(format!("{external} external symbols:\n{text}").into());
    }
    Ok(())
}
