//! Golden files, and results for build servers.

use crate::suite::golden::{Golden, bless};
use crate::suite::{XmlCase, XmlResult, XmlSuite, junit};
use crate::values::Json;

fn golden(path: &std::path::Path, text: &str) -> Golden {
    Golden {
        path: path.to_owned(),
        came_out: Json::parse(text).unwrap(),
    }
}

#[test]
fn a_golden_file_is_written_compared_and_rewritten() {
    let folder = std::env::temp_dir().join(format!("bpf2sys-golden-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("f.golden.json");
    let first = golden(&path, r#"{"results": [{"result": "XDP_PASS"}], "changes": []}"#);
    assert_eq!(
        first.compare("a").unwrap(),
        ["there is no f.golden.json: `--bless` writes it"]
    );
    assert_eq!(bless([("a", &first)]).unwrap(), std::slice::from_ref(&path));
    assert_eq!(first.compare("a").unwrap(), Vec::<String>::new());
    assert_eq!(
        first.compare("b").unwrap(),
        ["f.golden.json does not have this test: `--bless` adds it"]
    );
    let second = golden(
        &path,
        r#"{"results": [{"result": "XDP_DROP", "x": 1}, 2], "changes": []}"#,
    );
    assert_eq!(
        second.compare("a").unwrap(),
        [
            "f.golden.json: results[0].result: expected \"XDP_PASS\", found \"XDP_DROP\"",
            "f.golden.json: results[0].x: expected none, found 1",
            "f.golden.json: results[1]: expected none, found 2",
        ]
    );
    // Of tests that did not run, everything stays.
    assert_eq!(bless([("b", &second)]).unwrap(), std::slice::from_ref(&path));
    assert_eq!(first.compare("a").unwrap(), Vec::<String>::new());
    assert_eq!(second.compare("b").unwrap(), Vec::<String>::new());
    assert_eq!(bless([("b", &second)]).unwrap(), Vec::<std::path::PathBuf>::new());
    std::fs::write(&path, "[]").unwrap();
    assert!(first.compare("a").unwrap_err().contains("no object with tests by name"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn results_are_xml_whatever_is_in_their_names() {
    let case = |name: &str, result, output: &str| XmlCase {
        name: name.to_owned(),
        line: Some(3),
        result,
        output: output.to_owned(),
    };
    let suite = XmlSuite {
        name: "f".into(),
        file: "a&b/f.test.toml".into(),
        cases: vec![
            case("<one> \"quoted\"", XmlResult::Passed, ""),
            case(
                "two",
                XmlResult::Failed(vec!["a < b".into(), "c\u{1}]]>".into()]),
                "out & about",
            ),
            case("three", XmlResult::Error("e".into()), ""),
            case("four", XmlResult::Skipped("s".into()), ""),
        ],
    };
    let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bpf2sys" tests="4" failures="1" errors="1" skipped="1" time="0">
  <testsuite name="f" file="a&amp;b/f.test.toml" tests="4" failures="1" errors="1" skipped="1" time="0">
    <testcase classname="f" name="&lt;one&gt; &quot;quoted&quot;" file="a&amp;b/f.test.toml" line="3" time="0"/>
    <testcase classname="f" name="two" file="a&amp;b/f.test.toml" line="3" time="0">
      <failure message="a &lt; b">a &lt; b&#10;c\u{1}]]&gt;</failure>
      <system-out>out &amp; about</system-out>
    </testcase>
    <testcase classname="f" name="three" file="a&amp;b/f.test.toml" line="3" time="0">
      <error message="e"/>
    </testcase>
    <testcase classname="f" name="four" file="a&amp;b/f.test.toml" line="3" time="0">
      <skipped message="s"/>
    </testcase>
  </testsuite>
</testsuites>
"#;
    assert_eq!(junit(&[suite]), expected);
}
