//! RFC 9669 §4.3.1 and §4.3.2, and what eBPF for Windows adds: frames, tail calls.

use bpf2sys_bytecode::{BtfFunctionIndex, GlobalIndex, MapIndex};

use super::*;

fn add(dst: u8, src: Operand) -> Instruction {
    alu(WordSize::W64, AluOp::Add, dst, src)
}

#[test]
fn a_local_function_gets_arguments_and_returns_r0() {
    let caller = [
        set(1, 1),
        set(2, 20),
        set(3, 300),
        set(4, 4000),
        set(5, 50_000),
        call(1),
        EXIT,
    ];
    let callee = [
        mov(0, reg(1)),
        add(0, reg(2)),
        add(0, reg(3)),
        add(0, reg(4)),
        add(0, reg(5)),
        EXIT,
    ];
    let outcome = run_in(&mut world(&[]), &[&caller, &callee]).unwrap();
    assert_eq!((outcome.r0, outcome.frames, outcome.steps), (54_321, 2, 13));
}

#[test]
fn a_call_preserves_r6_to_r9_and_r10() {
    let mut caller: Vec<_> = (6..10).map(|n| set(n, u64::from(n))).collect();
    caller.extend([
        store(Width::Dw, 10, -8, Operand::Imm(100)),
        call(1),
        load(Width::Dw, false, 0, 10, -8),
    ]);
    caller.extend((6..10).map(|n| add(0, reg(n))));
    caller.push(EXIT);
    let mut callee: Vec<_> = (6..10).map(|n| set(n, 0)).collect();
    callee.extend([store(Width::Dw, 10, -8, Operand::Imm(0)), set(0, 0), EXIT]);
    let outcome = run_in(&mut world(&[]), &[&caller, &callee]).unwrap();
    assert_eq!(outcome.r0, 100 + 6 + 7 + 8 + 9);
}

#[test]
fn frames_lie_512_bytes_apart_and_callers_frames_can_be_used() {
    // The callee writes 5 into its caller's frame, which lies above its own, through r10 and through a pointer.
    let caller = [
        mov(1, reg(10)),
        call(1),
        load(Width::B, false, 0, 10, -1),
        load(Width::B, false, 1, 10, -512),
        add(0, reg(1)),
        EXIT,
    ];
    let callee = [
        store(Width::B, 1, -1, Operand::Imm(5)),
        store(Width::B, 10, 0, Operand::Imm(6)),
        store(Width::B, 10, -1, Operand::Imm(100)),
        store(Width::B, 10, -512, Operand::Imm(100)),
        EXIT,
    ];
    let outcome = run_in(&mut world(&[]), &[&caller, &callee]).unwrap();
    assert_eq!(outcome.r0, 5 + 6);
}

#[test]
fn a_frame_is_gone_when_its_function_has_returned() {
    let caller = [call(1), load(Width::B, false, 0, 10, -513), EXIT];
    let callee = [store(Width::B, 10, -1, Operand::Imm(5)), mov(0, reg(10)), EXIT];
    let failed = run_in(&mut world(&[]), &[&caller, &callee]).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "function f0, instruction 1: `r0 = *(u8 *)(r10 - 0x201)`: it reads 1 bytes at 0x1fffffdff: 1 bytes below the \
         running function's frame"
    );
}

#[test]
fn eight_functions_may_be_active() {
    // Each function calls the next; the last returns.
    let chain = |count: u32| -> Vec<Vec<Instruction>> {
        (0..count)
            .map(|index| {
                let last = index + 1 == count;
                let onward = if last { set(0, 8) } else { call(index + 1) };
                vec![store(Width::B, 10, -512, Operand::Imm(1)), onward, EXIT]
            })
            .collect()
    };
    let run = |count| {
        let functions = chain(count);
        let slices: Vec<&[Instruction]> = functions.iter().map(Vec::as_slice).collect();
        run_in(&mut world(&[]), &slices)
    };
    let outcome = run(8).unwrap();
    assert_eq!((outcome.r0, outcome.frames), (8, 8));
    let failed = run(9).unwrap_err();
    assert_eq!(failed.problem, Problem::TooManyFrames(8));
    assert_eq!(failed.place.function, "f7");
    assert_eq!(problem(&[&[call(0), EXIT]]), Problem::TooManyFrames(8));
    assert_eq!(problem(&[&[call(1), EXIT]]), Problem::Missing("function"));
}

/// A world whose helper 1 adds its arguments up, whose helper 5 ends the program with 77, and whose helper 6 returns 0.
fn helpers() -> FlatWorld {
    let mut world = world(&[]);
    world.add_helper(1, |arguments| HelperResult::Returned(arguments.iter().sum()));
    world.add_helper(5, |_| HelperResult::Ends(77));
    world.add_helper(6, |_| HelperResult::Returned(0));
    world
}

#[test]
fn helpers_get_r1_to_r5_and_give_all_64_bits_of_r0() {
    let code = [
        set(1, 1),
        set(2, 20),
        set(3, 300),
        set(4, 4000),
        set(5, 1 << 63),
        set(9, 9),
        helper(1),
        add(0, reg(9)),
        EXIT,
    ];
    let outcome = run_in(&mut helpers(), &[&code]).unwrap();
    assert_eq!(outcome.r0, (1 << 63) + 4330);
    assert!(!outcome.ended_by_helper);
    let unknown = run_in(&mut helpers(), &[&[helper(99), EXIT]]).unwrap_err();
    assert_eq!(unknown.problem, Problem::Helper(FlatError::NoHelper(99)));
}

#[test]
fn a_tail_call_ends_the_whole_program_in_whatever_function_it_is() {
    let tail = [helper(5), set(0, 1), EXIT];
    let outcome = run_in(&mut helpers(), &[&tail]).unwrap();
    assert_eq!((outcome.r0, outcome.ended_by_helper), (77, true));
    let caller = [call(1), set(0, 2), EXIT];
    let between = [call(2), set(0, 3), EXIT];
    let outcome = run_in(&mut helpers(), &[&caller, &between, &tail]).unwrap();
    assert_eq!((outcome.r0, outcome.ended_by_helper, outcome.steps), (77, true, 3));
    // What only returns 0 ends nothing.
    let outcome = run_in(&mut helpers(), &[&[helper(6), set(0, 4), EXIT]]).unwrap();
    assert_eq!((outcome.r0, outcome.ended_by_helper), (4, false));
}

/// A world with one function of another module, which gives the sum of its first and fifth argument.
struct WithFunction;

impl World for WithFunction {
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

    fn btf_function(&mut self, function: BtfFunctionIndex, arguments: [u64; 5]) -> Result<Option<u64>, FlatError> {
        Ok((function == BtfFunctionIndex(1)).then(|| arguments[0] + arguments[4]))
    }

    fn map_address(&mut self, _map: MapIndex) -> Option<u64> {
        None
    }

    fn global_address(&mut self, _section: GlobalIndex) -> Option<u64> {
        None
    }
}

#[test]
fn a_function_of_another_module_gets_arguments_and_leaves_only_r0() {
    let call = |n| Instruction::Call(Callee::Btf(BtfFunctionIndex(n)));
    let mut world = WithFunction;
    let code = [set(1, 1 << 40), set(5, 5), call(1), EXIT];
    assert_eq!(run_in(&mut world, &[&code]).unwrap().r0, (1 << 40) + 5);
    let code = [set(1, 1), call(1), mov(0, reg(1)), EXIT];
    assert_eq!(
        run_in(&mut world, &[&code]).unwrap_err().problem,
        Problem::Unset(Reg::R1)
    );
    let code = [call(0), EXIT];
    assert_eq!(run_in(&mut world, &[&code]).unwrap_err().problem, Problem::NoMeaning);
}
