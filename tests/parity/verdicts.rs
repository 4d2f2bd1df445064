//! Our verdicts, and whether they are those of C++ PREVAIL.

use std::time::Duration;

use bpf2sys_verifier::{Options, Rejection, RejectionReason, Verifier, VerifyError, verify};
use libtest_mimic::Failed;

use super::corpus::{Objects, Recorded, Theirs};
use super::linux;

/// What we say of one program.
pub enum Ours {
    Accepted,
    Rejected(Box<Rejection>),
    /// The object is not read.
    Unread(String),
    /// No verdict: a failure of the engine or a limit.
    NoVerdict(VerifyError),
}

impl Ours {
    /// In one line.
    pub fn text(&self) -> String {
        match self {
            Ours::Accepted => "accepted".to_owned(),
            Ours::Rejected(rejection) => format!("rejected: {rejection}"),
            Ours::Unread(message) => format!("not read: {message}"),
            Ours::NoVerdict(error) => format!("no verdict: {error}"),
        }
    }
}

/// Our verdict on one program.
pub fn verdict(
    objects: &mut Objects<'_>,
    row: &Recorded,
    verifier: Verifier,
    termination: bool,
) -> Result<Ours, Failed> {
    let module = match objects.program(row)? {
        Ok(module) => module,
        Err(message) => return Ok(Ours::Unread(message)),
    };
    let platform = linux::platform(std::iter::once(row.section.as_str()), termination);
    let options = Options {
        verifier,
        time_limit: Duration::from_mins(10),
        ..Options::default()
    };
    Ok(match verify(module, &platform, &options) {
        Ok(_) => Ours::Accepted,
        Err(VerifyError::Rejected(mut rejections)) if rejections.len() == 1 => {
            Ours::Rejected(Box::new(rejections.remove(0)))
        }
        Err(error) => Ours::NoVerdict(error),
    })
}

/// Whether the two agree: a program that is not even taken into the analysis is not accepted either.
pub fn agree(ours: &Ours, theirs: Theirs) -> bool {
    matches!(ours, Ours::Accepted) == (theirs == Theirs::Pass)
}

/// (start of their message behind the place, the names of our violations that mean the same or say more).
const MESSAGES: &[(&str, &[&str])] = &[
    ("Upper bound must be at most packet_size", &["PacketEnd"]),
    (
        "Upper bound must be at most total_stack_size",
        &["StackTop", "SmallBuffer"],
    ),
    ("Upper bound must be at most r1.shared_region_size", &["MemoryEnd"]),
    (
        "Invalid type",
        &[
            "NeverWritten",
            "Clobbered",
            "UnknownContent",
            "PartOfPointer",
            "NothingKnown",
            "MixedKinds",
            "NumberDereferenced",
            "MapDereferenced",
            "OpaquePointer",
            "ArgumentNotMemory",
            "ArgumentNotMap",
            "ArgumentNotContext",
            "ArgumentKind",
        ],
    ),
    ("Nonzero context offset", &["ContextOffset"]),
    ("Stack content is not numeric", &["UnwrittenStack", "PointerInBuffer"]),
    (
        "Illegal map update with a non-numerical value",
        &["UnwrittenStack", "PointerInBuffer"],
    ),
    ("Possible null access", &["NullAccess", "NullArgument"]),
    (
        "Only numbers can be added to pointers",
        &["PointerSum", "PointerArithmetic"],
    ),
    ("Loop counter is too large", &["Unbounded"]),
];

/// Whether both refuse for the same reason; `None` where one of them does not refuse.
pub fn same_reason(ours: &Ours, theirs: Theirs, message: &str) -> Option<bool> {
    let Ours::Rejected(rejection) = ours else { return None };
    let helper = matches!(rejection.reason, RejectionReason::UnknownHelper(_));
    match theirs {
        Theirs::Pass => None,
        Theirs::Error => Some(helper && message.contains("helper function is unavailable")),
        Theirs::Fail => {
            let what = message.split_once(": ").map_or(message, |(_, what)| what);
            let RejectionReason::Unsafe { violation, .. } = &rejection.reason else {
                return Some(false);
            };
            let names = MESSAGES.iter().find(|(start, _)| what.starts_with(start))?.1;
            let ours = format!("{violation:?}");
            let ours = ours.split([' ', '(']).next().unwrap_or_default();
            Some(names.contains(&ours))
        }
    }
}

/// Whether both refuse at the same instruction; `None` where one of them does not refuse or names no instruction of the
/// program's own.
pub fn same_instruction(ours: &Ours, theirs: Theirs, message: &str, program: &str) -> Option<bool> {
    let Ours::Rejected(rejection) = ours else { return None };
    let place = rejection.place.as_ref().filter(|p| p.function == program)?;
    let their_slot = match theirs {
        Theirs::Pass => return None,
        Theirs::Fail => message.split_once(':')?.0.parse::<u32>().ok()?,
        Theirs::Error => message.rsplit_once("(at ")?.1.trim_end_matches(')').parse().ok()?,
    };
    Some(place.slot == their_slot)
}
