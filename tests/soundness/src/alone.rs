//! One program of a module by itself.

use bpf2sys_bytecode::{Callee, FunctionIndex, FunctionKind, InitialValue, Instruction, Module};

/// The module with this function as its only program, and as its first function, which is where [`crate::judge`] looks for it.
pub fn alone(module: &Module, program: FunctionIndex) -> Module {
    let mut module = module.clone();
    module.functions.swap(0, program.index());
    let first = FunctionIndex(0);
    let swap = |function: &mut FunctionIndex| {
        *function = match *function {
            f if f == first => program,
            f if f == program => first,
            other => other,
        };
    };
    for function in &mut module.functions {
        function.kind = FunctionKind::Subprogram;
        for insn in &mut function.instructions {
            if let Instruction::Call(Callee::Local(callee)) = &mut insn.op {
                swap(callee);
            }
        }
    }
    for map in &mut module.maps {
        for value in map.initial_values.iter_mut().flatten() {
            if let InitialValue::Program(function) = value {
                swap(function);
            }
        }
    }
    module.functions[0].kind = FunctionKind::Program;
    module
}
