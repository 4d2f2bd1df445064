//! Resources.

use bpf2sys_simulator::image::DirectoryKind;
use bpf2sys_simulator::resources::{VERSION, dotted, fixed_versions, resources};

use crate::rule::{Group, Rule, Scope, Verdict, Weight};
use crate::subject::Subject;

pub(crate) const RULES: &[Rule] = &[
    Rule::new(
        Group::Resources,
        Scope::Image,
        "resource.directory",
        [
            "the resource directory lies in raw data and leads to data in the image",
            "whoever shows the file's properties follows it",
            "PE format, \"The .rsrc Section\"",
        ],
        |s| match s.image.directory(DirectoryKind::Resource) {
            None => Verdict::none("there are no resources"),
            Some(directory) => match resources(s.image, directory) {
                Ok(list) => Verdict::Pass(format!("{} resources", list.len())),
                Err(problem) => Verdict::Fail(problem),
            },
        },
    ),
    Rule::new(
        Group::Resources,
        Scope::Image,
        "resource.version",
        [
            "there is a version resource",
            "Explorer and inventories show nothing of the file",
            "Microsoft, \"VERSIONINFO resource\"",
        ],
        version,
    )
    .weighing(Weight::Advice),
];

fn version(s: &Subject<'_>) -> Verdict {
    let Some(directory) = s.image.directory(DirectoryKind::Resource) else {
        return Verdict::Fail("there are no resources".into());
    };
    let Ok(list) = resources(s.image, directory) else {
        return Verdict::none("the resource directory can't be read");
    };
    let Some((_, data)) = list.into_iter().find(|(kind, _)| *kind == VERSION) else {
        return Verdict::Fail("no version resource".into());
    };
    match fixed_versions(data) {
        Some([of_file, _]) => Verdict::Pass(dotted(of_file)),
        None => Verdict::Fail("a version resource without fixed information".into()),
    }
}
