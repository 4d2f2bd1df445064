//! The addresses of helpers and BTF-resolved functions in a program's tables, and how they change while it is loaded
//! (native module contract §1.2).
//!
//! Given: what a program's tables resolve to. Computed: stand-ins to call, and the tables with their addresses. When a
//! provider comes back, each function gets another stand-in, and the one before is no longer to be called.

use zerocopy::{FromZeros, IntoBytes};

use super::helpers::TAIL_CALL;
use super::kernel::{Kernel, no_memory};
use super::memory::OutOfMemory;
use super::module::LoadedProgram;
use super::thunks::Target;
use crate::error::SimulatorError;
use crate::tables::{AddressData, HelperData};

/// How many addresses a function has in turn. An address that was kept over a multiple of as many reloads goes unnoticed,
/// so the number is prime and large.
const TURNS: usize = 61;

/// The tables of one program.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// `helper_data`; 0 if there are no helpers.
    pub helper_data: u64,
    /// `btf_resolved_function_data`; 0 if there are no such functions.
    pub btf_data: u64,
    /// Stand-ins by turn: for each slot of the helpers' table, then for each of the functions'; 0 for holes.
    turns: Vec<Vec<u64>>,
    /// The turn that the tables have now.
    turn: usize,
}

impl Kernel {
    /// Makes the tables of a program, which is about to get the index `program`.
    pub(super) fn make_addresses(
        &mut self,
        program: usize,
        loaded: &LoadedProgram,
    ) -> Result<Addresses, SimulatorError> {
        let first = self.stand_ins(program, loaded)?;
        let (helpers, functions) = tables(loaded, &first);
        let name = &loaded.name;
        Ok(Addresses {
            helper_data: self.allocate_table(&helpers, &format!("helper_data of program {name}"))?,
            btf_data: self.allocate_table(&functions, &format!("btf_resolved_function_data of program {name}"))?,
            turns: vec![first],
            turn: 0,
        })
    }

    /// Gives each function of a program another address.
    pub(super) fn reload_addresses(&mut self, program: usize) -> Result<(), SimulatorError> {
        let Some(loaded) = self.module.programs.get_mut(program) else {
            return Ok(());
        };
        let mut addresses = std::mem::take(&mut loaded.addresses);
        let loaded = loaded.clone();
        for &former in addresses.turns.get(addresses.turn).into_iter().flatten() {
            self.thunks.change(former, Target::Former { program });
        }
        addresses.turn = (addresses.turn + 1) % TURNS;
        match addresses.turns.get(addresses.turn) {
            Some(again) => {
                for (&address, target) in again.iter().zip(targets(program, &loaded)) {
                    self.thunks
                        .change(address, target.unwrap_or(Target::Former { program }));
                }
            }
            None => addresses.turns.push(self.stand_ins(program, &loaded)?),
        }
        let (helpers, functions) = tables(&loaded, &addresses.turns[addresses.turn]);
        for (table, bytes) in [(addresses.helper_data, helpers), (addresses.btf_data, functions)] {
            let written = table == 0 || self.memory.rewrite(table, &bytes).map_err(full)?;
            if !written {
                return Err(no_memory("the tables of a program"));
            }
        }
        self.module.programs[program].addresses = addresses;
        Ok(())
    }

    fn stand_ins(&mut self, program: usize, loaded: &LoadedProgram) -> Result<Vec<u64>, SimulatorError> {
        targets(program, loaded)
            .map(|target| match target {
                Some(target) => self.thunks.add(&mut self.memory, target).map_err(full),
                None => Ok(0),
            })
            .collect()
    }
}

fn full(_: OutOfMemory) -> SimulatorError {
    no_memory("the kernel's code")
}

/// What each slot of a program's tables leads to, the helpers' first; `None` for holes.
fn targets(program: usize, loaded: &LoadedProgram) -> impl Iterator<Item = Option<Target>> {
    let helpers = loaded.helpers.iter().enumerate();
    let helpers = helpers.map(move |(slot, helper)| helper.as_ref().map(|_| Target::Helper { program, slot }));
    let functions = loaded.btf_functions.iter().enumerate();
    let functions = functions.map(move |(slot, f)| f.as_ref().map(|_| Target::BtfFunction { program, slot }));
    helpers.chain(functions)
}

/// The bytes of both tables.
fn tables(loaded: &LoadedProgram, stand_ins: &[u64]) -> (Vec<u8>, Vec<u8>) {
    let (mut helpers, mut functions) = (Vec::new(), Vec::new());
    let mut stand_ins = stand_ins.iter().copied();
    for (helper, address) in loaded.helpers.iter().zip(&mut stand_ins) {
        let mut data: HelperData = HelperData::new_zeroed();
        data.address.set(address);
        data.tail_call = u8::from(helper.as_ref().is_some_and(|h| h.id == TAIL_CALL));
        helpers.extend_from_slice(data.as_bytes());
    }
    for address in stand_ins {
        let mut data: AddressData = AddressData::new_zeroed();
        data.address.set(address);
        functions.extend_from_slice(data.as_bytes());
    }
    (helpers, functions)
}
