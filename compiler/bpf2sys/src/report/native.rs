//! The machine code of programs whose source is not known.

use std::collections::BTreeSet;

use bpf2sys_codegen::listing::native_code;
use bpf2sys_pe_emit::{
    FunctionRange, Machine, NativeObject, Purpose, Section as CodeSection, SectionIndex, SectionKind, UnwindInfo,
};
use bpf2sys_simulator::image::{Image, Section as ImageSection};
use bpf2sys_simulator::program_code::{ProgramCode, program_code};

use super::Context;
use super::code::{MAX_FUNCTION_LINES, MAX_LINES};
use super::html::{Html, tag};
use super::parts::{Entry, Section, code, counted, note, paragraph, prose, scrolling};

/// Most bytes of an x86-64 instruction.
const LONGEST: u32 = 15;

pub(super) fn section(context: &Context<'_>) -> Section {
    let why = context
        .subject
        .source
        .as_ref()
        .err()
        .map(ToString::to_string)
        .unwrap_or_default();
    let what = "Only machine code is shown, without C, eBPF and proofs: ";
    let mut content = Html::from(note(prose(&format!("{what}{why}."))));
    let mut below = Vec::new();
    let image = Image::parse(context.subject.image).ok();
    let machine = match context.image.machine.as_str() {
        "x64" => Some(Machine::X64),
        "arm64" => Some(Machine::Arm64),
        _ => None,
    };
    let (Some(image), Some(machine), Some(module)) = (image, machine, &context.image.module) else {
        content.push(paragraph("There is no program whose code could be shown."));
        return Section::new("code", "Code", content);
    };
    let mut left = MAX_LINES;
    for (number, program) in program_code(&image, module).into_iter().enumerate() {
        let id = format!("code-{number}");
        content.push(tag("h3").attribute("id", &id).with(code(&program.program)));
        let count = counted(program.instructions.len(), "instruction");
        let indirect = program.indirect_jumps.len();
        content.push(paragraph(match indirect {
            0 => format!("{count} can be reached from its first one, with the functions that it calls."),
            _ => format!(
                "{count} can be reached from its first one, with the functions that it calls. What is only behind {} is not among them.",
                counted(indirect, "indirect jump")
            ),
        }));
        content.push(table(&image, machine, &program, &mut left));
        below.push(Entry {
            id,
            title: program.program,
        });
    }
    Section {
        below,
        ..Section::new("code", "Code", content)
    }
}

fn table(image: &Image<'_>, machine: Machine, program: &ProgramCode, left: &mut usize) -> Html {
    let most = MAX_FUNCTION_LINES.min(*left);
    let mut body = Html::default();
    let (mut lines, mut left_out) = (0, 0);
    for run in runs(program) {
        if lines >= most {
            left_out += run.len();
            continue;
        }
        let Some((rva, listed)) = listed(image, machine, &run) else {
            continue;
        };
        let wanted: BTreeSet<u32> = run.iter().copied().collect();
        for instruction in listed.iter().filter(|found| wanted.contains(&(rva + found.offset))) {
            if lines >= most {
                left_out += 1;
                continue;
            }
            lines += 1;
            let label = instruction.label.as_ref().map(|label| format!("{label}:\n"));
            body.push(
                tag("tr")
                    .with(
                        tag("td")
                            .class("offset")
                            .with(format!("{:06x}", rva + instruction.offset)),
                    )
                    .with(tag("td").class("offset").with(instruction.digits(machine)))
                    .with(tag("td").class("native").with(label).with(&instruction.text)),
            );
        }
    }
    *left -= lines;
    let columns =
        ["Address (RVA)", "Bytes", "Instruction"].map(|column| tag("th").attribute("scope", "col").with(column));
    let title = format!("Machine code of {}", program.program);
    let table = tag("table")
        .class("code")
        .with(tag("caption").with(&title))
        .with(tag("thead").with(tag("tr").with_all(columns)))
        .with(tag("tbody").with(body));
    let more = (left_out > 0).then(|| note(format!("{left_out} more instructions are not shown.")));
    scrolling(&title, table).with(more)
}

/// The addresses of a program's instructions, in stretches without gaps.
fn runs(program: &ProgramCode) -> Vec<Vec<u32>> {
    let addresses: Vec<u32> = program
        .instructions
        .iter()
        .map(|instruction| instruction.rva.0)
        .collect();
    addresses
        .chunk_by(|a, b| b - a <= LONGEST)
        .map(<[u32]>::to_vec)
        .collect()
}

/// The code of a run as text, with the address that its offsets count from. What lies between its instructions is in it, too.
fn listed(
    image: &Image<'_>,
    machine: Machine,
    run: &[u32],
) -> Option<(u32, Vec<bpf2sys_codegen::listing::NativeInstruction>)> {
    let (first, last) = (*run.first()?, *run.last()?);
    let section: &ImageSection = image.section_at(bpf2sys_simulator::image::Rva(first))?;
    let bytes = image.raw_data(section)?;
    let start = (first - section.rva.0) as usize;
    let end = ((last - section.rva.0 + LONGEST) as usize).min(bytes.len());
    let data = bytes.get(start..end)?.to_vec();
    let size = data.len() as u32;
    let object = NativeObject {
        machine,
        sections: vec![CodeSection {
            name: String::new(),
            kind: SectionKind::Code,
            align: 1,
            data,
            // They are applied already.
            relocations: Vec::new(),
        }],
        symbols: Vec::new(),
        functions: vec![FunctionRange {
            section: SectionIndex(0),
            offset: 0,
            size,
            unwind: UnwindInfo::Leaf,
        }],
        imports: Vec::new(),
        purpose: Purpose::Object { exports: Vec::new() },
        load_config: None,
        shadow_stack: false,
    };
    Some((first, native_code(&object, &object.functions[0])))
}
