//! The reader of types and source lines, which is part of the reader of objects: the input becomes the two sections of an object that
//! has code, maps, global variables and functions of other modules.

use bpf2sys_bytecode::read;

/// Objects whose sections are replaced. The first byte of the input tells which.
const OBJECTS: [&[u8]; 4] = [
    include_bytes!("../../../compiler/bytecode/tests/fixtures/maps.o"),
    include_bytes!("../../../compiler/bytecode/tests/fixtures/values.o"),
    include_bytes!("../../../compiler/bytecode/tests/fixtures/ksyms.o"),
    include_bytes!("../../../compiler/bytecode/tests/fixtures/globals.o"),
];
const BTF: &[u8] = b".BTF";
const BTF_EXT: &[u8] = b".BTF.ext";

/// Reads an object with these sections: a byte for the object, the length of `.BTF` in four, `.BTF`, and `.BTF.ext`.
pub fn run(input: &[u8]) {
    let Some((which, rest)) = input.split_first() else {
        return;
    };
    let Some((length, rest)) = rest.split_first_chunk() else {
        return;
    };
    let length = (u32::from_le_bytes(*length) as usize).min(rest.len());
    let (types, lines) = rest.split_at(length);
    let mut object = OBJECTS[usize::from(*which) % OBJECTS.len()].to_vec();
    replace(&mut object, BTF, types);
    replace(&mut object, BTF_EXT, lines);
    match read(&object, "fuzz.o") {
        Ok(module) => super::elf::check(&module),
        Err(error) => drop(error.to_string()),
    }
}

/// The sections of each object.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |(which, object): (usize, &&[u8])| {
        let section = |name| {
            let header = header(object, name).expect("the section is there");
            let (start, length) = (u64_at(object, header + OFFSET), u64_at(object, header + SIZE));
            &object[start..start + length]
        };
        let (types, lines) = (section(BTF), section(BTF_EXT));
        let mut seed = vec![which as u8];
        seed.extend((types.len() as u32).to_le_bytes());
        seed.extend(types);
        seed.extend(lines);
        seed
    };
    OBJECTS.iter().enumerate().map(seed).collect()
}

/// Fields of ELF64's file header and section headers.
const SECTION_HEADERS: usize = 0x28;
const SECTION_COUNT: usize = 0x3c;
const NAMES: usize = 0x3e;
const HEADER_SIZE: usize = 0x40;
const OFFSET: usize = 0x18;
const SIZE: usize = 0x20;

/// Gives a section other contents, at the end of the file.
fn replace(object: &mut Vec<u8>, name: &[u8], contents: &[u8]) {
    let header = header(object, name).expect("the section is there");
    let start = object.len().next_multiple_of(8);
    object.resize(start, 0);
    object.extend(contents);
    object[header + OFFSET..][..8].copy_from_slice(&(start as u64).to_le_bytes());
    object[header + SIZE..][..8].copy_from_slice(&(contents.len() as u64).to_le_bytes());
}

/// Where the header of the section is that has a name.
fn header(object: &[u8], name: &[u8]) -> Option<usize> {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes(object[at..at + 2].try_into().unwrap()));
    let at = |index: usize| u64_at(object, SECTION_HEADERS) + index * HEADER_SIZE;
    let names = u64_at(object, at(u16_at(NAMES)) + OFFSET);
    (0..u16_at(SECTION_COUNT)).map(at).find(|header| {
        let start = u32::from_le_bytes(object[*header..header + 4].try_into().unwrap()) as usize;
        let text = &object[names + start..];
        text.starts_with(name) && text.get(name.len()) == Some(&0)
    })
}

fn u64_at(object: &[u8], at: usize) -> usize {
    u64::from_le_bytes(object[at..at + 8].try_into().unwrap()) as usize
}
