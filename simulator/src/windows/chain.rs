//! Several programs at one attach point: which ones can be there together, and where their chain ends.
//!
//! Given: the names of an input, and what the platform says of the attach point, return values and fields of the context.
//! Computed: the programs in their order; after each, whether the next one runs.
//! The network extension runs programs so (`net_ebpf_extension_hook_invoke_programs`): on one context, until one could not be run,
//! or until the hook's own rule says that it is enough. The result is that of the last.

use bpf2sys_platform::{AttachPoint, ProgramType};

use super::kernel::Kernel;
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::request::Input;

/// Most programs at one attach point (`NET_EBPF_EXT_MAX_CLIENTS_PER_HOOK_MULTI_ATTACH`).
const MAX_ATTACHED: usize = 16;

impl Kernel {
    /// The programs of an input in the order in which they run: at least one.
    pub(super) fn attached(&self, load: usize, input: &Input) -> Result<Vec<usize>, SimulatorError> {
        let named = |name: &String| {
            self.program_named(load, name).ok_or_else(|| {
                let programs = self.module.programs.iter().filter(|p| p.load == load);
                let names: Vec<&str> = programs.map(|p| p.name.as_str()).collect();
                SimulatorError::Request(format!("there is no program {name:?}; there are {names:?}"))
            })
        };
        let first = named(&input.program)?;
        let mut attached = vec![first];
        if input.then.is_empty() {
            return Ok(attached);
        }
        for name in &input.then {
            let program = named(name)?;
            self.suits(first, program)?;
            attached.push(program);
        }
        let several = self.attach_point(first).and_then(AttachPoint::takes_several);
        if several != Some(true) {
            let point = self.attach_point_name(first);
            return Err(SimulatorError::Request(match several {
                Some(_) => format!("attach point {point} takes only one program"),
                None => format!("attach point {point} is not known to take more than one program"),
            }));
        }
        let count = attached.len();
        if count > MAX_ATTACHED {
            return Err(SimulatorError::Request(format!(
                "{count} programs at one attach point are more than {MAX_ATTACHED}"
            )));
        }
        Ok(attached)
    }

    /// Whether a program can be attached behind another.
    fn suits(&self, first: usize, program: usize) -> Result<(), SimulatorError> {
        let [first_one, one] = [first, program].map(|p| &self.module.programs[p]);
        let [first_type, its_type] = [first_one, one].map(|p| &p.program_type);
        let differs = if first_type.guid != its_type.guid {
            format!("program type {}, not {}", its_type.name, first_type.name)
        } else if first_one.attach_type != one.attach_type {
            let [first_point, its_point] = [first, program].map(|p| self.attach_point_name(p));
            format!("attach point {its_point}, not {first_point}")
        } else {
            return Ok(());
        };
        Err(SimulatorError::Request(format!(
            "{} can't be attached behind {}: it is for {differs}",
            one.name, first_one.name
        )))
    }

    /// Where a program is attached, by its attach type.
    fn attach_point(&self, program: usize) -> Option<&AttachPoint> {
        let program = &self.module.programs[program];
        let attach_type = program.attach_type?;
        let sections = program.program_type.sections.iter();
        let mut points = sections.filter(|point| point.attach_type.0 == attach_type);
        // There may be several names for it, of which not all say how many programs it takes.
        let first = points.clone().next();
        points.find(|point| point.attach_capability.is_some()).or(first)
    }

    fn attach_point_name(&self, program: usize) -> &str {
        let section = &self.module.programs[program].section;
        self.attach_point(program).map_or(section, |point| &point.prefix)
    }

    /// Whether no further program runs after one that gave `result`. `before` is the context as it was for the first one.
    pub(super) fn ends_chain(&self, of: &ProgramType, result: u32, before: &[u8], context: u64) -> bool {
        // As a hook compares its result: with 32 bits.
        let mut ends = of.return_values.iter().filter(|value| value.ends_chain);
        let mut watched = of.context.fields.iter().filter(|field| field.change_ends_chain);
        ends.any(|value| value.value as u32 == result)
            || watched.any(|field| {
                let (start, size) = (field.offset as usize, field.size as usize);
                let now = self.memory.read(context + u64::from(field.offset), size);
                now.as_deref() != before.get(start..start + size)
            })
    }
}
