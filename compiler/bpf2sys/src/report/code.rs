//! C, eBPF and machine code side by side, function by function, with what was proven about each instruction.

use std::collections::BTreeSet;

use bpf2sys_bytecode::{Function, FunctionIndex, FunctionKind, InsnIndex, SourceLine};
use bpf2sys_codegen::InsnPlace;
use bpf2sys_codegen::listing::{FunctionRows, Glue, Left, NativeInstruction, Part, Row, rows};
use bpf2sys_pe_emit::Machine;
use bpf2sys_verifier::{FunctionFacts, Interval, VerifiedModule};

use super::coverage::{count as times, share as lines_that_ran};
use super::graph::{self, Words};
use super::html::{Html, Tag, tag};
use super::parts::{Entry, Facts, Section, code, counted, note, paragraph, prose, scrolling};
use super::{Context, Source, blocks, native};
use crate::facts;
use crate::provenance::file_name;

/// Most lines of code that a page has. Browsers stay quick with as many.
pub(super) const MAX_LINES: usize = 20_000;
/// Most of them of one native function.
pub(super) const MAX_FUNCTION_LINES: usize = 5_000;
/// Functions with more lines than this are folded up at first.
const MAX_OPEN: usize = 1_500;

pub(super) fn section(context: &Context<'_>) -> Section {
    match context.source() {
        Some(source) => of_source(context, source),
        None => native::section(context),
    }
}

fn of_source(context: &Context<'_>, source: Source<'_>) -> Section {
    let verified = source.verified;
    let mut page = Page {
        context,
        source,
        left: MAX_LINES,
        shown: BTreeSet::new(),
    };
    let mut content = legend(verified);
    let (mut below, mut skeleton) = (Vec::new(), Html::default());
    // The native functions of an eBPF function follow each other.
    let mut all = rows(verified, context.subject.platform, source.lowered).peekable();
    while let Some(first) = all.next() {
        let Some(function) = first.function else {
            skeleton.push(page.native_function(&first, None));
            continue;
        };
        let mut pieces = vec![first];
        while let Some(next) = all.next_if(|next| next.function == Some(function)) {
            pieces.push(next);
        }
        let id = function_id(function);
        let name = verified.module().function(function).name.clone();
        content.push(tag("h3").attribute("id", &id).with(code(&name)));
        content.push(page.function(function, &pieces));
        below.push(Entry { id, title: name });
    }
    if skeleton.len() > 0 {
        content.push(tag("h3").attribute("id", "skeleton").with("Around the programs"));
        let what = "Code that every driver of bpf2sys has: it tells the runtime where programs and maps are.";
        content.push(paragraph(what));
        content.push(
            tag("details")
                .with(tag("summary").with("Its machine code"))
                .with(skeleton),
        );
        below.push(Entry {
            id: "skeleton".to_owned(),
            title: "Around the programs".to_owned(),
        });
    }
    Section {
        below,
        ..Section::new("code", "Code", content)
    }
}

fn legend(verified: &VerifiedModule) -> Html {
    let text = "What was proven about an instruction is shown at the foot of the window while the pointer or the focus is on it. \
                Rows are in the order of the machine code. A slot in parentheses was there before: the compiler put another part of \
                it here. One with ^ is of a function whose call was inlined. An instruction without machine code became part of \
                others, or is never reached.";
    let lines = verified
        .module()
        .lines
        .is_empty()
        .then(|| note("The object has no source lines; compile with -g to have them."));
    Html::from(note(text)).with(lines)
}

fn function_id(function: FunctionIndex) -> String {
    format!("f{}", function.0)
}

fn row_id(function: FunctionIndex, slot: u32) -> String {
    format!("f{}i{slot}", function.0)
}

/// The code of a page, in progress.
struct Page<'a> {
    context: &'a Context<'a>,
    source: Source<'a>,
    /// Lines that may still be shown.
    left: usize,
    /// Instructions that have a row with an id.
    shown: BTreeSet<(FunctionIndex, InsnIndex)>,
}

impl Page<'_> {
    /// An eBPF function with the native functions that it became.
    fn function(&mut self, index: FunctionIndex, pieces: &[FunctionRows<'_>]) -> Html {
        let verified = self.source.verified;
        let function = verified.module().function(index);
        let known = verified.facts(index);
        let mut about = Facts::default();
        about.add(
            "What",
            match function.kind {
                FunctionKind::Program => "program",
                FunctionKind::Subprogram => "function that programs call",
            },
        );
        about.add("Section", code(&function.section));
        let bytes: u32 = pieces.iter().map(|piece| piece.size).sum();
        let length = counted(function.slots() as usize, "eBPF instruction");
        about.add("Length", format!("{length}, {bytes} bytes of machine code"));
        if known.returns != Interval::FULL {
            about.add("Returns", facts::Range(known.returns).to_string());
        }
        let stack: Vec<String> = facts::stack(known)
            .iter()
            .map(|line| line.trim_start_matches(": ").to_owned())
            .collect();
        about.add(
            "Stack",
            match &stack[..] {
                [one] => Html::from(one.trim()),
                all => {
                    let summary = tag("summary").with(counted(all.len(), "place"));
                    let list = tag("ul").with_all(all.iter().map(|line| tag("li").with(line.trim())));
                    tag("details").with(summary).with(list).into()
                }
            },
        );
        if let Some(coverage) = self.context.subject.coverage {
            let lines = function
                .instructions
                .iter()
                .filter_map(|insn| verified.module().line(insn));
            let share = lines_that_ran(coverage, lines.map(|line| (line.file.as_str(), line.line)));
            if share.of > 0 {
                about.add("Lines that ran", share.to_string());
            }
        }
        let main = function
            .instructions
            .iter()
            .find_map(|insn| verified.module().line(insn));
        let tables = Html::of(pieces.iter().map(|piece| self.native_function(piece, main)));
        Html::from(about).with(self.graph(index, function, known)).with(tables)
    }

    fn graph(&self, index: FunctionIndex, function: &Function, known: &FunctionFacts) -> Html {
        let drawn = graph::draw(function, known, |range| {
            let first = *range.start();
            let insn = function.instructions.get(first.index());
            let code = insn.filter(|_| self.shown.contains(&(index, first)));
            Words {
                lines: blocks::lines(self.context, self.source.verified, index, range),
                code: code.map(|insn| row_id(index, insn.slot)),
            }
        });
        let count = counted(drawn.blocks + drawn.left_out, "block");
        let remark = (drawn.left_out > 0).then(|| {
            note(format!(
                "The function has {count}. Those {} that are nearest to its entry are drawn; where others follow, a block says so.",
                drawn.blocks
            ))
        });
        let name = format!("Control flow of {}", function.name);
        let summary = tag("summary")
            .with("Control flow")
            .with(tag("span").class("more").with(format!(" {count}")));
        let key = "A dot marks the way of a jump that is taken. Dashed ways are proven never to be taken.";
        tag("details")
            .class("graph")
            .with(summary)
            .with(remark)
            .with(scrolling(&name, drawn.svg))
            .with(note(key))
            .into()
    }

    /// The rows of a native function. `main` is a line of the file that most are of.
    fn native_function(&mut self, function: &FunctionRows<'_>, main: Option<&SourceLine>) -> Html {
        let machine = self.source.lowered.object.machine;
        let mut most = MAX_FUNCTION_LINES.min(self.left);
        let (mut body, mut lines, mut left_out) = (Html::default(), 0, 0);
        for row in &function.rows {
            let size = row.native.len().max(1);
            if lines + size > most {
                // Rows are shown up to one place, and not here and there.
                most = 0;
                left_out += size;
                continue;
            }
            lines += size;
            body.push(self.row(row, machine, main));
        }
        self.left -= lines;
        let columns = match function.function {
            Some(_) => &["C", "eBPF", "Machine code"][..],
            None => &["", "Machine code"],
        };
        let head = tag("tr").with_all(
            columns
                .iter()
                .map(|column| tag("th").attribute("scope", "col").with(*column)),
        );
        let table = tag("table")
            .class("code")
            .with(tag("caption").with(&function.title))
            .with(tag("thead").with(head))
            .with(tag("tbody").with(body));
        let more = (left_out > 0).then(|| {
            note(prose(&format!(
                "{left_out} more lines are not shown. `bpf2sys build --emit asm` writes all of them."
            )))
        });
        let summary = tag("summary")
            .with("Code")
            .with(tag("span").class("more").with(format!(" {}", function.title)));
        let details = tag("details")
            .with(summary)
            .with(scrolling(&function.title, table))
            .with(more);
        let open = function.function.is_some() && lines <= MAX_OPEN;
        (if open { details.flag("open") } else { details }).into()
    }

    fn row(&mut self, row: &Row<'_>, machine: Machine, main: Option<&SourceLine>) -> Tag {
        let native = native_cell(&row.native, machine);
        match &row.left {
            Left::Glue(Glue::Skeleton) => tag("tr").with(tag("td")).with(native),
            Left::Glue(glue) => {
                let word = match glue {
                    Glue::Prologue => "prologue",
                    Glue::Ending => "shared ending",
                    Glue::Other | Glue::Skeleton => "",
                };
                let word = tag("td").class("ebpf").with(word);
                tag("tr").class("glue").with(tag("td")).with(word).with(native)
            }
            Left::Instruction {
                place,
                slot,
                text,
                part,
            } => {
                let facts = self.source.verified.facts(place.function);
                let known = facts.instructions.get(place.instruction.index());
                let dead = known.is_some_and(|known| !known.reachable);
                // Each instruction has one row that links lead to, and that tells what was proven.
                let first = *part == Part::First && self.shown.insert((place.function, place.instruction));
                let id = first.then(|| row_id(place.function, *slot));
                let numbered = match part {
                    Part::First => slot.to_string(),
                    Part::Further => format!("({slot})"),
                    Part::Inlined => format!("^{slot}"),
                };
                let ebpf = tag("td")
                    .class("ebpf")
                    .with(tag("span").class("slot").with(numbered))
                    .with(self.instruction(id.as_deref(), *place, text));
                let row_of = tag("tr").class(if dead { "dead" } else { "" });
                let row_of = match &id {
                    Some(id) => row_of.attribute("id", id),
                    None => row_of,
                };
                row_of.with(self.source_cell(row.line, main)).with(ebpf).with(native)
            }
        }
    }

    /// An instruction, with what was proven about it if its row has an id.
    fn instruction(&self, id: Option<&str>, place: InsnPlace, text: &str) -> Html {
        let shown = tag("span").class("text");
        let Some((id, notes)) = id.map(|id| (id, self.notes(place.function, place.instruction))) else {
            return shown.with(text).into();
        };
        if notes.is_empty() {
            return shown.with(text).into();
        }
        let id = format!("{id}k");
        let shown = shown.attribute("tabindex", "0").attribute("aria-describedby", &id);
        let known = tag("span")
            .class("known")
            .attribute("id", &id)
            .attribute("role", "note");
        let known = known.with_all(notes.into_iter().map(|note| tag("span").with(note)));
        Html::from(shown.with(text)).with(known)
    }

    fn notes(&self, function: FunctionIndex, index: InsnIndex) -> Vec<String> {
        let module = self.source.verified.module();
        let known = self.source.verified.facts(function);
        if known
            .instructions
            .get(index.index())
            .is_some_and(|known| !known.reachable)
        {
            return vec!["never reached".to_owned()];
        }
        let Some(insn) = module.function(function).instructions.get(index.index()) else {
            return Vec::new();
        };
        let mut notes = facts::registers(known, index, module);
        notes.extend(facts::uses(known, index, &insn.op, module));
        notes
    }

    fn source_cell(&self, line: Option<&SourceLine>, main: Option<&SourceLine>) -> Tag {
        let cell = tag("td").class("source");
        let Some(line) = line else { return cell };
        let count = self
            .context
            .subject
            .coverage
            .and_then(|coverage| times(coverage, &line.file, line.line));
        let number = match main {
            Some(main) if main.file == line.file => line.line.to_string(),
            // Where it lay on the machine that compiled it is nobody's business.
            _ => format!("{}:{}", file_name(&line.file), line.line),
        };
        let ran = count.map(|count| {
            let class = if count > 0 { "ran" } else { "never-ran" };
            tag("span")
                .class(class)
                .attribute("title", "how often it ran")
                .with(format!("{count}×"))
        });
        cell.with(tag("span").class("line").with(number))
            .with(ran)
            .with(line.text.trim())
    }
}

/// Machine code in a cell: offsets and texts, with the bytes as its title.
fn native_cell(native: &[NativeInstruction], machine: Machine) -> Tag {
    let mut cell = Html::default();
    for (number, instruction) in native.iter().enumerate() {
        if number > 0 {
            cell.push("\n");
        }
        if let Some(label) = &instruction.label {
            cell.push(format!("{label}:\n"));
        }
        cell.push(tag("span").class("offset").with(format!("{:04x} ", instruction.offset)));
        cell.push(&instruction.text);
    }
    let bytes: Vec<String> = native
        .iter()
        .take(16)
        .map(|instruction| instruction.digits(machine))
        .collect();
    let titled = tag("td").class("native");
    if bytes.is_empty() {
        titled
    } else {
        titled.attribute("title", bytes.join(" ")).with(cell)
    }
}
