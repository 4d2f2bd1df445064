//! Which optimizations are made.

use std::fmt;
use std::str::FromStr;

/// An optimization that bpf2sys makes itself, before or after Cranelift's own. None changes what a program does; each can be left out, to
/// see what it does and to find one that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Optimization {
    /// Calls of `bpf_map_lookup_elem` on one proven ARRAY map become a compare and an address (native module contract §6.7), where
    /// the runtime level has what that needs.
    ArrayLookups,
    /// Calls of small subprograms, and of those with one call, become their instructions.
    Inlining,
    /// Jumps whose outcome follows from a constant that a register was set to are decided, on copies of what lies between if need be.
    Threading,
    /// Four rounds of short loops with a counter become one with one test.
    Unrolling,
    /// Arithmetic whose results nobody needs is left out.
    DeadCode,
    /// Loops with a short test at their head are tested at their end, too, which saves a jump in each round.
    Rotation,
    /// Bytes of the stack that only loads and stores of the function touch are values, and no memory.
    StackSlots,
    /// Stack that nothing touches is not reserved.
    UnusedStack,
    /// Small branches that only choose between values become conditional moves.
    Selects,
    /// Constants are added last in sums, where addresses of accesses take them.
    Sums,
    /// Neighbouring loads of the packet that are put together to a number become one load.
    PacketLoads,
    /// Divisors that are proven not to be 0 are not compared with it.
    ProvenChecks,
    /// Calls of subprograms pass what these need, and nothing else.
    Conventions,
    /// Masks go whose bits cannot be set, or make no difference to a comparison; blocks are passed 32 bits where no more are needed.
    Masks,
    /// Products with some constants, and what else there is a cheaper instruction for, take that; on ARM64, shifts are part of what uses them.
    Cheaper,
    /// What is the same in all rounds of a loop is computed before it, and constants that take instructions are made there.
    Invariants,
    /// x64: loads, and stores of what was loaded, are part of the instructions that use or make the value.
    MemoryOperands,
    /// What both ways of a branch need is computed before it.
    BothWays,
    /// The counter of a loop is compared after it was counted, and constants for the way out of a loop are made on the way out.
    LoopEnds,
    /// x64: constants and addresses in the frame are made where they are used, and not kept.
    NearValues,
    /// What is computed of values that nothing else needs is computed as soon as they are there.
    EarlyValues,
    /// x64: instructions that destroy their operand stand behind others that need it.
    LastUses,
    /// x86-64 instructions have the shortest encoding of their meaning, where Cranelift takes a longer one; what clears clear bits goes.
    ShortEncodings,
    /// x86-64: registers are saved by pushes, and only those that must be. ARM64: functions that need no frame have none.
    Frames,
    /// x86-64: jumps to jumps, around jumps and to blocks that can stand where they are needed are not made.
    Jumps,
}

impl Optimization {
    /// Each with its name on the command line.
    pub const ALL: [(Optimization, &'static str); 25] = [
        (Optimization::ArrayLookups, "array-lookups"),
        (Optimization::Inlining, "inlining"),
        (Optimization::Threading, "threading"),
        (Optimization::Unrolling, "unrolling"),
        (Optimization::DeadCode, "dead-code"),
        (Optimization::Rotation, "rotation"),
        (Optimization::StackSlots, "stack-slots"),
        (Optimization::UnusedStack, "unused-stack"),
        (Optimization::Selects, "selects"),
        (Optimization::Sums, "sums"),
        (Optimization::Conventions, "conventions"),
        (Optimization::ProvenChecks, "proven-checks"),
        (Optimization::PacketLoads, "packet-loads"),
        (Optimization::Masks, "masks"),
        (Optimization::Cheaper, "cheaper"),
        (Optimization::Invariants, "invariants"),
        (Optimization::MemoryOperands, "memory-operands"),
        (Optimization::BothWays, "both-ways"),
        (Optimization::LoopEnds, "loop-ends"),
        (Optimization::NearValues, "near-values"),
        (Optimization::EarlyValues, "early-values"),
        (Optimization::LastUses, "last-uses"),
        (Optimization::ShortEncodings, "short-encodings"),
        (Optimization::Frames, "frames"),
        (Optimization::Jumps, "jumps"),
    ];
}

/// A set of optimizations. `Default` is all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Optimizations(u32);

impl Optimizations {
    /// None.
    pub const NONE: Optimizations = Optimizations(0);
    /// All.
    pub const ALL: Optimizations = Optimizations(u32::MAX);

    /// Whether one is made.
    pub fn has(self, one: Optimization) -> bool {
        self.0 & 1 << one as u32 != 0
    }

    /// The set with one more, or without it.
    #[must_use]
    pub fn set(self, one: Optimization, made: bool) -> Optimizations {
        let bit = 1 << one as u32;
        Optimizations(if made { self.0 | bit } else { self.0 & !bit })
    }

    /// The set as changed by a word of the command line: `NAME` or `no-NAME`, `all` or `none`.
    ///
    /// # Errors
    /// The names that there are, if it is none.
    pub fn changed_by(self, word: &str) -> Result<Optimizations, UnknownOptimization> {
        match word {
            "all" => return Ok(Optimizations::ALL),
            "none" => return Ok(Optimizations::NONE),
            _ => {}
        }
        let (name, made) = word.strip_prefix("no-").map_or((word, true), |name| (name, false));
        let known = Optimization::ALL.into_iter().find(|(_, known)| *known == name);
        let (one, _) = known.ok_or(UnknownOptimization)?;
        Ok(self.set(one, made))
    }
}

impl Default for Optimizations {
    fn default() -> Self {
        Optimizations::ALL
    }
}

/// Changes to all of them, with commas between.
impl FromStr for Optimizations {
    type Err = UnknownOptimization;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').try_fold(Optimizations::ALL, Optimizations::changed_by)
    }
}

/// As the command line takes it, as short as may be.
impl fmt::Display for Optimizations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = Optimization::ALL.iter().filter(|(one, _)| !self.has(*one)).count();
        let (start, shown) = if missing == 0 || missing < Optimization::ALL.len() / 2 {
            ("all", false)
        } else {
            ("none", true)
        };
        f.write_str(start)?;
        for (one, name) in Optimization::ALL {
            if self.has(one) == shown {
                write!(f, ",{}{name}", if shown { "" } else { "no-" })?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Optimizations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Optimizations({self})")
    }
}

/// A word that names no optimization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownOptimization;

impl fmt::Display for UnknownOptimization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an optimization: must be `all`, `none`, or one of")?;
        for (position, (_, name)) in Optimization::ALL.iter().enumerate() {
            write!(f, "{}`{name}`", if position == 0 { " " } else { ", " })?;
        }
        f.write_str(", with `no-` in front to leave it out")
    }
}

impl std::error::Error for UnknownOptimization {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page for those who review has a chapter for each, and there are files that show it.
    #[test]
    fn each_is_described_and_shown() {
        let page = include_str!("../docs/optimizations.md");
        let files = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/lowering");
        let refused = ["_refused", "_off"];
        for (_, name) in Optimization::ALL {
            assert!(page.contains(&format!("\n## `{name}`\n")), "{name} has no chapter");
            let file = name.replace('-', "_");
            let file = file
                .strip_suffix("lookups")
                .map_or(file.clone(), |start| format!("{start}lookup"));
            let shown = |suffix: &str| std::path::Path::new(&format!("{files}/{file}{suffix}.bpf")).is_file();
            assert!(shown(""), "no file shows {name}");
            assert!(refused.into_iter().any(shown), "no file shows where {name} is refused");
        }
    }

    #[test]
    fn words_turn_optimizations_on_and_off() {
        let of = |text: &str| text.parse::<Optimizations>();
        assert_eq!(of("all"), Ok(Optimizations::default()));
        assert_eq!(of("none"), Ok(Optimizations::NONE));
        let without = of("no-inlining").unwrap();
        assert!(!without.has(Optimization::Inlining) && without.has(Optimization::StackSlots));
        let only = of("none,stack-slots").unwrap();
        assert!(!only.has(Optimization::Inlining) && only.has(Optimization::StackSlots));
        assert_eq!(only.to_string(), "none,stack-slots");
        assert_eq!(without.to_string(), "all,no-inlining");
        assert_eq!(Optimizations::ALL.to_string(), "all");
        assert_eq!(Optimizations::NONE.to_string(), "none");
        assert_eq!(of("none,inlining,no-inlining"), Ok(Optimizations::NONE));
        for wrong in ["", "inline", "no-", "no-all", "stack-slots, inlining"] {
            assert_eq!(of(wrong), Err(UnknownOptimization), "{wrong}");
        }
        assert!(UnknownOptimization.to_string().contains("`stack-slots`"));
    }
}
