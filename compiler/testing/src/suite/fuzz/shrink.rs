//! Inputs that make something fail, made fewer and smaller.
//!
//! Given: inputs, the last of which fails, and a way to see whether some do. Computed: those that are left when none can be taken away, cut or
//! zeroed within a budget of trials.
//! Safe because: only what has been seen to fail is kept.

use std::ops::Range;

use super::generate::FuzzInput;

/// What is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shrunk {
    /// The inputs, or all of them if they did not fail again.
    pub inputs: Vec<FuzzInput>,
    /// Whether they failed again.
    pub again: bool,
    /// How often they were tried.
    pub trials: u32,
}

struct Shrinking<'a> {
    fails: &'a mut dyn FnMut(&[FuzzInput]) -> bool,
    inputs: Vec<FuzzInput>,
    trials: u32,
    budget: u32,
}

/// Makes inputs fewer and smaller.
pub(super) fn shrink(inputs: Vec<FuzzInput>, budget: u32, fails: &mut dyn FnMut(&[FuzzInput]) -> bool) -> Shrunk {
    let mut shrinking = Shrinking {
        fails,
        inputs,
        trials: 0,
        budget,
    };
    let again = shrinking.fewer();
    if again {
        let count = shrinking.inputs.len();
        if count > 1 {
            shrinking.smaller(&(0..count));
        }
        for index in (0..count).rev() {
            shrinking.smaller(&(index..index + 1));
        }
    }
    Shrunk {
        again,
        inputs: shrinking.inputs,
        trials: shrinking.trials,
    }
}

impl Shrinking<'_> {
    fn fails(&mut self, inputs: &[FuzzInput]) -> bool {
        if self.trials >= self.budget {
            return false;
        }
        self.trials += 1;
        (self.fails)(inputs)
    }

    /// Takes inputs away. Gives whether any fail at all.
    fn fewer(&mut self) -> bool {
        let all = std::mem::take(&mut self.inputs);
        let last = all.len().saturating_sub(1);
        if self.fails(&all[last..]) {
            self.inputs = all[last..].to_vec();
            return true;
        }
        let again = self.fails(&all);
        let (mut failing, mut passing) = (0, last);
        while again && passing - failing > 1 {
            let middle = failing.midpoint(passing);
            if self.fails(&all[middle..]) {
                failing = middle;
            } else {
                passing = middle;
            }
        }
        self.inputs = all[failing..].to_vec();
        let mut size = self.inputs.len() / 2;
        while again && size > 0 {
            let mut start = 0;
            // The last one stays: it is what fails.
            while start + 1 < self.inputs.len() {
                let end = (start + size).min(self.inputs.len() - 1);
                let mut fewer = self.inputs.clone();
                fewer.drain(start..end);
                if self.fails(&fewer) {
                    self.inputs = fewer;
                } else {
                    start = end;
                }
            }
            size /= 2;
        }
        again
    }

    /// Whether they fail as changed; then they stay so.
    fn replace(&mut self, inputs: Vec<FuzzInput>) -> bool {
        let fails = inputs != self.inputs && self.fails(&inputs);
        if fails {
            self.inputs = inputs;
        }
        fails
    }

    /// Makes some of the inputs smaller, all of them alike.
    fn smaller(&mut self, which: &Range<usize>) {
        // The context first: it is most often of no importance.
        self.pieces(which, |input, start, end| {
            let end = end.min(input.context.len());
            if let Some(place) = input.context.get_mut(start..end) {
                place.fill(0);
            }
        });
        self.pieces(which, |input, start, end| {
            let end = end.min(input.packet.len());
            if start < end {
                input.packet.drain(start..end);
            }
        });
        self.pieces(which, |input, start, end| {
            let end = end.min(input.packet.len());
            if let Some(place) = input.packet.get_mut(start..end) {
                place.fill(0);
            }
        });
    }

    /// Changes pieces of inputs, from large ones to single bytes, from the end to the start.
    fn pieces(&mut self, which: &Range<usize>, change: impl Fn(&mut FuzzInput, usize, usize)) {
        let length = |inputs: &[FuzzInput]| {
            let lengths = inputs.iter().map(|input| input.packet.len().max(input.context.len()));
            lengths.max().unwrap_or(0)
        };
        let mut size = length(&self.inputs[which.clone()]);
        while size > 0 {
            let mut end = length(&self.inputs[which.clone()]);
            while end > 0 {
                let start = end.saturating_sub(size);
                let mut inputs = self.inputs.clone();
                for input in &mut inputs[which.clone()] {
                    change(input, start, end);
                }
                self.replace(inputs);
                end = start;
            }
            size /= 2;
        }
    }
}
