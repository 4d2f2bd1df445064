//! Fills the metadata tables.
//!
//! Given: the module, with its code placed.
//! Computed: sections `maps`, `programs` and `hash`, and what they point to in `.rdata` and `.data`.
//! Safe because: names, counts and sizes were checked ([`check_module`](super::check_module)), and the layout rules of the
//! native module contract §0 and §5 are kept: programs sorted by name, tables alone in their sections, names in `.rdata`,
//! GUIDs in `.data`.

use std::collections::BTreeMap;
use std::mem::offset_of;

use bpf2sys_bytecode::{InitialValue, Map};
use bpf2sys_pe_emit::SectionIndex;
use bpf2sys_platform::{Guid, Platform};
use bpf2sys_verifier::{VerifiedModule, VerifiedProgram};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::HelperTables;
use super::layout::{
    GlobalSection, HelperEntry, List, MapDefinition, MapEntry, MapInitialValues, MetadataTable, Pointer, ProgramEntry,
    Version,
};
use super::map_references::referenced_maps;
use crate::compile::Target;
use crate::error::{LowerError, ModuleProblem};
use crate::object::{Address, ObjectWriter, Spot};

/// The version that the module states: `map_data` elements are 40 bytes and carry `array_data` (contract §1.3).
const VERSION: Version = Version {
    major: U32::new(1),
    minor: U32::new(6),
    revision: U32::ZERO,
};

/// CNG's name of the algorithm of `program_info_hash`.
const HASH_ALGORITHM: &str = "SHA256";

/// Where the tables go, and what they say.
pub(crate) struct Tables<'a> {
    /// The module.
    pub(crate) verified: &'a VerifiedModule,
    /// Its platform.
    pub(crate) platform: &'a Platform,
    /// Helper slots.
    pub(crate) helpers: &'a HelperTables,
    /// PE section name of each program.
    pub(crate) program_sections: &'a [String],
    /// `.rdata`
    pub(crate) constants: SectionIndex,
    /// `maps`; `None` without maps
    pub(crate) maps: Option<SectionIndex>,
    /// `programs`; `None` without programs
    pub(crate) programs: Option<SectionIndex>,
    /// `.data`
    pub(crate) variables: SectionIndex,
    /// `hash`
    pub(crate) hash: SectionIndex,
}

/// Adds all tables, and the names by which the skeleton's getters find them.
pub(crate) fn build(tables: &Tables<'_>, object: &mut ObjectWriter) -> Result<(), LowerError> {
    let map_list = tables.maps(object);
    let program_list = tables.programs(object)?;
    let initial_value_list = tables.initial_values(object);
    let global_section_list = tables.globals(object);
    let sha256 = &tables.verified.module().sha256;
    let hash = object.bytes(tables.hash, 1, sha256);
    tables.list(object, "map_list", map_list);
    tables.list(object, "program_list", program_list);
    tables.list(object, "initial_value_list", initial_value_list);
    tables.list(object, "global_section_list", global_section_list);
    tables.list(object, "hash_list", Some((hash, sha256.len())));
    let version = object.structure(tables.constants, &VERSION);
    object.define("module_version", version);
    tables.metadata_table(object)
}

/// The first element of an array, and how many there are; `None` when empty.
type Array = Option<(Spot, usize)>;

impl Tables<'_> {
    fn maps(&self, object: &mut ObjectWriter) -> Array {
        let section = self.maps?;
        let module = self.verified.module();
        let spots: Vec<Spot> = module
            .maps
            .iter()
            .map(|map| {
                let spot = object.structure(section, &map_entry(map));
                self.point_to_string(object, spot.field(offset_of!(MapEntry, name)), &map.name);
                spot
            })
            .collect();
        array(&spots)
    }

    fn programs(&self, object: &mut ObjectWriter) -> Result<Array, LowerError> {
        let Some(section) = self.programs else { return Ok(None) };
        let module = self.verified.module();
        let mut order: Vec<usize> = (0..self.verified.programs().len()).collect();
        let name = |position: &usize| {
            let function = self.verified.programs()[*position].function;
            module.function(function).name.as_bytes()
        };
        order.sort_by(|a, b| name(a).cmp(name(b)));
        let mut guids = BTreeMap::new();
        let mut spots = Vec::with_capacity(order.len());
        for position in order {
            spots.push(self.program(object, section, position, &mut guids)?);
        }
        Ok(array(&spots))
    }

    fn program(
        &self,
        object: &mut ObjectWriter,
        section: SectionIndex,
        position: usize,
        guids: &mut BTreeMap<Guid, Spot>,
    ) -> Result<Spot, LowerError> {
        let program = &self.verified.programs()[position];
        let function = self.verified.module().function(program.function);
        let maps = referenced_maps(self.verified.module(), program);
        let maps: Vec<U16> = maps
            .iter()
            .map(|map| Ok(U16::new(narrow("maps of a module", map.index())?)))
            .collect::<Result<_, ModuleProblem>>()?;
        let helpers = self.helpers.of_program(position);
        let entry = ProgramEntry {
            marker: U64::ZERO,
            header: ProgramEntry::HEADER,
            function: Pointer::default(),
            pe_section_name: Pointer::default(),
            section_name: Pointer::default(),
            program_name: Pointer::default(),
            referenced_map_indices: Pointer::default(),
            referenced_map_count: U16::new(narrow("maps of a program", maps.len())?),
            padding0: [0; 6],
            helpers: Pointer::default(),
            helper_count: U16::new(narrow("helpers of a program", helpers.len())?),
            padding1: [0; 6],
            bpf_instruction_count: U64::new(u64::from(function.slots())),
            program_type: Pointer::default(),
            expected_attach_type: Pointer::default(),
            program_info_hash: Pointer::default(),
            program_info_hash_length: U64::new(32),
            program_info_hash_type: Pointer::default(),
            btf_resolved_functions: Pointer::default(),
            btf_resolved_function_count: U16::ZERO,
            padding2: [0; 6],
        };
        let spot = object.structure(section, &entry);
        let code = object.address_of(&Target::Function(program.function))?;
        object.point(spot.field(offset_of!(ProgramEntry, function)), code);
        for (field, text) in [
            (
                offset_of!(ProgramEntry, pe_section_name),
                self.program_sections[position].as_str(),
            ),
            (offset_of!(ProgramEntry, section_name), &function.section),
            (offset_of!(ProgramEntry, program_name), &function.name),
            (offset_of!(ProgramEntry, program_info_hash_type), HASH_ALGORITHM),
        ] {
            self.point_to_string(object, spot.field(field), text);
        }
        if !maps.is_empty() {
            let indices = object.bytes(self.constants, 2, maps.as_bytes());
            object.point(
                spot.field(offset_of!(ProgramEntry, referenced_map_indices)),
                object.address(indices),
            );
        }
        if let Some((first, _)) = self.helper_table(object, helpers) {
            object.point(spot.field(offset_of!(ProgramEntry, helpers)), object.address(first));
        }
        for (field, guid) in [
            (offset_of!(ProgramEntry, program_type), program.program_type.guid),
            (offset_of!(ProgramEntry, expected_attach_type), program.attach_type),
        ] {
            let place = *guids
                .entry(guid)
                .or_insert_with(|| object.bytes(self.variables, 8, &guid.0));
            object.point(spot.field(field), object.address(place));
        }
        let hash = self.program_info_hash(program, helpers)?;
        let hash = object.bytes(self.constants, 8, &hash);
        object.point(
            spot.field(offset_of!(ProgramEntry, program_info_hash)),
            object.address(hash),
        );
        Ok(spot)
    }

    fn program_info_hash(&self, program: &VerifiedProgram, helpers: &[Option<u32>]) -> Result<[u8; 32], LowerError> {
        self.platform
            .program_info_hash(&program.program_type, helpers.iter().flatten().copied())
            .map_err(|e| LowerError::Internal(e.to_string()))
    }

    fn helper_table(&self, object: &mut ObjectWriter, helpers: &[Option<u32>]) -> Array {
        // Names first: they are strings of the same section, and the table must be contiguous.
        let names: Vec<Spot> = helpers
            .iter()
            .map(|id| {
                let name = id.map_or_else(String::new, |id| format!("helper_id_{id}"));
                object.string(self.constants, &name)
            })
            .collect();
        let spots: Vec<Spot> = helpers
            .iter()
            .zip(names)
            .map(|(id, name)| {
                let entry = HelperEntry {
                    header: HelperEntry::HEADER,
                    helper_id: U32::new(id.unwrap_or(0)),
                    padding: [0; 4],
                    name: Pointer::default(),
                };
                let spot = object.structure(self.constants, &entry);
                object.point(spot.field(offset_of!(HelperEntry, name)), object.address(name));
                spot
            })
            .collect();
        array(&spots)
    }

    /// Maps with initial values, by name.
    fn initial_values(&self, object: &mut ObjectWriter) -> Array {
        let module = self.verified.module();
        let mut maps: Vec<&Map> = module.maps.iter().filter(|m| !m.initial_values.is_empty()).collect();
        maps.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        let values: Vec<Spot> = maps.iter().map(|map| self.slots(object, map)).collect();
        for map in &maps {
            object.string(self.constants, &map.name);
        }
        let spots: Vec<Spot> = maps
            .iter()
            .zip(values)
            .map(|(map, values)| {
                let entry = MapInitialValues {
                    header: MapInitialValues::HEADER,
                    map_name: Pointer::default(),
                    count: U64::new(map.initial_values.len() as u64),
                    values: Pointer::default(),
                };
                let spot = object.structure(self.constants, &entry);
                self.point_to_string(object, spot.field(offset_of!(MapInitialValues, map_name)), &map.name);
                object.point(spot.field(offset_of!(MapInitialValues, values)), object.address(values));
                spot
            })
            .collect();
        array(&spots)
    }

    /// The array of names that a map's slots hold at load; null for an empty slot.
    fn slots(&self, object: &mut ObjectWriter, map: &Map) -> Spot {
        let module = self.verified.module();
        let slots = object.bytes(self.constants, 8, &vec![0; 8 * map.initial_values.len()]);
        for (slot, value) in map.initial_values.iter().enumerate() {
            let name = match value {
                None => continue,
                Some(InitialValue::Map(index)) => &module.maps[index.index()].name,
                Some(InitialValue::Program(index)) => &module.function(*index).name,
            };
            self.point_to_string(object, slots.field(8 * slot), name);
        }
        slots
    }

    fn globals(&self, object: &mut ObjectWriter) -> Array {
        let module = self.verified.module();
        let data: Vec<Spot> = module
            .globals
            .iter()
            .map(|global| {
                object.string(self.constants, &module.maps[global.map.index()].name);
                object.bytes(self.constants, 16, &global.data)
            })
            .collect();
        let spots: Vec<Spot> = module
            .globals
            .iter()
            .zip(data)
            .map(|(global, data)| {
                let entry = GlobalSection {
                    header: GlobalSection::HEADER,
                    map_name: Pointer::default(),
                    size: U64::new(global.data.len() as u64),
                    initial_data: Pointer::default(),
                };
                let spot = object.structure(self.constants, &entry);
                let name = &module.maps[global.map.index()].name;
                self.point_to_string(object, spot.field(offset_of!(GlobalSection, map_name)), name);
                object.point(
                    spot.field(offset_of!(GlobalSection, initial_data)),
                    object.address(data),
                );
                spot
            })
            .collect();
        array(&spots)
    }

    /// The pair that a getter hands out.
    fn list(&self, object: &mut ObjectWriter, name: &str, array: Array) {
        let list = List {
            first: Pointer::default(),
            count: U64::new(array.map_or(0, |(_, count)| count as u64)),
        };
        let spot = object.structure(self.constants, &list);
        if let Some((first, _)) = array {
            object.point(spot.field(offset_of!(List, first)), object.address(first));
        }
        object.define(name, spot);
    }

    fn metadata_table(&self, object: &mut ObjectWriter) -> Result<(), LowerError> {
        let table = MetadataTable {
            size: U64::new(size_of::<MetadataTable>() as u64),
            programs: Pointer::default(),
            maps: Pointer::default(),
            hash: Pointer::default(),
            version: Pointer::default(),
            map_initial_values: Pointer::default(),
            global_variable_sections: Pointer::default(),
        };
        let spot = object.structure(self.constants, &table);
        for (field, getter) in [
            (offset_of!(MetadataTable, programs), "get_programs"),
            (offset_of!(MetadataTable, maps), "get_maps"),
            (offset_of!(MetadataTable, hash), "get_hash"),
            (offset_of!(MetadataTable, version), "get_version"),
            (offset_of!(MetadataTable, map_initial_values), "get_map_initial_values"),
            (
                offset_of!(MetadataTable, global_variable_sections),
                "get_global_variable_sections",
            ),
        ] {
            let getter: Address = object.address_of(&Target::Named(getter.to_owned()))?;
            object.point(spot.field(field), getter);
        }
        object.define("metadata_table", spot);
        Ok(())
    }

    fn point_to_string(&self, object: &mut ObjectWriter, field: Spot, text: &str) {
        let text = object.string(self.constants, text);
        object.point(field, object.address(text));
    }
}

fn map_entry(map: &Map) -> MapEntry {
    let d = &map.definition;
    MapEntry {
        marker: [U64::ZERO; 2],
        header: MapEntry::HEADER,
        definition: MapDefinition {
            map_type: U32::new(d.map_type),
            key_size: U32::new(d.key_size),
            value_size: U32::new(d.value_size),
            max_entries: U32::new(d.max_entries),
            inner_map_idx: U32::new(d.inner_map_idx),
            pinning: U32::new(d.pinning as u32),
            id: U32::new(d.id),
            inner_id: U32::new(d.inner_id),
        },
        name: Pointer::default(),
    }
}

/// Structures appended one after the other, as an array.
fn array(spots: &[Spot]) -> Array {
    spots.first().map(|first| (*first, spots.len()))
}

/// A count or index in the 16 bits that the table has for it.
fn narrow(what: &'static str, count: usize) -> Result<u16, ModuleProblem> {
    u16::try_from(count).map_err(|_| ModuleProblem::TooMany {
        what,
        count,
        limit: usize::from(u16::MAX),
    })
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{
        FunctionIndex, GlobalIndex, GlobalSection, Imm64, InitialValue, Instruction, MapIndex, Module, Pinning,
    };
    use bpf2sys_platform::Platform;

    use crate::testing::{At, EXIT, View, call, helper, lddw_map, lower, map, module, mov, program, r, subprogram};

    /// Two programs out of order, a subprogram, four maps, a global section and initial values.
    fn example() -> Module {
        let global = Instruction::LoadImm64 {
            dst: r(1),
            value: Imm64::Global {
                section: GlobalIndex(0),
                offset: 2,
            },
        };
        let mut module = module(vec![
            program(
                "zebra",
                "bind/long_name",
                &[lddw_map(1, 3), lddw_map(2, 1), lddw_map(1, 3), mov(0, 0), EXIT],
            ),
            program("Apple", "bind", &[call(2), mov(0, 0), EXIT]),
            subprogram("sub", &[global, helper(19), mov(0, 0), EXIT]),
        ]);
        module.maps = vec![
            map("test.rodata", 2, 4, 5),
            map("outer", 6, 4, 4),
            map("inner", 1, 8, 16),
            map("programs", 3, 4, 4),
        ];
        module.maps[0].definition.max_entries = 1;
        module.maps[1].definition.inner_id = 77;
        module.maps[1].definition.pinning = Pinning::ByName;
        module.maps[1].inner = Some(MapIndex(2));
        module.maps[1].initial_values = vec![Some(InitialValue::Map(MapIndex(2)))];
        module.maps[2].definition.id = 77;
        module.maps[3].initial_values = vec![None, Some(InitialValue::Program(FunctionIndex(0)))];
        module.globals = vec![GlobalSection {
            section: ".rodata".to_owned(),
            map: MapIndex(0),
            data: b"hello".to_vec(),
            read_only: true,
        }];
        module
    }

    fn getter<'a>(view: &View<'a>, list: &str) -> (At<'a>, u64) {
        let (section, at) = view.symbol(list);
        (view.pointer((section, at)).unwrap(), view.number((section, at + 8), 8))
    }

    #[test]
    fn programs_are_sorted_by_name_and_say_what_they_are() {
        let object = lower(example()).unwrap();
        let view = View(&object);
        assert_eq!(view.section("programs").data.len(), 2 * 160);
        assert_eq!(getter(&view, "program_list"), (("programs", 0), 2));
        let platform = Platform::builtin();
        let (bind, point) = platform.program_type_for_section("bind").unwrap();
        let expected = [
            ("Apple", "bind", "bind", 3, &[0_u16][..]),
            ("zebra", "bind/long_name", "bind/l~1", 8, &[1, 3]),
        ];
        for (position, (name, section, pe_section, slots, maps)) in expected.into_iter().enumerate() {
            let field = |offset| ("programs", 160 * position + offset);
            assert_eq!(view.number(field(0), 8), 0);
            assert_eq!(view.number(field(8), 8), 1);
            assert_eq!((view.number(field(16), 8), view.number(field(24), 8)), (154, 160));
            assert_eq!(view.pointer(field(32)), Some((pe_section, 0)));
            assert_eq!(view.string(field(40)), pe_section);
            assert_eq!(view.string(field(48)), section);
            assert_eq!(view.string(field(56)), name);
            assert_eq!(view.number(field(72), 2) as usize, maps.len());
            let (place, at) = view.pointer(field(64)).unwrap();
            let indices: Vec<u16> = (0..maps.len())
                .map(|i| view.number((place, at + 2 * i), 2) as u16)
                .collect();
            assert_eq!(indices, maps);
            assert_eq!(view.number(field(88), 2), 1);
            assert_eq!(view.number(field(96), 8), slots, "slots of {name}");
            for (offset, guid) in [(104, bind.guid), (112, point.attach_type)] {
                let place = view.pointer(field(offset)).unwrap();
                assert_eq!((place.0, view.bytes(place, 16)), (".data", &guid.0[..]));
            }
            assert_eq!(view.number(field(128), 8), 32);
            assert_eq!(view.string(field(136)), "SHA256");
            assert_eq!((view.pointer(field(144)), view.number(field(152), 8)), (None, 0));
        }
        // Helper 19 belongs to Apple, through its subprogram; zebra has a hole in its place.
        let helpers = |position: usize| view.pointer(("programs", 160 * position + 80)).unwrap();
        for (position, id, name) in [(0, 19, "helper_id_19"), (1, 0, "")] {
            let (section, at) = helpers(position);
            assert_eq!(view.number((section, at), 8), 1);
            assert_eq!(
                (view.number((section, at + 8), 8), view.number((section, at + 16), 8)),
                (40, 40)
            );
            assert_eq!(view.number((section, at + 24), 4), id);
            assert_eq!(view.string((section, at + 32)), name);
        }
        let hash = |position: usize| view.bytes(view.pointer(("programs", 160 * position + 120)).unwrap(), 32);
        assert_eq!(hash(0), platform.program_info_hash(bind, [19]).unwrap());
        assert_eq!(hash(1), platform.program_info_hash(bind, []).unwrap());
    }

    #[test]
    fn maps_are_alone_in_their_section_and_named_in_rdata() {
        let object = lower(example()).unwrap();
        let view = View(&object);
        assert_eq!(view.section("maps").data.len(), 4 * 80);
        assert_eq!(getter(&view, "map_list"), (("maps", 0), 4));
        let fields = |position: usize| {
            (0..8)
                .map(|i| view.number(("maps", 80 * position + 40 + 4 * i), 4))
                .collect::<Vec<_>>()
        };
        assert_eq!(fields(0), [2, 4, 5, 1, 0, 0, 0, 0]);
        assert_eq!(fields(1), [6, 4, 4, 7, 0, 1, 0, 77]);
        assert_eq!(fields(2), [1, 8, 16, 7, 0, 0, 77, 0]);
        for (position, name) in ["test.rodata", "outer", "inner", "programs"].iter().enumerate() {
            let at = 80 * position;
            assert_eq!(view.bytes(("maps", at), 16), [0; 16]);
            assert_eq!(view.number(("maps", at + 16), 8), 1);
            assert_eq!(
                (view.number(("maps", at + 24), 8), view.number(("maps", at + 32), 8)),
                (80, 80)
            );
            assert_eq!(&view.string(("maps", at + 72)), name);
            assert_eq!(view.pointer(("maps", at + 72)).unwrap().0, ".rdata");
        }
    }

    #[test]
    fn initial_values_are_in_order_of_map_names_and_empty_slots_are_null() {
        let object = lower(example()).unwrap();
        let view = View(&object);
        let ((section, at), count) = getter(&view, "initial_value_list");
        assert_eq!(count, 2);
        let expected: [(&str, &[Option<&str>]); 2] =
            [("outer", &[Some("inner")]), ("programs", &[None, Some("zebra")])];
        for (position, (name, slots)) in expected.into_iter().enumerate() {
            let field = |offset| (section, at + 48 * position + offset);
            assert_eq!((view.number(field(8), 8), view.number(field(16), 8)), (48, 48));
            assert_eq!(view.string(field(24)), name);
            assert_eq!(view.number(field(32), 8) as usize, slots.len());
            let (values, first) = view.pointer(field(40)).unwrap();
            for (slot, value) in slots.iter().enumerate() {
                let place = (values, first + 8 * slot);
                assert_eq!(
                    view.pointer(place).map(|_| view.string(place)),
                    value.map(str::to_owned)
                );
            }
        }
    }

    #[test]
    fn globals_carry_their_bytes_and_the_hash_is_in_its_section() {
        let module = example();
        let object = lower(module.clone()).unwrap();
        let view = View(&object);
        let ((section, at), count) = getter(&view, "global_section_list");
        assert_eq!(count, 1);
        assert_eq!(
            (view.number((section, at + 8), 8), view.number((section, at + 16), 8)),
            (48, 48)
        );
        assert_eq!(view.string((section, at + 24)), "test.rodata");
        assert_eq!(view.number((section, at + 32), 8), 5);
        assert_eq!(view.bytes(view.pointer((section, at + 40)).unwrap(), 5), b"hello");
        assert_eq!(view.section("hash").data, module.sha256);
        assert_eq!(getter(&view, "hash_list"), (("hash", 0), 32));
    }

    #[test]
    fn the_metadata_table_names_all_getters_and_version_1_6_0() {
        let object = lower(example()).unwrap();
        let view = View(&object);
        let (section, at) = view.symbol("metadata_table");
        assert_eq!(view.number((section, at), 8), 56);
        for (position, getter) in [
            "get_programs",
            "get_maps",
            "get_hash",
            "get_version",
            "get_map_initial_values",
            "get_global_variable_sections",
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(
                view.pointer((section, at + 8 + 8 * position)),
                Some(view.symbol(getter))
            );
        }
        let version = view.symbol("module_version");
        assert_eq!(view.bytes(version, 12), [1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn empty_tables_are_null_and_have_no_section() {
        let object = lower(module(vec![program("p", "bind", &[mov(0, 0), EXIT])])).unwrap();
        let view = View(&object);
        assert_eq!(
            view.sections(),
            [".text", "bind", ".rdata", "programs", ".data", "hash"]
        );
        for list in ["map_list", "initial_value_list", "global_section_list"] {
            let (section, at) = view.symbol(list);
            assert_eq!(
                (view.pointer((section, at)), view.number((section, at + 8), 8)),
                (None, 0),
                "{list}"
            );
        }
        for (field, bytes) in [(64, 8), (72, 2), (80, 8), (88, 2)] {
            assert_eq!(view.number(("programs", field), bytes), 0);
            assert!(bytes == 2 || view.pointer(("programs", field)).is_none());
        }
        let object = lower(module(Vec::new())).unwrap();
        assert_eq!(View(&object).sections(), [".text", ".rdata", ".data", "hash"]);
    }
}
