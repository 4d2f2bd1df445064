//! The verdict of the kernel's own verifier on a program of an object.
//!
//! Given: a module, one of its programs and the type that Linux takes it for. Computed: what `BPF_PROG_LOAD` says of it, after
//! its maps were created as the object defines them and its global variables were put into maps as loaders do it. A kernel
//! that cannot judge the program, because it has no such map or program type, is told apart from one that refuses it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use bpf2sys_bytecode::{Callee, FunctionIndex, Imm64, Instruction, Map, MapIndex, MapOrigin, Module, Reference};

use super::syscalls::{self, MapCreate};
use super::{LOG_BYTES, PROCESSED, encode_all, last_message, text};

/// `BPF_MAP_TYPE_PERF_EVENT_ARRAY`
const PERF_EVENT_ARRAY: u32 = 4;
/// `BPF_MAP_TYPE_LPM_TRIE`
const LPM_TRIE: u32 = 11;
/// `BPF_MAP_TYPE_ARRAY_OF_MAPS` and `BPF_MAP_TYPE_HASH_OF_MAPS`
const MAPS_OF_MAPS: [u32; 2] = [12, 13];
/// `BPF_F_NO_PREALLOC`
const NO_PREALLOC: u32 = 1;
/// `BPF_F_NUMA_NODE`: memory of a certain node, which the machine need not have.
const NUMA_NODE: u32 = 1 << 2;

/// What the kernel says of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would run it.
    Accepted,
    /// Its verifier refuses it, with this message.
    Rejected(String),
    /// There is no verdict: this kernel lacks something that the program needs, or may not do it for us.
    NotAsked(String),
}

/// The release of the running kernel, as `uname -r` prints it.
pub fn release() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}

/// The kernel's verdict on a program of a module as one of this type (`enum bpf_prog_type`).
pub fn verdict(module: &Module, program: FunctionIndex, program_type: u32) -> Verdict {
    match loaded(module, program, program_type) {
        Ok(_) => Verdict::Accepted,
        Err(verdict) => verdict,
    }
}

/// A program in the kernel, with its maps; otherwise the verdict.
pub(super) fn loaded(
    module: &Module,
    program: FunctionIndex,
    program_type: u32,
) -> Result<(Maps<'_>, OwnedFd), Verdict> {
    let mut order = vec![program];
    order.extend(module.reachable_from(program));
    let functions: Vec<(FunctionIndex, Vec<Instruction>)> = order
        .into_iter()
        .map(|index| {
            let instructions = &module.function(index).instructions;
            (index, instructions.iter().map(|insn| insn.op).collect())
        })
        .collect();
    let mut maps = Maps {
        module,
        created: BTreeMap::new(),
    };
    for instruction in functions.iter().flat_map(|(_, function)| function) {
        let map = match instruction {
            Instruction::LoadImm64 {
                value: Imm64::Map(map), ..
            } => *map,
            Instruction::LoadImm64 {
                value: Imm64::Global { section, .. },
                ..
            } => module.globals[section.index()].map,
            Instruction::Call(Callee::Btf(_)) => {
                return Err(Verdict::NotAsked(
                    "it calls a function of another Windows module".to_owned(),
                ));
            }
            _ => continue,
        };
        if let Err(reason) = maps.create(map) {
            return Err(Verdict::NotAsked(reason));
        }
    }
    let number = |reference| match reference {
        Reference::Map(map) => maps.descriptor(map),
        Reference::Global(section) => maps.descriptor(module.globals[section.index()].map),
        Reference::Function(_) | Reference::BtfFunction(_) => 0,
    };
    let code = encode_all(&functions, number);
    let mut log = vec![0; LOG_BYTES];
    match syscalls::load(program_type, &code, &mut log) {
        Ok(program) => Ok((maps, program)),
        Err(error) => Err(refusal(&text(&log), &error)),
    }
}

/// A refusal by the verifier ends with a message and then its statistics; whatever fails before or behind it leaves out one of
/// them.
fn refusal(log: &str, error: &io::Error) -> Verdict {
    let has_count = log.lines().any(|line| line.starts_with(PROCESSED));
    match last_message(log) {
        Some(message) if has_count && error.raw_os_error() != Some(libc::EPERM) => {
            Verdict::Rejected(message.to_owned())
        }
        Some(message) => Verdict::NotAsked(format!("{message} ({error})")),
        None => Verdict::NotAsked(format!("no program of this type is loaded: {error}")),
    }
}

/// The maps that a program uses, each created once.
pub(super) struct Maps<'a> {
    module: &'a Module,
    created: BTreeMap<usize, OwnedFd>,
}

impl Maps<'_> {
    /// Those that were created.
    pub(super) fn created(&self) -> impl Iterator<Item = (&Map, &OwnedFd)> {
        self.created
            .iter()
            .map(|(index, descriptor)| (&self.module.maps[*index], descriptor))
    }

    fn descriptor(&self, map: MapIndex) -> i32 {
        self.created.get(&map.index()).map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Creates a map unless it exists, and before it its template. Why it cannot be, if so.
    fn create(&mut self, index: MapIndex) -> Result<(), String> {
        if self.created.contains_key(&index.index()) {
            return Ok(());
        }
        let map = &self.module.maps[index.index()];
        let created = if let MapOrigin::Global(section) = map.origin {
            let section = &self.module.globals[section.index()];
            syscalls::global_section(&section.data, section.read_only)
        } else {
            let mut attributes = attributes(map);
            if let Some(template) = map.inner {
                if self.module.maps[template.index()].inner.is_some() {
                    return Err(format!("the template of `{}` is a map of maps itself", map.name));
                }
                self.create(template)?;
                attributes.inner_map_fd = self.descriptor(template) as u32;
            }
            syscalls::create_map(attributes)
        };
        let map_type = map.definition.map_type;
        let created = created.map_err(|error| format!("map `{}` of type {map_type}: {error}", map.name))?;
        self.created.insert(index.index(), created);
        Ok(())
    }
}

/// A map as the object defines it, and as loaders complete it.
fn attributes(map: &Map) -> MapCreate {
    let definition = &map.definition;
    // The fifth number of a Linux record is flags; an object that is read as for Windows has it under the name that it has there.
    let flags = match map.origin {
        MapOrigin::Legacy if map.flags == 0 && map.inner.is_none() => definition.inner_map_idx,
        _ => map.flags,
    } & !NUMA_NODE;
    let demanded = if definition.map_type == LPM_TRIE {
        NO_PREALLOC
    } else {
        0
    };
    // libbpf puts the number of processors here.
    let count_is_free = definition.map_type == PERF_EVENT_ARRAY && definition.max_entries == 0;
    // The value of a map of maps is a descriptor, and records often leave its size to the loader.
    let value_size = if MAPS_OF_MAPS.contains(&definition.map_type) {
        4
    } else {
        definition.value_size
    };
    MapCreate {
        map_type: definition.map_type,
        key_size: definition.key_size,
        value_size,
        max_entries: if count_is_free { 1 } else { definition.max_entries },
        map_flags: flags | demanded,
        inner_map_fd: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Verdict, refusal};

    fn said(log: &str, errno: i32) -> Verdict {
        refusal(log, &io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn the_verifiers_refusals_are_known_by_what_they_end_with() {
        let count = "verification time 53 usec\nstack depth 8\nprocessed 3 insns (limit 1000000)\n";
        for end in ["", "\n"] {
            let log = format!("R1 !read_ok{end}{count}");
            assert_eq!(said(&log, libc::EACCES), Verdict::Rejected("R1 !read_ok".to_owned()));
            assert!(matches!(said(&log, libc::EPERM), Verdict::NotAsked(_)));
        }
        assert!(matches!(said("R1 !read_ok\n", libc::EACCES), Verdict::NotAsked(_)));
        assert!(matches!(said(count, libc::EINVAL), Verdict::NotAsked(_)));
        assert!(matches!(said("", libc::EINVAL), Verdict::NotAsked(_)));
    }
}
