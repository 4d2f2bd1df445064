//! `attest verify`: what is so is proven, and each thing that is not so is found.

use std::fs;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::refused::refused;
use super::{Shop, payload, with_payload};
use crate::support::{output, root, succeed, test};

pub fn trials() -> Vec<Trial> {
    let test = |name: &str, body: fn() -> Result<(), Failed>| test(&format!("package::verify::{name}"), body);
    vec![
        test("takes_images_with_and_without_signatures", signed_and_unsigned),
        test("takes_every_option_that_changes_bytes", options),
        test("takes_both_machines_and_descriptions", machines_and_descriptions),
        test("finds_every_changed_byte_of_an_image", changed_images),
        test("finds_other_inputs", other_inputs),
        test("finds_other_keys_and_tells_if_there_is_none", other_keys),
        test("finds_what_a_statement_says_wrong", lies),
        test("shows_what_a_statement_says", shown),
    ]
}

const STATEMENT: &str = "filter.sys.intoto.jsonl";
const ALL: [&str; 3] = ["filter.sys", "filter.o", STATEMENT];

fn signed_and_unsigned() -> Result<(), Failed> {
    let shop = Shop::packaged()?;
    let told = succeed(&mut shop.verify(&ALL))?;
    assert!(told.starts_with("filter.sys: proven\n"), "{told}");
    // Signed after the statement was made: only by request.
    let sign = ["sign", "-q", "filter.sys", "--pfx", "signing.pfx"];
    succeed(shop.tool().args(sign))?;
    let told = refused(&mut shop.verify(&ALL), 7)?;
    assert!(
        told.contains("[BPF7023]") && told.contains("--ignore-signatures") && !told.contains("[BPF7021]"),
        "{told}"
    );
    succeed(shop.verify(&ALL).arg("--ignore-signatures"))?;
    // Signed before: the statement is about the signed file.
    succeed(&mut shop.package(&["filter.sys", "--object", "filter.o"]))?;
    succeed(&mut shop.verify(&ALL))?;
    succeed(
        shop.tool()
            .args(["cert", "new", "-q", "--key", "p256", "--out-dir", "other"]),
    )?;
    let append = ["sign", "-q", "filter.sys", "--pfx", "other/signing.pfx", "--append"];
    succeed(shop.tool().args(append))?;
    refused(&mut shop.verify(&ALL), 7)?;
    succeed(shop.verify(&ALL).arg("--ignore-signatures"))?;
    succeed(shop.tool().args(["sign", "-q", "filter.sys", "--remove"]))?;
    succeed(shop.verify(&ALL).arg("--ignore-signatures"))?;
    Ok(())
}

fn options() -> Result<(), Failed> {
    let shop = Shop::new()?;
    let version = "company = \"C\"\nproduct = \"P\"\ndescription = \"Ä\"\nfile-version = \"7.6.5\"\n";
    fs::write(shop.path("version.toml"), version)?;
    let mut seen = vec![shop.read("filter.sys")?];
    for options in [
        &["--hash", "none"][..],
        &["--hash", "sha384"],
        &["--cfg", "off"],
        &["--force-integrity"],
        &["--runtime", "0.21"],
        &["--version-info", "version.toml"],
        &["--type", "xdp", "--hash", "sha512", "--runtime", "1.4"],
    ] {
        succeed(shop.tool().args(["build", "-q", "filter.o"]).args(options))?;
        let image = shop.read("filter.sys")?;
        assert!(!seen.contains(&image), "{options:?} changes nothing: it proves nothing");
        seen.push(image);
        let told = refused(&mut shop.package(&["filter.sys", "--object", "filter.o"]), 7)?;
        assert!(told.contains("[BPF7021]"), "{told}");
        succeed(shop.package(&["filter.sys", "--object", "filter.o"]).args(options))?;
        succeed(&mut shop.verify(&ALL))?;
    }
    // The INF takes from the version resource what is not given.
    let mut command = shop.tool();
    command.args([
        "package",
        "filter.sys",
        "--object",
        "filter.o",
        "-o",
        "a.cab",
        "--no-statement",
    ]);
    succeed(
        shop.tool()
            .args(["build", "-q", "filter.o", "--version-info", "version.toml"]),
    )?;
    succeed(command.args(["--version-info", "version.toml", "--driver-date", "2026-01-02"]))?;
    let cabinet = String::from_utf8_lossy(&shop.read("a.cab")?).into_owned();
    assert!(cabinet.contains("01/02/2026,7.6.5.0") && cabinet.contains("Provider = \"C\""));
    Ok(())
}

fn machines_and_descriptions() -> Result<(), Failed> {
    let shop = Shop::new()?;
    for name in ["one", "two"] {
        let text = format!("schema = 1\nprovider = {{ id = \"{name}\" }}\n");
        fs::write(shop.path(&format!("{name}.toml")), text)?;
    }
    let arm64 = ["--arch", "x64,arm64", "--lse", "--sign-return-address"];
    succeed(shop.tool().args(["build", "-q", "filter.o"]).args(arm64))?;
    let images = ["filter.x64.sys", "filter.arm64.sys", "--object", "filter.o"];
    let descriptions = ["--platform", "one.toml", "--platform", "two.toml"];
    succeed(shop.package(&images).args(&arm64[2..]).args(descriptions))?;
    for image in &images[..2] {
        let statement = format!("{image}.intoto.jsonl");
        let all = [image, "filter.o", &statement];
        succeed(shop.verify(&all).args(descriptions))?;
        for (wrong, part) in [
            (&descriptions[..0], "`one.toml`, `two.toml`"),
            (&descriptions[..2], "one is given"),
            (&["--platform", "two.toml", "--platform", "one.toml"], "`one.toml`"),
        ] {
            let told = refused(shop.verify(&all).args(wrong), 7)?;
            assert!(told.contains("[BPF7024]") && told.contains(part), "{told}");
        }
    }
    let stated = payload(&shop.read("filter.x64.sys.intoto.jsonl")?)?;
    assert_eq!(
        stated["predicate"]["buildDefinition"]["externalParameters"]["lse"],
        false
    );
    let stated = payload(&shop.read("filter.arm64.sys.intoto.jsonl")?)?;
    assert_eq!(
        stated["predicate"]["buildDefinition"]["externalParameters"]["lse"],
        true
    );
    Ok(())
}

/// Bytes here and there, in an image that is signed.
fn changed_images() -> Result<(), Failed> {
    let shop = Shop::new()?;
    succeed(shop.tool().args(["sign", "-q", "filter.sys", "--pfx", "signing.pfx"]))?;
    succeed(&mut shop.package(&["filter.sys", "--object", "filter.o"]))?;
    let image = shop.read("filter.sys")?;
    for place in (0..image.len()).step_by(image.len() / 40) {
        let mut changed = image.clone();
        changed[place] ^= 0x10;
        fs::write(shop.path("filter.sys"), changed)?;
        let out = output(&mut shop.verify(&ALL))?;
        let told = String::from_utf8_lossy(&out.stderr);
        if out.status.code() != Some(7) || !told.contains("error[BPF70") || told.contains("[BPF9999]") {
            return Err(format!("byte {place:#x}: {}\n{told}", out.status).into());
        }
    }
    Ok(())
}

fn other_inputs() -> Result<(), Failed> {
    let shop = Shop::packaged()?;
    fs::copy(root().join("examples/flow_log/flow_log.o"), shop.path("other.o"))?;
    let told = refused(&mut shop.verify(&["filter.sys", "other.o", STATEMENT]), 7)?;
    assert!(
        told.contains("[BPF7024]") && told.contains("the object is not the one"),
        "{told}"
    );
    // Its own name does not matter.
    fs::rename(shop.path("filter.o"), shop.path("renamed.o"))?;
    succeed(&mut shop.verify(&["filter.sys", "renamed.o", STATEMENT]))?;
    // Another image of the same object.
    succeed(
        shop.tool()
            .args(["build", "-q", "renamed.o", "--cfg", "off", "-o", "off.sys"]),
    )?;
    let told = refused(&mut shop.verify(&["off.sys", "renamed.o", STATEMENT]), 7)?;
    assert!(
        told.contains("[BPF7023]") && told.contains("[BPF7021]") && told.contains("note: first at 0x"),
        "{told}"
    );
    Ok(())
}

fn other_keys() -> Result<(), Failed> {
    let shop = Shop::packaged()?;
    let unkeyed = ["attest", "verify", "filter.sys", "filter.o", STATEMENT];
    let out = output(shop.tool().args(unkeyed))?;
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.code() == Some(0) && told.contains("warning[BPF7027]"),
        "{told}"
    );
    for kind in ["p256", "p384", "rsa2048"] {
        succeed(
            shop.tool()
                .args(["cert", "new", "-q", "--key", kind, "--out-dir", kind]),
        )?;
        let certificate = format!("{kind}/signing.cer");
        let told = refused(shop.tool().args(unkeyed).args(["--cert", &certificate]), 7)?;
        assert!(told.contains("[BPF7022]") && !told.contains("[BPF7021]"), "{told}");
    }
    let report = succeed(shop.verify(&ALL).arg("--json"))?;
    let report: Value = serde_json::from_str(&report)?;
    assert_eq!(report["proven"], true);
    let checks = report["checks"].as_array().ok_or("no checks")?;
    assert!(
        checks.len() == 6 && checks.iter().all(|check| check["outcome"] == "good"),
        "{report}"
    );
    Ok(())
}

/// Statements that say something else, judged without a key: each is found by what was seen.
fn lies() -> Result<(), Failed> {
    let shop = Shop::packaged()?;
    let envelope = shop.read(STATEMENT)?;
    let statement = payload(&envelope)?;
    let zeros = "0".repeat(64);
    let (build, run) = ("/predicate/buildDefinition", "/predicate/runDetails");
    let lies: Vec<(String, Value, &str)> = vec![
        ("/_type".into(), "https://in-toto.io/Statement/v0.1".into(), "BPF7020"),
        (
            "/predicateType".into(),
            "https://slsa.dev/provenance/v0.2".into(),
            "BPF7020",
        ),
        (format!("{build}/buildType"), "urn:bpf2sys:build:v2".into(), "BPF7020"),
        ("/subject".into(), Value::Array(Vec::new()), "BPF7020"),
        ("/subject/0/digest/sha256".into(), zeros.clone().into(), "BPF7023"),
        (format!("{build}/externalParameters/cfg"), "off".into(), "BPF7021"),
        (format!("{build}/externalParameters/runtime"), "0.21".into(), "BPF7021"),
        (format!("{build}/externalParameters/hash"), "sha512".into(), "BPF7021"),
        (format!("{build}/externalParameters/arch"), "arm64".into(), "BPF7021"),
        (
            format!("{build}/externalParameters/force-integrity"),
            true.into(),
            "BPF7021",
        ),
        (format!("{build}/externalParameters/type"), "nonesuch".into(), "BPF2"),
        (
            format!("{build}/externalParameters/object"),
            "other.o".into(),
            "BPF7024",
        ),
        (
            format!("{build}/externalParameters/platform"),
            vec!["a.toml"].into(),
            "BPF7025",
        ),
        (format!("{build}/externalParameters/hash"), "md5".into(), "BPF7020"),
        (
            format!("{build}/internalParameters/verifier/name"),
            "other".into(),
            "BPF7025",
        ),
        (
            format!("{build}/internalParameters/verifier/version"),
            "9.9".into(),
            "BPF7025",
        ),
        (
            format!("{build}/internalParameters/verifier/options/strict"),
            true.into(),
            "BPF7025",
        ),
        (
            format!("{build}/resolvedDependencies/0/digest/sha256"),
            zeros.clone().into(),
            "BPF7024",
        ),
        (
            format!("{build}/resolvedDependencies"),
            Value::Array(Vec::new()),
            "BPF7024",
        ),
        (
            format!("{run}/byproducts/0/digest/sha256"),
            zeros.clone().into(),
            "BPF7025",
        ),
        (format!("{run}/builder/version"), serde_json::json!({}), "BPF7025"),
        (
            format!("{run}/bpf2sys_programs/0/programInfoHash"),
            zeros.into(),
            "BPF7025",
        ),
        (
            format!("{run}/bpf2sys_programs/0/programType"),
            "bind".into(),
            "BPF7025",
        ),
        (format!("{run}/bpf2sys_programs"), Value::Array(Vec::new()), "BPF7025"),
    ];
    for (place, value, code) in lies {
        let mut lie = statement.clone();
        *lie.pointer_mut(&place).ok_or_else(|| format!("no {place}"))? = value;
        fs::write(shop.path("lie"), with_payload(&envelope, lie.to_string().as_bytes())?)?;
        let told = refused(
            shop.tool().args(["attest", "verify", "filter.sys", "filter.o", "lie"]),
            7,
        )?;
        if !told.contains(&format!("error[{code}")) {
            return Err(format!("{place}: {code} was expected\n{told}").into());
        }
        // With the key, nothing of it is read.
        let told = refused(&mut shop.verify(&["filter.sys", "filter.o", "lie"]), 7)?;
        assert!(
            told.contains("error[BPF7022]") && told.matches("[BPF").count() == 1,
            "{place}:\n{told}"
        );
    }
    // Another version of the tool is no lie, and is told if the bytes differ.
    let mut other = statement.clone();
    other["predicate"]["runDetails"]["builder"]["version"]["bpf2sys"] = "0.0.9".into();
    let unkeyed = ["attest", "verify", "filter.sys", "filter.o", "other"];
    fs::write(
        shop.path("other"),
        with_payload(&envelope, other.to_string().as_bytes())?,
    )?;
    succeed(shop.tool().args(unkeyed))?;
    other["predicate"]["buildDefinition"]["externalParameters"]["cfg"] = "off".into();
    fs::write(
        shop.path("other"),
        with_payload(&envelope, other.to_string().as_bytes())?,
    )?;
    let told = refused(shop.tool().args(unkeyed), 7)?;
    assert!(told.contains("bpf2sys 0.0.9 built it"), "{told}");
    Ok(())
}

fn shown() -> Result<(), Failed> {
    let shop = Shop::packaged()?;
    let text = succeed(shop.tool().args(["attest", "show", STATEMENT]))?;
    let shown: Value = serde_json::from_str(&text)?;
    assert_eq!(shown, payload(&shop.read(STATEMENT)?)?);
    // In the order of the statement, and not of the alphabet.
    assert!(text.find("\"subject\"") < text.find("\"predicate\""), "{text}");
    Ok(())
}
