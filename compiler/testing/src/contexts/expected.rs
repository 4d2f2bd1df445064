//! Whether a context has fields with certain values.
//!
//! Given: a context's bytes and its data, and JSON that names some fields. Computed: those of the fields that have another value. Other
//! fields are free.

use bpf2sys_platform::Context;
use serde_json::Value;

use super::layout::{Layout, part};
use super::{ContextError, bytes, encode, form};

/// A field that has another value than expected.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherValue {
    /// The field.
    pub field: String,
    /// What was expected.
    pub expected: Value,
    /// What it has.
    pub found: Value,
}

/// The fields, of those that are named, that have another value.
///
/// # Errors
/// What is named is no field of the context, or has a value that the field cannot have.
pub fn other_values(
    context: &Context,
    expected: &Value,
    found: &[u8],
    data: &[u8],
) -> Result<Vec<OtherValue>, ContextError> {
    let Value::Object(fields) = expected else {
        return encode(context, expected).map(|_| Vec::new());
    };
    let layout = Layout::new(context);
    let mut others = Vec::new();
    for (name, value) in fields {
        // Alone, so that fields that share bytes can be expected together.
        let one = Value::Object([(name.clone(), value.clone())].into_iter().collect());
        let given = encode(context, &one)?;
        let found = if layout.data.as_ref() == Some(name) {
            (given.data.as_deref() != Some(data)).then(|| bytes::show_data(context.data_format, data))
        } else {
            layout.field(name).and_then(|field| {
                let found = part(field, found)?;
                (part(field, &given.context) != Some(found)).then(|| form::show(field, found))
            })
        };
        others.extend(found.map(|found| OtherValue {
            field: name.clone(),
            expected: value.clone(),
            found,
        }));
    }
    Ok(others)
}
