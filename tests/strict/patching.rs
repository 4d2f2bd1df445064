//! What the rows need to break an image that patching single fields cannot do: other code, longer strings, more sections.

use bpf2sys_platform::{HashAlgorithm, Platform};
use bpf2sys_simulator::image::{DirectoryKind, Image, Section};

use crate::simulator_trials::shared::fixture::sample_request;
use crate::simulator_trials::shared::patch::Patched;

/// Flags of a section that holds code, and of one that holds constants.
pub const CODE: u32 = Section::CODE | Section::EXECUTE | Section::READ;
pub const CONSTANTS: u32 = 0x40 | Section::READ;

/// Adds a section behind all others. Gives the RVA of its first byte.
pub fn add_section(p: &mut Patched, name: [u8; 8], flags: u32, bytes: &[u8]) -> u32 {
    let (optional, image) = (p.optional(), p.image());
    let (count, rva, header_size) = (image.sections.len(), image.image_size, image.header_size as usize);
    let header = optional + 240 + 40 * count;
    assert!(header + 40 <= header_size, "no room for a section header");
    let raw_size = bytes.len().next_multiple_of(0x200);
    let raw = p.bytes.len().next_multiple_of(0x200);
    p.bytes.resize(raw, 0);
    p.bytes.extend(bytes);
    p.bytes.resize(raw + raw_size, 0);
    let fields = [bytes.len() as u32, rva, raw_size as u32, raw as u32, 0, 0, 0, flags];
    p.put(header, &name);
    for (i, field) in fields.iter().enumerate() {
        p.put(header + 8 + 4 * i, &field.to_le_bytes());
    }
    p.put(optional - 18, &(count as u16 + 1).to_le_bytes());
    p.put(
        optional + 56,
        &(rva + bytes.len() as u32).next_multiple_of(0x1000).to_le_bytes(),
    );
    rva
}

/// The functions of the metadata table, by their places in it.
pub const PROGRAMS: usize = 8;
pub const MAPS: usize = 16;
pub const HASH: usize = 24;
pub const VERSION: usize = 32;
pub const INITIAL_VALUES: usize = 40;
pub const GLOBAL_SECTIONS: usize = 48;

/// Puts other functions into the metadata table, given their code by the RVA at which it will be.
pub fn replace_functions(p: &mut Patched, functions: &[(usize, Vec<u8>)]) {
    let code: Vec<u8> = functions
        .iter()
        .flat_map(|(_, code)| {
            let mut code = code.clone();
            code.resize(FUNCTION, 0);
            code
        })
        .collect();
    let rva = add_section(p, *b"stub\0\0\0\0", CODE, &code);
    let address = p.image().image_base + u64::from(rva);
    for (i, (field, _)) in functions.iter().enumerate() {
        let at = p.metadata() + field;
        p.put(at, &(address + (FUNCTION * i) as u64).to_le_bytes());
    }
}

/// Bytes that a function has at most.
const FUNCTION: usize = 32;

pub fn words(instructions: &[u32]) -> Vec<u8> {
    instructions.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub fn is_x64(p: &Patched) -> bool {
    p.image().machine == Image::X64
}

/// Makes the module state another version, `{0, minor, 0}` or `{1, minor, 0}`.
pub fn state_version(p: &mut Patched, major: u8, minor: u8) {
    // mov rax, version; mov [rcx], rax; mov dword [rcx + 8], 0; ret
    let mut x64 = vec![0x48, 0xB8, major, 0, 0, 0, minor, 0, 0, 0];
    x64.extend([0x48, 0x89, 0x01, 0xC7, 0x41, 0x08, 0, 0, 0, 0, 0xC3]);
    let (major, minor) = (u32::from(major), u32::from(minor));
    // movz x8, #major; movk x8, #minor, lsl 32; str x8, [x0]; str wzr, [x0, #8]; ret
    let arm64 = [
        0xD280_0008 | major << 5,
        0xF2C0_0008 | minor << 5,
        0xF900_0008,
        0xB900_081F,
        0xD65F_03C0,
    ];
    let code = if is_x64(p) { x64 } else { words(&arm64) };
    replace_functions(p, &[(VERSION, code)]);
}

/// Makes a function of the metadata table give a pointer, or none, and a count.
pub fn give(p: &mut Patched, field: usize, table: Option<u64>, count: u8) {
    give_all(p, &[(field, table, count)]);
}

/// The same for several of them.
pub fn give_all(p: &mut Patched, functions: &[(usize, Option<u64>, u8)]) {
    let start = p.image().image_size;
    let code = functions.iter().enumerate().map(|(i, &(field, table, count))| {
        let here = start + (FUNCTION * i) as u32;
        let target = table.map(|address| p.image().rva_of(address).unwrap().0);
        let code = if is_x64(p) {
            giver_x64(here, target, count)
        } else {
            giver_arm64(here, target, count)
        };
        (field, code)
    });
    let code: Vec<_> = code.collect();
    replace_functions(p, &code);
}

fn giver_x64(here: u32, target: Option<u32>, count: u8) -> Vec<u8> {
    // lea rax, [rip + table] or xor eax, eax; mov [rcx], rax; mov qword [rdx], count; ret
    let mut code = match target {
        Some(rva) => [&[0x48, 0x8D, 0x05][..], &rva.wrapping_sub(here + 7).to_le_bytes()].concat(),
        None => vec![0x31, 0xC0],
    };
    code.extend([0x48, 0x89, 0x01, 0x48, 0xC7, 0x02, count, 0, 0, 0, 0xC3]);
    code
}

fn giver_arm64(here: u32, target: Option<u32>, count: u8) -> Vec<u8> {
    // adrp x8, table; add x8, x8, #offset or movz x8, #0; str x8, [x0]; movz x9, #count; str x9, [x1]; ret
    let mut code = match target {
        Some(rva) => {
            let pages = (rva >> 12).wrapping_sub(here >> 12);
            let adrp = 0x9000_0008 | (pages & 3) << 29 | (pages >> 2 & 0x7_FFFF) << 5;
            vec![adrp, 0x9100_0108 | (rva & 0xFFF) << 10]
        }
        None => vec![0xD280_0008],
    };
    code.extend([
        0xF900_0008,
        0xD280_0009 | u32::from(count) << 5,
        0xF900_0029,
        0xD65F_03C0,
    ]);
    words(&code)
}

/// A function that returns 0.
pub fn return_zero(p: &Patched) -> Vec<u8> {
    if is_x64(p) {
        vec![0x31, 0xC0, 0xC3]
    } else {
        words(&[0x5280_0000, 0xD65F_03C0])
    }
}

/// Makes the entry point a function that returns 0.
pub fn entry_returns_zero(p: &mut Patched) {
    let code = return_zero(p);
    let rva = add_section(p, *b"stub\0\0\0\0", CODE, &code);
    p.put(p.optional() + 16, &rva.to_le_bytes());
}

/// The file offset of the export directory, and of the first element of the table that a field of it leads to.
pub fn exports(p: &Patched) -> usize {
    let directory = p.image().directory(DirectoryKind::Export).unwrap();
    p.at(p.image().image_base + u64::from(directory.rva.0))
}

/// See [`exports`].
pub fn export(p: &Patched, field: usize) -> usize {
    let at = exports(p) + field;
    let rva = u32::from_le_bytes(p.bytes[at..at + 4].try_into().unwrap());
    p.at(p.image().image_base + u64::from(rva))
}

/// A name of that many letters.
pub fn long_name(letters: usize) -> Vec<u8> {
    let mut name = vec![b'z'; letters];
    name.push(0);
    name
}

/// The addresses of a table as the file has them: of the programs or of the maps.
pub fn table(p: &Patched, section: &str) -> u64 {
    p.address(section, 0)
}

/// Gives a section 512 more bytes of the file, which those behind it move away for.
fn grow(p: &mut Patched, name: &str) {
    const MORE: u32 = 0x200;
    let section = p.section(name);
    let end = section.raw_offset + section.raw_size;
    p.bytes.splice(end as usize..end as usize, [0; MORE as usize]);
    p.put(p.header(name) + 16, &(section.raw_size + MORE).to_le_bytes());
    for (index, other) in p.image().sections.clone().into_iter().enumerate() {
        if other.raw_offset >= end {
            p.put(
                p.optional() + 240 + 40 * index + 20,
                &(other.raw_offset + MORE).to_le_bytes(),
            );
        }
    }
}

/// Puts a string, which ends at a NUL if it is given one, at the end of `.rdata`. Gives its address.
pub fn string(p: &mut Patched, text: &[u8]) -> u64 {
    if p.section(".rdata").virtual_size as usize + text.len() > p.section(".rdata").raw_size as usize {
        grow(p, ".rdata");
    }
    let section = p.section(".rdata");
    let size = section.raw_size as usize;
    let start = size - text.len();
    p.put(section.raw_offset as usize + start, text);
    p.put(p.header(".rdata") + 8, &(size as u32).to_le_bytes());
    p.address(".rdata", start as u64)
}

/// Puts an address where a relocated one is.
pub fn redirect(p: &mut Patched, at: usize, address: u64) {
    p.put(at, &address.to_le_bytes());
}

/// A pointer as an offset from the image's base, as no reader takes it.
pub fn as_rva(p: &mut Patched, at: usize) {
    let rva = p.u64(at) - p.image().image_base;
    redirect(p, at, rva);
}

/// Moves the raw data of a section to the end of the file.
pub fn move_to_end(p: &mut Patched, name: &str) {
    let section = p.section(name);
    let raw = p.bytes[section.raw_offset as usize..][..section.raw_size as usize].to_vec();
    let end = p.bytes.len() as u32;
    p.bytes.extend(raw);
    p.put(p.header(name) + 20, &end.to_le_bytes());
}

/// Takes a table away from its section and puts it, behind a prefix, into another of that name.
pub fn shift_table(p: &mut Patched, name: [u8; 8], prefix: &[u8]) {
    let text = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
    let section = p.section(&text);
    let table = &p.bytes[section.raw_offset as usize..][..section.virtual_size as usize];
    let shifted = [prefix, table].concat();
    p.put(p.header(&text), b"other\0\0\0");
    add_section(p, name, CONSTANTS, &shifted);
}

/// The file offset of the first import descriptor.
pub fn imports(p: &Patched) -> usize {
    let directory = p.image().directory(DirectoryKind::Import).unwrap();
    p.at(p.image().image_base + u64::from(directory.rva.0))
}

/// The file offset of what a program's field points to.
pub fn target(p: &Patched, at: usize) -> usize {
    p.at(p.u64(at))
}

/// The file offset of a field of the only section of global variables, which has eight bytes.
pub fn global(p: &Patched, field: usize) -> usize {
    p.list(8) + field
}

/// The file offset of a field of the only list of initial values, which has three.
pub fn initial(p: &Patched, field: usize) -> usize {
    p.list(3) + field
}

/// States a hash for the first program of the module that calls functions of others: the hash of its table as it is.
pub fn state_hash_of_functions(p: &mut Patched) {
    let files = sample_request(vec![]).platform_files;
    let files = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let all: Vec<_> = Platform::builtin_files().iter().copied().chain(files).collect();
    let platform = Platform::from_toml(&all).unwrap();
    let sample = platform.program_types.iter().find(|t| t.name == "sample").unwrap();
    let ids = (1..=25).chain(27..=35).chain(65536..=65542);
    let functions = [
        (
            "8f6c1f83-ce4c-4b58-8b91-654a29e23b7c",
            "sample_ebpf_extension_btf_lookup",
        ),
        ("000000ff-0000-0000-0000-000000000001", "other_function"),
    ];
    let functions = functions.map(|(module, name)| (module.parse().unwrap(), name));
    let hash = platform
        .program_info_hash(HashAlgorithm::Sha256, sample, ids, functions)
        .unwrap();
    p.put(p.raw("hash"), &hash);
    let place = p.address("hash", 0);
    let (pointer, length) = (p.program(0, 120), p.program(0, 128));
    p.pointer(pointer, place).put(length, &[32]);
}
