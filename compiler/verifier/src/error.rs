//! Why a module is not verified.

use std::fmt;
use std::time::Duration;

use bpf2sys_bytecode::{InsnIndex, Reg, SourceLine};
use bpf2sys_platform::Guid;

use crate::{HelperName, MissingFunction, MissingHelper, NotImplemented, Verifier, Violation};

/// A module is not verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The object holds no program.
    #[error("the object holds no program, only functions that no program calls")]
    NoProgram,
    /// The section name of a program selects no program type.
    #[error(
        "program `{program}`: the section name `{section}` selects no program type{}; name the section with one of these \
         prefixes, or give the program type: {}",
        DidYouMean(near),
        known.join(", ")
    )]
    UnknownSection {
        /// Name of the program.
        program: String,
        /// Its section.
        section: String,
        /// The prefixes that may have been meant, nearest first.
        near: Vec<String>,
        /// The prefixes that select one, sorted.
        known: Vec<String>,
    },
    /// The program type that was asked for does not exist.
    #[error("no program type is selected by `{name}`{}; known prefixes: {}", DidYouMean(near), known.join(", "))]
    UnknownProgramType {
        /// What was asked for.
        name: String,
        /// The prefixes that may have been meant, nearest first.
        near: Vec<String>,
        /// The prefixes that select one, sorted.
        known: Vec<String>,
    },
    /// Programs were proven to be unsafe, or not proven to be safe: at least one, in file order.
    #[error("{}", Lines(.0))]
    Rejected(Vec<Rejection>),
    /// A map definition is one that no proof can use.
    #[error("map `{map}`: {reason}")]
    UnusableMap {
        /// Name of the map.
        map: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name of a map is one that the runtime does not take.
    #[error("the name of map `{map}` has {} bytes; the runtime takes 1 to {limit}", map.len())]
    MapName {
        /// The name.
        map: String,
        /// Most bytes that a name may have.
        limit: u32,
    },
    /// The platform names a conformance group that does not exist.
    #[error("the platform names the conformance group `{name}`, which RFC 9669 does not define")]
    UnknownConformanceGroup {
        /// The name.
        name: String,
    },
    /// Verification took longer than allowed.
    #[error("verification did not end within {} s; the first program that was not finished is `{program}`", limit.as_secs_f64())]
    TimeLimit {
        /// The limit, for the whole module.
        limit: Duration,
        /// The first program, in file order, without a verdict.
        program: String,
    },
    /// Verification needed more memory than allowed.
    #[error(
        "verification needed more than {} MiB of memory; the first program that was not finished is `{program}`",
        limit >> 20
    )]
    MemoryLimit {
        /// The limit in bytes, for the whole process.
        limit: u64,
        /// The first program, in file order, without a verdict.
        program: String,
    },
    /// The verification engine broke down over a program. This is a defect of the engine and says nothing of the program.
    #[error("program `{program}`: the verification engine failed: {message}")]
    EngineFailed {
        /// Name of the program.
        program: String,
        /// What the engine said.
        message: String,
    },
    /// The operating system gave no thread to verify on.
    #[error("no thread to verify on: {0}")]
    NoThread(String),
}

/// A question, if there is something to ask.
struct DidYouMean<'a>(&'a [String]);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " (did you mean `{}`?)", self.0.join("` or `"))
    }
}

/// Words, if there are any.
struct InBrackets<'a>(&'a str);

impl fmt::Display for InBrackets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " [{}]", self.0)
    }
}

/// One line for each.
struct Lines<'a>(&'a [Rejection]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, rejection) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{rejection}")?;
        }
        Ok(())
    }
}

/// What an unknown helper id means elsewhere.
struct Meant<'a>(&'a MissingHelper);

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.0.linux {
            return write!(f, "; on Linux it is `{name}`");
        }
        for (i, (program_type, helper)) in self.0.elsewhere.iter().enumerate() {
            let before = if i == 0 { "; it is" } else { "," };
            write!(f, "{before} `{helper}` of type `{program_type}`")?;
        }
        Ok(())
    }
}

/// Why one program is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Name of the program.
    pub program: String,
    /// Where, if one place is to blame.
    pub place: Option<Box<RejectionPlace>>,
    /// Why.
    pub reason: RejectionReason,
    /// What is known of how it happens.
    pub explanation: Box<Explanation>,
    /// The engine that rejects it, where two were asked and the other one accepts it.
    pub only_by: Option<Verifier>,
}

/// How a program gets to where it is rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// What was known of the registers that the instruction uses, on the path that is told; empty if that does not matter.
    pub registers: Vec<KnownRegister>,
    /// How execution gets there: the decisions on a path, first one first; empty if every path gets there or there is no
    /// one place.
    pub path: Vec<PathStep>,
    /// What path it is.
    pub kind: PathKind,
    /// The steps in the middle of the path that are left out, because it is long.
    pub left_out: Option<LeftOut>,
    /// The instruction with some before and behind it, if it has no source line.
    pub around: Vec<ListedInstruction>,
}

/// An instruction of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedInstruction {
    /// Number of 8-byte slots before it in its function.
    pub slot: u32,
    /// The instruction as text.
    pub text: String,
}

/// What is known of a path that is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathKind {
    /// Whoever goes this way fails.
    #[default]
    Fails,
    /// One of the ways that get there; nothing is said of the others.
    Reaches,
    /// Every single way was proven safe, but not all of them together: the decisions that all of them have.
    Common,
    /// No way that fails was found with the effort that is made: the decisions that all of them have.
    Unfinished,
}

impl PathKind {
    /// Whether the path is one from the start of the program to the place.
    pub fn is_whole(self) -> bool {
        matches!(self, PathKind::Fails | PathKind::Reaches)
    }
}

/// Steps of a path that are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// How many steps come before them.
    pub after: usize,
    /// How many they are.
    pub count: usize,
}

/// What the proof knew of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRegister {
    /// The register.
    pub register: Reg,
    /// What it holds, in plain words.
    pub holds: String,
}

/// A decision on the way to an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStep {
    /// The conditional jump or call.
    pub place: RejectionPlace,
    /// What happens there, e.g. `taken, on to line 12`, in plain words.
    pub what: String,
}

/// The instruction that a rejection is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectionPlace {
    /// Name of the function that holds the instruction: the program itself, or a subprogram.
    pub function: String,
    /// The instruction.
    pub instruction: InsnIndex,
    /// Number of 8-byte slots before it in the function.
    pub slot: u32,
    /// The instruction as text.
    pub text: String,
    /// The source line it came from, if the object says.
    pub line: Option<SourceLine>,
}

/// What is wrong with a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectionReason {
    /// The proof failed at an instruction.
    #[error("{violation}{}", InBrackets(engine))]
    Unsafe {
        /// What is wrong.
        violation: Box<Violation>,
        /// The engine's own words, if it has others.
        engine: String,
    },
    /// An instruction that Windows has no meaning for.
    #[error("{what} is not supported{}", group.map(|g| format!(" (conformance group `{g}`)")).unwrap_or_default())]
    UnsupportedInstruction {
        /// What kind of instruction.
        what: &'static str,
        /// The conformance group of RFC 9669 that it belongs to, if the platform lacks a whole group.
        group: Option<&'static str>,
    },
    /// A call of a helper that the program type does not have.
    #[error("program type `{}` has no helper with id {}{}", .0.program_type, .0.id, Meant(.0))]
    UnknownHelper(Box<MissingHelper>),
    /// A call of a helper that nobody implements for the program type, so that the module could not be loaded.
    #[error("helper {} (`{}`) has no implementation for programs of type `{}`", .0.helper.id, .0.helper.name, .0.program_type)]
    NotImplemented(Box<NotImplemented>),
    /// A call of a helper whose address the runtime has no table for.
    #[error(
        "helper {} (`{}`) has no address: the provider of `{program_type}` publishes none, and the runtime would read through a null \
         pointer when it loads the program", helper.id, helper.name
    )]
    NoAddress {
        /// The helper.
        helper: HelperName,
        /// Name of the program type.
        program_type: String,
    },
    /// A call that takes a map for one of another type.
    #[error("{0}")]
    MapMistaken(Box<MapMistaken>),
    /// A compare-and-exchange that compares a pointer.
    #[error("the compare-and-exchange compares a pointer, in `r0`, with a number in memory")]
    PointerExchanged,
    /// A buffer on the stack that a callee may leave as it was.
    #[error(
        "`{helper}` may leave a part of its buffer as it was, and the buffer is on the stack and not initialised: what it holds after the call can be a pointer"
    )]
    BufferUnwritten {
        /// Name of the helper.
        helper: String,
    },
    /// A helper reads a register that its prototype does not list, and the register holds no number.
    #[error(
        "`{helper}` reads `{register}` although its prototype does not say so, and `{register}` holds no number here"
    )]
    UnlistedArgument {
        /// Name of the helper.
        helper: String,
        /// The register.
        register: Reg,
    },
    /// A call of a function that no provider offers.
    #[error("no provider that is known offers the function `{}` of module {}", .0.name, .0.module)]
    UnknownFunction(Box<MissingFunction>),
    /// A call of a function with flags that have no meaning.
    #[error("function `{name}` of module {module} has the flags {flags:#x}, and the meaning of flags is not known")]
    FunctionFlags {
        /// The module.
        module: Guid,
        /// The function's name.
        name: String,
        /// Its flags.
        flags: u32,
    },
    /// A call of a function by an index that the module does not have.
    #[error("the call names function {0} of other modules, and the object has no such function")]
    NoSuchFunction(u32),
    /// A function calls itself, perhaps through others.
    #[error("recursion is not allowed: {}", chain.join(" calls "))]
    Recursion {
        /// The functions of the cycle; the first one is repeated at the end.
        chain: Vec<String>,
    },
    /// Calls nest too deeply.
    #[error("calls nest {} deep, and at most {limit} frames are allowed: {}", chain.len(), chain.join(" calls "))]
    TooManyFrames {
        /// The nested functions, the program first.
        chain: Vec<String>,
        /// How many frames are allowed.
        limit: u32,
    },
    /// The program is too large once every call is replaced by a copy of its callee, as the proof does.
    #[error("with a copy of every called function at each call, the program has more than {limit} instructions")]
    TooLarge {
        /// How many slots are allowed.
        limit: u64,
    },
    /// A helper writes to memory that its prototype calls readable, and nothing says how many bytes.
    #[error(
        "`{helper}` writes to the memory of its argument, and how many bytes it writes is not known; name one map in the call"
    )]
    UnknownWrite {
        /// Name of the helper.
        helper: String,
    },
    /// A pointer that may be null has something added or subtracted.
    #[error("arithmetic on a pointer that may be null; compare it with null first")]
    NullArithmetic,
    /// A 32-bit comparison of what may be a pointer.
    #[error("only the low 32 bits of a pointer are compared, which says nothing of the pointer; compare all 64 bits")]
    HalfPointerCompared,
    /// The engine holds a number that cannot be.
    #[error(
        "the verification engine takes the result of a byte swap for a negative unsigned number, and what it concludes \
         from that is not true; write the swapped constant itself"
    )]
    ImpossibleNumber,
    /// A write to a read-only global variable.
    #[error("this writes to `{section}`, which holds constants; declare the variable without `const`")]
    ReadOnlyWrite {
        /// Name of the section.
        section: String,
    },
    /// A load of a context's metadata pointer that is always null.
    #[error(
        "this reads the metadata pointer, and for `{program_type}` programs it is always null; use the start of the data"
    )]
    NullMetadata {
        /// Name of the program type.
        program_type: String,
    },
    /// The name of the program or of its section is one that the runtime does not take.
    #[error("the name of the {what} has {} bytes; the runtime takes 1 to {limit}", name.len())]
    NameLength {
        /// What is named: `program` or `section`.
        what: &'static str,
        /// The name.
        name: String,
        /// Most bytes that a name may have.
        limit: u32,
    },
    /// Execution can run past the last instruction of a function.
    #[error("execution can run past the end of the function")]
    FallsOffEnd,
}

/// A map that a callee takes for one of another type, because it does not look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapMistaken {
    /// Name of the callee.
    pub helper: String,
    /// Name of the map, if it is known.
    pub map: Option<String>,
    /// Short name of the map's type; `None` if the type is not known or not one.
    pub map_type: Option<String>,
    /// Short names of the types that the callee works on.
    pub needed: Vec<String>,
}

impl fmt::Display for MapMistaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needed = self.needed.join("` or `");
        write!(f, "`{}` takes any map for one of type `{needed}`, and ", self.helper)?;
        match (&self.map, &self.map_type) {
            (Some(map), Some(map_type)) => write!(f, "`{map}` is of type `{map_type}`"),
            (None, Some(map_type)) => write!(f, "this one is of type `{map_type}`"),
            (_, None) => f.write_str("which map it gets is not known"),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program `{}`", self.program)?;
        if let Some(place) = &self.place {
            write!(f, "{}", place.in_program(&self.program))?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl RejectionPlace {
    /// The place as it follows the name of a program.
    pub(crate) fn in_program(&self, program: &str) -> impl fmt::Display {
        let function = if self.function == program {
            String::new()
        } else {
            format!(", function `{}`", self.function)
        };
        let line = match &self.line {
            Some(line) => format!(" ({}:{})", line.file, line.line),
            None => String::new(),
        };
        format!("{function}, instruction {} `{}`{line}", self.slot, self.text)
    }
}
