//! The Windows platform as the engine asks for it, for one program type.
//!
//! Helper ids above the general ones mean other helpers in other program types, so there is one value per type. A call of a
//! function of a Windows module names it by its index in the module's list; the engine gets the contract of a helper with
//! its prototype, under an id that no helper has. The
//! engine wants names and context descriptors that live forever: each distinct one is kept once for the life of the
//! process, and there are as many as providers describe.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};

use bpf2sys_bytecode::Module;
use bpf2sys_platform::{MapValueKind, Platform, ProgramType};
use prevail::elf_loader::UnmarshalError;
use prevail::ir::syntax::Call;
use prevail::ir::unmarshal::make_call_result;
use prevail::linux::spec_prototypes::HelperPrototype;
use prevail::platform::EbpfPlatform;
use prevail::spec::config::EbpfVerifierOptions;
use prevail::spec::ebpf_base::{EbpfArgumentType as Argument, EbpfCtxDescriptor, EbpfReturnType as Return};
use prevail::spec::type_descriptors::{EbpfMapDescriptor, EbpfMapType, EbpfMapValueType, EbpfProgramType, ProgramInfo};

use crate::prototype::offered;

/// What the verifier believes the values of a map of this type are. Types that the platform does not know hold plain
/// memory, as for the verifier of eBPF for Windows.
pub(super) fn value_kind(platform: &Platform, map_type: u32) -> MapValueKind {
    platform
        .map_type(map_type)
        .map_or(MapValueKind::Any, |t| t.verifier_value_kind)
}

/// One program type of the platform.
pub(super) struct Windows {
    /// By helper id, or by [`function_id`] for functions of Windows modules.
    helpers: BTreeMap<i32, HelperPrototype>,
    maps: Vec<EbpfMapDescriptor>,
    map_types: BTreeMap<u32, EbpfMapType>,
    conformance_groups: u32,
}

impl Windows {
    /// The platform for the module's programs of `program_type`, with the descriptors of its maps.
    pub fn new(
        module: &Module,
        platform: &Platform,
        program_type: &ProgramType,
        maps: Vec<EbpfMapDescriptor>,
        conformance_groups: u32,
    ) -> Windows {
        let helpers = platform.helpers.iter().chain(&program_type.helpers).map(|h| {
            let prototype = prototype(&h.name, h.return_type, h.arguments, h.reallocate_packet);
            (h.id.cast_signed(), prototype)
        });
        let functions = (0..).zip(&module.btf_functions).filter_map(|(index, named)| {
            let f = offered(named, platform)?;
            Some((
                function_id(index)?,
                prototype(&f.name, f.return_type, f.arguments, false),
            ))
        });
        Windows {
            helpers: helpers.chain(functions).collect(),
            maps,
            map_types: platform.map_types.iter().map(|t| (t.value, map_type(t))).collect(),
            conformance_groups,
        }
    }

    /// A platform without helpers where the inner map of every map descriptor is that descriptor.
    pub fn mirror(&self) -> Windows {
        let mut maps = self.maps.clone();
        for map in &mut maps {
            map.inner_map_fd = map.original_fd;
        }
        Windows {
            helpers: BTreeMap::new(),
            maps,
            map_types: BTreeMap::new(),
            conformance_groups: self.conformance_groups,
        }
    }
}

impl EbpfPlatform for Windows {
    fn get_program_type(&self, _section: &str, _path: &str) -> EbpfProgramType {
        // Only the engine's own loader asks, and it is not used.
        EbpfProgramType::default()
    }

    fn get_helper_prototype(&self, n: i32) -> &HelperPrototype {
        &self.helpers[&n]
    }

    fn try_get_helper_prototype(&self, n: i32) -> Option<&HelperPrototype> {
        self.helpers.get(&n)
    }

    fn is_helper_usable(&self, n: i32) -> bool {
        self.helpers.contains_key(&n)
    }

    fn resolve_kfunc_call(&self, btf_id: i32, _module: i16, _info: &ProgramInfo) -> Result<Call, String> {
        let id = function_id(btf_id).ok_or("a negative index of a function")?;
        make_call_result(id, self)
    }

    fn map_record_size(&self) -> usize {
        0
    }

    fn parse_maps_section(
        &mut self,
        _descriptors: &mut Vec<EbpfMapDescriptor>,
        _data: &[u8],
        _record_size: usize,
        _count: usize,
        _options: &EbpfVerifierOptions,
    ) {
        // Only the engine's own loader asks.
    }

    fn resolve_inner_map_references(&self, _descriptors: &mut Vec<EbpfMapDescriptor>) -> Result<(), UnmarshalError> {
        Ok(())
    }

    fn get_map_descriptor(&self, map_fd: i32) -> Option<&EbpfMapDescriptor> {
        self.maps.get(usize::try_from(map_fd).ok()?.checked_sub(1)?)
    }

    fn get_map_type(&self, platform_specific_type: u32) -> EbpfMapType {
        self.map_types
            .get(&platform_specific_type)
            .cloned()
            .unwrap_or_else(|| EbpfMapType {
                platform_specific_type,
                name: platform_specific_type.to_string(),
                is_array: false,
                value_type: EbpfMapValueType::Any,
            })
    }

    fn supported_conformance_groups(&self) -> u32 {
        self.conformance_groups
    }
}

/// The engine's form of a program type.
pub(super) fn program_type(program_type: &ProgramType) -> EbpfProgramType {
    let context = &program_type.context;
    EbpfProgramType {
        name: program_type.name.clone(),
        ctx_descriptor: Some(context_descriptor([
            context.size,
            context.data,
            context.data_end,
            context.data_meta,
        ])),
        is_privileged: program_type.is_privileged,
        ..EbpfProgramType::default()
    }
}

/// The id under which the engine finds the prototype of the module's function with this index. Helper ids are not
/// negative.
fn function_id(index: i32) -> Option<i32> {
    (index >= 0).then_some(!index)
}

fn prototype(name: &str, return_number: u32, arguments: [u32; 5], reallocate_packet: bool) -> HelperPrototype {
    HelperPrototype {
        name: interned(name),
        return_type: return_type(return_number),
        argument_type: arguments.map(argument_type),
        reallocate_packet,
        ctx_descriptor: None,
        unsupported: false,
        might_sleep: false,
        zero_args_mask: 0,
        allowed_map_types: 0,
    }
}

fn map_type(from: &bpf2sys_platform::MapType) -> EbpfMapType {
    EbpfMapType {
        platform_specific_type: from.value,
        name: from.name.clone(),
        is_array: from.verifier_is_array,
        value_type: match from.verifier_value_kind {
            MapValueKind::Any => EbpfMapValueType::Any,
            MapValueKind::Map => EbpfMapValueType::Map,
            MapValueKind::Program => EbpfMapValueType::Program,
        },
    }
}

/// `ebpf_return_type_t` by number. A number without a meaning makes the helper unusable.
fn return_type(number: u32) -> Return {
    match number {
        0 => Return::Integer,
        1 => Return::PtrToMapValueOrNull,
        2 => Return::IntegerOrNoReturnIfSucceed,
        4 => Return::PtrToSockCommonOrNull,
        5 => Return::PtrToSocketOrNull,
        6 => Return::PtrToTcpSocketOrNull,
        7 => Return::PtrToAllocMemOrNull,
        8 => Return::PtrToBtfIdOrNull,
        9 => Return::PtrToMemOrBtfIdOrNull,
        10 => Return::PtrToBtfId,
        11 => Return::PtrToMemOrBtfId,
        _ => Return::Unsupported,
    }
}

/// `ebpf_argument_type_t` by number. A number without a meaning makes the helper unusable.
pub(super) fn argument_type(number: u32) -> Argument {
    match number {
        0 => Argument::DontCare,
        1 => Argument::Anything,
        2 => Argument::ConstSize,
        3 => Argument::ConstSizeOrZero,
        4 => Argument::PtrToCtx,
        5 => Argument::PtrToMap,
        6 => Argument::PtrToMapOfPrograms,
        7 => Argument::PtrToMapKey,
        8 => Argument::PtrToMapValue,
        9 => Argument::PtrToReadableMem,
        10 => Argument::PtrToReadableMemOrNull,
        11 => Argument::PtrToWritableMem,
        12 => Argument::PtrToStack,
        13 => Argument::PtrToStackOrNull,
        14 => Argument::PtrToCtxOrNull,
        15 => Argument::PtrToWritableMemOrNull,
        17 => Argument::PtrToBtfIdSockCommon,
        18 => Argument::PtrToSpinLock,
        19 => Argument::PtrToSockCommon,
        20 => Argument::PtrToBtfId,
        21 => Argument::PtrToLong,
        22 => Argument::PtrToInt,
        23 => Argument::PtrToConstStr,
        24 => Argument::PtrToFunc,
        25 => Argument::ConstAllocSizeOrZero,
        26 => Argument::PtrToAllocMem,
        27 => Argument::PtrToTimer,
        28 => Argument::PtrToPercpuBtfId,
        29 => Argument::PtrToReadonlyMem,
        30 => Argument::PtrToReadonlyMemOrNull,
        31 => Argument::PtrToUninitMapValue,
        32 => Argument::ConstPtrToMap,
        _ => Argument::Unsupported,
    }
}

/// A copy of `name` that lives forever.
fn interned(name: &str) -> &'static str {
    static NAMES: LazyLock<Mutex<HashMap<String, &'static str>>> = LazyLock::new(Mutex::default);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let forever: &'static str = Box::leak(Box::from(name));
    names.insert(name.to_owned(), forever);
    forever
}

/// The descriptor with size, data, end and meta that lives forever. The engine compares descriptors by address, so
/// equal ones are the same.
fn context_descriptor(numbers: [i32; 4]) -> &'static EbpfCtxDescriptor {
    static DESCRIPTORS: Mutex<BTreeMap<[i32; 4], &'static EbpfCtxDescriptor>> = Mutex::new(BTreeMap::new());
    let mut known = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
    let [size, data, end, meta] = numbers;
    known
        .entry(numbers)
        .or_insert_with(|| Box::leak(Box::new(EbpfCtxDescriptor { size, data, end, meta })))
}
