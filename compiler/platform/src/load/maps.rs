//! Map types: those of the runtime, and those that extensions implement under numbers that it keeps for them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::place::Place;
use super::{Files, guid};
use crate::PlatformError;
use crate::model::{CustomMap, MapRules, MapType, SizeRule};
use crate::schema;

/// The map types of all files, by ascending number.
pub(super) fn map_types(files: &Files<'_>) -> Result<Vec<MapType>, PlatformError> {
    let mut types: Vec<MapType> = Vec::new();
    for (file, content) in files {
        for from in &content.map_type {
            let place = Place::new(file, "map_type", &from.name);
            let repeated = types.iter().any(|t| t.value == from.value);
            place.check(!repeated, "value", || format!("{} is used twice", from.value))?;
            let repeated = types.iter().any(|t| t.symbol == from.name);
            place.check(!repeated, "name", || "is used twice".to_owned())?;
            types.push(MapType {
                value: from.value,
                symbol: from.name.clone(),
                name: from.display_name.clone(),
                verifier_is_array: from.verifier_is_array,
                verifier_value_kind: from.verifier_value_kind,
                per_cpu: from.per_cpu,
                doc: from.doc.clone(),
                note: from.note.clone(),
                rules: MapRules {
                    creatable: from.creatable,
                    key_size: key_rule(from),
                    value_size: value_rule(from),
                    max_entries_power_of_two: from.max_entries_power_of_two,
                    max_entries_multiple_of: from.max_entries_multiple_of.unwrap_or(NonZeroU32::MIN),
                    inner_map_required: from.inner_map_required,
                },
                custom: from.custom.then(|| CustomMap {
                    provider: from.custom_provider.clone(),
                    base_map_type: from.base_map_type,
                    ..CustomMap::default()
                }),
            });
        }
    }
    let mut offers = BTreeMap::new();
    for (number, (file, content)) in files.iter().enumerate() {
        for from in &content.custom_map_type {
            let place = Place::new(file, "custom_map_type", &from.name);
            offer(&place, from, (number, &content.provider), &mut offers, &mut types)?;
        }
    }
    types.sort_by_key(|t| t.value);
    Ok(types)
}

/// The sizes of keys. A size that the runtime does not check but reads by counts too: it would read past a shorter key.
fn key_rule(from: &schema::MapType) -> SizeRule {
    if let Some(size) = from.key_size_required {
        return SizeRule::Exactly(size);
    }
    let least = from.key_size_min.max(from.key_bytes_read).and_then(NonZeroU32::new);
    match least {
        Some(size) => SizeRule::AtLeast(size),
        None if from.zero_key_allowed => SizeRule::Any,
        None => NOT_ZERO,
    }
}

fn value_rule(from: &schema::MapType) -> SizeRule {
    match from.value_size_required {
        Some(size) => SizeRule::Exactly(size),
        None if from.zero_value_allowed => SizeRule::Any,
        None => NOT_ZERO,
    }
}

const NOT_ZERO: SizeRule = SizeRule::AtLeast(NonZeroU32::MIN);

/// Enters what a provider says about a type that it implements.
fn offer(
    place: &Place<'_>,
    from: &schema::CustomMapType,
    (file, by): (usize, &schema::Provider),
    offers: &mut BTreeMap<u32, usize>,
    types: &mut [MapType],
) -> Result<(), PlatformError> {
    let number = from.value;
    let base = types.iter().find(|t| t.value == from.base_map_type);
    place.check(
        base.is_some_and(|t| t.rules.creatable && t.custom.is_none()),
        "base_map_type",
        || format!("{} is no map type of the runtime itself", from.base_map_type),
    )?;
    let repeated = types.iter().any(|t| t.symbol == from.name && t.value != number);
    place.check(!repeated, "name", || "is that of another map type".to_owned())?;
    let last = types.iter().map(|t| t.value).max().unwrap_or_default();
    let Some(known) = types.iter_mut().find(|t| t.value == number) else {
        return Err(place.error(
            "value",
            format!("{number} is no map type; the runtime's last is {last}"),
        ));
    };
    let Some(custom) = &mut known.custom else {
        let taken = format!("{number} is `{}`, which the runtime itself implements", known.symbol);
        return Err(place.error("value", taken));
    };
    let provider = by.id.as_str();
    let offered = CustomMap {
        provider: Some(provider.to_owned()),
        provider_guid: Some(guid(place, "provider_guid", &from.provider_guid)?),
        base_map_type: Some(from.base_map_type),
        updates_original_value: from.updates_original_value,
    };
    let sizes_agree = |known: &MapRules| {
        let agrees = |rule, size: Option<u32>| size.is_none_or(|size| rule == SizeRule::Exactly(size));
        agrees(known.key_size, from.key_size) && agrees(known.value_size, from.value_size)
    };
    let by_name = CustomMap {
        provider: custom.provider.clone(),
        ..offered.clone()
    };
    // A file of the runtime may tell what it knows of the extension; that is no offer.
    let earlier = offers.insert(number, file);
    let same = *custom == by_name && known.symbol == from.name && sizes_agree(&known.rules);
    if same && earlier.is_some_and(|earlier| earlier != file) {
        return Ok(());
    }
    let other = custom
        .provider
        .as_deref()
        .filter(|p| earlier.is_some() || *p != provider);
    let replaced = |other: &str| earlier != Some(file) && by.replaces.iter().any(|id| id == other);
    if let Some(other) = other.filter(|other| !replaced(other)) {
        let taken = format!("{number} is `{}` of `{other}` already", known.symbol);
        return Err(place.error("value", taken));
    }
    let same_base = earlier.is_some() || custom.base_map_type.is_none_or(|base| base == from.base_map_type);
    place.check(same_base, "base_map_type", || {
        format!("another file says {}", custom.base_map_type.unwrap_or_default())
    })?;
    for (field, size) in [("key_size", from.key_size), ("value_size", from.value_size)] {
        place.check(size != Some(0), field, || {
            "is 0, and the runtime creates no such map".to_owned()
        })?;
    }
    *custom = offered;
    if known.symbol != from.name {
        known.symbol.clone_from(&from.name);
        let short = from.name.strip_prefix("BPF_MAP_TYPE_").unwrap_or(&from.name);
        known.name = short.to_ascii_lowercase();
    }
    if from.note.is_some() {
        known.note.clone_from(&from.note);
    }
    if let Some(size) = from.key_size {
        known.rules.key_size = SizeRule::Exactly(size);
    }
    if let Some(size) = from.value_size {
        known.rules.value_size = SizeRule::Exactly(size);
    }
    Ok(())
}
