//! The form of one JSON object per line: that there is nothing else, and that it says what people are told.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{equal, examples_of_codes, objects, plain_tool, rejected, told};
use crate::support::test;

pub fn trials() -> Vec<Trial> {
    vec![
        test("messages::json_has_everything_that_people_are_told", same_as_human),
        test("messages::json_has_results_and_ends_with_the_status", results),
        test("messages::json_has_what_was_signed", signed),
        test("messages::json_leaves_standard_output_to_data", data_on_standard_output),
        test("messages::json_tells_a_wrong_command_line", wrong_command_line),
        test("messages::json_that_cannot_be_written_is_a_failure", full_disk),
    ]
}

fn lines(text: &str) -> Result<Vec<Value>, Failed> {
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|e| format!("{e}: {line}").into()))
        .collect()
}

fn of_reason<'a>(lines: &'a [Value], reason: &'a str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |line| line["reason"] == reason)
}

fn same_as_human() -> Result<(), Failed> {
    let folder = rejected();
    let verify = |form: &str| {
        let mut command = plain_tool();
        command
            .args(["verify", "--message-format", form])
            .args(objects(&folder)?)
            .current_dir(&folder);
        told(&mut command)
    };
    let (_, _, human) = verify("human")?;
    let (status, out, err) = verify("json")?;
    equal(&(status, err.as_str()), &(4, ""), "standard error")?;
    let lines = lines(&out)?;
    let rendered: String = of_reason(&lines, "diagnostic")
        .filter_map(|line| line["rendered"].as_str())
        .collect();
    // All but the sum is the same text.
    let human = human
        .rsplit_once("error: ")
        .map_or(human.as_str(), |(before, _)| before);
    equal(&rendered.as_str(), &human, "what is rendered")?;
    for line in of_reason(&lines, "diagnostic") {
        let place = &line["place"];
        let numbers =
            place.is_null() || (place["line"].is_u64() && (place["column"].is_u64() || place["column"].is_null()));
        let instruction = &line["instruction"];
        if !numbers || !(instruction.is_null() || instruction["slot"].is_u64()) {
            return Err(format!("numbers are no numbers: {line}").into());
        }
        let is_object = |input: &str| std::path::Path::new(input).extension().is_some_and(|e| e == "o");
        if !line["input"].as_str().is_some_and(is_object) {
            return Err(format!("of which input? {line}").into());
        }
    }
    let last = lines.last().ok_or("no lines")?;
    equal(&last["status"], &Value::from(4), "the last line")?;
    equal(
        &last["errors"],
        &Value::from(of_reason(&lines, "diagnostic").count()),
        "the sum",
    )
}

fn results() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    std::fs::copy(examples_of_codes().join("BPF1001.o"), folder.path().join("a.o"))?;
    let run = |arguments: &[&str]| {
        let mut command = plain_tool();
        command
            .args(arguments)
            .args(["--message-format", "json", "a.o"])
            .current_dir(&folder);
        told(&mut command)
    };
    let (status, out, err) = run(&["verify"])?;
    equal(&(status, err.as_str()), &(0, ""), "verify")?;
    let verified = lines(&out)?;
    equal(&verified.len(), &2, &out)?;
    equal(&verified[0]["reason"], &"verified".into(), &out)?;
    equal(&verified[0]["programs"][0]["name"], &"pass_all".into(), &out)?;
    equal(&verified[1]["reason"], &"finished".into(), &out)?;
    let (_, out, _) = run(&["build", "--arch", "x64,arm64"])?;
    let built = lines(&out)?;
    for (output, file) in built[0]["outputs"]
        .as_array()
        .ok_or("no outputs")?
        .iter()
        .zip(["a.x64.sys", "a.arm64.sys"])
    {
        let size = std::fs::metadata(folder.path().join(file))?.len();
        equal(&output["file"], &file.into(), &out)?;
        equal(&output["size"], &size.into(), &out)?;
    }
    let (_, out, _) = run(&["verify", "--quiet"])?;
    equal(&lines(&out)?.len(), &1, &format!("quiet: {out}"))
}

fn signed() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let run = |arguments: &str| {
        let mut command = plain_tool();
        command.args(arguments.split_whitespace()).current_dir(&folder);
        told(&mut command)
    };
    std::fs::copy(examples_of_codes().join("BPF1001.o"), folder.path().join("a.o"))?;
    run("cert new --quiet --key p256")?;
    run("build --quiet a.o")?;
    let sign = |arguments: &str| run(&format!("sign a.sys --message-format json {arguments}"));
    let size = |file: &str| std::fs::metadata(folder.path().join(file)).map(|metadata| metadata.len());
    let (status, out, err) = sign("--out-dir signed --digest sha384 --pfx signing.pfx")?;
    equal(&(status, err.as_str()), &(0, ""), &out)?;
    let file = std::path::Path::new("signed").join("a.sys");
    let made = serde_json::json!({"signer": "CN=bpf2sys test signing", "digest": "sha384", "timestamp": null});
    let record = serde_json::json!({
        "reason": "signed", "input": "a.sys", "file": file, "size": size("signed/a.sys")?, "signatures": [made],
    });
    equal(&lines(&out)?[0], &record, &out)?;
    // Beside another signature there are two, and the file is the input itself.
    run("sign a.sys --pfx signing.pfx")?;
    let (_, out, _) = sign("--append --digest sha384 --pfx signing.pfx")?;
    let told = &lines(&out)?[0];
    let digests = [0, 1].map(|index| told["signatures"][index]["digest"].clone());
    equal(&digests, &["sha256".into(), "sha384".into()], &out)?;
    equal(
        &(&told["file"], &told["size"]),
        &(&"a.sys".into(), &size("a.sys")?.into()),
        &out,
    )?;
    let (_, out, _) = sign("--remove")?;
    equal(&lines(&out)?[0]["signatures"], &Value::Array(Vec::new()), &out)?;
    // What can't be done is a problem in the same stream, and no result.
    let (status, out, err) = sign("--remove")?;
    equal(&(status, err.as_str()), &(7, ""), &out)?;
    let reasons: Vec<Value> = lines(&out)?.into_iter().map(|line| line["reason"].clone()).collect();
    equal(&reasons, &vec!["diagnostic".into(), "finished".into()], &out)
}

fn data_on_standard_output() -> Result<(), Failed> {
    let mut build = plain_tool();
    build
        .args(["build", "BPF1001.o", "-o", "-"])
        .current_dir(examples_of_codes());
    let driver = crate::support::output(&mut build)?.stdout;
    let out = crate::support::output(build.args(["--message-format", "json"]))?;
    equal(&(out.stdout == driver), &true, "the driver is alone on standard output")?;
    let finished = lines(&String::from_utf8(out.stderr)?)?;
    equal(
        &finished.last().map(|line| line["reason"].clone()),
        &Some("finished".into()),
        "standard error",
    )?;
    let mut inspect = plain_tool();
    inspect
        .args(["inspect", "BPF1001.c", "--message-format", "json"])
        .current_dir(examples_of_codes());
    let (status, out, err) = told(&mut inspect)?;
    equal(&(status, out.as_str()), &(3, ""), "inspect")?;
    equal(&lines(&err)?[0]["code"], &"BPF9004".into(), &err)
}

fn wrong_command_line() -> Result<(), Failed> {
    let (status, out, err) = told(plain_tool().args(["verify", "--what", "--message-format=json"]))?;
    equal(&(status, err.as_str()), &(2, ""), &out)?;
    let lines = lines(&out)?;
    equal(&lines[0]["code"], &"BPF9005".into(), &out)?;
    equal(&lines[1]["status"], &Value::from(2), &out)?;
    // Help is help in every form.
    let (status, out, _) = told(plain_tool().args(["--message-format", "json", "verify", "--help"]))?;
    equal(&(status, out.contains("Usage:")), &(0, true), &out)
}

fn full_disk() -> Result<(), Failed> {
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else {
        return Ok(()); // not on this system
    };
    for form in ["json", "sarif"] {
        let mut command = plain_tool();
        command
            .args(["verify", "BPF1001.o", "--message-format", form])
            .current_dir(examples_of_codes());
        let (status, _, err) = told(command.stdout(full.try_clone()?))?;
        equal(
            &(status, err.contains("BPF9003")),
            &(1, true),
            &format!("{form}: {err}"),
        )?;
    }
    Ok(())
}
