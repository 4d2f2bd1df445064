//! The Linux kernel's compiler, by `bpf(2)`, for programs of XDP that need no more than maps.
//!
//! The C is the same, compiled against the kernel's context and with its addresses widened where they are read. Time is what the
//! kernel measures when it is asked to run a program many times; what its loop around that takes is found by a program that only
//! returns.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use bpf2sys_bytecode::{AluOp, Callee, Instruction, Module, Operand, Reference, Reg, Slot, WordSize, encode};

use super::Error;
use super::flat;
use super::workload::Workload;
use super::world::World;

const MAP_CREATE: i64 = 0;
const MAP_UPDATE_ELEM: i64 = 2;
const PROG_LOAD: i64 = 5;
const PROG_TEST_RUN: i64 = 10;
/// `BPF_PROG_TYPE_XDP`.
const XDP: u32 = 6;
/// Helpers that the kernel has under the same numbers, and that give the same there: those of maps.
const SAME_HELPERS: std::ops::RangeInclusive<i32> = 1..=3;
/// How often a program runs in one system call.
const REPEAT: u32 = 20_000;
/// `BPF_LOG_STATS`: the verifier says what is wrong, and not what it looks at.
const LOG_STATS: u32 = 4;
/// Room for the kernel's reasons.
const LOG: usize = 1 << 20;

/// `union bpf_attr`, as far as `BPF_PROG_TEST_RUN` reaches.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    words: [u32; 24],
}

/// A program in the kernel.
pub struct Kernel {
    program: OwnedFd,
    /// What does nothing but return.
    empty: OwnedFd,
    _maps: Vec<OwnedFd>,
}

impl Kernel {
    /// Loads a program with its maps.
    pub fn new(module: &Module, workload: &Workload, world: &World) -> Result<Kernel, Error> {
        let (program, function) = workload.program(module)?;
        if function.section != "xdp" {
            return Err("no program of XDP".into());
        }
        if !module.globals.is_empty() {
            return Err("has global variables".into());
        }
        for insn in module.functions.iter().flat_map(|function| &function.instructions) {
            if let Instruction::Call(Callee::Helper(id)) = insn.op
                && !SAME_HELPERS.contains(&id)
            {
                return Err(format!("calls helper {id}"));
            }
        }
        let mut maps = Vec::new();
        for map in &module.maps {
            let d = &map.definition;
            let mut attributes = Attributes::default();
            attributes.words[..4].copy_from_slice(&[d.map_type, d.key_size, d.value_size, d.max_entries]);
            maps.push(descriptor(bpf(MAP_CREATE, &mut attributes))?);
        }
        for entry in &world.entries {
            let mut attributes = Attributes::default();
            attributes.words[0] = maps[entry.map].as_raw_fd() as u32;
            attributes.address(2, entry.key.as_ptr());
            attributes.address(4, entry.value.as_ptr());
            bpf(MAP_UPDATE_ELEM, &mut attributes).map_err(|e| format!("an entry of a map: {e}"))?;
        }
        let empty = [
            Instruction::Alu {
                size: WordSize::W64,
                op: AluOp::Mov,
                dst: Reg::R0,
                src: Operand::Imm(1),
            },
            Instruction::Exit,
        ];
        let empty: Vec<u8> = (empty.iter())
            .flat_map(|instruction| encode(instruction, |_| 0))
            .flat_map(Slot::to_bytes)
            .collect();
        let descriptor_of = |reference| match reference {
            Reference::Map(map) => maps[map.index()].as_raw_fd(),
            _ => 0,
        };
        Ok(Kernel {
            program: load(&flat::bytecode(module, program, |op| op, descriptor_of))?,
            empty: load(&empty)?,
            _maps: maps,
        })
    }

    /// What it returns for a packet, and what it makes of that.
    pub fn run(&self, packet: &[u8]) -> Result<(u32, Vec<u8>), Error> {
        let mut out = vec![0; packet.len() + 256];
        let attributes = test_run(&self.program, packet, &mut out, 1)?;
        out.truncate(attributes.words[3] as usize);
        Ok((attributes.words[1], out))
    }

    /// Nanoseconds of one run, over these packets: the kernel's own figure, which is a whole number for each of them.
    pub fn nanoseconds(&self, packets: &[Vec<u8>]) -> Result<f64, Error> {
        let mut sum = 0.0;
        for packet in packets {
            let mut out = vec![0; packet.len() + 256];
            let mut time = |program| {
                let attributes = test_run(program, packet, &mut out, REPEAT)?;
                Ok::<f64, Error>(f64::from(attributes.words[9]))
            };
            let empty = time(&self.empty)?;
            sum += time(&self.program)? - empty;
        }
        Ok(sum / packets.len() as f64)
    }
}

impl Attributes {
    fn address(&mut self, word: usize, pointer: *const u8) {
        let address = pointer as u64;
        self.words[word] = address as u32;
        self.words[word + 1] = (address >> 32) as u32;
    }
}

/// `bpf(2)`.
fn bpf(command: i64, attributes: &mut Attributes) -> io::Result<i64> {
    // SAFETY: the kernel reads, and for some commands writes, as many bytes as it is told at the address of `attributes`, which
    // is exclusively borrowed. What its pointers point to is the duty of the callers, all in this file.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn descriptor(number: io::Result<i64>) -> Result<OwnedFd, Error> {
    let number = number.map_err(|e| format!("bpf(2): {e}"))?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

fn load(bytecode: &[u8]) -> Result<OwnedFd, Error> {
    let mut log = vec![0_u8; LOG];
    let mut attributes = Attributes::default();
    attributes.words[..2].copy_from_slice(&[XDP, (bytecode.len() / 8) as u32]);
    attributes.address(2, bytecode.as_ptr());
    attributes.address(4, c"GPL".as_ptr().cast());
    attributes.words[6..8].copy_from_slice(&[LOG_STATS, log.len() as u32]);
    attributes.address(8, log.as_mut_ptr());
    descriptor(bpf(PROG_LOAD, &mut attributes)).map_err(|error| {
        let text = String::from_utf8_lossy(&log);
        let reason = text.trim_end_matches('\0').lines().find(|line| !line.is_empty());
        format!("{error}: {}", reason.unwrap_or_default())
    })
}

fn test_run(program: &OwnedFd, packet: &[u8], out: &mut [u8], repeat: u32) -> Result<Attributes, Error> {
    let mut attributes = Attributes::default();
    attributes.words[0] = program.as_raw_fd() as u32;
    attributes.words[2..4].copy_from_slice(&[packet.len() as u32, out.len() as u32]);
    attributes.address(4, packet.as_ptr());
    attributes.address(6, out.as_mut_ptr());
    attributes.words[8] = repeat;
    bpf(PROG_TEST_RUN, &mut attributes).map_err(|e| format!("BPF_PROG_TEST_RUN: {e}"))?;
    Ok(attributes)
}
