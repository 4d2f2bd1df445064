//! `bpf2sys platform header`: the C headers that programs include.

use std::path::{Path, PathBuf};

use bpf2sys_platform::{Headers, Platform};

use super::names;
use crate::cli::providers::ProviderOptions;
use crate::cli::reporter::Reporter;
use crate::cli::{Outcome, output};
use crate::{Error, files};

/// Write the C header that programs of a platform include: contexts, helpers, map types, section macros.
///
/// Without `--out-dir` everything goes into one file that needs no other. With it, the general part is `bpf2sys.h`, and each
/// part that is asked for a file of its own that includes it. With `--all`, `bpf2sys_packet.h` is there, too: the headers of
/// network packets, as they lie in memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bpf2sys platform header xdp -o xdp.h               one file with all that an XDP program needs
  bpf2sys platform header --all --out-dir include    bpf2sys.h and one header per part
  bpf2sys platform header mine --platform mine.toml  for a provider of your own, to standard output")]
pub(super) struct Arguments {
    /// What the programs need: program types, section names, GUIDs of program types, or providers
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,

    /// Everything that the platform offers
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Where to write one header with all of it; `-` is standard output, and so is nothing
    #[arg(short, long, value_name = "FILE", conflicts_with = "out_dir")]
    output: Option<PathBuf>,

    /// Write the general header and one header per part into this folder
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,

    #[command(flatten)]
    providers: ProviderOptions,
}

pub(super) fn run(arguments: &Arguments, reporter: &mut Reporter) -> Outcome {
    let providers = arguments.providers.load(reporter)?;
    let platform = providers.platform();
    let headers = Headers::new(platform);
    let parts = if arguments.all {
        headers.parts()
    } else {
        named_parts(platform, &headers, &arguments.names)?
    };
    if let Some(folder) = &arguments.out_dir {
        let texts = if arguments.all {
            headers.files()
        } else {
            headers.files_of(&parts)
        };
        files::create_folder(folder)?;
        let texts: Vec<(PathBuf, String)> = (texts.into_iter())
            .map(|(name, text)| (folder.join(name), text))
            .collect();
        let all: Vec<(&Path, &[u8])> = texts
            .iter()
            .map(|(path, text)| (path.as_path(), text.as_bytes()))
            .collect();
        files::write_all(&all)?;
        return Ok(0);
    }
    let text = headers.together(&parts);
    match arguments.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => files::write_all(&[(path, text.as_bytes())])?,
        None => output::print_bytes(text.as_bytes())?,
    }
    Ok(0)
}

/// The parts that declare what the names mean, each once, in the order of the headers.
fn named_parts<'a>(platform: &'a Platform, headers: &Headers<'a>, names: &[String]) -> Result<Vec<&'a str>, Error> {
    let mut wanted = Vec::new();
    for name in names {
        let parts = names::parts(platform, name);
        if parts.is_empty() && !names::is_general(platform, name) {
            return Err(names::unknown(platform, name));
        }
        wanted.extend(parts);
    }
    Ok(headers
        .parts()
        .into_iter()
        .filter(|part| wanted.contains(part))
        .collect())
}
