//! Which bits of a value can be set.

use cranelift_codegen::ir::{Function, InstructionData, Opcode, Value, ValueDef};
use rustc_hash::FxHashMap;

use super::{constant, edges_of, made_by};

/// How many instructions a value is followed back.
const MOST_STEPS: u32 = 16;
/// How often what is known of a parameter may change. It is any number then.
const MOST_CHANGES: u32 = 4;

/// What is known of the values of a function. It stays right while values are replaced by others that are the same.
#[derive(Default)]
pub(super) struct Possible {
    known: FxHashMap<Value, u64>,
    /// Those of block parameters that are not any number.
    parameters: FxHashMap<Value, u64>,
}

impl Possible {
    /// Follows what blocks are passed, too: what is passed round a loop is taken for nothing at first, until the loop has been seen.
    pub(super) fn of_function(function: &Function) -> Possible {
        let mut possible = Possible::default();
        let entry = function.layout.entry_block();
        let blocks = function.layout.blocks().filter(|block| Some(*block) != entry);
        let parameters = blocks.flat_map(|block| function.dfg.block_params(block));
        possible.parameters = parameters.map(|value| (*value, 0)).collect();
        let mut changes: FxHashMap<Value, u32> = FxHashMap::default();
        let mut passed: Vec<(Value, Option<Value>)> = edges_of(function)
            .flat_map(|(to, arguments)| function.dfg.block_params(to).iter().copied().zip(arguments))
            .collect();
        let mut is_settled = false;
        while !is_settled {
            is_settled = true;
            possible.known.clear();
            // Of those that are any number already, nothing more is learned.
            passed.retain(|(parameter, argument)| {
                let Some(before) = possible.parameters.get(parameter).copied() else {
                    return false;
                };
                let after = before | argument.map_or(u64::MAX, |value| possible.bits(function, value));
                if after == before {
                    return true;
                }
                is_settled = false;
                let changes = changes.entry(*parameter).or_default();
                *changes += 1;
                if *changes > MOST_CHANGES || after == u64::MAX {
                    possible.parameters.remove(parameter);
                } else {
                    possible.parameters.insert(*parameter, after);
                }
                true
            });
        }
        possible
    }

    /// The bits of a value that may be set.
    pub(super) fn bits(&mut self, function: &Function, value: Value) -> u64 {
        self.follow(function, value, MOST_STEPS)
    }

    /// No bit of the value from this one on is set.
    pub(super) fn width(&mut self, function: &Function, value: Value) -> u32 {
        u64::BITS - self.bits(function, value).leading_zeros()
    }

    fn follow(&mut self, function: &Function, value: Value, steps: u32) -> u64 {
        let value = function.dfg.resolve_aliases(value);
        let width = function.dfg.value_type(value).bits();
        let all = ones(width);
        let Some(steps) = steps.checked_sub(1) else {
            return all;
        };
        if let Some(known) = self.known.get(&value) {
            return *known;
        }
        if let ValueDef::Param(..) = function.dfg.value_def(value) {
            return self.parameters.get(&value).map_or(all, |bits| bits & all);
        }
        let Some(data) = made_by(function, value) else {
            return all;
        };
        let count = |count: Value| {
            let count = constant(function, count).and_then(|count| u32::try_from(count).ok());
            count.filter(|count| *count < width)
        };
        let mut of = |value: Value| self.follow(function, value, steps);
        let found = match data {
            InstructionData::UnaryImm {
                opcode: Opcode::Iconst,
                imm,
            } => imm.bits().cast_unsigned(),
            InstructionData::Load { opcode, .. } => match opcode {
                Opcode::Uload8 => ones(8),
                Opcode::Uload16 => ones(16),
                Opcode::Uload32 => ones(32),
                _ => all,
            },
            InstructionData::IntCompare { .. } => 1,
            InstructionData::Unary { opcode, arg } => match opcode {
                Opcode::Uextend | Opcode::Ireduce => of(arg),
                Opcode::Bswap => of(arg).swap_bytes() >> (u64::BITS - width),
                _ => all,
            },
            InstructionData::Binary { opcode, args: [a, b] } => match opcode {
                Opcode::Band => of(a) & of(b),
                Opcode::Bor | Opcode::Bxor => of(a) | of(b),
                Opcode::Iadd => sum(of(a), of(b)),
                Opcode::Imul => product(of(a), of(b)),
                Opcode::Ushr => match count(b) {
                    Some(count) => of(a) >> count,
                    None => below(of(a)),
                },
                Opcode::Ishl => count(b).map_or(all, |count| of(a) << count),
                Opcode::Udiv | Opcode::Urem => below(of(a)),
                _ => all,
            },
            InstructionData::Ternary {
                opcode: Opcode::Select,
                args,
            } => of(args[1]) | of(args[2]),
            _ => all,
        };
        let found = found & all;
        self.known.insert(value, found);
        found
    }
}

/// That many low bits.
pub(super) fn ones(bits: u32) -> u64 {
    1_u64.checked_shl(bits).map_or(u64::MAX, |bit| bit - 1)
}

/// All bits up to the highest one.
fn below(bits: u64) -> u64 {
    ones(u64::BITS - bits.leading_zeros())
}

/// The bits of a sum: up to one more than both have, and none below the lowest.
fn sum(a: u64, b: u64) -> u64 {
    if a & b == 0 {
        return a | b;
    }
    let both = a | b;
    ones(u64::BITS - both.leading_zeros() + 1) & !ones(both.trailing_zeros())
}

fn product(a: u64, b: u64) -> u64 {
    let bits = |one: u64| u64::BITS - one.leading_zeros();
    ones(bits(a) + bits(b)) & !ones((a.trailing_zeros() + b.trailing_zeros()).min(u64::BITS))
}

#[cfg(test)]
mod tests {
    use cranelift_reader::parse_functions;

    use super::Possible;

    /// How many bits the value has that the last block of a function is passed, as its first parameter.
    fn width(blocks: &str) -> u32 {
        let text = format!("function %f(i64, i64) -> i64 windows_fastcall {{\n{blocks}\n}}");
        let function = parse_functions(&text).unwrap().remove(0);
        let last = function.layout.last_block().unwrap();
        let value = function.dfg.block_params(last)[0];
        Possible::of_function(&function).width(&function, value)
    }

    #[test]
    fn what_is_passed_round_a_loop_is_followed() {
        let looped = |first: &str, next: &str| {
            width(&format!(
                "block0(v0: i64, v1: i64):\n v2 = {first}\n jump block1(v2)\n\
                 block1(v3: i64):\n v4 = iconst.i64 255\n v5 = {next}\n brif v1, block1(v5), block2(v3)\n\
                 block2(v6: i64):\n return v6"
            ))
        };
        assert_eq!(looped("uload8.i64 v0", "band v3, v4"), 8);
        assert_eq!(looped("uload32.i64 v0", "bxor v3, v4"), 32);
        assert_eq!(looped("uload8.i64 v0", "uload16.i64 v0"), 16);
        assert_eq!(looped("uload8.i64 v0", "iadd v3, v4"), 64, "it grows");
        assert_eq!(looped("uload8.i64 v0", "isub v3, v4"), 64);
        assert_eq!(looped("load.i64 v0", "band v3, v4"), 64);
    }

    #[test]
    fn what_comes_through_many_blocks_is_known() {
        let chain: String = (1..40)
            .map(|block| {
                format!(
                    "block{block}(v{0}: i64):\n jump block{1}(v{0})\n",
                    block + 10,
                    block + 1
                )
            })
            .collect();
        let text = format!(
            "block0(v0: i64, v1: i64):\n v2 = uload8.i64 v0\n jump block1(v2)\n{chain}block40(v90: i64):\n return v90"
        );
        assert_eq!(width(&text), 8);
    }
}
