//! The native functions that an eBPF function becomes.
//!
//! Given: a module, its calls, and its instruction set with each kind of optimization.
//! Computed: the machine code of every function that a program can reach.
//! Safe because: no frame is so large that a function could step over the guard page below a kernel stack; where
//! optimization makes one too large, the function is compiled without, and what is too large even then is an error.

use bpf2sys_bytecode::{FunctionIndex, FunctionKind};
use cranelift_codegen::Context;
use cranelift_frontend::FunctionBuilderContext;

use crate::LowerError;
use crate::bodies::{Planned, plan};
use crate::compile::{Code, Reached, compile_pinned};
use crate::error::FunctionProblem;
use crate::isa::{Effort, Isas};
use crate::lowering::{DEEP_LOOPS, Native, Part, Parts, Unit, lower_part};

/// Most bytes of a frame beside the eBPF stack: saved registers, spilled values, outgoing arguments. Together with the
/// probe that `lowering` emits it keeps any two places that a function touches first less than a page apart, so
/// that none steps over the guard page below the stack.
const MAX_LOCAL_BYTES: u32 = 2047;

/// By function of the module: its native functions, in the order that they take in the image. None if no program can
/// reach it.
pub(crate) fn functions(
    unit: &Unit<'_>,
    isas: &Isas,
    scratch: &mut Context,
) -> Result<Vec<Vec<(Native, Code)>>, LowerError> {
    let mut builder = FunctionBuilderContext::new();
    let planned = plan(unit);
    let mut all = Vec::with_capacity(planned.len());
    for (index, planned) in (0..).map(FunctionIndex).zip(&planned) {
        let mut natives = Vec::new();
        if let Some(planned) = planned {
            let mut add = |piece, part: &Part<'_>| {
                let native = Native { function: index, piece };
                let code = native_function(unit, isas, native, planned, part, &mut builder, scratch)?;
                natives.push((native, code));
                Ok::<(), LowerError>(())
            };
            match Parts::of(&planned.body, unit.options.most_work) {
                None => add(None, &Part::Whole)?,
                Some(parts) => {
                    add(None, &Part::Dispatcher(&parts))?;
                    for number in 0..parts.count() {
                        add(Some(number), &Part::Piece(&parts, number))?;
                    }
                }
            }
        }
        all.push(natives);
    }
    Ok(all)
}

fn native_function(
    unit: &Unit<'_>,
    isas: &Isas,
    native: Native,
    planned: &Planned,
    part: &Part<'_>,
    builder: &mut FunctionBuilderContext,
    scratch: &mut Context,
) -> Result<Code, LowerError> {
    let failed = |problem| LowerError::Function {
        function: unit.verified.module().function(native.function).name.clone(),
        problem,
    };
    let stack_bytes = if native.piece.is_none() {
        unit.stack_bytes(native.function, planned)
    } else {
        0 // that of the dispatcher
    };
    let is_program = unit.verified.module().function(native.function).kind == FunctionKind::Program;
    let reached = if is_program && native.piece.is_none() {
        Reached::ByAddress
    } else {
        Reached::ByName
    };
    let limit = stack_bytes + MAX_LOCAL_BYTES;
    let mut compile = |effort: Option<Effort>| {
        let ir = lower_part(unit, native.function, planned, part, builder)?;
        let effort = effort.unwrap_or(if ir.loop_depth > DEEP_LOOPS {
            Effort::InPlace
        } else {
            Effort::Speed
        });
        let mut code = compile_pinned(ir, isas, effort, (unit.options, reached), scratch, failed)?;
        if unit.options.keep_ir {
            code.ir = Some(scratch.func.display().to_string());
        }
        Ok::<_, LowerError>(code)
    };
    let mut code = compile(None)?;
    if code.frame_bytes > limit {
        code = compile(Some(Effort::InPlace))?;
    }
    if code.frame_bytes > limit {
        let bytes = code.frame_bytes;
        return Err(failed(FunctionProblem::FrameTooLarge { bytes, limit }));
    }
    Ok(code)
}

/// Bytes of stack that a call of a function takes, its callees in the module not counted.
pub(crate) fn frame_bytes(natives: &[(Native, Code)]) -> u32 {
    let of = |piece: bool| {
        let frames = natives
            .iter()
            .filter(move |(native, _)| native.piece.is_some() == piece);
        frames.map(|(_, code)| code.frame_bytes).max().unwrap_or(0)
    };
    of(false) + of(true)
}

/// The symbol of a native function of the eBPF function called `name`.
pub(crate) fn symbol(name: &str, piece: Option<u32>) -> String {
    match piece {
        None => name.to_owned(),
        Some(number) => format!("{name}.part{number}"),
    }
}
