//! Bytes as JSON, by their type.

use bpf2sys_bytecode::{DataType, DataTypes, TypeIndex};
use bpf2sys_simulator::HexBytes;

use super::Json;
use super::layout::{self, ArrayKind, Budget, array_kind, bits, in_network_order, names_cost};
use super::read::from_json;

/// A value as JSON.
///
/// `hex:…` where the bytes are no value of the type: too few, too many, or of a type that is too intricate.
pub fn to_json(types: &DataTypes, index: TypeIndex, bytes: &[u8]) -> Json {
    let size = types.size(index);
    if bytes.len() != size as usize {
        return hex(bytes);
    }
    let budget = Budget::new(size);
    Showing { types, budget }
        .show(index, bytes)
        .unwrap_or_else(|| hex(bytes))
}

/// A value in one line, as a person would read it: `{ port = 53, action = DROP, name = "dns" }`.
pub fn to_text(types: &DataTypes, index: TypeIndex, bytes: &[u8]) -> String {
    to_json(types, index, bytes).to_string()
}

/// Whether [`to_json`] says everything: [`from_json`] makes the same bytes of it.
///
/// It does not where padding is not zero, where a text has something behind its end that is no text, and where a union has bytes that its
/// members disagree on.
pub fn exact(types: &DataTypes, index: TypeIndex, bytes: &[u8]) -> bool {
    from_json(types, index, &to_json(types, index, bytes)).is_ok_and(|again| again == bytes)
}

/// Bytes without a type: `hex:` and their digits, in the order of memory.
pub fn hex(bytes: &[u8]) -> Json {
    Json::Word(format!("hex:{}", HexBytes(bytes.to_vec())))
}

struct Showing<'a> {
    types: &'a DataTypes,
    budget: Budget,
}

impl Showing<'_> {
    /// A value whose bytes are as many as its type has.
    fn show(&mut self, index: TypeIndex, bytes: &[u8]) -> Option<Json> {
        self.budget.take(1)?;
        let types = self.types;
        let swapped = in_network_order(types, index, bytes);
        let bytes = swapped.as_deref().unwrap_or(bytes);
        let index = types.resolve(index);
        Some(match types.get(index) {
            DataType::Integer { size, .. } | DataType::Enumeration { size, .. } => {
                self.scalar(index, bits(bytes, 0, size * 8), size * 8)?
            }
            DataType::Pointer => Json::Word(format!("{:#x}", bits(bytes, 0, 64))),
            DataType::Float { .. } => float(bytes),
            DataType::Array { element, count } => match array_kind(types, *element) {
                ArrayKind::List => {
                    let size = types.size(*element) as usize;
                    let mut list = Vec::new();
                    for i in 0..*count as usize {
                        list.push(self.show(*element, &bytes[i * size..(i + 1) * size])?);
                    }
                    Json::List(list)
                }
                kind => {
                    self.budget.take(bytes.len())?;
                    let text = text(bytes).filter(|_| kind == ArrayKind::Text);
                    text.map_or_else(|| hex(bytes), Json::from)
                }
            },
            DataType::Struct { .. } => self.structure(index, bytes)?,
            DataType::Alias { .. } => return None,
        })
    }

    fn structure(&mut self, index: TypeIndex, bytes: &[u8]) -> Option<Json> {
        let types = self.types;
        let layout = layout::layout(types, index, &mut self.budget)?;
        let mut members = Vec::with_capacity(layout.parts.len());
        for part in &layout.parts {
            let value = if let Some(width) = part.width {
                self.budget.take(1)?;
                let width = u32::from(width);
                self.scalar(types.resolve(part.of), bits(bytes, part.offset, width), width)?
            } else {
                let range = part.range(types);
                if layout.shared {
                    self.budget.take(range.len())?;
                }
                self.show(part.of, &bytes[range])?
            };
            members.push((part.name.to_owned(), value));
        }
        Some(Json::Object(members))
    }

    /// An integer or a value of an enumeration, of that many bits.
    fn scalar(&mut self, index: TypeIndex, raw: u128, width: u32) -> Option<Json> {
        let (sign, names) = match self.types.get(index) {
            DataType::Integer { boolean: true, .. } if raw <= 1 => return Some(Json::Bool(raw == 1)),
            DataType::Integer { signed, .. } => (*signed, [].as_slice()),
            DataType::Enumeration { signed, values, .. } => (*signed, values.as_slice()),
            _ => return None,
        };
        self.budget.take(names_cost(names))?;
        let number = if sign {
            layout::signed(raw, width)
        } else {
            raw.cast_signed()
        };
        // Unsigned ones of 64 bits keep their bits.
        if let Some((name, _)) = names.iter().find(|(_, value)| *value == number as i64) {
            self.budget.take(name.len())?;
            return Some(Json::Word(name.clone()));
        }
        Some(match (i64::try_from(number), u64::try_from(raw)) {
            (Ok(number), _) if sign => Json::from(number),
            (_, Ok(raw)) if !sign => Json::Integer(raw.into()),
            _ if sign && number < 0 => Json::Word(format!("-{:#x}", number.unsigned_abs())),
            _ => Json::Word(format!("{raw:#x}")),
        })
    }
}

/// The text in an array of characters: up to the first NUL, with nothing but zeros behind. None if there are characters that have no
/// picture, or if it could be taken for bytes.
fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(end);
    let text = std::str::from_utf8(text).ok()?;
    let shown = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    (rest.iter().all(|b| *b == 0) && text.chars().all(shown) && !text.starts_with("hex:")).then_some(text)
}

/// A floating point number: as a number if its JSON text gives it back, as text for infinity, and bytes if it is none.
fn float(bytes: &[u8]) -> Json {
    let (text, number) = if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        let number = f32::from_le_bytes(four);
        // The shortest text is that of another number of eight bytes, and means the same to four.
        let text = format!("{number:?}");
        let short = text.parse::<f64>().ok();
        let short = short.filter(|short| (*short as f32).to_bits() == number.to_bits());
        (text, short.unwrap_or_else(|| f64::from(number)))
    } else if let Ok(eight) = <[u8; 8]>::try_from(bytes) {
        let number = f64::from_le_bytes(eight);
        (format!("{number:?}"), number)
    } else {
        return hex(bytes);
    };
    if number.is_nan() {
        return hex(bytes);
    }
    let written = serde_json::to_string(&number).unwrap_or_default();
    let read = serde_json::from_str::<f64>(&written);
    if read.is_ok_and(|read| read.to_bits() == number.to_bits()) {
        Json::Float(number)
    } else {
        Json::Word(text)
    }
}
