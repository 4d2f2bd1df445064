//! Inputs that come one after another, and what is told of each.

use std::ops::ControlFlow::{Break, Continue};
use std::time::{Duration, Instant};

use bpf2sys_simulator::{
    Input, InvocationResult, MachineChange, Progress, RunRequest, SimulatedMachine, SimulatorError, Tell,
};

use super::call::Arg::{Map, Memory, Number};
use super::call::{helper, input, map, result};
use super::fixture::{packet, request, value};

pub fn inputs_come_one_after_another() {
    const COUNT: u64 = 5000;
    let mut results = Vec::new();
    let inputs = (0..COUNT).map(|number| packet("count", &[1, number as u8]));
    let report = bpf2sys_simulator::run_each(&request(vec![]), inputs, |progress| {
        if let Progress::Done(result) = progress {
            results.push((result.packet.0, result.result));
        }
        Continue(())
    });
    let report = report.unwrap();
    let expected = (0..COUNT).map(|number| (vec![number as u8, 1], 1));
    assert!(results.iter().cloned().eq(expected));
    assert!(report.results.is_empty());
    assert_eq!(value(&report, "array", &[1, 0, 0, 0]).unwrap(), COUNT.to_le_bytes());
}

pub fn the_caller_can_end_a_run() {
    let mut count = 0;
    let endless = std::iter::repeat_with(|| packet("count", &[1, 0]));
    let report = bpf2sys_simulator::run_each(&request(vec![]), endless, |progress| {
        count += u32::from(matches!(progress, Progress::Done(_)));
        if count == 10 { Break(()) } else { Continue(()) }
    });
    assert_eq!(count, 10);
    // It was unloaded as always, after those that were under way.
    let report = report.unwrap();
    let counted = value(&report, "array", &[1, 0, 0, 0]).unwrap();
    assert!(u64::from_le_bytes(counted.try_into().unwrap()) >= 10);
}

pub fn the_time_limit_is_for_each_invocation() {
    const LIMIT: u64 = 200;
    let request = RunRequest {
        time_limit_ms: LIMIT,
        ..request(vec![])
    };
    let started = Instant::now();
    let long = std::iter::repeat_with(|| packet("count", &[1, 0]));
    let long = long.take_while(|_| started.elapsed() < Duration::from_millis(4 * LIMIT));
    // Waiting for an input is nobody's time.
    let slow = std::iter::once_with(|| {
        std::thread::sleep(Duration::from_millis(2 * LIMIT));
        packet("count", &[1, 0])
    });
    bpf2sys_simulator::run_each(&request, long.chain(slow), |_| Continue(())).unwrap();

    let mut before = 0;
    let inputs = [packet("count", &[1, 0]), packet("misbehave", &[3, 0])];
    let outcome = bpf2sys_simulator::run_each(&request, inputs.into_iter(), |progress| {
        before += u32::from(matches!(progress, Progress::Done(_)));
        Continue(())
    });
    assert!(matches!(outcome, Err(SimulatorError::TimeOut(_))), "{outcome:?}");
    assert_eq!(before, 1, "what was done before is told");
}

/// Runs some inputs, and gives their results.
fn results(request: &RunRequest, inputs: Vec<Input>) -> Vec<InvocationResult> {
    let request = RunRequest {
        inputs,
        ..request.clone()
    };
    bpf2sys_simulator::run(&request).unwrap().results
}

pub fn records_can_be_read_after_each_invocation() {
    let output = helper(11, &[Map(map::RING), Memory(0), Number(300), Number(0)]).memory(&[5; 300]);
    let two = Input {
        repeat: 20,
        ..input(&output, "call_xdp", &[0; 64])
    };
    let mut request = request(vec![]);
    request.tell.records = true;
    let results = results(&request, vec![two]);
    // There would be room for 13.
    assert!(results.iter().all(|one| result(one) == 0));
    let sent: Vec<_> = results.iter().flat_map(|result| &result.records).collect();
    assert_eq!(sent.len(), 20);
    let right = |sent: &&bpf2sys_simulator::SentRecord| sent.map == "ring" && sent.record.data.0 == [5; 300];
    assert!(sent.iter().all(right));
}

pub fn the_machine_changes_between_inputs() {
    let machine = SimulatedMachine::default();
    let cpu = helper(8, &[]);
    let ids = helper(19, &[]);
    let time = helper(7, &[]);
    let changed = |helper, change: MachineChange| Input {
        machine: change,
        ..input(helper, "call_xdp", &[0; 64])
    };
    let same = MachineChange::default();
    let inputs = vec![
        changed(&cpu, same.clone()),
        changed(
            &cpu,
            MachineChange {
                cpu: Some(1),
                ..same.clone()
            },
        ),
        changed(&cpu, same.clone()),
        changed(
            &ids,
            MachineChange {
                process_id: Some(7),
                ..same.clone()
            },
        ),
        changed(
            &time,
            MachineChange {
                time: Some(machine.boot_time + 1000),
                ..same.clone()
            },
        ),
        // Time does not go back.
        changed(&time, MachineChange { time: Some(5), ..same }),
    ];
    let results = results(&request(vec![]), inputs);
    let values: Vec<u64> = results.iter().map(result).collect();
    let later = (machine.boot_time + 1000) * 100;
    let ids = 7 << 32 | u64::from(machine.thread_id);
    assert_eq!(values, [0, 1, 1, ids, later, later + 100]);
    let beyond = MachineChange {
        cpu: Some(2),
        ..MachineChange::default()
    };
    let outcome = bpf2sys_simulator::run(&request(vec![changed(&cpu, beyond)]));
    assert!(matches!(outcome, Err(SimulatorError::Request(_))), "{outcome:?}");
}

pub fn maps_are_told_before_and_after_each() {
    let input = Input {
        without_data: true,
        ..packet("count", &[3, 0])
    };
    let mut request = request(vec![input.clone(), input]);
    request.tell = Tell {
        maps: true,
        maps_before: true,
        ..Tell::default()
    };
    let report = bpf2sys_simulator::run(&request).unwrap();
    let count = |maps: &[bpf2sys_simulator::MapContents]| {
        let array = maps.iter().find(|map| map.name == "array").unwrap();
        array.entries[3].values[0].0[0]
    };
    let each: Vec<u8> = (report.results.iter())
        .map(|result| count(result.maps.as_deref().unwrap()))
        .collect();
    assert_eq!((count(&report.maps_before), each), (0, vec![1, 2]));
    let results = &report.results;
    assert!(
        results
            .iter()
            .all(|result| result.packet.0.is_empty() && result.context.0.is_empty())
    );
}
