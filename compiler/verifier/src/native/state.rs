//! What is known before an instruction, on one path or on several.
//!
//! A [`State`] stands for all executions that get there with values as it says. Besides the values it knows which of them
//! are the same number but for a constant (their identity), and how far numbers are apart at most ([`Relation`]).

use std::rc::Rc;

use bpf2sys_bytecode::Reg;

use super::frame::{Frame, Set};
use super::num::Num;
use super::value::{FIRST, Id, Kind, META, NONE, Name, PACKET_SIZE, Value, Why};

/// Registers that a function gives back as it found them: `r6` to `r9`.
const SAVED: std::ops::Range<usize> = 6..10;

/// What is known at a point.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Behind a pointer, as states are often handed on and they are a kilobyte.
    pub registers: Box<[Value; Reg::COUNT]>,
    /// The frames of the active functions, the program's own first.
    pub frames: Vec<Active>,
    /// Bytes in the packet.
    pub packet_size: Num,
    pub relations: Rc<Vec<Relation>>,
    /// The last decision on the way here.
    pub path: u32,
    /// Whether it was made of several states: then one execution need not do all that it says.
    pub joined: bool,
}

/// An active function.
#[derive(Clone, Debug)]
pub(super) struct Active {
    pub memory: Rc<Frame>,
    /// `r6` to `r9` of its caller.
    pub saved: [Value; SAVED.end - SAVED.start],
}

/// The number that `a` names minus the one that `b` names is at most `most`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub a: Id,
    pub b: Id,
    pub most: i64,
}

/// Where a value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Register(u8),
    /// A register of a caller, by the number of the frame above it.
    Saved(u32, u8),
    /// Bytes of a frame: its number, the first byte, and how many.
    Cell(u32, i16, u8),
}

/// Most relations that a state has. A comparison makes two; more than a dozen that matter at once were not seen.
const MOST_RELATIONS: usize = 32;

/// Identities that loops measure by, those of the innermost loop last. In every state of a round each names the number that one
/// place had at the head in that round, whether it is still kept somewhere or not; so a state can't stand for one in which
/// another number has the name.
#[derive(Debug, Default)]
pub(super) struct Pinned(Vec<Vec<Id>>);

impl Pinned {
    /// How many loops measure.
    pub fn loops(&self) -> usize {
        self.0.len()
    }

    /// One more loop measures by these.
    pub fn push(&mut self, identities: Vec<Id>) {
        self.0.push(identities);
    }

    /// Only the outer loops still measure.
    pub fn truncate(&mut self, loops: usize) {
        self.0.truncate(loops);
    }

    fn has(&self, id: Id) -> bool {
        self.0.iter().any(|identities| identities.contains(&id))
    }
}

/// Gives identities.
#[derive(Debug)]
pub(super) struct Ids(Id);

impl Default for Ids {
    fn default() -> Self {
        Ids(FIRST)
    }
}

impl Ids {
    pub fn next(&mut self) -> Id {
        let id = self.0;
        self.0 += 1;
        id
    }
}

/// A number in a question: its name, and its range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    name: Name,
    range: (i64, i64),
}

impl Term {
    pub fn of(value: &Value) -> Term {
        Term {
            name: value.name(),
            range: value.num.signed(),
        }
    }

    /// The number that an identity names, of which nothing else is known.
    pub fn identity(id: Id) -> Term {
        Term {
            name: Name::Identity(id, 0),
            range: (i64::MIN, i64::MAX),
        }
    }

    /// Whether a pointer is null, as a number: what is known to be null is 0, what is known not to be is 1.
    fn nullness(value: &Value) -> Term {
        let name = match (value.kind.is_pointer(), value.nullable) {
            (false, _) => Name::Constant(0),
            (true, false) => Name::Constant(1),
            (true, true) => value.name(),
        };
        Term { name, range: (0, 1) }
    }

    /// A value plus a distance.
    pub fn moved(value: &Value, by: i64) -> Option<Term> {
        Term::of(value).plus(by)
    }

    fn plus(self, by: i64) -> Option<Term> {
        Some(Term {
            name: match self.name {
                Name::None => Name::None,
                Name::Constant(value) => Name::Constant(value.checked_add(by)?),
                Name::Identity(id, delta) => Name::Identity(id, delta.checked_add(by)?),
            },
            range: (self.range.0.checked_add(by)?, self.range.1.checked_add(by)?),
        })
    }
}

impl State {
    /// The frame of the function that is executed.
    pub fn depth(&self) -> usize {
        self.frames.len() - 1
    }

    pub fn register(&self, register: Reg) -> &Value {
        &self.registers[register.index()]
    }

    pub fn set(&mut self, register: Reg, value: Value) {
        self.registers[register.index()] = value;
    }

    pub fn memory(&self, frame: u32) -> Option<&Frame> {
        self.frames.get(frame as usize).map(|active| &*active.memory)
    }

    pub fn memory_mut(&mut self, frame: u32) -> Option<&mut Frame> {
        let active = self.frames.get_mut(frame as usize)?;
        Some(Rc::make_mut(&mut active.memory))
    }

    /// A register's value for a copy: the copy and the register have one identity.
    pub fn copy(&mut self, register: Reg, ids: &mut Ids) -> Value {
        let value = &mut self.registers[register.index()];
        identify(value, ids);
        *value
    }

    /// Gives a register's value an identity, if it can have one.
    pub fn identify(&mut self, register: Reg, ids: &mut Ids) {
        identify(&mut self.registers[register.index()], ids);
    }

    /// A function of the module begins: it gets `r1` to `r5`, and a frame of its own.
    pub fn enter_function(&mut self) {
        let saved = std::array::from_fn(|r| self.registers[SAVED.start + r]);
        for (number, value) in (0..).zip(self.registers.iter_mut()) {
            if !(1..6).contains(&number)
                && let Some(register) = Reg::new(number)
            {
                *value = Value::nothing(Why::NeverWritten(register));
            }
        }
        self.set(Reg::R10, Value::pointer(Kind::Stack(self.frames.len() as u32), 0));
        self.frames.push(Active {
            memory: Rc::default(),
            saved,
        });
    }

    /// It returns to the instruction behind a call.
    pub fn leave_function(&mut self, call: u32) {
        let Some(active) = self.frames.pop() else { return };
        self.registers[SAVED].copy_from_slice(&active.saved);
        for register in (1..6).filter_map(Reg::new) {
            self.set(register, Value::nothing(Why::Clobbered(register, call)));
        }
        let gone = self.frames.len() as u32;
        self.set(Reg::R10, Value::pointer(Kind::Stack(gone.saturating_sub(1)), 0));
        self.invalidate(
            Why::FrameGone,
            |kind| matches!(kind, Kind::Stack(frame) if frame >= gone),
        );
    }

    /// Every value that is kept somewhere.
    fn change(&mut self, mut change: impl FnMut(&mut Value), concerns: impl Fn(&Value) -> bool) {
        for value in self.registers.iter_mut() {
            if concerns(value) {
                change(value);
            }
        }
        for active in &mut self.frames {
            for value in &mut active.saved {
                if concerns(value) {
                    change(value);
                }
            }
            if active.memory.cells().iter().any(|cell| concerns(&cell.value)) {
                for value in Rc::make_mut(&mut active.memory).values_mut() {
                    if concerns(value) {
                        change(value);
                    }
                }
            }
        }
    }

    /// A register's number is one of these, and so are those of the same identity. `None` if it cannot be.
    #[must_use]
    pub fn narrow(&mut self, register: Reg, num: Num) -> Option<()> {
        let old = self.registers[register.index()];
        if old.num == num {
            return Some(());
        }
        self.registers[register.index()].num = num;
        if old.id == NONE || old.nullable {
            return Some(());
        }
        self.narrow_identity(old.id, old.delta, &num)
    }

    /// The number that an identity names, plus a distance, is one of these.
    #[must_use]
    pub fn narrow_identity(&mut self, id: Id, delta: i64, num: &Num) -> Option<()> {
        let mut possible = true;
        let mut meet = |value: &mut Num, by: i64| match value.meet(&num.moved(by)) {
            Some(both) => *value = both,
            None => possible = false,
        };
        if id == PACKET_SIZE
            && let Some(by) = delta.checked_neg()
        {
            meet(&mut self.packet_size, by);
        }
        self.change(
            |value| {
                if let Some(by) = value.delta.checked_sub(delta) {
                    meet(&mut value.num, by);
                }
            },
            |value| value.id == id && !value.nullable,
        );
        possible.then_some(())
    }

    /// What the range of a value says of the numbers that it is related to. `None` if they cannot be.
    #[must_use]
    pub fn spread(&mut self, value: &Value) -> Option<()> {
        if value.id == NONE || value.nullable {
            return Some(());
        }
        let (low, high) = value.num.signed();
        let (low, high) = (low.checked_sub(value.delta), high.checked_sub(value.delta));
        for relation in Rc::clone(&self.relations).iter() {
            if relation.b == value.id
                && let Some(most) = high.and_then(|high| high.checked_add(relation.most))
            {
                self.limit(relation.a, i64::MIN, most)?;
            }
            if relation.a == value.id
                && let Some(least) = low.and_then(|low| low.checked_sub(relation.most))
            {
                self.limit(relation.b, least, i64::MAX)?;
            }
        }
        Some(())
    }

    /// The number that an identity names lies between these.
    fn limit(&mut self, id: Id, low: i64, high: i64) -> Option<()> {
        let mut possible = true;
        let mut limit = |num: &mut Num, by: i64| {
            let range = low.saturating_add(by)..=high.saturating_add(by);
            match num.meet(&Num::between(range)) {
                Some(both) => *num = both,
                None => possible = false,
            }
        };
        if id == PACKET_SIZE {
            limit(&mut self.packet_size, 0);
        }
        self.change(
            |value| limit(&mut value.num, value.delta),
            |value| value.id == id && !value.nullable,
        );
        possible.then_some(())
    }

    /// A pointer that could be null is, or is not; and so are its copies.
    pub fn decide_null(&mut self, register: Reg, null: bool) {
        let decide = |value: &mut Value| {
            *value = if null && matches!(value.kind, Kind::Map(_) | Kind::Programs(_)) {
                // Callees get no null map in compiled code, so null is still a map that a call can name.
                *value
            } else if null {
                Value::constant(0)
            } else {
                Value {
                    nullable: false,
                    id: NONE,
                    delta: 0,
                    ..*value
                }
            };
        };
        let id = self.register(register).id;
        decide(&mut self.registers[register.index()]);
        if id != NONE {
            self.change(decide, |value| value.id == id && value.nullable);
        }
    }

    /// The pointers for which it holds become nothing.
    pub fn invalidate(&mut self, why: Why, concerns: impl Fn(Kind) -> bool) {
        self.change(
            |value| *value = Value::nothing(why),
            |value| value.kind.is_pointer() && concerns(value.kind),
        );
    }

    /// Nothing is known of the packet any more but how large it can be.
    pub fn forget_packet(&mut self, size: Num) {
        self.packet_size = size;
        // Numbers that were compared with its old end keep what they are, but not by that name.
        self.change(
            |value| (value.id, value.delta) = (NONE, 0),
            |value| !value.nullable && matches!(value.id, PACKET_SIZE | META),
        );
        let concerns = |relation: &Relation| relation.a < FIRST || relation.b < FIRST;
        if self.relations.iter().any(concerns) {
            Rc::make_mut(&mut self.relations).retain(|relation| !concerns(relation));
        }
    }

    /// At most how far a number is above the one that an identity names, as far as that is known by name.
    pub fn most_by_name(&self, a: &Value, id: Id, delta: i64) -> Option<i64> {
        if a.id == NONE {
            return None;
        }
        let distance = if a.id == id { 0 } else { self.path(a.id, id)? };
        distance.checked_add(a.delta)?.checked_sub(delta)
    }

    /// The other way round: at most how far the one is above the number.
    pub fn most_to_name(&self, id: Id, delta: i64, a: &Value) -> Option<i64> {
        if a.id == NONE {
            return None;
        }
        let distance = if a.id == id { 0 } else { self.path(id, a.id)? };
        distance.checked_add(delta)?.checked_sub(a.delta)
    }

    /// At most how far `a` is above `b`.
    pub fn most(&self, a: Term, b: Term) -> Option<i64> {
        let by_range = a.range.1.checked_sub(b.range.0);
        let by_name = match (a.name, b.name) {
            (Name::Identity(from, da), Name::Identity(to, db)) => {
                let distance = if from == to { Some(0) } else { self.path(from, to) };
                distance.and_then(|d| d.checked_add(da)?.checked_sub(db))
            }
            _ => None,
        };
        by_name.into_iter().chain(by_range).min()
    }

    /// The size of the packet.
    pub fn packet_end(&self) -> Value {
        Value {
            id: PACKET_SIZE,
            ..Value::number(self.packet_size)
        }
    }

    /// What an identity names that no value needs to have.
    fn unheld(&self, id: Id) -> Term {
        if id == PACKET_SIZE {
            Term {
                range: self.packet_size.signed(),
                ..Term::identity(id)
            }
        } else {
            Term::identity(id)
        }
    }

    /// The sum of relations from one name to another: the smallest over a few steps.
    fn path(&self, from: Id, to: Id) -> Option<i64> {
        if self.relations.is_empty() {
            return None;
        }
        let mut known: Vec<(Id, i64)> = vec![(from, 0)];
        for _ in 0..4 {
            let mut better = false;
            for relation in self.relations.iter() {
                let Some((_, distance)) = known.iter().find(|(id, _)| *id == relation.a) else {
                    continue;
                };
                let Some(sum) = distance.checked_add(relation.most) else {
                    continue;
                };
                match known.iter_mut().find(|(id, _)| *id == relation.b) {
                    Some((_, old)) if *old <= sum => {}
                    Some((_, old)) => (*old, better) = (sum, true),
                    None => {
                        known.push((relation.b, sum));
                        better = true;
                    }
                }
            }
            if !better {
                break;
            }
        }
        known.iter().find(|(id, _)| *id == to).map(|(_, distance)| *distance)
    }

    /// `a - b <= most`, for names.
    pub fn relate(&mut self, a: Name, b: Name, most: i64) {
        let (Name::Identity(a, da), Name::Identity(b, db)) = (a, b) else {
            return;
        };
        if a == b {
            return;
        }
        let Some(most) = most.checked_sub(da).and_then(|m| m.checked_add(db)) else {
            return;
        };
        self.add(Relation { a, b, most });
    }

    fn add(&mut self, relation: Relation) {
        let relations = Rc::make_mut(&mut self.relations);
        if let Some(known) = relations.iter_mut().find(|r| r.a == relation.a && r.b == relation.b) {
            known.most = known.most.min(relation.most);
            return;
        }
        if relations.len() >= MOST_RELATIONS {
            relations.remove(0);
        }
        relations.push(relation);
    }

    /// Forgets relations of names that no value has, except those that loops measure by.
    pub fn tidy(&mut self, pinned: &Pinned) {
        if self.relations.is_empty() {
            return;
        }
        let names = self.relations.iter().flat_map(|relation| [relation.a, relation.b]);
        let mut loose: Vec<Id> = names.filter(|id| *id >= FIRST && !pinned.has(*id)).collect();
        self.each(|value| {
            if value.id >= FIRST && loose.contains(&value.id) {
                loose.retain(|id| *id != value.id);
            }
        });
        let kept = |relation: &Relation| !loose.contains(&relation.a) && !loose.contains(&relation.b);
        if !self.relations.iter().all(kept) {
            Rc::make_mut(&mut self.relations).retain(kept);
        }
    }

    /// Forgets relations that limit nothing that is kept: a name that no value has, and that only is above others, or only below,
    /// can be as far away as it likes.
    pub fn forget_loose(&mut self) {
        if self.relations.is_empty() {
            return;
        }
        let mut held: Vec<Id> = vec![PACKET_SIZE, META];
        self.each(|value| held.push(value.id));
        let relations = Rc::make_mut(&mut self.relations);
        loop {
            let all = relations.clone();
            let tied = |id: Id, other: fn(&Relation) -> Id| held.contains(&id) || all.iter().any(|r| other(r) == id);
            relations.retain(|r| tied(r.a, |r| r.b) && tied(r.b, |r| r.a));
            if relations.len() == all.len() {
                return;
            }
        }
    }

    /// Whether an identity names something.
    pub fn mentions(&self, id: Id) -> bool {
        let mut found = self
            .relations
            .iter()
            .any(|relation| relation.a == id || relation.b == id);
        self.each(|value| found |= value.id == id);
        found
    }

    /// Looks at every value.
    pub fn each(&self, mut look: impl FnMut(&Value)) {
        self.registers.iter().for_each(&mut look);
        for active in &self.frames {
            active.saved.iter().for_each(&mut look);
            active.memory.cells().iter().for_each(|cell| look(&cell.value));
        }
    }

    /// Gives every value that can have one an identity.
    pub fn identify_all(&mut self, ids: &mut Ids) {
        let mut identify_all = |value: &mut Value| identify(value, ids);
        self.change(&mut identify_all, |value| {
            value.id == NONE && (value.is_number() || value.kind.has_distance()) && value.num.constant().is_none()
        });
    }

    /// Every place with a number or a distance in it.
    pub fn places(&self) -> impl Iterator<Item = (Place, &Value)> {
        let registers = (0..).map(Place::Register).zip(self.registers.iter());
        let cells = (0..).zip(&self.frames).flat_map(|(frame, active)| {
            let cells = active.memory.cells().iter();
            cells.map(move |cell| (Place::Cell(frame, cell.start, cell.width), &cell.value))
        });
        let saved = (0..).zip(&self.frames).flat_map(|(frame, active)| {
            (0..)
                .zip(&active.saved)
                .map(move |(r, value)| (Place::Saved(frame, r), value))
        });
        let all = registers.chain(cells).chain(saved);
        all.filter(|(_, value)| value.is_number() || value.kind.has_distance())
    }

    /// The value at a place.
    pub fn value_at(&self, place: Place) -> Option<&Value> {
        match place {
            Place::Register(r) => self.registers.get(usize::from(r)),
            Place::Saved(frame, r) => self.frames.get(frame as usize)?.saved.get(usize::from(r)),
            Place::Cell(frame, start, width) => {
                let cells = self.frames.get(frame as usize)?.memory.cells();
                let cell = cells.iter().find(|cell| (cell.start, cell.width) == (start, width))?;
                Some(&cell.value)
            }
        }
    }

    /// Replaces the number at every place by what a function makes of it.
    pub fn replace_numbers(&mut self, mut make: impl FnMut(Place, &Num) -> Num) {
        let places: Vec<Place> = self.places().map(|(place, _)| place).collect();
        for place in places {
            let Some(old) = self.value_at(place).map(|value| value.num) else {
                continue;
            };
            let new = make(place, &old);
            if new == old {
                continue;
            }
            match place {
                Place::Register(r) => self.registers[usize::from(r)].num = new,
                Place::Saved(frame, r) => self.frames[frame as usize].saved[usize::from(r)].num = new,
                Place::Cell(frame, start, width) => {
                    let memory = Rc::make_mut(&mut self.frames[frame as usize].memory);
                    memory.renumber(start, width, new);
                }
            }
        }
    }

    /// Forgets the registers and the bytes of the function's own frame that nobody reads any more.
    pub fn keep(&mut self, registers: u16, bytes: &Set) {
        for (number, value) in self.registers.iter_mut().enumerate() {
            if registers >> number & 1 == 0 && !value.kind.is_nothing() {
                *value = Value::nothing(Why::Mixed(super::value::Sort::Nothing, super::value::Sort::Nothing));
            }
        }
        if let Some(active) = self.frames.last_mut()
            && !active.memory.is_kept(bytes)
        {
            Rc::make_mut(&mut active.memory).keep(bytes);
        }
    }

    /// Whether every execution that another state stands for is one of this.
    pub fn covers(&self, other: &State, pinned: &Pinned) -> bool {
        if self.frames.len() != other.frames.len() || !self.packet_size.covers(&other.packet_size) {
            return false;
        }
        let mut names = Names {
            known: Vec::new(),
            pinned,
        };
        let registers = self.registers.iter().zip(other.registers.iter());
        if !registers.into_iter().all(|(a, b)| names.covers(a, b)) {
            return false;
        }
        for (a, b) in self.frames.iter().zip(&other.frames) {
            if !a.saved.iter().zip(&b.saved).all(|(a, b)| names.covers(a, b)) {
                return false;
            }
            // The same memory is the same values; but identities in it must mean the same, too.
            if !a.memory.covers(&b.memory, |a, b| names.covers(a, b)) {
                return false;
            }
        }
        self.relations.iter().all(|relation| {
            let term = |id: Id| names.term(id, other);
            match (term(relation.a), term(relation.b)) {
                (Some(a), Some(b)) => other.most(a, b).is_some_and(|most| most <= relation.most),
                // What else is known by that name is not known of the other.
                _ => false,
            }
        })
    }

    /// A state that covers both. Both have equally many frames.
    #[must_use]
    pub fn join(&self, other: &State, ids: &mut Ids) -> State {
        let mut pairs = Pairs {
            ids,
            known: Vec::new(),
            apart: Vec::new(),
            in_packet: Vec::new(),
        };
        let registers = Box::new(std::array::from_fn(|i| {
            pairs.join(&self.registers[i], &other.registers[i])
        }));
        let frames = self.frames.iter().zip(&other.frames);
        let frames = frames
            .map(|(a, b)| Active {
                memory: if Rc::ptr_eq(&a.memory, &b.memory) {
                    // Every identity in it is in both.
                    for cell in a.memory.cells() {
                        pairs.join(&cell.value, &cell.value);
                    }
                    Rc::clone(&a.memory)
                } else {
                    Rc::new(a.memory.join(&b.memory, |a, b| Some(pairs.join(a, b))))
                },
                saved: std::array::from_fn(|i| pairs.join(&a.saved[i], &b.saved[i])),
            })
            .collect();
        // Names that mean the same in both, although no value may have them: the packet's size, and what a loop measures by.
        let named = self
            .relations
            .iter()
            .chain(other.relations.iter())
            .flat_map(|r| [r.a, r.b]);
        let mut named: Vec<Id> = named.collect();
        named.sort_unstable();
        named.dedup();
        for id in named {
            let in_both = |state: &State| id < FIRST || state.relations.iter().any(|r| r.a == id || r.b == id);
            if in_both(self) && in_both(other) && !pairs.known.iter().any(|pair| pair.id == id) {
                pairs.known.push(Pair {
                    left: self.unheld(id),
                    right: other.unheld(id),
                    id,
                });
            }
        }
        let Pairs {
            mut known,
            apart,
            in_packet,
            ..
        } = pairs;
        // Where the packets have other sizes, constant distances lie before their ends by comparisons that left no relation.
        let ends = !in_packet.is_empty() && self.packet_size != other.packet_size;
        if ends && !known.iter().any(|pair| pair.id == PACKET_SIZE) {
            known.push(Pair {
                left: self.unheld(PACKET_SIZE),
                right: other.unheld(PACKET_SIZE),
                id: PACKET_SIZE,
            });
        }
        let mut joined = State {
            registers,
            frames,
            packet_size: self.packet_size.join(&other.packet_size),
            relations: Rc::new(Vec::new()),
            path: self.path,
            joined: true,
        };
        // A relation of either holds for both if the other can say as much, or less.
        let mut wanted: Vec<(usize, usize)> = Vec::new();
        for (relations, left) in [(&self.relations, true), (&other.relations, false)] {
            for relation in relations.iter() {
                let of = |id: Id| {
                    known
                        .iter()
                        .enumerate()
                        .filter(move |(_, pair)| if left { pair.left } else { pair.right }.has(id))
                        .map(|(i, _)| i)
                };
                for a in of(relation.a) {
                    for b in of(relation.b) {
                        if a != b && !wanted.contains(&(a, b)) && wanted.len() < 2 * MOST_RELATIONS {
                            wanted.push((a, b));
                        }
                    }
                }
            }
        }
        let end = known.iter().position(|pair| pair.id == PACKET_SIZE).filter(|_| ends);
        let before_end = (0..known.len()).filter(|i| in_packet.contains(&known[*i].id));
        wanted.extend(
            end.into_iter()
                .flat_map(|end| before_end.clone().map(move |i| (i, end))),
        );
        for (a, b) in wanted {
            let (a, b) = (known[a], known[b]);
            let left = self.most(a.left, b.left);
            let right = other.most(a.right, b.right);
            if let (Some(left), Some(right)) = (left, right) {
                joined.add(Relation {
                    a: a.id,
                    b: b.id,
                    most: left.max(right),
                });
            }
        }
        for (new, old, least, most) in apart {
            joined.add(Relation { a: new, b: old, most });
            if let Some(most) = least.checked_neg() {
                joined.add(Relation { a: old, b: new, most });
            }
        }
        joined
    }
}

/// Gives a value an identity, if it is worth one.
pub(super) fn identify(value: &mut Value, ids: &mut Ids) {
    let can = value.nullable || (value.is_number() || value.kind.has_distance()) && value.num.constant().is_none();
    if can && value.id == NONE {
        value.id = ids.next();
        value.delta = 0;
    }
}

/// What the identities of one state are in another.
struct Names<'p> {
    known: Vec<(Id, Option<Term>)>,
    pinned: &'p Pinned,
}

impl Names<'_> {
    /// Whether a value says no more than another.
    fn covers(&mut self, a: &Value, b: &Value) -> bool {
        if a.kind.is_nothing() {
            return true;
        }
        // Null is one of the things that such a pointer can be.
        let is_null = a.nullable && b.as_constant() == Some(0);
        let is_one = a.kind == b.kind && (a.nullable || !b.nullable) && a.num.covers(&b.num);
        if !is_null && !is_one {
            return false;
        }
        if a.id == NONE {
            return true;
        }
        // Copies of a pointer that may be null are null together.
        let base = if a.nullable {
            Some(Term::nullness(b))
        } else {
            a.delta.checked_neg().and_then(|by| Term::of(b).plus(by))
        };
        match self.known.iter().find(|(id, _)| *id == a.id) {
            None => {
                self.known.push((a.id, base));
                // The packet's size is no value that is kept somewhere.
                let is_free = a.id >= FIRST && !self.pinned.has(a.id);
                is_free || b.id == a.id && b.delta == a.delta
            }
            Some((_, Some(known))) => {
                let name = base.map_or(Name::None, |term| term.name);
                name != Name::None && known.name == name
            }
            Some((_, None)) => false,
        }
    }

    fn term(&self, id: Id, other: &State) -> Option<Term> {
        if id < FIRST || self.pinned.has(id) {
            return Some(other.unheld(id));
        }
        self.known
            .iter()
            .find(|(known, _)| *known == id)
            .and_then(|(_, term)| *term)
    }
}

/// Two numbers, one of each state, that became one.
#[derive(Clone, Copy)]
struct Pair {
    left: Term,
    right: Term,
    id: Id,
}

impl Term {
    fn has(&self, id: Id) -> bool {
        matches!(self.name, Name::Identity(own, _) if own == id)
    }
}

/// Joins values, and finds those that are the same but for a constant in both states.
struct Pairs<'i> {
    ids: &'i mut Ids,
    known: Vec<Pair>,
    /// New identities that lie between two distances of an old one that both states know.
    apart: Vec<(Id, Id, i64, i64)>,
    /// Identities of distances in the packet.
    in_packet: Vec<Id>,
}

impl Pairs<'_> {
    fn join(&mut self, a: &Value, b: &Value) -> Value {
        if a.kind.is_nothing() {
            return *a;
        }
        if b.kind.is_nothing() {
            return *b;
        }
        if a.kind != b.kind {
            return match (a.as_constant(), b.as_constant()) {
                (Some(0), _) if is_lookup(b) => Value {
                    nullable: true,
                    id: NONE,
                    delta: 0,
                    ..*b
                },
                (_, Some(0)) if is_lookup(a) => Value {
                    nullable: true,
                    id: NONE,
                    delta: 0,
                    ..*a
                },
                _ => Value::nothing(Why::Mixed(a.kind.sort(), b.kind.sort())),
            };
        }
        if a.nullable || b.nullable {
            let same = a.id == b.id && a.nullable && b.nullable;
            return Value {
                nullable: true,
                id: if same { a.id } else { NONE },
                delta: 0,
                num: a.num.join(&b.num),
                kind: a.kind,
            };
        }
        let num = a.num.join(&b.num);
        if num.constant().is_some() {
            return Value {
                num,
                id: NONE,
                delta: 0,
                ..*a
            };
        }
        let (id, delta) = self.name(a, b);
        if a.kind == Kind::Packet && id >= FIRST {
            self.in_packet.push(id);
        }
        Value { id, delta, num, ..*a }
    }

    /// The identity of the value that is the one or the other.
    fn name(&mut self, a: &Value, b: &Value) -> (Id, i64) {
        if a.id != NONE && a.id == b.id && a.delta == b.delta {
            if !self.known.iter().any(|pair| pair.id == a.id) {
                let base = |value: &Value| value.delta.checked_neg().and_then(|by| Term::of(value).plus(by));
                if let (Some(left), Some(right)) = (base(a), base(b)) {
                    self.known.push(Pair { left, right, id: a.id });
                }
            }
            return (a.id, a.delta);
        }
        let (left, right) = (Term::of(a), Term::of(b));
        // The packet's size is told by its range, not by its name, where the other has another name.
        if left.name == Name::None || right.name == Name::None {
            return (NONE, 0);
        }
        for pair in &self.known {
            if let (Some(x), Some(y)) = (distance(left, pair.left), distance(right, pair.right))
                && x == y
            {
                return (pair.id, x);
            }
        }
        let id = self.ids.next();
        self.known.push(Pair { left, right, id });
        if a.id >= FIRST && a.id == b.id {
            self.apart.push((id, a.id, a.delta.min(b.delta), a.delta.max(b.delta)));
        }
        (id, 0)
    }
}

/// A pointer that a null can join.
fn is_lookup(value: &Value) -> bool {
    matches!(value.kind, Kind::MapValue(_) | Kind::Map(_) | Kind::Programs(_)) && value.num.constant() == Some(0)
}

/// How far a number is from another that has the same name.
fn distance(a: Term, b: Term) -> Option<i64> {
    match (a.name, b.name) {
        (Name::Constant(a), Name::Constant(b)) => a.checked_sub(b),
        (Name::Identity(x, a), Name::Identity(y, b)) if x == y => a.checked_sub(b),
        _ => None,
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(super) mod tests;
