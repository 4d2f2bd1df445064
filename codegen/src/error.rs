//! Why a verified module cannot become a native object.

use std::fmt;

use bpf2sys_bytecode::{BtfFunction, Instruction, SourceLine};
use bpf2sys_platform::MapRefusal;

use crate::RuntimeLevel;

/// Lowering failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// An option that only ARM64 has, with another machine.
    #[error("the option `{option}` is for ARM64 only")]
    Arm64Only {
        /// The field of [`Options`](crate::Options).
        option: &'static str,
    },
    /// An instruction cannot be lowered.
    #[error("{place}: {problem}")]
    Instruction {
        /// Where.
        place: Place,
        /// What is wrong with it.
        problem: InstructionProblem,
    },
    /// A function as a whole cannot be lowered.
    #[error("function `{function}`: {problem}")]
    Function {
        /// The function's name.
        function: String,
        /// What is wrong with it.
        problem: FunctionProblem,
    },
    /// The module needs something that the oldest runtime that it is to load in does not have.
    #[error(transparent)]
    RuntimeLevel(#[from] Box<LevelProblem>),
    /// The runtime would refuse the module's tables.
    #[error(transparent)]
    Module(#[from] ModuleProblem),
    /// A mistake of this compiler, found by one of its own checks.
    #[error("internal error: {0}")]
    Internal(String),
}

/// A use of something that [`Options::runtime`](crate::Options::runtime) does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {feature}, which runtime {level} does not have; {needed} is needed")]
pub struct LevelProblem {
    /// Where.
    pub place: Place,
    /// What is used.
    pub feature: Feature,
    /// The level that was asked for.
    pub level: RuntimeLevel,
    /// The lowest level that has it.
    pub needed: RuntimeLevel,
}

/// What not every runtime has (native module contract §1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A call of a function of another Windows module.
    BtfFunction(BtfFunction),
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Feature::BtfFunction(function) => {
                write!(f, "calls `{}` of another module (BTF-resolved function)", function.name)
            }
        }
    }
}

/// An instruction's place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("function `{function}`, instruction {slot}")]
pub struct Place {
    /// The function's name.
    pub function: String,
    /// The instruction's 8-byte slot in the function.
    pub slot: u32,
    /// The source line it came from, if the object says.
    pub line: Option<SourceLine>,
}

/// What is wrong with an instruction. The verifier refuses each of these, so they mean a module that was not verified
/// or a disagreement between verifier and lowering.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstructionProblem {
    /// The runtime has no way to do this.
    #[error("Windows has no meaning for {0:?}")]
    NoMeaning(Instruction),
    /// `r10` is read-only (RFC 9669 §2.3).
    #[error("writes the frame pointer r10")]
    WritesFramePointer,
    /// A jump goes nowhere.
    #[error("jumps outside the function")]
    JumpTarget,
    /// Execution goes past the function's last instruction.
    #[error("execution runs past the end of the function")]
    FallsOffEnd,
    /// A helper that the program type does not have.
    #[error("the program type has no helper {0}")]
    UnknownHelper(i32),
    /// A function of another module that no provider offers.
    #[error("no provider offers `{}` of module {}", .0.name, .0.module)]
    UnknownBtfFunction(Box<BtfFunction>),
    /// A helper id that stands for helpers with different maps among their arguments, in a function that programs of
    /// several types reach.
    #[error(
        "helper {0} takes another map in each of the program types that get here; call it from the programs themselves"
    )]
    AmbiguousHelper(i32),
    /// A reference to a map, global section or function that the module does not have.
    #[error("refers to something that the module does not have")]
    Reference,
    /// A `call` of a program.
    #[error("calls a program; only subprograms can be called")]
    CallsProgram,
}

/// What is wrong with a function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FunctionProblem {
    /// The frame does not fit in a page, so calls could jump over the guard page below the kernel stack.
    #[error("its stack frame has {bytes} bytes; at most {limit} are allowed")]
    FrameTooLarge {
        /// Size in bytes, the return address included.
        bytes: u32,
        /// Largest allowed size.
        limit: u32,
    },
    /// Calls form a cycle.
    #[error("it calls itself, directly or through others")]
    Recursion,
    /// Too many nested calls.
    #[error("calls from it nest {frames} frames deep; at most {limit} are allowed")]
    CallDepth {
        /// Frames on the longest chain, its own included.
        frames: u32,
        /// Largest allowed number.
        limit: u32,
    },
    /// The frames on one chain of calls are too large together.
    #[error(
        "calls from it need {bytes} bytes of stack, and at most {limit} are allowed: {}",
        Frames(chain)
    )]
    StackDepth {
        /// Bytes on the most expensive chain.
        bytes: u32,
        /// Largest allowed number.
        limit: u32,
        /// The functions of that chain, callers first, with the bytes of the frame of each.
        chain: Vec<(String, u32)>,
    },
    /// Cranelift refused the function.
    #[error("code generation failed: {0}")]
    Codegen(String),
    /// Cranelift emitted something that must not be in a driver.
    #[error("generated code breaks a rule: {0}")]
    BadCode(String),
}

/// The frames of a chain of calls.
struct Frames<'a>(&'a [(String, u32)]);

impl fmt::Display for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (function, bytes)) in self.0.iter().enumerate() {
            let before = if i == 0 { "" } else { ", which calls " };
            write!(f, "{before}`{function}` with {bytes}")?;
        }
        Ok(())
    }
}

/// What is wrong with the module's tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleProblem {
    /// The runtime refuses empty names and names that do not fit its buffers (native module contract §4.4).
    #[error("the {what} name `{name}` has {} bytes; the runtime takes 1 to {limit}", name.len())]
    NameLength {
        /// What is named: `program`, `map` or `section`.
        what: &'static str,
        /// The name.
        name: String,
        /// Longest allowed name in bytes.
        limit: usize,
    },
    /// A name contains a NUL, so it would be cut.
    #[error("the {what} name `{}` contains a NUL", name.escape_debug())]
    NameNul {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The runtime finds programs and maps by name.
    #[error("two {what}s are named `{name}`")]
    DuplicateName {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The runtime would not create the map.
    #[error("map `{map}`: {problem}")]
    Map {
        /// The map.
        map: String,
        /// Why not.
        problem: MapProblem,
    },
    /// Initial values are only possible for program arrays and maps of maps with 4-byte keys (contract §4.9).
    #[error("map `{0}` has initial values, which only program arrays and maps of maps with 4-byte keys can have")]
    InitialValues(String),
    /// The runtime would not put the value into the map, or crash (contract §4.9).
    #[error("initial value {slot} of map `{map}`: {problem}")]
    InitialValue {
        /// The map.
        map: String,
        /// The slot.
        slot: usize,
        /// Why not.
        problem: InitialValueProblem,
    },
    /// The runtime binds a map of programs to one program type (contract §4.4, §4.9).
    #[error(
        "map `{map}`: program `{}` of type `{}` cannot share it with program `{}` of type `{}`; all programs that use a \
         program array or are in it must be of one type", second.0, second.1, first.0, first.1
    )]
    ProgramArray {
        /// The map.
        map: String,
        /// The program to whose type the map belongs, and the type.
        first: Box<(String, String)>,
        /// The program of another type, and the type.
        second: Box<(String, String)>,
    },
    /// The runtime copies a global section's bytes into its map without looking at the map's size (contract §4.5).
    #[error("the global variable section `{section}` has {bytes} bytes but its map `{map}` holds {capacity}")]
    GlobalSize {
        /// The section.
        section: String,
        /// Its map.
        map: String,
        /// Bytes of the section.
        bytes: usize,
        /// Bytes of the map.
        capacity: u64,
    },
    /// A global section's map must be an ARRAY (contract §4.5).
    #[error("the global variable section `{section}` needs an ARRAY map; `{map}` has type {map_type}")]
    GlobalMapType {
        /// The section.
        section: String,
        /// Its map.
        map: String,
        /// The map's type.
        map_type: u32,
    },
    /// The runtime refuses zero GUIDs (contract §4.4).
    #[error("program `{0}` has no program type or no attach type")]
    NoProgramType(String),
    /// A table has more entries than its count field can say.
    #[error("{what}: {count} entries; the table takes at most {limit}")]
    TooMany {
        /// Which table.
        what: &'static str,
        /// Number of entries.
        count: usize,
        /// Largest allowed number.
        limit: usize,
    },
}

/// Why the runtime would not create a map (native module contract §4.3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapProblem {
    /// A type that no provider offers.
    #[error("there is no map type {map_type}; there are {}", known.join(", "))]
    UnknownType {
        /// Its number.
        map_type: u32,
        /// Numbers and names of those that there are.
        known: Vec<String>,
    },
    /// The type does not take the definition.
    #[error("map type `{map_type}`: {refusal}")]
    Definition {
        /// Name of the type.
        map_type: String,
        /// Why not.
        refusal: MapRefusal,
    },
    /// A map of maps that does not say what these look like.
    #[error(
        "it holds maps, and does not say which ones: it needs an inner map (`values`, `inner_id` or `inner_map_idx`)"
    )]
    NoTemplate,
    /// The runtime finds another inner map template than the object means, or none.
    #[error(
        "it holds maps like `{meant}`, but by its `inner_map_idx` and `inner_id` the runtime finds {}",
        found.as_ref().map_or("none".to_owned(), |found| format!("`{found}`"))
    )]
    Template {
        /// What the object means.
        meant: String,
        /// What the runtime finds.
        found: Option<String>,
    },
    /// The inner map is a map of maps, and so on, and in the end the map itself.
    #[error(
        "its inner map, and the inner map of that, and so on, lead back to a map of the same kind; none can be created"
    )]
    TemplateCycle,
    /// A pinned map whose name makes no path.
    #[error("it is pinned by its name, which must have no `:` and make a path of at most 255 bytes")]
    PinPath,
    /// Two maps are pinned at one place.
    #[error("another map is pinned to `{0}` too")]
    PinnedTwice(String),
}

/// Why a map cannot hold an initial value (native module contract §4.9).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitialValueProblem {
    /// A program where a map is needed, or the other way round.
    #[error("a program array holds programs, and a map of maps holds maps")]
    Kind,
    /// A function that is no program of the module.
    #[error("`{0}` is no program but a function that programs call")]
    NoProgram(String),
    /// Another type, key size, value size or number of entries than the template.
    #[error("map `{inner}` differs from the inner map `{template}` in type, key size, value size or `max_entries`")]
    OtherShape {
        /// The value.
        inner: String,
        /// The template.
        template: String,
    },
    /// More values than entries, or one behind the last entry.
    #[error("the map has {entries} entries")]
    NoRoom {
        /// `max_entries`
        entries: u32,
    },
}
