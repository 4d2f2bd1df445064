//! What the process may ask of the host once native code runs: memory, more of its input, and writing to pipes that are open.
//!
//! An image has no business with system calls: kernel code that executes `syscall` is broken. So a call from the image's
//! own pages is reported as a fault, and whatever else might be made to call the host in its place gets nothing that
//! reaches files, the network or other processes.
//!
//! Around the emulator, which is a large library that translates what the image holds, the fence is closer: after this,
//! no memory becomes executable. Its code buffer is mapped before, and besides memory and futexes it asks for nothing.

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO,
    SECCOMP_RET_TRAP, sock_filter,
};

use super::mapping::MappedImage;

/// `AUDIT_ARCH_*` of the host (`linux/audit.h`): `X86_64` or `AARCH64`.
const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") {
    0xC000_003E
} else {
    0xC000_00B7
};

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const INSTRUCTION_LOW: u32 = 8;
/// The first argument, which is the file in `read`.
const FILE_LOW: u32 = 16;
const FILE_HIGH: u32 = 20;
const INSTRUCTION_HIGH: u32 = 12;
/// The lower half of the third argument, which is the protection in `mmap` and `mprotect`.
const PROTECTION: u32 = 32;

/// The answer to calls that are not allowed.
const REFUSED: u32 = SECCOMP_RET_ERRNO | libc::EPERM as u32;

/// What the simulator itself still needs: memory, its answer, its end, and signals.
const ALLOWED: [i64; 18] = [
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

fn load(offset: u32) -> sock_filter {
    sock_filter {
        code: (BPF_LD | BPF_W | BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset,
    }
}

fn jump(condition: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: (BPF_JMP | condition | BPF_K) as u16,
        jt,
        jf,
        k,
    }
}

fn answer(k: u32) -> sock_filter {
    sock_filter {
        code: (BPF_RET | BPF_K) as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// How the image's code runs.
#[derive(Clone, Debug)]
pub enum Code {
    /// By the host, between two addresses each time. Calls from there are refused if the addresses share their upper half.
    Native(Vec<(u64, u64)>),
    /// In the emulator: nothing becomes executable.
    Emulated,
}

impl Code {
    /// That of these images, by the host.
    pub fn native(images: &[MappedImage]) -> Code {
        Code::Native(
            images
                .iter()
                .map(|image| (image.base, image.base + image.size))
                .collect(),
        )
    }
}

/// The filter.
fn filter(code: Code) -> Vec<sock_filter> {
    let mut program = vec![load(ARCH), jump(BPF_JEQ, ARCHITECTURE, 1, 0), answer(SECCOMP_RET_TRAP)];
    match code {
        Code::Native(images) => {
            for (start, end) in images.into_iter().filter(|(start, end)| start >> 32 == end >> 32) {
                program.extend([
                    load(INSTRUCTION_HIGH),
                    jump(BPF_JEQ, (start >> 32) as u32, 0, 4),
                    load(INSTRUCTION_LOW),
                    jump(BPF_JGE, start as u32, 0, 2),
                    jump(BPF_JGE, end as u32, 1, 0),
                    answer(SECCOMP_RET_TRAP),
                ]);
            }
        }
        Code::Emulated => program.extend([
            load(NUMBER),
            jump(BPF_JEQ, libc::SYS_mmap as u32, 1, 0),
            jump(BPF_JEQ, libc::SYS_mprotect as u32, 0, 3),
            load(PROTECTION),
            jump(BPF_JSET, libc::PROT_EXEC as u32, 0, 1),
            answer(REFUSED),
        ]),
    }
    // Inputs come while code of the image runs, by the standard input and from nowhere else.
    program.extend([
        load(NUMBER),
        jump(BPF_JEQ, libc::SYS_read as u32, 0, 6),
        load(FILE_HIGH),
        jump(BPF_JEQ, 0, 0, 3),
        load(FILE_LOW),
        jump(BPF_JEQ, libc::STDIN_FILENO as u32, 0, 1),
        answer(SECCOMP_RET_ALLOW),
        answer(REFUSED),
    ]);
    program.push(load(NUMBER));
    for number in ALLOWED {
        program.extend([jump(BPF_JEQ, number as u32, 0, 1), answer(SECCOMP_RET_ALLOW)]);
    }
    program.push(answer(REFUSED));
    program
}

/// Confines the process for good.
pub fn enter(code: Code) -> std::io::Result<()> {
    let mut program = filter(code);
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the first call takes plain numbers; the second reads the filter, which lives until it returns.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    if failed {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn judge(program: &[sock_filter], number: i64, arch: u32, instruction: u64, arguments: [u64; 3]) -> u32 {
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let step = program[at];
            at += 1;
            match u32::from(step.code) {
                c if c == BPF_LD | BPF_W | BPF_ABS => {
                    accumulator = match step.k {
                        NUMBER => number as u32,
                        ARCH => arch,
                        INSTRUCTION_LOW => instruction as u32,
                        INSTRUCTION_HIGH => (instruction >> 32) as u32,
                        FILE_LOW => arguments[0] as u32,
                        FILE_HIGH => (arguments[0] >> 32) as u32,
                        PROTECTION => arguments[2] as u32,
                        other => panic!("loads {other}"),
                    };
                }
                c if c == BPF_RET | BPF_K => return step.k,
                c => {
                    let taken = match c & !(BPF_JMP | BPF_K) {
                        BPF_JEQ => accumulator == step.k,
                        BPF_JGE => accumulator >= step.k,
                        BPF_JSET => accumulator & step.k != 0,
                        other => panic!("condition {other:#x}"),
                    };
                    at += usize::from(if taken { step.jt } else { step.jf });
                }
            }
        }
    }

    #[test]
    fn calls_are_judged_by_their_number_and_where_they_come_from() {
        let (start, end) = (0x7F12_3000_0000, 0x7F12_3001_0000);
        let far = 0x7F13_0000_0000;
        let program = filter(Code::Native(vec![(start, end), (far, far + 1)]));
        let refused = REFUSED;
        let cases = [
            (libc::SYS_write, ARCHITECTURE, start - 1, SECCOMP_RET_ALLOW),
            (libc::SYS_write, ARCHITECTURE, start, SECCOMP_RET_TRAP),
            (libc::SYS_write, ARCHITECTURE, end - 1, SECCOMP_RET_TRAP),
            (libc::SYS_write, ARCHITECTURE, far, SECCOMP_RET_TRAP),
            (libc::SYS_write, ARCHITECTURE, far + 1, SECCOMP_RET_ALLOW),
            (libc::SYS_write, ARCHITECTURE, end, SECCOMP_RET_ALLOW),
            (libc::SYS_write, ARCHITECTURE, start + (1 << 32), SECCOMP_RET_ALLOW),
            (libc::SYS_exit_group, ARCHITECTURE, end, SECCOMP_RET_ALLOW),
            (libc::SYS_openat, ARCHITECTURE, end, refused),
            (libc::SYS_socket, ARCHITECTURE, end, refused),
            (libc::SYS_execve, ARCHITECTURE, end, refused),
            (libc::SYS_kill, ARCHITECTURE, end, refused),
            (libc::SYS_tgkill, ARCHITECTURE, end, refused),
            (libc::SYS_write, 0x4000_0003, end, SECCOMP_RET_TRAP),
        ];
        for (number, arch, instruction, expected) in cases {
            assert_eq!(
                judge(&program, number, arch, instruction, [0; 3]),
                expected,
                "{number} at {instruction:#x}"
            );
        }
        let apart = filter(Code::Native(vec![(start, start + (1 << 32))]));
        assert_eq!(
            judge(&apart, libc::SYS_write, ARCHITECTURE, start, [0; 3]),
            SECCOMP_RET_ALLOW
        );
    }

    #[test]
    fn only_the_standard_input_is_read() {
        for code in [Code::Native(vec![(1, 2)]), Code::Emulated] {
            let program = filter(code);
            let read = |file: u64| judge(&program, libc::SYS_read, ARCHITECTURE, 0, [file, 0, 0]);
            assert_eq!(read(0), SECCOMP_RET_ALLOW);
            for file in [1, 3, 1 << 32, u64::MAX] {
                assert_eq!(read(file), REFUSED, "{file}");
            }
        }
    }

    #[test]
    fn around_the_emulator_no_memory_becomes_executable() {
        let (readable, executable) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC);
        for number in [libc::SYS_mmap, libc::SYS_mprotect] {
            let judge =
                |code, protection: i32| judge(&filter(code), number, ARCHITECTURE, 0, [0, 0, protection as u64]);
            assert_eq!(judge(Code::Emulated, readable), SECCOMP_RET_ALLOW);
            assert_eq!(judge(Code::Emulated, executable), REFUSED);
            assert_eq!(judge(Code::Native(vec![(1, 2)]), executable), SECCOMP_RET_ALLOW);
        }
        // The third argument of other calls means something else.
        let write = judge(&filter(Code::Emulated), libc::SYS_write, ARCHITECTURE, 0, [0, 0, 4]);
        assert_eq!(write, SECCOMP_RET_ALLOW);
    }
}
