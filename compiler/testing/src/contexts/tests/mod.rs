//! Contexts of the built-in providers, to the byte, and of an invented one.

mod errors;
mod page;
mod round_trip;

use std::sync::Arc;

use bpf2sys_platform::{Platform, ProgramType};
use serde_json::{Value, json};

use super::{Fields, Given, decode, encode};

fn platform() -> Platform {
    Platform::from_toml(Platform::builtin_files()).unwrap()
}

fn of(name: &str) -> Arc<ProgramType> {
    let platform = platform();
    let found = platform.program_types.iter().find(|t| t.name == name);
    Arc::clone(found.unwrap_or_else(|| panic!("no program type {name}")))
}

/// A program type of a user's provider with these fields, in TOML; its data pointers are at 0 and 8.
fn own(size: u32, fields: &str) -> Arc<ProgramType> {
    let text = format!(
        r#"schema = 1
        [provider]
        id = "own"
        [[program_type]]
        name = "own"
        guid = "0000000a-0000-0000-0000-000000000001"
        bpf_prog_type = 1000
        is_privileged = false
        [program_type.context]
        size = {size}
        data = 0
        data_end = 8
        data_meta = -1
        field = [{fields}]
        "#
    );
    let own = [("own.toml", text.as_str())];
    let files: Vec<(&str, &str)> = Platform::builtin_files().iter().copied().chain(own).collect();
    let platform = Platform::from_toml(&files).unwrap();
    Arc::clone(platform.program_types.iter().find(|t| t.name == "own").unwrap())
}

/// Bytes at offsets, the rest 0.
fn bytes(size: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; size];
    for (at, part) in parts {
        bytes[*at..at + part.len()].copy_from_slice(part);
    }
    bytes
}

fn given(name: &str, value: &Value) -> Given {
    encode(&of(name).context, value).unwrap_or_else(|error| panic!("{value}: {error}"))
}

#[test]
fn connections() {
    let ipv4 = json!({
        "msg_src_ip4": "192.0.2.7", "msg_src_port": 50000, "user_ip4": "198.51.100.1", "user_port": 443,
        "protocol": "tcp", "compartment_id": 1, "interface_luid": "0x1122334455667788",
    });
    let expected: &[(usize, &[u8])] = &[
        (0, &[2, 0, 0, 0]),
        (4, &[192, 0, 2, 7]),
        (20, &[0xc3, 0x50]),
        (24, &[198, 51, 100, 1]),
        (40, &[0x01, 0xbb]),
        (44, &[6, 0, 0, 0]),
        (48, &[1, 0, 0, 0]),
        (56, &[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]),
    ];
    let context = bytes(64, expected);
    assert_eq!(
        given("sock_addr", &ipv4),
        Given {
            context,
            ..Given::default()
        }
    );

    let ipv6 = json!({ "user_ip6": "2001:db8::1", "user_port": "53", "protocol": 17 });
    let address = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let expected: &[(usize, &[u8])] = &[(0, &[23]), (24, &address), (40, &[0, 53]), (44, &[17])];
    assert_eq!(given("sock_addr", &ipv6).context, bytes(64, expected));

    // What is given counts, also where it does not suit the address.
    for family in [json!("AF_INET6"), json!("inet6"), json!(23), json!("0x17")] {
        let context = given("sock_addr", &json!({ "family": family, "user_ip4": "1.2.3.4" })).context;
        assert_eq!(context, bytes(64, &[(0, &[23]), (24, &[1, 2, 3, 4])]));
    }
}

#[test]
fn ports_are_in_the_first_two_bytes() {
    let value = json!({ "op": "connection_deleted", "local_ip4": "10.0.0.1", "local_port": 8080, "protocol": "UDP" });
    let expected: &[(usize, &[u8])] = &[
        (0, &[2]),
        (4, &[2]),
        (8, &[10, 0, 0, 1]),
        (24, &[0x1f, 0x90, 0, 0]),
        (48, &[17]),
    ];
    assert_eq!(given("sockops", &value).context, bytes(64, expected));
}

#[test]
fn socket_addresses_and_texts() {
    let expected: &[(usize, &[u8])] = &[
        (16, &[0x92, 0x10]),
        (24, &[2, 0, 0x1f, 0x90, 127, 0, 0, 1]),
        (40, &[16]),
        (44, &[1]),
        (48, &[6]),
    ];
    let data = b"a\0\xe4\0\x3d\xd8\x00\xde".to_vec();
    let expected = Given {
        context: bytes(56, expected),
        data: Some(data),
        meta: None,
    };
    for address in [
        json!("127.0.0.1:8080"),
        json!({ "address": "127.0.0.1", "port": 8080 }),
        json!({ "family": "af_inet", "address": "127.0.0.1", "port": "0x1f90" }),
        json!("02001f907f0000010000000000000000"),
        json!([2, 0, 31, 144, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let value = json!({
            "app_id": "aä😀", "process_id": 4242, "socket_address": address, "operation": "post_bind", "protocol": "TCP",
        });
        assert_eq!(given("bind", &value), expected);
    }
    let other = json!({ "socket_address": { "family": 23, "port": 1 }, "socket_address_length": 28 });
    let context = bytes(56, &[(24, &[23, 0, 0, 1]), (40, &[28])]);
    assert_eq!(given("bind", &other).context, context);
}

#[test]
fn processes() {
    let value = json!({
        "command": "x", "creation_time": "2026-01-01T00:00:00Z", "exit_time": 1, "process_exit_code": "0xc0000022",
        "operation": "DELETE", "token_sid": "S-1-5-21-1-2-4294967295-1001",
    });
    let expected: &[(usize, &[u8])] = &[
        (48, &134_116_992_000_000_000_u64.to_le_bytes()),
        (56, &[1]),
        (64, &[0x22, 0, 0, 0xc0]),
        (68, &[1]),
        (72, &[28]),
        (76, &[1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2]),
        (96, &[255, 255, 255, 255, 0xe9, 3]),
    ];
    // The authority 5 is followed by five subauthorities.
    let mut context = bytes(144, expected);
    assert_eq!(given("process", &value).context, context);
    assert_eq!(given("process", &value).data.as_deref(), Some(b"x\0".as_slice()));
    let text = r#"{"command":"x","process_id":0,"parent_process_id":0,"creating_process_id":0,"creating_thread_id":0,"creation_time":"2026-01-01T00:00:00Z","exit_time":"1601-01-01T00:00:00.0000001Z","process_exit_code":3221225506,"operation":"PROCESS_OPERATION_DELETE","token_sid_size":28,"token_sid":"S-1-5-21-1-2-4294967295-1001"}"#;
    let shown = decode(&of("process").context, &context, Some(b"x\0"));
    assert_eq!(serde_json::to_string(&shown).unwrap(), text);

    // A SID with something behind it, and what is no text.
    context[143] = 1;
    let shown = decode(&of("process").context, &context, Some(&[0, 0xd8]));
    let sid = shown.get("token_sid").and_then(Value::as_str).unwrap();
    assert!(sid.starts_with("0105") && sid.len() == 136, "{sid}");
    assert_eq!(shown.get("command"), Some(&json!([0, 0xd8])));
}

#[test]
fn data_and_metadata() {
    let value = json!({ "data": "0a 1b\n2c", "data_meta": [100, 0], "ingress_ifindex": 5 });
    let expected = Given {
        context: bytes(32, &[(24, &[5])]),
        data: Some(vec![0x0a, 0x1b, 0x2c]),
        meta: Some(vec![100, 0]),
    };
    assert_eq!(given("xdp", &value), expected);
    let nothing = Given {
        context: vec![0; 24],
        ..Given::default()
    };
    assert_eq!(given("netevent_monitor", &json!({})), nothing);
    assert_eq!(given("sample", &json!({ "data": "" })).data, Some(Vec::new()));
}

#[test]
fn one_of_the_fields_that_share_bytes_is_shown() {
    let shown = |family: u8, address: &[u8]| {
        let context = bytes(64, &[(0, &[family]), (24, address)]);
        let shown = decode(&of("sock_addr").context, &context, None);
        let own = shown.0.into_iter().filter(|(name, _)| name.starts_with("user_ip"));
        own.map(|(name, value)| format!("{name} {}", value.as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    let four = [192, 0, 2, 1];
    let more = [192, 0, 2, 1, 5];
    assert_eq!(shown(2, &four), ["user_ip4 192.0.2.1"]);
    assert_eq!(shown(23, &four), ["user_ip6 c000:201::"]);
    assert_eq!(shown(2, &more), ["user_ip6 c0000201050000000000000000000000"]);
    assert_eq!(shown(7, &four), ["user_ip6 c0000201000000000000000000000000"]);
}

#[test]
fn bytes_behind_a_port_are_shown() {
    let context = bytes(64, &[(24, &[0x01, 0xbb, 0, 0]), (44, &[0x01, 0xbb, 0, 1])]);
    let shown = decode(&of("sockops").context, &context, None);
    assert_eq!(shown.get("local_port"), Some(&json!(443)));
    assert_eq!(shown.get("remote_port"), Some(&json!([1, 187, 0, 1])));
}

#[test]
fn fields_of_other_providers() {
    let fields = r#"
        { name = "level", type = "int16_t", offset = 16, size = 2 },
        { name = "color", type = "color_t", offset = 18, size = 1, values = { NONE = -1, RED = 1, DARK_RED = 2 } },
        { name = "order", type = "uint32_t", offset = 20, size = 4, byte_order = "network" },
        { name = "odd", type = "uint8_t[3]", offset = 24, size = 3 },
        { name = "wide", type = "uint64_t", offset = 27, size = 5 },
    "#;
    let own = own(32, fields);
    let value = json!({ "data": "01", "level": -2, "color": "none", "order": "0x01020304", "odd": "07", "wide": 1 });
    let Given { context, data, .. } = encode(&own.context, &value).unwrap();
    let expected: &[(usize, &[u8])] = &[(16, &[0xfe, 0xff, 0xff]), (20, &[1, 2, 3, 4]), (24, &[7]), (27, &[1])];
    assert_eq!(context, bytes(32, expected));
    let shown = decode(&own.context, &context, data.as_deref());
    let expected = [
        ("data", json!("01")),
        ("level", json!(-2)),
        ("color", json!("NONE")),
        ("order", json!(0x0102_0304)),
        ("odd", json!("070000")),
        ("wide", json!(1)),
    ];
    assert_eq!(
        shown,
        Fields(expected.map(|(name, value)| (name.to_owned(), value)).to_vec())
    );
    // Fields behind the end are left out.
    assert_eq!(decode(&own.context, &context[..19], None).0.len(), 2);
}
