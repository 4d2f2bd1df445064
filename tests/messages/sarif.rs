//! The SARIF log: valid by the schema of the standard in all situations, the same in every run, and with the places that
//! people are told.

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{equal, examples_of_codes, objects, plain_tool, rejected, told};
use crate::support::{Need, root, succeed, test, test_with};

pub fn trials() -> Vec<Trial> {
    vec![
        test_with(
            "messages::sarif_logs_are_valid",
            &[Need::PythonModule("jsonschema")],
            logs_are_valid,
        ),
        test("messages::sarif_says_where_and_what", where_and_what),
        test("messages::sarif_is_the_same_in_every_run_and_folder", reproducible),
        test("messages::sarif_keeps_problems_of_the_tool_apart", notifications),
    ]
}

/// The log of a run in a folder, and the exit status.
fn log(folder: &Path, arguments: &[&str]) -> Result<(i32, String), Failed> {
    let mut command = plain_tool();
    command
        .args(["--message-format", "sarif"])
        .args(arguments)
        .current_dir(folder);
    let (status, out, err) = told(&mut command)?;
    equal(&err.as_str(), &"", "standard error")?;
    Ok((status, out))
}

fn run_of(log: &str) -> Result<Value, Failed> {
    let mut log: Value = serde_json::from_str(log)?;
    Ok(log["runs"][0].take())
}

fn verify_all(folder: &Path) -> Result<(i32, String), Failed> {
    let objects = objects(&folder.to_owned())?;
    let mut arguments = vec!["verify"];
    arguments.extend(objects.iter().map(String::as_str));
    log(folder, &arguments)
}

fn logs_are_valid() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let codes = examples_of_codes();
    let logs = [
        ("nothing is wrong", log(&codes, &["verify", "BPF1001.o"])?),
        ("everything is wrong", verify_all(&rejected())?),
        ("examples of codes", verify_all(&codes)?),
        ("no such file", log(&codes, &["verify", "no such%file.o"])?),
        ("wrong command line", log(&codes, &["verify", "--what"])?),
    ];
    let mut files = Vec::new();
    for (index, (_, (_, log))) in logs.iter().enumerate() {
        let file = folder.path().join(format!("{index}.sarif"));
        std::fs::write(&file, log)?;
        files.push(file);
    }
    // The judge must find what is wrong, too.
    let wrong = folder.path().join("wrong.sarif");
    std::fs::write(&wrong, logs[1].1.1.replace("\"startLine\": ", "\"startLine\": -"))?;
    let script = "import json, sys, jsonschema\n\
                  schema = json.load(open(sys.argv[1]))\n\
                  validator = jsonschema.Draft7Validator(schema)\n\
                  for name in sys.argv[2:]:\n    \
                      for error in validator.iter_errors(json.load(open(name))):\n        \
                          print(name, list(error.absolute_path), error.message)\n";
    let judge = |files: &[std::path::PathBuf]| {
        let schema = root().join("tests/fixtures/sarif/sarif-schema-2.1.0.json");
        succeed(Command::new("python3").args(["-c", script]).arg(schema).args(files))
    };
    equal(&judge(&files)?.as_str(), &"", "what the schema finds")?;
    equal(
        &judge(&[wrong])?.is_empty(),
        &false,
        "the judge finds a negative line number",
    )
}

fn where_and_what() -> Result<(), Failed> {
    let folder = rejected();
    let (status, text) = log(&folder, &["verify", "null_map_value.o"])?;
    let run = run_of(&text)?;
    equal(&run["invocations"][0]["exitCode"], &status.into(), &text)?;
    let result = &run["results"][0];
    let rule = &run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().ok_or("no index")? as usize];
    equal(&rule["id"], &result["ruleId"], &text)?;
    let place = &result["locations"][0]["physicalLocation"];
    equal(
        &place["artifactLocation"]["uri"],
        &"tests/fixtures/rejected/null_map_value.c".into(),
        &text,
    )?;
    let source = std::fs::read_to_string(folder.join("null_map_value.c"))?;
    let line = source
        .lines()
        .position(|line| line.contains("*value += 1"))
        .ok_or("no such line")?
        + 1;
    equal(&place["region"]["startLine"], &line.into(), &text)?;
    equal(&result["analysisTarget"]["uri"], &"null_map_value.o".into(), &text)?;
    equal(
        &result["relatedLocations"][0]["physicalLocation"]["address"]["kind"],
        &"instruction".into(),
        &text,
    )?;
    // An empty list of results tells a pipeline that all is well.
    let (status, text) = log(&examples_of_codes(), &["verify", "BPF1001.o"])?;
    let run = run_of(&text)?;
    equal(&(status, &run["results"]), &(0, &Value::Array(Vec::new())), &text)?;
    equal(&run["artifacts"][0]["location"]["uri"], &"BPF1001.o".into(), &text)
}

fn reproducible() -> Result<(), Failed> {
    let (_, first) = verify_all(&rejected())?;
    let (_, second) = verify_all(&rejected())?;
    equal(&(first == second), &true, "two runs give the same log")?;
    let copies = tempfile::tempdir()?;
    for name in objects(&rejected())? {
        std::fs::copy(rejected().join(&name), copies.path().join(&name))?;
    }
    let (_, elsewhere) = verify_all(copies.path())?;
    equal(
        &(first == elsewhere),
        &true,
        "a run in another folder gives the same log",
    )?;
    let run = run_of(&first)?;
    let results = run["results"].as_array().ok_or("no results")?;
    let mut fingerprints: Vec<String> = results.iter().map(|r| r["partialFingerprints"].to_string()).collect();
    fingerprints.sort();
    fingerprints.dedup();
    equal(
        &fingerprints.len(),
        &results.len(),
        "each result has its own fingerprint",
    )
}

fn notifications() -> Result<(), Failed> {
    let (status, text) = log(&examples_of_codes(), &["verify", "none.o"])?;
    let run = run_of(&text)?;
    let invocation = &run["invocations"][0];
    equal(
        &(status, &invocation["executionSuccessful"]),
        &(1, &false.into()),
        &text,
    )?;
    equal(
        &invocation["toolExecutionNotifications"][0]["descriptor"]["id"],
        &"BPF9001".into(),
        &text,
    )?;
    equal(&run["results"], &Value::Array(Vec::new()), &text)?;
    let (_, text) = log(&examples_of_codes(), &["verify", "--what"])?;
    let run = run_of(&text)?;
    let told = &run["invocations"][0]["toolConfigurationNotifications"][0]["descriptor"]["id"];
    equal(told, &"BPF9005".into(), &text)
}
