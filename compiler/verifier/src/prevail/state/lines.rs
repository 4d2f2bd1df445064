//! What the engine prints of a state, as text taken apart.
//!
//! * A line `x=[a, b]` or `x=a` is a bound that the engine has proven.
//! * A line `x=y` of two variables is no equation: the engine prints it for `x >= y` too, and then not the bounds of `x`. These
//!   are asked for in another way ([`others`]). What `y` is at least, `x` is at least.
//! * A line `x-y<=a` is as it reads, and so is `x=y+a`.

use bpf2sys_bytecode::Reg;
use prevail::crab::ebpf_domain::EbpfDomain;
use prevail::crab::var_registry::VariableRegistry;

use crate::RegisterKind;

/// Lower and upper bound, where there is one.
pub(in crate::prevail) type Bounds = (Option<i128>, Option<i128>);

pub(super) const UNBOUNDED: Bounds = (None, None);

/// How often a state is printed again for the bounds that it did not show.
const MOST_READINGS: usize = 2 * Reg::COUNT;

/// What the lines say of one variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing.
    #[default]
    Nothing,
    /// Its bounds.
    Bounds(Bounds),
    /// It is at least as large as this variable, and its bounds are not shown.
    AtLeast(String),
}

impl Said {
    pub(super) fn bounds(&self) -> Bounds {
        match self {
            Said::Bounds(bounds) => *bounds,
            Said::Nothing | Said::AtLeast(_) => UNBOUNDED,
        }
    }

    /// The one value that it has.
    pub(super) fn exactly(&self) -> Option<i128> {
        match self.bounds() {
            (Some(low), high) if high == Some(low) => Some(low),
            _ => None,
        }
    }
}

/// What the lines say of one register.
#[derive(Clone, Default)]
pub(super) struct Lines {
    pub(super) kind: RegisterKind,
    pub(super) signed: Said,
    pub(super) unsigned: Said,
    /// The descriptor of the map that it is, or of the map of programs.
    pub(super) descriptor: Option<i32>,
    /// The one map of programs that it is.
    pub(super) program_map: Option<i32>,
    /// Distances from the start of what it points into: see [`offset_name`].
    pub(super) offsets: [Said; 4],
    /// Size of the map value that it points into.
    pub(super) region: Said,
    /// Bytes from it to the end of the packet, at least.
    pub(super) to_packet_end: i128,
    /// It is of several types, and the context is none of them.
    pub(super) not_context: bool,
    /// It is of the same several types as this register.
    pub(super) same_types: Option<usize>,
}

/// What the lines say.
#[derive(Clone, Default)]
pub(super) struct Reading {
    pub(super) registers: [Lines; Reg::COUNT],
    pub(super) packet_size: Said,
}

/// Finds the bounds that a first reading did not show: without the variables that were named in their place, the engine shows
/// them. It forgets what it knew of those, which leaves true what it knows of the others.
pub(super) fn others(reading: &mut Reading, state: &EbpfDomain, names: &VariableRegistry) {
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
pub(super) const CONTEXT: usize = 0;
pub(super) const PACKET: usize = 1;
pub(super) const SHARED: usize = 2;
pub(super) const STACK: usize = 3;

/// What the engine calls the distances, in the order of [`Lines::offsets`].
const OFFSETS: [&str; 4] = ["ctx_offset", "packet_offset", "shared_offset", "stack_offset"];

/// What a state shows of the registers.
pub(super) fn read(state: &EbpfDomain, names: &VariableRegistry) -> Reading {
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
pub(super) fn variable(name: &str) -> Option<(usize, &str)> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
