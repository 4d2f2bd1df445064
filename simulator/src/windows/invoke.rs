//! Running programs: context and packet in memory, the programs of an attach point with their tail calls, and what is seen
//! afterwards.

use std::collections::BTreeMap;

use super::Exchange;
use super::clock::step_begins;
use super::kernel::{Activity, Kernel};
use super::memory::{OutOfMemory, Use};
use super::module::LoadedProgram;
use super::trace::SlotCounts;
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::hex_bytes::HexBytes;
use crate::request::{ChainLink, Input, InvocationResult, MachineChange, Reload};
use crate::rule::Rule;

/// The runtime's structure before each context (`EBPF_CONTEXT_HEADER`).
const CONTEXT_HEADER: usize = 64;
const HEADER_FILL: u8 = 0xC3;
/// Most packet bytes.
const MAX_PACKET: usize = 0xFFFE;
/// Most invocations of one request.
const MAX_REPEAT: u32 = 1_000_000;

/// What programs did and are doing.
#[derive(Debug, Default)]
pub struct RunState {
    /// Address of the context of the running program.
    pub context: u64,
    /// Start and length of the packet.
    pub packet: (u64, u64),
    /// The program that a tail call has chosen.
    pub pending: Option<usize>,
    /// Tail calls of this invocation.
    pub tail_calls_done: u32,
    /// Lines printed.
    pub printed: Vec<String>,
    /// By function of the request's answers: how often it has answered.
    pub answered: BTreeMap<String, u64>,
    /// By mishap of the request: calls that it counts.
    pub calls_counted: Vec<u64>,
    /// Calls of this invocation that failed on purpose.
    pub failed: Vec<String>,
    /// Calls by program and helper id.
    pub calls: BTreeMap<(usize, u32), u64>,
    /// Calls by program and slot of its BTF-resolved functions.
    pub btf_calls: BTreeMap<(usize, usize), u64>,
    /// State of the random numbers.
    pub random: u64,
    /// The clock, in units of 100 ns.
    pub time: u64,
    /// Redirect context of this invocation.
    pub redirect_context: Option<HexBytes>,
    /// Deepest stack use.
    pub max_stack: u32,
    /// Instructions of interpreted programs, if they are counted.
    pub counts: Option<SlotCounts>,
}

/// Where the data of one invocation lies.
struct Frame {
    header: u64,
    context: u64,
    block: u64,
    meta_length: usize,
    packet_length: usize,
}

impl Kernel {
    /// Runs all inputs, as they come.
    pub fn run_inputs(&mut self, exchange: &mut dyn Exchange) -> Result<(), SimulatorError> {
        let mut frame = None;
        while let Some(input) = exchange.next()? {
            let repeat = input.repeat.max(1);
            if repeat > MAX_REPEAT {
                return Err(SimulatorError::Request(format!(
                    "{repeat} repetitions are more than {MAX_REPEAT}"
                )));
            }
            let load = input.load as usize;
            self.be(load)?;
            let programs = self.attached(load, &input)?;
            let program = programs[0];
            self.change_machine(&input.machine)?;
            self.provider_events(&input.events)?;
            self.set_presets(&input.presets)?;
            let image = self.context_image(program, &input)?;
            let frame = frame.insert(self.make_frame(frame.as_ref(), &input, &image)?);
            for _ in 0..repeat {
                if self.request.reload != Reload::Never {
                    for program in 0..self.module.programs.len() {
                        self.reload_addresses(program)?;
                    }
                }
                let result = self.invoke(&programs, &input, &image, frame)?;
                exchange.done(result)?;
            }
            if let Some(label) = self.memory.damaged_slack() {
                let detail = format!("{label} were written to");
                self.activities.push(Activity::Program(program));
                return Err(self.broken(Rule::RuntimeMemory, detail));
            }
        }
        step_begins();
        // Unloading begins with the load that came last.
        self.be(self.module.loads.len().saturating_sub(1))?;
        if let Some(frame) = frame {
            self.memory.free(frame.block);
            self.memory.free(frame.header);
        }
        Ok(())
    }

    fn change_machine(&mut self, change: &MachineChange) -> Result<(), SimulatorError> {
        let machine = &mut self.request.machine;
        if let Some(cpu) = change.cpu {
            if cpu >= machine.cpus {
                return Err(SimulatorError::Request(format!("processor {cpu} of {}", machine.cpus)));
            }
            machine.cpu = cpu;
            self.maps.cpu = cpu;
        }
        machine.process_id = change.process_id.unwrap_or(machine.process_id);
        machine.thread_id = change.thread_id.unwrap_or(machine.thread_id);
        self.state.time = self.state.time.max(change.time.unwrap_or(0));
        Ok(())
    }

    /// The context's bytes as the request gives them, before data pointers are set.
    fn context_image(&self, program: usize, input: &Input) -> Result<Vec<u8>, SimulatorError> {
        let context = &self.module.programs[program].program_type.context;
        let size = usize::try_from(context.size).unwrap_or(0);
        let name = &input.program;
        if input.context.0.len() > size {
            let given = input.context.0.len();
            return Err(SimulatorError::Request(format!(
                "the context of {name} has {size} bytes, {given} are given"
            )));
        }
        if context.data < 0 && (!input.packet.0.is_empty() || input.meta.is_some()) {
            let what = &context.struct_name;
            return Err(SimulatorError::Request(format!(
                "{name} takes no packet: {what} has no data pointers"
            )));
        }
        if context.data_meta < 0 && input.meta.is_some() {
            return Err(SimulatorError::Request(format!(
                "{name} takes no metadata: its context has no pointer for it"
            )));
        }
        if input.packet.0.len() > MAX_PACKET {
            let length = input.packet.0.len();
            return Err(SimulatorError::Request(format!(
                "the packet has {length} bytes, at most {MAX_PACKET} are possible"
            )));
        }
        let mut image = input.context.0.clone();
        image.resize(size, 0);
        Ok(image)
    }

    /// Makes room for context and packet, where those of the input before were if they fit.
    fn make_frame(&mut self, before: Option<&Frame>, input: &Input, image: &[u8]) -> Result<Frame, SimulatorError> {
        let mut allocate = |before: Option<u64>, length, align, label| {
            let memory = &mut self.memory;
            match before {
                Some(start) => memory.reallocate(start, length, align, label, Use::ReadWrite),
                None => memory.allocate(length, align, label, Use::ReadWrite),
            }
            .map_err(|OutOfMemory| super::kernel::no_memory(label))
        };
        let meta_length = input.meta.as_ref().map_or(0, |m| m.0.len());
        let packet_length = input.packet.0.len();
        let header = allocate(
            before.map(|f| f.header),
            CONTEXT_HEADER + image.len(),
            16,
            "the context",
        )?;
        let block = allocate(before.map(|f| f.block), meta_length + packet_length, 1, "the packet")?;
        self.memory
            .split(header, CONTEXT_HEADER as u64, "the context header".into(), Use::Kernel);
        Ok(Frame {
            header,
            context: header + CONTEXT_HEADER as u64,
            block,
            meta_length,
            packet_length,
        })
    }

    fn invoke(
        &mut self,
        programs: &[usize],
        input: &Input,
        image: &[u8],
        frame: &Frame,
    ) -> Result<InvocationResult, SimulatorError> {
        let program_type = self.module.programs[programs[0]].program_type.clone();
        let layout = &program_type.context;
        let data = frame.block + frame.meta_length as u64;
        let end = data + frame.packet_length as u64;
        let meta = if input.meta.is_some() { frame.block } else { 0 };
        let pointers = [(layout.data, data), (layout.data_end, end), (layout.data_meta, meta)];
        let mut context = image.to_vec();
        for (offset, value) in pointers {
            if let Some(place) = usize::try_from(offset).ok().and_then(|o| context.get_mut(o..o + 8)) {
                place.copy_from_slice(&value.to_le_bytes());
            }
        }
        let meta_bytes = input.meta.as_ref().map_or(&[][..], |m| &m.0);
        let written = self.memory.fill(frame.header, CONTEXT_HEADER, HEADER_FILL)
            && self.memory.write(frame.context, &context)
            && self.memory.write(frame.block, meta_bytes)
            && self.memory.write(data, &input.packet.0);
        if !written {
            return Err(super::kernel::no_memory("the context"));
        }
        self.state.context = frame.context;
        self.state.packet = (data, frame.packet_length as u64);
        self.state.redirect_context = None;

        let (executed_before, time_before) = (self.executed(), self.cpu.nanoseconds());
        let several = programs.len() > 1;
        let mut chain = Vec::new();
        let mut last = ChainLink::default();
        let mut not_run = None;
        for &program in programs {
            (last, not_run) = self.run_program(program, frame, &pointers)?;
            if let Some(why) = &mut not_run {
                if several {
                    *why = format!("{}: {why}", last.program);
                }
                break;
            }
            if several {
                chain.push(last.clone());
                if self.ends_chain(&program_type, last.result, &context, frame.context) {
                    break;
                }
            }
        }

        // Addresses mean nothing outside: pointers are shown relative to the packet.
        let mut after = self.memory.read(frame.context, context.len()).unwrap_or_default();
        for (offset, value) in pointers {
            if let Some(place) = usize::try_from(offset).ok().and_then(|o| after.get_mut(o..o + 8)) {
                let shown = if value == 0 { 0 } else { value.wrapping_sub(data) };
                place.copy_from_slice(&shown.to_le_bytes());
            }
        }
        let tell = self.request.tell;
        let told = |address, length| {
            let length = if input.without_data { 0 } else { length };
            HexBytes(self.memory.read(address, length).unwrap_or_default())
        };
        let mut done = InvocationResult {
            program: input.program.clone(),
            result: last.result,
            result_name: last.result_name,
            tail_calls: last.tail_calls,
            chain,
            context: HexBytes(if input.without_data { Vec::new() } else { after }),
            packet: told(data, frame.packet_length),
            meta: input.meta.as_ref().map(|_| told(frame.block, frame.meta_length)),
            redirect_context: self.state.redirect_context.take(),
            not_run,
            printed: std::mem::take(&mut self.state.printed),
            failed: std::mem::take(&mut self.state.failed),
            instructions: self
                .executed()
                .zip(executed_before)
                .map(|(after, before)| after - before),
            time_ns: (self.cpu.nanoseconds().zip(time_before)).map(|(after, before)| after - before),
            ..InvocationResult::default()
        };
        if tell.records {
            done.records = self.maps.take_records();
        }
        if tell.maps {
            done.maps = Some(self.all_contents());
        }
        Ok(done)
    }

    /// Runs a program with its tail calls. Gives what came of it, and why the runtime did not run it.
    fn run_program(
        &mut self,
        program: usize,
        frame: &Frame,
        pointers: &[(i32, u64)],
    ) -> Result<(ChainLink, Option<String>), SimulatorError> {
        step_begins();
        self.state.tail_calls_done = 0;
        let mut current = program;
        let mut tail_calls = Vec::new();
        // The provider of the program type is needed at the start, those of BTF-resolved functions before each program.
        let mut not_run = self.without_provider(program);
        let result = loop {
            self.state.pending = None;
            not_run = not_run.or_else(|| self.without_functions(current));
            if not_run.is_some() {
                break 0;
            }
            let value = self.execute(current, frame.context)?;
            let Some(next) = self.state.pending else {
                break value as u32;
            };
            self.state.tail_calls_done += 1;
            tail_calls.push(self.module.programs[next].name.clone());
            current = next;
        };
        self.check_after(current, frame, pointers)?;
        self.maps.release_retired(&mut self.memory);
        let LoadedProgram { name, program_type, .. } = &self.module.programs[program];
        let mut values = program_type.return_values.iter();
        let named = values.find(|v| v.value as u32 == result && not_run.is_none());
        let link = ChainLink {
            program: name.clone(),
            result,
            result_name: named.map(|v| v.name.clone()),
            tail_calls,
        };
        Ok((link, not_run))
    }

    /// Executes a program on a context and gives its result.
    fn execute(&mut self, program: usize, context: u64) -> Result<u64, SimulatorError> {
        self.be(self.module.programs[program].load)?;
        if let Some(interpreted) = self.interpreted.clone() {
            return self.interpret(&interpreted, program, context);
        }
        let LoadedProgram {
            function,
            runtime_context,
            ..
        } = self.module.programs[program];
        let value = self.call(function, &[context, runtime_context], Activity::Program(program))?;
        self.state.max_stack = self.state.max_stack.max(self.stack_depth());
        Ok(value)
    }

    /// What belongs to the runtime must be as it was.
    fn check_after(&mut self, program: usize, frame: &Frame, pointers: &[(i32, u64)]) -> Result<(), SimulatorError> {
        self.activities.push(Activity::Program(program));
        let header = self.memory.read(frame.header, CONTEXT_HEADER).unwrap_or_default();
        if header.iter().any(|&b| b != HEADER_FILL) {
            return Err(self.broken(
                Rule::RuntimeMemory,
                "the context header, 64 bytes before the context, was written to",
            ));
        }
        for &(offset, value) in pointers {
            let Some(offset) = u64::try_from(offset).ok() else {
                continue;
            };
            if self.memory.read_u64(frame.context + offset) != Some(value) {
                return Err(self.broken(
                    Rule::RuntimeMemory,
                    format!("the pointer at offset {offset} of the context was changed"),
                ));
            }
        }
        self.activities.pop();
        Ok(())
    }
}
