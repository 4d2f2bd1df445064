use std::collections::BTreeSet;

use bpf2sys_lines::Block;

use super::flow::{Known, solve};
use super::regions::{self, Node};
use super::{Branch, Coverage, FileCoverage, FunctionCoverage, Way};

fn node(count: u64, keys: &[u32]) -> Node<u32> {
    Node {
        count,
        keys: keys.iter().copied().collect(),
    }
}

fn regions(nodes: &[(u64, &[u32])], edges: &[regions::Edge]) -> Vec<(u32, u64)> {
    let nodes: Vec<Node<u32>> = nodes.iter().map(|(count, keys)| node(*count, keys)).collect();
    regions::counts(&nodes, edges).into_iter().collect()
}

#[test]
fn copies_are_added_and_what_goes_on_is_not() {
    // A condition with two parts on one line, which goes on to its second part three times of five.
    let edges = [(0, 1, 3), (0, 2, 2), (1, 2, 3)];
    assert_eq!(regions(&[(5, &[1]), (3, &[1]), (5, &[2])], &edges), [(1, 5), (2, 5)]);
    // Two copies.
    assert_eq!(
        regions(&[(5, &[1]), (3, &[2]), (4, &[1])], &[(0, 1, 3)]),
        [(1, 9), (2, 3)]
    );
    // A loop of one line: each time is a time.
    assert_eq!(regions(&[(10, &[1])], &[(0, 0, 9)]), [(1, 10)]);
    assert_eq!(regions(&[(10, &[1]), (10, &[1])], &[(0, 1, 10), (1, 0, 9)]), [(1, 10)]);
    // Numbers that do not fit: a line ran as often as any block of it.
    assert_eq!(regions(&[(5, &[1]), (7, &[1])], &[(0, 1, 9)]), [(1, 7)]);
}

fn blocks(next: &[&[u32]]) -> Vec<Block> {
    let block = |(number, next): (usize, &&[u32])| Block {
        first: number as u32,
        lines: Vec::new(),
        next: next.to_vec(),
    };
    next.iter().enumerate().map(block).collect()
}

fn solved(next: &[&[u32]], known: &[Option<u64>], hints: &[Option<u64>]) -> (Vec<u64>, Vec<u64>) {
    let known: Vec<Known> = known
        .iter()
        .zip(hints)
        .map(|(count, hint)| Known {
            count: *count,
            hint: *hint,
        })
        .collect();
    let flow = solve(&blocks(next), &known);
    (flow.blocks, flow.edges.into_iter().map(|(_, _, count)| count).collect())
}

/// `if` with two ways that come together: 0 to 1 or 2, both to 3.
const DIAMOND: [&[u32]; 4] = [&[1, 2], &[3], &[3], &[]];
const NONE: [Option<u64>; 4] = [None; 4];

#[test]
fn what_is_not_known_follows_from_what_comes_and_goes() {
    let expected = (vec![10, 4, 6, 10], vec![4, 6, 4, 6]);
    for known in [
        [Some(10), Some(4), None, None],
        [Some(10), None, Some(6), None],
        [None, Some(4), Some(6), None],
        [None, Some(4), None, Some(10)],
        [Some(10), Some(4), Some(6), Some(10)],
    ] {
        assert_eq!(solved(&DIAMOND, &known, &NONE), expected, "{known:?}");
    }
    // Nothing tells between the two ways: a hint does, and else they did not run.
    assert_eq!(
        solved(&DIAMOND, &[Some(10), None, None, None], &[None, Some(4), None, None]),
        expected
    );
    assert_eq!(
        solved(&DIAMOND, &[Some(10), None, None, Some(10)], &NONE).0,
        [10, 0, 0, 10]
    );
}

#[test]
fn a_block_runs_as_often_as_those_that_need_it() {
    // Of the first block, only one of two copies was counted; of those behind it, all.
    let found = solved(&DIAMOND, &[Some(7), Some(4), Some(6), None], &NONE);
    assert_eq!(found, (vec![10, 4, 6, 10], vec![4, 6, 4, 6]));
    // A loop: 0 to 1, 1 to itself or 2.
    let found = solved(&[&[1], &[1, 2], &[]], &[Some(3), Some(12), None], &[None; 3]);
    assert_eq!(found, (vec![3, 12, 3], vec![3, 9, 3]));
}

#[test]
fn many_ways_into_one_block_take_no_long_time() {
    let count = 60_000u32;
    let mut next: Vec<Vec<u32>> = (0..count).map(|block| vec![block + 1, count]).collect();
    next.push(Vec::new());
    let next: Vec<&[u32]> = next.iter().map(Vec::as_slice).collect();
    let known: Vec<Option<u64>> = (0..=count)
        .map(|block| (block < count).then_some(u64::from(count - block)))
        .collect();
    let (blocks, _) = solved(&next, &known, &vec![None; known.len()]);
    assert_eq!(blocks[count as usize], u64::from(count));
}

fn file() -> FileCoverage {
    let mut file = FileCoverage {
        lines: [(3, 2), (4, 0), (6, 0), (9, 1), (10, 0)].into(),
        functions: [("one".into(), FunctionCoverage { line: 3, count: 2 })].into(),
        ..FileCoverage::default()
    };
    for (column, way, count) in [
        (5, Way::Line(4), 0),
        (5, Way::File("b.h".into(), 9), 2),
        (12, Way::Line(6), 0),
        (12, Way::Out, 0),
    ] {
        file.go(Branch { line: 3, column }, way, count);
    }
    file
}

#[test]
fn shares_and_gaps_of_a_file() {
    let file = file();
    assert_eq!(file.line_share().to_string(), "2 of 5 (40.0 %)");
    assert_eq!(file.branch_share().to_string(), "1 of 4 (25.0 %)");
    assert_eq!(file.missed(), [(4, 6), (10, 10)]);
    // 999 of 1000 is not rounded to all.
    let lines = (1..=2000).map(|line| (line, u64::from(line != 7)));
    let file = FileCoverage {
        lines: lines.collect(),
        ..FileCoverage::default()
    };
    assert_eq!(file.line_share().to_string(), "1999 of 2000 (99.9 %)");
}

#[test]
fn a_tracefile_is_as_lcov_writes_it_and_is_read_back() {
    let coverage = Coverage {
        files: [("a.c".into(), file())].into(),
    };
    let text = coverage.to_lcov();
    let expected = "TN:\nSF:a.c\nFN:3,one\nFNDA:2,one\nFNF:1\nFNH:1\nBRDA:3,0,0,0\nBRDA:3,0,1,2\nBRDA:3,1,0,-\nBRDA:3,1,1,-\n\
                    BRF:4\nBRH:1\nDA:3,2\nDA:4,0\nDA:6,0\nDA:9,1\nDA:10,0\nLF:5\nLH:2\nend_of_record\n";
    assert_eq!(text, expected);
    let read = Coverage::from_lcov(&text).unwrap();
    assert_eq!(read.to_lcov(), text);
    // What other tools write besides.
    let more = "SF:/a b.c\nVER:1\nFN:1,9,f,g\nDA:7,3,hash\nBRDA:7,e0,1,-\nend_of_record\n";
    let read = Coverage::from_lcov(more).unwrap();
    assert_eq!(read.files["/a b.c"].lines, [(7, 3)].into());
    assert_eq!(read.line_share().of, 1);
    for (bad, line) in [
        ("DA:1,2\n", 1),
        ("SF:a\nDA:x,2\n", 2),
        ("SF:a\nDA:0,2\n", 2),
        ("SF:a\nDA:99999999,2\n", 2),
        ("SF:a\nDA:1\n", 2),
        ("SF:a\nBRDA:1,0,0\n", 2),
        ("SF:a\nend_of_record\nDA:1,1\n", 3),
    ] {
        assert_eq!(Coverage::from_lcov(bad).unwrap_err().line, line, "{bad}");
    }
}

#[test]
fn runs_add_up_and_files_can_get_other_names() {
    let mut all = Coverage {
        files: [("a.c".into(), file())].into(),
    };
    all.add(all.clone());
    assert_eq!(all.files["a.c"].lines[&3], 4);
    assert_eq!(all.files["a.c"].functions["one"].count, 4);
    let names = BTreeSet::from(["x/a.c", "a.c"]);
    let files = names.iter().map(|name| ((*name).to_owned(), file())).collect();
    let one = Coverage { files }.renamed(|name| name.trim_start_matches("x/").to_owned());
    assert_eq!(one, all);
}
