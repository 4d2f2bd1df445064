//! JSON as bytes, by their type.

use std::collections::BTreeMap;

use bpf2sys_bytecode::{DataType, DataTypes, TypeIndex};
use bpf2sys_simulator::HexBytes;

use super::error::near;
use super::layout::{self, ArrayKind, Budget, Part, array_kind, in_network_order, names_cost, set_bits};
use super::{Json, ValueError, ValueProblem};

/// Largest value, in bytes.
const MAX_SIZE: u32 = 64 << 20;

/// The bytes of a value, as many as its type has.
///
/// # Errors
/// What is no value of the type, with the path to the part that is not.
pub fn from_json(types: &DataTypes, index: TypeIndex, json: &Json) -> Result<Vec<u8>, ValueError> {
    let size = types.size(index);
    if size > MAX_SIZE {
        return Err(ValueError::new(ValueProblem::TooLarge { size }));
    }
    let mut bytes = vec![0; size as usize];
    let budget = Budget::new(size);
    Reading { types, budget }.read(index, json, &mut bytes)?;
    Ok(bytes)
}

/// The bytes behind `hex:`, if a text starts so.
pub(super) fn raw(json: &Json, size: usize) -> Option<Result<Vec<u8>, ValueError>> {
    let digits = json.text()?.strip_prefix("hex:")?;
    Some(match HexBytes::parse(digits) {
        Some(HexBytes(bytes)) if bytes.len() == size => Ok(bytes),
        Some(HexBytes(bytes)) => {
            let (given, size) = (bytes.len(), size as u32);
            Err(ValueError::new(ValueProblem::Size { given, size }))
        }
        None => Err(ValueError::new(ValueProblem::Hex)),
    })
}

/// An unsigned number of that many bytes, little-endian.
pub(super) fn unsigned(json: &Json, size: usize) -> Result<Vec<u8>, ValueError> {
    let value = in_range(
        Number::read(json, "a number, or bytes as `hex:…`,")?,
        size as u32 * 8,
        false,
    )?;
    Ok(value.to_le_bytes()[..size].to_vec())
}

struct Reading<'a> {
    types: &'a DataTypes,
    budget: Budget,
}

impl<'a> Reading<'a> {
    fn take(&mut self, parts: usize) -> Result<(), ValueError> {
        let taken = self.budget.take(parts);
        taken.ok_or_else(|| ValueError::new(ValueProblem::Intricate))
    }

    /// Writes a value to its bytes, which are zero before.
    fn read(&mut self, index: TypeIndex, json: &Json, bytes: &mut [u8]) -> Result<(), ValueError> {
        self.take(1)?;
        if let Some(raw) = raw(json, bytes.len()) {
            bytes.copy_from_slice(&raw?);
            return Ok(());
        }
        let types = self.types;
        let named = index;
        let index = types.resolve(index);
        match types.get(index) {
            DataType::Integer { size, .. } | DataType::Enumeration { size, .. } => {
                let value = self.scalar(index, json, size * 8)?;
                set_bits(bytes, 0, size * 8, value);
                if let Some(swapped) = in_network_order(types, named, bytes) {
                    bytes.copy_from_slice(&swapped);
                }
            }
            DataType::Pointer => {
                let value = in_range(Number::read(json, "an address")?, 64, false)?;
                set_bits(bytes, 0, 64, value);
            }
            DataType::Float { size, .. } => float(json, *size, bytes)?,
            DataType::Array { element, count } => self.array(*element, *count, json, bytes)?,
            DataType::Struct { .. } => self.structure(index, json, bytes)?,
            DataType::Alias { .. } => {}
        }
        Ok(())
    }

    fn array(&mut self, element: TypeIndex, count: u32, json: &Json, bytes: &mut [u8]) -> Result<(), ValueError> {
        let kind = array_kind(self.types, element);
        if kind != ArrayKind::List {
            self.take(bytes.len())?;
        }
        match (kind, json) {
            (_, Json::List(list)) => {
                if list.len() > count as usize {
                    let (given, room) = (list.len(), count);
                    return Err(ValueError::new(ValueProblem::Elements { given, room }));
                }
                let size = self.types.size(element) as usize;
                for (i, given) in list.iter().enumerate() {
                    let place = &mut bytes[i * size..(i + 1) * size];
                    self.read(element, given, place).map_err(|e| e.at(i))?;
                }
                Ok(())
            }
            (ArrayKind::Text, Json::Text(text) | Json::Word(text)) => {
                let (given, room) = (text.len(), count);
                if text.contains('\0') {
                    return Err(ValueError::new(ValueProblem::Nul));
                }
                let Some(place) = bytes.get_mut(..given) else {
                    return Err(ValueError::new(ValueProblem::Text { given, room }));
                };
                place.copy_from_slice(text.as_bytes());
                Ok(())
            }
            (ArrayKind::Text, _) => Err(ValueError::kind("a text", json)),
            (ArrayKind::Bytes, _) => Err(ValueError::kind("bytes, as `hex:…` or as a list,", json)),
            (ArrayKind::List, _) => Err(ValueError::kind("a list", json)),
        }
    }

    fn structure(&mut self, index: TypeIndex, json: &Json, bytes: &mut [u8]) -> Result<(), ValueError> {
        let types = self.types;
        let layout = layout::layout(types, index, &mut self.budget);
        let layout = layout.ok_or_else(|| ValueError::new(ValueProblem::Intricate))?;
        let Json::Object(given) = json else {
            return Err(ValueError::kind("an object with its members", json));
        };
        let mut parts: BTreeMap<&str, Option<&Part<'_>>> =
            layout.parts.iter().map(|part| (part.name, Some(part))).collect();
        // Bits that a member has said something about.
        let mut said = vec![0; if layout.shared { bytes.len() } else { 0 }];
        for (name, value) in given {
            let within = |problem| ValueError::new(problem).within(name);
            let Some(part) = parts.get_mut(name.as_str()) else {
                let near = near(name, layout.parts.iter().map(|part| part.name));
                return Err(within(ValueProblem::Member { near }));
            };
            let part = part.take().ok_or_else(|| within(ValueProblem::Twice))?;
            let read = if layout.shared {
                self.shared(part, value, bytes, &mut said)
            } else if let Some(width) = part.width {
                self.bit_field(part, value, width)
                    .map(|value| set_bits(bytes, part.offset, width.into(), value))
            } else {
                self.read(part.of, value, &mut bytes[part.range(types)])
            };
            read.map_err(|e| e.within(name))?;
        }
        Ok(())
    }

    fn bit_field(&mut self, part: &Part<'_>, value: &Json, width: u8) -> Result<u128, ValueError> {
        self.take(1)?;
        self.scalar(self.types.resolve(part.of), value, width.into())
    }

    /// Writes a member that may share bytes with others. Where they say something already, it must say the same.
    fn shared(&mut self, part: &Part<'_>, value: &Json, bytes: &mut [u8], said: &mut [u8]) -> Result<(), ValueError> {
        let (start, own, mask) = if let Some(width) = part.width {
            let (start, offset, width) = ((part.offset / 8) as usize, part.offset % 8, u32::from(width));
            let mut own = vec![0; (offset as usize + width as usize).div_ceil(8)];
            let mut mask = own.clone();
            let given = self.bit_field(part, value, width as u8)?;
            set_bits(&mut own, offset, width, given);
            set_bits(&mut mask, offset, width, u128::MAX);
            (start, own, mask)
        } else {
            let range = part.range(self.types);
            self.take(range.len())?;
            let mut own = vec![0; range.len()];
            self.read(part.of, value, &mut own)?;
            let mask = vec![0xff; own.len()];
            (range.start, own, mask)
        };
        for (i, (own, mask)) in own.into_iter().zip(mask).enumerate() {
            let (byte, said) = (&mut bytes[start + i], &mut said[start + i]);
            if (own ^ *byte) & mask & *said != 0 {
                return Err(ValueError::new(ValueProblem::Disagrees));
            }
            *byte |= own;
            *said |= mask;
        }
        Ok(())
    }

    /// The bits of an integer or of a value of an enumeration.
    fn scalar(&mut self, index: TypeIndex, json: &Json, width: u32) -> Result<u128, ValueError> {
        let types: &'a DataTypes = self.types;
        match types.get(index) {
            DataType::Integer { boolean: true, .. } => match json {
                Json::Bool(value) => Ok((*value).into()),
                _ if json.text() == Some("true") => Ok(1),
                _ if json.text() == Some("false") => Ok(0),
                _ => in_range(Number::read(json, "true or false")?, width, false),
            },
            DataType::Integer { signed, .. } => in_range(Number::read(json, "a number")?, width, *signed),
            DataType::Enumeration { signed, values, .. } => {
                self.take(names_cost(values))?;
                let named = |name: &str| values.iter().find(|(known, _)| known == name);
                let number = match json.text().map(|text| (text, named(text))) {
                    Some((name, Some((_, value)))) => {
                        self.take(name.len())?;
                        Number::of(*value, *signed)
                    }
                    Some((name, None)) => Number::parse(name).ok_or_else(|| {
                        let near = near(name, values.iter().map(|(known, _)| known.as_str()));
                        let name = name.to_owned();
                        ValueError::new(ValueProblem::Name { name, near })
                    })?,
                    None => Number::read(json, "a name or a number")?,
                };
                in_range(number, width, *signed)
            }
            _ => Err(ValueError::new(ValueProblem::Intricate)),
        }
    }
}

/// A whole number of at most 128 bits and a sign.
#[derive(Clone, Copy)]
struct Number {
    negative: bool,
    size: u128,
}

impl Number {
    fn of(value: i64, signed: bool) -> Number {
        if signed {
            let (negative, size) = (value < 0, value.unsigned_abs().into());
            Number { negative, size }
        } else {
            let size = value.cast_unsigned().into();
            Number { negative: false, size }
        }
    }

    /// Decimal, or hexadecimal behind `0x`.
    fn parse(text: &str) -> Option<Number> {
        let text = text.trim();
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
        let plain = digits.chars().all(|c| c.is_digit(radix));
        let size = u128::from_str_radix(digits, radix).ok().filter(|_| plain)?;
        Some(Number { negative, size })
    }

    fn read(json: &Json, needed: &'static str) -> Result<Number, ValueError> {
        /// From here on, not every whole number is one of floating point.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match json {
            Json::Integer(value) => Ok(Number {
                negative: *value < 0,
                size: value.unsigned_abs(),
            }),
            Json::Float(value) if value.fract() == 0.0 && value.abs() < EXACT => Ok(Number {
                negative: *value < 0.0,
                size: value.abs() as u128,
            }),
            Json::Float(_) => {
                let given = json.kind();
                Err(ValueError::new(ValueProblem::Inexact { given }))
            }
            _ => json
                .text()
                .and_then(Number::parse)
                .ok_or_else(|| ValueError::kind(needed, json)),
        }
    }
}

/// The bits of a number, if it has room.
fn in_range(number: Number, width: u32, signed: bool) -> Result<u128, ValueError> {
    let all = u128::MAX >> (128 - width.clamp(1, 128));
    let most = if signed { all >> 1 } else { all };
    let below = if signed { most + 1 } else { 0 };
    if number.size > if number.negative { below } else { most } {
        let sign = if number.negative { "-" } else { "" };
        return Err(ValueError::new(ValueProblem::Range {
            given: format!("{sign}{}", number.size),
            least: below.wrapping_neg().cast_signed(),
            most,
        }));
    }
    let value = if number.negative {
        number.size.wrapping_neg()
    } else {
        number.size
    };
    Ok(value & all)
}

fn float(json: &Json, size: u32, bytes: &mut [u8]) -> Result<(), ValueError> {
    let value = match json {
        Json::Integer(value) => Some(*value as f64),
        Json::Float(value) => Some(*value),
        _ => json.text().and_then(|text| text.trim().parse().ok()),
    };
    let Some(value) = value else {
        return Err(ValueError::kind("a floating point number", json));
    };
    let narrow = value as f32;
    match size {
        4 if value.is_infinite() || narrow.is_finite() => bytes.copy_from_slice(&narrow.to_le_bytes()),
        8 => bytes.copy_from_slice(&value.to_le_bytes()),
        4 => {
            let given = json.kind();
            return Err(ValueError::new(ValueProblem::Float { given }));
        }
        _ => return Err(ValueError::kind("bytes, as `hex:…`,", json)),
    }
    Ok(())
}
