//! `expect`: what must come out.

use bpf2sys_simulator::{HexBytes, SentRecord};

use super::{Scope, gave, given, place, wanted};
use crate::contexts::other_values;
use crate::suite::driver::Driver;
use crate::suite::file::{Event, Expect, OneOrMore};
use crate::suite::inputs::bytes;
use crate::values::{ExpectedMaps, Json, is_record, record_to_json};

pub(super) fn expect(driver: &Driver, expect: &Expect, scope: &Scope<'_>) -> Result<Vec<String>, String> {
    let mut judging = Judging {
        driver,
        scope,
        lines: Vec::new(),
    };
    judging.results(expect)?;
    judging.contexts(expect)?;
    judging.packets(expect)?;
    judging.tail_calls(expect);
    judging.events(expect)?;
    judging.printed(expect);
    judging.calls(expect)?;
    judging.maps(expect)?;
    Ok(judging.lines)
}

struct Judging<'a> {
    driver: &'a Driver,
    scope: &'a Scope<'a>,
    lines: Vec<String>,
}

impl<'a> Judging<'a> {
    fn other(&mut self, place: &str, what: &str, expected: &str, found: &str) {
        self.lines
            .push(format!("{place}{what}: expected {expected}, found {found}"));
    }

    /// What is expected of each run, if a list has one for each. Without runs there is nothing that could be so.
    fn each<T>(&mut self, what: &str, expected: Option<&'a OneOrMore<T>>) -> Vec<&'a T> {
        let runs = self.scope.runs.len();
        match expected {
            None => Vec::new(),
            Some(_) if runs == 0 => {
                self.lines
                    .push(format!("{what}: there was no run: give a packet or a context"));
                Vec::new()
            }
            Some(OneOrMore::One(one)) => vec![one; runs],
            Some(OneOrMore::More(all)) => {
                if all.len() != runs {
                    let (count, expected) = (format!("of {runs} runs"), format!("of {} runs", all.len()));
                    self.other("", what, &expected, &count);
                }
                all.iter().take(runs).collect()
            }
        }
    }

    fn results(&mut self, expect: &'a Expect) -> Result<(), String> {
        let scope = self.scope;
        for (index, expected) in self.each("result", expect.result.as_ref()).into_iter().enumerate() {
            let result = scope.runs[index].result;
            if !gave(self.driver, expected, result)? {
                self.other(&place(scope, index), "result", &wanted(expected), &given(result));
            }
        }
        let Some(alternatives) = &expect.one_of else {
            return Ok(());
        };
        for (index, run) in scope.runs.iter().enumerate() {
            let mut one = false;
            for expected in alternatives {
                one |= gave(self.driver, expected, run.result)?;
            }
            if !one {
                let all: Vec<String> = alternatives.iter().map(wanted).collect();
                let all = format!("one of {}", all.join(", "));
                self.other(&place(scope, index), "result", &all, &given(run.result));
            }
        }
        Ok(())
    }

    fn contexts(&mut self, expect: &'a Expect) -> Result<(), String> {
        let scope = self.scope;
        for (index, expected) in self.each("context", expect.context.as_ref()).into_iter().enumerate() {
            let result = scope.runs[index].result;
            let of = self.driver.type_of(&result.program);
            let of = of.ok_or("the program's type is not known, and so its context has no fields")?;
            let others = other_values(&of.context, expected, &result.context.0, &result.packet.0);
            for other in others.map_err(|e| format!("context: {e}"))? {
                let what = format!("context: {}", other.field);
                let (expected, found) = (other.expected.to_string(), other.found.to_string());
                self.other(&place(scope, index), &what, &expected, &found);
            }
        }
        Ok(())
    }

    fn packets(&mut self, expect: &'a Expect) -> Result<(), String> {
        let scope = self.scope;
        for (index, expected) in self.each("packet", expect.packet.as_ref()).into_iter().enumerate() {
            let expected = bytes(self.driver, expected)?;
            let found = &scope.runs[index].result.packet.0;
            if expected != *found {
                let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
                let what = format!("packet from byte {at} on");
                let (expected, found) = (shown(&expected[at..]), shown(&found[at..]));
                self.other(&place(scope, index), &what, &expected, &found);
            }
        }
        if let Some(expected) = &expect.redirect_context {
            let expected = bytes(self.driver, expected)?;
            for (index, run) in scope.runs.iter().enumerate() {
                let found = run.result.redirect_context.as_ref();
                if found.is_none_or(|found| found.0 != expected) {
                    let found = found.map_or("none".to_owned(), |found| format!("hex:{found}"));
                    let expected = format!("hex:{}", HexBytes(expected.clone()));
                    self.other(&place(scope, index), "redirect context", &expected, &found);
                }
            }
        }
        Ok(())
    }

    fn tail_calls(&mut self, expect: &Expect) {
        let Some(expected) = &expect.tail_calls else { return };
        for (index, run) in self.scope.runs.iter().enumerate() {
            if run.result.tail_calls != *expected {
                let list = |names: &[String]| format!("[{}]", names.join(", "));
                let (expected, found) = (list(expected), list(&run.result.tail_calls));
                self.other(&place(self.scope, index), "tail calls", &expected, &found);
            }
        }
    }

    fn events(&mut self, expect: &Expect) -> Result<(), String> {
        let Some(expected) = &expect.events else {
            return Ok(());
        };
        let found: Vec<&SentRecord> = self.scope.runs.iter().flat_map(|run| &run.result.records).collect();
        for index in 0..expected.len().max(found.len()) {
            let what = format!("event {}", index + 1);
            match (expected.get(index), found.get(index)) {
                (Some(event), Some(record)) => {
                    if !self.is_event(event, record)? {
                        self.other("", &what, &expected_event(event), &self.sent(record));
                    }
                }
                (Some(event), None) => self.other("", &what, &expected_event(event), "none"),
                (None, Some(record)) => self.other("", &what, "none", &self.sent(record)),
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn is_event(&self, event: &Event, record: &SentRecord) -> Result<bool, String> {
        if event.map.as_ref().is_some_and(|map| *map != record.map) {
            return Ok(false);
        }
        if event.cpu.is_some() && event.cpu != record.record.cpu {
            return Ok(false);
        }
        let Some(data) = &event.data else { return Ok(true) };
        is_record(data, &record.record.data.0, &record.map, self.driver.types())
            .map_err(|e| format!("event of `{}`: {e}", record.map))
    }

    fn sent(&self, record: &SentRecord) -> String {
        let data = record_to_json(&record.record.data.0, &record.map, self.driver.types());
        match record.record.cpu {
            Some(cpu) => format!("{} on processor {cpu} {data}", record.map),
            None => format!("{} {data}", record.map),
        }
    }

    fn printed(&mut self, expect: &Expect) {
        let Some(expected) = &expect.printed else { return };
        let found: Vec<&String> = self.scope.runs.iter().flat_map(|run| &run.result.printed).collect();
        for index in 0..expected.len().max(found.len()) {
            let line = |line: Option<&String>| line.map_or("none".to_owned(), |line| format!("{line:?}"));
            let (expected, found) = (expected.get(index), found.get(index).copied());
            if expected != found {
                let what = format!("printed line {}", index + 1);
                self.other("", &what, &line(expected), &line(found));
            }
        }
    }

    fn calls(&mut self, expect: &Expect) -> Result<(), String> {
        let Some(calls) = self.scope.calls else { return Ok(()) };
        for (name, expected) in &expect.calls {
            super::never::is_function(self.driver, name)?;
            let found = calls.count(name);
            if found != *expected {
                self.other(
                    "",
                    &format!("calls of {name}"),
                    &expected.to_string(),
                    &found.to_string(),
                );
            }
        }
        Ok(())
    }

    fn maps(&mut self, expect: &Expect) -> Result<(), String> {
        let Some(maps) = self.scope.after else { return Ok(()) };
        let none = Json::default();
        let expected = ExpectedMaps {
            entries: expect.maps.as_ref().unwrap_or(&none),
            only: &expect.only,
            absent: expect.absent.as_ref().unwrap_or(&none),
        };
        let lines = expected.unmet(maps, self.driver.types());
        self.lines.extend(lines.map_err(|e| format!("expected maps: {e}"))?);
        Ok(())
    }
}

/// Bytes for messages: not all of many.
fn shown(bytes: &[u8]) -> String {
    match bytes.len() {
        0 => "its end".to_owned(),
        1..=16 => format!("hex:{}", HexBytes(bytes.to_vec())),
        more => format!("hex:{}… ({more} bytes)", HexBytes(bytes[..16].to_vec())),
    }
}

fn expected_event(event: &Event) -> String {
    let mut parts: Vec<String> = event.map.iter().cloned().collect();
    parts.extend(event.cpu.map(|cpu| format!("on processor {cpu}")));
    parts.extend(event.data.as_ref().map(ToString::to_string));
    parts.join(" ")
}
