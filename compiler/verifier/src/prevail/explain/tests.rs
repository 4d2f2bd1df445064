//! Every message that the engine can give has a meaning.
//!
//! The lists are the messages in the source of `prevail` 0.2.6, by hand: a new version of it needs a new look.

use std::cell::RefCell;

use bpf2sys_platform::Platform;
use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain};
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::program::Program;
use prevail::ir::syntax::{
    AccessType, Addable, Assertion, BoundedLoopCount, Comparable, FuncConstraint, Imm, Reg as EngineReg, ValidAccess,
    ValidArgZero, ValidCallbackTarget, ValidDivisor, ValidMapKeyValue, ValidMapType, ValidSize, ValidStore, Value,
    ZeroCtxOffset,
};
use prevail::ir::unmarshal::unmarshal;
use prevail::spec::type_descriptors::ProgramInfo;

use super::messages::by_message;
use super::path::{Allowance, Effort};
use super::sort::Failure;
use super::view::View;
use crate::prevail::Engine;
use crate::prevail::code::Code;
use crate::prevail::windows::{self, Windows};
use crate::tests::build::{EXIT, map, module, set};
use crate::{Memory, Violation};

/// What is said without a check: of programs that can't be read, of their graphs, and of instructions that can't be
/// carried out.
const OF_PROGRAMS: &[&str] = &[
    "bad instruction op 0x8d",
    "invalid offset for op 0x37",
    "nonzero offset for op 0xb7",
    "nonzero imm for op 0xbf",
    "nonzero dst for register op 0x85",
    "negative module for op 0x85",
    "invalid class op 0x0",
    "unsupported immediate",
    "invalid target r10",
    "cannot modify r10",
    "bad register",
    "incomplete lddw",
    "invalid lddw",
    "lddw uses reserved fields",
    "jump out of bounds",
    "Zero length programs are not allowed",
    "Invalid verifier options: x",
    "bad helper function id 7",
    "rejected: requires conformance group packet (at 1)",
    "rejected: helper function is unavailable on this platform (at 1)",
    "rejected: helper prototype is unavailable on this platform: f (at 1)",
    "rejected: helper argument type is unavailable on this platform: f (at 1)",
    "rejected: mismatched EBPF_ARGUMENT_TYPE_PTR_TO* and EBPF_ARGUMENT_TYPE_CONST_SIZE: f (at 1)",
    "not implemented: kfunc prototype lookup failed for BTF id 1 (at 0)",
    "control-flow target 3 at 1 is not an instruction boundary",
    "empty instruction sequence",
    "fallthrough in last instruction",
    "jump to undefined label 3",
    "invalid map index 3 (have 1 maps)",
    "too many call stack frames",
    "local call at 3 must have exactly one continuation",
    "3: illegal recursion",
    "WTO-derived SCC graph must be acyclic",
    "tail call chain depth exceeds 33 (at 40)",
    "map_fd 7 not found",
    "Cannot load address of program map type - only data maps are supported",
    "unexpected MEMSX width",
    "Unsupported operation: MOVSX with immediate",
    "Immediate value -2147483648 cannot be negated for SUB",
];

const R1: EngineReg = EngineReg { v: 1 };
const R2: EngineReg = EngineReg { v: 2 };

fn access(width: u64) -> Assertion {
    Assertion::ValidAccess(ValidAccess {
        call_stack_depth: 1,
        reg: R1,
        offset: 4,
        width: Value::Imm(Imm { v: width }),
        or_null: false,
        access_type: AccessType::Read,
    })
}

/// The checks, each with what is said when it fails. That of kinds can't be made by hand, and is found in a program.
fn checks() -> Vec<(Assertion, &'static [&'static str])> {
    vec![
        (
            access(8),
            &[
                "Lower bound must be at least r10.stack_offset - subprogram_stack_size",
                "Upper bound must be at most total_stack_size",
                "Lower bound must be at least 0",
                "Upper bound must be at most 32",
                "Cannot write to context with unexpected pointer-field layout",
                "Cannot write to context pointer field",
                "Lower bound must be at least meta_offset",
                "Upper bound must be at most packet_size",
                "Upper bound must be at most r1.shared_region_size",
                "Upper bound must be at most r1.alloc_mem_size",
                "Stack content is not numeric",
                "Possible null access",
                "Non-null number",
                "Non-zero access size with null pointer",
                "Only pointers can be dereferenced",
                "FDs cannot be dereferenced directly",
                "Socket layout is unavailable",
                "Socket memory is read-only",
                "Socket access size must be constant",
                "Socket access offset must be precise",
                "Invalid socket access",
                "Unsupported pointer type for memory access",
                "Function pointers cannot be dereferenced",
                "Invalid type",
            ],
        ),
        (
            access(0),
            &["Upper bound must be at most 65535", "Lower bound must be at least 0"],
        ),
        (
            Assertion::ValidMapKeyValue(ValidMapKeyValue {
                access_reg: R2,
                map_fd_reg: R1,
                key: true,
            }),
            &[
                "Map key size is out of supported range",
                "Map key size is not singleton",
                "Map value size is out of supported range",
                "Map value size is not singleton",
                "Illegal map update with a non-numerical value [4088-4092)",
                "Pointer must be a singleton",
                "Array index overflow",
                "Array index underflow",
                "Max entries is not finite",
                "Lower bound must be at least meta_offset",
                "Upper bound must be at most packet_size",
                "Lower bound must be at least 0",
                "Upper bound must be at most r2.shared_region_size",
                "Possible null access",
                "Only stack, packet, or shared can be used as a parameter",
            ],
        ),
        (
            Assertion::Addable(Addable { ptr: R1, num: R2 }),
            &["Only numbers can be added to pointers"],
        ),
        (
            Assertion::BoundedLoopCount(BoundedLoopCount { name: Label::new(0) }),
            &["Loop counter is too large"],
        ),
        (
            Assertion::Comparable(Comparable {
                r1: R1,
                r2: R2,
                or_r2_is_number: true,
            }),
            &[
                "Cannot subtract pointers to non-singleton regions",
                "Cannot subtract pointers to different regions",
                "Upper bound must be at most 65535",
            ],
        ),
        (
            Assertion::ValidDivisor(ValidDivisor {
                reg: R1,
                is_signed: false,
                is64: true,
            }),
            &["Only numbers can be used as divisors", "Possible division by zero"],
        ),
        (
            Assertion::FuncConstraint(FuncConstraint { reg: R1 }),
            &[
                "invalid helper function id 7",
                "callx helper function id is not a valid singleton",
            ],
        ),
        (
            Assertion::ValidCallbackTarget(ValidCallbackTarget { reg: R1 }),
            &[
                "callback function pointer must be a singleton code address",
                "callback function pointer does not reference a valid callback entry",
                "callback function does not have a reachable exit",
            ],
        ),
        (
            Assertion::ValidArgZero(ValidArgZero { reg: R1 }),
            &["Argument must be zero"],
        ),
        (
            Assertion::ValidMapType(ValidMapType {
                map_fd_reg: R1,
                allowed_map_types: 0,
                helper_name: "f".into(),
            }),
            &[
                "map type 70 is out of supported range for f",
                "map type 7 is not allowed for f",
            ],
        ),
        (
            Assertion::ValidSize(ValidSize {
                reg: R1,
                can_be_zero: false,
            }),
            &["Invalid size"],
        ),
        (
            Assertion::ValidStore(ValidStore { mem: R1, val: R2 }),
            &["Only numbers can be stored to externally-visible regions"],
        ),
        (
            Assertion::ZeroCtxOffset(ZeroCtxOffset {
                reg: R1,
                or_null: false,
            }),
            &["Nonzero context offset"],
        ),
    ]
}

#[test]
fn every_message_about_programs_has_a_meaning() {
    for message in OF_PROGRAMS {
        assert_ne!(by_message(message), Violation::Unproven, "{message}");
    }
    assert_eq!(by_message("something new"), Violation::Unproven);
}

#[test]
fn every_message_of_a_check_has_a_meaning() {
    let platform = Platform::builtin();
    let (program_type, _) = platform.program_type_for_section("xdp").unwrap();
    let mut module = module("xdp", &[&[set(bpf2sys_bytecode::Reg::R0, 0), EXIT]]);
    module.maps = vec![map("counters", 2, 4, 8)];
    let engine = Engine::new(&module, &platform, 0);
    let groups = engine.conformance_groups;
    let windows = Windows::new(&module, &platform, program_type, engine.maps.clone(), groups);
    let mut info = ProgramInfo {
        map_descriptors: engine.maps.clone(),
        program_type: windows::program_type(program_type),
        supported_conformance_groups: groups,
        ..ProgramInfo::default()
    };
    let code = Code::new(
        &module,
        bpf2sys_bytecode::FunctionIndex(0),
        std::sync::Arc::clone(&engine.numbers),
    );
    let sequence = unmarshal(&code.slots, &mut Vec::new(), &info, &windows, &engine.options).unwrap();
    let graph = Program::from_sequence(&sequence, &mut info, &windows, &engine.options).unwrap();
    let context = DomainContext::new(&info, &graph, &engine.options, &windows);
    let mut names = VariableRegistry::new();
    // r1 is the context, and nothing is known of r2.
    let state = EbpfDomain::setup_entry(true, &context, &mut names);
    let names = RefCell::new(names);
    let view = View::new(&state, &context, &names);
    let exit = Label::new(1);
    let mut all = checks();
    let kind = &graph.assertions_at(&exit)[0];
    assert!(matches!(kind, Assertion::TypeConstraint(_)));
    all.push((kind.clone(), &["Invalid type"]));
    for (check, messages) in &all {
        for message in *messages {
            let message = format!("{message} ({check})");
            let violation = Failure {
                message: &message,
                instruction: graph.instruction_at(&exit),
                check: Some(check),
                view: &view,
                origin: &|_, _| None,
                memory: &|_| Memory::MapValue { map: None },
                call: &|_| None,
            }
            .sort();
            assert_ne!(violation, Violation::Unproven, "{message}");
            let words = violation.to_string();
            assert!(!words.is_empty() && !words.ends_with('.'), "{words}");
        }
    }
}

#[test]
fn a_search_ends_with_its_steps_or_its_time() {
    let spent = |steps, until| {
        let effort = Effort::new(Allowance { steps, until });
        (0..10).take_while(|_| effort.spend().is_ok()).count()
    };
    let now = std::time::Instant::now();
    assert_eq!(spent(3, None), 3);
    assert_eq!(spent(3, Some(now)), 0);
    assert_eq!(spent(3, now.checked_add(std::time::Duration::from_hours(1))), 3);
}
