//! The report for people.

use std::fmt::Write;

use super::{Place, Program, Report, Row};

pub(super) fn report(report: &Report) -> String {
    let system = if report.compiled_for.is_some() {
        "Linux"
    } else {
        "Linux or Windows"
    };
    let mut text = format!("{}: compiled for {system}: {}\n", report.object, report.because);
    for program in &report.programs {
        text.push('\n');
        text += &of_program(program);
    }
    let programs = match report.programs.len() {
        1 => "1 program".to_owned(),
        count => format!("{count} programs"),
    };
    let _ = writeln!(
        text,
        "\n{programs}: {} exact, {} degraded, {} blocked",
        report.exact, report.degraded, report.blocked
    );
    if report.blocked == 0 && !report.programs.is_empty() {
        let degraded = if report.degraded > 0 { " --allow-degraded" } else { "" };
        let _ = writeln!(text, "build it: bpf2sys build --from linux{degraded} {}", report.object);
    }
    text
}

fn of_program(program: &Program) -> String {
    let mut text = format!("program {} (section {}", program.name, program.section);
    if let Some(program_type) = &program.program_type {
        let _ = write!(text, ", type {program_type}");
    }
    let _ = writeln!(text, "): {}", program.level);
    if let Some(reason) = &program.reason {
        let _ = writeln!(text, "  because: {}{}", reason.message, at(reason.place.as_ref()));
        if let Some(advice) = &reason.advice {
            let _ = writeln!(text, "  instead: {advice}");
        }
    }
    let wide = program.uses.iter().map(|row| row.name.len()).max().unwrap_or(0).min(32);
    for row in &program.uses {
        let level = match row.level {
            "exact" => "",
            "degraded" => "less: ",
            _ => "none: ",
        };
        let _ = writeln!(text, "  {:<11} {:<wide$}  {level}{}", row.kind, row.name, row.becomes);
    }
    // The lines that matter, once each.
    let touched: Vec<&Row> = program.uses.iter().filter(|row| row.level != "exact").collect();
    if touched.iter().any(|row| !row.places.is_empty()) {
        text += "  lines to look at:\n";
        for row in touched {
            let mut seen = Vec::new();
            for place in &row.places {
                let line = (&place.file, place.line);
                if !seen.contains(&line) || place.line.is_none() {
                    seen.push(line);
                    let source = place.text.as_deref().unwrap_or_default();
                    let _ = writeln!(text, "   {}  {} {}  {source}", at(Some(place)), row.kind, row.name);
                }
            }
        }
    }
    if !program.differences.is_empty() {
        text += "  other on Windows all the same:\n";
        for difference in &program.differences {
            let _ = writeln!(text, "    - {difference}");
        }
    }
    text
}

/// Where something is, with a blank before it; nothing if it is nowhere.
fn at(place: Option<&Place>) -> String {
    match place {
        None => String::new(),
        Some(Place {
            file: Some(file),
            line: Some(line),
            ..
        }) => format!(" at {file}:{line}"),
        Some(place) => format!(" at {}+{}", place.function, place.slot),
    }
}
