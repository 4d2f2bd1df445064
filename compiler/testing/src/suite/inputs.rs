//! From the packets and contexts of a step to inputs of runs.

use bpf2sys_platform::Context;
use bpf2sys_simulator::{HexBytes, Input, MachineChange, ProviderEvent};
use serde_json::Value;

use super::driver::Driver;
use super::file::{Change, Contexts, OneOrMore, Step};
use crate::captures::{Packet, Packets, parse_hex};
use crate::conditions::provider;
use crate::contexts::{self, Given};
use crate::values::maps_from_json;

/// What makes a text bytes and not the name of a file.
const INLINE: &str = "hex:";

/// The inputs of a step. Captured packets come at their times after `boot_time`.
pub(super) fn inputs(driver: &Driver, step: &Step, program: &str, boot_time: u64) -> Result<Vec<Input>, String> {
    let context = driver.type_of(program).map(|of| &of.context);
    let contexts = match &step.context {
        None => Vec::new(),
        Some(given) => read_contexts(driver, given, context)?,
    };
    let mut packets = Vec::new();
    for name in step.packet.iter().flat_map(OneOrMore::all) {
        packets.extend(read_packets(driver, name)?);
    }
    let input = |given: &Given| Input {
        program: program.to_owned(),
        context: HexBytes(given.context.clone()),
        packet: HexBytes(given.data.clone().unwrap_or_default()),
        meta: given.meta.clone().map(HexBytes),
        repeat: step.repeat.unwrap_or(1),
        ..Input::default()
    };
    let mut inputs: Vec<Input> = if packets.is_empty() {
        contexts.iter().map(input).collect()
    } else {
        if contexts.len() > 1 {
            let count = contexts.len();
            return Err(format!("with packets, there is one context for all, and not {count}"));
        }
        let common = contexts.into_iter().next().unwrap_or_default();
        let first_time = packets.iter().find_map(|packet| packet.time_ns);
        let of = |packet: Packet| {
            let mut input = input(&common);
            input.packet = HexBytes(packet.bytes);
            let since = packet.time_ns.zip(first_time);
            let since = since.map(|(time, first)| time.saturating_sub(first) / 100);
            input.machine.time = since.map(|since| boot_time.saturating_add(since));
            input
        };
        packets.into_iter().map(of).collect()
    };
    prepare(driver, step, &mut inputs)?;
    Ok(inputs)
}

/// Puts what is before a step before its first input.
fn prepare(driver: &Driver, step: &Step, inputs: &mut [Input]) -> Result<(), String> {
    let presets = maps_from_json(&step.maps, &driver.shapes, driver.types()).map_err(|e| format!("`maps`: {e}"))?;
    let detach = step.detach.iter().map(|name| ProviderEvent::Detach(provider(name)));
    let attach = step.attach.iter().map(|name| ProviderEvent::Attach(provider(name)));
    let events: Vec<ProviderEvent> = detach.chain(attach).collect();
    let Some(first) = inputs.first_mut() else {
        return if presets.is_empty() && events.is_empty() {
            Ok(())
        } else {
            Err("a step without packet and context has nothing before which something could happen".to_owned())
        };
    };
    let captured = first.machine.time;
    first.presets = presets;
    first.events = events;
    let Change {
        cpu,
        time,
        process_id,
        thread_id,
    } = step.machine;
    first.machine = MachineChange {
        cpu,
        time: time.or(captured),
        process_id,
        thread_id,
    };
    Ok(())
}

fn read_packets(driver: &Driver, name: &str) -> Result<Vec<Packet>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("packet `{}`: {error}", shortened(name));
    if let Some(text) = name.strip_prefix(INLINE) {
        let packets = parse_hex(text).map_err(|e| wrong(&e))?;
        let packets = if packets.is_empty() { vec![Vec::new()] } else { packets };
        return Ok(packets
            .into_iter()
            .map(|bytes| Packet {
                original_length: bytes.len() as u32,
                bytes,
                time_ns: None,
                number: 1,
                comment: None,
            })
            .collect());
    }
    let packets = Packets::open(&driver.path(name)).map_err(|e| wrong(&e))?;
    packets.collect::<Result<_, _>>().map_err(|e| wrong(&e))
}

/// The bytes that a text means: those of one packet.
pub(super) fn bytes(driver: &Driver, text: &str) -> Result<Vec<u8>, String> {
    let packets = read_packets(driver, text)?;
    let [packet] = <[Packet; 1]>::try_from(packets)
        .map_err(|packets| format!("`{}` has {} packets, and one is needed", shortened(text), packets.len()))?;
    Ok(packet.bytes)
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_owned(),
    }
}

fn read_contexts(driver: &Driver, given: &Contexts, context: Option<&Context>) -> Result<Vec<Given>, String> {
    let value = match given {
        Contexts::Fields(value) => value.clone(),
        Contexts::File(name) => {
            let path = driver.path(name);
            let bytes = std::fs::read(&path).map_err(|e| format!("context `{name}`: {e}"))?;
            if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
                return Ok(vec![Given {
                    context: bytes,
                    ..Given::default()
                }]);
            }
            serde_json::from_slice(&bytes).map_err(|e| format!("context `{name}`: no JSON: {e}"))?
        }
    };
    let context = context.ok_or("the program's type is not known, and so its context has no fields")?;
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    let read = |value| contexts::encode(context, value).map_err(|e| format!("context: {e}"));
    values.iter().map(read).collect()
}
