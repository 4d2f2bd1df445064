//! Files that nobody made on purpose: thousands of changed ones are judged without a panic, and in bounded time.

use std::time::{Duration, Instant};

use bpf2sys_check::{Options, Status, check};
use bpf2sys_codegen::Skeleton;
use bpf2sys_pe_emit::Machine;
use bpf2sys_simulator::image::{DirectoryKind, Image};
use libtest_mimic::{Failed, Trial};

use super::breaking::{constants, directory};
use super::{built, platform};
use crate::forms::{MACHINES, machine_name};
use crate::simulator_trials::shared::fixture;
use crate::simulator_trials::shared::patch::Patched;
use crate::strict::patching::{CODE, CONSTANTS, add_section, words};
use crate::support::test;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("check::files_that_are_cut_off", files_that_are_cut_off),
        test(
            "check::large_unwind_data_takes_bounded_time",
            large_unwind_data_takes_bounded_time,
        ),
        test(
            "check::texts_without_an_end_take_bounded_time",
            texts_without_an_end_take_bounded_time,
        ),
        test(
            "check::code_of_branches_alone_is_not_followed",
            code_of_branches_alone_is_not_followed,
        ),
        test(
            "check::hostile_files_take_bounded_time",
            hostile_files_take_bounded_time,
        ),
    ];
    for machine in MACHINES {
        let name = machine_name(machine);
        trials.push(test(&format!("check::{name}::changed_files"), move || {
            changed_files(machine)
        }));
    }
    trials
}

/// A generator of numbers that look random (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Values that go wrong where others do not.
const ODD: [u64; 10] = [
    0,
    1,
    7,
    0xFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x1_4000_0000,
    u64::MAX >> 1,
    u64::MAX,
];

fn changed_files(machine: Machine) -> Result<(), Failed> {
    const FILES: u64 = 4000;
    let skeletons = [Skeleton::Driver, Skeleton::Dll];
    let mut bases = Vec::new();
    for skeleton in skeletons {
        bases.push(built("tail_dispatch", machine, skeleton)?);
    }
    bases.push(
        if machine == Machine::X64 {
            fixture::SAMPLE
        } else {
            fixture::ARM64_SAMPLE
        }
        .to_vec(),
    );
    let mut judged = 0;
    for seed in 1..=FILES {
        let mut random = Random(seed);
        let mut bytes = bases[random.below(bases.len())].clone();
        for _ in 0..=random.below(6) {
            // Headers and tables are small and matter most.
            let near = random.below(2) == 0;
            let at = random.below(if near { 0x400 } else { bytes.len() });
            let width = [1, 2, 4, 8][random.below(4)];
            let value = if random.below(2) == 0 {
                ODD[random.below(ODD.len())]
            } else {
                random.next()
            };
            for (place, byte) in bytes[at..].iter_mut().zip(value.to_le_bytes()).take(width) {
                *place = byte;
            }
        }
        let start = Instant::now();
        judged += u32::from(check(&bytes, &Options::default(), platform()).is_ok());
        let taken = start.elapsed();
        if taken > Duration::from_secs(2) {
            return Err(format!("seed {seed} takes {taken:?}").into());
        }
    }
    assert!(judged > FILES as u32 / 2, "{judged} were images");
    Ok(())
}

fn files_that_are_cut_off() -> Result<(), Failed> {
    let image = built("udp_filter", Machine::X64, Skeleton::Driver)?;
    for length in (0..image.len()).step_by(13) {
        let _ = check(&image[..length], &Options::default(), platform());
    }
    Ok(())
}

/// As many sections as a header can count, all of them the same megabyte of code, and tables of a megabyte.
fn hostile_files_take_bounded_time() -> Result<(), Failed> {
    const SIZE: usize = 1 << 20;
    let mut image = built("udp_filter", Machine::X64, Skeleton::Driver)?;
    let parsed = Image::parse(&image)?;
    let (optional, count) = (parsed.checksum_offset() - 64, parsed.sections.len());
    let data = image.len().next_multiple_of(0x1000);
    // Each byte an instruction of its own, also from the next byte on.
    image.resize(data, 0);
    image.resize(data + SIZE, 0x90);
    let headers = optional + 240;
    let text = image[headers..headers + 40].to_vec();
    for (index, name) in [
        (0, *b".text\0\0\0"),
        (1, *b"maps\0\0\0\0"),
        (2, *b"programs"),
        (3, *b".pdata\0\0"),
    ] {
        let at = headers + 40 * (count - 4 + index);
        image[at..at + 40].copy_from_slice(&text);
        image[at..at + 8].copy_from_slice(&name);
        image[at + 8..at + 12].copy_from_slice(&(SIZE as u32).to_le_bytes());
        image[at + 16..at + 20].copy_from_slice(&(SIZE as u32).to_le_bytes());
        image[at + 20..at + 24].copy_from_slice(&(data as u32).to_le_bytes());
        let rva = 0x10_0000 * (1 + index as u32);
        image[at + 12..at + 16].copy_from_slice(&rva.to_le_bytes());
    }
    image[optional + 56..optional + 60].copy_from_slice(&0x100_0000u32.to_le_bytes());
    // All directories lead to the last one.
    for index in 0..16 {
        let at = optional + 112 + 8 * index;
        image[at..at + 4].copy_from_slice(&0x40_0000u32.to_le_bytes());
        image[at + 4..at + 8].copy_from_slice(&(SIZE as u32 / 12 * 12).to_le_bytes());
    }
    let start = Instant::now();
    check(&image, &Options::default(), platform())?;
    let taken = start.elapsed();
    assert!(taken < Duration::from_secs(10), "{taken:?}");
    Ok(())
}

/// More branches than any function has: what is not followed breaks a rule.
fn code_of_branches_alone_is_not_followed() -> Result<(), Failed> {
    for machine in MACHINES {
        let mut patched = Patched::of(&built("udp_filter", machine, Skeleton::Driver)?);
        let code = if machine == Machine::X64 {
            // je over the next one
            [0x74, 2].repeat(1 << 20)
        } else {
            // b.eq over the next one
            words(&[0x5400_0040]).repeat(1 << 20)
        };
        let rva = add_section(&mut patched, *b"stub\0\0\0\0", CODE, &code);
        let entry = patched.optional() + 16;
        patched.put(entry, &rva.to_le_bytes());
        let report = check(&patched.finish(), &Options::default(), platform())?;
        let row = report
            .rows
            .iter()
            .find(|row| row.rule == "code.decodes")
            .ok_or("no row")?;
        assert!(
            row.status == Status::Fail && row.measured.contains("more branches"),
            "{row:?}"
        );
    }
    Ok(())
}

/// A large function table, every entry of which leads to the same large record.
fn large_unwind_data_takes_bounded_time() -> Result<(), Failed> {
    const ENTRIES: usize = 1 << 18;
    for machine in MACHINES {
        let mut patched = Patched::of(&built("udp_filter", machine, Skeleton::Driver)?);
        let rva = patched.image().image_size;
        let text = patched.section(".text").rva.0;
        let mut bytes = Vec::new();
        if machine == Machine::X64 {
            // 255 codes, each a push at the end of a prologue of 255 bytes.
            bytes.extend([1, 255, 255, 0]);
            bytes.extend([255, 0x50].repeat(256));
            let entry = [text, text + 0x1000, rva];
            bytes.extend(words(&entry).repeat(ENTRIES));
        } else {
            // 1024 epilogues, each with 1020 codes up to the last.
            bytes.extend(words(&[0x3_FFFF, 255 << 16 | 1024]));
            bytes.extend((0..1024u32).flat_map(|start| (start.min(1019) << 22).to_le_bytes()));
            bytes.extend([0xE3; 1019]);
            bytes.push(0xE4);
            bytes.extend(words(&[text, rva]).repeat(ENTRIES));
        }
        let entries = if machine == Machine::X64 { 12 } else { 8 } * ENTRIES as u32;
        let table = rva + bytes.len() as u32 - entries;
        assert_eq!(constants(&mut patched, &bytes), rva);
        directory(&mut patched, DirectoryKind::Exception, table, entries);
        bounded(&patched.finish())?;
    }
    Ok(())
}

/// A large table of programs whose texts are in a large section, and do not end.
fn texts_without_an_end_take_bounded_time() -> Result<(), Failed> {
    const ENTRIES: usize = 1 << 15;
    let mut patched = Patched::of(&built("udp_filter", Machine::X64, Skeleton::Driver)?);
    let start = patched.raw("programs");
    let mut entry = patched.bytes[start..start + 160].to_vec();
    let text = patched.image().image_base + u64::from(patched.image().image_size);
    for field in [40, 48, 56] {
        entry[field..field + 8].copy_from_slice(&text.to_le_bytes());
    }
    // They are in the first section of that name.
    let header = patched.header(".rdata");
    patched.put(header, b"other\0\0\0");
    add_section(&mut patched, *b".rdata\0\0", CONSTANTS, &vec![b'a'; 1 << 22]);
    let header = patched.header("programs");
    patched.put(header, b"other2\0\0");
    add_section(&mut patched, *b"programs", CONSTANTS, &entry.repeat(ENTRIES));
    bounded(&patched.finish())
}

fn bounded(image: &[u8]) -> Result<(), Failed> {
    let start = Instant::now();
    let report = check(image, &Options::default(), platform())?;
    let taken = start.elapsed();
    assert!(report.failures().count() > 0);
    if taken > Duration::from_secs(5) {
        return Err(format!("{taken:?}").into());
    }
    Ok(())
}
