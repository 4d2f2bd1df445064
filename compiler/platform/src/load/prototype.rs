//! Prototypes of helpers: argument and return types by name, and the rules that make a prototype usable.

use std::collections::HashSet;

use super::Loader;
use super::place::Place;
use crate::PlatformError;
use crate::description::{ArgumentClass, ReturnClass};
use crate::model::{Fills, Helper, MapType};
use crate::schema::{self, ArgumentType, EnumValue, ReturnType};

use super::describe;

/// Helpers of one file and scope. Their ids and names differ.
#[derive(Default)]
pub(super) struct Scope {
    helpers: Vec<Helper>,
    ids: HashSet<u32>,
    names: HashSet<String>,
}

impl Scope {
    pub fn finish(self) -> Vec<Helper> {
        self.helpers
    }
}

impl Loader<'_> {
    /// Adds a helper to those of its scope, whose ids and names must differ.
    pub(super) fn add_helper(
        &self,
        place: &Place<'_>,
        from: &schema::Helper,
        map_types: &[MapType],
        into: &mut Scope,
    ) -> Result<(), PlatformError> {
        place.name("name", &from.name, self.limits.max_helper_name)?;
        let new = into.ids.insert(from.id);
        place.check(new, "id", || format!("{} is used twice", from.id))?;
        let new = into.names.insert(from.name.clone());
        place.check(new, "name", || "is used twice".to_owned())?;
        check_map_types(
            place,
            from.runtime_map_types.as_deref(),
            from.checks_map_type,
            map_types,
        )?;
        let arguments = 1..=from.args.len();
        let positions = from.writes_readable.iter();
        place.check(
            positions.clone().all(|p| arguments.contains(&usize::from(*p))),
            "writes_readable",
            || format!("names an argument that is not one of {}", from.args.len()),
        )?;
        let types = self.argument_types(place, &from.args)?;
        let listed = types.iter().take_while(|argument| **argument != 0).count();
        let unlisted = |position: &u8| (1..=5).contains(position) && usize::from(*position) > listed;
        place.check(from.reads_unlisted.iter().all(unlisted), "reads_unlisted", || {
            "names a register that is none of r1 to r5, or that `args` lists".to_owned()
        })?;
        into.helpers.push(Helper {
            id: from.id,
            name: from.name.clone(),
            return_type: self.return_type(place, &from.return_type)?,
            arguments: types,
            reallocate_packet: from.reallocate_packet,
            writes_readable: from.writes_readable.clone(),
            runtime_map_types: from.runtime_map_types.clone(),
            checks_map_type: from.checks_map_type,
            default_implementation: from.default_implementation,
            always_fails: from.always_fails,
            reads_unlisted: from.reads_unlisted.clone(),
            fills: self.fills(place, from.fills.as_ref(), &from.args)?,
            description: describe::helper(place, from)?,
        });
        Ok(())
    }

    /// Which buffer a helper fills: the pointer and the sizes must be what they are said to be.
    pub(super) fn fills(
        &self,
        place: &Place<'_>,
        from: Option<&schema::Fills>,
        args: &[EnumValue],
    ) -> Result<Option<Fills>, PlatformError> {
        let Some(from) = from else { return Ok(None) };
        let known = |position: u8| {
            let argument = args.get(usize::from(position).checked_sub(1)?)?;
            self.arguments.get(argument.name.as_str())
        };
        let writable = known(from.argument).and_then(|known| known.verifier_kind.as_deref());
        place.check(writable == Some("PTR_TO_WRITABLE_MEM"), "fills", || {
            "`argument` is no writable memory with a size".to_owned()
        })?;
        let mut sizes = from.if_equal.iter().flatten();
        place.check(
            sizes.all(|p| known(*p).is_some_and(|known| known.class == ArgumentClass::PairSize)),
            "fills",
            || "`if_equal` names an argument that is no size".to_owned(),
        )?;
        Ok(Some(Fills {
            argument: from.argument,
            if_equal: from.if_equal,
        }))
    }

    pub(super) fn return_type(&self, place: &Place<'_>, from: &EnumValue) -> Result<u32, PlatformError> {
        let known = self
            .returns
            .get(from.name.as_str())
            .ok_or_else(|| place.error("return_type", format!("`{}` is no return type", from.name)))?;
        same_value(place, "return_type", from, known.value)?;
        returned(known).map_err(|message| place.error("return_type", message))
    }

    /// The argument list, whose types must go together.
    pub(super) fn argument_types(&self, place: &Place<'_>, from: &[EnumValue]) -> Result<[u32; 5], PlatformError> {
        let mut types = Vec::with_capacity(from.len());
        for argument in from {
            let known = self
                .arguments
                .get(argument.name.as_str())
                .ok_or_else(|| place.error("args", format!("`{}` is no argument type", argument.name)))?;
            same_value(place, "args", argument, known.value)?;
            types.push(*known);
        }
        arguments(&types).map_err(|message| place.error("args", message))
    }
}

/// The values of argument types that go together, by the verifier's rules: a pointer to sized memory and its size come in a
/// pair, memory of a map comes behind the map, and nothing behind the end. Otherwise, what is wrong.
pub(crate) fn arguments(types: &[&ArgumentType]) -> Result<[u32; 5], String> {
    const NO_SIZE: &str = "a pointer to sized memory is not followed by its size";
    let mut arguments = [0; 5];
    if types.len() > arguments.len() {
        return Err(format!("has {} entries, and calls pass at most 5", types.len()));
    }
    let mut before = ArgumentClass::Single;
    let mut has_map = false;
    for (slot, known) in arguments.iter_mut().zip(types) {
        let name = &known.name;
        let expected = before == ArgumentClass::PairPointer;
        if (known.class == ArgumentClass::PairSize) != expected {
            return Err(if expected {
                NO_SIZE.to_owned()
            } else {
                format!("`{name}` does not follow a pointer to sized memory")
            });
        }
        if known.class == ArgumentClass::Unsupported {
            return Err(format!("`{name}` makes the helper unusable"));
        }
        let kind = known.verifier_kind.as_deref().unwrap_or_default();
        has_map |= kind == "MAP_FD";
        if !has_map && matches!(kind, "PTR_TO_MAP_KEY" | "PTR_TO_MAP_VALUE") {
            return Err(format!("`{name}` has no map before it"));
        }
        if before == ArgumentClass::Stop && known.class != ArgumentClass::Stop {
            return Err(format!("`{name}` stands behind the end of the list"));
        }
        *slot = known.value;
        before = known.class;
    }
    if before == ArgumentClass::PairPointer {
        return Err(NO_SIZE.to_owned());
    }
    Ok(arguments)
}

/// The value of a return type that a helper can have. Otherwise, what is wrong.
pub(crate) fn returned(known: &ReturnType) -> Result<u32, String> {
    if known.class == ReturnClass::Unsupported {
        return Err(format!("`{}` makes the helper unusable", known.name));
    }
    Ok(known.value)
}

/// The map types of a helper or function must exist, and one that does not look at the type must say which it takes.
pub(super) fn check_map_types(
    place: &Place<'_>,
    types: Option<&[u32]>,
    checked: bool,
    map_types: &[MapType],
) -> Result<(), PlatformError> {
    let known = |t: &u32| map_types.iter().any(|m| m.value == *t);
    if let Some(unknown) = types.unwrap_or_default().iter().find(|t| !known(t)) {
        return Err(place.error("runtime_map_types", format!("{unknown} is no map type")));
    }
    place.check(checked || types.is_some(), "checks_map_type", || {
        "needs `runtime_map_types`".to_owned()
    })
}

fn same_value(place: &Place<'_>, field: &'static str, from: &EnumValue, value: u32) -> Result<(), PlatformError> {
    place.check(from.value.is_none_or(|v| v == value), field, || {
        format!("`{}` has the value {value}", from.name)
    })
}
