//! What blocks are passed, in 32 bits where nobody looks at more.
//!
//! Registers of eBPF have 64 bits, and what 32-bit instructions leave in them is extended. Round a loop that takes an instruction on ARM64 in each
//! round, for bits that nobody needs. It comes behind the optimizer, which has left out what is not passed.

use cranelift_codegen::ir::{
    Block, BlockArg, BlockCall, Function, Inst, InstBuilder, InstructionData, Opcode, Value, types,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{constant, cursor_before, edges_of, made_by, replace};

/// Passes the lower halves of what is needed in 32 bits only.
pub(crate) fn pass_lower_halves(function: &mut Function) {
    let narrow = narrow_parameters(function);
    if narrow.is_empty() {
        return;
    }
    let blocks: Vec<Block> = function.layout.blocks().collect();
    let mut halves: FxHashMap<Value, Value> = FxHashMap::default();
    for block in &blocks {
        let parameters = function.dfg.block_params(*block).to_vec();
        for parameter in parameters.into_iter().filter(|parameter| narrow.contains(parameter)) {
            let half = function.dfg.replace_block_param(parameter, types::I32);
            halves.insert(parameter, half);
        }
    }
    for block in blocks {
        let insts: Vec<Inst> = function.layout.block_insts(block).collect();
        for inst in insts {
            let ways = match function.dfg.insts[inst] {
                InstructionData::Unary {
                    opcode: Opcode::Ireduce,
                    arg,
                } if let Some(half) = halves.get(&function.dfg.resolve_aliases(arg)) => {
                    replace(function, inst, *half);
                    continue;
                }
                InstructionData::Jump { destination, .. } => vec![destination],
                InstructionData::Brif { blocks, .. } => blocks.to_vec(),
                _ => continue,
            };
            let ways: Vec<BlockCall> = (ways.into_iter())
                .map(|way| passing_halves(function, inst, way, &halves))
                .collect();
            match (&mut function.dfg.insts[inst], &ways[..]) {
                (InstructionData::Jump { destination, .. }, [way]) => *destination = *way,
                (InstructionData::Brif { blocks, .. }, [one, other]) => *blocks = [*one, *other],
                _ => {}
            }
        }
    }
}

/// The parameters of which only the lower half is used, and at least one is passed an extended one. None if control goes on in other ways
/// than by jumps and branches.
fn narrow_parameters(function: &Function) -> FxHashSet<Value> {
    let dfg = &function.dfg;
    let entry = function.layout.entry_block();
    let blocks = function.layout.blocks().filter(|block| Some(*block) != entry);
    let wide = |value: &Value| dfg.value_type(*value) == types::I64;
    let mut narrow: FxHashSet<Value> = blocks
        .flat_map(|block| dfg.block_params(block).iter().copied().filter(wide))
        .collect();
    for block in function.layout.blocks() {
        for inst in function.layout.block_insts(block) {
            let data = &dfg.insts[inst];
            let is_known = matches!(data, InstructionData::Jump { .. } | InstructionData::Brif { .. });
            if data.opcode().is_branch() && !is_known {
                return FxHashSet::default();
            }
            let halves =
                matches!(data.opcode(), Opcode::Ireduce) && dfg.value_type(dfg.first_result(inst)) == types::I32;
            if !halves {
                for value in dfg.inst_args(inst) {
                    narrow.remove(&dfg.resolve_aliases(*value));
                }
            }
        }
    }
    let edges: Vec<_> = edges_of(function).collect();
    let passes = || {
        edges.iter().flat_map(|(to, arguments)| {
            let passed = arguments
                .iter()
                .map(|value| value.map(|value| dfg.resolve_aliases(value)));
            dfg.block_params(*to).iter().copied().zip(passed)
        })
    };
    // What is passed to a parameter of 64 bits is needed in full.
    let mut count = usize::MAX;
    while narrow.len() < count {
        count = narrow.len();
        for (parameter, passed) in passes() {
            match passed {
                Some(passed) if !narrow.contains(&parameter) => {
                    narrow.remove(&passed);
                }
                None => {
                    narrow.remove(&parameter);
                }
                Some(_) => {}
            }
        }
    }
    let extended: FxHashSet<Value> = passes()
        .filter(|(_, passed)| passed.is_some_and(|passed| extended(function, passed).is_some()))
        .map(|(parameter, _)| parameter)
        .collect();
    // One by itself that is passed nothing extended gains nothing; in a chain it may.
    if narrow.is_disjoint(&extended) {
        FxHashSet::default()
    } else {
        narrow
    }
}

/// The value of 32 bits that a value is the extension of.
fn extended(function: &Function, value: Value) -> Option<Value> {
    match made_by(function, value)? {
        InstructionData::Unary {
            opcode: Opcode::Uextend | Opcode::Sextend,
            arg,
        } if function.dfg.value_type(arg) == types::I32 => Some(arg),
        _ => None,
    }
}

/// A way that passes the lower halves to the parameters that are these.
fn passing_halves(function: &mut Function, from: Inst, way: BlockCall, halves: &FxHashMap<Value, Value>) -> BlockCall {
    let to = way.block(&function.dfg.value_lists);
    let passed: Vec<BlockArg> = way.args(&function.dfg.value_lists).collect();
    let parameters = function.dfg.block_params(to).to_vec();
    let mut arguments = Vec::with_capacity(passed.len());
    for (argument, parameter) in passed.into_iter().zip(parameters) {
        let Some(value) = argument.as_value().map(|value| function.dfg.resolve_aliases(value)) else {
            arguments.push(argument);
            continue;
        };
        let same = function.dfg.value_type(value) == function.dfg.value_type(parameter);
        let half = match halves.get(&value) {
            Some(half) => *half,
            None if same => value,
            None => lower_half(function, from, value),
        };
        arguments.push(BlockArg::Value(half));
    }
    BlockCall::new(to, arguments, &mut function.dfg.value_lists)
}

/// The lower half of a value, before an instruction.
fn lower_half(function: &mut Function, before: Inst, value: Value) -> Value {
    if let Some(half) = extended(function, value) {
        return half;
    }
    let bits = constant(function, value);
    let mut cursor = cursor_before(function, before);
    match bits {
        Some(bits) => cursor.ins().iconst(types::I32, i64::from(bits as u32)),
        None => cursor.ins().ireduce(types::I32, value),
    }
}
