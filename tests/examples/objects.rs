//! The committed objects are what the compiler makes of the committed sources.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use object::{Object, ObjectSection, SectionKind};

use super::EXAMPLES;
use crate::support::{Need, root, succeed, test_with};

/// The first line that the compiler of the committed objects prints for `--version`.
const COMPILER: &str = "Debian clang version 19.1.7 (3~deb12u1)";
/// What every build of that release prints somewhere in that line.
const RELEASE: &str = "clang version 19.1.7";

pub fn trials() -> Vec<Trial> {
    let clang = [Need::Program("clang-19")];
    vec![
        test_with("examples::objects_come_from_their_sources", &clang, || {
            let built = tempfile::tempdir()?;
            succeed(
                Command::new(root().join("examples/build.sh"))
                    .arg(built.path())
                    .env_remove("CLANG"),
            )?;
            for example in EXAMPLES {
                let file = format!("{example}/{example}.o");
                same_object(&root().join("examples").join(&file), &built.path().join(&file))?;
            }
            Ok(())
        }),
        test_with("rejected::objects_come_from_their_sources", &clang, || {
            same_fixtures("rejected")
        }),
        test_with("interpret::objects_come_from_their_sources", &clang, || {
            same_fixtures("interpret")
        }),
        test_with("contract::objects_come_from_their_sources", &clang, || {
            same_fixtures("contract")
        }),
        test_with("metadata::objects_come_from_their_sources", &clang, || {
            same_fixtures("metadata")
        }),
        test_with("codes::objects_come_from_their_sources", &clang, || {
            same_fixtures("codes")
        }),
        test_with("exactness::objects_come_from_their_sources", &clang, || {
            same_fixtures("exactness")
        }),
        test_with("types::objects_come_from_their_sources", &clang, || {
            same_fixtures("../../compiler/bytecode/tests/fixtures/types")
        }),
    ]
}

/// Builds the objects of a folder of fixtures, and compares.
fn same_fixtures(folder: &str) -> Result<(), Failed> {
    let built = tempfile::tempdir()?;
    let fixtures = root().join("tests/fixtures").join(folder);
    succeed(
        Command::new(fixtures.join("build.sh"))
            .arg(built.path())
            .env_remove("CLANG"),
    )?;
    for object in std::fs::read_dir(built.path())? {
        let object = object?;
        same_object(&fixtures.join(object.file_name()), &object.path())?;
    }
    Ok(())
}

/// Fails unless two objects are the same: byte by byte when the same compiler made them; but for debugging information,
/// which names the build of the compiler, when the same release did; else in the names of what they hold.
fn same_object(committed: &Path, built: &Path) -> Result<(), Failed> {
    let name = committed.display();
    let (committed, built) = (std::fs::read(committed)?, std::fs::read(built)?);
    if committed == built {
        return Ok(());
    }
    let version = succeed(Command::new("clang-19").arg("--version"))?;
    if version.starts_with(COMPILER) {
        return Err(format!("{name} is not what {COMPILER} makes: run its build.sh").into());
    }
    let same_release = version.lines().next().is_some_and(|line| line.contains(RELEASE));
    let (committed, built) = (sections(&committed, same_release)?, sections(&built, same_release)?);
    if committed != built {
        return Err(format!(
            "{name} is not what its source gives: {:?}, {:?}",
            committed.keys(),
            built.keys()
        )
        .into());
    }
    Ok(())
}

/// The sections that programs are made of, by name; with their bytes if asked for.
fn sections(object: &[u8], with_bytes: bool) -> Result<BTreeMap<String, Vec<u8>>, Failed> {
    let file = object::File::parse(object)?;
    let mut sections = BTreeMap::new();
    for section in file.sections() {
        let name = section.name()?;
        let code_or_data = !matches!(section.kind(), SectionKind::Metadata | SectionKind::Unknown);
        if (code_or_data || name.starts_with(".BTF")) && !name.starts_with(".debug") {
            let bytes = if with_bytes {
                section.data()?.to_vec()
            } else {
                Vec::new()
            };
            sections.insert(name.to_owned(), bytes);
        }
    }
    Ok(sections)
}
