use crate::testing::{DATA, EXEC, EXIT, FUNCTION, Object, PROGBITS};
use crate::{ReadError, read};

fn message(bytes: &[u8]) -> String {
    read(bytes, "test.o").map(|_| ()).unwrap_err().to_string()
}

fn read_ok(bytes: &[u8]) -> Result<(), ReadError> {
    read(bytes, "test.o").map(|_| ())
}

#[test]
fn reads_an_object_at_any_alignment() {
    let file = Object::with_program(&EXIT).build();
    assert_eq!(read_ok(&file), Ok(()));
    let shifted = [&[0], file.as_slice()].concat();
    assert_eq!(read_ok(&shifted[1..]), Ok(()));
}

#[test]
fn takes_only_ebpf_objects() {
    let valid = Object::with_program(&EXIT).build();
    for (offset, value, reason) in [
        (0, 0, "no ELF file"),
        (4, 1, "not 64-bit little-endian ELF"),
        (5, 2, "not 64-bit little-endian ELF"),
        (6, 0, "unknown ELF version"),
        (16, 2, "not relocatable (ET_REL)"),
        (18, 62, "made for another machine than BPF"),
        (20, 2, "unknown ELF version"),
        (60, 0, "no sections"),
    ] {
        let mut file = valid.clone();
        file[offset] = value;
        assert_eq!(message(&file), format!("not an eBPF object file: {reason}"));
    }
    assert_eq!(
        message(&valid[..63]),
        "not an eBPF object file: shorter than an ELF header"
    );
}

#[test]
fn refuses_tables_that_are_not_there() {
    let valid = Object::with_program(&EXIT).build();
    let table = u64::from_le_bytes(*valid[40..].first_chunk().unwrap());
    for (offset, value, expected) in [
        (58, 40, "section headers have an unknown size".to_owned()),
        (
            60,
            200,
            format!("at {table:#x}: the section header table lies outside of the file"),
        ),
        (62, 77, "the table of section names is missing".to_owned()),
        (62, 1, "the table of section names is missing".to_owned()),
    ] {
        let mut file = valid.clone();
        file[offset] = value;
        assert_eq!(message(&file), expected);
    }
}

#[test]
fn refuses_what_lies_outside() {
    let mut object = Object::with_program(&EXIT);
    object.sections[0].size = Some(1 << 40);
    assert_eq!(
        message(&object.build()),
        "section `xdp` at 0x40: its content lies outside of the file"
    );

    let mut object = Object::with_program(&EXIT);
    object.symbol("beyond", FUNCTION, 1, 8, 8);
    assert_eq!(
        message(&object.build()),
        "section `xdp`: `beyond`: the symbol lies outside of the section"
    );

    let mut object = Object::with_program(&EXIT);
    object.symbol("huge", FUNCTION, 1, 8, u64::MAX);
    assert_eq!(
        message(&object.build()),
        "section `xdp`: `huge`: the symbol lies outside of the section"
    );

    let mut object = Object::with_program(&EXIT);
    object.symbol("nowhere", FUNCTION, 99, 0, 0);
    assert_eq!(
        message(&object.build()),
        "section `.symtab` at 0x30: `nowhere`: the symbol's section lies outside of the file"
    );

    let mut object = Object::with_program(&EXIT);
    object.relocate(1, &[(8, 1, 1)]);
    assert_eq!(
        message(&object.build()),
        "section `xdp` at 0x8: a relocation lies outside of the section"
    );

    let mut object = Object::with_program(&EXIT);
    object.relocate(1, &[(0, 1, 2)]);
    assert_eq!(
        message(&object.build()),
        "section `xdp` at 0x0: a relocation's symbol lies outside of the symbol table"
    );
}

#[test]
fn refuses_sections_that_share_bytes() {
    let mut object = Object::with_program(&EXIT);
    object.section(".data", PROGBITS, DATA, &[1, 2, 3, 4]);
    object.sections[0].size = Some(9);
    assert_eq!(message(&object.build()), "section `.data` at 0x0: overlaps xdp");
}

#[test]
fn refuses_two_relocations_at_one_place() {
    let mut object = Object::with_program(&EXIT);
    object.relocate(1, &[(0, 1, 1), (0, 10, 1)]);
    assert_eq!(
        message(&object.build()),
        "section `xdp` at 0x0: two relocations apply to one place"
    );
    let mut object = Object::with_program(&EXIT);
    object.relocate(1, &[(0, 1, 1)]);
    object.relocate(1, &[(0, 10, 1)]);
    assert_eq!(
        message(&object.build()),
        "section `xdp` at 0x0: two relocations apply to one place"
    );
}

#[test]
fn refuses_relocations_with_addends() {
    let mut object = Object::with_program(&EXIT);
    object.section(".rela", 4, 0, &[0; 24]);
    object.sections[1].info = 1;
    object.sections[1].entry_size = 24;
    assert_eq!(
        message(&object.build()),
        "section `.rela`: eBPF objects have no relocations with explicit addends"
    );
}

#[test]
fn refuses_names_that_are_no_text() {
    let mut object = Object::with_program(&EXIT);
    object.section("bad", PROGBITS, EXEC, &EXIT);
    let mut file = object.build();
    let at = file.windows(3).position(|w| w == b"bad").unwrap();
    file[at] = 0xff;
    assert_eq!(message(&file), "section `2`: its name is no UTF-8");
}
