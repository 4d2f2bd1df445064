//! What runs are told of functions, failures and providers, as short texts: those of the options of `bpf2sys run`, and of the keys
//! of test files.

use bpf2sys_platform::Platform;
use bpf2sys_simulator::{Answer, Calls, HexBytes, Mishap, Provider};

/// What memory for map values is called among helpers that fail.
const ALLOCATION: &str = "allocation";

/// The form of an answer, for messages.
pub const ANSWER_FORM: &str =
    "expected FUNCTION=VALUE, FUNCTION=VALUE:BYTES with bytes in hexadecimal, or one of them with *TIMES behind";
/// The form of a failure, for messages.
pub const FAILURE_FORM: &str =
    "expected HELPER, HELPER@CALL, HELPER@FIRST.. or HELPER@FIRST..LAST, and =VALUE behind it";

/// Reads `FUNCTION=VALUE[:BYTES][*TIMES]`. A function must be one that the platform has.
///
/// # Errors
/// What is wrong with it.
pub fn answer(text: &str, platform: &Platform) -> Result<Answer, String> {
    let answer = parse_answer(text).ok_or(ANSWER_FORM)?;
    if !is_offered(platform, &answer.function) {
        return Err(format!(
            "no provider that is known has a helper or function `{}`; `--platform` names descriptions of further providers",
            answer.function
        ));
    }
    Ok(answer)
}

fn is_offered(platform: &Platform, name: &str) -> bool {
    let own = platform.program_types.iter().flat_map(|t| &t.helpers);
    own.chain(&platform.helpers).any(|helper| helper.name == name)
        || platform.btf_functions.iter().any(|function| function.name == name)
}

fn parse_answer(text: &str) -> Option<Answer> {
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

/// Reads `HELPER[@CALLS][=VALUE]`.
pub fn mishap(text: &str) -> Option<Mishap> {
    let (rest, result) = match text.rsplit_once('=') {
        Some((rest, value)) => (rest, Some(value.parse().ok()?)),
        None => (text, None),
    };
    let (helper, calls) = match rest.split_once('@') {
        Some((helper, calls)) => (helper, self::calls(calls)?),
        None => (rest, Calls::default()),
    };
    match helper {
        "" => None,
        ALLOCATION if result.is_none() => Some(Mishap::Allocation { calls }),
        ALLOCATION => None,
        _ => Some(Mishap::Helper {
            helper: helper.to_owned(),
            program: None,
            calls,
            result,
        }),
    }
}

/// Reads `3`, `3..` or `3..5`.
fn calls(text: &str) -> Option<Calls> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
    let Some((first, last)) = text.split_once("..") else {
        return Some(Calls {
            first: number(text)?,
            count: 1,
        });
    };
    let first = number(first)?;
    let count = match last {
        "" => 0,
        last => number(last)?.checked_sub(first)?.checked_add(1)?,
    };
    Some(Calls { first, count })
}

/// A provider by what it offers. Whether there is one, the simulator says.
pub fn provider(text: &str) -> Provider {
    if let Some(guid) = text.strip_prefix("module:") {
        return Provider::BtfModule(guid.trim_matches(['{', '}']).to_owned());
    }
    match text.strip_prefix("map:").and_then(|number| number.parse().ok()) {
        Some(number) => Provider::MapType(number),
        None => Provider::ProgramType(text.to_owned()),
    }
}

#[cfg(test)]
mod tests;
