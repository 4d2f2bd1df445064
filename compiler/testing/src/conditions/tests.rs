use super::*;

fn read(text: &str) -> Result<(String, u64, String), String> {
    let answer = answer(text, &Platform::builtin())?;
    let bytes = answer.writes.map(|b| b.to_string()).unwrap_or_default();
    Ok((answer.function, answer.result, bytes))
}

#[test]
fn numbers_are_decimal_or_hexadecimal_with_a_sign_and_bytes_behind() {
    for (value, expected, bytes) in [
        ("0", 0, ""),
        ("7", 7, ""),
        ("-1", u64::MAX, ""),
        ("0xff", 255, ""),
        ("-0x10", 16u64.wrapping_neg(), ""),
        ("18446744073709551615", u64::MAX, ""),
        ("-9223372036854775808", 1 << 63, ""),
        ("1:", 1, ""),
        ("1:00ff", 1, "00ff"),
    ] {
        let name = "bpf_xdp_adjust_head".to_owned();
        assert_eq!(
            read(&format!("{name}={value}")),
            Ok((name, expected, bytes.to_owned())),
            "{value}"
        );
    }
    assert!(
        read("sample_ebpf_extension_btf_lookup=1").is_ok(),
        "a BTF-resolved function"
    );
    assert!(read("bpf_get_socket_cookie=1").is_ok(), "a general helper");
    for bad in [
        "",
        "=",
        "x",
        "=1",
        "-",
        "+1",
        "1.5",
        "0x",
        "0x+1",
        "18446744073709551616",
        "-9223372036854775809",
        "1:0",
        "1:zz",
        "1*",
        "1*0",
        "1*-1",
        "*2",
    ] {
        let error = read(&format!("bpf_xdp_adjust_head={bad}")).map(|_| ()).expect_err(bad);
        assert!(
            error.contains("expected FUNCTION=VALUE") || error.contains("no provider"),
            "{error}"
        );
    }
}

#[test]
fn a_function_must_be_known_and_can_have_several_answers() {
    assert!(
        read("bpf_xdp_adjust_haed=1")
            .unwrap_err()
            .contains("no provider that is known has")
    );
    let given = ["1*3", "2"].map(|value| {
        let answer = answer(&format!("bpf_xdp_adjust_head={value}"), &Platform::builtin()).unwrap();
        (answer.result, answer.times)
    });
    assert_eq!(given, [(1, 3), (2, 0)]);
}

#[test]
fn calls_that_fail_are_read() {
    let helper = |calls, result| {
        Some(Mishap::Helper {
            helper: "h".into(),
            program: None,
            calls,
            result,
        })
    };
    let calls = |first, count| Calls { first, count };
    let cases = [
        ("h", helper(calls(0, 0), None)),
        ("h@3", helper(calls(3, 1), None)),
        ("h@3..", helper(calls(3, 0), None)),
        ("h@3..5", helper(calls(3, 3), None)),
        ("h@3..3=-12", helper(calls(3, 1), Some(-12))),
        ("h=7", helper(calls(0, 0), Some(7))),
        ("allocation@2", Some(Mishap::Allocation { calls: calls(2, 1) })),
        ("allocation=1", None),
        ("h@", None),
        ("h@0", None),
        ("h@5..3", None),
        ("h@x", None),
        ("h=", None),
        ("@1", None),
        ("", None),
    ];
    for (text, expected) in cases {
        assert_eq!(mishap(text), expected, "{text}");
    }
}
