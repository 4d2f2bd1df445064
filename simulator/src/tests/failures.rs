//! What goes wrong around a module while it is loaded: each time the right status, nothing left behind, and a second life.

use std::fmt::Write;

use bpf2sys_simulator::{EbpfResult, Life, Rule, RunRequest, Sabotage, SimulatorError};

use super::fixture::{bare, image, request, run, sample_request};
use super::patch::{Break, Patched};

/// A point of the load that can fail, and what must be answered.
pub struct Point {
    /// What fails.
    pub what: &'static str,
    sabotage: Sabotage,
    driver_entry: u32,
    attach: Option<u32>,
    load_module: EbpfResult,
    load_programs: Option<EbpfResult>,
}

const OBJECT_NAME_EXISTS: u32 = 0x4000_0000;
const UNSUCCESSFUL: u32 = 0xC000_0001;
const INVALID_PARAMETER: u32 = 0xC000_000D;
const NO_MEMORY: u32 = 0xC000_0017;
const ACCESS_DENIED: u32 = 0xC000_0022;
const OBJECT_NAME_NOT_FOUND: u32 = 0xC000_0034;
const INSUFFICIENT_RESOURCES: u32 = 0xC000_009A;
const NOINTERFACE: u32 = 0xC000_02B9;

/// A failure that `DriverEntry` must return.
fn entry(what: &'static str, sabotage: Sabotage, status: u32) -> Point {
    Point {
        what,
        sabotage,
        driver_entry: status,
        attach: None,
        load_module: EbpfResult::ObjectNotFound,
        load_programs: None,
    }
}

/// A failure that the attach callback must return, while `DriverEntry` succeeds.
fn attach(what: &'static str, sabotage: Sabotage, status: u32) -> Point {
    Point {
        attach: Some(status),
        ..entry(what, sabotage, 0)
    }
}

/// A failure of one of the two requests, of which the driver notices nothing.
fn load(what: &'static str, sabotage: Sabotage, result: EbpfResult) -> Point {
    Point {
        attach: Some(0),
        load_module: EbpfResult::Success,
        load_programs: Some(result),
        ..entry(what, sabotage, 0)
    }
}

/// What a module has that can be made to fail.
pub struct Parts {
    /// Its maps. The last one that is created is made to fail.
    pub maps: usize,
    /// How many of them are pinned.
    pub pins: usize,
    /// Its programs.
    pub programs: usize,
    /// A helper of one of them.
    pub helper: Option<u32>,
    /// Whether its programs state a hash of their helpers.
    pub hash: bool,
    /// Whether one of them calls functions of other modules.
    pub btf: bool,
}

/// Every point that there is in a module with these parts.
pub fn points(parts: &Parts) -> Vec<Point> {
    use EbpfResult::{ExtensionFailedToLoad, InvalidArgument, NoMemory, ObjectAlreadyExists, ObjectNotFound, Success};
    let mut points = vec![
        entry(
            "RtlQueryRegistryValues: access denied",
            Sabotage::RegistryQueryFails(ACCESS_DENIED),
            ACCESS_DENIED,
        ),
        entry(
            "RtlQueryRegistryValues: no memory",
            Sabotage::RegistryQueryFails(NO_MEMORY),
            NO_MEMORY,
        ),
        entry(
            "NpiModuleId is missing",
            Sabotage::ModuleIdMissing,
            OBJECT_NAME_NOT_FOUND,
        ),
        entry(
            "NpiModuleId is a string",
            Sabotage::ModuleIdWrongType,
            INVALID_PARAMETER,
        ),
        entry(
            "NpiModuleId has 15 bytes",
            Sabotage::ModuleIdWrongLength,
            INVALID_PARAMETER,
        ),
        entry("NpiModuleId has 17 bytes", Sabotage::ModuleIdTooLong, INVALID_PARAMETER),
        entry(
            "NmrRegisterClient: failure",
            Sabotage::RegisterClientFails(UNSUCCESSFUL),
            UNSUCCESSFUL,
        ),
        entry(
            "NmrRegisterClient: no memory",
            Sabotage::RegisterClientFails(INSUFFICIENT_RESOURCES),
            INSUFFICIENT_RESOURCES,
        ),
        entry(
            "NmrRegisterClient: bad characteristics",
            Sabotage::RegisterClientFails(INVALID_PARAMETER),
            INVALID_PARAMETER,
        ),
        entry("no provider: attach is never called", Sabotage::ProviderMissing, 0),
        attach(
            "NmrClientAttachProvider: no interface",
            Sabotage::AttachProviderFails(NOINTERFACE),
            NOINTERFACE,
        ),
        attach("provider: no memory", Sabotage::AttachNoMemory, INSUFFICIENT_RESOURCES),
        attach("provider: file not authorised", Sabotage::NotAuthorised, UNSUCCESSFUL),
        attach(
            "provider: another file authorised",
            Sabotage::OtherFileAuthorised,
            UNSUCCESSFUL,
        ),
        Point {
            load_module: ObjectAlreadyExists,
            ..attach("provider: module id taken", Sabotage::ModuleIdTaken, OBJECT_NAME_EXISTS)
        },
        Point {
            load_module: ObjectNotFound,
            load_programs: None,
            ..load(
                "provider detaches before the first request",
                Sabotage::DetachedBeforeLoad,
                Success,
            )
        },
        Point {
            load_module: NoMemory,
            load_programs: None,
            ..load("no handle for the module", Sabotage::ModuleHandleFails, Success)
        },
    ];
    if parts.maps > 0 {
        points.push(load("first map: no memory", Sabotage::MapFails(0), NoMemory));
        points.push(load(
            "last map: no memory",
            Sabotage::MapFails(parts.maps - 1),
            NoMemory,
        ));
    }
    if parts.pins > 0 {
        points.push(load(
            "pin path taken by another map",
            Sabotage::PinTaken,
            InvalidArgument,
        ));
    }
    points.push(load("first program: no memory", Sabotage::ProgramFails(0), NoMemory));
    let last = parts.programs - 1;
    points.push(load("last program: no memory", Sabotage::ProgramFails(last), NoMemory));
    let missing = Sabotage::ExtensionMissing(last);
    points.push(load(
        "extension of the last program not attached",
        missing,
        ExtensionFailedToLoad,
    ));
    if let Some(id) = parts.helper {
        points.push(load(
            "helper missing in the provider",
            Sabotage::HelperMissing(id),
            InvalidArgument,
        ));
    }
    if parts.btf {
        points.push(load(
            "BTF provider not attached",
            Sabotage::BtfProviderMissing,
            ExtensionFailedToLoad,
        ));
    }
    if parts.hash {
        points.push(load(
            "prototypes changed: hash differs",
            Sabotage::HelpersChanged,
            InvalidArgument,
        ));
    }
    points.extend([
        load(
            "maps and programs asked for twice",
            Sabotage::LoadedTwice,
            ObjectAlreadyExists,
        ),
        load(
            "driver unloaded in use: the wait counts",
            Sabotage::UnloadedInUse,
            Success,
        ),
        load(
            "NmrDeregisterClient done at once",
            Sabotage::DeregisteredAtOnce,
            Success,
        ),
    ]);
    points
}

/// Makes one point of a load fail, of a module with these parts, and loads it once more. Gives the life in which it failed.
pub fn fail_at(request: &RunRequest, parts: &Parts, point: &Point) -> Result<Life, String> {
    let report = run(&RunRequest {
        sabotage: point.sabotage,
        ..request.clone()
    })
    .map_err(|e| e.to_string())?;
    let [life, second] = report.lives.as_slice() else {
        return Err(format!("{} lives", report.lives.len()));
    };
    let expected = (
        point.driver_entry,
        point.attach,
        Some(point.load_module),
        point.load_programs,
    );
    let answered = (life.driver_entry, life.attach, life.load_module, life.load_programs);
    if answered != expected || life.defect.is_some() {
        return Err(format!("{answered:x?}, not {expected:x?}: {:?}", life.defect));
    }
    check_states(life)?;
    check_states(second)?;
    let between = &second.between;
    let found = (
        (second.driver_entry, second.load_module, second.load_programs),
        (between.maps.len(), between.pins.len(), between.programs.len()),
        (between.clients, between.bindings),
    );
    let success = Some(EbpfResult::Success);
    if found != ((0, success, success), (parts.maps, parts.pins, parts.programs), (1, 1)) {
        return Err(format!("the second life: {found:?}, {between}"));
    }
    Ok(life.clone())
}

/// What was answered at each point, as a table in Markdown.
pub fn table_of_failures() -> Result<String, String> {
    let mut table = String::from(
        "| what fails | `DriverEntry` | attach callback | `LOAD_NATIVE_MODULE` | `LOAD_NATIVE_PROGRAMS` | there at that moment |\n\
         |---|---|---|---|---|---|\n",
    );
    let every_map = points(&FIXTURE)
        .into_iter()
        .map(|point| (request(vec![]), &FIXTURE, point));
    let functions = points(&SAMPLE)
        .into_iter()
        .filter(|point| point.sabotage == Sabotage::BtfProviderMissing)
        .map(|point| (sample_request(vec![]), &SAMPLE, point));
    for (request, parts, point) in every_map.chain(functions) {
        let life = fail_at(&request, parts, &point).map_err(|e| format!("{}: {e}", point.what))?;
        let status = |status: u32| format!("{status:#010x}");
        let attach = life.attach.map_or("not called".into(), status);
        let result = |result: Option<EbpfResult>| result.map_or("not asked", EbpfResult::name);
        let (first, second) = (result(life.load_module), result(life.load_programs));
        let entry = status(life.driver_entry);
        writeln!(
            table,
            "| {} | {entry} | {attach} | {first} | {second} | {} |",
            point.what, life.between
        )
        .map_err(|e| e.to_string())?;
    }
    Ok(table)
}

fn check_states(life: &Life) -> Result<(), String> {
    if life.before != life.after {
        return Err(format!("before {}, after {}", life.before, life.after));
    }
    if life.before == life.between {
        return Err(format!("nothing was there in between either: {}", life.between));
    }
    Ok(())
}

/// The parts of the fixture's module.
const FIXTURE: Parts = Parts {
    maps: 18,
    pins: 1,
    programs: 11,
    helper: Some(65536),
    hash: false,
    btf: false,
};

/// The parts of the module that calls functions of others.
const SAMPLE: Parts = Parts {
    maps: 7,
    pins: 3,
    programs: 6,
    helper: Some(65536),
    hash: false,
    btf: true,
};

pub fn each_failure_of_a_module_that_calls_functions_is_answered_and_leaves_nothing() {
    for point in points(&SAMPLE) {
        let outcome = fail_at(&sample_request(vec![]), &SAMPLE, &point);
        assert!(outcome.is_ok(), "{}: {outcome:?}", point.what);
    }
}

pub fn each_failure_is_answered_and_leaves_nothing() {
    let table = table_of_failures().unwrap();
    assert!(include_str!("../../docs/failures.md").ends_with(&table), "{table}");
}

/// What the attach callback is given, and the results of both requests.
type Answers = (u32, EbpfResult, Option<EbpfResult>);

pub fn defects_that_the_runtime_notices_are_answered_and_leave_nothing() {
    use EbpfResult::{ExtensionFailedToLoad, InvalidArgument, InvalidFd, InvalidObject, ObjectNotFound};
    let at_attach = (INVALID_PARAMETER, ObjectNotFound, None);
    let at_load = |result| (0, EbpfResult::Success, Some(result));
    let cases: &[(Rule, Answers, Break)] = &[
        (Rule::MetadataTable, at_attach, |p| _ = p.put(p.metadata(), &[31])),
        (Rule::Version, at_attach, |p| {
            p.code(
                (&[1, 0, 0, 0, 6, 0, 0, 0], 0, &[0, 0, 0, 0, 20]),
                (
                    &[0xD280_0028, 0xB900_081F, 0xF2C0_00C8],
                    0,
                    &[0xD280_0008, 0xB900_081F, 0xF2C0_0288],
                ),
            );
        }),
        (Rule::ArrayPointer, at_attach, |p| _ = p.put(p.program(1, 88), &[0, 0])),
        (Rule::ElementHeader, at_attach, |p| _ = p.put(p.map(4, 24), &[72])),
        (Rule::ElementPointer, at_attach, |p| p.pointer_away(p.helper(6, 3, 32))),
        (Rule::MapPinning, at_load(InvalidArgument), |p| {
            p.put(p.map(2, 60), &[2]);
        }),
        (Rule::MapDefinition, at_load(InvalidArgument), |p| {
            p.put(p.map(17, 52), &[0; 4]);
        }),
        (Rule::InnerTemplate, at_load(InvalidObject), |p| {
            p.put(p.map(14, 68), &[99]);
        }),
        (Rule::ProgramType, at_load(ExtensionFailedToLoad), |p| {
            p.put(p.find(".data", &[0x7C, 0x51, 0x8C, 0x60]), &[1]);
        }),
        (Rule::MapIndex, at_load(InvalidArgument), |p| {
            p.put(p.at(p.u64(p.program(1, 64))), &[18]);
        }),
        (Rule::ProgramArrayType, at_load(InvalidFd), |p| {
            p.put(p.program(1, 72), &[18]);
        }),
        (Rule::GlobalSection, at_load(InvalidArgument), |p| {
            let params = p.u64(p.program(0, 48));
            p.put(p.list(8) + 24, &params.to_le_bytes());
        }),
        (Rule::HelperId, at_load(InvalidArgument), |p| {
            p.put(p.helper(6, 0, 24), &[99]);
        }),
        (Rule::DuplicateHelper, at_load(InvalidArgument), |p| {
            p.put(p.helper(6, 0, 24), &[2]);
        }),
        (Rule::ProgramInfoHash, at_load(InvalidArgument), |p| {
            p.pointer(p.program(6, 120), p.address("hash", 0));
            p.put(p.program(6, 128), &[32]);
        }),
        (Rule::InitialValue, at_load(InvalidArgument), |p| {
            let (values, other) = (p.at(p.u64(p.list(3) + 40)), p.u64(p.program(0, 48)));
            p.put(values, &other.to_le_bytes());
        }),
    ];
    for (rule, (attach, load_module, load_programs), break_it) in cases {
        let mut patched = Patched::new();
        break_it(&mut patched);
        let report = run(&RunRequest {
            image: patched.finish(),
            defects_are_answers: true,
            ..bare()
        })
        .unwrap_or_else(|e| panic!("{rule:?}: {e}"));
        let [life] = report.lives.as_slice() else {
            panic!("{rule:?}: {} lives", report.lives.len());
        };
        assert_eq!(life.defect.as_ref().map(|d| d.rule), Some(*rule), "{life:?}");
        assert_eq!(
            (life.driver_entry, life.attach, life.load_module, life.load_programs),
            (0, Some(*attach), Some(*load_module), *load_programs),
            "{rule:?}"
        );
        check_states(life).unwrap();
    }
}

pub fn defects_that_it_does_not_notice_stay_errors() {
    let cases: &[(Rule, Break)] = &[
        (Rule::MetadataFunction, |p| _ = p.put(p.metadata(), &[48])),
        (Rule::GlobalSectionSize, |p| _ = p.put(p.list(8) + 32, &[9])),
        (Rule::InitialMap, |p| {
            let (values, other) = (p.at(p.u64(p.list(2) + 40)), p.u64(p.program(0, 48)));
            p.put(values + 8, &other.to_le_bytes());
        }),
    ];
    for (rule, break_it) in cases {
        let mut patched = Patched::new();
        break_it(&mut patched);
        let outcome = run(&RunRequest {
            image: patched.finish(),
            defects_are_answers: true,
            ..bare()
        });
        assert!(
            matches!(&outcome, Err(SimulatorError::Kernel { violation, .. }) if violation.rule == *rule),
            "{rule:?}: {outcome:?}"
        );
    }
}

pub fn a_failure_that_cannot_happen_to_a_module_is_no_request() {
    for sabotage in [
        Sabotage::BtfProviderMissing,
        Sabotage::MapFails(18),
        Sabotage::HelpersChanged,
    ] {
        let outcome = run(&RunRequest {
            image: image().to_vec(),
            sabotage,
            ..bare()
        });
        assert!(matches!(outcome, Err(SimulatorError::Request(_))), "{outcome:?}");
    }
}
