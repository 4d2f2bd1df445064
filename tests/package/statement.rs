//! The statement: its form, its digests, and its signature, without any of our code.

use std::fs;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::{DETAILS, Shop, base64, payload, payload_bytes, sha256sum};
use crate::support::{Need, root, succeed, test_with};

pub fn trials() -> Vec<Trial> {
    let judged = |name: &str, body: fn() -> Result<(), Failed>| {
        test_with(
            &format!("package::statement::{name}"),
            &[Need::Program("openssl")],
            body,
        )
    };
    vec![
        judged("states_what_went_in_and_what_came_out", what_is_stated),
        judged("every_key_signs_so_that_openssl_verifies", every_key),
        judged("a_command_signs_with_a_key_that_stays_where_it_is", command),
        judged("protected_keys_open_with_their_password", protected_keys),
    ]
}

fn what_is_stated() -> Result<(), Failed> {
    let shop = Shop::new()?;
    let unsigned = sha256sum(&shop.path("filter.sys"))?;
    succeed(shop.tool().args(["sign", "-q", "filter.sys", "--pfx", "signing.pfx"]))?;
    fs::create_dir(shop.path("more"))?;
    fs::write(
        shop.path("more/sample.toml"),
        "schema = 1\nprovider = { id = \"more\" }\n",
    )?;
    let arguments = ["filter.sys", "--object", "filter.o", "--platform", "more/sample.toml"];
    succeed(shop.package(&arguments).args(["--builder-id", "https://ci.example/7"]))?;
    let statement = payload(&shop.read("filter.sys.intoto.jsonl")?)?;
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let signed = sha256sum(&shop.path("filter.sys"))?;
    assert_ne!(signed, unsigned);
    let file = |name: &str, sha256: &str| json!({ "name": name, "digest": { "sha256": sha256 } });
    assert_eq!(statement["subject"], json!([file("filter.sys", &signed)]));
    let predicate = &statement["predicate"];
    let build = &predicate["buildDefinition"];
    assert_eq!(build["buildType"], "urn:bpf2sys:build:v1");
    let dependencies = [
        file("filter.o", &sha256sum(&shop.path("filter.o"))?),
        file("sample.toml", &sha256sum(&shop.path("more/sample.toml"))?),
    ];
    assert_eq!(build["resolvedDependencies"], json!(dependencies));
    let parameters = json!({
        "object": "filter.o", "arch": "x64", "emit": "sys", "type": null, "from": null, "unmarked": "windows",
        "retarget": false, "allow-degraded": false, "set": {}, "config": {}, "platform": ["sample.toml"],
        "verifier": "native", "deny-warnings": false, "optimize": "all", "runtime": "1.6", "hash": "sha256", "lse": false, "sign-return-address": false,
        "cfg": "on", "force-integrity": false, "version-info": null,
    });
    assert_eq!(build["externalParameters"], parameters);
    let verifier = &build["internalParameters"]["verifier"];
    let lock = fs::read_to_string(root().join("Cargo.lock"))?.replace("\r\n", "\n");
    let version = verifier["version"].as_str().unwrap_or_default();
    assert_eq!(verifier["name"], "bpf2sys");
    assert!(
        lock.contains(&format!("name = \"bpf2sys\"\nversion = \"{version}\"")),
        "{verifier}"
    );
    assert_eq!(verifier["options"]["check_for_termination"], true);
    let run = &predicate["runDetails"];
    assert_eq!(run["builder"]["id"], "https://ci.example/7");
    let own = succeed(shop.tool().arg("-V"))?;
    assert_eq!(
        format!(
            "bpf2sys {}\n",
            run["builder"]["version"]["bpf2sys"].as_str().unwrap_or_default()
        ),
        own
    );
    assert_eq!(
        run["byproducts"],
        json!([file("filter.sys without signatures", &unsigned)])
    );
    // The hash that the image itself states, as `inspect` reads it out of the file.
    let inspected: Value = serde_json::from_str(&succeed(shop.tool().args(["inspect", "--json", "filter.sys"]))?)?;
    let programs = run["bpf2sys_programs"].as_array().ok_or("no programs")?;
    assert_eq!(programs.len(), 1);
    assert_eq!(programs[0]["name"], "count");
    let hash = programs[0]["programInfoHash"].as_str().ok_or("no hash")?;
    assert!(hash.len() == 64 && inspected.to_string().contains(hash), "{hash}");
    Ok(())
}

/// Verifies the one signature of a statement with OpenSSL, over an encoding that is made here (DSSE, "PAE").
fn openssl_verifies(shop: &Shop, public: &str, digest: &str) -> Result<(), Failed> {
    let envelope = shop.read("filter.sys.intoto.jsonl")?;
    if envelope.iter().position(|byte| *byte == b'\n') != Some(envelope.len() - 1) {
        return Err("the file is not one line".into());
    }
    let payload = payload_bytes(&envelope)?;
    let envelope: Value = serde_json::from_slice(&envelope)?;
    let kind = envelope["payloadType"].as_str().ok_or("no type")?;
    assert_eq!(kind, "application/vnd.in-toto+json");
    let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    signed.extend(&payload);
    fs::write(shop.path("signed"), signed)?;
    let signatures = envelope["signatures"].as_array().ok_or("no signatures")?;
    assert_eq!(signatures.len(), 1);
    fs::write(
        shop.path("signature"),
        base64(signatures[0]["sig"].as_str().ok_or("no signature")?)?,
    )?;
    succeed(
        Command::new("openssl")
            .args(["dgst", digest, "-verify", public, "-signature", "signature", "signed"])
            .current_dir(&shop.folder),
    )?;
    let der = ["pkey", "-pubin", "-in", public, "-outform", "DER", "-out", "public.der"];
    succeed(Command::new("openssl").args(der).current_dir(&shop.folder))?;
    assert_eq!(signatures[0]["keyid"], sha256sum(&shop.path("public.der"))?);
    Ok(())
}

fn openssl(shop: &Shop, command: &str) -> Result<(), Failed> {
    succeed(
        Command::new("openssl")
            .args(command.split(' '))
            .current_dir(&shop.folder),
    )?;
    Ok(())
}

fn every_key() -> Result<(), Failed> {
    let shop = Shop::new()?;
    for (made, digest) in [
        ("EC -pkeyopt ec_paramgen_curve:P-256", "-sha256"),
        ("EC -pkeyopt ec_paramgen_curve:P-384", "-sha384"),
        ("RSA -pkeyopt rsa_keygen_bits:2048", "-sha256"),
        ("RSA -pkeyopt rsa_keygen_bits:3072", "-sha256"),
    ] {
        openssl(&shop, &format!("genpkey -algorithm {made} -out key.pem"))?;
        openssl(&shop, "pkey -in key.pem -pubout -out public.pem")?;
        let mut command = shop.tool();
        command.args([
            "package",
            "filter.sys",
            "--object",
            "filter.o",
            "-o",
            "filter.cab",
            "--attest-key",
            "key.pem",
        ]);
        command.args(DETAILS);
        succeed(&mut command).map_err(|e| format!("{made}: {}", e.message().unwrap_or_default()))?;
        openssl_verifies(&shop, "public.pem", digest)?;
        let mut verify = shop.tool();
        verify.args([
            "attest",
            "verify",
            "filter.sys",
            "filter.o",
            "filter.sys.intoto.jsonl",
            "--key",
            "public.pem",
        ]);
        let told = succeed(&mut verify)?;
        assert!(told.contains("by the given key"), "{told}");
    }
    // A change of one bit in what is signed must be found by this test itself.
    let mut envelope: Value = serde_json::from_slice(&shop.read("filter.sys.intoto.jsonl")?)?;
    let text = envelope["payload"].as_str().ok_or("no payload")?;
    envelope["payload"] = format!("f{}", &text[1..]).into();
    fs::write(shop.path("filter.sys.intoto.jsonl"), envelope.to_string() + "\n")?;
    if openssl_verifies(&shop, "public.pem", "-sha256").is_ok() {
        return Err("OpenSSL takes what was changed".into());
    }
    Ok(())
}

fn command() -> Result<(), Failed> {
    let shop = Shop::new()?;
    openssl(
        &shop,
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem",
    )?;
    openssl(&shop, "pkey -in key.pem -pubout -out public.pem")?;
    openssl(
        &shop,
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.pem",
    )?;
    let key = shop.path("key.pem");
    let package = |key: &std::path::Path| {
        let mut command = shop.tool();
        command.args(["package", "filter.sys", "--object", "filter.o", "-o", "filter.cab"]);
        command.args(DETAILS);
        let template = format!(
            "openssl pkeyutl -sign -inkey {} -in {{digest}} -out {{signature}}",
            key.display()
        );
        command
            .args(["--attest-cert", "public.pem", "--attest-command"])
            .arg(template);
        command
    };
    succeed(&mut package(&key))?;
    openssl_verifies(&shop, "public.pem", "-sha256")?;
    fs::remove_file(shop.path("filter.cab"))?;
    let told = super::refused::refused(&mut package(&shop.path("other.pem")), 7)?;
    assert!(told.contains("[BPF7026]"), "{told}");
    assert!(!shop.path("filter.cab").exists());
    Ok(())
}

fn protected_keys() -> Result<(), Failed> {
    let shop = Shop::new()?;
    openssl(
        &shop,
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -aes256 -pass pass:1234 -out key.pem",
    )?;
    openssl(&shop, "pkey -in key.pem -passin pass:1234 -pubout -out public.pem")?;
    let package = |password: &str| {
        let mut command = shop.tool();
        command.args(["package", "filter.sys", "--object", "filter.o", "-o", "filter.cab"]);
        command.args(DETAILS);
        command.args(["--attest-key", "key.pem", "--attest-password-env", "KEY_PASSWORD"]);
        command.env("KEY_PASSWORD", password);
        command
    };
    succeed(&mut package("1234"))?;
    openssl_verifies(&shop, "public.pem", "-sha384")?;
    let told = super::refused::refused(&mut package("4321"), 7)?;
    assert!(told.contains("[BPF7005]"), "{told}");
    Ok(())
}
