//! The image: sections, imports, exports, numbers of its headers.

use super::Context;
use super::html::{Html, tag};
use super::parts::{Facts, MAX_ROWS, Section, Table, code, heading, note};

pub(super) fn section(context: &Context<'_>) -> Section {
    let image = &context.image;
    let mut facts = Facts::default();
    facts.add(
        "Entry point",
        format!("{:#x}{}", image.entry_point, in_section(image.entry_section.as_deref())),
    );
    facts.add("Preferred base", format!("{:#x}", image.image_base));
    facts.add("Size in memory", format!("{} bytes", image.image_size));
    let [system, own, subsystem] = &image.versions;
    facts.add(
        "Versions",
        format!("system {system}, image {own}, subsystem {subsystem}"),
    );
    facts.add("DLL characteristics", format!("{:#06x}", image.dll_characteristics));
    facts.add("Time stamp field", format!("{:#010x}", image.timestamp));
    let right = if image.checksum_valid { "right" } else { "wrong" };
    facts.add("Checksum", format!("{:#010x}, {right}", image.checksum));
    facts.add("Base relocations", image.relocations.to_string());
    facts.add("Functions with unwind data", image.unwind_entries.to_string());
    let mut sections = Table::new(
        "Sections",
        &[
            "Section",
            "Protection",
            "RVA",
            "Bytes in memory",
            "Bytes in the file",
            "Discardable",
        ],
    );
    for section in &image.sections {
        sections.row([
            Html::from(code(&section.name)),
            code(&section.protection).into(),
            format!("{:#07x}", section.rva).into(),
            section.virtual_size.to_string().into(),
            section.raw_size.to_string().into(),
            (if section.discardable { "yes" } else { "no" }).into(),
        ]);
    }
    let mut content = Html::from(facts).with(heading("Sections")).with(sections);
    for (title, names) in [("Imports", &image.imports), ("Exports", &image.exports)] {
        content.push(heading(title));
        if names.is_empty() {
            content.push(tag("p").with("none"));
            continue;
        }
        content.push(
            tag("ul")
                .class("names")
                .with_all(names.iter().take(MAX_ROWS).map(|name| tag("li").with(code(name)))),
        );
        if let Some(more @ 1..) = names.len().checked_sub(MAX_ROWS) {
            content.push(note(format!("{more} more are not shown.")));
        }
    }
    Section::new("image", "Image", content)
}

fn in_section(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(" in {name}"))
}
