//! What the driver is and can do, for whoever has a minute.

use std::collections::BTreeSet;

use bpf2sys_authenticode::{DigestAlgorithm, image_digest};
use bpf2sys_bytecode::Module;
use bpf2sys_check::Status;
use bpf2sys_platform::{ProgramType, ReturnValue};
use bpf2sys_simulator::describe::ImageKind;
use bpf2sys_simulator::image::Image;
use bpf2sys_simulator::resources;
use bpf2sys_simulator::usermode::UserModeProgram;
use bpf2sys_verifier::Interval;

use super::html::{Html, Tag, tag};
use super::parts::{
    Facts, Mark, Section, Table, bytes, code, counted, digits, first_sentence, heading, listed, paragraph, prose,
};
use super::programs::{program_id, program_type_name};
use super::uses::Uses;
use super::{Context, Unknown, trust};
use crate::hash::sha256;

/// The first part of a page.
pub(super) fn section(context: &Context<'_>) -> Section {
    let content = Html::from(verdicts(context))
        .with(abilities(context))
        .with(heading("Which file it is"))
        .with(identity(context));
    Section::new("summary", "In short", content)
}

/// What it is, in a sentence.
pub(super) fn lead(context: &Context<'_>) -> String {
    let kind = match context.image.kind {
        ImageKind::Driver => "driver",
        ImageKind::Dll => "DLL",
    };
    let machine = &context.image.machine;
    let what = match context.subject.object {
        Some(_) => format!("The {machine} {kind} that bpf2sys makes of this object"),
        None => format!("{} {machine} {kind}", if machine == "x64" { "An" } else { "A" }),
    };
    let Some(module) = &context.image.module else {
        return format!("{what} without a native eBPF module.");
    };
    let programs = counted(module.programs.len(), "eBPF program");
    let maps = counted(module.maps.len(), "map");
    let level = context.image.tables.as_ref().map_or_else(String::new, |tables| {
        format!(", for eBPF for Windows {} and later", tables.level.name())
    });
    format!("{what}, with {programs} and {maps}{level}.")
}

/// The verdicts, side by side.
fn verdicts(context: &Context<'_>) -> Tag {
    let tile = |mark: Mark, word: &str, what: &str, more: String, id: &str| {
        tag("li")
            .with(tag("a").attribute("href", format!("#{id}")).with(what))
            .with(mark.on(word))
            .with(tag("span").class("more").with(prose(&more)))
    };
    let proven = match &context.subject.source {
        Ok(source) => match source.difference {
            None => tile(
                Mark::Good,
                "proven safe",
                "Programs",
                format!(
                    "{} verified now; the image is what they give, byte for byte",
                    counted(source.verified.programs().len(), "program")
                ),
                "programs",
            ),
            Some(what) => tile(
                Mark::Bad,
                "not what was proven",
                "Programs",
                format!("the code is the object's, but other parts of the image are not: {what}"),
                "programs",
            ),
        },
        Err(unknown @ Unknown::OtherCode { .. }) => {
            tile(Mark::Bad, "other code", "Programs", unknown.to_string(), "programs")
        }
        Err(_) => tile(
            Mark::Open,
            "not proven here",
            "Programs",
            "the object is not known".to_owned(),
            "programs",
        ),
    };
    let rows = &context.subject.check.rows;
    let count = |status| rows.iter().filter(|row| row.status == status).count();
    let (kept, broken) = (count(Status::Pass), count(Status::Fail));
    let rules = match broken {
        0 => tile(
            Mark::Good,
            "all kept",
            "Rules",
            format!("{} kept", counted(kept, "rule")),
            "rules",
        ),
        broken => tile(
            Mark::Bad,
            "broken",
            "Rules",
            format!("{} broken, {kept} kept", counted(broken, "rule")),
            "rules",
        ),
    };
    let (mark, word, more) = trust::signature_verdict(context);
    let signature = tile(mark, word, "Signature", more, "signature");
    let (mark, word, more) = trust::statement_verdict(context);
    let provenance = tile(mark, word, "Provenance", more, "provenance");
    tag("ul")
        .class("tiles")
        .with_all([proven, rules, signature, provenance])
}

/// What each program can do.
fn abilities(context: &Context<'_>) -> Html {
    let programs = context.programs();
    if programs.is_empty() {
        return Html::default();
    }
    let mut all = Html::from(heading("What it can do"));
    for (number, program) in programs.iter().enumerate().take(super::parts::MAX_ROWS) {
        let program_type = context.program_type(program);
        let name = tag("a")
            .attribute("href", format!("#{}", program_id(number)))
            .with(code(&program.name));
        let when = program_type
            .and_then(|t| t.description.doc.as_deref())
            .map(first_sentence);
        let when = when.map_or_else(String::new, |when| format!(" When it runs: {when}"));
        let of_type = format!(
            " is a program of type {}.{when}",
            program_type_name(program, program_type)
        );
        all.push(tag("p").class("program").with(name).with(of_type));
        all.push(tag("ul").with_all(can(context, number, program)));
    }
    all
}

/// What a program can do, in sentences.
fn can(context: &Context<'_>, number: usize, program: &UserModeProgram) -> Vec<Tag> {
    let item = |text: Html| tag("li").with(text);
    let Some((verified, proof)) = context.proof(program) else {
        let uses = context.image.uses.get(number);
        let helpers: Vec<&str> = uses
            .iter()
            .flat_map(|uses| &uses.helpers)
            .map(|h| h.name.as_str())
            .collect();
        let maps: Vec<&str> = uses.iter().flat_map(|uses| &uses.maps).map(String::as_str).collect();
        return vec![
            item(sentence("Calls ", &helpers, "no helper")),
            item(sentence("Uses the maps ", &maps, "no map")),
            item("What it reads and writes is not known here, and not what it returns.".into()),
        ];
    };
    let uses = Uses::of(verified, proof, context.subject.platform);
    let program_type = &*proof.program_type;
    let module = verified.module();
    let mut all = Vec::new();
    let Returned { named, others } = Returned::of(program_type, proof.returns);
    let meanings = named
        .iter()
        .map(|value| Html::from(code(&value.name)).with(format!(" ({})", value.meaning)));
    let others = match (named.is_empty(), others) {
        (_, false) => "",
        (false, true) => ", and numbers without a name",
        (true, true) => "numbers without a name",
    };
    all.push(item(
        Html::from("Returns ").with(listed(meanings)).with(others).with("."),
    ));
    let fields = uses.written_fields(program_type);
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    let context_written = match (names.is_empty(), uses.other_context.written) {
        (true, true) => Html::from("Writes its context, and it is not known where."),
        (true, false) => Html::from("Writes no field of its context."),
        (false, _) => sentence("Writes the context's ", &names, ""),
    };
    all.push(item(context_written));
    if program_type.context.data >= 0 {
        let moves = if uses.moves_packet {
            " It can move where the data begins or ends."
        } else {
            ""
        };
        let data = format!(
            "{} the data that its context points to.{moves}",
            capital(uses.packet.word())
        );
        all.push(item(data.into()));
    }
    let helpers: Vec<String> = uses
        .helpers
        .keys()
        .map(|id| helper_name(context, program_type, *id))
        .collect();
    let helpers: Vec<&str> = helpers.iter().map(String::as_str).collect();
    all.push(item(sentence("Calls ", &helpers, "no helper")));
    all.extend(map_sentences(module, &uses).into_iter().map(item));
    if let Some(calls) = &uses.tail_calls {
        let programs: Vec<&str> = calls.programs.iter().map(String::as_str).collect();
        let at_first = if programs.is_empty() {
            "; which, its user decides".to_owned()
        } else {
            format!("; at first {}", programs.join(", "))
        };
        all.push(item(
            format!("Can hand over to other programs (tail calls){at_first}.").into(),
        ));
    }
    all
}

/// What becomes of maps and global variables.
fn map_sentences(module: &Module, uses: &Uses) -> Vec<Html> {
    let (mut changed, mut read, mut given) = (Vec::new(), Vec::new(), Vec::new());
    for (map, used) in &uses.maps {
        let Some(map) = module.maps.get(map.index()) else {
            continue;
        };
        let list = match (used.values.written || used.changes, used.values.read) {
            (true, _) => &mut changed,
            (false, true) => &mut read,
            (false, false) => &mut given,
        };
        list.push(map.name.as_str());
    }
    for (section, touched) in &uses.globals {
        let Some(global) = module.globals.get(section.index()) else {
            continue;
        };
        (if touched.written { &mut changed } else { &mut read }).push(global.section.as_str());
    }
    let mut all = vec![sentence("Changes ", &changed, "no map and no global variable")];
    if !read.is_empty() {
        all.push(sentence("Reads ", &read, ""));
    }
    if !given.is_empty() {
        all.push(sentence("Uses otherwise ", &given, ""));
    }
    if uses.some_map.written {
        all.push("Changes values of maps that are not known, e.g. of maps in maps.".into());
    }
    all
}

/// A name of a helper for people.
pub(super) fn helper_name(context: &Context<'_>, program_type: &ProgramType, id: u32) -> String {
    let helper = context.subject.platform.helper(program_type, id);
    helper.map_or_else(|| format!("helper {id}"), |helper| helper.name.clone())
}

/// What a program can return.
pub(super) struct Returned<'a> {
    /// Values that its type has names for.
    pub named: Vec<&'a ReturnValue>,
    /// Whether there are others.
    pub others: bool,
}

impl Returned<'_> {
    /// What a program of this type can return, whose value is in this range.
    pub(super) fn of(program_type: &ProgramType, range: Interval) -> Returned<'_> {
        let values = program_type.return_values.iter();
        let named: Vec<&ReturnValue> = values
            .filter(|value| (range.min..=range.max).contains(&value.value))
            .collect();
        let distinct: BTreeSet<i64> = named.iter().map(|value| value.value).collect();
        let all = i128::from(range.max) - i128::from(range.min) + 1;
        Returned {
            others: distinct.len() as i128 != all,
            named,
        }
    }
}

fn sentence(start: &str, names: &[&str], none: &str) -> Html {
    if names.is_empty() {
        let verb = start.split(' ').next().unwrap_or_default();
        return format!("{verb} {none}.").into();
    }
    Html::from(start)
        .with(listed(names.iter().map(|name| code(*name))))
        .with(".")
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Names, hashes and versions.
fn identity(context: &Context<'_>) -> Html {
    let subject = context.subject;
    let image = &context.image;
    let mut facts = Facts::default();
    facts.add("File", code(subject.file));
    if let Some(object) = subject.object {
        facts.add("Size of the object", bytes(object.len() as u64));
        facts.add("SHA-256 of the object", digits(sha256(object)));
        facts.add("Size of the image", bytes(image.file_size));
        facts.add("SHA-256 of the image", digits(sha256(subject.image)));
    } else {
        facts.add("Size", bytes(image.file_size));
        facts.add("SHA-256", digits(sha256(subject.image)));
    }
    facts.add_some(
        "Authenticode SHA-256",
        image_digest(subject.image, DigestAlgorithm::Sha256).ok().map(digits),
    );
    let kind = match image.kind {
        ImageKind::Driver => "driver (.sys)",
        ImageKind::Dll => "DLL",
    };
    facts.add("Kind", format!("{kind} for {}", image.machine));
    if let Some(tables) = &image.tables {
        let [major, minor, revision] = tables.version;
        let level = tables.level.name();
        facts.add(
            "Runtime",
            format!("{level} and later (it states {major}.{minor}.{revision})"),
        );
    }
    let stated = image.module.as_ref().and_then(|module| module.elf_hash.as_ref());
    facts.add_some("Object, as the image states", stated.map(digits));
    let version = Image::parse(subject.image)
        .ok()
        .and_then(|image| resources::version(&image));
    match version {
        Some(version) => {
            facts.add("File version", resources::dotted(version.file_version));
            for (name, value) in version.strings {
                facts.add(&name, value);
            }
        }
        None => facts.add("Version resource", "none"),
    }
    let mut all = Html::from(facts);
    if !image.problems.is_empty() {
        all.push(heading("What Windows or the runtime would not accept"));
        let items = image.problems.iter().map(|problem| tag("li").with(problem));
        all.push(tag("ul").with_all(items));
    }
    all.with(sizes(context))
}

/// How large programs are.
fn sizes(context: &Context<'_>) -> Html {
    let mut table = Table::new(
        "Sizes of programs",
        &[
            "Program",
            "eBPF instructions",
            "Bytes of machine code",
            "Bytes per instruction",
        ],
    );
    for (program, uses) in context.programs().iter().zip(&context.image.uses) {
        let per_instruction = f64::from(program.code_size) / (uses.instructions.max(1)) as f64;
        table.row([
            Html::from(code(&program.name)),
            uses.instructions.to_string().into(),
            program.code_size.to_string().into(),
            format!("{per_instruction:.1}").into(),
        ]);
    }
    if table.is_empty() {
        return Html::default();
    }
    let remark = "Machine code is that of the program's own section; subprograms may be in others.";
    Html::from(table).with(paragraph(remark).class("note"))
}
