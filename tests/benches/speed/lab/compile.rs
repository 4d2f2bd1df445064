//! The C compilers, and what each of them is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use object::{Object, ObjectSymbol};

use super::workload::Workload;
use super::{Error, headers};

/// The compiler that everything but gcc's column comes from.
const CLANG: &str = "clang-19";
const GCC: &str = "gcc";

/// Code for Windows, in a shared object of Linux: the calling convention is that of a driver, and so is nothing else.
const CLANG_WINDOWS: &[&str] = &["--target=x86_64-pc-windows-elf", "-mno-stack-arg-probe"];
/// Calls through pointers as the WDK has them compiled. To text: clang would fail at the tables that an object for Windows has
/// and one of Linux has not.
const GUARDED: &[&str] = &["-Xclang", "-cfguard", "-S"];
const GCC_WINDOWS: &[&str] = &["-mabi=ms", "-fPIC", "-fno-tree-loop-distribute-patterns"];
/// x18 belongs to Windows.
const CLANG_ARM64: &[&str] = &[
    "--target=aarch64-linux-gnu",
    "-fPIC",
    "-ffixed-x18",
    "-mno-outline-atomics",
];
/// The system's linker knows one machine.
const LINK_ARM64: &[&str] = &["--target=aarch64-linux-gnu", "-fuse-ld=lld"];
/// No library, and nothing that a driver would not have.
const PLAIN: &[&str] = &[
    "-O2",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fvisibility=protected",
    "-Wno-attributes",
];
const LINK: &[&str] = &["-shared", "-nostdlib", "-Wl,-z,defs", "-Wl,-Bsymbolic"];

/// What compilers call of a library, and what Windows puts into a driver's pointers.
const MEMORY: &str = "tests/benches/speed/native/memory.c";
const GUARD: &str = "tests/benches/speed/native/guard.c";
/// What the headers for native code have more.
const LOOKUP: &str = "tests/benches/speed/native/lookup.h";
/// Folders of headers.
const NATIVE: &str = "native";
const KERNEL: &str = "kernel";

/// A folder to compile in, with the headers for native code.
pub struct Compiler {
    folder: tempfile::TempDir,
    root: PathBuf,
}

impl Compiler {
    /// `root` is the repository's.
    pub fn new(root: &Path) -> Result<Compiler, Error> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let (from, lookup) = (root.join("examples/include"), root.join(LOOKUP));
        let lookup = fs::read_to_string(lookup).map_err(|e| e.to_string())?;
        headers::native(&from, &folder.path().join(NATIVE), &lookup)?;
        headers::kernel(&from, &folder.path().join(KERNEL))?;
        let root = root.to_owned();
        Ok(Compiler { folder, root })
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The eBPF object of a source, as users compile it.
    pub fn bytecode(&self, workload: &Workload) -> Result<Vec<u8>, Error> {
        let source = self.root.join(workload.source);
        self.bpf(workload, &source, &self.root.join("examples/include"))
    }

    /// The eBPF object of a source for the Linux kernel, whose context of XDP has addresses of 32 bits.
    pub fn kernel_bytecode(&self, workload: &Workload) -> Result<Vec<u8>, Error> {
        let text = fs::read_to_string(self.root.join(workload.source)).map_err(|e| e.to_string())?;
        let widened = self.out("kernel.c");
        fs::write(
            &widened,
            text.replace("context->data", "(uint8_t *)(uint64_t)context->data"),
        )
        .map_err(|e| e.to_string())?;
        self.bpf(workload, &widened, &self.out(KERNEL))
    }

    fn bpf(&self, workload: &Workload, source: &Path, headers: &Path) -> Result<Vec<u8>, Error> {
        let out = self.out("program.o");
        let mut clang = Command::new(CLANG);
        clang.args([
            "-target",
            "bpf",
            &format!("-mcpu={}", workload.cpu),
            "-O2",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
        ]);
        run(clang.arg("-I").arg(headers).arg("-c").arg(source).arg("-o").arg(&out))?;
        read(&out)
    }

    /// The shared object of a source, for x86-64, by clang.
    pub fn clang(&self, source: &str) -> Result<Vec<u8>, Error> {
        self.native(CLANG, CLANG_WINDOWS, &self.root.join(source))
    }

    /// The shared object of a source, for x86-64, by gcc.
    pub fn gcc(&self, source: &str) -> Result<Vec<u8>, Error> {
        self.native(GCC, GCC_WINDOWS, &self.root.join(source))
    }

    /// The shared object of C in bpf2c's style, for x86-64, by clang.
    pub fn bpf2c(&self, text: &str) -> Result<Vec<u8>, Error> {
        self.native(CLANG, CLANG_WINDOWS, &self.bpf2c_source(text)?)
    }

    /// The same with Control Flow Guard.
    pub fn bpf2c_guarded(&self, text: &str) -> Result<Vec<u8>, Error> {
        let assembly = self.out("bpf2c.s");
        self.compile(CLANG, CLANG_WINDOWS, &self.bpf2c_source(text)?, &assembly, GUARDED)?;
        let guard = self.out("guard.o");
        self.compile(CLANG, CLANG_WINDOWS, &self.root.join(GUARD), &guard, &[])?;
        self.linked(CLANG, CLANG_WINDOWS, &assembly, &[guard])
    }

    fn bpf2c_source(&self, text: &str) -> Result<PathBuf, Error> {
        let source = self.out("bpf2c.c");
        fs::write(&source, text).map_err(|e| e.to_string())?;
        Ok(source)
    }

    /// The shared object of C in bpf2c's style, for ARM64, by clang.
    pub fn bpf2c_arm64(&self, text: &str) -> Result<Vec<u8>, Error> {
        self.native(CLANG, CLANG_ARM64, &self.bpf2c_source(text)?)
    }

    /// The shared object of a source, for ARM64, by clang.
    pub fn clang_arm64(&self, source: &str) -> Result<Vec<u8>, Error> {
        self.native(CLANG, CLANG_ARM64, &self.root.join(source))
    }

    fn native(&self, compiler: &str, target: &[&str], source: &Path) -> Result<Vec<u8>, Error> {
        self.linked(compiler, target, source, &[])
    }

    fn compile(&self, compiler: &str, target: &[&str], source: &Path, out: &Path, more: &[&str]) -> Result<(), Error> {
        let mut compiler = Command::new(compiler);
        compiler.args(target).args(PLAIN).arg("-c").args(more);
        run(compiler.arg("-I").arg(self.out(NATIVE)).arg(source).arg("-o").arg(out))
    }

    /// The shared object of a source and of `others`, which are compiled.
    fn linked(&self, compiler: &str, target: &[&str], source: &Path, others: &[PathBuf]) -> Result<Vec<u8>, Error> {
        let (object, memory, out) = (self.out("native.o"), self.out("memory.o"), self.out("native.so"));
        self.compile(compiler, target, source, &object, &[])?;
        let mut linker = Command::new(CLANG);
        if target == CLANG_ARM64 {
            linker.args(LINK_ARM64);
        }
        linker.args(LINK).arg(&object).args(others);
        if needs_library(&read(&object)?) {
            // Its loops are not to become calls of itself.
            self.compile(compiler, target, &self.root.join(MEMORY), &memory, &["-fno-builtin"])?;
            linker.arg(&memory);
        }
        run(linker.arg("-o").arg(&out))?;
        read(&out)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn run(command: &mut Command) -> Result<(), Error> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Whether an object calls what it does not have.
fn needs_library(object: &[u8]) -> bool {
    let symbols = object::File::parse(object);
    symbols.is_ok_and(|file| {
        file.symbols()
            .any(|symbol| symbol.is_undefined() && symbol.name() != Ok(""))
    })
}

/// Whether gcc is there; it is a column that may be missing.
pub fn has_gcc() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        Command::new(GCC)
            .arg("--version")
            .output()
            .is_ok_and(|out| out.status.success())
    })
}
