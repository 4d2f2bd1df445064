//! The figures as tables of Markdown, which also read well in a terminal.

use crate::lab::name;
use crate::report::{Figures, Report, Row, mean};

/// The engines on x86-64 besides [`name::BPF2C`], in the order of the columns.
const OTHERS: [&str; 7] = [
    name::OURS,
    name::UNGUARDED,
    name::BPF2C_GUARDED,
    name::CLANG,
    name::GCC,
    name::RBPF,
    name::KERNEL,
];
const NONE: &str = "–";

/// All tables.
pub fn all(report: &Report) -> String {
    let sections = [
        (
            "Time of a run: nanoseconds for bpf2c's C, and the others relative to it (lower is faster)",
            time(report),
        ),
        ("Instructions executed in a run, x86-64", instructions(report)),
        ("Bytes of code, x86-64", code(report)),
        ("Bytes of stack that a run takes, x86-64", stack(report)),
        (
            "Instructions executed in a run, ARM64, and bytes of code",
            arm64(report),
        ),
        ("Lowering to x86-64", lowering(report)),
    ];
    let sections = sections.map(|(title, table)| format!("**{title}**\n\n{table}"));
    sections.join("\n")
}

fn time(report: &Report) -> String {
    // The last column compares what is guarded with what is guarded.
    let columns: Vec<&str> = OTHERS.into_iter().chain(["bpf2sys by bpf2c CFG"]).collect();
    let mut table = Table::new(&["workload", "bpf2c, ns"], &columns);
    let ratio = |row: &Row, name: &str, base: &str| Some(row.engine(name)?.ns? / row.engine(base)?.ns?);
    let pairs = OTHERS.map(|name| (name, name::BPF2C)).into_iter();
    let pairs: Vec<_> = pairs.chain([(name::OURS, name::BPF2C_GUARDED)]).collect();
    for row in &report.rows {
        let base = row.engine(name::BPF2C).and_then(|figures| figures.ns);
        let ratios = pairs.iter().map(|(name, base)| text(ratio(row, name, base), 2));
        let base = text(base, base.map_or(0, |ns| usize::from(ns < 100.0)));
        table.row(&row.name, [base].into_iter().chain(ratios));
    }
    let mean_of =
        |(name, base): &(&str, &str)| text(mean(report.rows.iter().filter_map(|row| ratio(row, name, base))), 2);
    table.row(
        "geometric mean",
        ["1.00".to_owned()].into_iter().chain(pairs.iter().map(mean_of)),
    );
    table.finish()
}

/// A table of a number for each engine, and the geometric means of the ratios to bpf2c's.
fn numbers(report: &Report, digits: usize, number: impl Fn(&Row, &Figures) -> Option<f64>) -> String {
    let names: Vec<&str> = [name::BPF2C].into_iter().chain(OTHERS).collect();
    let of = |row: &Row, name: &str| number(row, row.engine(name)?);
    let counted = |name: &&&str| report.rows.iter().any(|row| of(row, name).is_some());
    let names: Vec<&str> = names.iter().filter(counted).copied().collect();
    let mut table = Table::new(&["workload"], &names);
    for row in &report.rows {
        table.row(&row.name, names.iter().map(|name| text(of(row, name), digits)));
    }
    let ratio = |row: &Row, name: &str| Some(of(row, name)? / of(row, name::BPF2C)?);
    let means = names
        .iter()
        .map(|name| text(mean(report.rows.iter().filter_map(|row| ratio(row, name))), 2));
    table.row("geometric mean of ratios", means);
    table.finish()
}

fn instructions(report: &Report) -> String {
    numbers(report, 0, Row::per_run)
}

fn code(report: &Report) -> String {
    numbers(report, 0, |_, figures| figures.code_bytes.map(|bytes| bytes as f64))
}

fn stack(report: &Report) -> String {
    numbers(report, 0, |_, figures| figures.stack_bytes.map(|bytes| bytes as f64))
}

/// Instructions of all engines, and bytes of code behind them.
fn arm64(report: &Report) -> String {
    const ENGINES: [&str; 4] = [name::BPF2C, name::OURS, name::UNGUARDED, name::CLANG];
    let bytes = ENGINES.map(|name| format!("{name}, bytes"));
    let columns: Vec<&str> = ENGINES.into_iter().chain(bytes.iter().map(String::as_str)).collect();
    let mut table = Table::new(&["workload"], &columns);
    let count = |row: &Row, name: &str| row.per_run(row.arm64(name)?);
    let bytes = |row: &Row, name: &str| Some(row.arm64(name)?.code_bytes? as f64);
    for row in report.rows.iter().filter(|row| !row.arm64.is_empty()) {
        let counts = ENGINES.map(|name| text(count(row, name), 0));
        let bytes = ENGINES.map(|name| text(bytes(row, name), 0));
        table.row(&row.name, counts.into_iter().chain(bytes));
    }
    let means = |measure: &dyn Fn(&Row, &str) -> Option<f64>| {
        let ratio = |row: &Row, name: &str| Some(measure(row, name)? / measure(row, name::BPF2C)?);
        ENGINES.map(|name| text(mean(report.rows.iter().filter_map(|row| ratio(row, name))), 2))
    };
    let means = means(&count).into_iter().chain(means(&bytes));
    table.row("geometric mean of ratios", means);
    table.finish()
}

fn lowering(report: &Report) -> String {
    let mut table = Table::new(&["workload"], &["eBPF instructions", "µs", "ms per 1,000"]);
    for row in &report.rows {
        let per_thousand = row.lowering_us / row.bytecode as f64;
        table.row(
            &row.name,
            [
                row.bytecode.to_string(),
                text(Some(row.lowering_us), 0),
                text(Some(per_thousand), 2),
            ],
        );
    }
    table.finish()
}

/// What has become of our own figures: the new ones by the old ones.
pub fn comparison(old: &Report, new: &Report) -> String {
    let columns = [
        "time",
        "time by bpf2c's",
        "instructions",
        "code",
        "stack",
        "ARM64 instructions",
        "ARM64 code",
    ];
    let measures: [fn(&Row) -> Option<f64>; 7] = [
        |row| row.engine(name::OURS)?.ns,
        |row| Some(row.engine(name::OURS)?.ns? / row.engine(name::BPF2C)?.ns?),
        |row| row.per_run(row.engine(name::OURS)?),
        |row| Some(row.engine(name::OURS)?.code_bytes? as f64),
        |row| Some(row.engine(name::OURS)?.stack_bytes? as f64),
        |row| row.per_run(row.arm64(name::OURS)?),
        |row| Some(row.arm64(name::OURS)?.code_bytes? as f64),
    ];
    let mut table = Table::new(&["workload"], &columns);
    let pairs: Vec<(&Row, &Row)> = (new.rows.iter())
        .filter_map(|row| Some((old.rows.iter().find(|old| old.name == row.name)?, row)))
        .collect();
    let ratio = |(old, new): &(&Row, &Row), measure: &fn(&Row) -> Option<f64>| Some(measure(new)? / measure(old)?);
    for pair in &pairs {
        table.row(
            &pair.1.name,
            measures.iter().map(|measure| text(ratio(pair, measure), 2)),
        );
    }
    let means = measures
        .iter()
        .map(|measure| text(mean(pairs.iter().filter_map(|pair| ratio(pair, measure))), 2));
    table.row("geometric mean", means);
    format!("**bpf2sys, new by old (lower is better)**\n\n{}", table.finish())
}

/// What is more where each of the `variants` but the first is made in place of the first, in the mean and at most.
pub fn effects(report: &Report, variants: &[&str]) -> String {
    let (first, others) = variants
        .split_first()
        .map_or(("", [].as_slice()), |(first, others)| (*first, others));
    let mut table = Table::new(
        &["without"],
        &[
            "time",
            "instructions",
            "code",
            "stack",
            "most time",
            "of",
            "most instructions",
            "of",
            "ARM64 instructions",
            "ARM64 code",
        ],
    );
    let ratio = |row: &Row, name: &str, measure: fn(&Figures) -> Option<f64>| {
        Some(measure(row.engine(name)?)? / measure(row.engine(first)?)?)
    };
    let measures: [fn(&Figures) -> Option<f64>; 4] = [
        |figures| figures.ns,
        |figures| Some(figures.instructions? as f64),
        |figures| Some(figures.code_bytes? as f64),
        |figures| Some(figures.stack_bytes? as f64),
    ];
    for name in others {
        let means = measures.map(|measure| mean(report.rows.iter().filter_map(|row| ratio(row, name, measure))));
        let most = |measure| {
            let all = report
                .rows
                .iter()
                .filter_map(|row| Some((ratio(row, name, measure)?, row)));
            let most = all.max_by(|a, b| a.0.total_cmp(&b.0));
            [
                text(most.map(|most| most.0), 2),
                most.map_or_else(String::new, |most| most.1.name.clone()),
            ]
        };
        let on_arm64 = |row: &Row, measure: fn(&Figures) -> Option<f64>| {
            Some(measure(row.arm64(name)?)? / measure(row.arm64(first)?)?)
        };
        let arm64 = [measures[1], measures[2]]
            .map(|measure| text(mean(report.rows.iter().filter_map(|row| on_arm64(row, measure))), 3));
        let cells = means.map(|mean| text(mean, 3)).into_iter();
        table.row(
            name,
            cells.chain(most(measures[0])).chain(most(measures[1])).chain(arm64),
        );
    }
    table.finish()
}

fn text(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(|| NONE.to_owned(), |number| format!("{number:.digits$}"))
}

/// A table whose first column is text and whose others are numbers.
struct Table(Vec<Vec<String>>);

impl Table {
    fn new(first: &[&str], others: &[&str]) -> Table {
        let heading = first.iter().chain(others);
        Table(vec![heading.map(ToString::to_string).collect()])
    }

    fn row(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        self.0.push([name.to_owned()].into_iter().chain(cells).collect());
    }

    fn finish(self) -> String {
        let width = |column: usize| self.0.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..self.0[0].len())
            .map(|column| width(column).unwrap_or(0).max(3))
            .collect();
        let mut text = String::new();
        for (index, row) in self.0.iter().enumerate() {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                text += &if column == 0 {
                    format!("| {cell:<width$} |")
                } else {
                    format!(" {cell:>width$} |")
                };
            }
            text.push('\n');
            if index == 0 {
                text += &format!("|{}|", "-".repeat(widths[0] + 2));
                text += &widths[1..]
                    .iter()
                    .map(|width| format!("{}:|", "-".repeat(width + 1)))
                    .collect::<String>();
                text.push('\n');
            }
        }
        text
    }
}
