//! Whether the runtime would create a map.
//!
//! Given: a map's definition and its type. Computed: the first rule of the type that the definition breaks.
//! Templates of inner maps are a matter of the whole module and not looked at here.

use std::fmt;

use bpf2sys_bytecode::MapDefinition;

use crate::model::{Limits, MapType, SizeRule};

/// Why the runtime would not create a map, or not without harm (native module contract §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapRefusal {
    /// No maps of this type exist.
    #[error("no map of this type can be created")]
    Type,
    /// `max_entries` is 0.
    #[error("it has room for no entries")]
    NoEntries,
    /// A key size that the type does not take.
    #[error("its key size is {size}; this type needs {rule}")]
    KeySize {
        /// Bytes of a key.
        size: u32,
        /// What the type takes.
        rule: SizeRule,
    },
    /// A value size that the type does not take.
    #[error("its value size is {size}; this type needs {rule}")]
    ValueSize {
        /// Bytes of a value.
        size: u32,
        /// What the type takes.
        rule: SizeRule,
    },
    /// `max_entries` must be a power of two.
    #[error("its `max_entries` is {0}; this type needs a power of two")]
    NotPowerOfTwo(u32),
    /// `max_entries` must be a multiple of something.
    #[error("its `max_entries` is {entries}; this type needs a multiple of {of}")]
    NotMultiple {
        /// `max_entries`
        entries: u32,
        /// What it must be a multiple of.
        of: u32,
    },
    /// The values are one block of memory, and the runtime allocates none of that size.
    #[error("its values take {bytes} bytes; the runtime allocates at most {limit}")]
    TooLarge {
        /// Bytes of all values, on one processor if each has its own.
        bytes: u64,
        /// Most bytes of a block.
        limit: u64,
    },
}

impl MapType {
    /// Whether the runtime would create a map of this type with this definition.
    ///
    /// # Errors
    /// The first rule that the definition breaks.
    pub fn check(&self, definition: &MapDefinition, limits: &Limits) -> Result<(), MapRefusal> {
        let rules = &self.rules;
        let MapDefinition {
            key_size,
            value_size,
            max_entries,
            ..
        } = *definition;
        if !rules.creatable {
            return Err(MapRefusal::Type);
        }
        if max_entries == 0 {
            return Err(MapRefusal::NoEntries);
        }
        if !rules.key_size.takes(key_size) {
            let (size, rule) = (key_size, rules.key_size);
            return Err(MapRefusal::KeySize { size, rule });
        }
        if !rules.value_size.takes(value_size) {
            let (size, rule) = (value_size, rules.value_size);
            return Err(MapRefusal::ValueSize { size, rule });
        }
        if rules.max_entries_power_of_two && !max_entries.is_power_of_two() {
            return Err(MapRefusal::NotPowerOfTwo(max_entries));
        }
        let of = rules.max_entries_multiple_of.get();
        if max_entries % of != 0 {
            let entries = max_entries;
            return Err(MapRefusal::NotMultiple { entries, of });
        }
        let bytes = u64::from(max_entries) * u64::from(value_size);
        let limit = limits.max_map_allocation_bytes;
        if self.verifier_is_array && bytes > limit {
            return Err(MapRefusal::TooLarge { bytes, limit });
        }
        Ok(())
    }
}

impl SizeRule {
    /// Whether a size of this many bytes is allowed.
    pub fn takes(self, size: u32) -> bool {
        match self {
            SizeRule::Any => true,
            SizeRule::AtLeast(least) => size >= least.get(),
            SizeRule::Exactly(exact) => size == exact,
        }
    }
}

impl fmt::Display for SizeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SizeRule::Any => f.write_str("any size"),
            SizeRule::AtLeast(least) => write!(f, "at least {least}"),
            SizeRule::Exactly(exact) => write!(f, "{exact}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::Platform;

    fn check(map_type: u32, key_size: u32, value_size: u32, max_entries: u32) -> Result<(), MapRefusal> {
        let platform = Platform::builtin();
        let definition = MapDefinition {
            map_type,
            key_size,
            value_size,
            max_entries,
            ..MapDefinition::default()
        };
        platform
            .map_type(map_type)
            .unwrap()
            .check(&definition, &platform.limits)
    }

    #[test]
    fn every_type_has_a_definition_that_the_runtime_takes() {
        for (map_type, key, value, entries) in [
            (1, 1, 1, 1),
            (2, 4, 1, 1),
            (2, 8, 1, 1),
            (3, 4, 4, 1),
            (4, 56, 4, 1000),
            (5, 4, 8, 3),
            (6, 2, 4, 1),
            (7, 4, 4, 1),
            (8, 1, 1, u32::MAX),
            (9, 4, 1, 1),
            (10, 0, 4, 10),
            (11, 4, 4, 10),
            (12, 0, 4, 10),
            (13, 0, 0, 4096),
            (13, 0, 8, 1 << 31),
            (14, 0, 0, 8192),
            (14, 4, 4, 4096),
            (15, 4, 4, 1),
            (16, 4, 4, 64),
        ] {
            assert_eq!(check(map_type, key, value, entries), Ok(()), "type {map_type}");
        }
        assert_eq!(check(2, 4, 1 << 10, 1 << 27), Ok(()));
        assert_eq!(
            check(1, 4, u32::MAX, u32::MAX),
            Ok(()),
            "entries of a hash are allocated one by one"
        );
    }

    #[test]
    fn rejects_maps_that_the_runtime_would_not_create() {
        let at_least = |n| SizeRule::AtLeast(NonZeroU32::new(n).unwrap());
        let key = |size, rule| MapRefusal::KeySize { size, rule };
        let value = |size, rule| MapRefusal::ValueSize { size, rule };
        let multiple = |entries| MapRefusal::NotMultiple { entries, of: 4096 };
        for (map_type, key_size, value_size, entries, expected) in [
            (0, 4, 4, 1, MapRefusal::Type),
            (1, 4, 4, 0, MapRefusal::NoEntries),
            (13, 0, 0, 0, MapRefusal::NoEntries),
            (1, 0, 4, 1, key(0, at_least(1))),
            (1, 4, 0, 1, value(0, at_least(1))),
            (2, 0, 4, 1, key(0, at_least(4))),
            (2, 2, 4, 1, key(2, at_least(4))),
            (5, 3, 4, 1, key(3, at_least(4))),
            (7, 1, 4, 1, key(1, at_least(4))),
            (3, 8, 4, 1, key(8, SizeRule::Exactly(4))),
            (3, 4, 8, 1, value(8, SizeRule::Exactly(4))),
            (6, 4, 8, 1, value(8, SizeRule::Exactly(4))),
            (7, 4, 0, 1, value(0, SizeRule::Exactly(4))),
            (9, 3, 4, 1, key(3, at_least(4))),
            (10, 4, 4, 1, key(4, SizeRule::Exactly(0))),
            (10, 0, 0, 1, value(0, at_least(1))),
            (12, 1, 4, 1, key(1, SizeRule::Exactly(0))),
            (13, 4, 0, 4096, key(4, SizeRule::Exactly(0))),
            (13, 0, 0, 12288, MapRefusal::NotPowerOfTwo(12288)),
            (13, 0, 0, 2048, multiple(2048)),
            (14, 0, 0, 5000, MapRefusal::NotPowerOfTwo(5000)),
            (14, 0, 0, 1, multiple(1)),
            (15, 8, 4, 1, key(8, SizeRule::Exactly(4))),
            (15, 4, 8, 1, value(8, SizeRule::Exactly(4))),
            (16, 0, 4, 1, key(0, at_least(1))),
        ] {
            let found = check(map_type, key_size, value_size, entries);
            assert_eq!(found, Err(expected), "type {map_type}");
        }
        let limit = 1 << 37;
        let bytes = limit + (1 << 10);
        assert_eq!(
            check(2, 4, 1 << 10, (1 << 27) + 1),
            Err(MapRefusal::TooLarge { bytes, limit })
        );
        assert!(check(5, 4, u32::MAX, u32::MAX).is_err());
    }

    #[test]
    fn a_refusal_says_what_the_type_needs() {
        let text = |map_type, key, value, entries| check(map_type, key, value, entries).unwrap_err().to_string();
        assert_eq!(text(12, 4, 4, 1), "its key size is 4; this type needs 0");
        assert_eq!(text(9, 2, 4, 1), "its key size is 2; this type needs at least 4");
        assert_eq!(
            text(13, 0, 0, 100),
            "its `max_entries` is 100; this type needs a power of two"
        );
    }
}
