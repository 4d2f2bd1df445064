//! PREVAIL's own Linux platform, said in our terms.
//!
//! Given: the section names of an object. Computed: a [`Platform`] with one program type for each of them, its context,
//! helpers and privileges as PREVAIL has them for that section. `README.md` lists what our model has no place for; it
//! shows in the table of differences where it matters.

use std::sync::Arc;

use bpf2sys_bytecode::{Map, MapIndex, MapOrigin, Module};
use bpf2sys_platform::{
    AttachPoint, Context, Guid, Helper, Limits, MapRules, MapType, MapValueKind, Platform, ProgramType, SizeRule,
    VerifierOptions,
};
use prevail::elf_loader::read_elf;
use prevail::linux::linux_platform::LinuxPlatform;
use prevail::linux::spec_prototypes::{HelperPrototype, PROTOTYPES};
use prevail::platform::EbpfPlatform;
use prevail::spec::config::EbpfVerifierOptions;
use prevail::spec::ebpf_base::EbpfArgumentType as Argument;
use prevail::spec::type_descriptors::EbpfMapValueType;

/// Map types of Linux have these numbers.
const MAP_TYPES: std::ops::RangeInclusive<u32> = 0..=33;

/// The platform for programs in these sections, with or without the proof that loops end.
pub fn platform<'a>(sections: impl Iterator<Item = &'a str>, check_for_termination: bool) -> Platform {
    let defaults = EbpfVerifierOptions::default();
    Platform {
        program_types: sections.map(program_type).map(Arc::new).collect(),
        helpers: Vec::new(),
        btf_functions: Vec::new(),
        map_types: MAP_TYPES.map(map_type).collect(),
        map_argument_types: [
            Argument::PtrToMap,
            Argument::PtrToMapOfPrograms,
            Argument::ConstPtrToMap,
        ]
        .map(|a| a as u32)
        .to_vec(),
        limits: Limits {
            subprogram_stack_bytes: defaults.runtime.subprogram_stack_size.cast_unsigned(),
            max_call_frames: defaults.runtime.max_call_stack_frames.cast_unsigned(),
            max_tail_call_count: 33,
            max_packet_bytes: defaults.runtime.max_packet_size.cast_unsigned(),
            object_name_bytes: u32::MAX,
            // Which helpers there are depends on the program type, so none is general.
            max_general_helper_id: 0,
            max_map_allocation_bytes: u64::MAX,
        },
        verifier_options: VerifierOptions {
            check_for_termination,
            must_have_exit: defaults.must_have_exit,
            strict: defaults.runtime.strict,
            allow_division_by_zero: defaults.runtime.allow_division_by_zero,
            setup_constraints: defaults.runtime.setup_constraints,
            conformance_groups: prevail::linux::linux_platform::conformance_groups::GROUPS
                .iter()
                .filter(|(_, bit)| LinuxPlatform::new().conformance_groups & bit != 0)
                .map(|(name, _)| (*name).to_owned())
                .collect(),
        },
        ..Platform::builtin()
    }
}

/// Gives each map of maps of a legacy section its template, which Linux has in another field of the definition than
/// Windows.
pub fn add_templates(module: &mut Module, object: &[u8]) -> Result<(), String> {
    let is_bare = |map: &Map| {
        map.origin == MapOrigin::Legacy
            && map.inner.is_none()
            && LinuxPlatform::new().get_map_type(map.definition.map_type).value_type == EbpfMapValueType::Map
    };
    if !module.maps.iter().any(is_bare) {
        return Ok(());
    }
    let options = EbpfVerifierOptions {
        mock_map_fds: true,
        ..Default::default()
    };
    let theirs =
        read_elf(object, &module.name, "", "", &options, &mut LinuxPlatform::new()).map_err(|e| e.to_string())?;
    let theirs = &theirs.first().ok_or("no program")?.info.map_descriptors;
    for i in 0..module.maps.len() {
        if !is_bare(&module.maps[i]) {
            continue;
        }
        let inner = theirs
            .iter()
            .find(|m| m.name == module.maps[i].name)
            .and_then(|outer| theirs.iter().find(|m| m.original_fd == outer.inner_map_fd))
            .ok_or_else(|| format!("PREVAIL knows no template of `{}`", module.maps[i].name))?;
        let same = module.maps.iter().position(|m| m.name == inner.name);
        module.maps[i].inner = Some(MapIndex(same.ok_or("the template is no map of ours")? as u32));
    }
    Ok(())
}

fn program_type(section: &str) -> ProgramType {
    let mut linux = LinuxPlatform::new();
    let theirs = linux.get_program_type(section, "");
    linux.set_program_type(&theirs);
    let context = theirs
        .ctx_descriptor
        .expect("each of PREVAIL's Linux types has a context");
    let helpers = (0..).zip(&PROTOTYPES).filter(|(id, _)| linux.is_helper_usable(*id));
    ProgramType {
        name: theirs.name,
        symbol: String::new(),
        guid: Guid::ZERO,
        bpf_prog_type: theirs.platform_specific_data as u32,
        is_privileged: theirs.is_privileged,
        context: Context {
            struct_name: "ctx".to_owned(),
            size: context.size,
            data: context.data,
            data_end: context.end,
            data_meta: context.meta,
            data_meta_null: false,
            ..Context::default()
        },
        sections: vec![AttachPoint {
            prefix: section.to_owned(),
            attach_type: Guid::ZERO,
            symbol: String::new(),
            ..AttachPoint::default()
        }],
        helpers: helpers.map(|(id, prototype)| helper(id, prototype)).collect(),
        helper_overrides: Vec::new(),
        return_values: Vec::new(),
        provider: "linux".to_owned(),
        ..ProgramType::default()
    }
}

fn helper(id: i32, theirs: &HelperPrototype) -> Helper {
    let takes_map = theirs.argument_type.iter().any(|a| {
        matches!(
            a,
            Argument::PtrToMap | Argument::PtrToMapOfPrograms | Argument::ConstPtrToMap
        )
    });
    let writable = |a: &Argument| matches!(a, Argument::PtrToWritableMem | Argument::PtrToWritableMemOrNull);
    let writes = theirs.argument_type.iter().position(writable);
    let allowed = |map_type: &u32| theirs.allowed_map_types == 0 || theirs.allowed_map_types & (1 << map_type) != 0;
    Helper {
        id: id.cast_unsigned(),
        name: format!("bpf_{}", theirs.name),
        return_type: theirs.return_type as u32,
        arguments: theirs.argument_type.map(|a| a as u32),
        reallocate_packet: theirs.reallocate_packet,
        writes_readable: Vec::new(),
        runtime_map_types: takes_map.then(|| MAP_TYPES.filter(allowed).collect()),
        default_implementation: true,
        checks_map_type: true,
        // The helpers of Linux write every byte of such memory, and PREVAIL takes them at their word.
        fills: writes.map(|argument| bpf2sys_platform::Fills {
            argument: argument as u8 + 1,
            if_equal: None,
        }),
        ..Helper::default()
    }
}

fn map_type(value: u32) -> MapType {
    let theirs = LinuxPlatform::new().get_map_type(value);
    MapType {
        value,
        symbol: format!("BPF_MAP_TYPE_{}", theirs.name),
        name: theirs.name.to_lowercase(),
        verifier_is_array: theirs.is_array,
        verifier_value_kind: match theirs.value_type {
            EbpfMapValueType::Any => MapValueKind::Any,
            EbpfMapValueType::Map => MapValueKind::Map,
            EbpfMapValueType::Program => MapValueKind::Program,
        },
        per_cpu: theirs.name.contains("PERCPU"),
        rules: MapRules {
            creatable: true,
            key_size: SizeRule::Any,
            value_size: SizeRule::Any,
            max_entries_power_of_two: false,
            max_entries_multiple_of: std::num::NonZeroU32::MIN,
            inner_map_required: false,
        },
        custom: None,
        doc: None,
        note: None,
    }
}
