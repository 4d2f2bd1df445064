//! Control Flow Guard, as the simulator's Windows enforces it: the tool's images keep its rules, and an image that breaks one
//! is found out.

use bpf2sys_codegen::Skeleton;
use bpf2sys_pe_emit::{Machine, link};
use bpf2sys_simulator::image::{DirectoryKind, Image};
use bpf2sys_simulator::load_config::LoadConfig;
use bpf2sys_simulator::{HexBytes, Input, Rule, RunRequest, SimulatorError};
use libtest_mimic::{Failed, Trial};

use crate::forms::{MACHINES, lowered, lowered_unguarded, machine_name, needs_to_run};
use crate::simulator_trials::shared::patch::{Break, NOP, Patched};
use crate::support::{root, test, test_with};

const EXAMPLE: &str = "tail_dispatch";

/// Fields of the load configuration.
const COOKIE: usize = 0x58;
const CHECK: usize = 0x70;
const DISPATCH: usize = 0x78;
const COUNT: usize = 0x88;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![test("guard::without_it_nothing_is_claimed", nothing_is_claimed)];
    for machine in MACHINES {
        let name = machine_name(machine);
        trials.push(test(
            &format!("guard::{name}::the_table_has_every_function_that_is_called"),
            move || has_every_function(machine),
        ));
        for (what, rule, broken) in BROKEN {
            trials.push(test_with(
                &format!("guard::{name}::{what}"),
                needs_to_run(machine),
                move || is_found_out(machine, *rule, *broken),
            ));
        }
    }
    trials
}

/// Ways to break the rules.
const BROKEN: &[(&str, Rule, Break)] = &[
    ("a_program_is_not_in_the_table", Rule::GuardTarget, |p| {
        // The last one: code sections of programs are behind `.text`.
        let count = config(p) + COUNT;
        let fewer = p.u64(count) - 1;
        p.put(count, &fewer.to_le_bytes());
    }),
    ("the_table_is_not_sorted", Rule::LoadConfig, |p| {
        let table = table(p);
        let first: [u8; 4] = p.bytes[table..table + 4].try_into().unwrap();
        p.put(table + 4, &first);
    }),
    ("the_table_has_data", Rule::LoadConfig, |p| {
        let at = table(p) + 4 * (p.u64(config(p) + COUNT) as usize - 1);
        let data = p.section(".data").rva.0;
        p.put(at, &data.to_le_bytes());
    }),
    ("the_table_passes_its_section", Rule::LoadConfig, |p| {
        let count = config(p) + COUNT;
        p.put(count, &0x1000_u64.to_le_bytes());
    }),
    ("the_load_configuration_passes_its_section", Rule::LoadConfig, |p| {
        let size = config(p);
        p.put(size, &0x8000_u32.to_le_bytes());
    }),
    ("the_load_configuration_ends_before_its_flags", Rule::LoadConfig, |p| {
        let size = config(p);
        p.put(size, &0x90_u32.to_le_bytes());
    }),
    ("the_pointer_is_missing", Rule::LoadConfig, |p| {
        let machine = p.image().machine;
        let field = config(p) + if machine == Image::X64 { DISPATCH } else { CHECK };
        p.put(field, &p.image().image_base.to_le_bytes());
    }),
    ("the_cookie_is_constant", Rule::LoadConfig, |p| {
        let (field, constant) = (config(p) + COOKIE, p.address(".rdata", 0));
        p.put(field, &constant.to_le_bytes());
    }),
    ("a_helper_is_called_unchecked", Rule::UnguardedCall, |p| {
        if p.image().machine == Image::X64 {
            // call [pointer], with the address in rax: call rax; nop
            let at = p.find("xdp", &[0xFF, 0x15]);
            p.put(at, &[0xFF, 0xD0, 0x0F, 0x1F, 0x40, 0]);
        } else {
            // blr x16; blr x6
            let at = p.find("xdp", &[0x00, 0x02, 0x3F, 0xD6, 0xC0, 0x00, 0x3F, 0xD6]);
            p.put_code(at, &[NOP]);
        }
    }),
];

/// File offset of the load configuration.
fn config(p: &Patched) -> usize {
    let image = p.image();
    let directory = image.directory(DirectoryKind::LoadConfig).unwrap();
    p.at(image.image_base + u64::from(directory.rva.0))
}

/// File offset of the function table.
fn table(p: &Patched) -> usize {
    p.at(p.u64(config(p) + 0x80))
}

fn driver(machine: Machine) -> Result<Vec<u8>, Failed> {
    Ok(link(&lowered(EXAMPLE, machine, Skeleton::Driver)?)?.into_bytes())
}

/// Loads an image and runs a program that calls helpers.
fn run(image: &[u8]) -> Result<(), SimulatorError> {
    let echo = root().join("examples").join(EXAMPLE).join("echo.bin");
    let packet = std::fs::read(echo).map_err(|e| SimulatorError::Request(e.to_string()))?;
    let input = Input {
        program: "dispatch".into(),
        packet: HexBytes(packet),
        ..Input::default()
    };
    let request = RunRequest {
        image: image.to_vec(),
        inputs: vec![input],
        ..RunRequest::default()
    };
    bpf2sys_simulator::run(&request).map(drop)
}

fn is_found_out(machine: Machine, rule: Rule, broken: Break) -> Result<(), Failed> {
    let image = driver(machine)?;
    run(&image).map_err(|e| format!("the unbroken image: {e}"))?;
    let mut patched = Patched::of(&image);
    broken(&mut patched);
    let found = match run(&patched.finish()) {
        Err(SimulatorError::Kernel { violation, .. }) => vec![violation],
        Err(SimulatorError::Loader(violations)) => violations,
        Err(other) => return Err(other.to_string().into()),
        Ok(()) => Vec::new(),
    };
    match found.as_slice() {
        [violation] if violation.rule == rule => Ok(()),
        other => Err(format!("{rule:?} was due, not {other:?}").into()),
    }
}

/// The entry point, what tables name, and nothing that is no function.
fn has_every_function(machine: Machine) -> Result<(), Failed> {
    for skeleton in [Skeleton::Driver, Skeleton::Dll] {
        let object = lowered(EXAMPLE, machine, skeleton)?;
        let guard = object.load_config.as_ref().and_then(|config| config.guard.as_ref());
        let guard = guard.ok_or("no guard")?;
        let mut names: Vec<&str> = guard
            .functions
            .iter()
            .map(|symbol| object.symbols[symbol.0 as usize].name.as_str())
            .collect();
        names.sort_unstable();
        let own: &[&str] = match skeleton {
            Skeleton::Driver => &[
                "DriverEntry",
                "DriverUnload",
                "attach_provider",
                "detach_provider",
                "query_routine",
            ],
            _ => &["DllMain", "get_metadata_table"],
        };
        let getters = [
            "get_global_variable_sections",
            "get_hash",
            "get_map_initial_values",
            "get_maps",
            "get_programs",
            "get_version",
        ];
        let programs = ["dispatch", "stage_arp", "stage_ipv4", "stage_ipv6"];
        let mut expected = [own, &getters].concat();
        expected.extend(programs);
        expected.sort_unstable();
        assert_eq!(names, expected, "{skeleton:?}");
        let image = link(&object)?.into_bytes();
        let image = Image::parse(&image)?;
        let config = LoadConfig::read(&image).ok_or("no load configuration")??;
        assert_eq!(config.functions(&image)?.len(), expected.len());
    }
    Ok(())
}

fn nothing_is_claimed() -> Result<(), Failed> {
    let object = lowered_unguarded(EXAMPLE, Machine::X64, Skeleton::Driver)?;
    let image = link(&object)?.into_bytes();
    run(&image)?;
    let image = Image::parse(&image)?;
    assert_eq!(image.dll_characteristics & 0x4000, 0);
    let config = LoadConfig::read(&image).ok_or("no load configuration")??;
    assert!(!config.is_instrumented() && config.functions(&image)?.is_empty());
    assert_eq!((config.guard_check, config.guard_dispatch), (0, 0));
    assert_ne!(config.security_cookie, 0);
    Ok(())
}
