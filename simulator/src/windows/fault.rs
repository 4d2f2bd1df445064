//! What a fault of native code means: which instruction of which program, and what it touched.

use iced_x86::{Formatter, NasmFormatter};
use yaxpeax_arch::{Decoder, U8Reader};

use super::cpu::{Access, Cause, Exception};
use super::kernel::Kernel;
use crate::address_space::AddressSpace;
use crate::error::{CodeLocation, Fault, SimulatorError, TimeOut};
use crate::image::Image;

impl Kernel {
    /// The error for an exception of the image's code.
    pub fn exception(&self, exception: &Exception) -> SimulatorError {
        let location = self.locate(exception.pc);
        let mut accessed = None;
        let kind = match exception.cause {
            Cause::TimeUp => {
                return SimulatorError::TimeOut(Box::new(TimeOut {
                    limit_ms: self.request.time_limit_ms,
                    during: Some(self.during()),
                    location: Some(location),
                }));
            }
            Cause::Access(access, address) => {
                accessed = Some(self.memory.place(address));
                match access {
                    Access::Read => "access violation (read)",
                    Access::Write => "access violation (write)",
                    Access::Execute => "access violation (execute)",
                }
            }
            Cause::GeneralProtection => "general protection fault (an address that cannot exist)",
            Cause::IllegalInstruction => "illegal instruction",
            Cause::DivideError => "divide error",
            Cause::Breakpoint => "breakpoint",
            Cause::SystemCall => "system call instruction",
            Cause::Misaligned(address) => {
                accessed = Some(self.memory.place(address));
                "datatype misalignment"
            }
            Cause::NoSuchAddress => "access violation (an address that cannot exist)",
            Cause::Other(what) => what,
        };
        SimulatorError::Fault(Box::new(Fault {
            kind: kind.into(),
            during: self.during(),
            location,
            accessed,
        }))
    }

    /// Where an instruction pointer is.
    pub fn locate(&self, rip: u64) -> CodeLocation {
        let Some(section) = self.image.section_at(rip) else {
            return CodeLocation {
                outside: Some(self.memory.place(rip)),
                ..CodeLocation::default()
            };
        };
        let program = self
            .functions
            .range(..=rip)
            .next_back()
            .filter(|&(&start, _)| start >= section.start)
            .map(|(&start, name)| (name.clone(), (rip - start) as u32));
        CodeLocation {
            section: Some(section.name.clone()),
            rva: Some((rip - self.image.base) as u32),
            program: program.as_ref().map(|(name, _)| name.clone()),
            program_offset: program.map(|(_, offset)| offset),
            instruction: self.disassemble(rip),
            outside: None,
        }
    }

    /// The instruction at an address of the image, with x86-64 targets as RVAs and ARM64 targets as distances.
    fn disassemble(&self, pc: u64) -> Option<String> {
        let region = self.memory.region(pc)?;
        let length = (region.start + region.length - pc).min(15) as usize;
        let bytes = self.memory.read(pc, length)?;
        if self.image.machine == Image::ARM64 {
            let word = bytes.get(..4)?;
            let decoded = yaxpeax_arm::armv8::a64::InstDecoder::default().decode(&mut U8Reader::new(word));
            return Some(match decoded {
                Ok(instruction) => instruction.to_string(),
                Err(_) => format!(".inst {:#010x}", crate::image::read_u32(word, 0)?),
            });
        }
        let mut decoder = iced_x86::Decoder::with_ip(64, &bytes, pc - self.image.base, iced_x86::DecoderOptions::NONE);
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        let mut text = String::new();
        NasmFormatter::new().format(&instruction, &mut text);
        Some(text)
    }
}
