//! Drivers of ours among providers that come and go, beside a second load of themselves, and in older runtimes.

use bpf2sys::BuildOptions;
use bpf2sys_codegen::RuntimeLevel;
use bpf2sys_pe_emit::Machine::{self, Arm64, X64};
use bpf2sys_simulator::{
    HexBytes, Input, MapPreset, ObjectFile, PresetValue, Provider, ProviderEvent, Reload, RunReport, RunRequest,
    SimulatedRuntime,
};
use libtest_mimic::{Failed, Trial};

use crate::examples::EXAMPLES;
use crate::interpret::samples;
use crate::support::{Need, root, test, test_with};

/// What is done to an object's driver.
type Body = fn(Machine, &ObjectFile) -> Result<(), Failed>;

pub fn trials() -> Vec<Trial> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Vec::new();
    }
    let mut trials = Vec::new();
    let mut both = |name: String, path: String, body: Body| {
        let other = path.clone();
        trials.push(test(&format!("providers::{name}"), move || body(X64, &object(&path)?)));
        let name = format!("providers::arm64::{name}");
        trials.push(test_with(&name, &[Need::Emulator], move || {
            body(Arm64, &object(&other)?)
        }));
    };
    let shape = |name: &str| format!("tests/fixtures/metadata/{name}.o");
    both(
        "a_function_of_the_sample_extension_is_called".into(),
        shape("btf_resolved"),
        calls_a_function,
    );
    both(
        "a_custom_map_answers_as_its_extension_does".into(),
        shape("custom_map_basic"),
        uses_a_custom_map,
    );
    let shapes = [
        "bindmonitor",
        "btf_resolved",
        "callgraph_bpf2bpf",
        "droppacket",
        "sockops",
        "tail_call",
        "utility",
    ];
    let all = shapes.map(|name| (name, shape(name)));
    let examples = EXAMPLES.map(|name| (name, format!("examples/{name}/{name}.o")));
    for (name, path) in all.into_iter().chain(examples) {
        both(
            format!("{name}_reads_addresses_for_each_call"),
            path.clone(),
            survives_reloads,
        );
        both(format!("{name}_is_loaded_twice"), path.clone(), is_loaded_twice);
        both(
            format!("{name}_runs_in_the_runtimes_that_it_was_built_for"),
            path,
            runs_in_its_runtimes,
        );
    }
    trials
}

fn object(path: &str) -> Result<ObjectFile, Failed> {
    let path = root().join(path);
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or("the object has no name")?;
    Ok(ObjectFile {
        name: name.into(),
        bytes: std::fs::read(&path)?,
    })
}

/// The driver that an object becomes, or why it becomes none.
fn driver(machine: Machine, object: &ObjectFile, runtime: RuntimeLevel) -> Result<Vec<u8>, String> {
    let options = BuildOptions {
        machines: vec![machine],
        runtime,
        ..BuildOptions::default()
    };
    let built = bpf2sys::build(&object.bytes, &object.name, &options).map_err(|e| e.to_string())?;
    built
        .outputs
        .into_iter()
        .next()
        .map(|o| o.bytes)
        .ok_or_else(|| "the build made nothing".into())
}

fn run(request: &RunRequest) -> Result<RunReport, Failed> {
    bpf2sys_simulator::run(request).map_err(|e| e.to_string().into())
}

/// A context of the sample extension, whose first number is given.
fn sample(program: &str, number: u32) -> Input {
    let mut context = vec![0; 32];
    context[16..20].copy_from_slice(&number.to_le_bytes());
    Input {
        program: program.into(),
        context: HexBytes(context),
        ..Input::default()
    }
}

fn check(what: &str, good: bool) -> Result<(), Failed> {
    if good { Ok(()) } else { Err(what.into()) }
}

fn calls_a_function(machine: Machine, object: &ObjectFile) -> Result<(), Failed> {
    let provider = || Provider::BtfModule("8f6c1f83-ce4c-4b58-8b91-654a29e23b7c".into());
    let with = |events| Input {
        events,
        ..sample("func", 0xFFFF_FFFF)
    };
    let request = RunRequest {
        image: driver(machine, object, RuntimeLevel::V1_6)?,
        inputs: vec![
            sample("func", 5),
            with(vec![ProviderEvent::Detach(provider())]),
            with(vec![ProviderEvent::Attach(provider())]),
            // The hash that a driver states covers the functions that it calls.
            with(vec![ProviderEvent::AttachChanged(provider())]),
        ],
        ..RunRequest::default()
    };
    let native = run(&request)?;
    let seen: Vec<_> = native.results.iter().map(|r| (r.result, r.not_run.is_some())).collect();
    let expected = [(5, false), (0, true), (u32::MAX, false), (0, true)];
    check(&format!("{seen:?}"), seen == expected)?;
    check(
        &format!("{:?}", native.btf_calls),
        native.btf_calls.len() == 1 && native.btf_calls[0].calls == 2,
    )?;
    let interpreted = run(&RunRequest {
        interpret: Some(object.clone()),
        ..request.clone()
    })?;
    check(
        "the interpreter gives other results",
        interpreted.results == native.results,
    )?;
    check(
        "the interpreter makes other calls",
        interpreted.btf_calls == native.btf_calls,
    )?;
    let absent = RunRequest {
        absent: vec![provider()],
        ..request
    };
    let refused = bpf2sys_simulator::run(&absent)
        .err()
        .ok_or("it loads without a provider")?
        .to_string();
    check(&refused, refused.contains("whose provider is not attached"))
}

fn uses_a_custom_map(machine: Machine, object: &ObjectFile) -> Result<(), Failed> {
    let preset = |map: &str, value: u32| MapPreset {
        map: map.into(),
        key: HexBytes(vec![0; 4]),
        value: PresetValue::Bytes(HexBytes(value.to_le_bytes().to_vec())),
    };
    let image = driver(machine, object, RuntimeLevel::V1_6)?;
    // Only the extension's own helpers get at its map.
    for (program, result, left) in [
        ("test_map_read_increment", 1, 7),
        ("test_map_read_helper_increment", 0, 8),
        ("test_map_read_helper_value", 0, 7),
        ("test_map_read_helper_increment_invalid", 1, 7),
        ("test_map_update_element", 1, 7),
        ("test_map_delete_element", 1, 7),
        ("test_map_find_and_delete_element", 1, 7),
        ("test_map_push_elem", 1, 7),
        ("test_map_pop_elem", 1, 7),
        ("test_map_peek_elem", 1, 7),
    ] {
        let request = RunRequest {
            image: image.clone(),
            presets: vec![preset("sample_hash_map", 7), preset("result_map", 9)],
            inputs: vec![sample(program, 0)],
            ..RunRequest::default()
        };
        let native = run(&request)?;
        let value = |map: &str| {
            let map = native.maps.iter().find(|m| m.name == map)?;
            let bytes = map.entries.first()?.values.first()?.0.get(..4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let seen = (value("result_map"), value("sample_hash_map"));
        check(&format!("{program}: {seen:?}"), seen == (Some(result), Some(left)))?;
        let interpreted = run(&RunRequest {
            interpret: Some(object.clone()),
            ..request
        })?;
        check(
            &format!("{program}: the interpreter differs"),
            interpreted.maps == native.maps,
        )?;
    }
    Ok(())
}

/// A few inputs for each program of an image: the samples that an example has, as contexts or packets, and packets made up.
fn inputs(image: &[u8], object: &ObjectFile) -> Result<Vec<Input>, Failed> {
    let description = bpf2sys_simulator::describe::describe(image).map_err(|e| e.to_string())?;
    let programs = description.module.ok_or("the image has no module")?.programs;
    let platform = bpf2sys_platform::Platform::builtin();
    let name = object.name.trim_end_matches(".o");
    let samples = if EXAMPLES.contains(&name) {
        samples(name)?
    } else {
        Vec::new()
    };
    let mut inputs = Vec::new();
    for program in programs {
        let (kind, _) = platform
            .program_type_for_section(&program.section)
            .ok_or_else(|| format!("section {} means no program type", program.section))?;
        let (contexts, packets): (Vec<_>, Vec<_>) = samples
            .iter()
            .cloned()
            .partition(|sample| i32::try_from(sample.len()) == Ok(kind.context.size));
        let made_up = [0, 0x45, 0xFF].map(|first| {
            let mut packet = vec![first; 96];
            // An IPv4 header behind an Ethernet header, with UDP in it.
            for (at, byte) in [(12, 8), (13, 0), (14, 0x45), (23, 17), (37, 53)] {
                packet[at] = byte;
            }
            packet
        });
        let packets: Vec<Vec<u8>> = if kind.context.data < 0 {
            vec![Vec::new()]
        } else {
            packets.into_iter().chain(made_up).collect()
        };
        for context in contexts.into_iter().chain([Vec::new()]) {
            inputs.extend(packets.iter().map(|packet| Input {
                program: program.name.clone(),
                packet: HexBytes(packet.clone()),
                context: HexBytes(context.clone()),
                ..Input::default()
            }));
        }
    }
    Ok(inputs)
}

/// Compiled code that kept an address over a call would be caught, and would give the same results otherwise.
fn survives_reloads(machine: Machine, object: &ObjectFile) -> Result<(), Failed> {
    let image = driver(machine, object, RuntimeLevel::V1_6)?;
    let request = RunRequest {
        inputs: inputs(&image, object)?,
        image,
        ..RunRequest::default()
    };
    let still = run(&request)?;
    for reload in [Reload::EachInvocation, Reload::EachCall] {
        let report = run(&RunRequest {
            reload,
            ..request.clone()
        })?;
        check(&format!("{reload:?} changes the report"), report == still)?;
    }
    check(
        "no program called anything",
        !still.helper_calls.is_empty() || !still.btf_calls.is_empty() || calls_nothing(object),
    )
}

/// Whether an object has no calls to make.
fn calls_nothing(object: &ObjectFile) -> bool {
    ["droppacket.o"].contains(&object.name.as_str())
}

fn is_loaded_twice(machine: Machine, object: &ObjectFile) -> Result<(), Failed> {
    let image = driver(machine, object, RuntimeLevel::V1_6)?;
    let once = run(&RunRequest {
        inputs: inputs(&image, object)?,
        image: image.clone(),
        ..RunRequest::default()
    })?;
    // The second load does the same, next to the first, in which nothing was run.
    let inputs = inputs(&image, object)?
        .into_iter()
        .map(|input| Input { load: 1, ..input });
    let twice = run(&RunRequest {
        inputs: inputs.collect(),
        image,
        loads: 2,
        ..RunRequest::default()
    })?;
    check("the second load gives other results", twice.results == once.results)?;
    check("a load is not reported", twice.maps.len() == 2 * once.maps.len())
}

fn runs_in_its_runtimes(machine: Machine, object: &ObjectFile) -> Result<(), Failed> {
    use RuntimeLevel as Built;
    use SimulatedRuntime as Runtime;
    let mut reports: Vec<RunReport> = Vec::new();
    for (level, runtimes) in [
        (Built::V0_21, &[Runtime::V0_21, Runtime::V1_4, Runtime::V1_6][..]),
        (Built::V1_4, &[Runtime::V1_4, Runtime::V1_6]),
        (Built::V1_6, &[Runtime::V1_6]),
    ] {
        let image = match driver(machine, object, level) {
            Ok(image) => image,
            // What a level does not have is an error of the build.
            Err(_) if object.name == "btf_resolved.o" && level != Built::V1_6 => continue,
            Err(error) => return Err(error.into()),
        };
        for &runtime in runtimes {
            let report = run(&RunRequest {
                runtime,
                inputs: inputs(&image, object)?,
                image: image.clone(),
                ..RunRequest::default()
            })?;
            reports.push(report);
        }
        if level == Built::V1_6 {
            for runtime in [Runtime::V0_21, Runtime::V1_4] {
                let request = RunRequest {
                    runtime,
                    image: image.clone(),
                    ..RunRequest::default()
                };
                let refused = bpf2sys_simulator::run(&request)
                    .err()
                    .ok_or("an old runtime takes it")?;
                check(&refused.to_string(), refused.to_string().contains("size 154"))?;
            }
        }
    }
    let same = |report: &RunReport| report.results == reports[0].results && report.maps == reports[0].maps;
    check("runtimes give other results", reports.iter().all(same))
}
