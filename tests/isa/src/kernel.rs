//! The Linux kernel as an engine: its verifier, and its compiler or interpreter, whichever the machine has switched on.
//!
//! A case's memory is the value of an array map, whose address the program gets by `lddw`: plain memory of a known size to
//! the kernel's verifier. `r0` is stored behind it at the exit, because a program's return value has 32 bits there. Helpers
//! of Windows do not exist there: programs that call one are refused.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;

use bpf2sys_bytecode::{
    AluOp, Callee, FunctionIndex, Imm64, Instruction, Module, Operand, Reference, Reg, Slot, Width, WordSize, encode,
};

use crate::engine::{Case, Engine, Outcome};

mod packets;
mod syscalls;
mod verdict;

pub use packets::{Ran, run_packets};
pub use verdict::{Verdict, release, verdict};

/// Bytes of the map's value: the most memory that a case can have, and `r0`.
const VALUE_BYTES: u32 = 0x10000;
/// Where `r0` is stored in it.
const RESULT: usize = VALUE_BYTES as usize - 8;
/// What the line begins with in which the verifier counts what it has looked at: the last one, whatever the verdict is.
const PROCESSED: &str = "processed ";
/// What its statistics begin with. Not every message before them ends its line.
const STATISTICS: &str = "verification time ";
/// Room for the verifier's messages.
const LOG_BYTES: usize = 0x10_0000;

/// `lddw` of an address in a map's value: `src` of the first slot (Linux `BPF_PSEUDO_MAP_VALUE`).
const PSEUDO_MAP_VALUE: u8 = 2;

/// `BPF_PROG_TYPE_RAW_TRACEPOINT`: runs on the system call's own processor, right away, and the kernel gives its programs
/// stacks of their own, so that each function of a chain of calls may use 512 bytes.
const RAW_TRACEPOINT: u32 = 17;

/// What the reasons of the verifier begin with.
const REFUSED: &str = "refused: ";

/// The kernel.
pub struct Kernel {
    value: syscalls::SharedValue,
    log: Vec<u8>,
}

impl Kernel {
    /// # Errors
    /// When `bpf(2)` is missing or not allowed.
    pub fn new() -> io::Result<Kernel> {
        let value = syscalls::SharedValue::new(VALUE_BYTES)?;
        // Loading may be refused where creating maps is not.
        syscalls::load(
            RAW_TRACEPOINT,
            &[0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0],
            &mut [],
        )?;
        Ok(Kernel { value, log: Vec::new() })
    }

    fn execute(&mut self, case: &Case) -> Result<Outcome, String> {
        let mut instructions = case.module.functions.iter().flat_map(|f| &f.instructions);
        if instructions.any(|insn| matches!(insn.op, Instruction::Call(Callee::Helper(_)))) {
            return Err(format!("{REFUSED}calls a helper"));
        }
        let memory = case.memory.len();
        if memory > RESULT {
            return Err(format!("the memory has {memory} bytes, more than {RESULT}"));
        }
        let code = self.program(&case.module, memory as i32);
        let program = match syscalls::load(RAW_TRACEPOINT, &code, &mut []) {
            Ok(program) => program,
            Err(error) => return Err(self.reason(&code, &error)),
        };
        let value = self.value.bytes();
        value[..memory].copy_from_slice(&case.memory);
        value[RESULT..].fill(0);
        syscalls::run(&program, &mut self.value).map_err(|e| format!("run: {e}"))?;
        let value = self.value.bytes();
        let mut r0 = [0; 8];
        r0.copy_from_slice(&value[RESULT..]);
        Ok(Outcome {
            r0: u64::from_le_bytes(r0),
            memory: value[..memory].to_vec(),
        })
    }

    /// Why the verifier refuses a program: the last thing it says about it.
    fn reason(&mut self, code: &[u8], error: &io::Error) -> String {
        self.log.resize(LOG_BYTES, 0);
        self.log.fill(0);
        // Only the messages count; the refusal itself is known.
        drop(syscalls::load(RAW_TRACEPOINT, code, &mut self.log));
        match last_message(&text(&self.log)) {
            Some(line) => format!("{REFUSED}{line}"),
            None => format!("{REFUSED}{error}"),
        }
    }

    /// The encoded program: `r1` and `r2` are set before it, and where it exits, `r0` is stored.
    fn program(&self, module: &Module, memory: i32) -> Vec<u8> {
        let map = self.value.map.as_raw_fd();
        let address = |register, offset| Instruction::LoadImm64 {
            dst: register,
            value: Imm64::Pseudo {
                src: PSEUDO_MAP_VALUE,
                imm: map,
                next_imm: offset,
            },
        };
        let mov = |dst, imm| Instruction::Alu {
            size: WordSize::W64,
            op: AluOp::Mov,
            dst,
            src: Operand::Imm(imm),
        };
        let mut functions: Vec<(FunctionIndex, Vec<Instruction>)> = (0..)
            .map(FunctionIndex)
            .zip(&module.functions)
            .map(|(index, f)| (index, f.instructions.iter().map(|insn| insn.op).collect()))
            .collect();
        if let Some((_, main)) = functions.first_mut() {
            // Each exit becomes a jump of the same size to the end, so that no other jump changes.
            let slots: i32 = main.iter().map(|i| i.slots() as i32).sum();
            let mut at = 0;
            for instruction in main.iter_mut() {
                at += instruction.slots() as i32;
                if *instruction == Instruction::Exit {
                    *instruction = Instruction::Jump {
                        size: WordSize::W32,
                        offset: slots - at,
                    };
                }
            }
            main.splice(0..0, [address(Reg::R1, 0), mov(register(2), memory)]);
            main.extend([
                address(Reg::R1, RESULT as i32),
                Instruction::Store {
                    width: Width::Dw,
                    base: Reg::R1,
                    offset: 0,
                    src: Operand::Reg(Reg::R0),
                },
                mov(Reg::R0, 0),
                Instruction::Exit,
            ]);
        }
        // Random programs use neither maps nor global variables.
        encode_all(&functions, |_| 0)
    }
}

/// What the verifier has written into a buffer.
fn text(log: &[u8]) -> String {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..end]).into_owned()
}

/// What the verifier says last, before its statistics.
fn last_message(log: &str) -> Option<&str> {
    let said = [STATISTICS, PROCESSED].iter().find_map(|start| log.find(start));
    let said = said.map_or(log, |end| &log[..end]);
    said.lines().rev().find(|line| !line.is_empty())
}

fn register(number: u8) -> Reg {
    Reg::new(number).unwrap_or(Reg::R0)
}

/// Functions one behind the other; `number` gives the numbers for everything else that they refer to.
fn encode_all(functions: &[(FunctionIndex, Vec<Instruction>)], number: impl Fn(Reference) -> i32) -> Vec<u8> {
    let mut starts = BTreeMap::new();
    let mut slots = 0;
    for (index, function) in functions {
        starts.insert(index.index(), slots);
        slots += function.iter().map(|i| i.slots() as i32).sum::<i32>();
    }
    let mut code: Vec<u8> = Vec::with_capacity(slots as usize * Slot::SIZE);
    for instruction in functions.iter().flat_map(|(_, function)| function) {
        let behind = (code.len() / Slot::SIZE) as i32 + 1;
        let encoded = encode(instruction, |reference| match reference {
            Reference::Function(function) => starts.get(&function.index()).map_or(0, |start| start - behind),
            other => number(other),
        });
        code.extend(encoded.into_iter().flat_map(Slot::to_bytes));
    }
    code
}

impl Engine for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn refused(&self, error: &str) -> bool {
        error.starts_with(REFUSED)
    }

    fn run(&mut self, cases: &[Case]) -> Vec<Result<Outcome, String>> {
        cases.iter().map(|case| self.execute(case)).collect()
    }
}
