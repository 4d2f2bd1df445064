//! Ways out of loops, behind the loops.
//!
//! Of the two blocks that a branch goes to, Cranelift places the second one behind the branch. Where that one leaves a loop and the other
//! one does not, all rounds would jump over it.

use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::{Block, Function, InstBuilder, InstructionData, Opcode};
use cranelift_codegen::loop_analysis::{Loop, LoopAnalysis};

/// Turns branches around that go on in a loop in the first place, and leave it in the second.
pub(crate) fn place_behind(function: &mut Function, loops: &LoopAnalysis) {
    let blocks: Vec<Block> = function.layout.blocks().collect();
    for block in blocks {
        let Some(inside) = loops.innermost_loop(block) else {
            continue;
        };
        let Some((branch, [one, other])) = super::branch(function, block) else {
            continue;
        };
        let pool = &function.dfg.value_lists;
        let stays = [one, other].map(|way| loops.is_in_loop(way.block(pool), inside));
        if stays != [true, false] || goes_round(function, one.block(pool), inside, loops) {
            continue;
        }
        let mut cursor = super::cursor_before(function, branch);
        let InstructionData::Brif { arg, .. } = cursor.func.dfg.insts[branch] else {
            continue;
        };
        let holds_not = match super::made_by(cursor.func, arg) {
            Some(InstructionData::IntCompare { cond, args, .. }) => {
                cursor.ins().icmp(cond.complement(), args[0], args[1])
            }
            _ => cursor.ins().icmp_imm_u(IntCC::Equal, arg, 0),
        };
        if let InstructionData::Brif { arg, blocks, .. } = &mut cursor.func.dfg.insts[branch] {
            *arg = holds_not;
            *blocks = [other, one];
        }
    }
}

/// Whether a block is the head of the loop, or does nothing but go there: what follows the last branch of a loop is outside of it.
fn goes_round(function: &Function, block: Block, inside: Loop, loops: &LoopAnalysis) -> bool {
    let head = loops.loop_header(inside);
    let last = function.layout.last_inst(block).map(|last| function.dfg.insts[last]);
    block == head
        || match last {
            Some(InstructionData::Jump {
                opcode: Opcode::Jump,
                destination,
            }) => destination.block(&function.dfg.value_lists) == head && is_all(function, block),
            _ => false,
        }
}

/// Whether a block's last instruction is its first.
fn is_all(function: &Function, block: Block) -> bool {
    function.layout.first_inst(block) == function.layout.last_inst(block)
}
