//! The structure that programs get: where its data pointers and fields lie.

use super::describe;
use super::place::Place;
use crate::PlatformError;
use crate::model::Context;
use crate::schema;

/// Width of the pointers in a context structure: both targets have 64 bits.
const POINTER_BYTES: i32 = 8;

/// Checks where the pointers of a context lie. Otherwise, the field and what is wrong with it.
pub(crate) fn layout(size: i32, data: i32, data_end: i32, data_meta: i32) -> Result<(), (&'static str, String)> {
    if size <= 0 {
        return Err(("size", "is not positive".to_owned()));
    }
    for (field, offset) in [("data", data), ("data_end", data_end), ("data_meta", data_meta)] {
        let inside = offset == -1 || (offset >= 0 && offset <= size - POINTER_BYTES);
        if !inside {
            return Err((field, format!("{offset} lies outside of the {size} bytes")));
        }
    }
    // The verifier takes the distance of the two for the width of a pointer.
    let pair = (data == -1) == (data_end == -1) && (data == -1 || data_end.checked_sub(data) == Some(POINTER_BYTES));
    if !pair {
        let message = format!("must lie {POINTER_BYTES} bytes behind `data`, or both be -1");
        return Err(("data_end", message));
    }
    if data_meta != -1 && data == -1 {
        return Err(("data_meta", "needs `data`".to_owned()));
    }
    Ok(())
}

/// The context that a file describes. The name of its structure stays empty.
pub(super) fn context(place: &Place<'_>, from: &schema::Context) -> Result<Context, PlatformError> {
    let [size, data, data_end, data_meta] = [from.size, from.data, from.data_end, from.data_meta];
    layout(size, data, data_end, data_meta).map_err(|(field, message)| place.error(field, message))?;
    place.check(from.data_meta != -1 || !from.data_meta_null, "data_meta_null", || {
        "needs `data_meta`".to_owned()
    })?;
    place.check(from.data != -1 || from.data_format.is_none(), "data_format", || {
        "needs `data`".to_owned()
    })?;
    let pointers = [from.data, from.data_end, from.data_meta];
    let fields = describe::fields(place, &from.field, from.size.unsigned_abs(), &pointers)?;
    Ok(Context {
        struct_name: String::new(),
        size: from.size,
        data: from.data,
        data_end: from.data_end,
        data_meta: from.data_meta,
        data_meta_null: from.data_meta_null,
        fields,
        header: from.header.clone(),
        data_content: from.data_content.clone(),
        data_format: from.data_format,
        doc: from.doc.clone(),
        note: from.note.clone(),
    })
}
