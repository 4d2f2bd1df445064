//! Random programs that want something: most steps are what a compiler would write for a sensible line of C, and some are
//! wrong by a little. About half of the programs should be accepted.
//!
//! A program is made of a few steps (`plan`). Each knows what it needs in registers, and looks there for it
//! (`state`). While there are mistakes left to make (`Writer::slip`), a step may leave a check out, check for one byte
//! too few, take a wrong register: what a step then believes is not true. At last an instruction or two may be changed
//! (`mutate`), whatever it was.

mod blocks;
mod calls;
mod copies;
mod indexed;
mod maps;
mod memory;
mod mutate;
mod numbers;
mod packet;
mod plan;
mod state;
mod walks;
mod writer;

use bpf2sys_bytecode::Module;
use bpf2sys_isa_tests::Random;

/// A random program.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The module; its first function is the program.
    pub module: Module,
    /// How many mistakes were made on purpose.
    pub mistakes: u32,
}

/// Program `index` of the sequence of `seed`.
pub fn generate(seed: u64, index: u64) -> Generated {
    let mut random = Random::of(seed, index);
    let plan = plan::Plan::draw(&mut random);
    let (mut module, mut mistakes) = writer::write(&mut random, &plan);
    for _ in 0..plan.mutations {
        mutate::mutate(&mut random, &mut module);
        mistakes += 1;
    }
    Generated { module, mistakes }
}
