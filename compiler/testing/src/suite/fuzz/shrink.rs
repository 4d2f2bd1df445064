//! Inputs that make something fail, made fewer and smaller.
//!
//! Given: inputs, the last of which fails, and a way to see whether some do. Computed: those that are left when none can be taken away, cut or
//! zeroed within a budget of trials.
//! Safe because: only what has been seen to fail is kept.

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
        for index in (0..shrinking.inputs.len()).rev() {
            shrinking.smaller(index);
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

    /// Whether they fail with another input in a place; then it stays there.
    fn replace(&mut self, index: usize, input: FuzzInput) -> bool {
        if self.inputs[index] == input {
            return false;
        }
        let mut inputs = self.inputs.clone();
        inputs[index] = input;
        let fails = self.fails(&inputs);
        if fails {
            self.inputs = inputs;
        }
        fails
    }

    fn smaller(&mut self, index: usize) {
        // The context first: it is most often of no importance.
        self.pieces(index, |input, start, end| {
            let end = end.min(input.context.len());
            input.context.get_mut(start..end)?.fill(0);
            Some(())
        });
        self.pieces(index, |input, start, end| {
            let end = end.min(input.packet.len());
            (start < end).then(|| drop(input.packet.drain(start..end)))
        });
        self.pieces(index, |input, start, end| {
            let end = end.min(input.packet.len());
            input.packet.get_mut(start..end)?.fill(0);
            Some(())
        });
    }

    /// Changes pieces of an input, from large ones to single bytes, from the end to the start.
    fn pieces(&mut self, index: usize, change: impl Fn(&mut FuzzInput, usize, usize) -> Option<()>) {
        let length = |input: &FuzzInput| input.packet.len().max(input.context.len());
        let mut size = length(&self.inputs[index]);
        while size > 0 {
            let mut end = length(&self.inputs[index]);
            while end > 0 {
                let start = end.saturating_sub(size);
                let mut input = self.inputs[index].clone();
                if change(&mut input, start, end).is_some() {
                    self.replace(index, input);
                }
                end = start;
            }
            size /= 2;
        }
    }
}
