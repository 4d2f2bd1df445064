//! Values that nothing has written, followed through a program.

use super::*;

/// A world with one word of memory that was never written, and one that was.
struct Half {
    written: bool,
}

impl World for Half {
    type Error = FlatError;

    fn read(&mut self, _address: u64, bytes: &mut [u8]) -> Result<(), Denied> {
        bytes.fill(7);
        Ok(())
    }

    fn write(&mut self, _address: u64, _bytes: &[u8]) -> Result<(), Denied> {
        self.written = true;
        Ok(())
    }

    fn is_undefined(&mut self, _address: u64, _length: u32) -> bool {
        !self.written
    }

    fn write_undefined(&mut self, _address: u64, _length: u32) -> Result<(), Denied> {
        self.written = false;
        Ok(())
    }

    fn helper(&mut self, id: i32, _arguments: [u64; 5]) -> Result<HelperResult, FlatError> {
        Err(FlatError::NoHelper(id))
    }

    fn map_address(&mut self, _map: bpf2sys_bytecode::MapIndex) -> Option<u64> {
        None
    }

    fn global_address(&mut self, _section: bpf2sys_bytecode::GlobalIndex) -> Option<u64> {
        None
    }
}

/// `r0` at the end, or the register that something depends on and that has no value.
fn tracked(functions: &[&[Instruction]]) -> Result<u64, Option<Reg>> {
    let entry = Entry::new(FunctionIndex(0), &[MEMORY], STACK_END);
    let options = Options {
        undefined: Undefined::Tracked,
        ..Options::default()
    };
    let mut world = Half { written: false };
    match interpret(&module(functions), &entry, &mut world, options) {
        Ok(outcome) => Ok(outcome.r0),
        Err(error) => match error.problem {
            Problem::Unset(register) => Err(Some(register)),
            _ => Err(None),
        },
    }
}

#[test]
fn a_value_that_nothing_wrote_may_be_computed_with_and_not_be_used() {
    let add = |dst, src| alu(WordSize::W64, AluOp::Add, dst, reg(src));
    let condition = |dst| Instruction::JumpIf {
        size: WordSize::W64,
        condition: bpf2sys_bytecode::Condition::Eq,
        dst: r(dst),
        src: Operand::Imm(0),
        offset: 0,
    };
    let computed = [
        mov(3, reg(4)),
        add(3, 1),
        Instruction::Neg {
            size: WordSize::W64,
            dst: r(3),
        },
    ];
    let then = |more: &[Instruction]| [&computed[..], more].concat();
    assert_eq!(tracked(&[&then(&[set(0, 5), EXIT])]), Ok(5));
    assert_eq!(tracked(&[&then(&[mov(0, reg(3)), EXIT])]), Err(Some(r(0))));
    assert_eq!(tracked(&[&then(&[condition(3), set(0, 5), EXIT])]), Err(Some(r(3))));
    assert_eq!(
        tracked(&[&then(&[load(Width::B, false, 0, 3, 0), EXIT])]),
        Err(Some(r(3)))
    );
}

#[test]
fn memory_that_was_never_written_holds_such_values() {
    let word = load(Width::Dw, false, 0, 10, -8);
    assert_eq!(tracked(&[&[word, EXIT]]), Err(Some(r(0))));
    let written = [store(Width::Dw, 10, -8, Operand::Imm(1)), word, EXIT];
    assert_eq!(tracked(&[&written]), Ok(0x0707_0707_0707_0707));
    let overwritten = [&written[..1], &[store(Width::Dw, 10, -8, reg(5)), word, EXIT]].concat();
    assert_eq!(tracked(&[&overwritten]), Err(Some(r(0))));
}

#[test]
fn an_exchange_exchanges_such_values_too() {
    let exchange = |size| Instruction::Atomic {
        size,
        op: bpf2sys_bytecode::AtomicOp::Xchg,
        base: r(10),
        offset: -8,
        src: r(5),
    };
    let word = load(Width::Dw, false, 0, 10, -8);
    for (size, old) in [(WordSize::W32, 0x0707_0707), (WordSize::W64, 0x0707_0707_0707_0707)] {
        // Nothing is in memory, and a number comes.
        let number = [set(5, 9), exchange(size)];
        assert_eq!(
            tracked(&[&[&number[..], &[word, EXIT]].concat()]),
            Ok(0x0707_0707_0707_0707)
        );
        assert_eq!(
            tracked(&[&[&number[..], &[mov(0, reg(5)), EXIT]].concat()]),
            Err(Some(r(0)))
        );
        // A number is in memory, and nothing comes.
        let nothing = [store(Width::Dw, 10, -8, Operand::Imm(1)), exchange(size)];
        assert_eq!(tracked(&[&[&nothing[..], &[word, EXIT]].concat()]), Err(Some(r(0))));
        assert_eq!(tracked(&[&[&nothing[..], &[mov(0, reg(5)), EXIT]].concat()]), Ok(old));
    }
}

#[test]
fn a_local_function_finds_its_callers_registers() {
    let callee = [mov(0, reg(6)), EXIT];
    assert_eq!(tracked(&[&[set(6, 9), call(1), EXIT], &callee]), Ok(9));
    assert_eq!(tracked(&[&[set(0, 4), call(1), EXIT], &[EXIT]]), Ok(4));
    assert_eq!(
        tracked(&[&[set(0, 4), set(3, 1), call(1), mov(0, reg(3)), EXIT], &[EXIT]]),
        Err(Some(r(0)))
    );
}
