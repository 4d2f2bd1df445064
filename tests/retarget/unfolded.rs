//! Helpers of Linux that become functions of the driver, against models of what Linux documents of them.

use bpf2sys_simulator::{HexBytes, Input, ProcessorKind, RunReport, RunRequest};
use libtest_mimic::Failed;

use super::{Made, Random, compiled, driver, make};

/// Where the program puts its answers, and how many there are.
const ANSWERS: usize = 16;
const COUNT: usize = 8;

/// Texts that numbers begin with, or nearly.
const TEXTS: [&str; 22] = [
    "bytes\0",
    "byter\0",
    "bytes are here",
    "byte\0",
    "0x1fZ",
    "  -0x1f ",
    "\t\r\n 12,",
    "0777",
    "08",
    "0",
    "0x",
    "0xg",
    "-",
    "- 1",
    "--1",
    "-9223372036854775",
    "1234567890123456",
    "0xffffffffffffff",
    "0XfFfFfFfFfFfFfF",
    "                ",
    "\u{1}5",
    "f0Ff0",
];

pub(super) fn unfolded() -> Result<(), Failed> {
    let made = make(&compiled("unfolded")?)?;
    if !made.degraded.is_empty() {
        return Err(format!("degraded: {:?}", made.degraded).into());
    }
    let mut packets = Random(0x2545_F491_4F6C_DD1D).packets(2000);
    packets.retain(|packet| packet.len() >= ANSWERS + COUNT * 8);
    for text in TEXTS {
        let mut packet = text.as_bytes().to_vec();
        packet.resize(ANSWERS + COUNT * 8, 0);
        packets.push(packet);
    }
    answers(&made, &packets)?;
    records(&made, &packets)
}

fn run(made: &Made, program: &str, packets: &[Vec<u8>]) -> Result<RunReport, Failed> {
    let inputs = packets.iter().map(|packet| Input {
        program: program.into(),
        packet: HexBytes(packet.clone()),
        ..Input::default()
    });
    Ok(bpf2sys_simulator::run(&RunRequest {
        image: driver(made)?,
        inputs: inputs.collect(),
        processor: ProcessorKind::Host,
        ..RunRequest::default()
    })?)
}

fn answers(made: &Made, packets: &[Vec<u8>]) -> Result<(), Failed> {
    let report = run(made, "unfolded", packets)?;
    for (packet, result) in packets.iter().zip(&report.results) {
        let bytes = &packet[..ANSWERS];
        let rounds = usize::from(bytes[0]);
        let stop = bytes.iter().position(|byte| *byte == 0xff).unwrap_or(ANSWERS);
        let summed = rounds.min(stop);
        let (signed, unsigned) = (number(bytes, 0), number(&bytes[..5], 16));
        let signed = signed.and_then(|(value, taken)| Ok((i64::try_from(value).map_err(|_| -34)?, taken)));
        let unsigned = unsigned.and_then(|(value, taken)| Ok((u64::try_from(value).map_err(|_| -22)?, taken)));
        let expected = [
            // The round that stops it counts.
            if rounds > stop { stop as i64 + 1 } else { rounds as i64 },
            bytes[..summed].iter().map(|byte| i64::from(*byte)).sum(),
            -22,
            compared(bytes, b"bytes\0"),
            signed.map_or_else(|error| error, |(_, taken)| taken),
            signed.map_or(0, |(value, _)| value),
            unsigned.map_or_else(|error| error, |(_, taken)| taken),
            unsigned.map_or(0, |(value, _)| value.cast_signed()),
        ];
        let found: Vec<i64> = result.packet.0[ANSWERS..][..COUNT * 8]
            .chunks(8)
            .map(|each| i64::from_le_bytes(each.try_into().unwrap_or_default()))
            .collect();
        if found != expected || result.result != 1 {
            let text = String::from_utf8_lossy(bytes);
            return Err(format!("{text:?}: {found:?} instead of {expected:?}, result {}", result.result).into());
        }
    }
    Ok(())
}

/// What the string comparison of C gives.
fn compared(bytes: &[u8], text: &[u8]) -> i64 {
    let differs = bytes.iter().zip(text).find(|(a, b)| a != b);
    differs.map_or(0, |(a, b)| if a < b { -1 } else { 1 })
}

/// The number that a text begins with, and how many characters that takes; else the error number of Linux.
fn number(text: &[u8], base: u32) -> Result<(i128, i64), i64> {
    let is_space = |c: &&u8| matches!(**c, 9..=13 | 32 | 0xa0);
    let spaces = text.iter().take_while(is_space).count();
    let negative = text.get(spaces) == Some(&b'-');
    let first = spaces + usize::from(negative);
    let digits = &text[first..];
    let is_hex = digits.len() > 1 && digits[0] == b'0' && digits[1] | 0x20 == b'x';
    let base = match (base, digits) {
        (0, [_, _, digit, ..]) if is_hex && digit.is_ascii_hexdigit() => 16,
        (0, [b'0', ..]) => 8,
        (0, _) => 10,
        (base, _) => base,
    };
    let skipped = if base == 16 && is_hex { 2 } else { 0 };
    let mut value = 0i128;
    let mut count = 0;
    for digit in &digits[skipped..] {
        let Some(digit) = char::from(*digit).to_digit(base) else {
            break;
        };
        value = value * i128::from(base) + i128::from(digit);
        count += 1;
    }
    match count {
        0 => Err(-22),
        _ => Ok((if negative { -value } else { value }, (first + skipped + count) as i64)),
    }
}

/// A record is there whole once it is sent, in the order of sending; one that is dropped is not.
fn records(made: &Made, packets: &[Vec<u8>]) -> Result<(), Failed> {
    let report = run(made, "records", packets)?;
    let mut expected = Vec::new();
    for (packet, result) in packets.iter().zip(&report.results) {
        let is_dropped = packet[1] & 1 == 1;
        if result.result != if is_dropped { 2 } else { 1 } {
            return Err(format!("{packet:02x?} gave {}", result.result).into());
        }
        if !is_dropped {
            expected.push([1, 0, 0, 0, 0, packet[1], 0, 0, 0, 0, 0, 0]);
            expected.push([
                packet.len() as u8,
                (packet.len() >> 8) as u8,
                0,
                0,
                packet[0],
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ]);
        }
    }
    let ring = report
        .maps
        .iter()
        .find(|map| map.name == "events")
        .ok_or("no ring buffer")?;
    let found: Vec<&[u8]> = ring.records.iter().map(|record| &record.data.0[..]).collect();
    if found != expected || expected.len() < 100 {
        let differs = found.iter().zip(&expected).position(|(a, b)| *a != b);
        return Err(format!(
            "{} records, {} expected; the first that differs is {differs:?}",
            found.len(),
            expected.len()
        )
        .into());
    }
    if report.maps.iter().any(|map| map.name.starts_with("record_")) {
        return Err("the driver has a map for records".into());
    }
    Ok(())
}
