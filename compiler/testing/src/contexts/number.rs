//! Numbers as people write them: in decimal or hex, and by the names of their values.

use bpf2sys_platform::{ByteOrder, Enumerator, Field, Format};
use serde_json::Value;

/// Widest field that is a number, in bytes.
pub(super) const MAX_BYTES: u32 = 8;

/// C types that can be negative. Of other types, which may be enumerations, the values tell.
const SIGNED: [&str; 12] = [
    "int8_t",
    "int16_t",
    "int32_t",
    "int64_t",
    "char",
    "signed char",
    "short",
    "int",
    "long",
    "long long",
    "__s32",
    "__s64",
];

/// IP protocols by their keywords, as IANA assigns them. Of two names of one number, the first is shown.
const PROTOCOLS: [(&str, u8); 12] = [
    ("ICMP", 1),
    ("IGMP", 2),
    ("TCP", 6),
    ("UDP", 17),
    ("GRE", 47),
    ("ESP", 50),
    ("AH", 51),
    ("ICMPv6", 58),
    ("IPv6-ICMP", 58),
    ("SCTP", 132),
    ("UDPLite", 136),
    ("RAW", 255),
];

/// A number: one of JSON without fraction, or text in decimal, or in hex behind `0x`.
pub(super) fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number
            .as_u64()
            .map(i128::from)
            .or_else(|| number.as_i64().map(i128::from)),
        Value::String(text) => hex(text)
            .map(i128::from)
            .or_else(|| text.parse::<i64>().ok().map(i128::from))
            .or_else(|| text.parse::<u64>().ok().map(i128::from)),
        _ => None,
    }
}

fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let plain = digits.bytes().all(|c| c.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| plain)
}

/// The bytes of a field that is a number. Hex digits are its bits, also where it can be negative.
pub(super) fn parse(field: &Field, value: &Value) -> Option<Vec<u8>> {
    let [min, max] = range(field);
    let bits = match value {
        Value::String(text) if let Some(bits) = hex(text) => i128::from(bits),
        Value::String(text) if let Some(value) = named(field, text) => value,
        _ => integer(value).filter(|number| (min..=max).contains(number))?,
    };
    let width = width(field);
    let fits = bits >= -(1 << (width - 1)) && bits < 1 << width;
    fits.then(|| to_bytes(field, bits as u64))
}

/// The number in the bytes of a field; by its name if it has one.
pub(super) fn show(field: &Field, bytes: &[u8]) -> Option<Value> {
    let bits = from_bytes(field, bytes)?;
    let same = |value: i64| to_bytes(field, value as u64) == bytes;
    if let Some(known) = field.values.iter().find(|known| same(known.value)) {
        return Some(known.name.as_str().into());
    }
    if field.format == Some(Format::IpProtocol)
        && let Some((name, _)) = PROTOCOLS.iter().find(|(_, number)| u64::from(*number) == bits)
    {
        return Some((*name).into());
    }
    Some(plain(field, bits))
}

/// The number in the bytes of a field, without its name.
pub(super) fn show_plain(field: &Field, bytes: &[u8]) -> Option<Value> {
    Some(plain(field, from_bytes(field, bytes)?))
}

fn plain(field: &Field, bits: u64) -> Value {
    if signed(field) {
        let unused = 64 - width(field);
        ((bits << unused) as i64 >> unused).into()
    } else {
        bits.into()
    }
}

/// The low bytes of a number in the order of a field.
pub(super) fn to_bytes(field: &Field, bits: u64) -> Vec<u8> {
    let mut bytes = bits.to_le_bytes()[..field.size.min(MAX_BYTES) as usize].to_vec();
    if field.byte_order == Some(ByteOrder::Network) {
        bytes.reverse();
    }
    bytes
}

/// The number in the bytes of a field.
pub(super) fn from_bytes(field: &Field, bytes: &[u8]) -> Option<u64> {
    let mut low = [0; MAX_BYTES as usize];
    low.get_mut(..bytes.len())?.copy_from_slice(bytes);
    if field.byte_order == Some(ByteOrder::Network) {
        low[..bytes.len()].reverse();
    }
    Some(u64::from_le_bytes(low))
}

/// What a field takes, for errors.
pub(super) fn takes(field: &Field) -> String {
    let [min, max] = range(field);
    if field.format == Some(Format::IpProtocol) {
        return format!("an IP protocol by its name, such as \"TCP\", or its number, up to {max}");
    }
    let Some(first) = field.values.first() else {
        return format!("a number from {min} to {max}, such as 1 or \"0x1f\"");
    };
    let values: Vec<String> = field
        .values
        .iter()
        .map(|known| format!("{} ({})", known.name, known.value))
        .collect();
    let names = short_names(&field.values);
    let short = names.first().map_or(first.name.as_str(), |[_, short]| short);
    format!("one of {}, such as \"{short}\", or a number", values.join(", "))
}

fn range(field: &Field) -> [i128; 2] {
    let width = width(field);
    if signed(field) {
        [-(1 << (width - 1)), (1 << (width - 1)) - 1]
    } else {
        [0, (1 << width) - 1]
    }
}

/// Width in bits.
fn width(field: &Field) -> u32 {
    8 * field.size.clamp(1, MAX_BYTES)
}

fn signed(field: &Field) -> bool {
    // A bit field has its width behind its type.
    let (base, _) = field.c_type.split_once(':').unwrap_or((&field.c_type, ""));
    SIGNED.contains(&base.trim()) || field.values.iter().any(|known| known.value < 0)
}

/// The number that a name means: by itself, or else without what all names start and end with.
fn named(field: &Field, text: &str) -> Option<i128> {
    let only = |found: Vec<i64>| {
        let first = *found.first()?;
        found.iter().all(|value| *value == first).then_some(i128::from(first))
    };
    let values = &field.values;
    let whole = values.iter().filter(|known| known.name.eq_ignore_ascii_case(text));
    if let Some(value) = only(whole.map(|known| known.value).collect()) {
        return Some(value);
    }
    if field.format == Some(Format::IpProtocol)
        && let Some((_, number)) = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text))
    {
        return Some(i128::from(*number));
    }
    if integer(&text.into()).is_some() {
        return None;
    }
    let means = |(names, known): ([String; 2], &Enumerator)| {
        let same = |name: &String| !name.is_empty() && name.eq_ignore_ascii_case(text);
        names.iter().any(same).then_some(known.value)
    };
    only(short_names(values).into_iter().zip(values).filter_map(means).collect())
}

/// For each value its name in lower case without what all names start with, and that without what they all end with.
fn short_names(values: &[Enumerator]) -> Vec<[String; 2]> {
    let (start, ending) = (prefix(values), ending(values));
    let short = |known: &Enumerator| {
        let short = known.name[start..].to_ascii_lowercase();
        let shorter = short.strip_suffix(&ending).unwrap_or(&short).to_owned();
        [short, shorter]
    };
    values.iter().map(short).collect()
}

/// Bytes that all names start with, up to the last `_` in them.
fn prefix(values: &[Enumerator]) -> usize {
    let Some((first, rest)) = values.split_first() else {
        return 0;
    };
    let common = rest.iter().fold(first.name.as_str(), |common, known| {
        let same = common.bytes().zip(known.name.bytes()).take_while(|(a, b)| a == b);
        common.get(..same.count()).unwrap_or_default()
    });
    common.rfind('_').map_or(0, |at| at + 1)
}

/// What all names end with in lower case, from the first `_` in that.
fn ending(values: &[Enumerator]) -> String {
    let Some((first, rest)) = values.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return String::new();
    };
    let common = rest.iter().fold(first.name.as_str(), |common, known| {
        let same = common.bytes().rev().zip(known.name.bytes().rev());
        let same = same.take_while(|(a, b)| a == b).count();
        common.get(common.len() - same..).unwrap_or_default()
    });
    common
        .find('_')
        .map_or_else(String::new, |at| common[at..].to_ascii_lowercase())
}
