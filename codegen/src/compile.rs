//! Cranelift functions as machine code that may go into a driver.
//!
//! Given: a Cranelift function.
//! Computed: its bytes, its references by name, its unwind data and the size of its frame.
//! Safe because: the emitted instructions are decoded again and anything that must not be in a driver, or that the unwind
//! data could not describe, is an error ([`audit_x64`], [`audit_arm64`], [`unwind_x64`], [`unwind_arm64`]); so is any
//! relocation but a distance to a named place.

use std::collections::{BTreeMap, BTreeSet};

use bpf2sys_pe_emit::{Machine, RelocationKind, UnwindInfo};
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{ExternalName, Function, Inst};
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::{Context, FinalizedRelocTarget, MachTrap};

use crate::LowerError;
use crate::calls_x64::Unread;
use crate::error::FunctionProblem;
use crate::instruction_arm64::Insn;
use crate::isa::{Effort, Isas};
use crate::lowering::{Ir, Native};
use crate::object::FUNCTION_ALIGN;
use crate::rewrite_x64::Changes;
use crate::{
    Optimization, Options, audit_arm64, audit_x64, calls_arm64, division_arm64, exchange_arm64, instruction_arm64,
    jumps_x64, rename_x64, renumber_arm64, rewrite_arm64, rewrite_x64, shape, shifts_arm64, surplus_arm64,
    unwind_arm64, unwind_x64,
};

/// A compiled function.
#[derive(Debug)]
pub(crate) struct Code {
    /// Machine code.
    pub(crate) bytes: Vec<u8>,
    /// Where it may begin: at multiples of this.
    pub(crate) align: u32,
    /// Constants that the code reads. Cranelift puts them behind the code; they go to a data section.
    pub(crate) constants: Vec<u8>,
    /// References to other places.
    pub(crate) references: Vec<Reference>,
    /// How to unwind.
    pub(crate) unwind: UnwindInfo,
    /// Bytes of stack that a call of it takes, the return address included, its callees not.
    pub(crate) frame_bytes: u32,
    /// The number of the eBPF instruction that the code from an offset on was made of, ascending; `None` for code of no one.
    pub(crate) origins: Vec<(u32, Option<u32>)>,
    /// Cranelift IR after optimization, once somebody has put it there.
    pub(crate) ir: Option<String>,
}

impl Code {
    /// Code without a frame that refers to nothing.
    pub(crate) fn leaf(bytes: Vec<u8>) -> Code {
        Code {
            bytes,
            align: FUNCTION_ALIGN,
            constants: Vec::new(),
            references: Vec::new(),
            unwind: UnwindInfo::Leaf,
            frame_bytes: 0,
            origins: Vec::new(),
            ir: None,
        }
    }

    /// The number of the eBPF instruction that the code at an offset was made of.
    pub(crate) fn origin(&self, offset: u32) -> Option<u32> {
        let behind = self.origins.partition_point(|(start, _)| *start <= offset);
        self.origins.get(behind.checked_sub(1)?)?.1
    }
}

/// A 4-byte field, or an instruction, that holds the distance to a place or a part of it.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    /// Offset of the field in the code.
    pub(crate) offset: u32,
    /// What it holds.
    pub(crate) kind: RelocationKind,
    /// The place.
    pub(crate) target: Target,
    /// Added to the distance.
    pub(crate) addend: i64,
    /// Whether it is the target of a call or jump, and so takes no address.
    pub(crate) is_call: bool,
}

/// What a reference names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A function of the module, or a piece of one.
    Function(Native),
    /// A name of the skeleton.
    Named(String),
    /// The function's own constants.
    Constants,
}

/// How a function is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// By calls that name it.
    ByName,
    /// By its address, from outside of the module.
    ByAddress,
}

/// How a function calls others whose addresses it has read. On ARM64 the IR says it, and this is what is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    ByAddress,
    /// Through the pointer of Control Flow Guard.
    Guarded,
}

/// Compiles one function of a module as `isas` says; `failed` places what is wrong with it. `scratch` keeps its
/// allocations between calls.
pub(crate) fn compile_pinned(
    ir: Ir,
    isas: &Isas,
    effort: Effort,
    (options, reached): (&Options, Reached),
    scratch: &mut Context,
    failed: impl Fn(FunctionProblem) -> LowerError,
) -> Result<Code, LowerError> {
    scratch.clear();
    scratch.func = ir.function;
    let mut isa = isas.of(effort)?;
    let makes_near = options.machine == Machine::X64 && options.optimizations.has(Optimization::NearValues);
    let makes_early = options.optimizations.has(Optimization::EarlyValues);
    let ends = options.optimizations.has(Optimization::LoopEnds);
    let merges = options.optimizations.has(Optimization::PacketLoads);
    let masks = options.optimizations.has(Optimization::Masks);
    let hoists = options.optimizations.has(Optimization::Invariants) && ir.loop_depth > 0;
    let joins = options.machine == Machine::X64 && options.optimizations.has(Optimization::MemoryOperands);
    let orders = options.machine == Machine::X64 && options.optimizations.has(Optimization::LastUses);
    let changes = orders || makes_near || makes_early || masks || merges || ends || hoists || joins;
    if !ir.pins.is_empty() || changes && effort == Effort::Speed {
        // Without pins optimization would undo what they did; the second time, in `generate`, it does nothing.
        scratch
            .optimize(isa, &mut ControlPlane::default())
            .map_err(|e| failed(FunctionProblem::Codegen(e.to_string())))?;
        delete(ir.pins, scratch);
        if masks {
            shape::drop_masks(&mut scratch.func);
            shape::pass_lower_halves(&mut scratch.func);
        }
        if merges {
            shape::merge_loads(&mut scratch.func, &ir.packet_loads);
        }
        if options.optimizations.has(Optimization::Cheaper) {
            shape::make_cheaper(&mut scratch.func, &scratch.domtree, options.machine);
        }
        if ends {
            shape::compare_counted(&mut scratch.func);
        }
        // Blocks are those that the optimizer had.
        if hoists || ends {
            scratch.compute_loop_analysis();
        }
        if hoists {
            shape::hoist(&mut scratch.func, &scratch.domtree, &scratch.loop_analysis);
            let machine = options.machine;
            shape::make_before_loops(&mut scratch.func, &scratch.domtree, &scratch.loop_analysis, machine);
        }
        if ends {
            shape::place_behind(&mut scratch.func, &scratch.loop_analysis);
            shape::split(&mut scratch.func, &scratch.loop_analysis);
            // There are more blocks now; `generate` looks again, and would complain about what is known of others.
            scratch.cfg.clear();
            scratch.domtree.clear();
        }
        if joins {
            shape::join(&mut scratch.func);
        }
        if makes_near {
            shape::rematerialize(&mut scratch.func);
        }
        if makes_early {
            shape::compute_early(&mut scratch.func);
        }
        if orders {
            shape::destroy_last(&mut scratch.func);
        }
        isa = isas.of(Effort::InPlace)?;
    }
    let calls = if options.guards_calls() {
        Calls::Guarded
    } else {
        Calls::ByAddress
    };
    let unread = options.optimizations.has(Optimization::DeadCode).then_some(&ir.unread);
    generate(isa, options, (reached, calls, unread), scratch).map_err(failed)
}

fn delete(pins: Vec<Inst>, scratch: &mut Context) {
    for pin in pins {
        if scratch.func.layout.inst_block(pin).is_some() {
            scratch.func.layout.remove_inst(pin);
        }
    }
}

/// Compiles one function that is called by its address for the machine of `isa`, which `options` name. `scratch` keeps its
/// allocations between calls.
pub(crate) fn compile(
    function: Function,
    isa: &dyn TargetIsa,
    options: &Options,
    scratch: &mut Context,
) -> Result<Code, FunctionProblem> {
    scratch.clear();
    scratch.func = function;
    // What it calls by address is imported, and read-only once it runs: Control Flow Guard is not for such calls.
    generate(isa, options, (Reached::ByAddress, Calls::ByAddress, None), scratch)
}

/// Compiles the function in `scratch`.
fn generate(
    isa: &dyn TargetIsa,
    options: &Options,
    (reached, calls, unread): (Reached, Calls, Option<&BTreeMap<u32, Unread>>),
    scratch: &mut Context,
) -> Result<Code, FunctionProblem> {
    scratch
        .compile(isa, &mut ControlPlane::default())
        .map_err(|e| FunctionProblem::Codegen(e.inner.to_string()))?;
    let compiled = scratch
        .take_compiled_code()
        .ok_or_else(|| FunctionProblem::Codegen("no code".to_owned()))?;
    let mut references = Vec::new();
    for relocation in compiled.buffer.relocs() {
        let place = match &relocation.target {
            FinalizedRelocTarget::ExternalName(name) => place(name, &scratch.func),
            FinalizedRelocTarget::Func(_) => None,
        };
        let (Some(kind), Some(target)) = (relocation_kind(relocation.kind, options.machine), place) else {
            return Err(FunctionProblem::BadCode(format!("relocation {relocation:?}")));
        };
        references.push(Reference {
            offset: relocation.offset,
            kind,
            target,
            addend: relocation.addend,
            // On x86-64 the instruction says it, which is not taken apart yet.
            is_call: kind == RelocationKind::Arm64Branch26,
        });
    }
    let origins = compiled
        .buffer
        .get_srclocs_sorted()
        .iter()
        .map(|range| (range.start, (!range.loc.is_default()).then(|| range.loc.bits())))
        .collect();
    let code = Code {
        references,
        origins,
        ..Code::leaf(compiled.code_buffer().to_vec())
    };
    match options.machine {
        Machine::X64 => {
            let changes = Changes {
                shorten: options.optimizations.has(Optimization::ShortEncodings),
                guard: calls == Calls::Guarded,
                frames: options.optimizations.has(Optimization::Frames),
                align: options.optimizations.has(Optimization::Jumps),
                unread,
            };
            finish_x64(code, changes, options, scratch.func.signature.returns.len())
        }
        Machine::Arm64 => finish_arm64(code, compiled.buffer.traps(), options, (reached, calls, unread)),
    }
    .map_err(FunctionProblem::BadCode)
}

/// A function that was assembled by hand, refers to nothing and has no frame: held to the same rules.
pub(crate) fn assembled(bytes: Vec<u8>, options: &Options) -> Result<Code, String> {
    match options.machine {
        Machine::X64 => {
            let decoded = audit_x64::decode(&bytes, &BTreeSet::new())?;
            audit_x64::check(&decoded.instructions)?;
            unwind_x64::check_leaf(&decoded.instructions)?;
        }
        Machine::Arm64 => {
            if !unwind_arm64::is_leaf(&instruction_arm64::decode(&bytes)?) {
                return Err("more than a landing pad and a return".to_owned());
            }
        }
    }
    Ok(Code::leaf(bytes))
}

fn relocated_x64(code: &Code) -> BTreeSet<u32> {
    code.references.iter().map(|reference| reference.offset).collect()
}

/// The kinds that Cranelift uses with the settings of [`isa`](crate::isa).
fn relocation_kind(kind: Reloc, machine: Machine) -> Option<RelocationKind> {
    match (machine, kind) {
        (Machine::X64, Reloc::X86CallPCRel4 | Reloc::X86PCRel4) => Some(RelocationKind::Relative32),
        (Machine::Arm64, Reloc::Aarch64AdrPrelPgHi21) => Some(RelocationKind::Arm64Page21),
        (Machine::Arm64, Reloc::Aarch64AddAbsLo12Nc) => Some(RelocationKind::Arm64PageOffset12),
        (Machine::Arm64, Reloc::Arm64Call) => Some(RelocationKind::Arm64Branch26),
        _ => None,
    }
}

/// Moves the constants out of the code, changes it, checks it and describes its frame. `results` is how many registers it
/// returns its results in.
fn finish_x64(mut code: Code, changes: Changes<'_>, options: &Options, results: usize) -> Result<Code, String> {
    let mut decoded = audit_x64::decode(&code.bytes, &relocated_x64(&code))?;
    code.constants = code.bytes.split_off(decoded.constants);
    code.bytes.truncate(decoded.code_size);
    code.references
        .extend(decoded.constant_uses.iter().map(|used| Reference {
            offset: used.field,
            kind: RelocationKind::Relative32,
            target: Target::Constants,
            addend: used.addend(decoded.constants),
            is_call: false,
        }));
    if changes.frames
        && let Some(again) = rename_x64::rename(&mut code, &decoded, results)?
    {
        decoded = again;
    }
    if options.optimizations.has(Optimization::Jumps)
        && let Some(again) = jumps_x64::straighten(&mut code, &decoded)?
    {
        decoded = again;
    }
    if let Some(rewritten) = rewrite_x64::rewrite(&mut code, &decoded, changes) {
        let again = audit_x64::decode(&code.bytes, &relocated_x64(&code))?;
        rewritten.check(&code.bytes, &code.references, &decoded, &again)?;
        decoded = again;
    }
    audit_x64::check(&decoded.instructions)?;
    if changes.guard {
        audit_x64::check_calls(&decoded.instructions, &code.references)?;
    }
    for reference in &mut code.references {
        reference.is_call = decoded.calls(reference.offset);
    }
    let frame = unwind_x64::describe(&decoded.instructions)?;
    frame.make_epilogues_legal(&mut code.bytes);
    Ok(Code {
        frame_bytes: frame.bytes,
        unwind: frame.unwind,
        ..code
    })
}

/// Checks the code and describes its frame. Cranelift has no constants in memory for integers on ARM64.
fn finish_arm64(
    mut code: Code,
    traps: &[MachTrap],
    options: &Options,
    (reached, calls, unread): (Reached, Calls, Option<&BTreeMap<u32, Unread>>),
) -> Result<Code, String> {
    let mut decoded = instruction_arm64::decode(&code.bytes)?;
    let mut replacements = division_arm64::remove_checks(&mut decoded, traps);
    exchange_arm64::compare_what_was_loaded(&mut decoded);
    if let Some(unread) = unread {
        let of_call = |offset| unread.get(&code.origin(offset)?).copied();
        calls_arm64::drop_unread(&decoded, &code, of_call, &mut replacements);
    }
    if options.optimizations.has(Optimization::ShortEncodings) {
        surplus_arm64::drop_surplus(&decoded, &mut replacements);
    }
    // A signed return address is on the stack, where it is checked.
    if options.optimizations.has(Optimization::Frames) && !options.sign_return_address {
        let frame = unwind_arm64::unneeded_frame(&decoded);
        replacements.extend(frame.into_iter().map(|position| (position, Vec::new())));
    }
    calls_arm64::check_and_call(&mut code, &mut replacements);
    decoded = rewrite_arm64::replace(&mut code, &decoded, replacements)?;
    calls_arm64::refer_to_rest(&mut code);
    if options.optimizations.has(Optimization::Cheaper) {
        let joined = shifts_arm64::join(&decoded, &code);
        decoded = rewrite_arm64::replace(&mut code, &decoded, joined)?;
    }
    renumber_arm64::renumber(&mut decoded)?;
    // The signing of the return address is a landing pad too.
    if reached == Reached::ByAddress && !options.sign_return_address {
        add_landing_pad(&mut decoded, &mut code);
    }
    let relocated = code.references.iter().map(|r| (r.offset, r.kind)).collect();
    audit_arm64::check(&decoded, &relocated, options)?;
    if calls == Calls::Guarded {
        calls_arm64::check_calls(&decoded, &code.references)?;
    }
    let frame = unwind_arm64::describe(&decoded)?;
    code.bytes = decoded.iter().flat_map(|insn| insn.word).collect();
    code.origins.retain(|(offset, _)| (*offset as usize) < code.bytes.len());
    Ok(Code {
        frame_bytes: frame.bytes,
        unwind: frame.unwind,
        ..code
    })
}

/// Puts a landing pad in front of a function: the one place to which a processor with branch target identification lets a
/// call by address go. All distances in the function stay as they are.
fn add_landing_pad(decoded: &mut Vec<Insn>, code: &mut Code) {
    for insn in &mut *decoded {
        insn.offset += instruction_arm64::SIZE;
    }
    decoded.insert(0, Insn::landing_pad());
    for reference in &mut code.references {
        reference.offset += instruction_arm64::SIZE;
    }
    for (offset, _) in code.origins.iter_mut().filter(|(offset, _)| *offset > 0) {
        *offset += instruction_arm64::SIZE;
    }
}

fn place(name: &ExternalName, function: &Function) -> Option<Target> {
    match name {
        ExternalName::User(reference) => {
            let name = function.params.user_named_funcs().get(*reference)?;
            Some(Target::Function(Native::of_name(name.namespace, name.index)))
        }
        ExternalName::TestCase(name) => {
            let name = String::from_utf8(name.raw().to_vec()).ok()?;
            Some(Target::Named(name))
        }
        // A call into a run-time library that a driver does not have.
        ExternalName::LibCall(_) | ExternalName::KnownSymbol(_) => None,
    }
}
