//! Programs one by one: when they run, what they call, read and write.

use std::collections::BTreeMap;

use bpf2sys_platform::{Helper, ProgramType};
use bpf2sys_simulator::describe::ProgramUses;
use bpf2sys_simulator::usermode::UserModeProgram;
use bpf2sys_verifier::{Interval, VerifiedModule, VerifiedProgram};

use super::Context;
use super::html::{Html, tag};
use super::parts::{Entry, Facts, Section, Table, code, counted, digits, listed, note, paragraph, prose};
use super::summary::{Returned, helper_name};
use super::uses::{MapUse, Uses};
use crate::facts::Range;

/// The id of a program's part of the page.
pub(super) fn program_id(number: usize) -> String {
    format!("program-{number}")
}

/// A program's type in a word.
pub(super) fn program_type_name(program: &UserModeProgram, program_type: Option<&ProgramType>) -> String {
    program_type.map_or_else(|| program.program_type.clone(), |t| t.name.clone())
}

pub(super) fn section(context: &Context<'_>) -> Section {
    let programs = context.programs();
    let mut content = Html::default();
    let mut below = Vec::new();
    if programs.is_empty() {
        content.push(paragraph("The image has no programs that the runtime would find."));
    }
    if let Err(why) = &context.subject.source {
        let what = "What programs read, write and return is told by the proof of the object that they were built from. Here it is \
                    not known: ";
        content.push(note(prose(&format!("{what}{why}."))));
    }
    if let Some(what) = context.source().and_then(|source| source.difference) {
        content.push(note(prose(&format!(
            "What is told here was proven of the object. The image has its code, but other parts differ from what building the object \
             again gives, so that the proof is none of this image: {what}."
        ))));
    }
    for (number, program) in programs.iter().enumerate().take(super::parts::MAX_ROWS) {
        let id = program_id(number);
        content.push(tag("h3").attribute("id", &id).with(code(&program.name)));
        content.push(one(context, program, context.image.uses.get(number)));
        below.push(Entry {
            id,
            title: program.name.clone(),
        });
    }
    Section {
        below,
        ..Section::new("programs", "Programs", content)
    }
}

fn one(context: &Context<'_>, program: &UserModeProgram, stated: Option<&ProgramUses>) -> Html {
    let program_type = context.program_type(program);
    let proof = context.proof(program);
    let mut facts = Facts::default();
    facts.add("Type", program_type_name(program, program_type));
    facts.add_some("When it runs", program_type.and_then(|t| t.description.doc.as_deref()));
    facts.add_some("To know", program_type.and_then(|t| t.description.note.as_deref()));
    facts.add_some("Provider", program_type.map(|t| t.provider.as_str()));
    facts.add("ELF section", code(&program.section));
    let point = program_type.and_then(|t| {
        t.sections
            .iter()
            .find(|s| s.attach_type.to_string() == program.attach_type)
    });
    match point {
        Some(point) => {
            let doc = point.doc.as_ref().map(|doc| format!(": {doc}"));
            facts.add("Attach point", Html::from(code(&point.symbol)).with(doc));
        }
        None => facts.add("Attach point", code(&program.attach_type)),
    }
    facts.add(
        "Code",
        Html::from("section ").with(code(&program.pe_section)).with(format!(
            ", {} bytes of machine code from {}",
            program.code_size,
            counted(
                stated.map_or(0, |stated| stated.instructions as usize),
                "eBPF instruction"
            )
        )),
    );
    if let Some(hash) = stated.and_then(|stated| stated.program_info_hash.as_ref()) {
        facts.add("Hash of what it uses", digits(hash));
    }
    if let Some((_, proof)) = proof {
        facts.add("Returns", returns(proof));
    }
    let mut all = Html::from(facts);
    match (proof, stated) {
        (Some((verified, proof)), _) => all.push(proven(context, program, verified, proof)),
        (None, Some(stated)) => all.push(from_tables(context, program, program_type, stated)),
        (None, None) => {}
    }
    all
}

fn returns(proof: &VerifiedProgram) -> Html {
    let Returned { named, others } = Returned::of(&proof.program_type, proof.returns);
    let range = match proof.returns {
        Interval::FULL => "any number".to_owned(),
        range => Range(range).to_string(),
    };
    if named.is_empty() {
        return range.into();
    }
    let meanings = named
        .into_iter()
        .map(|value| Html::from(code(&value.name)).with(format!(" = {}: {}", value.value, value.meaning)));
    let others = others.then_some("; and numbers without a name");
    Html::from(range).with(" – ").with(listed(meanings)).with(others)
}

/// What the proof tells.
fn proven(
    context: &Context<'_>,
    program: &UserModeProgram,
    verified: &VerifiedModule,
    proof: &VerifiedProgram,
) -> Html {
    let uses = Uses::of(verified, proof, context.subject.platform);
    let program_type = &*proof.program_type;
    let module = verified.module();
    let mut all = helpers(context, program, Some(program_type), &uses.helpers);
    if !uses.btf_functions.is_empty() {
        let caption = format!("Functions of other drivers that {} calls", program.name);
        let mut table = Table::new(caption, &["Function", "Module", "Calls"]);
        for (index, calls) in &uses.btf_functions {
            let Some(function) = module.btf_functions.get(*index) else {
                continue;
            };
            table.row([
                Html::from(code(&function.name)),
                code(function.module.to_string()).into(),
                calls.to_string().into(),
            ]);
        }
        all.push(table);
    }
    all.push(context_fields(program, program_type, &uses));
    let mut table = Table::new(
        format!("Maps and global variables that {} uses", program.name),
        &["Map", "Values, through pointers", "Helpers that get it"],
    );
    for (index, MapUse { values, helpers, .. }) in &uses.maps {
        let Some(map) = module.maps.get(index.index()) else {
            continue;
        };
        table.row([
            Html::from(code(&map.name)),
            values.word().into(),
            listed(helpers.iter().map(code)),
        ]);
    }
    for (index, touched) in &uses.globals {
        let Some(global) = module.globals.get(index.index()) else {
            continue;
        };
        table.row([
            Html::from(code(&global.section)),
            touched.word().into(),
            Html::default(),
        ]);
    }
    if uses.some_map != super::uses::Touched::default() {
        table.row([
            Html::from("a map that is not known"),
            uses.some_map.word().into(),
            Html::default(),
        ]);
    }
    if !table.is_empty() {
        all.push(table);
    }
    if let Some(calls) = &uses.tail_calls {
        let maps = calls
            .maps
            .iter()
            .filter_map(|map| module.maps.get(map.index()))
            .map(|map| code(&map.name));
        let programs = calls.programs.iter().map(code);
        let mut text = Html::from(counted(calls.calls, "tail call"))
            .with(" through ")
            .with(listed(maps));
        if !calls.programs.is_empty() {
            text = text.with(", which at first hold ").with(listed(programs));
        }
        all.push(paragraph(text.with(". User mode can put other programs there.")));
    }
    all
}

/// The context's fields that a program reads or writes.
fn context_fields(program: &UserModeProgram, program_type: &ProgramType, uses: &Uses) -> Html {
    let of = &program_type.context;
    let caption = format!("Fields of {} that {} touches", of.struct_name, program.name);
    let mut table = Table::new(caption, &["Field", "Type", "Access", "What it holds"]);
    for (position, touched) in &uses.fields {
        let Some(field) = of.fields.get(*position) else {
            continue;
        };
        let effect = field.store_effect.as_ref().filter(|_| touched.written);
        let holds = field.doc.as_deref().map(prose);
        let holds = Html::from(holds).with(effect.map(|effect| tag("div").with("When written: ").with(prose(effect))));
        let access = tag("span")
            .class(if touched.written { "written" } else { "" })
            .with(touched.word());
        table.row([
            Html::from(code(&field.name)),
            code(&field.c_type).into(),
            access.into(),
            holds,
        ]);
    }
    if uses.other_context != super::uses::Touched::default() {
        table.row(["other bytes", "", uses.other_context.word(), ""]);
    }
    if table.is_empty() {
        return paragraph("It touches no field of its context.").into();
    }
    table.into()
}

/// The helpers that a program calls, with the number of calls.
fn helpers(
    context: &Context<'_>,
    program: &UserModeProgram,
    program_type: Option<&ProgramType>,
    called: &BTreeMap<u32, usize>,
) -> Html {
    if called.is_empty() {
        return paragraph("It calls no helper.").into();
    }
    let caption = format!("Helpers that {} calls", program.name);
    let mut table = Table::new(caption, &["Helper", "Id", "Calls", "What it does"]);
    for (id, calls) in called {
        let helper: Option<&Helper> = program_type.and_then(|t| context.subject.platform.helper(t, *id));
        let name = program_type.map_or_else(|| format!("helper {id}"), |t| helper_name(context, t, *id));
        let calls = match calls {
            0 => "not known".to_owned(),
            calls => calls.to_string(),
        };
        table.row([
            Html::from(code(name)),
            id.to_string().into(),
            calls.into(),
            Html::from(helper.and_then(|helper| helper.description.doc.as_deref()).map(prose)),
        ]);
    }
    table.into()
}

/// What the image's own tables tell.
fn from_tables(
    context: &Context<'_>,
    program: &UserModeProgram,
    program_type: Option<&ProgramType>,
    stated: &ProgramUses,
) -> Html {
    let ids = stated
        .helpers
        .iter()
        .filter(|helper| helper.id != 0)
        .map(|helper| (helper.id, 0));
    let mut all = helpers(context, program, program_type, &ids.collect());
    if !stated.maps.is_empty() {
        all.push(paragraph(
            Html::from("Maps: ").with(listed(stated.maps.iter().map(code))),
        ));
    }
    let functions = stated.btf_functions.iter().filter(|function| !function.name.is_empty());
    let functions: Vec<Html> = functions
        .map(|function| {
            Html::from(code(&function.name))
                .with(" of ")
                .with(code(&function.module))
        })
        .collect();
    if !functions.is_empty() {
        all.push(paragraph(
            Html::from("Functions of other drivers: ").with(listed(functions)),
        ));
    }
    all
}
