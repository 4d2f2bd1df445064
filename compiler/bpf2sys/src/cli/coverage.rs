//! What `run --coverage` and `test --coverage` have in common.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bpf2sys_bytecode::Module;
use bpf2sys_lines::LineTable;
use bpf2sys_simulator::TraceReport;
use bpf2sys_simulator::image::Image;
use bpf2sys_simulator::program_code::{ProgramCode, program_code};
use bpf2sys_testing::coverage::Coverage;

use crate::{Error, files, report};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct CoverageOptions {
    /// Write which lines and branches of the source ran, and how often, to this file: a page (`.html`), or a tracefile of lcov, which
    /// editors and build servers read. Several times for both
    ///
    /// Lines are those of all programs of the driver, whether they were run or not. x64 drivers run one instruction at a time
    /// then, which takes long; with `--emulate` it does not.
    #[arg(long, value_name = "FILE")]
    coverage: Vec<PathBuf>,
}

/// The code that counts are about.
pub(super) enum Counted {
    /// A driver's.
    Native { table: LineTable, code: Vec<ProgramCode> },
    /// An object's, which is interpreted.
    Interpreted(Box<Module>),
}

impl Counted {
    /// The code of an image.
    pub(super) fn native(image: &[u8], table: LineTable) -> Result<Counted, Error> {
        let simulator = bpf2sys_simulator::SimulatorError::from;
        let parsed = Image::parse(image).map_err(simulator)?;
        let module = bpf2sys_simulator::usermode::read(&parsed).map_err(bpf2sys_simulator::SimulatorError::UserMode)?;
        Ok(Counted::Native {
            table,
            code: program_code(&parsed, &module),
        })
    }

    /// What ran of it.
    pub(super) fn coverage(&self, trace: &TraceReport) -> Coverage {
        match self {
            Counted::Native { table, code } => Coverage::of_native(table, code, &trace.native),
            Counted::Interpreted(module) => Coverage::of_interpreted(module, &trace.interpreted),
        }
    }
}

impl CoverageOptions {
    /// Whether anything is to be counted.
    pub(super) fn is_wanted(&self) -> bool {
        !self.coverage.is_empty()
    }

    /// Writes the files. Sources that are not where the compiler was are looked for in `folders`. Gives what people are told.
    pub(super) fn write(&self, coverage: Coverage, folders: &[&Path]) -> Result<String, Error> {
        let coverage = coverage.renamed(|name| found(name, folders));
        let source = |name: &str| files::text(files::read(Path::new(name)).ok()?);
        let texts = self.coverage.iter().map(|path| {
            let extension = path.extension().unwrap_or_default();
            if ["html", "htm"].iter().any(|page| extension.eq_ignore_ascii_case(page)) {
                report::coverage_page(&coverage, &source)
            } else {
                coverage.to_lcov()
            }
        });
        let texts: Vec<String> = texts.collect();
        let paths = self.coverage.iter().map(PathBuf::as_path);
        let outputs: Vec<(&Path, &[u8])> = paths.zip(texts.iter().map(String::as_bytes)).collect();
        files::write_all(&outputs)?;
        Ok(text(&coverage))
    }
}

/// How many folders above one are looked in: names of sources often begin at the top of a project.
const ABOVE: usize = 8;

/// Where a source file is: as the compiler named it, or below one of these folders or one that they are in, or by its name alone
/// in one of them. Of one that is nowhere, its name.
fn found(name: &str, folders: &[&Path]) -> String {
    let above = |folder: &Path, levels: usize| -> PathBuf {
        let up: PathBuf = std::iter::repeat_n("..", levels).collect();
        folder.join(up).join(name)
    };
    let last = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let below = folders
        .iter()
        .flat_map(|folder| (0..=ABOVE).map(move |levels| above(folder, levels)));
    let beside = folders.iter().map(|folder| folder.join(last));
    let mut places = std::iter::once(PathBuf::from(name)).chain(below).chain(beside);
    let place = places.find(|path| path.is_file());
    place.map_or_else(|| name.to_owned(), |path| path.display().to_string())
}

/// Most stretches of lines that did not run that are told of a file.
const MISSED: usize = 12;

/// A line for each file, and which lines did not run.
fn text(coverage: &Coverage) -> String {
    let mut text = String::new();
    for (name, file) in &coverage.files {
        let (lines, branches) = (file.line_share(), file.branch_share());
        let functions = file.function_share();
        let _ = write!(text, "coverage of {name}: lines {lines}");
        if branches.of > 0 {
            let _ = write!(text, ", ways of branches {branches}");
        }
        if functions.of > 0 {
            let _ = write!(text, ", functions {} of {}", functions.hit, functions.of);
        }
        text.push('\n');
        let missed = file.missed();
        if !missed.is_empty() {
            let told = missed.iter().take(MISSED).map(|(first, last)| {
                if first == last {
                    first.to_string()
                } else {
                    format!("{first}-{last}")
                }
            });
            let told: Vec<String> = told.collect();
            let more = missed.len().saturating_sub(MISSED);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let _ = writeln!(text, "  lines that did not run: {}{more}", told.join(", "));
        }
    }
    text
}
