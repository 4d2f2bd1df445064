//! Whether registers hold what they are said to hold.

use std::ops::Range;

use bpf2sys_bytecode::{MapIndex, Reg};
use bpf2sys_simulator::interpreter::FRAME_BYTES;
use bpf2sys_verifier::{Object, RegisterFact, RegisterKind};

use crate::regions::Regions;

/// All registers that hold something.
pub(super) fn judge(
    facts: &[RegisterFact; Reg::COUNT],
    values: &[Option<u64>; Reg::COUNT],
    frames: u32,
    regions: &Regions,
) -> Result<(), String> {
    for (number, (fact, value)) in facts.iter().zip(values).enumerate() {
        judge_one(fact, *value, frames, regions).map_err(|what| format!("r{number} {what}"))?;
    }
    Ok(())
}

/// One register, in the innermost of so many active functions.
pub(super) fn judge_one(fact: &RegisterFact, value: Option<u64>, frames: u32, regions: &Regions) -> Result<(), String> {
    let Some(value) = value else { return Ok(()) };
    let r10 = regions.stack_end - FRAME_BYTES * u64::from(frames - 1);
    let holds = match fact.kind {
        RegisterKind::Unknown => true,
        RegisterKind::Number => fact.range().contains(value),
        RegisterKind::Map | RegisterKind::MapOfPrograms => match fact.object {
            Some(object) => value != 0 && Some(value) == map_address(object, regions),
            None => value == 0 || regions.maps.contains(&value),
        },
        RegisterKind::Context => points(fact, value, &regions.context),
        RegisterKind::Packet => points(fact, value, &regions.packet),
        RegisterKind::Stack => own_frame(fact, value, r10),
        RegisterKind::MapValue => value == 0 || shared(fact.object, regions).any(|range| points(fact, value, range)),
    };
    let offset = |offset: i32| r10.wrapping_add_signed(offset.into()) == value;
    if !holds || (fact.non_null && value == 0) || fact.stack_offset.is_some_and(|exact| !offset(exact)) {
        return Err(format!("is {value:#x}, and is said to be {fact:?}"));
    }
    Ok(())
}

/// The address that stands for a map of the module.
pub(super) fn map_address(object: Object, regions: &Regions) -> Option<u64> {
    match object {
        Object::Map(map) => regions.maps.get(map.index()).copied(),
        Object::Global(_) => None,
    }
}

/// Values and sections that a pointer to this can point into.
pub(super) fn shared(object: Option<Object>, regions: &Regions) -> impl Iterator<Item = &Range<u64>> {
    let map = move |index: MapIndex| object.is_none_or(|object| object == Object::Map(index));
    let values = regions.values.iter().filter(move |(index, _)| map(*index));
    let globals = regions
        .globals
        .iter()
        .filter(move |(index, _)| object.is_none_or(|object| object == Object::Global(*index)));
    values.map(|(_, range)| range).chain(globals.map(|(_, range)| range))
}

/// Whether a pointer can be one into this region.
fn points(fact: &RegisterFact, value: u64, region: &Range<u64>) -> bool {
    let distance = value.wrapping_sub(region.start).cast_signed();
    let offset = fact
        .offset
        .is_none_or(|(low, high)| (i64::from(low)..=i64::from(high)).contains(&distance));
    let room = fact.room == 0
        || (region.start <= value && value.checked_add(fact.room.into()).is_some_and(|end| end <= region.end));
    offset && room
}

/// The same for the running function's frame, whose distances count from its end.
fn own_frame(fact: &RegisterFact, value: u64, r10: u64) -> bool {
    let distance = value.wrapping_sub(r10).cast_signed();
    let offset = fact
        .offset
        .is_none_or(|(low, high)| (i64::from(low)..=i64::from(high)).contains(&distance));
    let room = r10.wrapping_sub(value);
    offset && (fact.room == 0 || (room <= FRAME_BYTES && u64::from(fact.room) <= room))
}
