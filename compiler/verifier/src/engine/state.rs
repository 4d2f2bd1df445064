//! What the engine knows of the registers at one point, as facts.
//!
//! The engine prints a state as lines such as `r1.type=number` and `r1.svalue=[0, 5]`. Four things are known of them:
//! * A line `x=[a, b]` or `x=a` is a bound that the engine has proven.
//! * A line `x=y` of two variables is no equation: the engine prints it for `x >= y` too, and then not the bounds of `x`. These
//!   are asked for in another way ([`others`]). What `y` is at least, `x` is at least.
//! * A line `x-y<=a` is as it reads, and so is `x=y+a`.
//! * Bounds belong to the number only where the type is `number` and nothing else. For pointers they are about the
//!   engine's model of addresses, and only this is taken from them: whether the address can be 0. A null pointer with
//!   something added would not be 0 either; but the program does no such arithmetic ([`rules`](super::rules)), and a
//!   pointer whose distance from the start of its region is known to lie in it is not 0.
//!
//! Distances count in numbers without end in the engine, and addresses do not. Only distances of less than 2^31 are taken over:
//! there the two agree.

use bpf2sys_bytecode::Reg;
use prevail::crab::ebpf_domain::{DomainContext, EbpfDomain};
use prevail::crab::var_registry::VariableRegistry;

use crate::{Interval, RegisterFact, RegisterKind};

/// Lower and upper bound, where there is one.
pub(super) type Bounds = (Option<i128>, Option<i128>);

const UNBOUNDED: Bounds = (None, None);

/// How often a state is printed again for the bounds that it did not show.
const MOST_READINGS: usize = 2 * Reg::COUNT;

/// What the lines say of one variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Said {
    /// Nothing.
    #[default]
    Nothing,
    /// Its bounds.
    Bounds(Bounds),
    /// It is at least as large as this variable, and its bounds are not shown.
    AtLeast(String),
}

impl Said {
    fn bounds(&self) -> Bounds {
        match self {
            Said::Bounds(bounds) => *bounds,
            Said::Nothing | Said::AtLeast(_) => UNBOUNDED,
        }
    }

    /// The one value that it has.
    fn exactly(&self) -> Option<i128> {
        match self.bounds() {
            (Some(low), high) if high == Some(low) => Some(low),
            _ => None,
        }
    }
}

/// What the lines say of one register.
#[derive(Clone, Default)]
struct Lines {
    kind: RegisterKind,
    signed: Said,
    unsigned: Said,
    /// The descriptor of the map that it is, or of the map of programs.
    descriptor: Option<i32>,
    /// The one map of programs that it is.
    program_map: Option<i32>,
    /// Distances from the start of what it points into: see [`offset_name`].
    offsets: [Said; 4],
    /// Size of the map value that it points into.
    region: Said,
    /// Bytes from it to the end of the packet, at least.
    to_packet_end: i128,
    /// It is of several types, and the context is none of them.
    not_context: bool,
    /// It is of the same several types as this register.
    same_types: Option<usize>,
}

/// What the lines say.
#[derive(Clone, Default)]
struct Reading {
    registers: [Lines; Reg::COUNT],
    packet_size: Said,
}

/// The registers in a state, and the descriptors of those that are one known map of programs.
pub(super) struct Registers {
    pub facts: [RegisterFact; Reg::COUNT],
    pub program_maps: [Option<i32>; Reg::COUNT],
    /// The descriptors of those that are one known map, of programs or not.
    pub descriptors: [Option<i32>; Reg::COUNT],
    /// In bytes, of those that are context pointers.
    pub context_offsets: [Bounds; Reg::COUNT],
    /// Which may be context pointers.
    pub contexts: [bool; Reg::COUNT],
    /// In bytes, of the map values that those that may be pointers to one point into.
    pub region_sizes: [Bounds; Reg::COUNT],
    /// Bytes in the packet, at least.
    pub packet_bytes: u32,
    /// Whether some number is said to be negative as an unsigned number: then the engine has computed it wrongly (it does
    /// for a 64-bit byte swap of a constant), and what it concludes from it is wrong too.
    pub impossible: bool,
}

/// Reads a state that is not bottom.
pub(super) fn registers(state: &EbpfDomain, context: &DomainContext<'_>, names: &mut VariableRegistry) -> Registers {
    let mut reading = read(state, names);
    let lines = &reading.registers;
    let negative =
        |line: &Lines| line.kind == RegisterKind::Number && line.unsigned.bounds().0.is_some_and(|low| low < 0);
    let impossible = lines.iter().any(negative);
    let context_offsets = lines.each_ref().map(|l| l.offsets[CONTEXT].bounds());
    let contexts = lines.each_ref().map(|l| match l.kind {
        RegisterKind::Context => true,
        RegisterKind::Unknown => !l.same_types.map_or(l.not_context, |first| lines[first].not_context),
        _ => false,
    });
    let non_null = lines.each_ref().map(|l| at_least_one(&l.unsigned, lines));
    others(&mut reading, state, names);

    let lines = &reading.registers;
    let region_sizes = lines.each_ref().map(|l| l.region.bounds());
    let packet = reading.packet_size.bounds().0.unwrap_or(0);
    let frame = lines[Reg::R10.index()].offsets[STACK].bounds();
    let context_size = context
        .program_info
        .program_type
        .ctx_descriptor
        .map_or(0, |c| i128::from(c.size));
    let mut facts = [RegisterFact::default(); Reg::COUNT];
    for ((fact, line), non_null) in facts.iter_mut().zip(lines).zip(non_null) {
        *fact = match line.kind {
            RegisterKind::Number => {
                let (signed, unsigned) = ranges(line.signed.bounds(), line.unsigned.bounds());
                RegisterFact {
                    kind: RegisterKind::Number,
                    non_null: signed.min > 0 || signed.max < 0 || unsigned.is_some_and(|(low, _)| low > 0),
                    signed,
                    unsigned,
                    ..RegisterFact::default()
                }
            }
            kind @ (RegisterKind::Map | RegisterKind::MapOfPrograms) => RegisterFact {
                kind,
                non_null,
                ..RegisterFact::default()
            },
            RegisterKind::Context => pointer(line, CONTEXT, |_, high| context_size - high),
            RegisterKind::Packet => pointer(line, PACKET, |_, high| (packet - high).max(line.to_packet_end)),
            RegisterKind::MapValue => {
                let size = line.region.exactly().unwrap_or(0);
                let fact = pointer(line, SHARED, |_, high| size - high);
                let inside = |(low, high): (i32, i32)| low >= 0 && i128::from(high) <= size;
                RegisterFact {
                    non_null: non_null && fact.offset.is_some_and(inside),
                    ..fact
                }
            }
            RegisterKind::Stack => own_frame(line, frame),
            RegisterKind::Unknown => RegisterFact::default(),
        };
    }
    Registers {
        impossible,
        facts,
        program_maps: lines.each_ref().map(|l| l.program_map),
        descriptors: lines.each_ref().map(|l| l.descriptor),
        context_offsets,
        contexts,
        region_sizes,
        packet_bytes: clamp(packet),
    }
}

/// A pointer into a region that starts at distance 0. `room` computes the bytes from it to the region's end, at least.
fn pointer(line: &Lines, region: usize, room: impl Fn(i128, i128) -> i128) -> RegisterFact {
    let offset = distance(line.offsets[region].bounds());
    let low = line.offsets[region].bounds().0;
    RegisterFact {
        kind: line.kind,
        offset,
        room: match offset {
            Some((low, high)) if low >= 0 => clamp(room(low.into(), high.into())),
            // Of a packet pointer, how far it is from the end can be known without how far it can be from the start.
            None if region == PACKET && low.is_some_and(|low| low >= 0) => clamp(line.to_packet_end),
            _ => 0,
        },
        ..RegisterFact::default()
    }
}

/// A pointer into the running function's frame, or just into the stack.
fn own_frame(line: &Lines, r10: Bounds) -> RegisterFact {
    let relative = match (line.offsets[STACK].bounds(), r10) {
        ((Some(low), Some(high)), (Some(top), Some(same))) if top == same => {
            distance((Some(low - top), Some(high - top)))
        }
        _ => None,
    };
    let offset = relative.filter(|(low, high)| -512 <= *low && *high <= 0);
    RegisterFact {
        kind: RegisterKind::Stack,
        offset,
        room: offset.map_or(0, |(_, high)| high.unsigned_abs()),
        ..RegisterFact::default()
    }
}

/// Bounds in which distances are the same for the engine and for the machine.
fn distance(bounds: Bounds) -> Option<(i32, i32)> {
    let (low, high) = (i32::try_from(bounds.0?).ok()?, i32::try_from(bounds.1?).ok()?);
    (low <= high).then_some((low, high))
}

fn clamp(bytes: i128) -> u32 {
    bytes.clamp(0, u32::MAX.into()) as u32
}

/// Whether an unsigned number is at least 1, by its own bounds or by those of what it is at least as large as.
fn at_least_one(said: &Said, registers: &[Lines; Reg::COUNT]) -> bool {
    let bounds = match said {
        Said::AtLeast(other) => match variable(other) {
            Some((register, "uvalue")) if register < Reg::COUNT => registers[register].unsigned.bounds(),
            _ => UNBOUNDED,
        },
        said => said.bounds(),
    };
    bounds.0.is_some_and(|low| low >= 1)
}

/// Finds the bounds that a first reading did not show: without the variables that were named in their place, the engine shows
/// them. It forgets what it knew of those, which leaves true what it knows of the others.
fn others(reading: &mut Reading, state: &EbpfDomain, names: &VariableRegistry) {
    let mut copy = None;
    for _ in 0..MOST_READINGS {
        let all = reading.registers.iter_mut().flat_map(wanted);
        let mut hidden: Vec<String> = all.filter_map(|said| hidden_behind(said)).collect();
        if hidden.is_empty() {
            return;
        }
        hidden.sort_unstable();
        hidden.dedup();
        let copy = copy.get_or_insert_with(|| state.clone());
        for name in &hidden {
            copy.havoc(names.get(name));
        }
        let mut again = read(copy, names);
        for (mine, theirs) in reading.registers.iter_mut().zip(&mut again.registers) {
            mine.to_packet_end = mine.to_packet_end.max(theirs.to_packet_end);
            for (mine, theirs) in wanted(mine).zip(wanted(theirs)) {
                if hidden_behind(mine).is_some() {
                    *mine = std::mem::take(theirs);
                }
            }
        }
    }
}

/// What of a register is of use.
fn wanted(line: &mut Lines) -> impl Iterator<Item = &mut Said> {
    let Lines {
        kind,
        signed,
        unsigned,
        offsets: [context, packet, shared, stack],
        region,
        ..
    } = line;
    let (first, second) = match kind {
        // Of a number without a sign, one view says it all.
        RegisterKind::Number if signed.bounds().0.is_some_and(|low| low >= 0) => (Some(signed), None),
        RegisterKind::Number => (Some(signed), Some(unsigned)),
        RegisterKind::Context => (Some(context), None),
        // How far the end of the packet is from its start is of no use.
        RegisterKind::Packet if *packet != Said::AtLeast(PACKET_SIZE.to_owned()) => (Some(packet), None),
        RegisterKind::MapValue => (Some(shared), Some(region)),
        RegisterKind::Stack => (Some(stack), None),
        RegisterKind::Unknown | RegisterKind::Map | RegisterKind::MapOfPrograms | RegisterKind::Packet => (None, None),
    };
    first.into_iter().chain(second)
}

/// The variable whose name is shown in place of bounds.
fn hidden_behind(said: &Said) -> Option<String> {
    match said {
        Said::AtLeast(name) => Some(name.clone()),
        _ => None,
    }
}

const PACKET_SIZE: &str = "packet_size";
const CONTEXT: usize = 0;
const PACKET: usize = 1;
const SHARED: usize = 2;
const STACK: usize = 3;

/// What the engine calls the distances, in the order of [`Lines::offsets`].
const OFFSETS: [&str; 4] = ["ctx_offset", "packet_offset", "shared_offset", "stack_offset"];

/// What a state shows of the registers.
fn read(state: &EbpfDomain, names: &VariableRegistry) -> Reading {
    let mut reading = Reading::default();
    let text = state.to_set(names);
    if !text.is_bottom() {
        for line in text.value() {
            read_line(line, &mut reading);
        }
    }
    reading
}

/// Takes in one line, if it is about a register or the packet and of a known form.
fn read_line(line: &str, reading: &mut Reading) {
    if let Some((difference, most)) = line.split_once("<=") {
        // `r2.packet_offset-packet_size<=-20`
        if let Some((name, PACKET_SIZE)) = difference.split_once('-')
            && let Ok(most) = most.parse::<i128>()
        {
            reading.before_packet_end(name, most.saturating_neg());
        }
        return;
    }
    let (name, value, several) = match (line.split_once('='), line.split_once(" in {")) {
        (Some((name, value)), _) => (name, value, false),
        (None, Some((name, types))) => (name, types, true),
        (None, None) => return,
    };
    if name == PACKET_SIZE {
        match value.split_once('+') {
            // `packet_size=r2.packet_offset+20`
            Some((other, more)) => reading.before_packet_end(other, more.parse().unwrap_or(0)),
            None => reading.packet_size = said(value),
        }
        return;
    }
    let Some((number, what)) = variable(name) else {
        return;
    };
    let Some(register) = reading.registers.get_mut(number) else {
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
        // A sum of two variables, beside which the bounds are shown.
        _ if value.contains('+') && !value.ends_with("+oo]") => {}
        "svalue" => register.signed = said(value),
        "uvalue" => register.unsigned = said(value),
        "map_fd" => register.descriptor = value.parse().ok(),
        "map_fd_programs" => {
            register.program_map = value.parse().ok();
            register.descriptor = register.program_map;
        }
        "shared_region_size" => register.region = said(value),
        _ => {
            if let Some(region) = OFFSETS.iter().position(|offset| *offset == what) {
                register.offsets[region] = said(value);
            }
        }
    }
}

impl Reading {
    /// A packet pointer is that many bytes before the end of the packet, at least.
    fn before_packet_end(&mut self, name: &str, bytes: i128) {
        if let Some((number, "packet_offset")) = variable(name)
            && let Some(register) = self.registers.get_mut(number)
        {
            register.to_packet_end = register.to_packet_end.max(bytes);
        }
    }
}

fn said(value: &str) -> Said {
    match parse_bounds(value) {
        Some(bounds) => Said::Bounds(bounds),
        None => Said::AtLeast(value.to_owned()),
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
    fn lines_are_taken_for_what_they_say_and_no_more() {
        let mut reading = Reading::default();
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
            "r8.packet_offset=[14, +oo]",
            "r8.packet_offset=r7.packet_offset+4",
            "r8.packet_offset-packet_size<=-20",
            "packet_size=r9.packet_offset+7",
        ] {
            read_line(line, &mut reading);
        }
        let lines = &reading.registers;
        assert_eq!(lines[1].kind, RegisterKind::Number);
        let at_least = |name: &str| Said::AtLeast(name.to_owned());
        assert_eq!(lines[1].signed, at_least("r2.svalue"));
        assert_eq!(lines[1].unsigned, at_least("r1.svalue"));
        assert_eq!(lines[2].kind, RegisterKind::Unknown);
        assert_eq!(lines[3].kind, RegisterKind::Unknown);
        assert_eq!(lines[10].kind, RegisterKind::Stack);
        assert_eq!(lines[6].signed, Said::Nothing);
        assert!(lines[2].not_context && lines[3].same_types == Some(2));
        assert!(!lines[7].not_context);
        assert_eq!(lines[8].offsets[PACKET], Said::Bounds((Some(14), None)));
        assert_eq!((lines[8].to_packet_end, lines[9].to_packet_end), (20, 7));
        assert_eq!(reading.packet_size, Said::Bounds((Some(5), Some(5))));
    }
}
