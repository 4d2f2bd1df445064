//! Sections of global variables, each behind an array map of one entry.

use object::elf;

use super::MapTable;
use crate::btf::DataSection;
use crate::elf::{Elf, Section};
use crate::error::{Problem, ReadError};
use crate::linux::CONFIGURATION;
use crate::{GlobalIndex, GlobalSection, Map, MapDefinition, MapOrigin};

/// Largest section (native module contract §7).
const MAX_SECTION: u64 = 1 << 20;
/// Largest size of all sections together. `.bss` sections take no bytes in the file, so it does not bound them.
const MAX_TOTAL: u64 = 16 << 20;
/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// How many characters of the object's name begin the map's name (native module contract §7).
const PREFIX: usize = 7;

/// Whether a section holds global variables, by its name and type.
pub(super) fn is_global_section(section: &Section<'_>) -> bool {
    matches!(section.kind, elf::SHT_PROGBITS | elf::SHT_NOBITS)
        && [".rodata", ".data", ".bss"]
            .iter()
            .filter_map(|prefix| section.name.strip_prefix(prefix))
            .any(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Adds a section and its map. `description` is what BTF says about it.
pub(super) fn read(
    table: &mut MapTable,
    elf: &Elf<'_>,
    section: &Section<'_>,
    module: &str,
    description: Option<&DataSection>,
) -> Result<(), ReadError> {
    let fail = |problem| section.place().error(problem);
    let too_much = |what, limit| fail(Problem::TooMuch { what, limit });
    if section.size > MAX_SECTION {
        return Err(too_much("bytes in a section of global variables", MAX_SECTION));
    }
    table.global_bytes += section.size;
    if table.global_bytes > MAX_TOTAL {
        return Err(too_much("bytes of global variables", MAX_TOTAL));
    }
    // Compilers leave the size in BTF to the loader, as zero.
    if description.is_some_and(|d| d.size != 0 && u64::from(d.size) != section.size) {
        return Err(fail(Problem::Malformed("BTF gives another size for this section")));
    }
    if let Some(relocation) = elf.relocations(section)?.iter().find(|r| r.kind != elf::R_BPF_NONE.0) {
        return Err(section
            .place()
            .at(relocation.offset)
            .of_symbol(relocation.symbol.name)
            .error(Problem::Unsupported("a global variable is initialised with an address")));
    }
    let size = section.size as usize;
    let mut data = section.data.to_vec();
    data.resize(size, 0);
    let global = add(table, module, section.name, data, description.map_or(0, |d| d.id.0));
    table.by_section.insert(section.index, global);
    Ok(())
}

/// Adds a section with these bytes, and its map.
pub(super) fn add(table: &mut MapTable, module: &str, section: &str, data: Vec<u8>, id: u32) -> GlobalIndex {
    let (global, map) = (GlobalIndex(table.globals.len() as u32), table.next_index());
    table.maps.push(Map {
        name: module.chars().take(PREFIX).chain(section.chars()).collect(),
        definition: MapDefinition {
            map_type: ARRAY,
            key_size: 4,
            value_size: data.len() as u32,
            max_entries: 1,
            id,
            ..MapDefinition::default()
        },
        inner: None,
        origin: MapOrigin::Global(global),
        flags: 0,
        initial_values: Vec::new(),
    });
    table.globals.push(GlobalSection {
        section: section.to_owned(),
        map,
        data,
        read_only: section.starts_with(".rodata") || section == CONFIGURATION,
    });
    global
}

#[cfg(test)]
mod tests {
    use crate::testing::{DATA, EXIT, IMM64, OBJECT, Object, PROGBITS, Types};
    use crate::{Imm64, Instruction, Module, ReadError, read};

    /// A program that refers to the first byte of each section added to it.
    struct Referring(Object, Vec<(u64, u32, u32)>);

    impl Referring {
        fn new(sections: usize) -> Referring {
            let mut code = IMM64.repeat(sections);
            code.extend(EXIT);
            Referring(Object::with_program(&code), Vec::new())
        }

        fn refer_to(&mut self, section: u16) {
            let symbol = self.0.symbol("", OBJECT, section, 0, 0);
            self.1.push((self.1.len() as u64 * 16, 1, symbol));
        }

        fn read(mut self, name: &str) -> Result<Module, ReadError> {
            self.0.relocate(1, &self.1);
            read(&self.0.build(), name)
        }
    }

    #[test]
    fn each_kind_of_section_is_a_map_of_one_value() {
        let mut object = Referring::new(5);
        for (name, data) in [(".rodata", &[1, 2][..]), (".data", &[3; 3]), (".rodata.str1.1", b"x\0")] {
            let section = object.0.section(name, PROGBITS, DATA, data);
            object.refer_to(section);
        }
        let section = object.0.nobits(".bss", 5);
        object.refer_to(section);
        let section = object.0.nobits(".bss.more", 1);
        object.refer_to(section);
        let module = object.read("a/global_vars.debug.o").unwrap();
        let found: Vec<_> = module
            .globals
            .iter()
            .map(|g| {
                let map = &module.maps[g.map.index()];
                let d = map.definition;
                assert_eq!((d.map_type, d.key_size, d.max_entries), (2, 4, 1));
                assert_eq!(d.value_size as usize, g.data.len());
                (map.name.as_str(), g.section.as_str(), g.data.as_slice(), g.read_only)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("global_.rodata", ".rodata", &[1, 2][..], true),
                ("global_.data", ".data", &[3, 3, 3], false),
                ("global_.rodata.str1.1", ".rodata.str1.1", b"x\0", true),
                ("global_.bss", ".bss", &[0; 5], false),
                ("global_.bss.more", ".bss.more", &[0], false),
            ]
        );
    }

    #[test]
    fn compiled_variables_are_where_code_refers_to_them() {
        let module = read(include_bytes!("../../tests/fixtures/globals.o"), "globals.o").unwrap();
        let sections: Vec<_> = module
            .globals
            .iter()
            .map(|g| {
                let map = &module.maps[g.map.index()];
                assert_eq!(map.name, format!("globals{}", g.section));
                assert_eq!(map.definition.value_size as usize, g.data.len());
                (g.section.as_str(), g.data.len(), map.definition.id)
            })
            .collect();
        assert_eq!(
            sections,
            [
                (".data", 18, 40),
                (".rodata", 5, 43),
                (".data.config", 4, 41),
                (".rodata.table", 3, 44),
                // Only described.
                (".data.unused", 4, 42),
                // Only referred to.
                (".rodata.str1.1", 5, 0),
                (".bss", 12, 38),
                (".bss.extra", 4, 39),
                (".rodata.cst16", 16, 0),
            ]
        );
        // What each function refers to, by the bytes there.
        let referred = |name: &str| -> Vec<(&str, u8)> {
            let function = module.functions.iter().find(|f| f.name == name).unwrap();
            let constants = function.instructions.iter().filter_map(|i| match i.op {
                Instruction::LoadImm64 {
                    value: Imm64::Global { section, offset },
                    ..
                } => Some((&module.globals[section.index()], offset as usize)),
                _ => None,
            });
            constants
                .map(|(g, offset)| (g.section.as_str(), g.data[offset]))
                .collect()
        };
        assert_eq!(
            referred("entry"),
            [
                (".rodata", 3),
                (".rodata", 0x99),
                (".rodata.str1.1", b't'),
                (".bss", 0),
                (".bss.extra", 0),
                (".data", 0x44),
                (".bss", 0),
                (".data", 0x88),
            ]
        );
        assert_eq!(
            referred("pick"),
            [(".rodata.cst16", 5), (".rodata.table", 1), (".data.config", 9)]
        );
        assert_eq!(referred("other"), [(".data", 0x66)]);
    }

    #[test]
    fn refuses_variables_without_a_place() {
        let error = read(include_bytes!("../../tests/fixtures/common.o"), "common.o")
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "section `xdp` at 0x0: `shared`: a variable without a place in a section; compile with `-fno-common`"
        );
    }

    #[test]
    fn the_size_in_btf_must_be_the_sections_or_left_out() {
        for (stated, expected) in [
            (0, None),
            (4, None),
            (3, Some("section `.data`: BTF gives another size for this section")),
            (5, Some("section `.data`: BTF gives another size for this section")),
        ] {
            let mut types = Types::new();
            let int = types.int(4);
            let (value, zero) = (types.variable("value", int), types.variable("zero", int));
            types.data_section(".data", stated, &[value]);
            types.data_section(".bss", 8, &[zero]);
            let mut object = Object::with_program(&EXIT);
            object.section(".data", PROGBITS, DATA, &[1; 4]);
            // Described, but empty.
            object.nobits(".bss", 0);
            object.section(".BTF", PROGBITS, 0, &types.build());
            let module = read(&object.build(), "test.o");
            assert_eq!(module.as_ref().err().map(ToString::to_string).as_deref(), expected);
            assert!(module.is_err() || module.is_ok_and(|m| m.maps.len() == 1));
        }
    }

    #[test]
    fn a_section_that_nothing_refers_to_is_no_map() {
        let mut object = Referring::new(1);
        object.0.section(".rodata.str1.1", PROGBITS, DATA, b"unused\0");
        let section = object.0.section(".rodatabase", PROGBITS, DATA, &[1]);
        object.0.section(".rodata", 7, DATA, &[1]);
        object.refer_to(section);
        let error = object.read("test.o").map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "section `xdp` at 0x0: refers to section `.rodatabase`, which holds neither maps nor global variables"
        );
        let mut object = Object::with_program(&EXIT);
        object.section(".rodata.str1.1", PROGBITS, DATA, b"unused\0");
        assert!(read(&object.build(), "test.o").unwrap().maps.is_empty());
    }

    #[test]
    fn a_section_without_references_is_a_map_if_btf_names_a_variable_in_it() {
        // Compilers describe `.rodata` as empty if it holds nothing but constants without a name.
        let maps = |variables: usize| {
            let mut types = Types::new();
            let int = types.int(4);
            let variables: Vec<u32> = (0..variables).map(|_| types.variable("v", int)).collect();
            types.data_section(".rodata", 0, &variables);
            let mut object = Object::with_program(&EXIT);
            object.section(".rodata", PROGBITS, DATA, &[1; 4]);
            object.section(".BTF", PROGBITS, 0, &types.build());
            read(&object.build(), "test.o").unwrap().maps.len()
        };
        assert_eq!((maps(0), maps(1)), (0, 1));
    }

    #[test]
    fn memory_is_bounded() {
        let mut object = Referring::new(1);
        let section = object.0.nobits(".bss", (1 << 20) + 1);
        object.refer_to(section);
        let error = object.read("test.o").map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "section `.bss`: more than 1048576 bytes in a section of global variables"
        );
        let mut object = Referring::new(17);
        for number in 0..17 {
            let section = object.0.nobits(&format!(".bss.{number}"), 1 << 20);
            object.refer_to(section);
        }
        let error = object.read("test.o").map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "section `.bss.16`: more than 16777216 bytes of global variables"
        );
    }

    #[test]
    fn refuses_an_address_as_initial_value() {
        let mut object = Referring::new(1);
        let section = object.0.section(".data", PROGBITS, DATA, &[0; 16]);
        object.refer_to(section);
        object.0.relocate(section, &[(8, 2, 1)]);
        let error = object.read("test.o").map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "section `.data` at 0x8: `entry`: a global variable is initialised with an address"
        );
    }
}
