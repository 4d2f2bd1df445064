//! What is a test file, and what is wrong with what is none.

use crate::suite::file::{Arch, Length, OneOrMore, Outcome, Suite};
use crate::suite::{SuiteError, parse};

fn refused(text: &str) -> SuiteError {
    parse(text).map(|_| ()).expect_err(text)
}

#[test]
fn a_file_says_what_is_tested_and_how() {
    let suite: Suite = parse(
        "object = \"f.o\"\narch = [\"x64\", \"arm64\"]\n[machine]\ncpus = 1\n[maps]\nports = { 53 = 1 }\n\
         [[test]]\nname = \"n\"\npacket = [\"a.pcap\", \"hex:00\"]\nexpect.result = [\"XDP_PASS\", 2]\n\
         [[property]]\nname = \"p\"\nwhen = [{ length = \"42..60\" }, { length = 7 }]\nexpect.one_of = [1]\n",
    )
    .unwrap();
    assert_eq!(suite.arch, [Arch::X64, Arch::Arm64]);
    let test = suite.tests[0].get_ref();
    assert_eq!(test.packet.as_ref().map_or(0, |packets| packets.all().len()), 2);
    let Some(OneOrMore::More(results)) = &test.expect.result else {
        panic!("{test:?}");
    };
    assert_eq!(*results, [Outcome::Name("XDP_PASS".into()), Outcome::Number(2)]);
    let lengths: Vec<_> = suite.properties[0]
        .get_ref()
        .when
        .iter()
        .map(|when| when.length)
        .collect();
    let length = |least, most| Some(Length { least, most });
    assert_eq!(lengths, [length(42, 60), length(7, 7)]);
}

#[test]
fn errors_name_the_line_and_the_column() {
    let error = refused("object = \"f.o\"\n\n[[test]]\nname = \"n\"\nexpects.result = 1\n");
    assert_eq!((error.line, error.column), (5, 1), "{error:?}");
    assert_eq!(error.text, "expects.result = 1");
    assert!(
        error
            .message
            .contains("unknown field `expects`, expected one of `name`"),
        "{error}"
    );
    let error = refused("object = \"f.o\"\n[[test]]\nname = \"n\"\nexpect = { result = \"XDP_PASS\", reslut = 1 }\n");
    assert_eq!((error.line, error.column), (4, 33), "{error:?}");
    let error = refused("object = \"f.o\"\nobject = 1\n");
    assert_eq!(error.line, 2, "{error:?}");
    let error = refused("object = \"f.o\"\n[[test]]\nname = \"n\"\n[[test]]\nname = \"n\"\n");
    assert_eq!(
        (error.line, error.message.as_str()),
        (4, "there are two tests of the name \"n\"")
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    let test = "object = \"f.o\"\n[[test]]\nname = \"n\"\n";
    let property = "object = \"f.o\"\n[[property]]\nname = \"n\"\n";
    for (start, rest, expected) in [
        ("", "", "one of `object`, `source` and `image`"),
        (
            "",
            "object = \"f.o\"\nimage = \"f.sys\"",
            "one of `object`, `source` and `image`",
        ),
        (
            "",
            "image = \"f.sys\"\ninterpret = true",
            "a driver holds no eBPF instructions",
        ),
        (
            "",
            "image = \"f.sys\"\ntype = \"xdp\"",
            "programs of a driver have their types",
        ),
        ("", "object = \"f.o\"\ntypes = \"g.o\"", "an object has its own"),
        ("", "object = \"f.o\"\ntime_limit = 0", "seconds"),
        ("", "object = \"f.o\"\narch = []", "at least one machine"),
        ("", "object = \"f.o\"\narch = [\"x86\"]", "x86"),
        (
            "",
            "object = \"f.o\"\n[machine]\ncpu_count = 1",
            "a machine has no `cpu_count`; it has `account_domain`",
        ),
        ("", "object = \"f.o\"\n[machine]\ncpus = \"two\"", "`machine`"),
        (
            test,
            "packet = \"a\"\n[[test.step]]\npacket = \"b\"",
            "in the steps or in the test",
        ),
        (test, "repeat = 0", "`repeat`"),
        (test, "[[test.step]]\nrepeat = 1000001", "`repeat`"),
        (
            test,
            "expect = { error = \"BPF5006\", result = 1 }",
            "nothing else to expect",
        ),
        (test, "[[test.step]]\nexpect.error = \"BPF5006\"", "of the whole test"),
        (test, "[[test.step]]\nnever.calls = [\"f\"]", "over the whole test"),
        ("object = \"f.o\"\n[[test]]\nname = \" \"\n", "", "a name of one line"),
        (property, "expect.result = [1, 2]", "`one_of` has alternatives"),
        (property, "expect.error = \"BPF5006\"", "none can be expected"),
        (property, "never.calls = [\"f\"]", "about each run"),
        (property, "when = [{ at = 1 }]", "`at` and `bytes`"),
        (property, "when = [{ at = 1, bytes = \"0g\" }]", "no hexadecimal bytes"),
        (
            property,
            "when = [{ at = 1, bytes = \"00\", mask = \"0000\" }]",
            "as many bytes",
        ),
        (property, "when = [{ length = \"9..1\" }]", "no length"),
    ] {
        let text = start.to_owned() + rest;
        let error = refused(&text);
        assert!(error.message.contains(expected), "{text}\n{error}");
    }
}
