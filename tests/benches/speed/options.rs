//! The command line.

use std::path::PathBuf;

/// What was asked for.
#[derive(Debug)]
pub struct Options {
    /// Only workloads whose names contain one of these; all if there are none.
    pub filters: Vec<String>,
    /// How often each engine is timed.
    pub rounds: usize,
    /// A page whose table is to be written.
    pub markdown: Option<PathBuf>,
    /// Where the figures are to be kept.
    pub json: Option<PathBuf>,
    /// Figures that were kept before.
    pub compare: Option<PathBuf>,
    /// Whether to measure what each optimization does, in place of comparing with others.
    pub effects: bool,
    /// Where what was compiled is to be kept.
    pub keep: Option<PathBuf>,
}

const USAGE: &str = "\
cargo bench --bench speed -- [OPTIONS]

  --filter NAME    only workloads with NAME in their names; may be given several times
  --quick          fewer rounds
  --json FILE      keep the figures
  --compare FILE   compare with figures that were kept before
  --effects        what each optimization does: without it, and without any, by all of them
  --keep FOLDER    write what was compiled there: objects, C in bpf2c's style, native code
  --markdown FILE  write the tables between `<!-- speed -->`, or `<!-- effects -->`, and `<!-- end -->` of a page
";

const ROUNDS: usize = 501;
const QUICK_ROUNDS: usize = 51;

impl Options {
    /// Reads the command line. The error is what to say instead of doing anything.
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            filters: Vec::new(),
            rounds: ROUNDS,
            markdown: None,
            json: None,
            compare: None,
            keep: None,
            effects: false,
        };
        // Cargo says it to every benchmark.
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value\n\n{USAGE}"))
            };
            match argument.as_str() {
                "--filter" => options.filters.push(value()?),
                "--quick" => options.rounds = QUICK_ROUNDS,
                "--markdown" => options.markdown = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                "--compare" => options.compare = Some(value()?.into()),
                "--effects" => options.effects = true,
                "--keep" => options.keep = Some(value()?.into()),
                "--help" => return Err(USAGE.to_owned()),
                other => return Err(format!("{other}: unknown\n\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// Whether a workload was asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }
}
