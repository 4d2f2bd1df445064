//! Lowers verified eBPF programs to native code and builds the native module around it.
//!
//! Given: a [`VerifiedModule`] and its [`Platform`].
//! Computed: a [`Lowered`] module: a `NativeObject` with a driver that attaches to the eBPF for Windows runtime, or another [`Skeleton`],
//! the tables that the runtime reads, and one function per program.
//! Safe because: only verified instructions are lowered; the emitted code is decoded again and held to the rules of kernel
//! code; the layout rules of the native module contract are kept here, section by section.
//!
//! | module | what |
//! |---|---|
//! | `body`, `bodies` | what native functions are made of: instructions, in the order and number that optimizations give them |
//! | `lowering` | eBPF instructions as Cranelift IR |
//! | `call_graph` | which functions are emitted, how deep calls nest |
//! | `functions` | the native functions that an eBPF function becomes |
//! | `shape` | small changes of that, before Cranelift's own optimizer and behind it |
//! | `isa`, `compile` | Cranelift IR as machine code |
//! | `audit_x64`, `audit_arm64` | what the machine code may contain |
//! | `unwind_x64`, `unwind_arm64` | how to unwind from it |
//! | `instruction_arm64` | ARM64 code taken apart |
//! | `division_arm64`, `exchange_arm64`, `renumber_arm64` | what is changed in it because it would be wrong, or could not be judged |
//! | `calls_arm64`, `surplus_arm64`, `shifts_arm64` | guarded calls, and what is shorter or need not be there |
//! | `liveness_arm64` | which registers are read again |
//! | `rewrite_arm64` | ARM64 code put together again, with other instructions |
//! | `rewrite_x64` | what is changed in x86-64 code before it is judged: guarded calls, other frames, and shorter encodings |
//! | `rename_x64` | which registers need not be saved |
//! | `jumps_x64` | which jumps need not be made |
//! | `frame_x64` | which frame holds the same |
//! | `shorten_x64`, `addresses_x64`, `calls_x64`, `surplus_x64` | which shorter encodings mean the same, and what need not be there |
//! | `loops_x64` | where loops begin |
//! | `parts_x64` | x86-64 code taken apart and put together |
//! | `skeleton` | what is put around the programs: the code in `templates/` |
//! | `guard` | calls by address, and what Windows is told of them |
//! | `driver` | the data and imports of the driver |
//! | `metadata` | the tables that the runtime reads |
//! | `object` | sections, symbols, relocations |
//! | [`listing`] | all of it as text, for people |

mod addresses_x64;
mod audit_arm64;
mod audit_x64;
mod bodies;
mod body;
mod call_graph;
mod calls_arm64;
mod calls_x64;
mod compile;
mod convention;
mod division_arm64;
mod driver;
mod error;
mod exchange_arm64;
mod frame_x64;
mod functions;
mod guard;
mod instruction_arm64;
mod isa;
mod jumps_x64;
pub mod listing;
mod liveness_arm64;
mod loops_x64;
mod lowered;
mod lowering;
mod metadata;
mod object;
mod optimizations;
mod options;
mod parts_x64;
mod rename_x64;
mod renumber_arm64;
mod rewrite_arm64;
mod rewrite_x64;
mod runtime_context;
mod shape;
mod shifts_arm64;
mod shorten_x64;
mod skeleton;
mod surplus_arm64;
mod surplus_x64;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests_arm64;
mod unwind_arm64;
mod unwind_x64;

pub use error::{
    Feature, FunctionProblem, InitialValueProblem, InstructionProblem, LevelProblem, LowerError, MapProblem,
    ModuleProblem, Place,
};
pub use lowered::{InsnPlace, Lowered, LoweredFunction, Origin};
pub use optimizations::{Optimization, Optimizations, UnknownOptimization};
pub use options::{Options, RuntimeLevel, Skeleton};

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_bytecode::{FunctionIndex, MapIndex};
use bpf2sys_pe_emit::{SectionIndex, SectionKind};
use bpf2sys_platform::Platform;
use bpf2sys_verifier::VerifiedModule;
use cranelift_codegen::Context;

use call_graph::CallGraph;
use compile::Target;
use functions::functions;
use isa::Isas;
use lowered::Numbering;
use lowering::{STACK_BYTES, Unit};
use metadata::{BtfTables, CODE_SECTION, HelperTables, Tables};
use object::{CodeSections, ObjectWriter};

/// Most bytes of stack that a program and what it calls may take. A kernel stack has 24 KiB, of which the network stack
/// above and the helpers below need their part; eight nested functions of ordinary size take 5 to 6 KiB.
const MAX_STACK_BYTES: u32 = 8192;

/// Lowers a module.
///
/// The object's sections are, in this order (native module contract §5): `.text` with the skeleton and the subprograms, one
/// code section for each PE section name of a program, `.rdata`, `maps`, `programs`, `.data`, `hash`; those that
/// would be empty are left out. The same module and options give the same object.
///
/// # Errors
/// See [`LowerError`]: a module that the runtime would refuse, a function whose frame or calls need too much stack, a
/// machine that is not supported.
pub fn lower(verified: &VerifiedModule, platform: &Platform, options: &Options) -> Result<Lowered, LowerError> {
    let isas = Isas::of_options(options)?;
    let isa = isas.speed();
    metadata::check_module(verified, platform)?;
    let module = verified.module();
    let helpers = HelperTables::of_module(verified, platform)?;
    let btf_functions = BtfTables::of_module(verified, platform, options.runtime)?;
    let max_frames = platform
        .limits
        .max_call_frames
        .min(MAX_STACK_BYTES / STACK_BYTES as u32);
    let calls = CallGraph::of(verified, max_frames)?;
    let templates: BTreeSet<MapIndex> = module.maps.iter().filter_map(|map| map.inner).collect();
    let numbering = Numbering::of(module);
    let unit = Unit {
        verified,
        numbering: &numbering,
        platform,
        options,
        helpers: &helpers,
        btf_functions: &btf_functions,
        calls: &calls,
        templates: &templates,
        isa,
    };
    let mut scratch = Context::new();
    let codes = functions(&unit, &isas, &mut scratch)?;
    let frames: Vec<u32> = codes.iter().map(|natives| functions::frame_bytes(natives)).collect();
    calls.check_stack(module, &frames, MAX_STACK_BYTES)?;

    let program_sections = metadata::program_sections(verified);
    let mut object = ObjectWriter::new(options.machine);
    let text = object.section(CODE_SECTION, SectionKind::Code);
    let mut code_sections = BTreeMap::from([(CODE_SECTION, text)]);
    for name in &program_sections {
        code_sections
            .entry(name)
            .or_insert_with(|| object.section(name, SectionKind::Code));
    }
    let constants = object.section(".rdata", SectionKind::ReadOnlyData);
    let mut table = |name, wanted: bool| wanted.then(|| object.section(name, SectionKind::ReadOnlyData));
    let maps = table("maps", !module.maps.is_empty());
    let programs = table("programs", !verified.programs().is_empty());
    let with_driver = options.skeleton == Skeleton::Driver;
    let with_image = options.skeleton != Skeleton::Object;
    let variables = (with_image || programs.is_some()).then(|| object.section(".data", SectionKind::Data));
    let hash = module
        .hash
        .is_some()
        .then(|| object.section("hash", SectionKind::ReadOnlyData));

    let skeleton_sections = CodeSections {
        section: text,
        constants,
    };
    if with_driver {
        driver::add_imports(&mut object);
    }
    options
        .skeleton
        .add_code(&mut object, skeleton_sections, isa, options, &mut scratch)?;
    if options.guards_calls() {
        guard::add(&mut object, skeleton_sections, options)?;
    }
    let section_of: BTreeMap<FunctionIndex, SectionIndex> = verified
        .programs()
        .iter()
        .zip(&program_sections)
        .filter_map(|(program, name)| Some((program.function, *code_sections.get(name.as_str())?)))
        .collect();
    let mut functions = Vec::new();
    for (native, mut code) in codes.into_iter().flatten() {
        let index = native.function;
        // Subprograms belong to no program and lie with the skeleton.
        let section = section_of.get(&index).copied().unwrap_or(text);
        let sections = CodeSections { section, constants };
        let (origins, ir) = (std::mem::take(&mut code.origins), code.ir.take());
        let origins = origins.into_iter().map(|(offset, number)| Origin {
            offset,
            instruction: number.map(|number| numbering.place(number)),
        });
        let name = functions::symbol(&module.function(index).name, native.piece);
        let range = object.code(sections, Target::Function(native), &name, code);
        functions.push(LoweredFunction {
            function: index,
            piece: native.piece,
            range,
            origins: origins.collect(),
            ir,
        });
    }
    if let Some(variables) = variables.filter(|_| with_driver) {
        driver::add_data(&mut object, constants, variables)?;
    }
    if let Some(variables) = variables.filter(|_| with_image) {
        guard::add_cookie(&mut object, variables);
    }
    let tables = Tables {
        verified,
        platform,
        helpers: &helpers,
        btf_functions: &btf_functions,
        runtime: options.runtime,
        program_sections: &program_sections,
        constants,
        maps,
        programs,
        variables,
        hash,
    };
    metadata::build(&tables, &mut object)?;
    let purpose = options.skeleton.purpose(&object, &module.name)?;
    let object = object.finish(purpose, |object, functions| {
        guard::load_config(object, functions, options)
    })?;
    Ok(Lowered { object, functions })
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::{AluOp, Condition, Imm64, Instruction, Operand, Width, WordSize};
    use bpf2sys_pe_emit::{RelocationKind, SectionKind, SymbolPlace, UnwindInfo, UnwindOpX64};

    use crate::testing::{
        EXIT, View, alu, call, load, lower, map, module, mov, mov_reg, one, program, r, subprogram, trusted,
    };
    use crate::{LowerError, Options};

    fn example() -> bpf2sys_bytecode::Module {
        let mut module = module(vec![
            program("b", "xdp/long_section", &[call(2), EXIT]),
            program("a", "bind", &[mov(0, 1), EXIT]),
            subprogram("sub", &[mov(0, 2), EXIT]),
            program("c", "bind", &[mov(0, 3), EXIT]),
        ]);
        module.maps = vec![map("m", 1, 4, 4)];
        module
    }

    #[test]
    fn sections_are_in_the_order_of_the_contract() {
        let object = lower(example()).unwrap();
        let expected = [
            ".text", "xdp/lo~1", "bind", ".rdata", "maps", "programs", ".data", "hash",
        ];
        assert_eq!(View(&object).sections(), expected);
        for section in &object.sections {
            let kind = match section.name.as_str() {
                ".text" | "xdp/lo~1" | "bind" => SectionKind::Code,
                ".data" => SectionKind::Data,
                _ => SectionKind::ReadOnlyData,
            };
            assert_eq!(section.kind, kind, "{}", section.name);
        }
    }

    #[test]
    fn programs_lie_in_their_sections_and_subprograms_with_the_driver() {
        let object = lower(example()).unwrap();
        let view = View(&object);
        for (function, section) in [
            ("a", "bind"),
            ("b", "xdp/lo~1"),
            ("c", "bind"),
            ("sub", ".text"),
            ("DriverEntry", ".text"),
        ] {
            assert_eq!(view.symbol(function).0, section, "{function}");
        }
    }

    #[test]
    fn functions_are_aligned_described_and_cover_all_code_but_padding() {
        let object = lower(example()).unwrap();
        let mut ends = vec![0; object.sections.len()];
        for range in &object.functions {
            let section = range.section.0 as usize;
            let data = &object.sections[section].data;
            assert_eq!(range.offset % 16, 0);
            assert!(
                data[ends[section]..range.offset as usize]
                    .iter()
                    .all(|byte| *byte == 0xCC)
            );
            ends[section] = (range.offset + range.size) as usize;
            // The functions of Control Flow Guard have no frame.
            let is_guard = |symbol: &&bpf2sys_pe_emit::Symbol| symbol.name.starts_with("guard");
            let place = |offset| SymbolPlace::Section {
                section: range.section,
                offset,
            };
            let mut guards = object.symbols.iter().filter(is_guard);
            let is_leaf = guards.any(|symbol| symbol.place == place(range.offset));
            let code = &data[range.offset as usize..ends[section]];
            let mut decoder = iced_x86::Decoder::new(64, code, iced_x86::DecoderOptions::NONE);
            let moves =
                |i: iced_x86::Instruction| i.is_stack_instruction() || i.op0_register() == iced_x86::Register::RSP;
            let is_framed = decoder
                .iter()
                .filter(|i| i.flow_control() != iced_x86::FlowControl::Return)
                .any(moves);
            assert_eq!(
                matches!(range.unwind, UnwindInfo::Leaf),
                is_leaf || !is_framed,
                "{range:?}"
            );
        }
        for (section, end) in object.sections.iter().zip(ends) {
            assert!(
                section.kind != SectionKind::Code || section.data.len() == end,
                "{}",
                section.name
            );
        }
    }

    #[test]
    fn code_holds_distances_and_data_holds_addresses() {
        let object = lower(example()).unwrap();
        let relocations = object
            .sections
            .iter()
            .flat_map(|s| s.relocations.iter().map(move |r| (s.kind, r)));
        let mut kinds = std::collections::BTreeSet::new();
        for (section, relocation) in relocations {
            let code = section == SectionKind::Code;
            kinds.insert(code);
            assert_eq!(relocation.kind == RelocationKind::Relative32, code);
        }
        assert_eq!(kinds.len(), 2);
    }

    #[test]
    fn constants_of_a_function_are_data() {
        // A comparison with a constant that fits no immediate: Cranelift reads it from memory.
        let constant = Instruction::LoadImm64 {
            dst: r(2),
            value: Imm64::Constant(0x1234_5678_9ABC_DEF0),
        };
        let compare = Instruction::JumpIf {
            size: bpf2sys_bytecode::WordSize::W64,
            condition: bpf2sys_bytecode::Condition::Gt,
            dst: r(1),
            src: bpf2sys_bytecode::Operand::Reg(r(2)),
            offset: 1,
        };
        let object = lower(one(&[constant, mov(0, 0), compare, mov(0, 1), EXIT])).unwrap();
        let view = View(&object);
        let section = view.section("bind");
        let [relocation] = section.relocations.as_slice() else {
            panic!("{:?}", section.relocations)
        };
        let SymbolPlace::Section {
            section: target,
            offset,
        } = object.symbols[relocation.symbol.0 as usize].place
        else {
            panic!("an import")
        };
        // The field counts from its own end; nothing follows it in the instruction.
        let at = (i64::from(offset) + relocation.addend + 4) as usize;
        let data = &object.sections[target.0 as usize];
        assert_eq!(data.name, ".rdata");
        assert_eq!(data.data[at..at + 8], 0x1234_5678_9ABC_DEF0_u64.to_le_bytes());
    }

    #[test]
    fn the_same_module_gives_the_same_object() {
        let twice = [lower(example()).unwrap(), lower(example()).unwrap()];
        assert_eq!(format!("{:?}", twice[0]), format!("{:?}", twice[1]));
    }

    #[test]
    fn function_that_reads_much_and_uses_it_late_still_fits_its_frame() {
        let mut code = vec![mov_reg(6, 1), mov(0, 0)];
        for offset in 0..400 {
            code.push(load(Width::Dw, 2, 6, offset * 8));
            code.push(alu(AluOp::Add, 0, Operand::Reg(r(2))));
            code.push(alu(AluOp::Mul, 0, Operand::Reg(r(0))));
            // A jump after each load, so that what was loaded crosses blocks.
            code.push(Instruction::JumpIf {
                size: WordSize::W64,
                condition: Condition::Eq,
                dst: r(6),
                src: Operand::Imm(7),
                offset: (399 - offset) * 4 + 1,
            });
        }
        code.extend([EXIT, mov(0, 1), EXIT]);
        let object = lower(one(&code)).unwrap();
        let mut programs = object
            .functions
            .iter()
            .filter(|f| object.sections[f.section.0 as usize].name == "bind");
        let allocated = programs.next().map(|program| match &program.unwind {
            UnwindInfo::X64 { codes, .. } => codes.iter().find_map(|c| match c.op {
                UnwindOpX64::Alloc(bytes) => Some(bytes),
                _ => None,
            }),
            _ => None,
        });
        let allocated = allocated.map(Option::unwrap_or_default);
        assert!(programs.next().is_none());
        assert!(allocated.is_some_and(|bytes| bytes < 1024), "{allocated:?}");
    }

    #[test]
    fn refuses_arm64_options_for_another_machine() {
        let [lse, signing] = [(true, false), (false, true)].map(|(lse, sign_return_address)| Options {
            lse,
            sign_return_address,
            ..Options::default()
        });
        let platform = bpf2sys_platform::Platform::builtin();
        for (options, option) in [(lse, "lse"), (signing, "sign_return_address")] {
            let error = crate::lower(&trusted(example()), &platform, &options).unwrap_err();
            assert_eq!(error, LowerError::Arm64Only { option });
        }
    }
}
