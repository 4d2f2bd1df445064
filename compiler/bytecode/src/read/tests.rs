use super::{module_name, read};
use crate::{
    Callee, FunctionIndex, FunctionKind, Imm64, InitialValue, Instruction, MapIndex, MapOrigin, Module, Pinning,
};

const MAPS: &[u8] = include_bytes!("../../tests/fixtures/maps.o");
const LEGACY: &[u8] = include_bytes!("../../tests/fixtures/legacy.o");
const KSYMS: &[u8] = include_bytes!("../../tests/fixtures/ksyms.o");
/// Put together by a linker that leaves types and lines of two objects apart.
const JOINED: &[u8] = include_bytes!("../../tests/fixtures/units/named_ld_r.o");
const TEXT_ONLY: &[u8] = include_bytes!("../../tests/fixtures/text_only.o");

fn maps() -> Module {
    read(MAPS, "maps.o").unwrap()
}

fn function<'m>(module: &'m Module, name: &str) -> (FunctionIndex, &'m crate::Function) {
    let index = module.functions.iter().position(|f| f.name == name).unwrap();
    (FunctionIndex(index as u32), &module.functions[index])
}

#[test]
fn the_module_is_named_after_the_file() {
    for (file, name) in [
        ("filter.o", "filter"),
        ("filter", "filter"),
        ("a.b/filter.debug.o", "filter"),
        (r"C:\objects\filter.bpf.o", "filter"),
    ] {
        assert_eq!(module_name(file).as_deref(), Ok(name));
    }
    for file in ["", ".o", "folder/", "a\0b.o"] {
        assert_eq!(
            module_name(file).unwrap_err().to_string(),
            "the file's name gives no name for the module"
        );
    }
}

#[test]
fn the_hash_is_of_the_whole_file() {
    // sha256sum of nothing else than `text_only.o`.
    let hash = read(TEXT_ONLY, "text_only.o").unwrap().hash.unwrap();
    assert_eq!(
        hash.to_string(),
        include_str!("../../tests/fixtures/text_only.sha256").trim()
    );
}

#[test]
fn functions_come_in_order_of_section_and_offset() {
    use FunctionKind::{Program, Subprogram};
    let module = maps();
    let found: Vec<_> = module
        .functions
        .iter()
        .map(|f| (f.section.as_str(), f.name.as_str(), f.kind))
        .collect();
    assert_eq!(
        found,
        [
            (".text", "shared", Subprogram),
            (".text", "hidden", Subprogram),
            ("xdp", "dispatched", Program),
            ("xdp", "beside", Subprogram),
            ("xdp", "entry", Program),
            ("bind", "other", Program),
        ]
    );
    assert!(
        module
            .functions
            .is_sorted_by_key(|f| (f.section != ".text", f.section == "bind", f.section_offset))
    );
}

#[test]
fn a_program_alone_in_text_is_one() {
    let module = read(TEXT_ONLY, "text_only.o").unwrap();
    let found: Vec<_> = module.functions.iter().map(|f| (f.name.as_str(), f.kind)).collect();
    assert_eq!(
        found,
        [("twice", FunctionKind::Subprogram), ("program", FunctionKind::Program)]
    );
}

#[test]
fn calls_are_resolved_by_symbol_by_section_and_without_relocation() {
    let module = maps();
    let (entry, _) = function(&module, "entry");
    let calls: Vec<_> = module
        .function(entry)
        .instructions
        .iter()
        .filter_map(|i| match i.op {
            Instruction::Call(Callee::Local(callee)) => Some(module.function(callee).name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(calls, ["shared", "hidden", "beside"]);
    assert_eq!(
        module.reachable_from(entry),
        [FunctionIndex(0), FunctionIndex(1), FunctionIndex(3)]
    );
}

#[test]
fn maps_come_in_order_of_section_and_offset() {
    let module = maps();
    let names: Vec<_> = module.maps.iter().map(|m| (m.name.as_str(), m.origin)).collect();
    let global = |n| MapOrigin::Global(crate::GlobalIndex(n));
    assert_eq!(
        names,
        [
            ("programs", MapOrigin::Btf),
            ("second", MapOrigin::Btf),
            ("first", MapOrigin::Btf),
            ("named", MapOrigin::Btf),
            ("counters", MapOrigin::Btf),
            ("flows", MapOrigin::Btf),
            ("unnamed", MapOrigin::Btf),
            ("__anonymous_1", MapOrigin::Anonymous),
            ("maps.data", global(0)),
            ("maps.rodata", global(1)),
            ("maps.rodata.table", global(2)),
            ("maps.rodata.str1.1", global(3)),
            ("maps.bss", global(4)),
        ]
    );
}

#[test]
fn btf_definitions_are_read() {
    let module = maps();
    let find = |name: &str| module.maps.iter().find(|m| m.name == name).unwrap();
    let shape = |name: &str| {
        let d = find(name).definition;
        (d.map_type, d.key_size, d.value_size, d.max_entries)
    };
    assert_eq!(shape("flows"), (1, 4, 16, 16));
    assert_eq!(shape("counters"), (2, 4, 8, 4));
    assert_eq!(shape("programs"), (3, 4, 4, 3));
    assert_eq!(shape("named"), (7, 4, 4, 4));
    assert_eq!(shape("unnamed"), (6, 4, 4, 4));
    assert_eq!(shape("__anonymous_1"), (2, 4, 8, 5));
    assert_eq!(find("flows").definition.pinning, Pinning::ByName);
    assert_eq!(find("counters").definition.pinning, Pinning::None);
    // Templates: the first map of the type, or the unnamed one; bound by id.
    for (outer, inner) in [("named", "second"), ("unnamed", "__anonymous_1")] {
        let outer = find(outer);
        let found = &module.maps[outer.inner.unwrap().index()];
        assert_eq!(found.name, inner);
        assert_eq!(outer.definition.inner_id, found.definition.id);
        assert_eq!(outer.definition.inner_map_idx, 0);
        assert_ne!(found.definition.id, 0);
    }
}

#[test]
fn maps_are_numbered_as_bpf2c_numbers_them() {
    let module = read(include_bytes!("../../tests/fixtures/ids.o"), "ids.o").unwrap();
    let found: Vec<_> = module
        .maps
        .iter()
        .map(|m| (m.name.as_str(), m.definition.id, m.definition.inner_id))
        .collect();
    // What bpf2c writes for an object of the same shape (`inner_map` in its tests).
    assert_eq!(
        found,
        [
            ("of_unnamed", 15, 11),
            ("of_named", 25, 21),
            ("named", 21, 0),
            ("__anonymous_1", 11, 0)
        ]
    );
}

#[test]
fn initial_values_are_read() {
    let module = maps();
    let values = |name: &str| {
        let map = module.maps.iter().find(|m| m.name == name).unwrap();
        map.initial_values.clone()
    };
    let (dispatched, _) = function(&module, "dispatched");
    assert_eq!(values("programs"), [None, Some(InitialValue::Program(dispatched))]);
    assert_eq!(
        values("named"),
        [
            Some(InitialValue::Map(MapIndex(1))),
            None,
            Some(InitialValue::Map(MapIndex(2)))
        ]
    );
    assert_eq!(values("unnamed"), []);
    assert_eq!(values("counters"), []);
}

#[test]
fn globals_are_read_with_their_initial_values() {
    let module = maps();
    let found: Vec<_> = module
        .globals
        .iter()
        .map(|g| (g.section.as_str(), g.data.as_slice(), g.read_only))
        .collect();
    assert_eq!(
        found,
        [
            (".data", &[0x44, 0x33, 0x22, 0x11, 7, 0, 0, 0][..], false),
            (".rodata", &[3, 0], true),
            (".rodata.table", &[1, 2, 3], true),
            (".rodata.str1.1", b"none\0", true),
            (".bss", &[0; 8], false),
        ]
    );
    // `limit`, by its symbol; `step` behind it, by the section's.
    let offset = |name: &str| {
        let (_, function) = function(&module, name);
        function.instructions.iter().find_map(|i| match i.op {
            Instruction::LoadImm64 {
                value: Imm64::Global { section, offset },
                ..
            } => Some((section.0, offset)),
            _ => None,
        })
    };
    assert_eq!(offset("shared"), Some((0, 0)));
    assert_eq!(offset("hidden"), Some((0, 4)));
}

#[test]
fn each_instruction_has_its_source_line() {
    let module = maps();
    for function in &module.functions {
        for insn in &function.instructions {
            let line = module
                .line(insn)
                .unwrap_or_else(|| panic!("{} {}", function.name, insn.slot));
            assert!(line.file.ends_with("maps.c"));
        }
    }
    let (_, hidden) = function(&module, "hidden");
    let line = module.line(&hidden.instructions[0]).unwrap();
    assert!(
        line.text.starts_with("static NOINLINE int hidden(int value)"),
        "{line:?}"
    );
    let source: Vec<&str> = include_str!("../../tests/fixtures/maps.c").lines().collect();
    for line in module.lines.iter().filter(|l| l.line != 0) {
        assert_eq!(source[line.line as usize - 1], line.text);
    }
    let unique: std::collections::HashSet<_> = module.lines.iter().collect();
    assert_eq!(unique.len(), module.lines.len());
}

#[test]
fn legacy_records_are_read() {
    let module = read(LEGACY, "legacy.o").unwrap();
    let found: Vec<_> = module
        .maps
        .iter()
        .map(|m| {
            (
                m.name.as_str(),
                m.definition.map_type,
                m.inner.map(|i| i.0),
                m.definition.id,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("by_id", 7, Some(2), 0),
            ("by_index", 6, Some(3), 0),
            ("plain", 1, None, 10),
            ("last", 2, None, 11)
        ]
    );
    assert!(module.lines.is_empty());
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    for (object, expected) in [
        (
            &include_bytes!("../../tests/fixtures/relocatable.o")[..],
            "section `.BTF.ext`: the object has CO-RE relocations, and Windows has no such types; build it without \
             `preserve_access_index`",
        ),
        (
            include_bytes!("../../tests/fixtures/unresolved.o"),
            "section `xdp` at 0x8: `elsewhere`: the function is not defined in this object",
        ),
        (
            include_bytes!("../../tests/fixtures/address.o"),
            "section `.data` at 0x0: a global variable is initialised with an address",
        ),
        (
            include_bytes!("../../tests/fixtures/callback.o"),
            "section `xdp` at 0x0: the address of a function is taken, which is not done yet",
        ),
    ] {
        let error = read(object, "object.o").map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let kfunc = [0x85, 0x20, 0, 0, 7, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let object = crate::testing::Object::with_program(&kfunc).build();
    assert_eq!(
        read(&object, "object.o").map(|_| ()).unwrap_err().to_string(),
        "section `xdp` at 0x0: `entry`: instruction 85 20 00 00 07 00 00 00: a call by BTF id; only functions that the object declares \
         by name can be called"
    );
}

/// What later steps rely on.
fn assert_invariants(module: &Module) {
    for function in &module.functions {
        assert!(!function.instructions.is_empty());
        for (index, insn) in function.instructions.iter().enumerate() {
            if insn.op.jump_offset().is_some() {
                assert!(function.jump_target(crate::InsnIndex(index as u32)).is_some());
            }
            match insn.op {
                Instruction::Call(Callee::Local(callee)) => assert!(callee.index() < module.functions.len()),
                Instruction::Call(Callee::Btf(function)) => assert!(function.index() < module.btf_functions.len()),
                Instruction::LoadImm64 {
                    value: Imm64::Map(map), ..
                } => assert!(map.index() < module.maps.len()),
                Instruction::LoadImm64 {
                    value: Imm64::Global { section, offset },
                    ..
                } => assert!(offset as usize <= module.globals[section.index()].data.len()),
                _ => {}
            }
            assert!(insn.line.is_none_or(|l| l.index() < module.lines.len()));
        }
    }
    for map in &module.maps {
        assert!(map.inner.is_none_or(|i| i.index() < module.maps.len()));
        for value in map.initial_values.iter().flatten() {
            match value {
                InitialValue::Map(map) => assert!(map.index() < module.maps.len()),
                InitialValue::Program(function) => {
                    assert_eq!(module.function(*function).kind, FunctionKind::Program);
                }
            }
        }
    }
    assert!(module.btf_functions.is_sorted_by(|a, b| a < b));
    assert!(
        module
            .btf_functions
            .iter()
            .all(|f| f.module != crate::Guid::ZERO && !f.name.is_empty())
    );
    for global in &module.globals {
        assert!(matches!(module.maps[global.map.index()].origin, MapOrigin::Global(_)));
        assert!(!global.data.is_empty());
    }
}

#[test]
fn objects_cut_anywhere_are_survived() {
    for object in [MAPS, LEGACY, KSYMS, JOINED, TEXT_ONLY] {
        for length in 0..object.len() {
            // The section headers stand at the end, so nothing is left to read.
            assert!(read(&object[..length], "cut.o").is_err(), "{length}");
        }
    }
}

#[test]
fn objects_changed_anywhere_are_survived() {
    let mut read_anyway = 0;
    for object in [MAPS, LEGACY, KSYMS, JOINED, TEXT_ONLY] {
        for offset in 0..object.len() {
            let mut changed = object.to_vec();
            changed[offset] ^= [0x01, 0x80, 0xff][offset % 3];
            if let Ok(module) = read(&changed, "changed.o") {
                assert_invariants(&module);
                read_anyway += 1;
            }
        }
    }
    assert!(
        read_anyway > 1_000,
        "changes that do not matter must stay readable: {read_anyway}"
    );
}

#[test]
fn objects_changed_in_many_places_are_survived() {
    // A fixed sequence (xorshift), so that a failure can be repeated.
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..6_000 {
        let mut changed = [MAPS, KSYMS, MAPS, JOINED][round % 4].to_vec();
        for _ in 0..=next(8) {
            // Four bytes at once: sizes, offsets and type ids become another plausible or a huge number.
            let offset = next(changed.len() / 4) * 4;
            let value = [0, 1, 7, 0xffff_ffff, 0x8000_0000, next(300) as u32][next(6)];
            changed[offset..offset + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        if let Ok(module) = read(&changed, "changed.o") {
            assert_invariants(&module);
        }
    }
}
