//! The tool's drivers, loaded by Wine's loader as kernel services, with a stand-in for the system's module registrar that reads
//! their tables and runs their programs (`tests/wine/README.md`).

use std::fs::File;
use std::path::{Path, PathBuf};

use bpf2sys_codegen::Skeleton;
use bpf2sys_pe_emit::{Machine, link};
use bpf2sys_simulator::describe::{ImageDescription, describe};
use bpf2sys_simulator::image::{Image, Rva};
use bpf2sys_simulator::{Input, RunRequest};
use libtest_mimic::{Failed, Trial};

use super::{NEEDS, alone, compile, compile_as, prefix, wine};
use crate::examples::{EXAMPLES, runner};
use crate::forms::lowered;
use crate::support::{output, succeed, test_with};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with("wine::loads_the_drivers_of_all_examples", &NEEDS, drivers_load),
        test_with("wine::refuses_broken_drivers", &NEEDS, broken_drivers),
    ]
}

/// What was said of one driver.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// By the service manager.
    service: Vec<String>,
    /// By the registrar, without the address of the image.
    registrar: Vec<String>,
    /// The address of the image.
    base: Option<u64>,
}

/// The drivers of the examples are loaded all at the same time, away from their preferred base. What the registrar reads in memory
/// is what `inspect` reads in the file; and programs return there what they return in the simulator.
fn drivers_load() -> Result<(), Failed> {
    let mut images = Vec::new();
    for example in EXAMPLES {
        images.push(std::fs::read(runner::image(example)?)?);
    }
    images.push(with_certificates(&images[0])?);
    for (index, (said, image)) in load(&images)?.into_iter().zip(&images).enumerate() {
        let description = describe(image)?;
        let expected = Said {
            service: ["started", "running", "told to stop", "stopped"]
                .map(str::to_owned)
                .to_vec(),
            registrar: expected(index + 1, image, &description)?,
            base: said.base,
        };
        if said != expected {
            return Err(format!("driver {index}: {said:#?}\nexpected {expected:#?}").into());
        }
        if said.base.is_none_or(|base| base == description.image_base) {
            return Err(format!("driver {index} is at {:x?}, where it need not be relocated", said.base).into());
        }
    }
    Ok(())
}

/// What must not load: each differs from a good image in one respect.
fn broken_drivers() -> Result<(), Failed> {
    let good = std::fs::read(runner::image("udp_filter")?)?;
    let code = describe(&good)?.sections[1].raw_size as usize;
    let relocations = relocations(&good)?;
    let mut unknown_relocation = good.clone();
    // The type of the first one: the upper four bits.
    unknown_relocation[relocations + 9] |= 0xF0;
    let broken = [
        (
            "a function that does not exist",
            replaced(&good, b"NmrRegisterClient", b"NmrRegisterClienT")?,
        ),
        (
            "a module that does not exist",
            replaced(&good, b"NETIO.SYS", b"NETIX.SYS")?,
        ),
        ("the end of the file is missing", good[..good.len() - code].to_vec()),
        ("a relocation of an unknown type", unknown_relocation),
        (
            "another machine",
            link(&lowered("udp_filter", Machine::Arm64, Skeleton::Driver)?)?.into_bytes(),
        ),
    ];
    let (names, mut images): (Vec<&str>, Vec<Vec<u8>>) = broken.into_iter().unzip();
    images.push(good);
    let mut said = load(&images)?;
    let good = said.pop().ok_or("nothing was said")?;
    if good.service.first().is_none_or(|line| line != "started") {
        return Err(format!("the good driver: {good:#?}").into());
    }
    for (name, said) in names.into_iter().zip(said) {
        let refused = said
            .service
            .first()
            .is_some_and(|line| line.starts_with("StartService: error "));
        let stopped = said.service.get(1).is_some_and(|line| line == "stopped");
        if !refused || !stopped || !said.registrar.is_empty() {
            return Err(format!("{name}: {said:#?}").into());
        }
    }
    Ok(())
}

/// Loads drivers and unloads them, and gives what was said of each.
fn load(images: &[Vec<u8>]) -> Result<Vec<Said>, Failed> {
    let _alone = alone();
    let program = compile("service")?;
    let registrar = compile_as(
        "netio",
        "sys",
        &[
            "-shared",
            "-nostdlib",
            "-Wl,--subsystem,native",
            "-Wl,-e,DllMain",
            "-lntoskrnl",
            "-lntdll",
        ],
    )?;
    let drivers = prefix().join("drive_c/windows/system32/drivers");
    if !drivers.is_dir() {
        succeed(wine("wine").args(["wineboot", "--init"]))?;
    }
    std::fs::copy(&registrar, drivers.join("netio.sys"))?;

    let files = tempfile::tempdir()?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for (index, image) in images.iter().enumerate() {
        let path = files.path().join(format!("{index}.sys"));
        std::fs::write(&path, image)?;
        paths.push(path);
    }
    // Services get the environment and the output of whoever starts the server, so it has to be started here. They keep the output open
    // for a while, so it is no pipe.
    end_server()?;
    let (printed, debug) = (files.path().join("printed"), files.path().join("debug"));
    let status = wine("wine")
        .env("WINEDEBUG", "-all,+debugstr")
        .env("WINEDLLOVERRIDES", "netio.sys=n;winedbg.exe=d")
        .arg(program)
        .args(&paths)
        .stdout(File::create(&printed)?)
        .stderr(File::create(&debug)?)
        .status()?;
    end_server()?;
    let text = |path: &Path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (printed, debug) = (text(&printed)?, text(&debug)?);
    let said = status
        .success()
        .then(|| sort_out(images.len(), &printed, &debug))
        .flatten();
    said.ok_or_else(|| format!("{status}\n{printed}\n{debug}").into())
}

/// Ends Wine's server and all that it started, and waits for that. It is no mistake if there is none.
fn end_server() -> Result<(), Failed> {
    output(wine("wineserver").arg("--kill"))?;
    succeed(wine("wineserver").arg("--wait"))?;
    Ok(())
}

/// The lines of the service manager and of the registrar, by driver; `None` if there is one that belongs to none.
fn sort_out(count: usize, printed: &str, debug: &str) -> Option<Vec<Said>> {
    let mut all: Vec<Said> = (0..count).map(|_| Said::default()).collect();
    for line in printed.lines() {
        let (number, line) = line.split_once(": ")?;
        let said = all.get_mut(number.parse::<usize>().ok()?.checked_sub(1)?)?;
        said.service.push(line.to_owned());
    }
    let mut current = None;
    for (_, line) in debug.lines().filter_map(|line| line.split_once("netio: ")) {
        // These begin with the module id, which begins with the number.
        for start in ["client ", "detached ", "waited for "] {
            if let Some(id) = line.strip_prefix(start) {
                current = usize::from_str_radix(id.get(..8)?, 16).ok()?.checked_sub(1);
            }
        }
        let said = all.get_mut(current?)?;
        if let Some(base) = line.strip_prefix("image at ") {
            said.base = u64::from_str_radix(base.trim_end(), 16).ok();
        } else {
            said.registrar.push(line.trim_end().to_owned());
        }
    }
    Some(all)
}

/// What the registrar must say of a driver.
fn expected(number: usize, image: &[u8], description: &ImageDescription) -> Result<Vec<String>, Failed> {
    let module = description.module.as_ref().ok_or("no module")?;
    let tables = description.tables.as_ref().ok_or("no tables")?;
    let id = format!("{number:08x}-0000-0000-0000-000000000000");
    let [major, minor, revision] = tables.version;
    let mut lines = vec![
        format!("client {id}"),
        format!("table of 56 bytes, version {major}.{minor}.{revision}"),
        format!("object {}", module.elf_hash.as_deref().unwrap_or_default()),
    ];
    for section in &tables.global_sections {
        lines.push(format!("global section {}: {} bytes", section.name, section.size));
    }
    for map in &module.maps {
        lines.push(format!(
            "map {}: type {}, key {}, value {}, {} entries",
            map.name, map.map_type, map.key_size, map.value_size, map.max_entries
        ));
    }
    for list in &tables.initial_values {
        lines.push(format!("initial values of {}: {}", list.name, list.values.len()));
        for (slot, value) in list.values.iter().enumerate() {
            lines.extend(value.as_ref().map(|value| format!("initial value {slot}: {value}")));
        }
    }
    let mut programs: Vec<_> = module.programs.iter().collect();
    programs.sort_by_key(|program| program.table_index);
    for program in programs {
        let uses = description.uses.iter().find(|uses| uses.program == program.name);
        let uses = uses.ok_or("a program of which nothing is known")?;
        lines.push(format!(
            "program {}: section {}, code in {}, {} instructions, type {}",
            program.name, program.section, program.pe_section, uses.instructions, program.program_type
        ));
        lines.extend(
            uses.helpers
                .iter()
                .map(|helper| format!("helper {}: {}", helper.id, helper.name).trim_end().to_owned()),
        );
        lines.extend(uses.map_indices.iter().map(|index| format!("uses map {index}")));
        lines.push(format!("{} returned {}", program.name, result(image, &program.name)?));
    }
    lines.extend([
        "attached".into(),
        format!("detached {id}: 00000000"),
        format!("waited for {id}"),
    ]);
    Ok(lines)
}

/// What a program returns in the simulator, on nothing.
fn result(image: &[u8], program: &str) -> Result<u32, Failed> {
    let request = RunRequest {
        image: image.to_vec(),
        inputs: vec![Input {
            program: program.to_owned(),
            ..Input::default()
        }],
        ..RunRequest::default()
    };
    Ok(bpf2sys_simulator::run(&request)?.results[0].result)
}

/// An image with one name replaced by another one of the same length.
fn replaced(image: &[u8], name: &[u8], other: &[u8]) -> Result<Vec<u8>, Failed> {
    let at = image
        .windows(name.len())
        .position(|window| window == name)
        .ok_or("no such name")?;
    let mut image = image.to_vec();
    image[at..at + name.len()].copy_from_slice(other);
    Ok(image)
}

/// Fields of the optional header, from the start of the PE header.
const DIRECTORIES: usize = 24 + 112;
const CERTIFICATES: usize = 4;
const RELOCATIONS: usize = 5;

fn u32_at(image: &[u8], at: usize) -> Result<u32, Failed> {
    let bytes = image.get(at..at + 4).ok_or("the image ends")?;
    Ok(u32::from_le_bytes(bytes.try_into()?))
}

/// Where the entry of a data directory is in the file.
fn directory(image: &[u8], index: usize) -> Result<usize, Failed> {
    Ok(u32_at(image, 0x3C)? as usize + DIRECTORIES + 8 * index)
}

/// Where the base relocations are in the file.
fn relocations(image: &[u8]) -> Result<usize, Failed> {
    let rva = u32_at(image, directory(image, RELOCATIONS)?)?;
    let image = bpf2sys_simulator::image::Image::parse(image)?;
    let section = image.section_at(Rva(rva)).ok_or("no relocations")?;
    Ok(section.raw_offset as usize)
}

/// The image with a certificate table behind it, as a signed file has. What the certificate says is nothing to the loader.
fn with_certificates(image: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut signed = image.to_vec();
    signed.resize(image.len().next_multiple_of(8), 0);
    let start = u32::try_from(signed.len())?;
    let certificate = [0x30; 24];
    let length = 8 + certificate.len() as u32;
    signed.extend(length.to_le_bytes());
    // WIN_CERT_REVISION_2_0, WIN_CERT_TYPE_PKCS_SIGNED_DATA
    signed.extend([0x00, 0x02, 0x02, 0x00]);
    signed.extend(certificate);
    let entry = directory(&signed, CERTIFICATES)?;
    signed[entry..entry + 4].copy_from_slice(&start.to_le_bytes());
    signed[entry + 4..entry + 8].copy_from_slice(&length.to_le_bytes());
    let checksum = Image::parse(&signed)?.computed_checksum().to_le_bytes();
    let field = Image::parse(&signed)?.checksum_offset();
    signed[field..field + 4].copy_from_slice(&checksum);
    Ok(signed)
}
