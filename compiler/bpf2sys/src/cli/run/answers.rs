//! `--answer`: what functions of an extension give in a simulated run.

use bpf2sys_platform::Platform;
use bpf2sys_simulator::{Answer, HexBytes};

use crate::{Error, ErrorKind};

/// Parses the arguments of `--answer`, `FUNCTION=VALUE[:BYTES][*TIMES]`. A function must be one that the platform has.
pub(super) fn answers(arguments: &[String], platform: &Platform) -> Result<Vec<Answer>, Error> {
    let mut answers: Vec<Answer> = Vec::new();
    for text in arguments {
        let usage = |message: String| Error::from(ErrorKind::Usage(format!("`--answer {text}`: {message}")));
        let answer = parse(text).ok_or_else(|| {
            usage("expected FUNCTION=VALUE, FUNCTION=VALUE:BYTES with bytes in hexadecimal, or one of them with *TIMES behind".into())
        })?;
        if !is_offered(platform, &answer.function) {
            return Err(usage(format!(
                "no provider that is known has a helper or function `{}`; `--platform` names descriptions of further providers",
                answer.function
            )));
        }
        answers.push(answer);
    }
    Ok(answers)
}

fn is_offered(platform: &Platform, name: &str) -> bool {
    let own = platform.program_types.iter().flat_map(|t| &t.helpers);
    own.chain(&platform.helpers).any(|helper| helper.name == name)
        || platform.btf_functions.iter().any(|function| function.name == name)
}

fn parse(text: &str) -> Option<Answer> {
    // A name may have any characters; a value has no `=`.
    let (function, answer) = text.rsplit_once('=')?;
    let (answer, times) = match answer.split_once('*') {
        Some((answer, times)) => (answer, times.parse().ok().filter(|times| *times > 0)?),
        None => (answer, 0),
    };
    let (value, bytes) = answer.split_once(':').unwrap_or((answer, ""));
    Some(Answer {
        function: function.to_owned(),
        result: number(value)?,
        writes: Some(HexBytes::parse(bytes)?),
        times,
    })
}

/// A 64-bit number, decimal or hexadecimal, with or without a sign. Negative ones are in two's complement.
fn number(text: &str) -> Option<u64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value = match digits.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok()?,
        Some(_) => return None,
        None => digits.parse().ok()?,
    };
    if !negative {
        return Some(value);
    }
    (value <= 1 << 63).then(|| value.wrapping_neg())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, u64, String), String> {
        let answers = answers(&[text.to_owned()], &Platform::builtin()).map_err(|e| e.kind().to_string())?;
        let [answer] = <[Answer; 1]>::try_from(answers).map_err(|_| "one answer")?;
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
        let twice = ["bpf_xdp_adjust_head=1*3".to_owned(), "bpf_xdp_adjust_head=2".to_owned()];
        let answers = answers(&twice, &Platform::builtin()).unwrap();
        let given: Vec<_> = answers.iter().map(|answer| (answer.result, answer.times)).collect();
        assert_eq!(given, [(1, 3), (2, 0)]);
    }
}
