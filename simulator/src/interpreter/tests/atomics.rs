//! RFC 9669 §5.3.

use bpf2sys_bytecode::AtomicOp;

use super::*;

const SIMPLE: [fn(bool) -> AtomicOp; 4] = [
    |fetch| AtomicOp::Add { fetch },
    |fetch| AtomicOp::Or { fetch },
    |fetch| AtomicOp::And { fetch },
    |fetch| AtomicOp::Xor { fetch },
];

fn atomic(size: WordSize, op: AtomicOp, base: u8, offset: i16, src: u8) -> Instruction {
    Instruction::Atomic {
        size,
        op,
        base: r(base),
        offset,
        src: r(src),
    }
}

/// What an atomic operation at offset 8 of 24 bytes left: the word in memory, `r0` and `r2`.
fn after(size: WordSize, op: AtomicOp, memory: u64, r0: u64, r2: u64) -> (u64, u64, u64) {
    let mut bytes = [0x77; 24];
    bytes[8..16].copy_from_slice(&memory.to_le_bytes());
    let mut world = world(&bytes);
    let code = [
        set(0, r0),
        set(2, r2),
        atomic(size, op, 1, 8, 2),
        store(Width::Dw, 10, -8, reg(2)),
        EXIT,
    ];
    let outcome = run_in(&mut world, &[&code]).unwrap();
    let bytes = world.bytes(MEMORY).unwrap();
    assert!(
        bytes[..8].iter().chain(&bytes[16..]).all(|&b| b == 0x77),
        "{op:?} wrote elsewhere"
    );
    let word = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
    let mut r2 = [0; 8];
    World::read(&mut world, STACK_END - 8, &mut r2).unwrap();
    (word, outcome.r0, u64::from_le_bytes(r2))
}

#[test]
fn simple_operations_with_and_without_fetch() {
    const MEMORY: u64 = 0x8000_0001_FFFF_FFF0;
    const SOURCE: u64 = 0xF000_0002_0000_001F;
    const R0: u64 = 0x5555;
    // Memory afterwards, 64 and 32 bits: the latter leaves the upper half as it is.
    let expected = [
        (0x7000_0004_0000_000F, 0x8000_0001_0000_000F),
        (0xF000_0003_FFFF_FFFF, 0x8000_0001_FFFF_FFFF),
        (0x8000_0000_0000_0010, 0x8000_0001_0000_0010),
        (0x7000_0003_FFFF_FFEF, 0x8000_0001_FFFF_FFEF),
    ];
    for (op, (wide, narrow)) in SIMPLE.into_iter().zip(expected) {
        let op = |fetch| op(fetch);
        for (size, memory, old) in [(WordSize::W64, wide, MEMORY), (WordSize::W32, narrow, 0xFFFF_FFF0)] {
            assert_eq!(after(size, op(false), MEMORY, R0, SOURCE), (memory, R0, SOURCE));
            assert_eq!(after(size, op(true), MEMORY, R0, SOURCE), (memory, R0, old));
        }
    }
}

#[test]
fn exchange_zero_extends_what_it_fetches() {
    let memory = 0x1111_1111_8000_0000;
    let source = 0x2222_2222_3333_3333;
    assert_eq!(
        after(WordSize::W64, AtomicOp::Xchg, memory, 5, source),
        (source, 5, memory)
    );
    assert_eq!(
        after(WordSize::W32, AtomicOp::Xchg, memory, 5, source),
        (0x1111_1111_3333_3333, 5, 0x8000_0000)
    );
}

#[test]
fn compare_and_exchange_loads_r0_in_either_case() {
    let memory = 0x1111_1111_8000_0001;
    let source = 0x2222_2222_3333_3333;
    for (size, r0, word, loaded) in [
        (WordSize::W64, memory, source, memory),
        (WordSize::W64, 0x8000_0001, memory, memory),
        (WordSize::W64, 0, memory, memory),
        // 32 bits: the low half of r0 is compared, the old value is zero-extended.
        (WordSize::W32, memory, 0x1111_1111_3333_3333, 0x8000_0001),
        (WordSize::W32, 0x8000_0001, 0x1111_1111_3333_3333, 0x8000_0001),
        (WordSize::W32, 0xFFFF_FFFF_8000_0001, 0x1111_1111_3333_3333, 0x8000_0001),
        (WordSize::W32, 0x8000_0000, memory, 0x8000_0001),
    ] {
        let left = after(size, AtomicOp::Cmpxchg, memory, r0, source);
        assert_eq!(left, (word, loaded, source), "{size:?} {r0:#x}");
    }
}

#[test]
fn operand_and_address_may_be_one_register() {
    let code = [
        set(2, MEMORY),
        atomic(WordSize::W64, AtomicOp::Add { fetch: true }, 2, 0, 2),
        mov(0, reg(2)),
        EXIT,
    ];
    let mut world = world(&3u64.to_le_bytes());
    assert_eq!(run_in(&mut world, &[&code]).unwrap().r0, 3);
    assert_eq!(world.bytes(MEMORY).unwrap(), (MEMORY + 3).to_le_bytes());
}

#[test]
fn r0_may_be_the_operand_that_is_compared_with_itself() {
    let code = [set(0, 9), atomic(WordSize::W64, AtomicOp::Cmpxchg, 1, 0, 0), EXIT];
    for memory in [9u64, 4] {
        let mut world = world(&memory.to_le_bytes());
        assert_eq!(run_in(&mut world, &[&code]).unwrap().r0, memory);
        assert_eq!(world.bytes(MEMORY).unwrap(), memory.to_le_bytes());
    }
    // Exchanged through r0, which the store of the old value must not overtake.
    let code = [set(0, 9), atomic(WordSize::W64, AtomicOp::Xchg, 1, 0, 0), EXIT];
    let mut world = world(&4u64.to_le_bytes());
    assert_eq!(run_in(&mut world, &[&code]).unwrap().r0, 4);
    assert_eq!(world.bytes(MEMORY).unwrap(), 9u64.to_le_bytes());
}

#[test]
fn misaligned_atomics_are_errors() {
    for (size, offset, length) in [
        (WordSize::W32, 1, 4),
        (WordSize::W32, 2, 4),
        (WordSize::W64, 4, 8),
        (WordSize::W64, 7, 8),
    ] {
        let code = [set(2, 0), atomic(size, AtomicOp::Xchg, 1, offset, 2), EXIT];
        let address = MEMORY + offset as u64;
        assert_eq!(problem(&[&code]), Problem::Misaligned { address, length });
    }
    let aligned_to_four = [
        set(0, 0),
        set(2, 0),
        atomic(WordSize::W32, AtomicOp::Xchg, 1, 12, 2),
        EXIT,
    ];
    assert!(run_in(&mut world(&[0; 16]), &[&aligned_to_four]).is_ok());
}

#[test]
fn an_atomic_operation_must_be_allowed_to_write() {
    let mut world = world(&[]);
    world
        .add(NewRegion {
            name: "table".into(),
            base: 0x5000,
            bytes: vec![1; 8],
            permission: Permission::Read,
        })
        .unwrap();
    let code = [
        set(1, 0x5000),
        set(2, 0),
        atomic(WordSize::W64, AtomicOp::Or { fetch: false }, 1, 0, 2),
        EXIT,
    ];
    let failed = run_in(&mut world, &[&code]).unwrap_err();
    assert!(matches!(
        failed.problem,
        Problem::Access {
            access: Access::Write,
            ..
        }
    ));
}
