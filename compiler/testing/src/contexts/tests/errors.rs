//! What is told of a context that cannot be encoded.

use serde_json::{Value, json};

use super::{of, own};
use crate::contexts::encode;

#[test]
fn errors_say_what_to_give() {
    let cases = [
        (
            "xdp",
            json!([1]),
            "a context is an object with fields by their names, and not [1]",
        ),
        (
            "xdp",
            json!({ "port": 1 }),
            "the context has no field `port`; it has `data`, `data_meta`, `ingress_ifindex`",
        ),
        (
            "sock_addr",
            json!({ "user_prot": 1 }),
            "the context has no field `user_prot`; did you mean `user_port`?",
        ),
        (
            "sock_addr",
            json!({ "userip5": 1 }),
            "the context has no field `userip5`; did you mean `user_ip4` or `user_ip6`?",
        ),
        (
            "sock_addr",
            json!({ "user_port": 65536 }),
            "`user_port` is 65536, and takes a port from 0 to 65535, such as 443",
        ),
        (
            "sock_addr",
            json!({ "user_ip4": 16_909_060 }),
            "`user_ip4` is 16909060, and takes an IPv4 address, such as \"192.0.2.1\"",
        ),
        (
            "sock_addr",
            json!({ "user_ip6": "192.0.2.1" }),
            "`user_ip6` is \"192.0.2.1\", and takes an IPv6 address, such as \"2001:db8::1\"",
        ),
        (
            "sock_addr",
            json!({ "user_ip4": "192.0.2.1", "user_ip6": "::1" }),
            "`user_ip4` and `user_ip6` share bytes: give one of them",
        ),
        (
            "sock_addr",
            json!({ "user_ip4": "192.0.2.1", "msg_src_ip6": "::1" }),
            "`family` must be given: `user_ip4` and `msg_src_ip6` are of two families",
        ),
        (
            "sock_addr",
            json!({ "family": "AF_UNIX" }),
            "`family` is \"AF_UNIX\", and takes one of AF_INET (2), AF_INET6 (23), such as \"inet\", or a number",
        ),
        (
            "sock_addr",
            json!({ "compartment_id": -1 }),
            "`compartment_id` is -1, and takes a number from 0 to 4294967295, such as 1 or \"0x1f\"",
        ),
        (
            "sock_addr",
            json!({ "compartment_id": "0x100000000" }),
            "`compartment_id` is \"0x100000000\", and takes a number from 0 to 4294967295, such as 1 or \"0x1f\"",
        ),
        (
            "sockops",
            json!({ "protocol": 256 }),
            "`protocol` is 256, and takes an IP protocol by its name, such as \"TCP\", or its number, up to 255",
        ),
        (
            "bind",
            json!({ "app_id_end": 8 }),
            "`app_id_end` is a pointer, which the run sets: give `app_id`, text, such as \"curl.exe\", or a list of bytes, such as \
             [104, 0]",
        ),
        (
            "bind",
            json!({ "app_id": 4096 }),
            "`app_id` is 4096, and takes text, such as \"curl.exe\", or a list of bytes, such as [104, 0]",
        ),
        (
            "bind",
            json!({ "operation": "rebind" }),
            "`operation` is \"rebind\", and takes one of BIND_OPERATION_BIND (0), BIND_OPERATION_POST_BIND (1), \
             BIND_OPERATION_UNBIND (2), such as \"bind\", or a number",
        ),
        (
            "bind",
            json!({ "socket_address": "[::1]:80" }),
            "`socket_address` is \"[::1]:80\", and takes an IPv4 address with port, such as \"127.0.0.1:8080\", an object with some of \
             `family`, `address` and `port`, or hex digits of 16 bytes",
        ),
        (
            "xdp",
            json!({ "data": "0a1" }),
            "`data` is \"0a1\", and takes hex digits, such as \"08004500\", or a list of bytes, such as [8, 0]",
        ),
        (
            "xdp",
            json!({ "data_end": "0a" }),
            "`data_end` is a pointer, which the run sets: give `data`, hex digits, such as \"08004500\", or a list of bytes, such as \
             [8, 0]",
        ),
        (
            "process",
            json!({ "creation_time": "2026-13-01T00:00:00Z" }),
            "`creation_time` is \"2026-13-01T00:00:00Z\", and takes a time, such as \"2026-01-01T00:00:00Z\", or a number of 100 ns since \
             1601",
        ),
        (
            "process",
            json!({ "token_sid": "S-2-5-18" }),
            "`token_sid` is \"S-2-5-18\", and takes a SID of up to 68 bytes, such as \"S-1-5-18\"",
        ),
        (
            "process",
            json!({ "token_sid": "S-1-5-".to_owned() + &"1-".repeat(40) + "1" }),
            "`token_sid` is \"S-1-5-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1…, and takes a SID of up to 68 bytes, such as \
             \"S-1-5-18\"",
        ),
    ];
    for (name, value, expected) in cases {
        let error = encode(&of(name).context, &value).expect_err(&value.to_string());
        assert_eq!(error.to_string(), expected, "{value}");
    }
}

#[test]
fn names_that_mean_two_values_are_refused() {
    let fields = r#"{ name = "mode", type = "uint32_t", offset = 16, size = 4, values = [
        { name = "MODE_4", value = 6 }, { name = "MODE_6", value = 4 },
        { name = "mode_on", value = 1 }, { name = "MODE_ON", value = 2 },
    ] }"#;
    let own = own(24, fields);
    let encoded = |value: Value| {
        encode(&own.context, &json!({ "mode": value }))
            .ok()
            .map(|g| g.context[16])
    };
    assert_eq!(encoded(json!("MODE_4")), Some(6));
    assert_eq!(encoded(json!("4")), Some(4));
    assert_eq!(encoded(json!("mode_on")), None);
}

#[test]
fn nothing_known_is_told() {
    let own = own(24, "");
    let error = encode(&own.context, &json!({ "x": 1 })).unwrap_err().to_string();
    assert_eq!(error, "the context has no field `x`; it has `data`");
    let given = encode(&own.context, &json!({ "data": "01" })).unwrap();
    assert_eq!(given.data, Some(vec![1]));
}
