//! RFC 9669 §5.1, §5.2 and §5.4.

use bpf2sys_bytecode::{GlobalIndex, MapIndex};

use super::*;

const BYTES: [u8; 16] = [
    0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
];

#[test]
fn loads_extend_with_zeros_or_the_sign() {
    for (width, signed, offset, expected) in [
        (Width::B, false, 0, 0x81),
        (Width::H, false, 0, 0x8281),
        (Width::W, false, 0, 0x8483_8281),
        (Width::Dw, false, 0, 0x8887_8685_8483_8281),
        (Width::B, true, 0, 0xFFFF_FFFF_FFFF_FF81),
        (Width::H, true, 0, 0xFFFF_FFFF_FFFF_8281),
        (Width::W, true, 0, 0xFFFF_FFFF_8483_8281),
        (Width::B, true, 8, 0x11),
        (Width::H, true, 8, 0x1211),
        (Width::W, true, 8, 0x1413_1211),
        // Plain accesses need no alignment.
        (Width::H, false, 1, 0x8382),
        (Width::W, false, 3, 0x8786_8584),
        (Width::Dw, false, 5, 0x1514_1312_1188_8786),
        (Width::B, false, 15, 0x18),
        (Width::Dw, false, 8, 0x1817_1615_1413_1211),
    ] {
        let code = [set(0, u64::MAX), load(width, signed, 0, 1, offset), EXIT];
        let outcome = run_in(&mut world(&BYTES), &[&code]).unwrap();
        assert_eq!(outcome.r0, expected, "{width:?} signed {signed} at {offset}");
    }
    // A load into its own address register.
    let outcome = run_in(
        &mut world(&BYTES),
        &[&[load(Width::B, false, 1, 1, 0), mov(0, reg(1)), EXIT]],
    );
    assert_eq!(outcome.unwrap().r0, 0x81);
    let eight_bytes_have_no_sign_to_extend = [load(Width::Dw, true, 0, 1, 0), EXIT];
    assert_eq!(problem(&[&eight_bytes_have_no_sign_to_extend]), Problem::NoMeaning);
}

#[test]
fn stores_take_the_low_bytes_and_write_no_others() {
    let value = 0xF1F2_F3F4_F5F6_F7F8;
    for (width, bytes) in WIDTHS.into_iter().zip([1, 2, 4, 8]) {
        for offset in [0, 1, 8] {
            let mut world = world(&BYTES);
            let code = [
                set(2, value),
                store(width, 1, offset, reg(2)),
                mov(0, Operand::Imm(0)),
                EXIT,
            ];
            run_in(&mut world, &[&code]).unwrap();
            let mut expected = BYTES;
            let start = offset as usize;
            expected[start..start + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
            assert_eq!(world.bytes(MEMORY).unwrap(), expected, "{width:?} at {offset}");
        }
    }
}

#[test]
fn stored_immediates_are_sign_extended() {
    for (width, expected) in [
        (Width::B, &[0xFE][..]),
        (Width::H, &[0xFE, 0xFF]),
        (Width::W, &[0xFE, 0xFF, 0xFF, 0xFF]),
        (Width::Dw, &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
    ] {
        let mut world = world(&[0; 16]);
        let code = [store(width, 1, 4, Operand::Imm(-2)), mov(0, Operand::Imm(0)), EXIT];
        run_in(&mut world, &[&code]).unwrap();
        let memory = world.bytes(MEMORY).unwrap();
        assert_eq!(&memory[4..4 + expected.len()], expected, "{width:?}");
        assert!(memory[..4].iter().chain(&memory[4 + expected.len()..]).all(|&b| b == 0));
    }
}

#[test]
fn offsets_are_signed() {
    let code = [
        alu(WordSize::W64, AluOp::Add, 1, Operand::Imm(0x8000)),
        load(Width::B, false, 0, 1, i16::MIN),
        EXIT,
    ];
    assert_eq!(run_in(&mut world(&BYTES), &[&code]).unwrap().r0, 0x81);
    // Addresses wrap, as every sum does.
    let code = [
        set(2, MEMORY.wrapping_sub(0x7FFF)),
        load(Width::B, false, 0, 2, 0x7FFF),
        EXIT,
    ];
    assert_eq!(run_in(&mut world(&BYTES), &[&code]).unwrap().r0, 0x81);
}

#[test]
fn the_stack_is_memory_below_r10() {
    let code = [
        store(Width::Dw, 10, -8, Operand::Imm(-1)),
        store(Width::W, 10, -512, Operand::Imm(7)),
        load(Width::W, false, 0, 10, -512),
        load(Width::B, false, 1, 10, -1),
        alu(WordSize::W64, AluOp::Add, 0, reg(1)),
        EXIT,
    ];
    assert_eq!(result(&code), Ok(7 + 0xFF));
}

#[test]
fn accesses_outside_of_regions_are_errors_that_say_where() {
    let denied = |access, address, length, near: &str| Problem::Access {
        access,
        address,
        length,
        near: near.into(),
    };
    let end = MEMORY + 16;
    for (code, expected) in [
        (
            load(Width::B, false, 0, 1, 16),
            denied(
                Access::Read,
                end,
                1,
                "behind region `memory` of 16 bytes, at offset 0x10",
            ),
        ),
        (
            load(Width::Dw, false, 0, 1, 9),
            denied(
                Access::Read,
                end - 7,
                8,
                "runs over the end of region `memory` of 16 bytes, at offset 0x9",
            ),
        ),
        (
            store(Width::H, 1, 15, Operand::Imm(0)),
            denied(
                Access::Write,
                end - 1,
                2,
                "runs over the end of region `memory` of 16 bytes, at offset 0xf",
            ),
        ),
        (
            load(Width::B, false, 0, 1, -1),
            denied(Access::Read, MEMORY - 1, 1, "there is no region at or below it"),
        ),
        (
            store(Width::B, 10, 0, Operand::Imm(0)),
            denied(
                Access::Write,
                STACK_END,
                1,
                "behind region `stack` of 4096 bytes, at offset 0x1000",
            ),
        ),
        (
            load(Width::B, false, 0, 10, -513),
            denied(
                Access::Read,
                STACK_END - 513,
                1,
                "1 bytes below the running function's frame",
            ),
        ),
        (
            load(Width::Dw, false, 0, 10, -513),
            denied(
                Access::Read,
                STACK_END - 513,
                8,
                "1 bytes below the running function's frame",
            ),
        ),
        (
            store(Width::B, 10, -4096, Operand::Imm(0)),
            denied(
                Access::Write,
                STACK_END - 4096,
                1,
                "3584 bytes below the running function's frame",
            ),
        ),
    ] {
        assert_eq!(problem(&[&[code, EXIT]]), expected, "{code}");
    }
}

#[test]
fn a_refused_store_writes_nothing() {
    let mut world = world(&[9; 16]);
    let code = [store(Width::Dw, 1, 12, Operand::Imm(0)), EXIT];
    run_in(&mut world, &[&code]).unwrap_err();
    assert_eq!(world.bytes(MEMORY).unwrap(), [9; 16]);
}

#[test]
fn read_only_regions_can_be_read() {
    let mut world = world(&[]);
    world
        .add(NewRegion {
            name: "table".into(),
            base: 0x5000,
            bytes: vec![3; 8],
            permission: Permission::Read,
        })
        .unwrap();
    let read = [set(1, 0x5000), load(Width::B, false, 0, 1, 7), EXIT];
    assert_eq!(run_in(&mut world, &[&read]).unwrap().r0, 3);
    let write = [set(1, 0x5000), store(Width::B, 1, 7, Operand::Imm(0)), EXIT];
    let near = "read-only region `table` of 8 bytes, at offset 0x7".to_owned();
    assert_eq!(
        run_in(&mut world, &[&write]).unwrap_err().problem,
        Problem::Access {
            access: Access::Write,
            address: 0x5007,
            length: 1,
            near
        }
    );
}

#[test]
fn regions_do_not_overlap() {
    let region = |base, size| NewRegion {
        name: "new".into(),
        base,
        bytes: vec![0; size],
        permission: Permission::Read,
    };
    for (base, size, fits) in [
        (MEMORY - 8, 8, true),
        (MEMORY - 8, 9, false),
        (MEMORY, 1, false),
        (MEMORY + 15, 1, false),
        (MEMORY + 16, 1, true),
        (u64::MAX, 2, false),
    ] {
        assert_eq!(
            world(&[0; 16]).add(region(base, size)).is_ok(),
            fits,
            "{base:#x} {size}"
        );
    }
}

#[test]
fn wide_immediates() {
    for value in [0, u64::MAX, 0x8000_0000, 0x0123_4567_89AB_CDEF] {
        assert_eq!(result(&[set(0, value), EXIT]), Ok(value));
    }
    let pseudo = Imm64::Pseudo {
        src: 3,
        imm: 1,
        next_imm: 0,
    };
    for (value, expected) in [
        (Imm64::Map(MapIndex(0)), Problem::Missing("map")),
        (
            Imm64::Global {
                section: GlobalIndex(0),
                offset: 0,
            },
            Problem::Missing("global variable section"),
        ),
        (pseudo, Problem::NoMeaning),
    ] {
        let code = [Instruction::LoadImm64 { dst: r(0), value }, EXIT];
        assert_eq!(problem(&[&code]), expected);
    }
}

/// A world that has two maps and two sections of global variables.
struct WithMaps;

impl World for WithMaps {
    type Error = FlatError;

    fn read(&mut self, _address: u64, _bytes: &mut [u8]) -> Result<(), Denied> {
        Ok(())
    }

    fn write(&mut self, _address: u64, _bytes: &[u8]) -> Result<(), Denied> {
        Ok(())
    }

    fn helper(&mut self, id: i32, _arguments: [u64; 5]) -> Result<HelperResult, FlatError> {
        Err(FlatError::NoHelper(id))
    }

    fn map_address(&mut self, map: MapIndex) -> Option<u64> {
        [0x1000, 0x2000].get(map.index()).copied()
    }

    fn global_address(&mut self, section: GlobalIndex) -> Option<u64> {
        [0x3000, 0x4000].get(section.index()).copied()
    }
}

#[test]
fn maps_and_global_variables_are_where_the_world_says() {
    for (value, expected) in [
        (Imm64::Map(MapIndex(0)), 0x1000),
        (Imm64::Map(MapIndex(1)), 0x2000),
        (
            Imm64::Global {
                section: GlobalIndex(0),
                offset: 0,
            },
            0x3000,
        ),
        // The offset is unsigned.
        (
            Imm64::Global {
                section: GlobalIndex(1),
                offset: 0x8000_0010,
            },
            0x8000_4010,
        ),
    ] {
        let module = module(&[&[Instruction::LoadImm64 { dst: r(0), value }, EXIT]]);
        let entry = Entry::new(FunctionIndex(0), &[], STACK_END);
        let outcome = interpret(&module, &entry, &mut WithMaps, Options::default()).unwrap();
        assert_eq!(outcome.r0, expected);
    }
}
