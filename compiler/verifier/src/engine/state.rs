//! What the engine knows of the registers at one point, as facts.
//!
//! The engine prints a state as lines such as `r1.type=number` and `r1.svalue=[0, 5]`. Three things are known of them:
//! * A line `x=[a, b]` or `x=a` is a bound that the engine has proven.
//! * A line `x=y` of two variables is no equation: the engine prints it for `x >= y` too. It is never used; where it
//!   stands in for the bounds of a register, these are asked for in another way ([`signed_bounds`]).
//! * Bounds belong to the number only where the type is `number` and nothing else. For pointers they are about the
//!   engine's model of addresses, and are dropped.

use bpf2sys_bytecode::Reg;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain, ebpf_domain_transform};
use prevail::crab::interval::Interval as EngineInterval;
use prevail::crab::var_registry::VariableRegistry;
use prevail::ir::syntax::{Bin, BinOp, Instruction, Reg as EngineReg, Value};

use crate::{Interval, RegisterFact, RegisterKind};

/// Lower and upper bound, where there is one.
pub(super) type Bounds = (Option<i128>, Option<i128>);

const UNBOUNDED: Bounds = (None, None);

/// What the lines say of one register.
#[derive(Clone, Copy)]
struct Lines {
    kind: RegisterKind,
    signed: Bounds,
    unsigned: Bounds,
    /// The signed bounds are printed for another variable.
    elsewhere: bool,
    /// The one map of programs that it is.
    program_map: Option<i32>,
    /// Distance from the start of the context.
    context_offset: Bounds,
    /// It is of several types, and the context is none of them.
    not_context: bool,
    /// It is of the same several types as this register.
    same_types: Option<usize>,
}

/// The registers in a state, and the descriptors of those that are one known map of programs.
pub(super) struct Registers {
    pub facts: [RegisterFact; Reg::COUNT],
    pub program_maps: [Option<i32>; Reg::COUNT],
    /// In bytes, of those that are context pointers.
    pub context_offsets: [Bounds; Reg::COUNT],
    /// Which may be context pointers.
    pub contexts: [bool; Reg::COUNT],
    /// Whether some number is said to be negative as an unsigned number: then the engine has computed it wrongly (it does
    /// for a 64-bit byte swap of a constant), and what it concludes from it is wrong too.
    pub impossible: bool,
}

/// A register of which no line was read yet.
const UNSAID: Lines = Lines {
    kind: RegisterKind::Unknown,
    signed: UNBOUNDED,
    unsigned: UNBOUNDED,
    elsewhere: false,
    program_map: None,
    context_offset: UNBOUNDED,
    not_context: false,
    same_types: None,
};

/// Reads a state that is not bottom.
pub(super) fn registers(state: &EbpfDomain, context: &DomainContext<'_>, names: &mut VariableRegistry) -> Registers {
    let mut lines = [UNSAID; Reg::COUNT];
    let text = state.to_set(names);
    if !text.is_bottom() {
        for line in text.value() {
            read_line(line, &mut lines);
        }
    }
    let mut facts = [RegisterFact::default(); Reg::COUNT];
    for (number, (fact, line)) in facts.iter_mut().zip(&mut lines).enumerate() {
        fact.kind = line.kind;
        if line.kind == RegisterKind::Number {
            if line.elsewhere {
                line.signed = signed_bounds(state, number as u8, context, names);
            }
            (fact.signed, fact.unsigned) = ranges(line.signed, line.unsigned);
        }
    }
    let negative = |line: &Lines| line.kind == RegisterKind::Number && line.unsigned.0.is_some_and(|low| low < 0);
    Registers {
        impossible: lines.iter().any(negative),
        facts,
        program_maps: lines.map(|l| l.program_map),
        context_offsets: lines.map(|l| l.context_offset),
        contexts: lines.map(|l| match l.kind {
            RegisterKind::Context => true,
            RegisterKind::Unknown => !l.same_types.map_or(l.not_context, |first| lines[first].not_context),
            _ => false,
        }),
    }
}

/// The signed bounds of a register: moved to `r0` in a copy of the state, whose bounds the engine tells directly.
fn signed_bounds(
    state: &EbpfDomain,
    register: u8,
    context: &DomainContext<'_>,
    names: &mut VariableRegistry,
) -> Bounds {
    let mut copy = state.clone();
    let to_r0 = Instruction::Bin(Bin {
        op: BinOp::MOV,
        dst: EngineReg { v: 0 },
        v: Value::Reg(EngineReg { v: register }),
        is64: true,
        lddw: false,
    });
    if register != 0 && ebpf_domain_transform(&mut copy, &to_r0, context, names).is_err() {
        return UNBOUNDED;
    }
    bounds(&copy.get_r0(names))
}

fn bounds(interval: &EngineInterval) -> Bounds {
    if interval.is_bottom() {
        return UNBOUNDED;
    }
    parse_bounds(&interval.to_string()).unwrap_or(UNBOUNDED)
}

/// Takes in one line, if it is about a register and of a known form.
fn read_line(line: &str, registers: &mut [Lines; Reg::COUNT]) {
    let (name, value, several) = match (line.split_once('='), line.split_once(" in {")) {
        (Some((name, value)), _) => (name, value, false),
        (None, Some((name, types))) => (name, types, true),
        (None, None) => return,
    };
    let Some((number, what)) = variable(name) else {
        return;
    };
    let Some(register) = registers.get_mut(number) else {
        return;
    };
    match what {
        "type" if several => {
            register.not_context = value
                .strip_suffix('}')
                .is_some_and(|types| types.split(", ").all(|name| name != "ctx"));
        }
        _ if several => {}
        "type" => {
            register.kind = kind(value);
            register.same_types = variable(value)
                .filter(|(number, what)| *number < Reg::COUNT && *what == "type")
                .map(|(number, _)| number);
        }
        "svalue" => match parse_bounds(value) {
            Some(bounds) => register.signed = bounds,
            None => register.elsewhere = true,
        },
        "uvalue" => register.unsigned = parse_bounds(value).unwrap_or(register.unsigned),
        "map_fd_programs" => register.program_map = value.parse().ok(),
        "ctx_offset" => register.context_offset = parse_bounds(value).unwrap_or(UNBOUNDED),
        _ => {}
    }
}

/// `r1.type`: the number of the register, and what of it.
fn variable(name: &str) -> Option<(usize, &str)> {
    let (number, what) = name.strip_prefix('r')?.split_once('.')?;
    Some((number.parse().ok()?, what))
}

fn kind(name: &str) -> RegisterKind {
    match name {
        "number" => RegisterKind::Number,
        "map_fd" => RegisterKind::Map,
        "map_fd_programs" => RegisterKind::MapOfPrograms,
        "ctx" => RegisterKind::Context,
        "packet" => RegisterKind::Packet,
        "stack" => RegisterKind::Stack,
        "shared" => RegisterKind::MapValue,
        _ => RegisterKind::Unknown,
    }
}

/// `5` or `[-3, +oo]`; anything else is `None`.
fn parse_bounds(text: &str) -> Option<Bounds> {
    if let Ok(value) = text.parse() {
        return Some((Some(value), Some(value)));
    }
    let (low, high) = text.strip_prefix('[')?.strip_suffix(']')?.split_once(", ")?;
    let bound = |text: &str, infinity| {
        if text == infinity {
            Some(None)
        } else {
            text.parse().ok().map(Some)
        }
    };
    Some((bound(low, "-oo")?, bound(high, "+oo")?))
}

/// The ranges of one 64-bit number whose value as a signed and as an unsigned number lies within these bounds.
///
/// Bounds that no such number can have, and bounds that contradict each other, are worth nothing.
fn ranges(signed: Bounds, unsigned: Bounds) -> (Interval, Option<(u64, u64)>) {
    let within = |bounds: Bounds, low: i128, high: i128| {
        let (a, b) = (bounds.0.unwrap_or(low), bounds.1.unwrap_or(high));
        (low <= a && a <= b && b <= high).then_some((a, b))
    };
    let unknown = (Interval::FULL, None);
    let (Some(signed), Some(unsigned)) = (
        within(signed, i64::MIN.into(), i64::MAX.into()),
        within(unsigned, 0, u64::MAX.into()),
    ) else {
        return unknown;
    };
    let meet = |a: (i128, i128), b: (i128, i128)| (a.0.max(b.0), a.1.min(b.1));
    // Each view bounds the other where it does not cross the other's wrap-around.
    let two_to_64 = i128::from(u64::MAX) + 1;
    let unsigned = match signed {
        (low, _) if low >= 0 => meet(unsigned, signed),
        (low, high) if high < 0 => meet(unsigned, (low + two_to_64, high + two_to_64)),
        _ => unsigned,
    };
    let signed = match unsigned {
        (_, high) if high <= i64::MAX.into() => meet(signed, unsigned),
        (low, high) if low > i64::MAX.into() => meet(signed, (low - two_to_64, high - two_to_64)),
        _ => signed,
    };
    if signed.0 > signed.1 || unsigned.0 > unsigned.1 {
        return unknown;
    }
    let interval = Interval {
        min: signed.0 as i64,
        max: signed.1 as i64,
    };
    let all = (0, i128::from(u64::MAX));
    let range = (unsigned != all).then_some((unsigned.0 as u64, unsigned.1 as u64));
    (interval, range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: i64, max: i64) -> Interval {
        Interval { min, max }
    }

    #[test]
    fn bounds_are_read_from_the_known_forms_only() {
        let cases = [
            ("5", Some((Some(5), Some(5)))),
            ("-7", Some((Some(-7), Some(-7)))),
            ("[0, 5]", Some((Some(0), Some(5)))),
            ("[-oo, 5]", Some((None, Some(5)))),
            ("[0, +oo]", Some((Some(0), None))),
            ("[0, 18446744073709551615]", Some((Some(0), Some(u64::MAX.into())))),
            ("r2.svalue", None),
            ("r2.svalue+4", None),
            ("[0, r2.svalue]", None),
            ("[0,5]", None),
            ("_|_", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_bounds(text), expected, "{text}");
        }
    }

    #[test]
    fn signed_and_unsigned_bounds_help_each_other() {
        let b = |a, b| (Some(a), Some(b));
        let cases = [
            (b(0, 5), UNBOUNDED, range(0, 5), Some((0, 5))),
            (UNBOUNDED, b(0, 5), range(0, 5), Some((0, 5))),
            (b(-2, -1), UNBOUNDED, range(-2, -1), Some((u64::MAX - 1, u64::MAX))),
            (
                UNBOUNDED,
                b(u64::MAX.into(), u64::MAX.into()),
                range(-1, -1),
                Some((u64::MAX, u64::MAX)),
            ),
            (b(-1, 5), UNBOUNDED, range(-1, 5), None),
            (b(-1, 5), b(0, 9), range(0, 5), Some((0, 9))),
            (b(2, 9), b(0, 5), range(2, 5), Some((2, 5))),
            (UNBOUNDED, b(3, 1 << 63), Interval::FULL, Some((3, 1 << 63))),
            (UNBOUNDED, UNBOUNDED, Interval::FULL, None),
            // Contradictions and impossible bounds.
            (b(0, 5), b(6, 7), Interval::FULL, None),
            (b(5, 0), UNBOUNDED, Interval::FULL, None),
            (b(-1, 1 << 63), UNBOUNDED, Interval::FULL, None),
            (UNBOUNDED, b(-1, 5), Interval::FULL, None),
            (UNBOUNDED, b(0, 1 << 64), Interval::FULL, None),
        ];
        for (signed, unsigned, expected_signed, expected_unsigned) in cases {
            let found = ranges(signed, unsigned);
            assert_eq!(found, (expected_signed, expected_unsigned), "{signed:?} {unsigned:?}");
        }
    }

    #[test]
    fn an_equation_between_variables_is_no_bound() {
        let mut lines = [UNSAID; Reg::COUNT];
        for line in [
            "r1.type=number",
            "r1.svalue=r2.svalue",
            "r1.uvalue=r1.svalue",
            "r2.type in {number, stack}",
            "r3.type=r2.type",
            "r7.type in {ctx, stack}",
            "r10.type=stack",
            "r11.type=number",
            "packet_size=5",
            "r4.svalue-r5.svalue<=5",
            "2/r6.svalue=5",
        ] {
            read_line(line, &mut lines);
        }
        assert_eq!(lines[1].kind, RegisterKind::Number);
        assert!(lines[1].elsewhere);
        assert_eq!((lines[1].signed, lines[1].unsigned), (UNBOUNDED, UNBOUNDED));
        assert_eq!(lines[2].kind, RegisterKind::Unknown);
        assert_eq!(lines[3].kind, RegisterKind::Unknown);
        assert_eq!(lines[10].kind, RegisterKind::Stack);
        assert_eq!(lines[6].signed, UNBOUNDED);
        assert!(lines[2].not_context && lines[3].same_types == Some(2));
        assert!(!lines[7].not_context);
    }
}
