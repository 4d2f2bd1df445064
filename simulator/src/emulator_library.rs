//! Finding and loading the Unicorn emulator, a C library that may be installed beside the tool.
//!
//! Unicorn is no part of the tool: it is under the GNU General Public License, and building it needs a C toolchain. It
//! is loaded when an image asks for it. What is declared here are the functions and numbers of its public headers,
//! `unicorn/unicorn.h`, `unicorn/arm64.h` and `unicorn/x86.h`, which are stable within the major version 2.

use std::error::Error;
use std::ffi::{CStr, OsString, c_char, c_int, c_uint, c_void};

use libloading::Library;

/// The environment variable that names the library's file.
pub const VARIABLE: &str = "BPF2SYS_UNICORN";

/// Names that systems give the library, for their loader to find.
const NAMES: &[&str] = if cfg!(target_os = "macos") {
    &["libunicorn.2.dylib", "libunicorn.dylib"]
} else if cfg!(windows) {
    &["unicorn.dll"]
} else {
    &["libunicorn.so.2", "libunicorn.so"]
};

/// The major version whose interface is declared here.
const MAJOR: c_uint = 2;

/// Whether the emulator is there that images need which the host's processor does not run: why not, if not. Loads the library to find out.
pub fn emulator() -> Result<(), String> {
    EmulatorLibrary::load().map(|_| ())
}

/// An emulator, `uc_engine *`.
pub type Handle = *mut c_void;
/// A result, `uc_err`; 0 is success.
pub type Status = c_int;

/// Numbers of the headers.
pub mod number {
    use std::ffi::c_int;

    /// `UC_ERR_OK`.
    pub const OK: super::Status = 0;
    /// `UC_ERR_INSN_INVALID`.
    pub const NO_INSTRUCTION: super::Status = 10;
    /// `UC_ARCH_ARM64`.
    pub const ARCH_ARM64: c_int = 2;
    /// `UC_MODE_LITTLE_ENDIAN`.
    pub const MODE_LITTLE_ENDIAN: c_int = 0;
    /// `UC_ARCH_X86`.
    pub const ARCH_X86: c_int = 4;
    /// `UC_MODE_64`.
    pub const MODE_64: c_int = 1 << 3;
    /// `UC_CTL_WRITE(UC_CTL_CPU_MODEL, 1)`: the control's number 7, one argument, written.
    pub const SET_CPU_MODEL: c_int = 7 | 1 << 26 | 1 << 30;
    /// `UC_CTL_WRITE(UC_CTL_TLB_TYPE, 1)`, which version 2.0.1 does not know.
    pub const SET_TLB: c_int = 0xC | 1 << 26 | 1 << 30;
    /// `UC_TLB_VIRTUAL`: addresses are looked up without the machine's own translation of them.
    pub const TLB_VIRTUAL: c_int = 1;
    /// `UC_CPU_ARM64_MAX`: every extension that the emulator knows, LSE and pointer authentication among them.
    pub const CPU_ARM64_MAX: c_int = 3;
    /// `UC_CPU_X86_ICELAKE_SERVER`: of the processors that the emulator knows by name, the one with the most extensions. Those that use
    /// registers of 256 bits or more it does not have all the same.
    pub const CPU_X86_ICELAKE_SERVER: c_int = 26;
    /// `UC_HOOK_INTR`.
    pub const HOOK_INTERRUPT: c_int = 1 << 0;
    /// `UC_HOOK_INSN`: one instruction, which the last argument of `uc_hook_add` names.
    pub const HOOK_INSTRUCTION: c_int = 1 << 1;
    /// `UC_HOOK_CODE`.
    pub const HOOK_CODE: c_int = 1 << 2;
    /// `UC_HOOK_MEM_INVALID`: `UC_HOOK_MEM_{READ,WRITE,FETCH}_{UNMAPPED,PROT}`.
    pub const HOOK_MEMORY_INVALID: c_int = 0x3F << 4;
    /// `UC_MEM_WRITE_UNMAPPED`; one less is a read, one more a fetch.
    pub const WRITE_UNMAPPED: c_int = 20;
    /// `UC_MEM_FETCH_UNMAPPED`.
    pub const FETCH_UNMAPPED: c_int = 21;
    /// `UC_MEM_WRITE_PROT`.
    pub const WRITE_PROT: c_int = 22;
    /// `UC_MEM_FETCH_PROT`.
    pub const FETCH_PROT: c_int = 24;
    /// `UC_MEM_READ_UNMAPPED`.
    pub const READ_UNMAPPED: c_int = 19;
    /// `UC_ARM64_REG_X29`; X30 follows.
    pub const X29: c_int = 1;
    /// `UC_ARM64_REG_NZCV`.
    pub const NZCV: c_int = 3;
    /// `UC_ARM64_REG_SP`.
    pub const SP: c_int = 4;
    /// `UC_ARM64_REG_Q0`; the other 31 follow.
    pub const Q0: c_int = 104;
    /// `UC_ARM64_REG_X0`; those to X28 follow.
    pub const X0: c_int = 199;
    /// `UC_ARM64_REG_PC`.
    pub const PC: c_int = 260;
    /// `UC_ARM64_REG_CP_REG`: the system register that the value names.
    pub const SYSTEM_REGISTER: c_int = 290;
    /// `UC_ARM64_REG_FPCR`.
    pub const FPCR: c_int = 291;
    /// `UC_X86_REG_CS`.
    pub const CS: c_int = 11;
    /// `UC_X86_REG_EFLAGS`.
    pub const EFLAGS: c_int = 25;
    /// `UC_X86_REG_RAX`.
    pub const RAX: c_int = 35;
    /// `UC_X86_REG_RBP`.
    pub const RBP: c_int = 36;
    /// `UC_X86_REG_RBX`.
    pub const RBX: c_int = 37;
    /// `UC_X86_REG_RCX`.
    pub const RCX: c_int = 38;
    /// `UC_X86_REG_RDI`.
    pub const RDI: c_int = 39;
    /// `UC_X86_REG_RDX`.
    pub const RDX: c_int = 40;
    /// `UC_X86_REG_RIP`.
    pub const RIP: c_int = 41;
    /// `UC_X86_REG_RSI`.
    pub const RSI: c_int = 43;
    /// `UC_X86_REG_RSP`.
    pub const RSP: c_int = 44;
    /// `UC_X86_REG_R8`; those to R15 follow.
    pub const R8: c_int = 106;
    /// `UC_X86_REG_XMM0`; those to XMM15 follow.
    pub const XMM0: c_int = 122;
    /// `UC_X86_REG_GDTR`, a `uc_x86_mmr`.
    pub const GDTR: c_int = 243;
    /// `UC_X86_REG_MXCSR`.
    pub const MXCSR: c_int = 249;
    /// `UC_X86_INS_SYSCALL`.
    pub const SYSCALL: c_int = 699;
    /// `UC_X86_INS_SYSENTER`.
    pub const SYSENTER: c_int = 700;
}

macro_rules! functions {
    ($( $(#[doc = $doc:literal])+ $field:ident = $name:literal: fn($($argument:ty),* $(; $($variadic:tt)+)?) -> $result:ty; )+) => {
        /// The loaded library.
        pub struct EmulatorLibrary {
            $( $(#[doc = $doc])+ pub $field: unsafe extern "C" fn($($argument,)* $($($variadic)+)?) -> $result, )+
            /// What the functions above are in.
            _library: Library,
        }

        impl EmulatorLibrary {
            /// # Safety
            /// `library` must be Unicorn of the major version 2.
            unsafe fn bind(library: Library) -> Result<Self, libloading::Error> {
                // SAFETY: the names have these types in that version's header, and `library` is kept as long as they.
                unsafe {
                    $( let $field = *library.get($name)?; )+
                    Ok(EmulatorLibrary { $( $field, )+ _library: library })
                }
            }
        }
    };
}

functions! {
    /// `uc_open(arch, mode, &engine)`.
    open = c"uc_open": fn(c_int, c_int, *mut Handle) -> Status;
    /// `uc_close(engine)`.
    close = c"uc_close": fn(Handle) -> Status;
    /// `uc_ctl(engine, control, ...)`.
    control = c"uc_ctl": fn(Handle, c_int; ...) -> Status;
    /// `uc_mem_map_ptr(engine, address, size, protection, memory)`.
    map = c"uc_mem_map_ptr": fn(Handle, u64, usize, u32, *mut c_void) -> Status;
    /// `uc_mem_unmap(engine, address, size)`.
    unmap = c"uc_mem_unmap": fn(Handle, u64, usize) -> Status;
    /// `uc_reg_read_batch(engine, registers, values, count)`.
    read_registers = c"uc_reg_read_batch": fn(Handle, *const c_int, *const *mut c_void, c_int) -> Status;
    /// `uc_reg_write_batch(engine, registers, values, count)`.
    write_registers = c"uc_reg_write_batch": fn(Handle, *const c_int, *const *const c_void, c_int) -> Status;
    /// `uc_emu_start(engine, begin, until, timeout, count)`.
    start = c"uc_emu_start": fn(Handle, u64, u64, u64, usize) -> Status;
    /// `uc_emu_stop(engine)`.
    stop = c"uc_emu_stop": fn(Handle) -> Status;
    /// `uc_hook_add(engine, &hook, type, callback, user data, begin, end, ...)`.
    add_hook = c"uc_hook_add": fn(Handle, *mut usize, c_int, *mut c_void, *mut c_void, u64, u64; ...) -> Status;
    /// `uc_strerror(status)`.
    describe = c"uc_strerror": fn(Status) -> *const c_char;
}

impl EmulatorLibrary {
    /// Loads the library: the file that the variable names, else what the system's loader finds.
    pub fn load() -> Result<Self, String> {
        if cfg!(all(target_os = "linux", target_feature = "crt-static")) {
            return Err(
                "this executable is linked statically, so that it can't load the Unicorn emulator, which is a library; take one \
                 that is not, of a target such as x86_64-unknown-linux-gnu"
                    .into(),
            );
        }
        let named = std::env::var_os(VARIABLE).filter(|v| !v.is_empty());
        let candidates: Vec<OsString> = match &named {
            Some(file) => vec![file.clone()],
            None => NAMES.iter().map(OsString::from).collect(),
        };
        let mut problems = Vec::new();
        for candidate in candidates {
            // SAFETY: this runs the initialisers of a library that whoever runs the tool has named or installed under
            // Unicorn's name; Unicorn's own do nothing but set variables of theirs.
            match unsafe { Library::new(&candidate) } {
                Ok(library) => return Self::check(library).map_err(|e| format!("{}: {e}", candidate.display())),
                // The loader's own words are the cause behind it.
                Err(error) => problems.push(error.source().map_or_else(|| error.to_string(), ToString::to_string)),
            }
        }
        let install = if cfg!(target_os = "macos") {
            "it with `brew install unicorn`"
        } else if cfg!(windows) {
            "it with `pip install unicorn` and put the package's `unicorn.dll` on the PATH"
        } else {
            "Debian's package `libunicorn2`"
        };
        Err(match named {
            Some(_) => format!(
                "{VARIABLE} names no library that can be loaded: {}",
                problems.join("; ")
            ),
            None => format!(
                "the Unicorn emulator, version 2, is not installed ({}). Install {install}, or set {VARIABLE} to the \
                 library's file, for instance the one in Python's package `unicorn`",
                problems.join("; ")
            ),
        })
    }

    fn check(library: Library) -> Result<Self, String> {
        let (mut major, mut minor): (c_uint, c_uint) = (0, 0);
        // SAFETY: `uc_version` has had this type in every version of Unicorn, and both pointers are valid.
        unsafe {
            let version = library
                .get::<unsafe extern "C" fn(*mut c_uint, *mut c_uint) -> c_uint>(c"uc_version")
                .map_err(|e| format!("this is not Unicorn: {e}"))?;
            version(&raw mut major, &raw mut minor);
        }
        if major != MAJOR {
            return Err(format!("this is Unicorn {major}.{minor}; version {MAJOR} is needed"));
        }
        // SAFETY: it has just said that it is that version.
        unsafe { Self::bind(library) }.map_err(|e| format!("a function is missing: {e}"))
    }

    /// What a status means, in Unicorn's words.
    pub fn text(&self, status: Status) -> String {
        // SAFETY: `uc_strerror` takes any number and gives a constant string.
        unsafe {
            let text = (self.describe)(status);
            if text.is_null() {
                return format!("status {status}");
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}
