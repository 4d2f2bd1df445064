//! Prototypes of helpers: argument and return types by name, and the rules that make a prototype usable.

use super::Loader;
use super::place::Place;
use crate::PlatformError;
use crate::model::{Helper, MapType};
use crate::schema::{self, ArgumentClass, EnumValue, ReturnClass};

impl Loader<'_> {
    /// Adds a helper to those of its scope, whose ids and names must differ.
    pub(super) fn add_helper(
        &self,
        place: &Place<'_>,
        from: &schema::Helper,
        map_types: &[MapType],
        into: &mut Vec<Helper>,
    ) -> Result<(), PlatformError> {
        place.name("name", &from.name, self.limits.max_helper_name)?;
        let repeated = into.iter().any(|h| h.id == from.id);
        place.check(!repeated, "id", || format!("{} is used twice", from.id))?;
        let repeated = into.iter().any(|h| h.name == from.name);
        place.check(!repeated, "name", || "is used twice".to_owned())?;
        if let Some(unknown) = from
            .runtime_map_types
            .iter()
            .flatten()
            .find(|t| !map_types.iter().any(|m| m.value == **t))
        {
            return Err(place.error("runtime_map_types", format!("{unknown} is no map type")));
        }
        let arguments = 1..=from.args.len();
        let positions = from.writes_readable.iter();
        place.check(
            positions.clone().all(|p| arguments.contains(&usize::from(*p))),
            "writes_readable",
            || format!("names an argument that is not one of {}", from.args.len()),
        )?;
        into.push(Helper {
            id: from.id,
            name: from.name.clone(),
            return_type: self.return_type(place, &from.return_type)?,
            arguments: self.argument_types(place, &from.args)?,
            reallocate_packet: from.reallocate_packet,
            writes_readable: from.writes_readable.clone(),
            runtime_map_types: from.runtime_map_types.clone(),
            default_implementation: from.default_implementation,
        });
        Ok(())
    }

    pub(super) fn return_type(&self, place: &Place<'_>, from: &EnumValue) -> Result<u32, PlatformError> {
        let known = self
            .returns
            .get(from.name.as_str())
            .ok_or_else(|| place.error("return_type", format!("`{}` is no return type", from.name)))?;
        same_value(place, "return_type", from, known.value)?;
        place.check(known.class != ReturnClass::Unsupported, "return_type", || {
            format!("`{}` makes the helper unusable", from.name)
        })?;
        Ok(known.value)
    }

    /// The argument list, with the pairing rules of the verifier: a pointer to sized memory and its size come together.
    pub(super) fn argument_types(&self, place: &Place<'_>, from: &[EnumValue]) -> Result<[u32; 5], PlatformError> {
        let mut arguments = [0; 5];
        place.check(from.len() <= arguments.len(), "args", || {
            format!("has {} entries, and calls pass at most 5", from.len())
        })?;
        let mut before = ArgumentClass::Single;
        let mut has_map = false;
        for (slot, argument) in arguments.iter_mut().zip(from) {
            let known = self
                .arguments
                .get(argument.name.as_str())
                .ok_or_else(|| place.error("args", format!("`{}` is no argument type", argument.name)))?;
            same_value(place, "args", argument, known.value)?;
            let (size, expected) = (
                known.class == ArgumentClass::PairSize,
                before == ArgumentClass::PairPointer,
            );
            place.check(size == expected, "args", || {
                if size {
                    format!("`{}` does not follow a pointer to sized memory", argument.name)
                } else {
                    "a pointer to sized memory is not followed by its size".to_owned()
                }
            })?;
            place.check(known.class != ArgumentClass::Unsupported, "args", || {
                format!("`{}` makes the helper unusable", argument.name)
            })?;
            let kind = known.verifier_kind.as_deref().unwrap_or_default();
            has_map |= kind == "MAP_FD";
            let memory_of_map = matches!(kind, "PTR_TO_MAP_KEY" | "PTR_TO_MAP_VALUE");
            place.check(has_map || !memory_of_map, "args", || {
                format!("`{}` has no map before it", argument.name)
            })?;
            place.check(
                before != ArgumentClass::Stop || known.class == ArgumentClass::Stop,
                "args",
                || format!("`{}` stands behind the end of the list", argument.name),
            )?;
            *slot = known.value;
            before = known.class;
        }
        place.check(before != ArgumentClass::PairPointer, "args", || {
            "a pointer to sized memory is not followed by its size".to_owned()
        })?;
        Ok(arguments)
    }
}

fn same_value(place: &Place<'_>, field: &'static str, from: &EnumValue, value: u32) -> Result<(), PlatformError> {
    place.check(from.value.is_none_or(|v| v == value), field, || {
        format!("`{}` has the value {value}", from.name)
    })
}
