//! Addresses that native code calls for functions of the kernel.

use super::host::Protection;
use super::memory::{Memory, OutOfMemory, PAGE, Region, Use};

/// A function of the kernel that native code can import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Import {
    /// `ntoskrnl.exe!RtlQueryRegistryValues`.
    RtlQueryRegistryValues,
    /// `ntoskrnl.exe!memcpy` and `memmove`, which differ only for overlapping memory.
    Memmove,
    /// `ntoskrnl.exe!memset`.
    Memset,
    /// `ntoskrnl.exe!memcmp`.
    Memcmp,
    /// `NETIO.SYS!NmrRegisterClient`.
    NmrRegisterClient,
    /// `NETIO.SYS!NmrDeregisterClient`.
    NmrDeregisterClient,
    /// `NETIO.SYS!NmrWaitForClientDeregisterComplete`.
    NmrWaitForClientDeregisterComplete,
    /// `NETIO.SYS!NmrClientAttachProvider`.
    NmrClientAttachProvider,
}

impl Import {
    /// The import of that name; module names are checked by the loader's rules.
    pub fn named(function: &str) -> Option<Import> {
        Some(match function {
            "RtlQueryRegistryValues" => Import::RtlQueryRegistryValues,
            "memcpy" | "memmove" => Import::Memmove,
            "memset" => Import::Memset,
            "memcmp" => Import::Memcmp,
            "NmrRegisterClient" => Import::NmrRegisterClient,
            "NmrDeregisterClient" => Import::NmrDeregisterClient,
            "NmrWaitForClientDeregisterComplete" => Import::NmrWaitForClientDeregisterComplete,
            "NmrClientAttachProvider" => Import::NmrClientAttachProvider,
            _ => return None,
        })
    }

    /// How many arguments it takes.
    pub fn arguments(self) -> usize {
        match self {
            Import::NmrDeregisterClient | Import::NmrWaitForClientDeregisterComplete => 1,
            Import::Memmove | Import::Memset | Import::Memcmp | Import::NmrRegisterClient => 3,
            Import::RtlQueryRegistryValues | Import::NmrClientAttachProvider => 5,
        }
    }
}

/// What a thunk stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Where functions that the kernel calls return to.
    Return,
    /// A function of the kernel.
    Import(Import),
    /// What checks the target of a call of an image with Control Flow Guard.
    GuardCheck,
    /// What checks it and jumps there.
    GuardDispatch,
    /// A helper, by program and slot in its table.
    Helper {
        /// Index of the program.
        program: usize,
        /// Slot in its helper table.
        slot: usize,
    },
    /// A BTF-resolved function, by program and slot in its table.
    BtfFunction {
        /// Index of the program.
        program: usize,
        /// Slot in its table.
        slot: usize,
    },
    /// A helper or BTF-resolved function of a program, which has another address now.
    Former {
        /// Index of the program.
        program: usize,
    },
    /// A helper of a program that is gone.
    Gone,
}

impl Target {
    /// The program in whose tables it is or was.
    fn program(self) -> Option<usize> {
        match self {
            Target::Helper { program, .. } | Target::BtfFunction { program, .. } | Target::Former { program } => {
                Some(program)
            }
            Target::Return | Target::Import(_) | Target::GuardCheck | Target::GuardDispatch | Target::Gone => None,
        }
    }
}

const STRIDE: usize = 16;
/// The last 8 bytes of a page hold the address of the trap.
const PER_PAGE: usize = (PAGE - 8) / STRIDE;

/// How a call of a thunk comes to the simulator.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// x86-64 code that pushes the thunk's index and jumps to this address.
    Jump(u64),
    /// Memory that cannot be executed: the fetch stops the emulator.
    Unmapped,
}

/// All thunks.
pub struct Thunks {
    form: Form,
    targets: Vec<Target>,
    pages: Vec<u64>,
}

impl Thunks {
    /// None yet.
    pub fn new(form: Form) -> Thunks {
        Thunks {
            form,
            targets: Vec::new(),
            pages: Vec::new(),
        }
    }

    /// What the thunk with this index stands for.
    pub fn target(&self, index: u32) -> Option<Target> {
        self.targets.get(index as usize).copied()
    }

    /// Makes the thunk at an address stand for something else.
    pub fn change(&mut self, address: u64, target: Target) {
        if let Some(place) = self.index_at(address).and_then(|i| self.targets.get_mut(i as usize)) {
            *place = target;
        }
    }

    /// How many stand for helpers and BTF-resolved functions.
    pub fn helpers(&self) -> usize {
        self.targets.iter().filter(|target| target.program().is_some()).count()
    }

    /// Makes the addresses of helpers and BTF-resolved functions wild ones, of this program and all behind it.
    pub fn retire_helpers(&mut self, first: usize) {
        for target in &mut self.targets {
            if target.program().is_some_and(|program| program >= first) {
                *target = Target::Gone;
            }
        }
    }

    /// The index of the thunk that starts at an address.
    pub fn index_at(&self, address: u64) -> Option<u32> {
        let page = self.pages.iter().position(|&p| p == address & !(PAGE as u64 - 1))?;
        let offset = (address - self.pages[page]) as usize;
        let index = page * PER_PAGE + offset / STRIDE;
        (offset.is_multiple_of(STRIDE) && offset / STRIDE < PER_PAGE && index < self.targets.len())
            .then_some(index as u32)
    }

    /// Makes a thunk and gives its address.
    pub fn add(&mut self, memory: &mut Memory, target: Target) -> Result<u64, OutOfMemory> {
        let index = self.targets.len();
        if index.is_multiple_of(PER_PAGE) {
            let page = memory.map_pages(PAGE)?;
            let allowed = match self.form {
                Form::Jump(_) => Use::KernelRead,
                Form::Unmapped => Use::None,
            };
            memory.add(Region {
                start: page,
                length: PAGE as u64,
                label: "the kernel's code".into(),
                allowed,
            });
            if let Form::Jump(trap) = self.form {
                memory.protect(page, PAGE, Protection::READ | Protection::WRITE)?;
                // SAFETY: the page was made writable in the line before.
                unsafe { memory.write_while_mapping(page + PAGE as u64 - 8, &trap.to_le_bytes()) };
            }
            self.pages.push(page);
        }
        let page = self.pages[index / PER_PAGE];
        let offset = index % PER_PAGE * STRIDE;
        if let Form::Jump(_) = self.form {
            let mut code = [0xCC; STRIDE];
            code[0] = 0x68; // push imm32
            code[1..5].copy_from_slice(&(index as u32).to_le_bytes());
            code[5..7].copy_from_slice(&[0xFF, 0x25]); // jmp [rip + disp32]
            code[7..11].copy_from_slice(&((PAGE - 8 - offset - 11) as u32).to_le_bytes());
            memory.protect(page, PAGE, Protection::READ | Protection::WRITE)?;
            // SAFETY: the page was made writable in the line before.
            unsafe { memory.write_while_mapping(page + offset as u64, &code) };
            memory.protect(page, PAGE, Protection::READ | Protection::EXECUTE)?;
        }
        self.targets.push(target);
        Ok(page + offset as u64)
    }
}
