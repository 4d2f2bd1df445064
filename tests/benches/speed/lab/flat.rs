//! Bytecode in one piece, as loaders other than Windows' take it.

use bpf2sys_bytecode::{FunctionIndex, Instruction, Module, Reference, encode};

/// A program and the functions that it reaches, one behind the other. `instead` may put other instructions of the same length in
/// place of some; `number` gives the numbers of what is left to refer to.
pub fn bytecode(
    module: &Module,
    program: FunctionIndex,
    instead: impl Fn(Instruction) -> Instruction,
    number: impl Fn(Reference) -> i32,
) -> Vec<u8> {
    let functions: Vec<FunctionIndex> = [program].into_iter().chain(module.reachable_from(program)).collect();
    let start = |index: FunctionIndex| -> u32 {
        let before = functions.iter().take_while(|&&other| other != index);
        before.map(|&other| module.function(other).slots()).sum()
    };
    let mut bytes = Vec::new();
    for &index in &functions {
        for insn in &module.function(index).instructions {
            let number = |reference| match reference {
                Reference::Function(callee) => start(callee) as i32 - (start(index) + insn.slot + 1) as i32,
                other => number(other),
            };
            for slot in encode(&instead(insn.op), number) {
                bytes.extend(slot.to_bytes());
            }
        }
    }
    bytes
}
