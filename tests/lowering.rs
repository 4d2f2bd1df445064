//! What each rule of the lowering makes, as text: `tests/lowering/*.bpf`.
//!
//! Given: eBPF assembly with directives. Expected: the optimized Cranelift IR and the native code of both targets, which
//! follow in the same file. `BLESS=1` rewrites what follows.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bpf2sys_bytecode::{
    BtfFunction, FunctionIndex, GlobalSection, InsnIndex, Map, MapDefinition, MapIndex, MapOrigin, Module,
};
use bpf2sys_codegen::listing::native_code;
use bpf2sys_codegen::{InsnPlace, Lowered, LoweredFunction, Options, RuntimeLevel, lower};
use bpf2sys_isa_tests::assemble;
use bpf2sys_pe_emit::Machine;
use bpf2sys_platform::Platform;
use bpf2sys_verifier::{VerifiedModule, verify};
use libtest_mimic::{Failed, Trial};

use crate::support::{root, test};

/// The line before each expected text.
const MARK: &str = "==== ";

pub fn trials() -> Vec<Trial> {
    let mut files = files();
    files.sort();
    let mut trials: Vec<Trial> = files
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            test(&format!("lowering::{name}"), move || check(&path))
        })
        .collect();
    trials.push(test("lowering::has_cases", || {
        if files_exist() {
            Ok(())
        } else {
            Err("no .bpf files".into())
        }
    }));
    trials
}

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("tests/lowering")).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "bpf"))
        .collect()
}

fn files_exist() -> bool {
    !files().is_empty()
}

fn check(path: &Path) -> Result<(), Failed> {
    let text = fs::read_to_string(path)?;
    let input: String = text
        .lines()
        .take_while(|line| !line.starts_with(MARK))
        .fold(String::new(), |all, line| all + line + "\n");
    let input = input.trim_end().to_owned() + "\n\n";
    let expected = input.clone() + &Directives::read(&input)?.lowered(&input)?;
    if text == expected {
        return Ok(());
    }
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        return Ok(fs::write(path, expected)?);
    }
    let diff = similar::TextDiff::from_lines(&text, &expected);
    let diff = diff
        .unified_diff()
        .context_radius(4)
        .header("in the file", "lowered now")
        .to_string();
    Err(format!(
        "{} differs:\n{diff}\nIf that is meant, `BLESS=1 cargo test lowering` rewrites it.",
        path.display()
    )
    .into())
}

/// What the lines that begin with `#!` say.
struct Directives {
    options: Options,
    targets: Vec<Machine>,
    verified: bool,
    section: String,
    maps: Vec<Map>,
    globals: Vec<GlobalSection>,
}

impl Directives {
    fn read(input: &str) -> Result<Directives, Failed> {
        let mut directives = Directives {
            options: Options {
                keep_ir: true,
                ..Options::default()
            },
            targets: vec![Machine::X64, Machine::Arm64],
            verified: false,
            section: "bind".to_owned(),
            maps: Vec::new(),
            globals: Vec::new(),
        };
        for line in input.lines().filter_map(|line| line.strip_prefix("#!")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["verified"] => directives.verified = true,
                ["section", section] => (*section).clone_into(&mut directives.section),
                ["target", "x64"] => directives.targets = vec![Machine::X64],
                ["target", "arm64"] => directives.targets = vec![Machine::Arm64],
                ["most-work", most] => directives.options.most_work = most.parse()?,
                ["runtime", level] => directives.options.runtime = runtime(level)?,
                ["lse"] => directives.options.lse = true,
                ["sign-return-address"] => directives.options.sign_return_address = true,
                ["optimizations", words] => directives.options.optimizations = words.parse()?,
                ["map", name, map_type, numbers @ ..] => {
                    let map = map(name, map_type, numbers)?;
                    directives.maps.push(map);
                }
                ["global", section, bytes] => directives.global(section, bytes.parse()?),
                _ => return Err(format!("there is no directive `#!{line}`").into()),
            }
        }
        Ok(directives)
    }

    /// A global variable section with the map behind it.
    fn global(&mut self, section: &str, bytes: usize) {
        let index = MapIndex(self.maps.len() as u32);
        self.maps.push(Map {
            name: section.to_owned(),
            definition: MapDefinition {
                map_type: 2,
                key_size: 4,
                value_size: bytes as u32,
                max_entries: 1,
                ..MapDefinition::default()
            },
            inner: None,
            origin: MapOrigin::Global(bpf2sys_bytecode::GlobalIndex(self.globals.len() as u32)),
            flags: 0,
            initial_values: Vec::new(),
        });
        self.globals.push(GlobalSection {
            section: section.to_owned(),
            map: index,
            data: vec![0; bytes],
            read_only: false,
        });
    }

    fn lowered(&self, input: &str) -> Result<String, Failed> {
        let assembly = assemble((1..).zip(input.lines()))?;
        let module = assembly.module("program", &self.section, self.maps.clone(), self.globals.clone())?;
        let mut platform = Platform::builtin();
        platform.btf_functions.extend(module.btf_functions.iter().map(offered));
        let verified = if self.verified {
            verify(module, &platform, &bpf2sys_verifier::Options::default())?
        } else {
            let (program_type, attach) = platform
                .program_type_for_section(&self.section)
                .ok_or("no program type has this section")?;
            VerifiedModule::assume_verified_for_instruction_tests(module, program_type, attach.attach_type)
        };
        let lowered: Vec<(Machine, Lowered)> = self
            .targets
            .iter()
            .map(|machine| {
                let options = Options {
                    machine: *machine,
                    ..self.options.clone()
                };
                Ok((*machine, lower(&verified, &platform, &options)?))
            })
            .collect::<Result<_, Failed>>()?;
        Ok(text(verified.module(), &lowered))
    }
}

/// A function of another module, as its provider offers it.
fn offered(function: &BtfFunction) -> bpf2sys_platform::BtfFunction {
    bpf2sys_platform::BtfFunction {
        module: function.module,
        name: function.name.clone(),
        return_type: 0,
        arguments: [0; 5],
        flags: 0,
        provider: "test".to_owned(),
        ..bpf2sys_platform::BtfFunction::default()
    }
}

fn runtime(level: &str) -> Result<RuntimeLevel, Failed> {
    let levels = [RuntimeLevel::V0_21, RuntimeLevel::V1_4, RuntimeLevel::V1_6];
    let found = levels.into_iter().find(|known| known.to_string() == level);
    found.ok_or_else(|| format!("there is no runtime level `{level}`").into())
}

fn map(name: &str, map_type: &str, numbers: &[&str]) -> Result<Map, Failed> {
    let map_type = Platform::builtin()
        .map_types
        .iter()
        .find(|t| t.name == map_type)
        .ok_or_else(|| format!("there is no map type `{map_type}`"))?
        .value;
    let mut definition = MapDefinition {
        map_type,
        ..MapDefinition::default()
    };
    for number in numbers {
        let field = match number.split_once('=') {
            Some(("key", value)) => (&mut definition.key_size, value),
            Some(("value", value)) => (&mut definition.value_size, value),
            Some(("entries", value)) => (&mut definition.max_entries, value),
            _ => return Err(format!("a map has no `{number}`").into()),
        };
        *field.0 = field.1.parse()?;
    }
    Ok(Map {
        name: name.to_owned(),
        definition,
        inner: None,
        origin: MapOrigin::Btf,
        flags: 0,
        initial_values: Vec::new(),
    })
}

/// IR, once if it is the same for all targets, and native code.
fn text(module: &Module, lowered: &[(Machine, Lowered)]) -> String {
    let irs: Vec<(Machine, String)> = lowered.iter().map(|(machine, l)| (*machine, ir(module, l))).collect();
    let mut text = String::new();
    let mut part = |title: &str, body: &str| {
        let _ = write!(text, "{MARK}{title}\n\n{body}\n");
    };
    match irs.as_slice() {
        [(_, first), rest @ ..] if rest.iter().all(|(_, ir)| ir == first) => part("Cranelift IR", first),
        all => {
            for (machine, ir) in all {
                part(&format!("Cranelift IR for {}", title(*machine)), ir);
            }
        }
    }
    for (machine, lowered) in lowered {
        part(title(*machine), &native(module, lowered));
    }
    text.trim_end().to_owned() + "\n"
}

fn title(machine: Machine) -> &'static str {
    match machine {
        Machine::X64 => "x86-64",
        Machine::Arm64 => "ARM64",
    }
}

/// The line that stands before what an instruction became; that of an inlined function has its name.
fn origin(module: &Module, function: &LoweredFunction, place: InsnPlace) -> String {
    let of = module.function(place.function);
    let name = if place.function == function.function {
        String::new()
    } else {
        format!("{} ", of.name)
    };
    let insn = of.instructions.get(place.instruction.index());
    insn.map_or_else(String::new, |insn| format!("; {name}{}: {}\n", insn.slot, insn.op))
}

/// The instruction with a number: they are counted through all functions.
fn numbered(module: &Module, mut number: u32) -> Option<InsnPlace> {
    for (function, code) in (0..).map(FunctionIndex).zip(&module.functions) {
        let count = code.instructions.len() as u32;
        if number < count {
            let instruction = InsnIndex(number);
            return Some(InsnPlace { function, instruction });
        }
        number -= count;
    }
    None
}

fn ir(module: &Module, lowered: &Lowered) -> String {
    let mut text = String::new();
    for function in &lowered.functions {
        let _ = writeln!(text, "; {}", function.symbol(module));
        let mut last = None;
        for line in function.ir.as_deref().unwrap_or_default().lines() {
            // Cranelift puts the source location before the instruction, and indents all other lines by as much.
            let located = line.strip_prefix('@').and_then(|rest| rest.split_once(' '));
            let line = match located {
                Some((digits, rest)) => {
                    let number = u32::from_str_radix(digits, 16).ok();
                    let index = number.and_then(|number| numbered(module, number));
                    if let Some(index) = index.filter(|index| last.replace(*index) != Some(*index)) {
                        text += &origin(module, function, index);
                    }
                    rest.trim()
                }
                None => line.trim(),
            };
            let at_margin = line.is_empty() || ["function", "block", "}"].iter().any(|start| line.starts_with(start));
            let _ = writeln!(text, "{}{line}", if at_margin { "" } else { "    " });
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

fn native(module: &Module, lowered: &Lowered) -> String {
    let mut text = String::new();
    for function in &lowered.functions {
        let _ = writeln!(text, "{}:", function.symbol(module));
        let Some(range) = lowered.object.functions.get(function.range) else {
            continue;
        };
        let mut last = None;
        for instruction in native_code(&lowered.object, range) {
            let place = function
                .origins
                .partition_point(|origin| origin.offset <= instruction.offset);
            let made_of = place
                .checked_sub(1)
                .and_then(|place| function.origins.get(place)?.instruction);
            if let Some(label) = &instruction.label {
                let _ = writeln!(text, "{label}:");
            }
            if let Some(index) = made_of.filter(|index| last.replace(*index) != Some(*index)) {
                text += &origin(module, function, index);
            }
            let _ = writeln!(text, "    {}", instruction.text);
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}
