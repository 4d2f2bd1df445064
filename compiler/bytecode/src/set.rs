//! Values of global variables that a loader would write.

use crate::linux::number;
use crate::{DataType, Module};

/// A global variable can't have a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// There is no such variable.
    #[error("the object has no global variable `{name}`{}", known(names))]
    NoVariable {
        /// The name.
        name: String,
        /// Those that there are, as far as BTF names them.
        names: Vec<String>,
    },
    /// It is no number.
    #[error("`{name}` is of a type that no number is: give its {size} bytes as `0x` and two digits for each")]
    NotANumber {
        /// The name.
        name: String,
        /// Its size in bytes.
        size: u32,
    },
    /// The value is none of its type.
    #[error("`{value}` is no value of `{name}`, which has {size} bytes")]
    Value {
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// The variable's size in bytes.
        size: u32,
    },
}

fn known(names: &[String]) -> String {
    match names {
        [] => "; its BTF names none".to_owned(),
        names => format!("; there are {}", names.join(", ")),
    }
}

impl Module {
    /// Gives a global variable an initial value, as a loader of Linux would: a number, `true`, `false`, or for other types all bytes from the
    /// first, as `0x` and two digits for each.
    ///
    /// # Errors
    /// If there is no such variable, or the value does not fit it.
    pub fn set_variable(&mut self, name: &str, value: &str) -> Result<(), SetError> {
        let sections = (0..self.globals.len() as u32).map(crate::GlobalIndex);
        let mut all = sections.flat_map(|section| self.types.variables(section).iter().map(move |v| (section, v)));
        let Some((section, variable)) = all.find(|(_, variable)| variable.name == name) else {
            let sections = (0..self.globals.len() as u32).map(crate::GlobalIndex);
            let all = sections.flat_map(|section| self.types.variables(section));
            return Err(SetError::NoVariable {
                name: name.to_owned(),
                names: all.map(|v| v.name.clone()).collect(),
            });
        };
        let size = self.types.size(variable.of);
        let is_number = matches!(
            self.types.get(self.types.resolve(variable.of)),
            DataType::Integer { .. } | DataType::Enumeration { .. }
        );
        let bytes = encoded(value, size, is_number).ok_or_else(|| {
            let (name, value) = (name.to_owned(), value.to_owned());
            if is_number {
                SetError::Value { name, value, size }
            } else {
                SetError::NotANumber { name, size }
            }
        })?;
        let start = variable.offset as usize;
        // A variable lies within its section.
        self.globals[section.index()].data[start..start + bytes.len()].copy_from_slice(&bytes);
        Ok(())
    }
}

/// The bytes of a value.
fn encoded(value: &str, size: u32, is_number: bool) -> Option<Vec<u8>> {
    if is_number && size <= 8 {
        let number = match value {
            "true" => 1,
            "false" => 0,
            value => number(value)?,
        };
        let bits = size * 8;
        let fits = (-(1i128 << (bits - 1))..1i128 << bits).contains(&number);
        return fits.then(|| (number as u64).to_le_bytes()[..size as usize].to_vec());
    }
    let digits = value.strip_prefix("0x")?;
    if digits.len() != size as usize * 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = (0..size as usize).map(|at| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).ok());
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn values_fit_their_types_or_are_refused() {
        for (value, size, is_number, expected) in [
            ("1", 4, true, Some(&[1, 0, 0, 0][..])),
            ("-1", 2, true, Some(&[0xff, 0xff])),
            ("255", 1, true, Some(&[255])),
            ("256", 1, true, None),
            ("-129", 1, true, None),
            ("true", 1, true, Some(&[1])),
            ("0x10", 8, true, Some(&[16, 0, 0, 0, 0, 0, 0, 0])),
            ("one", 4, true, None),
            ("0x0102", 2, false, Some(&[1, 2])),
            ("0x010", 2, false, None),
            ("0x+1+2", 2, false, None),
            ("1", 2, false, None),
        ] {
            assert_eq!(encoded(value, size, is_number).as_deref(), expected, "{value}");
        }
    }
}
