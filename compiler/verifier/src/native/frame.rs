//! The stack frame of a function: which bytes hold numbers, and what is known of those that were written as one.
//!
//! Bytes are named by their distance from the frame's `r10`: -512 is the first, -1 the last.

use std::ops::Range;

use bpf2sys_bytecode::Width;

use super::num::{self, Num};
use super::value::{Kind, NONE, Value, Why};
use crate::facts::FRAME_BYTES;

/// The bytes of a frame.
pub(super) const BYTES: Range<i64> = -(FRAME_BYTES as i64)..0;

/// A frame. Bytes that hold neither numbers nor a cell hold nothing that may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// One bit for each byte, the lowest address first.
    numeric: Set,
    /// What was written at once and is still whole: ascending, apart from each other. Bytes of those with numbers are
    /// numeric.
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub start: i16,
    pub width: u8,
    pub value: Value,
}

impl Cell {
    fn range(&self) -> Range<i64> {
        let start = i64::from(self.start);
        start..start + i64::from(self.width)
    }
}

/// A set of bytes of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set([u64; 8]);

impl Set {
    pub const ALL: Set = Set([u64::MAX; 8]);

    fn words(range: &Range<i64>) -> impl Iterator<Item = (usize, u64)> + use<> {
        let (start, end) = (range.start - BYTES.start, range.end - BYTES.start);
        let (start, end) = (start.clamp(0, 512) as usize, end.clamp(0, 512) as usize);
        let last = if end > start { (end - 1) / 64 + 1 } else { start / 64 };
        (start / 64..last).map(move |word| {
            let low = start.saturating_sub(word * 64);
            let high = (end - word * 64).min(64);
            let mask = (u64::MAX >> (64 - (high - low))) << low;
            (word, mask)
        })
    }

    pub fn insert(&mut self, range: &Range<i64>) {
        for (word, mask) in Set::words(range) {
            self.0[word] |= mask;
        }
    }

    pub fn remove(&mut self, range: &Range<i64>) {
        for (word, mask) in Set::words(range) {
            self.0[word] &= !mask;
        }
    }

    pub fn contains(&self, range: &Range<i64>) -> bool {
        Set::words(range).all(|(word, mask)| self.0[word] & mask == mask)
    }

    pub fn intersects(&self, range: &Range<i64>) -> bool {
        Set::words(range).any(|(word, mask)| self.0[word] & mask != 0)
    }

    pub fn intersect(&mut self, other: &Set) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine &= theirs;
        }
    }

    pub fn unite(&mut self, other: &Set) -> bool {
        let before = *self;
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine |= theirs;
        }
        *self != before
    }

    pub fn is_superset(&self, other: &Set) -> bool {
        self.0.iter().zip(other.0).all(|(mine, theirs)| theirs & !mine == 0)
    }
}

impl Frame {
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.cells.iter_mut().map(|cell| &mut cell.value)
    }

    /// What a load of `width` bytes gives, zero-extended.
    pub fn load(&self, start: i64, width: Width) -> Value {
        let range = start..start + i64::from(width.bytes());
        let nothing = Value::nothing(Why::Stack(i16::try_from(start).ok()));
        if let Some(cell) = self.cell(&range) {
            return cell.value;
        }
        if !self.numeric.contains(&range) {
            return nothing;
        }
        Value::number(
            self.constant(&range)
                .map_or_else(|| num::low_part(&Num::ANY, width.bytes() * 8), Num::of),
        )
    }

    /// The cell at exactly these bytes.
    fn cell(&self, range: &Range<i64>) -> Option<&Cell> {
        let at = self.cells.partition_point(|cell| i64::from(cell.start) < range.start);
        self.cells.get(at).filter(|cell| cell.range() == *range)
    }

    /// The number in these bytes, if all were written with constants.
    fn constant(&self, range: &Range<i64>) -> Option<u64> {
        let mut result = 0;
        let mut at = range.start;
        while at < range.end {
            let next = self.cells.partition_point(|cell| cell.range().end <= at);
            let cell = self.cells.get(next).filter(|cell| cell.range().contains(&at))?;
            let bytes = cell.value.as_constant()?.to_le_bytes();
            let byte = bytes[(at - cell.range().start) as usize];
            result |= u64::from(byte) << (8 * (at - range.start));
            at += 1;
        }
        Some(result)
    }

    /// Stores the low bytes of a value.
    pub fn store(&mut self, start: i64, width: Width, value: &Value) {
        let range = start..start + i64::from(width.bytes());
        self.cut(&range);
        let kept = match value.kind {
            Kind::Number if width == Width::Dw => *value,
            Kind::Number => {
                let part = num::low_part(&value.num, width.bytes() * 8);
                Value {
                    id: if part == value.num { value.id } else { NONE },
                    delta: if part == value.num { value.delta } else { 0 },
                    num: part,
                    ..*value
                }
            }
            Kind::Nothing(_) => {
                self.numeric.remove(&range);
                return;
            }
            _ if width == Width::Dw => *value,
            _ => {
                self.numeric.remove(&range);
                return;
            }
        };
        if kept.is_number() {
            self.numeric.insert(&range);
        } else {
            self.numeric.remove(&range);
        }
        let cell = Cell {
            start: start as i16,
            width: width.bytes() as u8,
            value: kept,
        };
        let at = self.cells.partition_point(|cell| i64::from(cell.start) < start);
        self.cells.insert(at, cell);
    }

    /// Removes the cells that have bytes of a range. Those with numbers leave numbers.
    fn cut(&mut self, range: &Range<i64>) {
        self.cells.retain(|cell| {
            let own = cell.range();
            own.end <= range.start || range.end <= own.start
        });
    }

    /// The cell at these bytes has this number, or distance.
    pub fn renumber(&mut self, start: i16, width: u8, num: Num) {
        let cell = self
            .cells
            .iter_mut()
            .find(|cell| (cell.start, cell.width) == (start, width));
        if let Some(cell) = cell {
            cell.value.num = num;
        }
    }

    /// The bytes hold numbers of which nothing is known.
    pub fn fill(&mut self, range: &Range<i64>) {
        self.cut(range);
        self.numeric.insert(range);
    }

    /// Some of the bytes were written; where is not known.
    pub fn blur(&mut self, range: &Range<i64>, with_number: bool) {
        self.cut(range);
        if !with_number {
            self.numeric.remove(range);
        }
    }

    /// The first and the last byte of a range that hold no number, as distances from its start.
    pub fn missing(&self, range: &Range<i64>) -> Option<(i64, i64)> {
        if self.numeric.contains(range) {
            return None;
        }
        let lacks = |at: &i64| !self.numeric.contains(&(*at..at + 1));
        let first = range.clone().find(lacks)?;
        let last = range.clone().rev().find(lacks)?;
        Some((first - range.start, last - range.start))
    }

    /// A pointer that has bytes in a range.
    pub fn pointer_in(&self, range: &Range<i64>) -> Option<Kind> {
        let pointers = self.cells.iter().filter(|cell| cell.value.kind.is_pointer());
        pointers
            .filter(|cell| cell.range().start < range.end && range.start < cell.range().end)
            .map(|cell| cell.value.kind)
            .next()
    }

    /// Forgets everything but these bytes.
    pub fn keep(&mut self, live: &Set) {
        self.cells.retain(|cell| live.intersects(&cell.range()));
        self.numeric.intersect(live);
        // A number of which a part is not needed is not known to be whole any more.
        let numeric = self.numeric;
        for cell in &self.cells {
            if cell.value.is_number() && !numeric.contains(&cell.range()) {
                self.numeric.insert(&cell.range());
            }
        }
    }

    /// Whether `keep` would change anything.
    pub fn is_kept(&self, live: &Set) -> bool {
        live.is_superset(&self.numeric) && self.cells.iter().all(|cell| live.intersects(&cell.range()))
    }

    /// From both frames what `join` makes of the cells that both have.
    pub fn join(&self, other: &Frame, mut join: impl FnMut(&Value, &Value) -> Option<Value>) -> Frame {
        let mut numeric = self.numeric;
        numeric.intersect(&other.numeric);
        let mut cells = Vec::with_capacity(self.cells.len().min(other.cells.len()));
        for mine in &self.cells {
            let Some(theirs) = other.cell(&mine.range()) else {
                continue;
            };
            if let Some(value) = join(&mine.value, &theirs.value).filter(|value| !value.kind.is_nothing()) {
                cells.push(Cell { value, ..*mine });
            }
        }
        Frame { numeric, cells }
    }

    /// Whether this frame says no more than another, where `covers` tells that of values.
    pub fn covers(&self, other: &Frame, mut covers: impl FnMut(&Value, &Value) -> bool) -> bool {
        other.numeric.is_superset(&self.numeric)
            && self.cells.iter().all(|mine| {
                let range = mine.range();
                if let Some(theirs) = other.cell(&range) {
                    return covers(&mine.value, &theirs.value);
                }
                // The same number may have been written in parts.
                let width = match mine.width {
                    1 => Width::B,
                    2 => Width::H,
                    4 => Width::W,
                    _ => Width::Dw,
                };
                mine.value.is_number() && covers(&mine.value, &other.load(range.start, width))
            })
    }
}

#[cfg(test)]
mod tests {
    use bpf2sys_bytecode::MapIndex;

    use super::super::value::Table;
    use super::*;

    #[test]
    fn bytes_are_what_was_written_last() {
        let mut frame = Frame::default();
        assert!(frame.load(-8, Width::Dw).kind.is_nothing());
        frame.store(-8, Width::Dw, &Value::constant(0x1122_3344_5566_7788));
        assert_eq!(frame.load(-8, Width::Dw).as_constant(), Some(0x1122_3344_5566_7788));
        assert_eq!(frame.load(-8, Width::W).as_constant(), Some(0x5566_7788));
        assert_eq!(frame.load(-5, Width::B).as_constant(), Some(0x55));
        frame.store(-6, Width::H, &Value::constant(0xABCD));
        assert_eq!(frame.load(-6, Width::H).as_constant(), Some(0xABCD));
        // The rest of the number is not remembered, but is numbers.
        assert_eq!(frame.load(-8, Width::Dw), Value::number(Num::ANY));
        assert_eq!(frame.load(-8, Width::H).num.unsigned(), (0, 0xFFFF));
        frame.store(-12, Width::W, &Value::number(Num::within(0..=70_000)));
        assert_eq!(frame.load(-12, Width::W).num.unsigned(), (0, 70_000));
        assert_eq!(frame.missing(&(-16..-4)), Some((0, 3)));
    }

    #[test]
    fn pointers_are_whole_or_nothing() {
        let table = Table {
            map: MapIndex(0),
            made: false,
        };
        let pointer = Value::pointer(Kind::MapValue(table), 4);
        let mut frame = Frame::default();
        frame.store(-16, Width::Dw, &pointer);
        assert_eq!(frame.load(-16, Width::Dw), pointer);
        assert!(frame.load(-16, Width::W).kind.is_nothing());
        assert_eq!(frame.pointer_in(&(-12..-10)), Some(pointer.kind));
        frame.store(-10, Width::B, &Value::constant(0));
        assert!(frame.load(-16, Width::Dw).kind.is_nothing());
        assert_eq!(frame.missing(&(-16..-8)), Some((0, 7)));
        frame.store(-16, Width::W, &pointer);
        assert_eq!(frame.pointer_in(&(-16..-8)), None);
        frame.fill(&(-32..-8));
        assert_eq!(frame.missing(&(-32..-8)), None);
        frame.store(-16, Width::Dw, &pointer);
        frame.blur(&(-20..-15), true);
        assert_eq!(frame.missing(&(-32..-16)), None);
        assert!(frame.load(-16, Width::Dw).kind.is_nothing());
        frame.blur(&(-32..-30), false);
        assert_eq!(frame.missing(&(-32..-16)), Some((0, 1)));
    }

    #[test]
    fn a_joined_frame_holds_what_both_hold() {
        let join = |a: &Value, b: &Value| {
            Some(Value {
                num: a.num.join(&b.num),
                ..*a
            })
        };
        let (mut one, mut other) = (Frame::default(), Frame::default());
        one.store(-8, Width::Dw, &Value::constant(1));
        one.store(-16, Width::Dw, &Value::constant(1));
        other.store(-16, Width::Dw, &Value::constant(3));
        other.store(-24, Width::W, &Value::constant(3));
        for joined in [one.join(&other, join), other.join(&one, join)] {
            assert_eq!(joined.missing(&(-24..0)), Some((0, 23)));
            assert_eq!(joined.missing(&(-16..-8)), None);
            assert_eq!(joined.load(-16, Width::Dw).num.unsigned(), (1, 3));
            assert_eq!(joined.cells().len(), 1);
        }
    }

    #[test]
    fn a_frame_covers_one_that_holds_more() {
        let covers = |a: &Value, b: &Value| a.num.covers(&b.num);
        let mut less = Frame::default();
        less.store(-8, Width::Dw, &Value::number(Num::within(0..=7)));
        let mut more = less.clone();
        more.store(-16, Width::Dw, &Value::constant(1));
        assert!(less.covers(&more, covers) && !more.covers(&less, covers));
        // The same bytes, written in parts.
        let mut parts = Frame::default();
        parts.store(-8, Width::W, &Value::constant(5));
        parts.store(-4, Width::W, &Value::constant(0));
        assert!(less.covers(&parts, covers));
        parts.store(-4, Width::W, &Value::constant(1));
        assert!(!less.covers(&parts, covers));
        parts.fill(&(-8..0));
        assert!(!less.covers(&parts, covers));
    }

    #[test]
    fn sets_know_their_bytes() {
        for (start, end) in [(-512, -512), (-512, 0), (-449, -447), (-130, -1), (-64, -64), (-1, 0)] {
            let mut set = Set::default();
            set.insert(&(start..end));
            for at in BYTES {
                assert_eq!(
                    set.contains(&(at..at + 1)),
                    (start..end).contains(&at),
                    "{start} {end} {at}"
                );
            }
            assert!(set.contains(&(start..end)));
            set.remove(&(start..end));
            assert_eq!(set, Set::default());
        }
    }
}
