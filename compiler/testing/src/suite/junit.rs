//! Results in the XML of `JUnit`, as build servers read it.
//!
//! Times are 0: the same results give the same bytes.

use std::fmt::Write;

/// The tests of a file.
#[derive(Clone, Debug)]
pub struct XmlSuite {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// What came of its tests.
    pub cases: Vec<XmlCase>,
}

/// What came of a test.
#[derive(Clone, Debug)]
pub struct XmlCase {
    /// Its name.
    pub name: String,
    /// The line that it begins in.
    pub line: Option<u32>,
    /// What came of it.
    pub result: XmlResult,
    /// What else it told.
    pub output: String,
}

/// Whether a test passed.
#[derive(Clone, Debug)]
pub enum XmlResult {
    /// It did.
    Passed,
    /// It did not: what is otherwise.
    Failed(Vec<String>),
    /// It could not be done.
    Error(String),
    /// It was not run.
    Skipped(String),
}

/// The document.
pub fn junit(suites: &[XmlSuite]) -> String {
    let counts = |cases: &mut dyn Iterator<Item = &XmlCase>| {
        let mut counts = [0; 4];
        for case in cases {
            counts[0] += 1;
            match case.result {
                XmlResult::Passed => {}
                XmlResult::Failed(_) => counts[1] += 1,
                XmlResult::Error(_) => counts[2] += 1,
                XmlResult::Skipped(_) => counts[3] += 1,
            }
        }
        let [tests, failures, errors, skipped] = counts;
        format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"0\"")
    };
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let all = counts(&mut suites.iter().flat_map(|suite| &suite.cases));
    let _ = writeln!(xml, "<testsuites name=\"bpf2sys\" {all}>");
    for suite in suites {
        let own = counts(&mut suite.cases.iter());
        let (name, file) = (escaped(&suite.name), escaped(&suite.file));
        let _ = writeln!(xml, "  <testsuite name=\"{name}\" file=\"{file}\" {own}>");
        for case in &suite.cases {
            write_case(&mut xml, suite, case);
        }
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>\n"
}

fn write_case(xml: &mut String, suite: &XmlSuite, case: &XmlCase) {
    let (class, name, file) = (escaped(&suite.name), escaped(&case.name), escaped(&suite.file));
    let line = case.line.map_or(String::new(), |line| format!(" line=\"{line}\""));
    let _ = write!(
        xml,
        "    <testcase classname=\"{class}\" name=\"{name}\" file=\"{file}\"{line} time=\"0\""
    );
    let inner = match &case.result {
        XmlResult::Passed => String::new(),
        XmlResult::Failed(lines) => {
            let first = lines.first().map_or("", String::as_str);
            let all = escaped(&lines.join("\n"));
            format!("      <failure message=\"{}\">{all}</failure>\n", escaped(first))
        }
        XmlResult::Error(message) => format!("      <error message=\"{}\"/>\n", escaped(message)),
        XmlResult::Skipped(why) => format!("      <skipped message=\"{}\"/>\n", escaped(why)),
    };
    let output = match case.output.as_str() {
        "" => String::new(),
        output => format!("      <system-out>{}</system-out>\n", escaped(output)),
    };
    if inner.is_empty() && output.is_empty() {
        *xml += "/>\n";
    } else {
        let _ = write!(xml, ">\n{inner}{output}    </testcase>\n");
    }
}

/// Text as it may stand in an element or an attribute. XML has no place at all for most control characters.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\n' => safe += "&#10;",
            '\t' => safe.push('\t'),
            '\r' => safe += "&#13;",
            c if c < ' ' || matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}') => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}
