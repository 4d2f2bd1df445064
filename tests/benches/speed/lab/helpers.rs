//! The helpers that programs call: simple, always with the same results, and the same for all engines.

use super::maps;
use super::world::header;

/// A helper as Windows has it.
pub type Windows = extern "win64" fn(u64, u64, u64, u64, u64) -> u64;

/// A helper.
pub struct Helper {
    /// Its number.
    pub id: u32,
    /// For code with the calling convention of Windows: everything but [`Helper::unaligned`]'s callers.
    pub windows: Windows,
    /// The same for code with the System V convention that calls it with any stack pointer.
    pub unaligned: extern "sysv64" fn(),
}

macro_rules! helpers {
    ($( $(#[doc = $doc:literal])+ $id:literal $name:ident($($argument:ident),*) $body:block )+) => {
        /// All helpers, by id. Those from 0x10000 on are of program types, each of which has its own.
        pub const HELPERS: &[Helper] = &[$(
            Helper {
                id: $id,
                windows: {
                    extern "win64" fn windows(a: u64, b: u64, c: u64, d: u64, e: u64) -> u64 {
                        $name(a, b, c, d, e)
                    }
                    windows
                },
                unaligned: {
                    extern "sysv64" fn aligned(a: u64, b: u64, c: u64, d: u64, e: u64) -> u64 {
                        $name(a, b, c, d, e)
                    }
                    #[unsafe(naked)]
                    extern "sysv64" fn unaligned() {
                        std::arch::naked_asm!(
                            "push rbp", "mov rbp, rsp", "and rsp, -16", "call {to}", "leave", "ret", to = sym aligned,
                        )
                    }
                    unaligned
                },
            },
        )+];
        $( helper! { $(#[doc = $doc])+ $name($($argument),*) $body } )+
    };
}

/// A function with the arguments that it wants of five.
macro_rules! helper {
    ($(#[doc = $doc:literal])+ $name:ident() $body:block) => {
        $(#[doc = $doc])+ #[inline] fn $name(_: u64, _: u64, _: u64, _: u64, _: u64) -> u64 $body
    };
    ($(#[doc = $doc:literal])+ $name:ident($a:ident, $b:ident) $body:block) => {
        $(#[doc = $doc])+ #[inline] fn $name($a: u64, $b: u64, _: u64, _: u64, _: u64) -> u64 $body
    };
    ($(#[doc = $doc:literal])+ $name:ident($a:ident, $b:ident, $c:ident) $body:block) => {
        $(#[doc = $doc])+ #[inline] fn $name($a: u64, $b: u64, $c: u64, _: u64, _: u64) -> u64 $body
    };
    ($(#[doc = $doc:literal])+ $name:ident($a:ident, $b:ident, $c:ident, $d:ident, $e:ident) $body:block) => {
        $(#[doc = $doc])+ #[inline] fn $name($a: u64, $b: u64, $c: u64, $d: u64, $e: u64) -> u64 $body
    };
}

helpers! {
    /// `bpf_map_lookup_elem`
    1 lookup(map, key) { maps::lookup(map, key) }
    /// `bpf_map_update_elem`
    2 update(map, key, value) { maps::update(map, key, value) }
    /// `bpf_map_delete_elem`
    3 delete(map, key) { maps::delete(map, key) }
    /// `bpf_get_prandom_u32`
    6 random() {
        // SAFETY: a world was reset before anything ran, and this is the only thread that works on it.
        let state = unsafe { &mut (*header()).random };
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state >> 32
    }
    /// `bpf_tail_call`, which finds nothing
    5 tail_call(_context, _programs) { -2_i64 as u64 }
    /// `bpf_ktime_get_boot_ns`
    7 boot_time() { tick() }
    /// `bpf_get_smp_processor_id`
    8 processor() { 0 }
    /// `bpf_ktime_get_ns`
    9 time() { tick() }
    /// `bpf_csum_diff`
    10 checksum_difference(from, from_size, to, to_size, seed) {
        let sum = |address: u64, size: u64| {
            // SAFETY: the verified program passes memory of this size.
            let words = (0..size / 4).map(|i| unsafe { (address as *const u32).add(i as usize).read_unaligned() });
            words.fold(0_u64, |sum, word| sum + u64::from(word))
        };
        let difference = u64::from(seed as u32) + sum(to, to_size) + (!sum(from, from_size) & 0xFFFF_FFFF);
        let folded = (difference & 0xFFFF_FFFF) + (difference >> 32);
        (folded & 0xFFFF_FFFF) + (folded >> 32)
    }
    /// `bpf_ringbuf_output`
    11 output(ring, data, size) { maps::output(ring, data, size) }
    /// `bpf_get_current_pid_tgid`
    19 process() { 0x1092_0000_1093 }
    /// Program type `process`: `bpf_process_get_image_path`. Program type `sockops`: `bpf_sock_ops_get_flow_id`, which is what
    /// lies before the context.
    0x10000 image_path_or_flow_id(context, to, size) {
        // SAFETY: as in `random`.
        let (path, length) = unsafe { (*header()).path };
        if path == 0 {
            // SAFETY: a context has a header, and the verified program passes its own.
            return unsafe { *(context as *const u64).sub(1) };
        }
        let length = length.min(size);
        // SAFETY: the verified program passes a buffer of `size` bytes, and the path lies in the world.
        unsafe { std::ptr::copy_nonoverlapping(path as *const u8, to as *mut u8, length as usize) };
        length
    }
    /// Program type `sock_addr`: `bpf_sock_addr_set_redirect_context`, which nobody asks for.
    0x10001 redirect_context(_context, _data) { 0 }
}

/// The time, which goes on by a microsecond at each look.
fn tick() -> u64 {
    // SAFETY: as in `random`.
    let clock = unsafe { &mut (*header()).clock };
    *clock += 1000;
    *clock
}

/// The helper with this number.
pub fn helper(id: u32) -> Option<&'static Helper> {
    HELPERS.iter().find(|helper| helper.id == id)
}
