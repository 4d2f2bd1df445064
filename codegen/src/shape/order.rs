//! x64: the instruction that may destroy a value, behind the others that need it.
//!
//! Most instructions of x64 put their result where their first operand was. Where that is needed afterwards, it is copied before. Cranelift
//! makes instructions in the order of its IR, which is that of first needs: this moves one that destroys behind one that does not (a sum, which
//! `lea` makes, a comparison, an access) where nothing else needs the value. A choice destroys the value that is there if its condition does
//! not hold: this turns the condition round where that value is needed afterwards, and the other one is not. It comes behind the optimizer,
//! which would undo it.

use cranelift_codegen::ir::condcodes::CondCode;
use cranelift_codegen::ir::{Block, Function, Inst, InstBuilder, InstructionData, Opcode, Value};
use rustc_hash::FxHashMap;

use super::{cursor_before, made_by, whole};

/// How many instructions behind its first user a value's last one is looked for.
const MOST_BETWEEN: usize = 24;

/// Moves instructions down within their blocks.
pub(crate) fn destroy_last(function: &mut Function) {
    let users = Users::of(function);
    let blocks: Vec<Block> = function.layout.blocks().collect();
    for block in blocks {
        let insts: Vec<Inst> = function.layout.block_insts(block).collect();
        let places: FxHashMap<Inst, usize> = insts.iter().copied().zip(0..).collect();
        for &inst in &insts {
            turn_choice(function, inst, &users, &places);
            let Some(behind) = last_user(function, inst, &users, &places) else {
                continue;
            };
            if let Some(before) = function.layout.next_inst(behind) {
                function.layout.remove_inst(inst);
                function.layout.insert_inst(inst, before);
            }
        }
    }
}

/// The instruction behind which one that destroys its operand is to stand. `places` are those of the block's instructions before anything moved.
fn last_user(function: &Function, inst: Inst, users: &Users, places: &FxHashMap<Inst, usize>) -> Option<Inst> {
    let destroyed = destroyed(function, inst)?;
    let of_value = users.of_whole.get(&destroyed)?;
    let here = places.get(&inst)?;
    let last = *of_value.iter().max_by_key(|user| places.get(*user))?;
    // All are in this block, and none of the others destroys it.
    let fits = of_value.iter().all(|user| {
        places.contains_key(user) && (*user == inst || self::destroyed(function, *user) != Some(destroyed))
    });
    let place = *places.get(&last)?;
    if !fits || place <= *here || place - here > MOST_BETWEEN {
        return None;
    }
    let of_result = users.direct.get(&function.dfg.first_result(inst));
    let is_behind = |user: &Inst| places.get(user).is_none_or(|user| *user > place);
    let is_unneeded = of_result.is_none_or(|users| users.iter().all(is_behind));
    (is_unneeded && !function.dfg.insts[last].opcode().is_terminator()).then_some(last)
}

/// Turns the condition of a choice round if that saves a copy.
fn turn_choice(function: &mut Function, inst: Inst, users: &Users, places: &FxHashMap<Inst, usize>) {
    let InstructionData::Ternary {
        opcode: Opcode::Select,
        args: [condition, chosen, other],
    } = function.dfg.insts[inst]
    else {
        return;
    };
    let of = |value: Value| users.direct.get(&function.dfg.resolve_aliases(value));
    let is_alone = |value: Value| of(value).is_some_and(|users| users.as_slice() == [inst]);
    let here = places.get(&inst);
    let needed_behind = |user: &Inst| {
        places
            .get(user)
            .is_none_or(|place| here.is_some_and(|here| place > here))
    };
    let is_register = |value: Value| super::constant(function, value).is_none();
    if !is_alone(chosen) || !is_register(chosen) || !of(other).is_some_and(|users| users.iter().any(needed_behind)) {
        return;
    }
    // Cranelift compares for each use of a comparison anyway.
    if let Some(InstructionData::IntCompare { cond, args, .. }) = made_by(function, condition) {
        let turned = cursor_before(function, inst)
            .ins()
            .icmp(cond.complement(), args[0], args[1]);
        function
            .dfg
            .inst_args_mut(inst)
            .copy_from_slice(&[turned, other, chosen]);
    }
}

/// The value whose register an instruction writes its result to, if it has no other form.
fn destroyed(function: &Function, inst: Inst) -> Option<Value> {
    let operand = match function.dfg.insts[inst] {
        InstructionData::Unary {
            opcode: Opcode::Bswap | Opcode::Bnot | Opcode::Ineg,
            arg,
        } => arg,
        InstructionData::Binary {
            opcode:
                Opcode::Ishl
                | Opcode::Ushr
                | Opcode::Sshr
                | Opcode::Rotl
                | Opcode::Rotr
                | Opcode::Band
                | Opcode::Bor
                | Opcode::Bxor
                | Opcode::Isub,
            args,
        } => args[0],
        _ => return None,
    };
    let value = whole(function, operand);
    super::constant(function, value).is_none().then_some(value)
}

/// The instructions that need values.
#[derive(Default)]
struct Users {
    /// By value: those that need it or a part of it.
    of_whole: FxHashMap<Value, Vec<Inst>>,
    /// By value: those that have it as an operand, also those that only take a part of it.
    direct: FxHashMap<Value, Vec<Inst>>,
}

impl Users {
    fn of(function: &Function) -> Users {
        let mut users = Users::default();
        let insts = function
            .layout
            .blocks()
            .flat_map(|block| function.layout.block_insts(block));
        for inst in insts {
            let is_part = function.dfg.insts[inst].opcode() == Opcode::Ireduce;
            for value in function.dfg.inst_values(inst) {
                let value = function.dfg.resolve_aliases(value);
                users.direct.entry(value).or_default().push(inst);
                if !is_part {
                    users.of_whole.entry(whole(function, value)).or_default().push(inst);
                }
            }
        }
        users
    }
}

#[cfg(test)]
mod tests {
    use cranelift_reader::parse_functions;

    use super::destroy_last;

    /// The opcodes of a function whose one block is this, in their order afterwards.
    fn order(block: &str) -> String {
        let text = format!("function %f(i64, i64) -> i64 windows_fastcall {{\nblock0(v0: i64, v1: i64):\n{block}\n}}");
        let mut function = parse_functions(&text).unwrap().remove(0);
        destroy_last(&mut function);
        let block = function.layout.entry_block().unwrap();
        let opcodes = function
            .layout
            .block_insts(block)
            .map(|inst| function.dfg.insts[inst].opcode().to_string())
            .filter(|opcode| opcode != "iconst");
        opcodes.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_choice_destroys_what_nobody_needs() {
        let turned = |uses: &str| {
            let text = format!(
                "function %f(i64, i64) -> i64 windows_fastcall {{\nblock0(v0: i64, v1: i64):\n v2 = iadd v0, v1\n \
                 v3 = icmp ult v0, v1\n v4 = select v3, v2, v0\n {uses}\n}}"
            );
            let mut function = parse_functions(&text).unwrap().remove(0);
            destroy_last(&mut function);
            let text = function.display().to_string();
            let is_turned = text.contains("icmp uge v0, v1");
            assert_eq!(!text.contains("select v3, v2, v0"), is_turned, "{text}");
            is_turned
        };
        assert!(turned("v5 = bxor v4, v0\n return v5"));
        assert!(!turned("v5 = bxor v4, v1\n return v5"), "both go");
        assert!(!turned("v5 = bxor v4, v0\n v6 = bxor v5, v2\n return v6"), "both stay");
        // A comparison that is used again is made again.
        assert!(turned("v5 = select v3, v4, v0\n return v5"));
    }

    #[test]
    fn what_destroys_a_value_comes_behind_what_leaves_it() {
        let cases = [
            (
                "v2 = rotl v0, v1\n v3 = iadd v0, v1\n v4 = bxor v2, v3\n return v4",
                "iadd rotl bxor return",
            ),
            // Its result is needed before.
            (
                "v2 = rotl v0, v1\n v3 = iadd v0, v2\n v4 = bxor v2, v3\n return v4",
                "rotl iadd bxor return",
            ),
            // Two destroy it, and one has to copy it.
            (
                "v2 = rotl v0, v1\n v3 = bxor v0, v1\n v4 = iadd v2, v3\n return v4",
                "rotl bxor iadd return",
            ),
            // A part of its result is taken before, and the exclusive or comes behind the part for its part.
            (
                "v2 = bswap v0\n v5 = ireduce.i32 v2\n v3 = iadd v0, v1\n v4 = bxor v2, v3\n v6 = uextend.i64 v5\n v7 = iadd v4, v6\n return v7",
                "bswap ireduce iadd uextend bxor iadd return",
            ),
            // The last one is where the block ends.
            ("v2 = bswap v0\n v3 = iadd v2, v1\n return v0", "bswap iadd return"),
            // A part of the value is destroyed.
            (
                "v5 = ireduce.i32 v0\n v2 = bswap v5\n v3 = iadd v0, v1\n v4 = uextend.i64 v2\n v6 = iadd v3, v4\n return v6",
                "ireduce iadd bswap uextend iadd return",
            ),
        ];
        for (block, expected) in cases {
            assert_eq!(order(block), expected, "{block}");
        }
    }
}
