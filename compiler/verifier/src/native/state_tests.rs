//! What states say of one another, and what changes of one value say of others.

use bpf2sys_bytecode::{MapIndex, Width};

use super::super::value::Table;
use super::*;

const VALUES: Kind = Kind::MapValue(Table {
    map: MapIndex(0),
    made: false,
});

fn r(number: u8) -> Reg {
    Reg::new(number).unwrap()
}

/// A number with a name.
pub(in super::super) fn named(id: Id, delta: i64, range: std::ops::RangeInclusive<i64>) -> Value {
    Value {
        id,
        delta,
        ..Value::number(Num::between(range))
    }
}

/// What a lookup gives.
fn found(id: Id) -> Value {
    Value {
        nullable: true,
        id,
        ..Value::pointer(VALUES, 0)
    }
}

/// A state with these registers, and nothing else.
pub(in super::super) fn state(registers: &[(u8, Value)]) -> State {
    let mut state = State {
        registers: Box::new(std::array::from_fn(|_| Value::nothing(Why::Stack(None)))),
        frames: vec![Active {
            memory: Rc::default(),
            saved: [Value::nothing(Why::Stack(None)); 4],
        }],
        packet_size: Num::between(0..=100),
        relations: Rc::default(),
        path: 0,
        joined: false,
    };
    for (register, value) in registers {
        state.set(r(*register), *value);
    }
    state
}

/// The same, where one name is at most so far above another.
fn related(registers: &[(u8, Value)], a: Id, b: Id, most: i64) -> State {
    let mut state = state(registers);
    state.relate(Name::Identity(a, 0), Name::Identity(b, 0), most);
    state
}

fn covers(a: &State, b: &State) -> bool {
    a.covers(b, &Pinned::default())
}

fn signed(state: &State, register: u8) -> (i64, i64) {
    state.register(r(register)).num.signed()
}

const ANY: std::ops::RangeInclusive<i64> = i64::MIN..=i64::MAX;

#[test]
fn a_state_covers_those_that_say_more() {
    let on_stack = |value: Value| {
        let mut state = state(&[]);
        state.memory_mut(0).unwrap().store(-8, Width::Dw, &value);
        state
    };
    let saved = |value: Value| {
        let mut state = state(&[(6, value)]);
        state.enter_function();
        state
    };
    let in_register = |value: Value| state(&[(6, value)]);
    let with_packet = |most: i64| State {
        packet_size: Num::between(0..=most),
        ..state(&[])
    };
    let (wide, narrow) = (named(5, 0, 0..=7), named(5, 0, 0..=3));
    for (less, more) in [
        (in_register(wide), in_register(narrow)),
        (on_stack(wide), on_stack(narrow)),
        (saved(wide), saved(narrow)),
        (with_packet(100), with_packet(50)),
        (state(&[]), in_register(wide)),
        (state(&[]), on_stack(wide)),
        (in_register(found(5)), in_register(Value::pointer(VALUES, 0))),
        (in_register(found(5)), in_register(Value::constant(0))),
    ] {
        assert!(covers(&less, &more), "{less:?} {more:?}");
        assert!(!covers(&more, &less), "{less:?} {more:?}");
    }
}

#[test]
fn names_and_relations_are_covered_by_those_that_say_more() {
    let two = |a: Value, b: Value| [(6, a), (7, b)];
    let (some, other) = (named(5, 0, 0..=7), named(6, 0, 0..=7));
    let alone = |value: Value| Value {
        id: NONE,
        delta: 0,
        ..value
    };
    let far = |most| related(&two(some, other), 5, 6, most);
    for (less, more) in [
        // Copies are two numbers too, but two numbers are no copies.
        (state(&two(some, other)), state(&two(some, some))),
        (state(&two(alone(some), alone(some))), state(&two(some, some))),
        (state(&two(some, other)), state(&two(some, named(5, 1, 0..=7)))),
        (state(&two(found(5), found(6))), state(&two(found(5), found(5)))),
        (far(3), far(2)),
        (state(&two(some, other)), far(2)),
    ] {
        assert!(covers(&less, &more), "{less:?} {more:?}");
        assert!(!covers(&more, &less), "{less:?} {more:?}");
    }
    // One is one more than the other, and two more.
    let (one, two_more) = (two(some, named(5, 1, 0..=7)), two(some, named(5, 2, 0..=7)));
    assert!(!covers(&state(&one), &state(&two_more)));
    assert!(!covers(&state(&one), &state(&two(some, some))));
    assert!(covers(&state(&one), &state(&one)));
    // What is known by a name that the other state does not have is not known there.
    let gone = related(&[(6, some)], 5, 9, 2);
    assert!(!covers(&gone, &state(&[(6, some)])));
    // Other names mean the same, but not where a loop measures by them.
    let renamed = state(&[(6, named(8, 0, 0..=7))]);
    assert!(covers(&state(&[(6, some)]), &renamed));
    let mut pinned = Pinned::default();
    pinned.push(vec![5]);
    assert!(!state(&[(6, some)]).covers(&renamed, &pinned));
    assert!(state(&[(6, some)]).covers(&state(&[(6, some)]), &pinned));
    // The packet's end is no name like others.
    let end = |id| {
        state(&[(
            6,
            Value {
                kind: Kind::Packet,
                ..named(id, 0, 0..=100)
            },
        )])
    };
    assert!(!covers(&end(PACKET_SIZE), &end(5)));
}

#[test]
fn a_join_knows_what_both_know() {
    let ids = &mut Ids(20);
    let (a, b) = (named(5, 0, 0..=7), named(6, 0, 0..=7));
    let near = related(&[(6, a), (7, b)], 5, 6, 2);
    let far = related(&[(6, a), (7, b)], 5, 6, 4);
    let none = state(&[(6, a), (7, b)]);
    let between = |state: &State| state.most(Term::of(state.register(r(6))), Term::of(state.register(r(7))));
    for (one, other, most) in [(&near, &far, 4), (&near, &none, 7), (&near, &near, 2)] {
        for joined in [one.join(other, ids), other.join(one, ids)] {
            assert_eq!(between(&joined), Some(most));
            assert!(covers(&joined, one) && covers(&joined, other));
        }
    }
    // Where ranges tell nothing, what one path does not know is not known.
    let any = [(6, named(5, 0, ANY)), (7, named(6, 0, ANY))];
    let (near, none) = (related(&any, 5, 6, 2), state(&any));
    for joined in [near.join(&none, ids), none.join(&near, ids)] {
        assert_eq!(between(&joined), None);
    }
    let with_packet = |low: i64, high: i64| State {
        packet_size: Num::between(low..=high),
        ..state(&[])
    };
    let joined = with_packet(10, 20).join(&with_packet(15, 30), ids);
    assert_eq!(joined.packet_size.signed(), (10, 30));
}

#[test]
fn a_joined_value_is_either_of_two() {
    let ids = &mut Ids(20);
    let here = Value::pointer(VALUES, 0);
    let nothing = Value::nothing(Why::Stack(None));
    let mut joined = |a: Value, b: Value| {
        let (one, other) = (state(&[(6, a)]), state(&[(6, b)]));
        let [there, back] = [one.join(&other, ids), other.join(&one, ids)].map(|state| *state.register(r(6)));
        assert_eq!(
            (there.kind.is_nothing(), there.nullable),
            (back.kind.is_nothing(), back.nullable)
        );
        there
    };
    assert!(joined(Value::constant(0), here).nullable);
    assert!(joined(found(5), here).nullable);
    assert!(joined(nothing, here).kind.is_nothing());
    assert!(joined(Value::constant(1), here).kind.is_nothing());
    // A null is no address of anything but the start of a value.
    assert!(joined(Value::constant(0), Value::pointer(VALUES, 4)).kind.is_nothing());
    assert!(
        joined(Value::constant(0), Value::pointer(Kind::Stack(0), 0))
            .kind
            .is_nothing()
    );
    // Where the distance from a name differs, it is not that name plus the one of them.
    let apart = joined(named(5, 1, 1..=8), named(5, 3, 3..=10));
    assert_eq!(apart.num.signed(), (1, 10));
    assert_ne!(apart.id, 5);
}

#[test]
fn names_that_moved_differently_are_that_far_apart() {
    let ids = &mut Ids(20);
    let base = named(5, 0, 0..=1_000);
    let one = state(&[(6, base), (7, named(5, 1, 1..=1_001))]);
    let other = state(&[(6, base), (7, named(5, 3, 3..=1_003))]);
    let joined = one.join(&other, ids);
    let term = |register| Term::of(joined.register(r(register)));
    assert_eq!(joined.most(term(7), term(6)), Some(3));
    assert_eq!(joined.most(term(6), term(7)), Some(-1));
    // Copies on one way only are no copies.
    let copies = state(&[(6, base), (7, base)]);
    let others = state(&[(6, base), (7, named(6, 0, 0..=1_000))]);
    for joined in [copies.join(&others, ids), others.join(&copies, ids)] {
        assert_ne!(joined.register(r(6)).name(), joined.register(r(7)).name());
    }
    // And what is one more on one way and two more on the other is neither.
    let pairs = |delta| state(&[(6, named(30, 0, 0..=9)), (7, named(30, delta, 0..=9))]);
    let joined = pairs(1).join(&state(&[(6, named(31, 0, 0..=9)), (7, named(31, 2, 0..=9))]), ids);
    let [six, seven] = [6, 7].map(|register| *joined.register(r(register)));
    assert_ne!(six.id, seven.id);
}

#[test]
fn what_is_told_of_a_number_is_told_of_those_that_are_known_by_it() {
    // r7 is two more than r6, on the stack is one less, and a caller has one that is as large.
    let mut before = state(&[(6, named(5, 0, ANY)), (7, named(5, 2, ANY))]);
    before.memory_mut(0).unwrap().store(-8, Width::Dw, &named(5, -1, ANY));
    before.frames[0].saved[0] = named(5, 0, ANY);
    before.narrow(r(6), Num::between(10..=20)).unwrap();
    assert_eq!(signed(&before, 7), (12, 22));
    assert_eq!(before.memory(0).unwrap().load(-8, Width::Dw).num.signed(), (9, 19));
    assert_eq!(before.frames[0].saved[0].num.signed(), (10, 20));
    // The packet's end, and what is ten bytes behind it.
    let mut before = state(&[(6, named(PACKET_SIZE, 10, ANY)), (7, named(PACKET_SIZE, 0, ANY))]);
    before.narrow(r(6), Num::between(30..=40)).unwrap();
    assert_eq!(before.packet_size.signed(), (20, 30));
    assert_eq!(signed(&before, 7), (20, 30));
    assert!(before.narrow(r(6), Num::between(90..=95)).is_none());
}

#[test]
fn what_is_told_of_a_number_is_told_of_those_that_are_related() {
    // What 5 names is at most 3 above what 6 names.
    let (some, other) = (named(5, 4, 10..=20), named(6, 7, ANY));
    let mut before = related(&[(6, some), (7, other)], 5, 6, 3);
    before.spread(&some).unwrap();
    assert_eq!(signed(&before, 7).0, 10 - 4 - 3 + 7);
    let (some, other) = (named(5, 4, ANY), named(6, 7, 10..=20));
    let mut before = related(&[(6, some), (7, other)], 5, 6, 3);
    before.spread(&other).unwrap();
    assert_eq!(signed(&before, 6).1, 20 - 7 + 3 + 4);
}

#[test]
fn distances_follow_relations() {
    // 5 is at most 3 above 6, and that at most 4 above 7.
    let values = [
        (6, named(5, 1, ANY)),
        (7, named(6, 20, ANY)),
        (8, named(7, 300, ANY)),
        (9, named(5, 9, ANY)),
    ];
    let mut before = related(&values, 5, 6, 3);
    before.relate(Name::Identity(6, 0), Name::Identity(7, 0), 4);
    let most = |a: u8, b: u8| {
        let term = |register| Term::of(before.register(r(register)));
        before.most(term(a), term(b))
    };
    assert_eq!(most(6, 7), Some(3 + 1 - 20));
    assert_eq!(most(6, 8), Some(3 + 4 + 1 - 300));
    assert_eq!(most(9, 6), Some(8));
    assert_eq!(most(8, 6), None);
    let value = before.register(r(6));
    assert_eq!(before.most_by_name(value, 7, 0), Some(3 + 4 + 1));
    assert_eq!(before.most_by_name(value, 5, 3), Some(1 - 3));
    assert_eq!(before.most_to_name(5, 3, value), Some(3 - 1));
    assert_eq!(before.most_to_name(7, 0, value), None);
    // Ranges tell it where names do not.
    let (low, high) = (named(NONE, 0, 2..=5), named(NONE, 0, 10..=20));
    assert_eq!(before.most(Term::of(&high), Term::of(&low)), Some(18));
    // A relation of two values with distances is one of what they are named after.
    let mut before = state(&values);
    before.relate(Name::Identity(5, 1), Name::Identity(6, 20), 0);
    let term = |register| Term::of(before.register(r(register)));
    assert_eq!(before.most(term(6), term(7)), Some(0));
}

#[test]
fn a_test_for_null_is_one_of_all_copies_and_of_no_others() {
    let before = state(&[(6, found(5)), (7, found(5)), (8, found(6))]);
    for null in [false, true] {
        let mut after = before.clone();
        after.decide_null(r(6), null);
        for register in [6, 7] {
            let value = after.register(r(register));
            assert_eq!((value.is_number(), value.nullable), (null, false));
        }
        assert!(after.register(r(8)).nullable);
    }
    assert_ne!(found(5).name(), found(6).name());
}

#[test]
fn nothing_is_known_of_a_packet_that_has_moved() {
    let mut before = related(
        &[(6, named(5, 0, ANY)), (7, named(PACKET_SIZE, 0, 0..=100))],
        5,
        PACKET_SIZE,
        0,
    );
    before.packet_size = Num::between(40..=50);
    before.forget_packet(Num::between(0..=100));
    assert_eq!(before.packet_size.signed(), (0, 100));
    assert!(before.relations.is_empty());
    assert_eq!(before.register(r(7)).id, NONE);
}

#[test]
fn functions_find_their_arguments_and_give_a_result() {
    let mut inside = state(&(0..10).map(|n| (n, Value::constant(n.into()))).collect::<Vec<_>>());
    inside.set(r(9), Value::pointer(Kind::Stack(0), -8));
    inside.enter_function();
    for number in 0..10 {
        let is_nothing = inside.register(r(number)).kind.is_nothing();
        assert_eq!(is_nothing, !(1..6).contains(&number), "r{number}");
    }
    for number in 0..10 {
        inside.set(r(number), Value::constant(100));
    }
    inside.set(r(0), Value::pointer(Kind::Stack(1), -8));
    inside.leave_function(0);
    for number in 0..9 {
        let value = inside.register(r(number));
        let own = (6..9).contains(&number).then_some(number.into());
        assert_eq!(
            (value.as_constant(), value.kind.is_nothing()),
            (own, own.is_none()),
            "r{number}"
        );
    }
    assert_eq!(*inside.register(r(9)), Value::pointer(Kind::Stack(0), -8));
    assert_eq!(*inside.register(Reg::R10), Value::pointer(Kind::Stack(0), 0));
}
