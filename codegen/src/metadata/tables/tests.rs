//! The tables of a module, field by field.

use bpf2sys_bytecode::{
    BtfFunction, FunctionIndex, GlobalIndex, GlobalSection, HashAlgorithm, Imm64, InitialValue, Instruction, MapIndex,
    Module, Pinning,
};
use bpf2sys_platform::Platform;

use crate::testing::{
    At, EXIT, View, btf, btf_function, call, helper, lddw_map, lower, map, module, mov, offering, program, r,
    subprogram, trusted,
};
use crate::{LowerError, Options, RuntimeLevel};

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
    let expected = |ids: &[u32]| {
        let ids = ids.iter().copied();
        platform
            .program_info_hash(HashAlgorithm::Sha256, bind, ids, [])
            .unwrap()
    };
    let hash = |position: usize| view.bytes(view.pointer(("programs", 160 * position + 120)).unwrap(), 32);
    assert_eq!(hash(0), expected(&[19]));
    assert_eq!(hash(1), expected(&[]));
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
    let expected: [(&str, &[Option<&str>]); 2] = [("outer", &[Some("inner")]), ("programs", &[None, Some("zebra")])];
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
    assert_eq!(view.section("hash").data, module.hash.unwrap().digest);
    assert_eq!(getter(&view, "hash_list"), (("hash", 0), 32));
}

#[test]
fn the_metadata_table_names_all_getters() {
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
}

/// The entries of the table of BTF-resolved functions of the program at `position`: GUIDs and names.
fn btf_table(view: &View<'_>, position: usize) -> Vec<(Vec<u8>, String)> {
    let count = view.number(("programs", 160 * position + 152), 8) as usize;
    let first = view.pointer(("programs", 160 * position + 144));
    assert_eq!(first.is_some(), count > 0);
    let entries = first.into_iter().flat_map(|(section, at)| {
        (0..count).map(move |entry| {
            let field = |offset| (section, at + 48 * entry + offset);
            let header = [0, 8, 16].map(|offset| view.number(field(offset), 8));
            assert_eq!((section, header), (".rdata", [1, 48, 48]));
            (view.bytes(field(32), 16).to_vec(), view.string(field(24)))
        })
    });
    entries.collect()
}

fn lower_for(
    module: &Module,
    runtime: RuntimeLevel,
    hash: Option<HashAlgorithm>,
) -> Result<bpf2sys_pe_emit::NativeObject, LowerError> {
    let mut module = module.clone();
    module.hash = hash.map(|algorithm| algorithm.of(b"the object"));
    let platform = offering(&module.btf_functions);
    let options = Options {
        runtime,
        ..Options::default()
    };
    crate::lower(&trusted(module), &platform, &options).map(|lowered| lowered.object)
}

fn functions_of_other_modules() -> Vec<BtfFunction> {
    vec![
        btf_function(1, "zoom"),
        btf_function(2, "area"),
        btf_function(2, "areas"),
        btf_function(3, "area"),
    ]
}

#[test]
fn a_program_lists_the_functions_of_other_modules_that_it_calls_by_guid_and_name() {
    let all = functions_of_other_modules();
    let mut module = module(vec![
        program("a", "bind", &[btf(3), btf(0), btf(2), btf(0), EXIT]),
        program("b", "bind", &[btf(1), EXIT]),
        program("c", "bind", &[mov(0, 0), EXIT]),
    ]);
    module.btf_functions.clone_from(&all);
    let object = lower_for(&module, RuntimeLevel::V1_6, Some(HashAlgorithm::Sha384)).unwrap();
    let view = View(&object);
    let platform = offering(&all);
    let (bind, _) = platform.program_type_for_section("bind").unwrap();
    for (position, expected) in [&[0, 2, 3][..], &[1], &[]].into_iter().enumerate() {
        let expected: Vec<&BtfFunction> = expected.iter().map(|index| &all[*index]).collect();
        let table: Vec<_> = expected.iter().map(|f| (f.module.0.to_vec(), f.name.clone())).collect();
        assert_eq!(btf_table(&view, position), table);
        let hashed = expected.iter().map(|f| (f.module, f.name.as_str()));
        let hash = platform.program_info_hash(HashAlgorithm::Sha384, bind, [], hashed);
        let stated = view.pointer(("programs", 160 * position + 120)).unwrap();
        assert_eq!(view.bytes(stated, 48), hash.unwrap());
    }
}

#[test]
fn with_subprograms_all_programs_have_the_same_slots_for_functions_of_other_modules() {
    let all = functions_of_other_modules();
    let mut module = module(vec![
        program("a", "bind", &[call(3), btf(2), EXIT]),
        program("b", "bind", &[btf(1), EXIT]),
        program("c", "bind", &[mov(0, 0), EXIT]),
        subprogram("sub", &[btf(1), EXIT]),
    ]);
    module.btf_functions.clone_from(&all);
    let object = lower_for(&module, RuntimeLevel::V1_6, Some(HashAlgorithm::Sha256)).unwrap();
    let view = View(&object);
    let hole = (vec![0; 16], String::new());
    let entry = |index: usize| (all[index].module.0.to_vec(), all[index].name.clone());
    assert_eq!(btf_table(&view, 0), [entry(1), entry(2)]);
    assert_eq!(btf_table(&view, 1), [entry(1), hole.clone()]);
    assert_eq!(btf_table(&view, 2), [hole.clone(), hole]);
    // A table of holes is hashed like none.
    let platform = Platform::builtin();
    let (bind, _) = platform.program_type_for_section("bind").unwrap();
    let hash = platform.program_info_hash(HashAlgorithm::Sha256, bind, [], []);
    let stated = view.pointer(("programs", 320 + 120)).unwrap();
    assert_eq!(view.bytes(stated, 32), hash.unwrap());
}

#[test]
fn each_runtime_level_has_its_version_and_program_entries() {
    let cases = [
        (RuntimeLevel::V0_21, [1, 3, 0], 144, 144),
        (RuntimeLevel::V1_4, [1, 4, 0], 144, 144),
        (RuntimeLevel::V1_6, [1, 6, 0], 154, 160),
    ];
    for (level, version, size, stride) in cases {
        let object = lower_for(&example(), level, Some(HashAlgorithm::Sha256)).unwrap();
        let view = View(&object);
        let (section, at) = view.symbol("module_version");
        let stated = [0, 4, 8].map(|offset| view.number((section, at + offset), 4) as u32);
        assert_eq!(stated, version, "{level}");
        assert_eq!(stated, level.stated_version());
        assert_eq!(view.section("programs").data.len(), 2 * stride as usize, "{level}");
        for (position, name) in ["Apple", "zebra"].into_iter().enumerate() {
            let field = |offset| ("programs", stride as usize * position + offset);
            assert_eq!(
                (view.number(field(16), 8), view.number(field(24), 8)),
                (size, stride),
                "{level}"
            );
            assert_eq!(view.string(field(56)), name, "{level}");
            assert_eq!(view.string(field(136)), "SHA256", "{level}");
        }
    }
}

#[test]
fn calls_of_functions_of_other_modules_need_runtime_1_6() {
    let mut module = module(vec![program("p", "bind", &[mov(1, 0), btf(0), EXIT])]);
    module.btf_functions = vec![btf_function(7, "far")];
    assert!(lower_for(&module, RuntimeLevel::V1_6, None).is_ok());
    for level in [RuntimeLevel::V0_21, RuntimeLevel::V1_4] {
        let error = lower_for(&module, level, None).unwrap_err();
        let expected = format!(
            "function `p`, instruction 1: calls `far` of another module (BTF-resolved function), which runtime {level} does not \
             have; 1.6 is needed"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_function_that_nobody_offers_is_an_error() {
    let mut module = module(vec![program("p", "bind", &[btf(0), EXIT])]);
    module.btf_functions = vec![btf_function(7, "far")];
    let error = lower(module.clone()).unwrap_err();
    let expected =
        "function `p`, instruction 0: no provider offers `far` of module 07070707-0707-0707-0707-070707070707";
    assert_eq!(error.to_string(), expected);
    module.functions = vec![program("p", "bind", &[btf(1), EXIT])];
    assert!(matches!(lower(module), Err(LowerError::Instruction { .. })));
}

#[test]
fn without_hashes_there_is_neither_section_nor_pointer() {
    let object = lower_for(&example(), RuntimeLevel::V1_6, None).unwrap();
    let view = View(&object);
    assert!(!view.sections().contains(&"hash"));
    let (section, at) = view.symbol("hash_list");
    assert_eq!(
        (view.pointer((section, at)), view.number((section, at + 8), 8)),
        (None, 0)
    );
    for position in 0..2 {
        for field in [120, 128, 136] {
            let place = ("programs", 160 * position + field);
            assert_eq!((view.pointer(place), view.number(place, 8)), (None, 0), "{field}");
        }
    }
}

#[test]
fn each_algorithm_is_stated_by_name_with_digests_of_its_length() {
    let cases = [
        (HashAlgorithm::Sha256, "SHA256", 32),
        (HashAlgorithm::Sha384, "SHA384", 48),
        (HashAlgorithm::Sha512, "SHA512", 64),
    ];
    for (algorithm, name, length) in cases {
        let object = lower_for(&example(), RuntimeLevel::V1_6, Some(algorithm)).unwrap();
        let view = View(&object);
        assert_eq!(view.section("hash").data, algorithm.digest(b"the object"));
        assert_eq!(getter(&view, "hash_list"), (("hash", 0), length));
        let platform = Platform::builtin();
        let (bind, _) = platform.program_type_for_section("bind").unwrap();
        for (position, helpers) in [&[19][..], &[]].into_iter().enumerate() {
            let field = |offset| ("programs", 160 * position + offset);
            assert_eq!(view.number(field(128), 8), length);
            assert_eq!(view.string(field(136)), name);
            let hash = platform.program_info_hash(algorithm, bind, helpers.iter().copied(), []);
            let stated = view.bytes(view.pointer(field(120)).unwrap(), length as usize);
            assert_eq!(stated, hash.unwrap());
        }
    }
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

#[test]
fn counts_must_fit_sixteen_bits() {
    assert_eq!(super::narrow("things", 65535), Ok(u16::MAX));
    let error = super::narrow("things", 65536).unwrap_err();
    assert_eq!(
        error.to_string(),
        "things: 65536 entries; the table takes at most 65535"
    );
}

/// The one program of an object without subprograms may lie in `.text`.
#[test]
fn a_lone_program_in_text_lies_beside_the_driver() {
    let object = lower(module(vec![program("alone", ".text", &[mov(0, 0), EXIT])])).unwrap();
    let view = View(&object);
    assert_eq!(view.sections(), [".text", ".rdata", "programs", ".data", "hash"]);
    for field in [40, 48] {
        assert_eq!(view.string(("programs", field)), ".text");
    }
    assert_eq!(view.pointer(("programs", 32)), Some(view.symbol("alone")));
    assert_eq!(view.symbol("alone").0, ".text");
}
