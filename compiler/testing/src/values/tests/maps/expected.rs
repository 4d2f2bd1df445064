//! What is in maps, and what is expected there.

use super::*;

/// What is otherwise in [`maps`], with types.
fn unmet(entries: &str, only: &[&str], absent: &str) -> Result<Vec<String>, String> {
    let mut types = object();
    types.set_record_type(&shapes(), "events", "struct key").unwrap();
    let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
    let (entries, absent) = (Json::parse(entries).unwrap(), Json::parse(absent).unwrap());
    let expected = ExpectedMaps {
        entries: &entries,
        only: &only,
        absent: &absent,
    };
    expected.unmet(&maps(), Some(&types)).map_err(|e| e.to_string())
}

#[test]
fn entries_that_are_there_are_met_and_others_told() {
    for (met, other, told) in [
        (
            r#"{"big": ["WIDE"]}"#,
            r#"{"big": {"0": 7}}"#,
            "big[0]: expected 7, found WIDE",
        ),
        // Some members of a structure.
        (
            r#"{"records": {"{\"address\": 1, \"port\": 53, \"rest\": \"hex:aabb\"}": {"count": 7, "level": "LOW"}}}"#,
            r#"{"records": {"{\"address\": 1, \"port\": 53, \"rest\": \"hex:aabb\"}": {"count": 7, "whole": 3}}}"#,
            r"records[{ address = 1, port = 53, rest = hex:aabb }]: expected { count = 7, whole = 3 }, found { count = 7, ",
        ),
        (
            r#"{"records": {"entries": [{"key": {"address": 2}, "value": {"count": 7}}]}}"#,
            r#"{"records": {"entries": [{"key": {"address": 3}, "value": {"count": 7}}]}}"#,
            "records[{ address = 3, port = 0, rest = hex:0000 }]: expected { count = 7 }, found no entry",
        ),
        (
            r#"{".data": {"second": [9, 17]}}"#,
            r#"{".data": {"first": 1, "second": [9, 18]}}"#,
            ".data.second: expected [9, 18], found [9, 17]",
        ),
        // One value for each processor, or that of all.
        (
            r#"{"hits": {"0": [1, 1]}}"#,
            r#"{"hits": {"0": [1, 0]}}"#,
            "hits[0]: expected [1, 0], found ",
        ),
        (
            r#"{"hits": {"0": 1}}"#,
            r#"{"hits": {"0": [1]}}"#,
            "hits[0]: expected [1], found ",
        ),
        (r#"{"hits": [1]}"#, r#"{"hits": [2]}"#, "hits[0]: expected 2, found "),
        // What an array leaves out is 0.
        (
            r#"{"hits": {"1": 0}}"#,
            r#"{"hits": {"1": 5}}"#,
            "hits[1]: expected 5, found 0",
        ),
        (
            r#"{"jumps": {"2": "next"}}"#,
            r#"{"jumps": {"2": "other"}}"#,
            "jumps[2]: expected \"other\", found next",
        ),
        (
            r#"{"jobs": [3, 2]}"#,
            r#"{"jobs": [2, 3]}"#,
            "jobs: expected [2, 3], found [hex:03, hex:02]",
        ),
        (
            r#"{"jobs": [3, 2]}"#,
            r#"{"jobs": [3]}"#,
            "jobs: expected [3], found [hex:03, hex:02]",
        ),
    ] {
        assert_eq!(unmet(met, &[], "{}"), Ok(vec![]), "{met}");
        let lines = unmet(other, &[], "{}").unwrap();
        assert!(lines.len() == 1 && lines[0].starts_with(told), "{other}: {lines:?}");
    }
}

#[test]
fn other_entries_are_told_where_there_must_be_none() {
    assert_eq!(
        unmet(
            r#"{"sizes": {"hex:01020304": "hex:0808080808080808"}}"#,
            &["sizes"],
            "{}"
        ),
        Ok(vec![])
    );
    assert_eq!(
        unmet("{}", &["sizes"], "{}").unwrap(),
        ["sizes: expected no other entry, found hex:01020304 = hex:0808080808080808"]
    );
    assert_eq!(unmet(r#"{"jumps": {"2": "next"}}"#, &["jumps"], "{}"), Ok(vec![]));
    assert_eq!(unmet("{}", &["jumps"], "{}").unwrap().len(), 1);
    assert_eq!(unmet(r#"{"jobs": [3, 2]}"#, &["jobs"], "{}"), Ok(vec![]));
    assert_eq!(
        unmet(r#"{"big": ["WIDE"]}"#, &["jobs", "big"], "{}").unwrap().len(),
        2,
        "both jobs"
    );
}

#[test]
fn keys_that_must_not_be_there_are_told() {
    let absent = r#"{"records": [{"address": 9}, {"address": 2}]}"#;
    let lines = unmet("{}", &[], absent).unwrap();
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("records[{ address = 2 }]: expected no entry, found { count = 7,"),
        "{lines:?}"
    );
}

#[test]
fn what_cannot_be_in_a_map_is_an_error() {
    for (entries, expected) in [
        (r#"{"biggest": [1]}"#, "biggest: there is no such map"),
        (r#"{"big": ["WIDER"]}"#, "no `WIDER`"),
        (r#"{".data": {"frist": 1}}"#, ".data.frist: there is no such variable"),
        (r#"{"events": [1]}"#, "events"),
        (r#"{"sizes": 1}"#, "sizes"),
    ] {
        let error = unmet(entries, &[], "{}").expect_err(entries);
        assert!(error.contains(expected), "{entries}: {error}");
    }
}

#[test]
fn records_have_what_is_given_of_them() {
    let mut types = object();
    types.set_record_type(&shapes(), "events", "struct key").unwrap();
    let data = [1, 0, 0, 0, 53, 0, 0, 0];
    let is = |given: &str| is_record(&Json::parse(given).unwrap(), &data, "events", Some(&types));
    for (given, same) in [
        (r#"{"port": 53}"#, true),
        (r#"{"port": 53, "address": 1}"#, true),
        (r#"{"port": 54}"#, false),
        (r#""hex:0100000035000000""#, true),
        (r#""hex:0100000035000001""#, false),
        (r#""hex:01""#, false),
        ("{}", true),
    ] {
        assert_eq!(is(given), Ok(same), "{given}");
    }
    assert!(is(r#"{"prot": 53}"#).is_err());
}
