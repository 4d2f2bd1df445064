//! The C compilers, and what each of them is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, headers};

/// The compiler that everything but gcc's column comes from.
const CLANG: &str = "clang-19";
const GCC: &str = "gcc";

/// Code for Windows, in a shared object of Linux: the calling convention is that of a driver, and so is nothing else.
const CLANG_WINDOWS: &[&str] = &["--target=x86_64-pc-windows-elf", "-mno-stack-arg-probe"];
const GCC_WINDOWS: &[&str] = &["-mabi=ms", "-fPIC", "-fno-tree-loop-distribute-patterns"];
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

/// What compilers call of a library.
const MEMORY: &str = "tests/benches/speed/native/memory.c";

/// A folder to compile in, with the headers for native code.
pub struct Compiler {
    folder: tempfile::TempDir,
    root: PathBuf,
}

impl Compiler {
    /// `root` is the repository's.
    pub fn new(root: &Path) -> Result<Compiler, Error> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        headers::write(&root.join("examples/include"), folder.path())?;
        let root = root.to_owned();
        Ok(Compiler { folder, root })
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The eBPF object of a source, as users compile it.
    pub fn bytecode(&self, source: &str) -> Result<Vec<u8>, Error> {
        let out = self.out("program.o");
        let mut clang = Command::new(CLANG);
        clang.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
        clang.arg("-I").arg(self.root.join("examples/include"));
        run(clang.arg("-c").arg(self.root.join(source)).arg("-o").arg(&out))?;
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
        let source = self.out("bpf2c.c");
        fs::write(&source, text).map_err(|e| e.to_string())?;
        self.native(CLANG, CLANG_WINDOWS, &source)
    }

    fn native(&self, compiler: &str, target: &[&str], source: &Path) -> Result<Vec<u8>, Error> {
        let (object, memory, out) = (self.out("native.o"), self.out("memory.o"), self.out("native.so"));
        let compile = |source: &Path, object: &Path, more: &[&str]| {
            let mut compiler = Command::new(compiler);
            compiler
                .args(target)
                .args(PLAIN)
                .args(more)
                .arg("-I")
                .arg(self.folder.path());
            run(compiler.arg("-c").arg(source).arg("-o").arg(object))
        };
        compile(source, &object, &[])?;
        // Its loops are not to become calls of itself.
        compile(&self.root.join(MEMORY), &memory, &["-fno-builtin"])?;
        run(Command::new(CLANG)
            .args(LINK)
            .args([&object, &memory])
            .arg("-o")
            .arg(&out))?;
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

/// Whether gcc is there; it is a column that may be missing.
pub fn has_gcc() -> bool {
    Command::new(GCC)
        .arg("--version")
        .output()
        .is_ok_and(|out| out.status.success())
}
