//! Programs of sockets on contexts of Windows: what they read, what they write, and what their results become.

use std::collections::BTreeMap;

use bpf2sys_simulator::{HexBytes, Input, RunRequest};
use libtest_mimic::Failed;

use super::{Random, compiled, driver, make, total};

/// What a program of a socket hook reads on Linux of the flow that a context of Windows describes, by the key under which it notes it:
/// written down from Linux's documentation of its structures, with the layouts of both.
fn seen_on_linux(program: &str, context: &[u8]) -> BTreeMap<u32, u64> {
    let bytes = |at: usize, count: usize| {
        let mut value = [0; 8];
        value[..count].copy_from_slice(&context[at..at + count]);
        u64::from_le_bytes(value)
    };
    let family = |at| if bytes(at, 4) == 23 { 10 } else { bytes(at, 4) };
    let mut seen = BTreeMap::new();
    if program == "operations" {
        if bytes(48, 1) != 6 {
            return seen;
        }
        let is_v6 = bytes(4, 4) == 23;
        // The arguments of a change of state are the state before and the new one.
        let [op, state, before, now] = match bytes(0, 4) {
            0 => [4, 1, 0, 0],
            1 => [5, 1, 0, 0],
            _ => [10, 7, 1, 7],
        };
        let v4 = |at| if is_v6 { 0 } else { bytes(at, 4) };
        seen.extend([(0, op), (1, family(4)), (2, v4(28)), (3, v4(8))]);
        for word in 0..4 {
            seen.insert(4 + word, bytes(28 + 4 * word as usize, 4));
            seen.insert(8 + word, bytes(8 + 4 * word as usize, 4));
        }
        let swapped = u64::from((bytes(24, 2) as u16).swap_bytes());
        seen.extend([(12, bytes(44, 2) << 16), (13, swapped), (14, state)]);
        seen.extend([(15, before), (16, now)]);
        return seen;
    }
    let kind = match bytes(44, 4) {
        6 => 1,
        17 => 2,
        _ => 3,
    };
    let port = bytes(40, 2);
    seen.extend([(0, family(0)), (1, family(0)), (2, kind), (3, bytes(44, 4))]);
    seen.extend([(4, port), (5, port), (7, port & 255), (8, port >> 8)]);
    match program {
        "connect4" => {
            seen.extend([(16, bytes(24, 4)), (17, bytes(24, 2)), (18, bytes(26, 2))]);
            seen.extend((0..4).map(|i| (19 + i, bytes(24 + i as usize, 1))));
        }
        "connect6" => {
            seen.extend([(16, bytes(24, 8)), (17, bytes(32, 8)), (18, bytes(28, 4))]);
            seen.extend([(19, bytes(38, 2)), (20, bytes(39, 1))]);
        }
        _ => {}
    }
    seen
}

/// A context of Windows: random, but for what selects a way.
fn context(random: &mut Random, program: &str, number: usize) -> Vec<u8> {
    let mut context: Vec<u8> = (0..64).map(|_| random.next() as u8).collect();
    let mut set = |at: usize, bytes: &[u8]| context[at..at + bytes.len()].copy_from_slice(bytes);
    let is_sockops = program == "operations";
    let is_v4 = program.ends_with('4') || is_sockops && number.is_multiple_of(2);
    let family: u32 = if is_v4 { 2 } else { 23 };
    let protocol: u32 = [6, 17, 6, 1][number % 4];
    let (family_at, protocol_at) = if is_sockops { (4, 48) } else { (0, 44) };
    set(family_at, &family.to_le_bytes());
    set(protocol_at, &protocol.to_le_bytes());
    if is_sockops {
        set(0, &(number as u32 % 3).to_le_bytes());
        // Ports have 16 bits.
        set(26, &[0; 2]);
        set(46, &[0; 2]);
    }
    context
}

/// What the program writes, and its result.
fn written(program: &str, context: &[u8]) -> (Vec<u8>, u32) {
    let mut after = context.to_vec();
    let returned = match program {
        "connect4" => {
            after[24..28].copy_from_slice(&[127, 0, 0, 1]);
            after[40..42].copy_from_slice(&[0, 0x50]);
            1
        }
        "connect6" => {
            after[32..40].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_le_bytes());
            after[24..28].copy_from_slice(&[7, 0, 0, 0]);
            0
        }
        "bind4" => u32::from(context[40] & 1),
        _ => 0,
    };
    (after, returned)
}

pub fn sockets() -> Result<(), Failed> {
    let made = make(&compiled("sockets")?)?;
    let image = driver(&made)?;
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let mut compared = 0;
    for program in ["connect4", "connect6", "bind4", "operations"] {
        for number in 0..60 {
            let context = context(&mut random, program, number);
            let report = bpf2sys_simulator::run(&RunRequest {
                image: image.clone(),
                inputs: vec![Input {
                    program: program.into(),
                    context: HexBytes(context.clone()),
                    ..Input::default()
                }],
                ..RunRequest::default()
            })?;
            let values = report.maps.iter().find(|m| m.name == "values").ok_or("no map")?;
            let number = |bytes: &HexBytes| total(std::iter::once(&bytes.0[..]))[0];
            let found: BTreeMap<u32, u64> = values
                .entries
                .iter()
                .map(|entry| (number(&entry.key) as u32, entry.values.iter().map(number).sum()))
                .filter(|(_, value)| *value != 0)
                .collect();
            let mut expected = seen_on_linux(program, &context);
            expected.retain(|_, value| *value != 0);
            let result = &report.results[0];
            let (after, returned) = written(program, &context);
            if found != expected || result.result != returned || result.context.0 != after {
                return Err(format!(
                    "{program} on {context:02x?}: {found:x?}, not {expected:x?}; {} and {:02x?}, not {returned} and {after:02x?}",
                    result.result, result.context.0
                )
                .into());
            }
            compared += expected.len();
        }
    }
    if compared < 1500 {
        return Err(format!("only {compared} values were compared").into());
    }
    Ok(())
}
