//! What becomes of what Linux has, as data: contexts, helpers, map types and flags.

use std::sync::LazyLock;

use bpf2sys_bytecode::Instruction;
use serde::Deserialize;

use crate::Fate;

/// What becomes of a context.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) program_type: String,
    /// Name of the structure on Linux.
    #[serde(rename = "struct")]
    pub(crate) name: String,
    /// Its size there.
    pub(crate) size: u32,
    /// Where its pointers lie.
    pub(crate) pointers: Option<Pointers>,
    /// What must hold of the Windows context, or else the program returns 0 at once.
    pub(crate) only_if: Option<OnlyIf>,
    pub(crate) fields: Vec<Field>,
}

/// A byte of a context and what it must be.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnlyIf {
    pub(crate) at: i16,
    pub(crate) is: i32,
}

/// Offsets of pointers.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pointers {
    pub(crate) data: i32,
    pub(crate) data_end: i32,
    pub(crate) data_meta: i32,
}

/// What becomes of a field of a context.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// Other names of the same bytes.
    #[serde(default)]
    pub(crate) also: Vec<String>,
    /// Offset on Linux.
    pub(crate) at: u32,
    /// Size on Linux.
    pub(crate) size: u32,
    /// Only programs of sections that end so may use it.
    pub(crate) family: Option<u32>,
    /// Widths of loads that Linux allows.
    pub(crate) read: Vec<u32>,
    /// Widths of stores that Linux allows.
    pub(crate) write: Vec<u32>,
    pub(crate) load: Load,
    pub(crate) store: Option<Store>,
}

/// What a load of a field becomes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    /// Offset on Windows.
    pub(crate) at: Option<u32>,
    /// Size on Windows, if it is another one.
    pub(crate) size: Option<u32>,
    /// What values become: pairs of Windows and Linux.
    #[serde(default)]
    pub(crate) map: Vec<[i32; 2]>,
    /// What all others become.
    #[serde(rename = "else")]
    pub(crate) otherwise: Option<i32>,
    /// Shifted left then, by that many bits.
    pub(crate) shift: Option<i32>,
    /// The lower 16 bits are swapped then.
    #[serde(default)]
    pub(crate) swap: bool,
    /// 0 where the family at this offset of the Windows context is that of IPv6.
    pub(crate) zero_if_v6: Option<u32>,
    /// No load: this value.
    pub(crate) value: Option<i32>,
    /// The value tells nothing.
    #[serde(default)]
    pub(crate) degraded: bool,
    /// Values that a word of the context selects.
    pub(crate) deleted: Option<Deleted>,
    /// The value where it does not.
    pub(crate) unless: Option<i32>,
    /// Why there is no answer.
    pub(crate) refuse: Option<String>,
}

/// The values of a field, word by word, where a word of the context has a certain value.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deleted {
    pub(crate) at: u32,
    pub(crate) is: i32,
    pub(crate) values: Vec<i32>,
}

/// What a store to a field becomes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    pub(crate) at: Option<u32>,
    pub(crate) size: Option<u32>,
    /// It is left out: what the program lacks by that.
    pub(crate) lost: Option<String>,
    pub(crate) refuse: Option<String>,
    /// How the sections begin in which it has an effect.
    pub(crate) only: Option<String>,
}

/// What becomes of returned values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Returns {
    program_type: String,
    /// Sections for which it holds; empty for all.
    #[serde(default)]
    sections: Vec<String>,
    /// What Linux lets programs return.
    pub(crate) range: Option<[i64; 2]>,
    /// What values become: pairs of Linux and Windows.
    #[serde(default)]
    pub(crate) map: Vec<[i32; 2]>,
    /// What all others become.
    pub(crate) otherwise: Option<i32>,
    /// Or the bits that are kept.
    pub(crate) keep_bits: Option<i32>,
}

/// What becomes of calls of a helper.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Helper {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// The helper of Windows.
    pub(crate) windows: Option<u32>,
    /// Which bits of its result mean something, if not all.
    pub(crate) result: Option<ResultBits>,
    /// No call: this result.
    pub(crate) value: Option<i32>,
    /// It fails with results of Windows.
    #[serde(default)]
    pub(crate) errors: bool,
    /// Those that mean something else than elsewhere.
    #[serde(default)]
    pub(crate) other_errors: Vec<[i32; 2]>,
    /// A register and the largest value that it may have.
    pub(crate) most: Option<(u8, u64)>,
    /// Registers of a pointer and a size: the memory becomes zeros.
    pub(crate) clears: Option<[u8; 2]>,
    /// A sequence of this name.
    pub(crate) inline: Option<Sequence>,
    /// Program types for which this holds; empty for all.
    #[serde(default)]
    pub(crate) types: Vec<String>,
    /// What stands for it, which is made before the module is proven.
    pub(crate) unfolded: Option<String>,
    /// What programs lack.
    pub(crate) degraded: Option<String>,
}

/// The bits of a result that mean something.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ResultBits {
    /// The lower 32, signed.
    Sign32,
    /// The lower 32, unsigned.
    Zero32,
}

/// A sequence of instructions around or in place of a call.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sequence {
    /// `bpf_map_delete_elem`: arrays keep their values.
    Delete,
    /// `bpf_trace_printk`: the helper by the number of values.
    Printk,
    /// `bpf_csum_diff`: the seed folded to 16 bits.
    Checksum,
    /// `bpf_map_pop_elem`: what it writes is zero if it fails.
    Pop,
    /// `bpf_map_peek_elem`, as that.
    Peek,
    /// The compartment of the context.
    NetworkNamespace,
    /// The distance of the context's pointers.
    PacketLength,
    /// Bytes of the packet copied out.
    LoadBytes,
    /// Bytes of the packet written.
    StoreBytes,
    /// A record of a ring buffer is sent.
    Submit,
    /// A record is dropped.
    Discard,
}

/// What becomes of a map type.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MapType {
    pub(crate) linux: u32,
    pub(crate) name: String,
    pub(crate) windows: Option<u32>,
    /// Why there is no counterpart.
    pub(crate) why: Option<String>,
}

/// What becomes of a creation flag.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MapFlag {
    pub(crate) bit: u32,
    pub(crate) name: String,
    /// Why there is no counterpart.
    pub(crate) refuse: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contexts {
    context: Vec<Context>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Helpers {
    errors: Vec<[i32; 2]>,
    #[serde(rename = "helpers")]
    known: Vec<Helper>,
    missing: Vec<Missing>,
}

/// Helpers without a counterpart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Missing {
    ids: Vec<i32>,
    /// Why there is none.
    pub(crate) why: String,
    /// What to do instead.
    pub(crate) instead: Option<String>,
}

/// A difference in behaviour that stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Difference {
    /// Of programs of these types.
    #[serde(default)]
    pub(crate) types: Vec<String>,
    /// Only in sections that begin so.
    #[serde(default)]
    pub(crate) sections: Vec<String>,
    /// Or of maps of these types of Linux.
    #[serde(default)]
    pub(crate) maps: Vec<String>,
    /// Or of calls of these helpers.
    #[serde(default)]
    pub(crate) helpers: Vec<String>,
    pub(crate) text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllDifferences {
    differences: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllReturns {
    returns: Vec<Returns>,
}

/// What becomes of maps.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Maps {
    pub(crate) types: Vec<MapType>,
    pub(crate) flags: Vec<MapFlag>,
}

const BUILTIN: &str = "the tables are part of the program, and a test reads them";

static CONTEXTS: LazyLock<Contexts> =
    LazyLock::new(|| toml::from_str(include_str!("../data/contexts.toml")).expect(BUILTIN));
static HELPERS: LazyLock<Helpers> =
    LazyLock::new(|| toml::from_str(include_str!("../data/helpers.toml")).expect(BUILTIN));
static RETURNS: LazyLock<AllReturns> =
    LazyLock::new(|| toml::from_str(include_str!("../data/returns.toml")).expect(BUILTIN));
static DIFFERENCES: LazyLock<AllDifferences> =
    LazyLock::new(|| toml::from_str(include_str!("../data/differences.toml")).expect(BUILTIN));
static MAPS: LazyLock<Maps> = LazyLock::new(|| toml::from_str(include_str!("../data/maps.toml")).expect(BUILTIN));

/// What becomes of the context of a program type.
pub(crate) fn context(program_type: &str) -> Option<&'static Context> {
    CONTEXTS.context.iter().find(|c| c.program_type == program_type)
}

/// What becomes of the context that has this structure on Linux.
pub(crate) fn structure(name: &str) -> Option<&'static Context> {
    CONTEXTS.context.iter().find(|c| c.name == name)
}

/// What becomes of what programs of a section return.
pub(crate) fn returns(program_type: &str, section: &str) -> Option<&'static Returns> {
    RETURNS.returns.iter().find(|r| {
        r.program_type == program_type
            && (r.sections.is_empty() || r.sections.iter().any(|s| section.starts_with(s.as_str())))
    })
}

/// What becomes of a helper in a program type.
pub(crate) fn helper(id: u32, program_type: &str) -> Option<&'static Helper> {
    HELPERS
        .known
        .iter()
        .find(|h| h.id == id && (h.types.is_empty() || h.types.iter().any(|t| t == program_type)))
}

impl Helper {
    /// What calls become where they are the same.
    pub(crate) fn becomes(&self) -> String {
        let result = if self.result.is_some() {
            ", its result widened to 64 bits"
        } else {
            ""
        };
        if let Some(unfolded) = &self.unfolded {
            return unfolded.clone();
        }
        match (self.windows, self.inline) {
            (Some(id), None) => format!("helper {id}{result}"),
            (Some(id), Some(_)) => format!("instructions and helper {id}{result}"),
            (None, _) => "instructions in its place".to_owned(),
        }
    }

    /// What calls become if nothing more is known of them.
    pub(crate) fn usual_fate(&self) -> Fate {
        match &self.degraded {
            Some(lacks) => Fate::Degraded(lacks.clone()),
            None => Fate::Exact(self.becomes()),
        }
    }

    /// Results of Windows and what Linux has for them.
    pub(crate) fn error_numbers(&self) -> impl Iterator<Item = [i32; 2]> + '_ {
        HELPERS.errors.iter().map(|[windows, linux]| {
            let other = self.other_errors.iter().find(|[of, _]| of == windows);
            [*windows, other.map_or(*linux, |[_, number]| *number)]
        })
    }
}

/// What becomes of a helper in the first program type that has it.
pub(crate) fn helper_of_any(id: i32) -> Option<&'static Helper> {
    HELPERS.known.iter().find(|h| i64::from(h.id) == i64::from(id))
}

/// A helper by its name.
pub(crate) fn helper_named(name: &str) -> Option<&'static Helper> {
    HELPERS.known.iter().find(|h| h.name == name)
}

/// Whether a helper of this name has a counterpart in some program type.
pub(crate) fn has_helper_named(name: &str) -> bool {
    helper_named(name).is_some()
}

/// Why a helper has no counterpart; none for those of tracing, and for numbers that are no helper.
pub(crate) fn no_helper(id: i32) -> Option<&'static Missing> {
    HELPERS.missing.iter().find(|missing| missing.ids.contains(&id))
}

/// Differences in behaviour that stay.
pub(crate) fn differences() -> &'static [Difference] {
    &DIFFERENCES.differences
}

/// Where something lies in the context of Windows, as people read it.
pub(crate) fn place(at: Option<u32>) -> String {
    at.map_or_else(
        || "left out".to_owned(),
        |at| format!("byte {at} of the context of Windows"),
    )
}

impl Load {
    /// What a field is made of.
    pub(crate) fn becomes(&self) -> String {
        match (self.value, &self.deleted) {
            (Some(value), _) => format!("the number {value}"),
            (None, Some(deleted)) => format!("a number by {}", place(Some(deleted.at))),
            (None, None) => {
                let converted = !self.map.is_empty() || self.shift.is_some() || self.swap || self.zero_if_v6.is_some();
                place(self.at) + if converted { ", converted" } else { "" }
            }
        }
    }
}

impl Returns {
    /// What values become.
    pub(crate) fn becomes(&self) -> String {
        let mut parts: Vec<String> = self
            .map
            .iter()
            .map(|[linux, windows]| format!("{linux} becomes {windows}"))
            .collect();
        parts.extend(self.otherwise.map(|other| match self.map.len() {
            0 => format!("all become {other}"),
            _ => format!("others {other}"),
        }));
        parts.extend(self.keep_bits.map(|bits| match bits {
            1 => "the lowest bit is kept".to_owned(),
            bits => format!("the bits {bits:#x} are kept"),
        }));
        parts.join(", ")
    }
}

impl MapType {
    /// What it becomes.
    pub(crate) fn becomes(&self) -> String {
        let name = self.name.trim_start_matches("BPF_MAP_TYPE_").to_lowercase();
        format!(
            "{name}, type {} there, {} here",
            self.linux,
            self.windows.unwrap_or_default()
        )
    }
}

/// What becomes of maps.
pub(crate) fn maps() -> &'static Maps {
    &MAPS
}

impl Context {
    /// Where the field starts that an instruction accesses whose base register points so far behind the context's start.
    pub(crate) fn field_of(&self, base_at: i32, op: &Instruction) -> Option<u32> {
        let (Instruction::Load { width, offset, .. } | Instruction::Store { width, offset, .. }) = op else {
            return None;
        };
        let at = u32::try_from(base_at + i32::from(*offset)).ok()?;
        self.field(at, width.bytes()).map(|field| field.at)
    }

    /// The field that holds `width` bytes at `offset`.
    pub(crate) fn field(&self, offset: u32, width: u32) -> Option<&Field> {
        self.fields
            .iter()
            .find(|f| f.at <= offset && offset + width <= f.at + f.size)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::platform::linux;

    #[test]
    fn fields_lie_side_by_side_and_each_has_one_answer() {
        for context in &CONTEXTS.context {
            let mut end = 0;
            for field in &context.fields {
                assert!(field.at >= end, "{}.{}", context.name, field.name);
                end = field.at + field.size;
                let load = &field.load;
                let answers = [
                    load.at.is_some(),
                    load.value.is_some(),
                    load.deleted.is_some(),
                    load.refuse.is_some(),
                ];
                assert_eq!(answers.iter().filter(|a| **a).count(), 1, "{}", field.name);
                assert_eq!(field.store.is_some(), !field.write.is_empty(), "{}", field.name);
                assert!(field.read.iter().chain(&field.write).all(|w| field.size % w == 0));
            }
            assert!(end <= context.size, "{}", context.name);
        }
    }

    #[test]
    fn every_helper_has_a_prototype_and_every_map_type_a_number() {
        let known: BTreeSet<u32> = linux().helpers.iter().map(|h| h.id).collect();
        for helper in &HELPERS.known {
            // What is unfolded is gone before anything is proven.
            assert_eq!(known.contains(&helper.id), helper.unfolded.is_none(), "{}", helper.name);
            let ways = [
                helper.unfolded.is_some(),
                helper.windows.is_some() || helper.inline.is_some(),
                helper.value.is_some(),
            ];
            assert_eq!(ways.iter().filter(|w| **w).count(), 1, "{}", helper.name);
            assert!(no_helper(helper.id as i32).is_none(), "{}", helper.name);
        }
        assert_eq!(MAPS.types.len(), linux().map_types.len());
        for (map_type, number) in MAPS.types.iter().zip(1..) {
            assert_eq!(
                (map_type.linux, map_type.windows.is_some()),
                (number, map_type.why.is_none())
            );
        }
    }
}
