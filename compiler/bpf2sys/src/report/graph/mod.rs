//! The control flow of a function as a picture.
//!
//! Given: a function, what was proven about it, and words for its blocks. Computed: inline SVG whose blocks lead to their code.
//! A function with very many blocks gives a picture of those that are nearest to its entry, so that no browser chokes on it.

mod flow;
mod layout;
mod place;

use std::fmt::Write;
use std::ops::RangeInclusive;

use bpf2sys_bytecode::{Function, InsnIndex};
use bpf2sys_verifier::FunctionFacts;

use self::flow::{Block, Edge, Flow, Way};
use self::layout::{Layout, Point, layout};
use super::html::{Html, Tag, tag};

/// Most blocks that are drawn of a function.
pub(super) const MAX_BLOCKS: usize = 150;

/// Pixels of a letter, of a line, and around the text of a block.
const LETTER: f64 = 6.7;
const LINE: f64 = 15.0;
const PADDING: f64 = 8.0;
/// Most letters of a line in a block.
const MAX_LETTERS: usize = 34;

/// A drawn function.
pub(super) struct Graph {
    /// The picture.
    pub svg: Html,
    /// Blocks in it.
    pub blocks: usize,
    /// Blocks that are not in it.
    pub left_out: usize,
}

/// What is said of a block.
pub(super) struct Words {
    /// Its lines.
    pub lines: Vec<String>,
    /// The id of the element with its code, if there is one.
    pub code: Option<String>,
}

/// Draws a function. `words` tells what is said of the block with these instructions.
pub(super) fn draw(
    function: &Function,
    facts: &FunctionFacts,
    words: impl Fn(RangeInclusive<InsnIndex>) -> Words,
) -> Graph {
    let flow = Flow::of(function, facts, MAX_BLOCKS);
    let mut said: Vec<Words> = flow
        .blocks
        .iter()
        .map(|block| words(block.first..=block.last))
        .collect();
    for (words, block) in said.iter_mut().zip(&flow.blocks) {
        if block.to_left_out > 0 {
            words.lines.push("→ not drawn".to_owned());
        }
        for line in &mut words.lines {
            shorten(line);
        }
    }
    let sizes: Vec<Point> = said.iter().map(size).collect();
    let edges: Vec<(usize, usize)> = flow.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let drawn = layout(&sizes, &edges);
    Graph {
        svg: picture(&flow, &said, &sizes, &drawn).into(),
        blocks: flow.blocks.len(),
        left_out: flow.left_out,
    }
}

fn shorten(line: &mut String) {
    if line.chars().count() > MAX_LETTERS {
        *line = line.chars().take(MAX_LETTERS - 1).chain(['…']).collect();
    }
}

fn size(words: &Words) -> Point {
    let letters = words.lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    (
        (letters as f64 * LETTER).ceil() + 2.0 * PADDING,
        words.lines.len() as f64 * LINE + PADDING,
    )
}

fn picture(flow: &Flow, said: &[Words], sizes: &[Point], drawn: &Layout) -> Tag {
    let (width, height) = drawn.size;
    let mut svg = tag("svg")
        .attribute("width", format!("{width:.0}"))
        .attribute("height", format!("{height:.0}"))
        .attribute("viewBox", format!("0 0 {width:.0} {height:.0}"))
        .attribute("role", "group")
        .attribute("aria-label", format!("Control flow: {} blocks", flow.blocks.len()));
    for (edge, points) in flow.edges.iter().zip(&drawn.edges) {
        svg = svg.with(line(edge, points));
    }
    for (((block, words), size), place) in flow.blocks.iter().zip(said).zip(sizes).zip(&drawn.nodes) {
        svg = svg.with(node(block, words, *size, *place));
    }
    svg
}

fn node(block: &Block, words: &Words, (width, height): Point, (x, y): Point) -> Html {
    let frame = tag("rect")
        .attribute("x", format!("{x:.1}"))
        .attribute("y", format!("{y:.1}"))
        .attribute("width", format!("{width:.0}"))
        .attribute("height", format!("{height:.0}"))
        .attribute("rx", "3");
    let texts = words.lines.iter().enumerate().map(|(number, line)| {
        tag("text")
            .class(if number == 0 { "first" } else { "" })
            .attribute("x", format!("{:.1}", x + PADDING))
            .attribute("y", format!("{:.1}", y + PADDING / 2.0 + (number as f64 + 0.75) * LINE))
            .with(line)
    });
    let class = if block.reachable { "block" } else { "block dead" };
    let all = Html::from(frame).with(Html::of(texts));
    match &words.code {
        Some(id) => tag("a")
            .class(class)
            .attribute("href", format!("#{id}"))
            .with(all)
            .into(),
        None => tag("g").class(class).with(all).into(),
    }
}

/// An edge with its point, and a dot where a jump is taken.
fn line(edge: &Edge, points: &[Point]) -> Html {
    let class = match (edge.dead, edge.way) {
        (true, _) => "edge dead",
        (false, Way::Taken) => "edge taken",
        (false, Way::NotTaken) => "edge fallen",
        (false, Way::Only) => "edge",
    };
    let (Some(&first), Some(&last)) = (points.first(), points.last()) else {
        return Html::default();
    };
    let closes = last.1 <= first.1;
    let mut path = format!("M{:.1} {:.1}", first.0, first.1);
    for pair in points.windows(2) {
        let [(from_x, from_y), (to_x, to_y)] = [pair[0], pair[1]];
        let same = (from_x - to_x).abs() < 0.05;
        let _ = if same {
            write!(path, "V{to_y:.1}")
        } else if closes && (pair[0] == first || pair[1] == last) {
            // A way up begins and ends with a turn, because edges leave blocks below and enter them above.
            let beyond = if pair[0] == first {
                from_y.max(to_y) + 16.0
            } else {
                from_y.min(to_y) - 16.0
            };
            write!(
                path,
                "C{from_x:.1} {beyond:.1} {to_x:.1} {beyond:.1} {to_x:.1} {to_y:.1}"
            )
        } else {
            let middle = f64::midpoint(from_y, to_y);
            write!(
                path,
                "C{from_x:.1} {middle:.1} {to_x:.1} {middle:.1} {to_x:.1} {to_y:.1}"
            )
        };
    }
    let (x, y) = last;
    let arrow = format!("M{x:.1} {y:.1}l-3.5 -6h7z");
    let dot = (edge.way == Way::Taken).then(|| {
        tag("circle")
            .attribute("cx", format!("{:.1}", first.0))
            .attribute("cy", format!("{:.1}", first.1 + 3.0))
            .attribute("r", "2.5")
    });
    let line = tag("g")
        .class(class)
        .with(tag("path").class("line").attribute("d", path))
        .with(tag("path").class("arrow").attribute("d", arrow))
        .with(dot);
    line.into()
}
