//! What is told of executed instructions.

use std::ops::ControlFlow::Continue;

use bpf2sys_simulator::image::{Image, Rva};
use bpf2sys_simulator::program_code::program_code;
use bpf2sys_simulator::{
    ExecutedInstruction, ExecutedSlot, Input, InterpretedTrace, NativeBranch, NativeTrace, ObjectFile, Progress,
    Reload, RunReport, RunRequest, SimulatorError, SlotBranch, Trace, usermode,
};

use super::call::Arg::{Map, Memory};
use super::call::{helper, input, map};
use super::fixture::{SAMPLE_OBJECT, is_emulated, on_arm64, packet, request, run, sample_request};
use super::patch::Patched;

/// A request whose instructions are counted.
fn traced(request: &RunRequest) -> RunRequest {
    RunRequest {
        trace: Trace::Instructions,
        ..request.clone()
    }
}

fn native(report: &RunReport) -> &NativeTrace {
    &report.trace.as_ref().unwrap().native
}

/// How often the instruction at an RVA was executed.
fn count_at(trace: &NativeTrace, rva: u32) -> u64 {
    let found = trace.instructions.iter().find(|one| one.rva == rva);
    found.map_or(0, |one| one.count)
}

/// Instructions of each invocation.
fn costs(report: &RunReport) -> Vec<u64> {
    (report.results.iter())
        .map(|result| result.instructions.unwrap())
        .collect()
}

/// The first instruction of a program of `testdata/module.c`.
fn entry(program: usize) -> u32 {
    let module = Patched::new();
    (module.u64(module.program(program, 32)) - module.image().image_base) as u32
}

/// Indices of programs of `testdata/module.c`.
const COUNT: usize = 6;
const MISBEHAVE: usize = 7;
const TAIL_LOOP: usize = 8;
const TAIL_ONE: usize = 9;
const TAIL_TWO: usize = 10;

/// A report without its trace.
fn without_trace(mut report: RunReport) -> RunReport {
    report.trace = None;
    for result in &mut report.results {
        result.instructions = None;
    }
    report
}

/// Checks what is true of every report with a trace.
fn check(report: &RunReport) {
    let trace = native(report);
    let in_all: u64 = trace.instructions.iter().map(|one| one.count).sum();
    assert_eq!(in_all, costs(report).iter().sum::<u64>());
    assert!(trace.instructions.is_sorted_by(|a, b| a.rva < b.rva));
    assert!(trace.branches.is_sorted_by(|a, b| a.rva < b.rva));
    assert!(trace.instructions.iter().all(|one| one.count > 0));
    for branch in &trace.branches {
        assert_eq!(branch.taken + branch.not_taken, count_at(trace, branch.rva));
    }
    assert!(report.trace.as_ref().unwrap().interpreted.is_empty());
}

pub fn each_instruction_and_each_way_of_a_branch_is_counted() {
    // Two packets whose entry is found, one whose is not, and one that is too short.
    let packets: [&[u8]; 4] = [&[3, 0], &[2, 0], &[9, 0], &[1]];
    let inputs = packets.map(|bytes| packet("count", bytes)).to_vec();
    let report = run(&traced(&request(inputs))).unwrap();
    check(&report);
    let trace = native(&report);
    // As a disassembler shows them, by distance from the program's first instruction.
    let (found, short) = (["lock inc", "ldaddal"][usize::from(on_arm64())], 15);
    let (expected, branches, step) = if on_arm64() {
        ([43, 43, 40, short], [(0x1C, 3, 1), (0x5C, 1, 2)], 0x64)
    } else {
        ([41, 41, 40, short], [(0x1A, 1, 3), (0x51, 1, 2)], 0x53)
    };
    assert_eq!(costs(&report), expected);
    let start = entry(COUNT);
    let branches = branches.map(|(distance, taken, not_taken)| NativeBranch {
        rva: start + distance,
        taken,
        not_taken,
    });
    assert_eq!(trace.branches, branches);
    assert_eq!(count_at(trace, start), 4);
    assert_eq!(count_at(trace, start + step), 2, "{found}");
    assert_eq!(trace.instructions.first().map(|one| one.rva), Some(start));
}

pub fn the_same_run_again_costs_the_same_again() {
    let once = run(&traced(&request(vec![packet("count", &[1, 0])]))).unwrap();
    let often = Input {
        repeat: 50,
        ..packet("count", &[1, 0])
    };
    let often = run(&traced(&request(vec![often]))).unwrap();
    check(&often);
    let times = |one: &ExecutedInstruction| ExecutedInstruction {
        count: 50 * one.count,
        ..*one
    };
    let expected: Vec<_> = native(&once).instructions.iter().map(times).collect();
    assert_eq!(native(&often).instructions, expected);
    assert_eq!(costs(&often), [costs(&once)[0]; 50]);
}

pub fn tail_calls_belong_to_the_invocation_that_made_them() {
    let alone = packet("tail_two", &[0, 0]);
    let taken = packet("tail_one", &[0, 0]);
    let looping = packet("tail_one", &[2, 0]);
    let report = run(&traced(&request(vec![alone, taken, looping]))).unwrap();
    check(&report);
    let [alone, taken, looping] = costs(&report)[..] else {
        panic!("{report:?}")
    };
    assert_eq!(alone, if on_arm64() { 3 } else { 2 });
    let (one, one_of_loop) = if on_arm64() { (15, 18) } else { (13, 14) };
    assert_eq!([taken, looping], [one + alone, one + 33 * one_of_loop]);
    let trace = native(&report);
    let entries = [TAIL_ONE, TAIL_TWO, TAIL_LOOP].map(|program| count_at(trace, entry(program)));
    assert_eq!(entries, [2, 2, 33]);
}

pub fn counting_changes_nothing_else() {
    let inputs = vec![
        packet("count", &[3, 9]),
        packet("count", &[0x88, 9]),
        packet("tail_one", &[2, 0]),
        packet("tail_two", &[2, 0]),
        // Garbage in what is below the stack and in volatile registers.
        packet("misbehave", &[18, 0]),
        packet("misbehave", &[20, 0]),
    ];
    for reload in [Reload::Never, Reload::EachCall] {
        let request = RunRequest {
            reload,
            ..request(inputs.clone())
        };
        let plain = run(&request).unwrap();
        assert!(plain.trace.is_none() && plain.results[0].instructions.is_none());
        let report = run(&traced(&request)).unwrap();
        assert_eq!(
            report,
            run(&traced(&request)).unwrap(),
            "equal requests give equal reports"
        );
        check(&report);
        assert_eq!(without_trace(report), plain);
    }
}

pub fn nothing_but_programs_is_counted() {
    let report = run(&traced(&request(vec![]))).unwrap();
    assert_eq!(report.trace, Some(bpf2sys_simulator::TraceReport::default()));
    let report = run(&traced(&request(vec![packet("tail_two", &[0, 0])]))).unwrap();
    let (start, trace) = (entry(TAIL_TWO), native(&report));
    assert!(
        trace
            .instructions
            .iter()
            .all(|one| (start..start + 12).contains(&one.rva))
    );
}

pub fn what_stops_a_program_is_reported_as_without_counting() {
    // 3 does not end.
    for what in (0..=45).filter(|&what| what != 3) {
        let request = request(vec![packet("count", &[1, 0]), packet("misbehave", &[what, 0])]);
        let outcome = run(&traced(&request)).map(without_trace);
        assert_eq!(format!("{outcome:?}"), format!("{:?}", run(&request)), "{what}");
    }
}

pub fn an_endless_loop_is_a_time_out_where_it_loops() {
    let outcome = run(&RunRequest {
        time_limit_ms: 300,
        ..traced(&request(vec![packet("misbehave", &[3, 0])]))
    });
    let Err(SimulatorError::TimeOut(time_out)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(time_out.during.as_deref(), Some("program misbehave running"));
    let location = time_out.location.unwrap();
    assert_eq!(location.program.as_deref(), Some("misbehave"), "{location:?}");
    assert!(location.instruction.is_some(), "{location:?}");
}

pub fn counts_come_with_streams() {
    let (mut costs, short) = (Vec::new(), 15);
    let inputs = (0..20).map(|number| packet("count", &[1, 0][..=(number % 2)]));
    let report = bpf2sys_simulator::run_each(&traced(&request(vec![])), inputs, |progress| {
        if let Progress::Done(result) = progress {
            costs.push(result.instructions.unwrap());
        }
        Continue(())
    });
    let report = report.unwrap();
    let long = if on_arm64() { 43 } else { 41 };
    assert_eq!(costs, [short, long].repeat(10));
    let trace = native(&report);
    assert_eq!(
        trace.instructions.iter().map(|one| one.count).sum::<u64>(),
        10 * (short + long)
    );
    assert_eq!(count_at(trace, entry(COUNT)), 20);
}

pub fn loads_are_counted_together() {
    let in_load = |load, program| Input {
        load,
        ..packet(program, &[0, 0])
    };
    let once = run(&traced(&sample_request(vec![in_load(0, "other")]))).unwrap();
    let mut both = sample_request(vec![in_load(0, "other"), in_load(1, "other"), in_load(1, "tail")]);
    both.loads = 2;
    let both = run(&traced(&both)).unwrap();
    check(&both);
    let [first, second, chain] = costs(&both)[..] else {
        panic!("{both:?}")
    };
    assert_eq!([first, second], [costs(&once)[0]; 2]);
    // The program that the shared map names is that of the first load or of the second, and has the same instructions.
    assert_eq!(both.results[2].tail_calls, ["other"]);
    assert!(chain > first);
    for one in &native(&once).instructions {
        assert_eq!(count_at(native(&both), one.rva), 3 * one.count, "{one:?}");
    }
}

/// Code in the place of `misbehave`, and what it costs.
fn cost_of(code: &[u8]) -> (u64, NativeTrace) {
    let mut patched = Patched::new();
    let at = patched.at(patched.u64(patched.program(MISBEHAVE, 32)));
    patched.put(at, code);
    let report = run(&RunRequest {
        image: patched.finish(),
        ..traced(&request(vec![packet("misbehave", &[0; 64])]))
    });
    let report = report.unwrap();
    check(&report);
    (costs(&report)[0], native(&report).clone())
}

pub fn an_instruction_that_repeats_itself_is_one_and_a_loop_is_not() {
    if on_arm64() {
        // mov x1, #5; subs x1, x1, #1; b.ne to the one before; ret
        let code = [0xD280_00A1, 0xF100_0421, 0x54FF_FFE1, 0xD65F_03C0u32];
        let (cost, trace) = cost_of(&code.map(u32::to_le_bytes).concat());
        let branch = trace.branches[0];
        assert_eq!((cost, branch.taken, branch.not_taken), (12, 4, 1));
        return;
    }
    // mov rdx, rdi; mov rdi, [rcx]; mov ecx, 40; rep stosb; mov rdi, rdx; ret
    let (cost, trace) = cost_of(b"\x48\x89\xFA\x48\x8B\x39\xB9\x28\0\0\0\xF3\xAA\x48\x89\xD7\xC3");
    assert_eq!(cost, 6);
    assert!(trace.branches.is_empty());
    // mov ecx, 5; loop to itself; ret
    let (cost, trace) = cost_of(b"\xB9\x05\0\0\0\xE2\xFE\xC3");
    let branch = trace.branches[0];
    assert_eq!((cost, branch.taken, branch.not_taken), (7, 4, 1));
}

pub fn code_that_keeps_its_flags_is_counted_and_code_that_clears_them_is_not() {
    if on_arm64() {
        return;
    }
    // pushfq; popfq; nop; ret
    assert_eq!(cost_of(b"\x9C\x9D\x90\xC3").0, 4);
    // pushfq; and byte [rsp + 1], 0xFE; popfq; nop; nop; ret: the host's processor stops once more behind `popfq`. The emulator
    // counts without that flag.
    let cost = if is_emulated() { 6 } else { 4 };
    assert_eq!(cost_of(b"\x9C\x80\x64\x24\x01\xFE\x9D\x90\x90\xC3").0, cost);
}

/// What was executed of a function: slots with counts, and jumps with how often each way was gone.
fn interpreted(function: &str, slots: &[(u32, u64)], jumps: &[(u32, u64, u64)]) -> InterpretedTrace {
    let slots = slots.iter().map(|&(slot, count)| ExecutedSlot { slot, count });
    let jumps = jumps
        .iter()
        .map(|&(slot, taken, not_taken)| SlotBranch { slot, taken, not_taken });
    InterpretedTrace {
        function: function.into(),
        instructions: slots.collect(),
        branches: jumps.collect(),
    }
}

pub fn interpreted_programs_are_counted_by_function_and_slot() {
    let first = |program, first| packet(program, &[first]);
    let mut request = sample_request(vec![
        first("target", 0),
        first("target", 1),
        first("target", 2),
        first("tail", 0),
    ]);
    request.interpret = Some(ObjectFile {
        name: "sample-bpf.o".into(),
        bytes: SAMPLE_OBJECT.to_vec(),
    });
    let plain = run(&request).unwrap();
    let report = run(&traced(&request)).unwrap();
    assert_eq!(report, run(&traced(&request)).unwrap());
    // The tail call goes to `other`, which calls a subprogram.
    assert_eq!(report.results[3].tail_calls, ["other"]);
    assert_eq!(costs(&report), [5, 6, 6, 3 + 4 + 7]);
    let trace = report.trace.clone().unwrap();
    assert_eq!(trace.native, NativeTrace::default());
    let mut functions = trace.interpreted;
    functions.sort_by(|a, b| a.function.cmp(&b.function));
    let expected = [
        interpreted("count_down", &[(0, 3), (1, 3), (2, 1)], &[(1, 2, 1)]),
        interpreted("other", &[(0, 1), (1, 1), (2, 1), (3, 1)], &[]),
        interpreted("tail", &[(0, 1), (2, 1), (3, 1)], &[]),
        interpreted(
            "target",
            &[(0, 3), (1, 3), (2, 3), (3, 2), (5, 3), (6, 3)],
            &[(2, 1, 2)],
        ),
    ];
    assert_eq!(functions, expected);
    assert_eq!(without_trace(report), plain);
    // And a program that reads beyond its packet.
    request.inputs = vec![packet("target", &[])];
    let outcomes = [&request, &traced(&request)].map(|request| format!("{:?}", run(request).unwrap_err()));
    assert_eq!(outcomes[0], outcomes[1]);
}

pub fn what_a_program_has_and_did_not_execute_is_known() {
    let module = Patched::new();
    let image = module.image();
    let view = usermode::read(&image).unwrap();
    let programs = program_code(&image, &view);
    let names = view.programs.iter().map(|program| &program.name);
    assert!(programs.iter().map(|program| &program.program).eq(names));
    let has = |program: usize, rva| programs[program].instructions.iter().any(|one| one.rva == Rva(rva));
    let size = |program: usize| programs[program].instructions.len();
    let (count, tail_two) = if on_arm64() { (45, 3) } else { (41, 2) };
    assert_eq!((size(COUNT), size(TAIL_TWO)), (count, tail_two));

    let report = run(&traced(&request(vec![packet("count", &[1])]))).unwrap();
    let executed = &native(&report).instructions;
    assert!(executed.iter().all(|one| has(COUNT, one.rva)));
    assert_eq!(size(COUNT) - executed.len(), count - 15);

    // Nothing runs that was not found, and conditional branches are the same.
    let call = helper(1, &[Map(map::ARRAY), Memory(0)]).copy(8);
    let inputs = vec![
        packet("count", &[3, 0]),
        packet("tail_one", &[2, 0]),
        input(&call, "call_xdp", &[0; 64]),
        packet("misbehave", &[0, 0]),
    ];
    let report = run(&traced(&request(inputs))).unwrap();
    let trace = native(&report);
    let all = || programs.iter().flat_map(|program| &program.instructions);
    for one in &trace.instructions {
        let found = all().find(|found| found.rva == Rva(one.rva)).unwrap();
        let is_branch = trace.branches.iter().any(|branch| branch.rva == one.rva);
        assert_eq!(found.is_conditional, is_branch, "{one:?}");
    }

    // A function that one program calls is that program's.
    let outcome = run(&request(vec![packet("misbehave", &[12, 0])]));
    let Err(SimulatorError::Fault(fault)) = outcome else {
        panic!("{outcome:?}")
    };
    let called = fault.location.rva.unwrap();
    assert!(has(MISBEHAVE, called) && !has(COUNT, called), "{called:#x}");
    // It also jumps where the packet says.
    assert!(!programs[MISBEHAVE].indirect_jumps.is_empty());
    assert!(programs[COUNT].indirect_jumps.is_empty());

    // What is no code is not followed.
    let mut patched = Patched::new();
    let (from, to) = (entry(TAIL_TWO), patched.section(".rdata").rva.0);
    let at = patched.at(patched.u64(patched.program(TAIL_TWO, 32)));
    if on_arm64() {
        let distance = (to.wrapping_sub(from) / 4) & 0x03FF_FFFF;
        patched.put_code(at, &[0x1400_0000 | distance]); // b
    } else {
        patched.put(at, &[0xE9]); // jmp
        patched.put(at + 1, &to.wrapping_sub(from + 5).to_le_bytes());
    }
    let patched = patched.finish();
    let image = Image::parse(&patched).unwrap();
    let view = usermode::read(&image).unwrap();
    assert_eq!(program_code(&image, &view)[TAIL_TWO].instructions.len(), 1);
}
