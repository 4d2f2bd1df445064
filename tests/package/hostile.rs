//! Statements from people who want to break something: nothing panics, and nothing that was changed is believed.

use std::fs;
use std::sync::Mutex;
use std::thread;

use libtest_mimic::{Failed, Trial};

use super::refused::refused;
use super::{Shop, payload_bytes, with_payload};
use crate::support::test;

pub fn trials() -> Vec<Trial> {
    vec![
        test(
            "package::hostile::truncated_and_mutated_statements_are_refused",
            mutations,
        ),
        test("package::hostile::deep_long_and_strange_json_is_refused", strange),
    ]
}

/// Runs of the tool on mutations.
const RUNS: u64 = 240;

/// Files that were cut off, or have a byte changed: of the envelope, and of the statement in it. (Thousands more go through the
/// readers themselves, in the unit tests of the crate.)
fn mutations() -> Result<(), Failed> {
    let shop = Shop::packaged()?;
    let envelope = shop.read("filter.sys.intoto.jsonl")?;
    let payload = payload_bytes(&envelope)?;
    let failure: Mutex<Option<String>> = Mutex::default();
    thread::scope(|scope| {
        for worker in 0..2 {
            let (shop, envelope, payload, failure) = (&shop, &envelope, &payload, &failure);
            scope.spawn(move || {
                for run in (worker..RUNS).step_by(2) {
                    if let Err(e) = mutation(shop, envelope, payload, run) {
                        *failure.lock().unwrap() = Some(format!("{run}: {}", e.message().unwrap_or_default()));
                    }
                }
            });
        }
    });
    match failure.into_inner()? {
        Some(what) => Err(what.into()),
        None => Ok(()),
    }
}

fn mutation(shop: &Shop, envelope: &[u8], payload: &[u8], run: u64) -> Result<(), Failed> {
    // A permutation of 64-bit numbers (splitmix64).
    let mut number = run.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number ^= number >> 27;
    let inside = run.is_multiple_of(2);
    let mut bytes = if inside { payload.to_vec() } else { envelope.to_vec() };
    let place = (number % bytes.len() as u64) as usize;
    match run % 3 {
        0 => bytes.truncate(place),
        1 => bytes[place] ^= 1 << (number >> 40 & 7),
        _ => bytes[place] = (number >> 48) as u8,
    }
    if inside {
        if bytes == payload {
            return Ok(());
        }
        bytes = with_payload(envelope, &bytes)?;
    }
    let name = format!("mutation{run}");
    fs::write(shop.path(&name), &bytes)?;
    let mut verify = shop.verify(&["filter.sys", "filter.o", &name]);
    // What is no part of the payload is no part of what is signed: the name of the key, the names of unknown fields.
    let unsigned = !inside && payload_bytes(&bytes).is_ok_and(|same| same == payload);
    if unsigned {
        let out = crate::support::output(&mut verify)?;
        return match out.status.code() {
            Some(0 | 7) => Ok(()),
            _ => Err(format!("{}\n{}", out.status, String::from_utf8_lossy(&out.stderr)).into()),
        };
    }
    refused(&mut verify, 7)?;
    Ok(())
}

fn strange() -> Result<(), Failed> {
    let shop = Shop::packaged()?;
    let envelope = shop.read("filter.sys.intoto.jsonl")?;
    let payload = String::from_utf8(payload_bytes(&envelope)?)?;
    let field = |text: &str| payload.replacen('{', &format!("{{{text},"), 1);
    let inside = |text: &str| {
        payload.replacen(
            "\"externalParameters\":{",
            &format!("\"externalParameters\":{{{text},"),
            1,
        )
    };
    let payloads: Vec<String> = vec![
        String::new(),
        "null".into(),
        "[".repeat(200_000),
        format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)),
        field("\"more\":1"),
        field("\"_type\":\"https://in-toto.io/Statement/v1\""),
        inside("\"fast\":true"),
        inside("\"cfg\":\"on\""),
        payload.replace("\"lse\":false", "\"lse\":null"),
        payload.replace("\"lse\":false,", ""),
        payload.replace("\"type\":null,", ""),
        payload.replace("\"object\":\"filter.o\"", "\"object\":\"../../../etc/passwd\""),
        payload.replace("filter.o", ".o"),
        payload.replace("filter.o", "a\\u0000b.o"),
        payload.replace("\"version-info\":null", "\"version-info\":{\"file-version\":[0,0,0,70000],\"product-version\":[0,0,0,0],\"strings\":[]}"),
        payload.replace(
            "\"version-info\":null",
            &format!(
                "\"version-info\":{{\"file-version\":[0,0,0,0],\"product-version\":[0,0,0,0],\"strings\":[[\"a\",\"{}\"]]}}",
                "b".repeat(200_000)
            ),
        ),
        payload.replace("\"type\":null", &format!("\"type\":\"{}\"", "x".repeat(100_000))),
    ];
    for (index, changed) in payloads.iter().enumerate() {
        assert_ne!(*changed, payload, "{index}");
        fs::write(shop.path("changed"), with_payload(&envelope, changed.as_bytes())?)?;
        refused(
            shop.tool()
                .args(["attest", "verify", "filter.sys", "filter.o", "changed"]),
            7,
        )
        .map_err(|e| format!("{index}: {}", e.message().unwrap_or_default()))?;
    }
    let long = vec![b' '; (16 << 20) + 1];
    for file in [&b"{\xff}"[..], b"\0\0\0", &long] {
        fs::write(shop.path("changed"), file)?;
        let told = refused(&mut shop.verify(&["filter.sys", "filter.o", "changed"]), 7)?;
        assert!(told.contains("[BPF7020]"), "{told}");
        let told = refused(shop.tool().args(["attest", "show", "changed"]), 7)?;
        assert!(told.contains("[BPF7020]"), "{told}");
    }
    Ok(())
}
