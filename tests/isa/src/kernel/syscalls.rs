//! The system calls of `bpf(2)`, and memory shared with a map: the one place of this crate that needs `unsafe`.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

const MAP_CREATE: i64 = 0;
const MAP_LOOKUP_ELEM: i64 = 1;
const MAP_UPDATE_ELEM: i64 = 2;
const MAP_GET_NEXT_KEY: i64 = 4;
const PROG_LOAD: i64 = 5;
const PROG_TEST_RUN: i64 = 10;
const MAP_FREEZE: i64 = 22;

const MAP_TYPE_ARRAY: u32 = 2;
/// The values of an array map can be mapped into memory.
const MMAPABLE: u32 = 1 << 10;
/// Programs may only read the map.
const READ_ONLY_FOR_PROGRAMS: u32 = 1 << 7;
/// `BPF_LOG_STATS`: the verifier says what is wrong and how much it looked at, and not each instruction.
const LOG_STATS: u32 = 4;
/// `BPF_F_ANY_ALIGNMENT`: what may be unaligned depends on the processor, so it is not asked.
const ANY_ALIGNMENT: u32 = 1 << 1;

/// `union bpf_attr` of `BPF_MAP_CREATE`, as far as used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MapCreate {
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) map_flags: u32,
    /// Descriptor of the template of a map of maps; 0 in other maps.
    pub(super) inner_map_fd: u32,
}

/// `union bpf_attr` of `BPF_MAP_UPDATE_ELEM`, `BPF_MAP_LOOKUP_ELEM` and `BPF_MAP_GET_NEXT_KEY`, the last with the next key as value.
#[repr(C)]
struct UpdateElem {
    map_fd: u32,
    padding: u32,
    key: *const u8,
    value: *const u8,
    flags: u64,
}

/// `union bpf_attr` of `BPF_MAP_FREEZE`.
#[repr(C)]
struct MapFreeze {
    map_fd: u32,
}

/// `union bpf_attr` of `BPF_PROG_LOAD`, as far as used.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: *const u8,
    license: *const u8,
    log_level: u32,
    log_size: u32,
    log_buf: *mut u8,
    kern_version: u32,
    prog_flags: u32,
}

/// `union bpf_attr` of `BPF_PROG_TEST_RUN`, as far as used.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// `bpf(2)`.
fn bpf<T>(command: i64, attributes: &mut T) -> io::Result<i64> {
    // SAFETY: the kernel reads, and for some commands writes, `size_of::<T>()` bytes at the address of `attributes`, which
    // is exclusively borrowed. What its pointers point to is the duty of the callers, all in this file.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn descriptor(number: i64) -> io::Result<OwnedFd> {
    let number = i32::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The one value of an array map, as memory of this process.
pub(super) struct SharedValue {
    pub(super) map: OwnedFd,
    address: *mut u8,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone and is as good in one thread as in another.
unsafe impl Send for SharedValue {}

impl SharedValue {
    /// `bytes` is a multiple of the page size.
    pub(super) fn new(bytes: u32) -> io::Result<SharedValue> {
        let map = create_map(MapCreate {
            map_type: MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: bytes,
            max_entries: 1,
            map_flags: MMAPABLE,
            ..MapCreate::default()
        })?;
        let bytes = bytes as usize;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
        let address = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(SharedValue {
            map,
            address: address.cast(),
            bytes,
        })
    }

    /// The value. Programs write it only inside of [`run`], which borrows it exclusively.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `address` is a readable and writable mapping of `bytes` bytes until the drop; this value is the only one
        // that knows it, and no program runs while the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.bytes) }
    }
}

impl Drop for SharedValue {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this address and size, and no slice of it outlives this value.
        unsafe { libc::munmap(self.address.cast(), self.bytes) };
    }
}

/// Creates a map.
pub(super) fn create_map(mut attributes: MapCreate) -> io::Result<OwnedFd> {
    descriptor(bpf(MAP_CREATE, &mut attributes)?)
}

/// An array of one value, which is `data`, as loaders make it of a section of global variables: one that is read-only is
/// frozen, so that the verifier may take what is in it for constants.
pub(super) fn global_section(data: &[u8], read_only: bool) -> io::Result<OwnedFd> {
    let map = create_map(MapCreate {
        map_type: MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: u32::try_from(data.len()).map_err(io::Error::other)?,
        max_entries: 1,
        map_flags: if read_only { READ_ONLY_FOR_PROGRAMS } else { 0 },
        ..MapCreate::default()
    })?;
    let map_fd = map.as_raw_fd() as u32;
    let key = [0; 4];
    let mut attributes = UpdateElem {
        map_fd,
        padding: 0,
        key: key.as_ptr(),
        value: data.as_ptr(),
        flags: 0,
    };
    // The kernel reads the map's sizes of key and value, which are those of `key` and `data`.
    bpf(MAP_UPDATE_ELEM, &mut attributes)?;
    if read_only {
        bpf(MAP_FREEZE, &mut MapFreeze { map_fd })?;
    }
    Ok(map)
}

/// Loads a program of a type (`enum bpf_prog_type`); the verifier's messages go to `log` unless it is empty.
pub(super) fn load(prog_type: u32, code: &[u8], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = ProgLoad {
        prog_type,
        insn_cnt: (code.len() / 8) as u32,
        insns: code.as_ptr(),
        license: c"GPL".as_ptr().cast(),
        log_level: if log.is_empty() { 0 } else { LOG_STATS },
        log_size: log.len() as u32,
        log_buf: if log.is_empty() {
            ptr::null_mut()
        } else {
            log.as_mut_ptr()
        },
        kern_version: 0,
        prog_flags: ANY_ALIGNMENT,
    };
    // `code`, the license and `log` are borrowed for the whole call and have the sizes stated.
    descriptor(bpf(PROG_LOAD, &mut attributes)?)
}

/// Runs a program that accesses no memory but its stack and `value`.
pub(super) fn run(program: &OwnedFd, _value: &mut SharedValue) -> io::Result<()> {
    let mut attributes = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        ..TestRun::default()
    };
    bpf(PROG_TEST_RUN, &mut attributes).map(|_| ())
}

/// Runs a program of type XDP on a packet: what it returns, and the packet afterwards.
pub(super) fn run_packet(program: &OwnedFd, packet: &[u8]) -> io::Result<(u32, Vec<u8>)> {
    // Programs may make a packet larger, by less than a page.
    let mut out = vec![0u8; packet.len() + 4096];
    let mut attributes = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_size_out: out.len() as u32,
        data_in: packet.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        ..TestRun::default()
    };
    // Both buffers live until the call returns and have the sizes stated.
    bpf(PROG_TEST_RUN, &mut attributes)?;
    out.truncate(attributes.data_size_out as usize);
    Ok((attributes.retval, out))
}

/// All entries of a map, whose keys and values, as user mode sees them, have these sizes.
pub(super) fn entries(
    map: BorrowedFd<'_>,
    (key_size, value_size): (usize, usize),
) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut last: Option<Vec<u8>> = None;
    loop {
        let mut key = vec![0u8; key_size];
        let mut attributes = UpdateElem {
            map_fd: map.as_raw_fd() as u32,
            padding: 0,
            key: last.as_ref().map_or(ptr::null(), Vec::as_ptr),
            value: key.as_mut_ptr(),
            flags: 0,
        };
        // The kernel writes a key at `value`, which has room for one, and reads one at `key` unless that is null.
        match bpf(MAP_GET_NEXT_KEY, &mut attributes) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
            Err(error) => return Err(error),
        }
        let mut value = vec![0u8; value_size];
        let mut attributes = UpdateElem {
            key: key.as_ptr(),
            value: value.as_mut_ptr(),
            ..attributes
        };
        // It writes a value at `value`, which has room for one.
        bpf(MAP_LOOKUP_ELEM, &mut attributes)?;
        last = Some(key.clone());
        found.insert(key, value);
    }
}
