//! A path as a person reads it: the decisions on it, as places in the module.

use bpf2sys_bytecode::Reg;
use prevail::cfg::label::Label;
use prevail::crab::ebpf_domain::{EbpfDomain, ebpf_domain_transform};
use prevail::ir::syntax::{Assume, Instruction, Value};

use super::view::View;
use super::{Explainer, Way, sort};
use crate::error::{LeftOut, PathStep, RejectionPlace};
use crate::violation::Bytes;
use crate::words::{number, times};
use crate::{Kind, Span};

/// How many steps are told: so many from the start and from the end of the path.
const FIRST: usize = 4;
const LAST: usize = 8;

/// A step, before it is put into words.
enum Step {
    /// The path goes through the label at this index.
    At(usize),
    /// It goes round the loop of this label so often.
    Rounds(usize, usize),
}

impl Explainer<'_> {
    /// The decisions on a path, with the middle of a long one left out.
    pub(super) fn steps(&self, way: &Way) -> (Vec<PathStep>, Option<LeftOut>) {
        let mut steps = Vec::new();
        let mut next = 0;
        while let Some(label) = way.labels.get(next) {
            let last = way.labels.iter().rposition(|other| other == label).unwrap_or(next);
            let rounds = way.labels[next..=last].iter().filter(|other| *other == label).count() - 1;
            if rounds > 0 {
                // Of a loop, the last round is told.
                steps.push(Step::Rounds(last, rounds));
                next = last;
            } else if next + 1 < way.labels.len() && self.decides(label) {
                steps.push(Step::At(next));
            }
            next += 1;
        }
        let told = FIRST + LAST;
        let mut left_out = None;
        if steps.len() > told + 1 {
            let count = steps.len() - told;
            steps.drain(FIRST..FIRST + count);
            left_out = Some(LeftOut { after: FIRST, count });
        }
        (self.in_words(way, &steps), left_out)
    }

    /// Whether anything is decided at a label that is worth telling.
    fn decides(&self, label: &Label) -> bool {
        match self.meaning.instruction_at(label) {
            Instruction::Assume(_) => label.isjump(),
            Instruction::CallLocal(_) | Instruction::IncrementLoopCounter(_) => true,
            _ => false,
        }
    }

    fn in_words(&self, way: &Way, steps: &[Step]) -> Vec<PathStep> {
        // The states of a whole path are those of its execution; where none is told, only places are.
        let mut state = way.kind.is_whole().then(|| way.start.clone());
        let mut at = 0;
        let mut told = Vec::new();
        for step in steps {
            let (index, what) = match *step {
                Step::Rounds(index, rounds) => (index, format!("the loop goes round {}", times(rounds))),
                Step::At(index) => {
                    state = state.and_then(|state| self.execute(state, &way.labels[at..index]));
                    at = index;
                    (index, self.decision(&way.labels[index], state.as_ref()))
                }
            };
            if let Some(place) = self.subject.place(way.labels[index].from) {
                told.push(PathStep { place: *place, what });
            }
        }
        told
    }

    /// The state behind some labels of a path.
    pub(super) fn execute(&self, mut state: EbpfDomain, labels: &[Label]) -> Option<EbpfDomain> {
        for label in labels {
            let instruction = self.meaning.instruction_at(label);
            ebpf_domain_transform(&mut state, instruction, self.context, &mut self.names.borrow_mut()).ok()?;
        }
        Some(state)
    }

    /// What is decided at a label.
    fn decision(&self, label: &Label, state: Option<&EbpfDomain>) -> String {
        let module = self.subject.module;
        match self.meaning.instruction_at(label) {
            Instruction::Assume(assume) => {
                let place = self.subject.code.place(module, label.from);
                let op = place.map(|(function, index)| module.function(function).instructions[index.index()].op);
                let distance = i64::from(label.to) - i64::from(label.from) - 1;
                let taken = op.and_then(|op| op.jump_offset()).map(i64::from) == Some(distance);
                let taken = if taken { "taken" } else { "not taken" };
                let learned = state.and_then(|state| self.learned(assume, state, label));
                format!(
                    "{taken}{}{}",
                    self.on_to(label),
                    learned.map_or(String::new(), |what| format!(": {what}"))
                )
            }
            Instruction::CallLocal(call) => match self.subject.place(call.target.from) {
                Some(target) => format!("calls `{}`", target.function),
                None => "calls a function".to_owned(),
            },
            _ => "a loop begins".to_owned(),
        }
    }

    /// Where a jump leads, if it leads to another line.
    fn on_to(&self, label: &Label) -> String {
        let line = |place: Option<Box<RejectionPlace>>| {
            let line = place?.line?;
            Some((line.file, line.line))
        };
        match (line(self.subject.place(label.from)), line(self.subject.place(label.to))) {
            (Some(from), Some(to)) if from != to => format!(", on to line {}", to.1),
            _ => String::new(),
        }
    }

    /// What is known behind a decision that was not known before it.
    fn learned(&self, assume: &Assume, before: &EbpfDomain, label: &Label) -> Option<String> {
        let after = self.execute(before.clone(), std::slice::from_ref(label))?;
        let before = View::new(before, self.context, &self.names);
        let after = View::new(&after, self.context, &self.names);
        let mut registers = vec![sort::register(assume.cond.left)];
        if let Value::Reg(right) = assume.cond.right {
            registers.push(sort::register(right));
        }
        if registers.iter().any(|register| before.kind(*register) == Kind::Packet) {
            let (old, new) = (before.packet_size().min?, after.packet_size().min?);
            return (new > old).then(|| format!("the packet has at least {}", Bytes(Span::exactly(new))));
        }
        registers
            .into_iter()
            .find_map(|register| learned_of(register, &before, &after))
    }
}

fn learned_of(register: Reg, before: &View<'_>, after: &View<'_>) -> Option<String> {
    let value = |view: &View<'_>| (view.of(register, "svalue"), view.of(register, "uvalue"));
    let (old, new) = (value(before), value(after));
    match before.kind(register) {
        Kind::Number if old != new => Some(format!("`{register}` is {}", number(new.0, new.1))),
        Kind::MapValue | Kind::Map if new.1.one() == Some(0) => Some(format!("`{register}` is null")),
        Kind::MapValue | Kind::Map if old.1.min.is_none_or(|min| min < 1) && new.1.min.is_some_and(|min| min > 0) => {
            Some(format!("`{register}` is not null"))
        }
        _ => None,
    }
}
