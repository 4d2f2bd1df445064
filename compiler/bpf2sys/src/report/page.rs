//! The page as a whole.

use super::html::{Html, Tag, tag};
use super::parts::Section;
use super::{Context, code, image, maps, programs, rules, summary, trust};

/// What may be loaded or run: nothing but the page's own style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = include_str!("style.css");

pub(super) fn write(context: &Context<'_>) -> String {
    let sections = [
        summary::section(context),
        programs::section(context),
        maps::section(context),
        code::section(context),
        rules::section(context),
        trust::signature(context),
        trust::provenance(context),
        image::section(context),
    ];
    let file = file_name(context.subject.file);
    document(&Document {
        kicker: "Driver report",
        title: &format!("{file} – driver report"),
        heading: file,
        lead: summary::lead(context),
        sections: &sections,
    })
}

/// A page in the making.
pub(super) struct Document<'a, L> {
    /// What kind of page it is.
    pub kicker: &'a str,
    /// What windows and bookmarks are called.
    pub title: &'a str,
    pub heading: &'a str,
    /// A sentence below the heading.
    pub lead: L,
    pub sections: &'a [Section],
}

/// Writes a page.
pub(super) fn document<L: Into<Html> + Clone>(document: &Document<'_, L>) -> String {
    let sections = document.sections;
    let head = tag("head")
        .with(tag("meta").attribute("charset", "utf-8"))
        .with(
            tag("meta")
                .attribute("http-equiv", "Content-Security-Policy")
                .attribute("content", POLICY),
        )
        .with(
            tag("meta")
                .attribute("name", "viewport")
                .attribute("content", "width=device-width, initial-scale=1"),
        )
        .with(
            tag("meta")
                .attribute("name", "color-scheme")
                .attribute("content", "light dark"),
        )
        .with(
            tag("meta")
                .attribute("name", "generator")
                .attribute("content", generator()),
        )
        .with(tag("title").with(document.title))
        .with(Html::style(STYLE));
    let header = tag("header")
        .with(tag("p").class("kicker").with(document.kicker))
        .with(tag("h1").with(document.heading))
        .with(tag("p").class("lead").with(document.lead.clone()));
    let main = tag("main")
        .attribute("id", "main")
        .with(header)
        .with_all(sections.iter().map(part))
        .with(footer());
    let skip = tag("a").class("skip").attribute("href", "#main").with("To the report");
    let body = tag("body").with(skip).with(contents(sections)).with(main);
    let page = Html::from(tag("html").attribute("lang", "en").with(head).with("\n").with(body));
    format!("<!DOCTYPE html>\n{}\n", page.into_markup())
}

fn generator() -> String {
    format!("bpf2sys {}", env!("CARGO_PKG_VERSION"))
}

fn part(section: &Section) -> Tag {
    tag("section")
        .attribute("id", &section.id)
        .attribute("aria-labelledby", format!("{}-title", section.id))
        .with("\n")
        .with(
            tag("h2")
                .attribute("id", format!("{}-title", section.id))
                .with(&section.title),
        )
        .with(section.content.clone())
}

fn contents(sections: &[Section]) -> Tag {
    let link = |id: &str, title: &str| tag("a").attribute("href", format!("#{id}")).with(title);
    let items = sections.iter().map(|section| {
        let below = section
            .below
            .iter()
            .map(|entry| tag("li").with(link(&entry.id, &entry.title)));
        let below = (!section.below.is_empty()).then(|| tag("ul").with_all(below));
        tag("li").with(link(&section.id, &section.title)).with(below)
    });
    tag("nav")
        .attribute("aria-label", "Contents")
        .with(tag("ul").with_all(items))
}

fn footer() -> Tag {
    let text = format!(
        "Made by {}. The page is one file, loads nothing and runs nothing. The same files give the same page.",
        generator()
    );
    tag("footer").with(tag("p").with(text))
}

/// The last part of a path of any system.
pub(super) fn file_name(path: &str) -> &str {
    crate::provenance::file_name(path)
}
