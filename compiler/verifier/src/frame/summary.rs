//! What a function does to the frames of its callers.

/// In terms of its arguments.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    /// What is accessed through `r1` to `r5` as they were passed, by the function and what it calls.
    pub arguments: [Reach; 5],
    /// Whether it, or what it calls, may touch bytes above its own frame otherwise.
    pub above: bool,
    /// Whether it may return an address in a stack frame.
    pub returns_address: bool,
}

/// What is accessed through an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing.
    #[default]
    Nothing,
    /// Only bytes at these distances from it: the first, and the first behind the last.
    Bytes { start: i32, end: i32, writes: bool },
    /// Anything.
    Anything,
}

impl Reach {
    /// An access of `length` bytes.
    pub fn bytes(start: i32, length: u32, writes: bool) -> Reach {
        match start.checked_add_unsigned(length) {
            Some(end) => Reach::Bytes { start, end, writes },
            None => Reach::Anything,
        }
    }

    /// Both.
    pub fn join(self, other: Reach) -> Reach {
        match (self, other) {
            (Reach::Nothing, reach) | (reach, Reach::Nothing) => reach,
            (
                Reach::Bytes { start, end, writes },
                Reach::Bytes {
                    start: other_start,
                    end: other_end,
                    writes: other_writes,
                },
            ) => Reach::Bytes {
                start: start.min(other_start),
                end: end.max(other_end),
                writes: writes || other_writes,
            },
            _ => Reach::Anything,
        }
    }

    /// The same, seen from an address that lies that many bytes below.
    pub fn seen_from_below(self, bytes: i32) -> Reach {
        match self {
            Reach::Bytes { start, end, writes } => match (start.checked_add(bytes), end.checked_add(bytes)) {
                (Some(start), Some(end)) => Reach::Bytes { start, end, writes },
                _ => Reach::Anything,
            },
            reach => reach,
        }
    }
}
