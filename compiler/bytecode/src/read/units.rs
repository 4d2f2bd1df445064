//! Objects that were linked from several translation units, against the object of the same code in one.

use std::collections::BTreeMap;

use super::read;
use crate::{Callee, Function, FunctionKind, Imm64, InitialValue, Instruction, MapOrigin, Module};

const LINKED: &[u8] = include_bytes!("../../tests/fixtures/units/linked.o");
const TOGETHER: &[u8] = include_bytes!("../../tests/fixtures/units/together.o");

/// A reference by what it leads to: where things stand is up to the linker. A global variable is known by its initial bytes, which differ
/// for all of a section in these objects.
fn instruction(module: &Module, op: &Instruction) -> String {
    match op {
        Instruction::Call(Callee::Local(callee)) => {
            let callee = module.function(*callee);
            format!("call {} of {} slots", plain(&callee.name), callee.slots())
        }
        Instruction::Call(Callee::Btf(function)) => format!("call {:?}", module.btf_functions[function.index()]),
        Instruction::LoadImm64 {
            dst,
            value: Imm64::Map(map),
        } => format!("{dst} = map {}", module.maps[map.index()].name),
        Instruction::LoadImm64 {
            dst,
            value: Imm64::Global { section, offset },
        } => {
            let global = &module.globals[section.index()];
            let rest = &global.data[*offset as usize..];
            format!("{dst} = {} {:?}", global.section, &rest[..rest.len().min(4)])
        }
        other => other.to_string(),
    }
}

/// The name that a static function has in its own translation unit.
fn plain(name: &str) -> &str {
    name.strip_prefix("second_")
        .filter(|_| name.ends_with("helper"))
        .unwrap_or(name)
}

type Code = Vec<(String, Option<String>)>;

/// What each function does and which source text it comes from.
fn functions(module: &Module) -> Vec<(&str, &str, FunctionKind, Code)> {
    let code = |function: &Function| {
        let insns = function.instructions.iter();
        insns
            .map(|i| (instruction(module, &i.op), module.line(i).map(|l| l.text.clone())))
            .collect()
    };
    let mut all: Vec<_> = module
        .functions
        .iter()
        .map(|f| (f.section.as_str(), plain(&f.name), f.kind, code(f)))
        .collect();
    all.sort_by(|a, b| (a.0, a.1, &a.3).cmp(&(b.0, b.1, &b.3)));
    all
}

/// What each map is; ids are the compiler's and the linker's own.
fn maps(module: &Module) -> BTreeMap<String, String> {
    let name = |index: crate::MapIndex| module.maps[index.index()].name.as_str();
    let describe = |map: &crate::Map| {
        let values: Vec<_> = map
            .initial_values
            .iter()
            .map(|value| match value {
                Some(InitialValue::Map(map)) => name(*map),
                Some(InitialValue::Program(program)) => &module.function(*program).name,
                None => "",
            })
            .collect();
        let d = map.definition;
        let kind = match map.origin {
            MapOrigin::Global(global) => {
                let mut bytes = module.globals[global.index()].data.clone();
                bytes.sort_unstable();
                format!("{bytes:?}")
            }
            other => format!("{other:?}"),
        };
        assert_eq!(
            d.inner_id,
            map.inner.map_or(0, |inner| module.maps[inner.index()].definition.id)
        );
        format!(
            "{} {} {} {} {:?} {kind} {:?} {values:?}",
            d.map_type,
            d.key_size,
            d.value_size,
            d.max_entries,
            d.pinning,
            map.inner.map(name)
        )
    };
    module.maps.iter().map(|m| (m.name.clone(), describe(m))).collect()
}

#[test]
fn linked_by_bpftool_they_equal_one_unit() {
    let (linked, together) = (read(LINKED, "units.o").unwrap(), read(TOGETHER, "units.o").unwrap());
    assert_eq!(functions(&linked), functions(&together));
    assert_eq!(functions(&linked).len(), 7);
    assert_eq!(maps(&linked), maps(&together));
    assert_eq!(linked.maps.len(), 8);
    assert_eq!(linked.btf_functions, together.btf_functions);
    // The extern map is described at offset 0 by the linker; its symbol says where it is.
    let order: Vec<_> = linked.maps.iter().map(|m| m.name.as_str()).take(4).collect();
    assert_eq!(order, ["outer", "flows", "other", "counters"]);
}

#[test]
fn joined_by_another_linker_they_equal_one_unit_where_everything_has_a_name() {
    let linked = read(include_bytes!("../../tests/fixtures/units/named_ld_r.o"), "units.o").unwrap();
    let together = read(include_bytes!("../../tests/fixtures/units/named_together.o"), "units.o").unwrap();
    assert_eq!(functions(&linked), functions(&together));
    assert_eq!(functions(&linked).len(), 5);
    assert!(
        linked
            .functions
            .iter()
            .flat_map(|f| &f.instructions)
            .all(|i| i.line.is_some())
    );
    assert_eq!(maps(&linked), maps(&together));
    assert_eq!(linked.btf_functions, together.btf_functions);
    let ids: BTreeMap<_, _> = linked.maps.iter().map(|m| (m.definition.id, &m.name)).collect();
    assert_eq!(ids.len(), linked.maps.len(), "{ids:?}");
}

const JOINED: &str =
    "the object was put together by a linker that does not know eBPF (`ld -r`): what this means cannot be told";

#[test]
fn joined_by_another_linker_they_are_refused_where_something_has_none() {
    let error = read(include_bytes!("../../tests/fixtures/units/ld_r.o"), "units.o")
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.to_string(), format!("section `.text` at 0x18: {JOINED}"));
}

mod without_types {
    use super::JOINED;
    use crate::read;
    use crate::testing::{CALL, DATA, EXEC, EXIT, FUNCTION, IMM64, OBJECT, Object, PROGBITS};

    /// `STB_LOCAL`, `STT_FILE`; `STT_SECTION`.
    const FILE: u8 = 0x04;
    const SECTION: u8 = 0x03;
    const ABSOLUTE: u16 = 0xfff1;

    /// A program that loads from `.data` and calls a function of `.text`, each by a symbol of this type, from this many source files.
    fn object(files: usize, variable: u8, function: u8) -> Object {
        let mut object = Object::with_program(&[&IMM64[..], &CALL, &EXIT].concat());
        for number in 0..files {
            object.symbol(&format!("{number}.c"), FILE, ABSOLUTE, 0, 0);
        }
        let text = object.section(".text", PROGBITS, EXEC, &EXIT);
        object.symbol("function", FUNCTION, text, 0, 8);
        let data = object.section(".data", PROGBITS, DATA, &[1; 8]);
        let symbols = [
            object.symbol("", variable, data, 0, 0),
            object.symbol("", function, text, 0, 0),
        ];
        object.relocate(1, &[(0, 1, symbols[0]), (16, 10, symbols[1])]);
        object
    }

    fn error(object: &Object) -> Option<String> {
        read(&object.build(), "test.o").err().map(|e| e.to_string())
    }

    #[test]
    fn references_by_name_are_right() {
        for files in 0..4 {
            assert_eq!(error(&object(files, OBJECT, 0x10)), None, "{files}");
        }
    }

    #[test]
    fn references_by_section_are_refused_from_two_source_files_on() {
        for files in 0..2 {
            assert_eq!(error(&object(files, SECTION, SECTION)), None, "{files}");
        }
        for (variable, function, offset) in [(SECTION, 0x10, "0x0"), (OBJECT, SECTION, "0x10")] {
            assert_eq!(
                error(&object(2, variable, function)),
                Some(format!("section `xdp` at {offset}: {JOINED}"))
            );
        }
    }

    #[test]
    fn merged_types_tell_that_the_linker_knows_ebpf() {
        let mut merged = object(2, SECTION, SECTION);
        let btf = merged.section(".BTF", PROGBITS, 0, &crate::testing::Types::new().build());
        assert_eq!(error(&merged), None);
        // As the compiler left them: with relocations.
        merged.relocate(btf, &[(0, 4, 1)]);
        assert!(error(&merged).is_some());
    }
}
