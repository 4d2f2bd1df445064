//! The reader of object files.

use bpf2sys_bytecode::{Encoded, Function, Module, Reference, encode, read};

/// Reads an object. What is read keeps what [`Module`] promises.
pub fn run(input: &[u8]) {
    match read(input, "fuzz.o") {
        Ok(module) => check(&module),
        Err(error) => drop(error.to_string()),
    }
}

/// Objects of examples and tests.
pub fn seeds() -> Vec<Vec<u8>> {
    super::files(&["examples", "tests/fixtures", "compiler/bytecode/tests"], &["o"])
}

pub(super) fn check(module: &Module) {
    assert!(module.programs().next().is_some());
    for function in &module.functions {
        check_function(module, function);
    }
    for (index, global) in module.globals.iter().enumerate() {
        assert!(!global.data.is_empty());
        let origin = module.maps[global.map.index()].origin;
        assert!(matches!(origin, bpf2sys_bytecode::MapOrigin::Global(back) if back.index() == index));
    }
    for map in &module.maps {
        assert!(!map.name.contains('\0'));
        assert!(map.inner.is_none_or(|inner| inner.index() < module.maps.len()));
        for value in map.initial_values.iter().flatten() {
            match value {
                bpf2sys_bytecode::InitialValue::Map(map) => assert!(map.index() < module.maps.len()),
                bpf2sys_bytecode::InitialValue::Program(program) => assert!(program.index() < module.functions.len()),
            }
        }
    }
}

fn check_function(module: &Module, function: &Function) {
    assert!(!function.name.contains('\0') && !function.section.contains('\0'));
    assert!(!function.instructions.is_empty());
    let mut slot = 0;
    for insn in &function.instructions {
        assert_eq!(insn.slot, slot);
        slot += insn.op.slots();
        module.line(insn);
        if let Some(offset) = insn.op.jump_offset() {
            let target = i64::from(insn.slot) + 1 + i64::from(offset);
            assert!(function.at_slot(u32::try_from(target).unwrap()).is_some());
        }
        let refer = |reference| {
            let (index, count) = match reference {
                Reference::Map(map) => (map.index(), module.maps.len()),
                Reference::Global(global) => (global.index(), module.globals.len()),
                Reference::Function(function) => (function.index(), module.functions.len()),
                Reference::BtfFunction(function) => (function.index(), module.btf_functions.len()),
            };
            assert!(index < count);
            0
        };
        let Encoded { .. } = encode(&insn.op, refer);
    }
    assert_eq!(function.slots(), slot);
}
