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
    let title = format!("{} – driver report", file_name(context.subject.file));
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
        .with(tag("title").with(title))
        .with(Html::style(STYLE));
    let header = tag("header")
        .with(tag("p").class("kicker").with("Driver report"))
        .with(tag("h1").with(file_name(context.subject.file)))
        .with(tag("p").class("lead").with(summary::lead(context)));
    let main = tag("main")
        .attribute("id", "main")
        .with(header)
        .with_all(sections.iter().map(part))
        .with(footer());
    let skip = tag("a").class("skip").attribute("href", "#main").with("To the report");
    let body = tag("body").with(skip).with(contents(&sections)).with(main);
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
fn file_name(path: &str) -> &str {
    crate::provenance::file_name(path)
}
