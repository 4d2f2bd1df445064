//! How often something ran that is in several blocks of code.
//!
//! A line, or an eBPF instruction, is a set of blocks: some of them follow each other, and then it runs once for all of them; others are
//! copies that a compiler made, and then each of them counts. So what is counted is how often its blocks are entered from
//! others. A way back, to a block that stands before or to itself, is a loop: it enters anew.

use std::collections::{BTreeMap, BTreeSet};

/// A block of code: how often it ran, and what is in it.
#[derive(Clone, Debug)]
pub(super) struct Node<K> {
    pub count: u64,
    pub keys: BTreeSet<K>,
}

/// A way from one block to another: their numbers, and how often it was gone.
pub(super) type Edge = (usize, usize, u64);

/// How often each thing ran: at least as often as any of its blocks. Blocks have the order of the code.
pub(super) fn counts<K: Ord + Copy>(nodes: &[Node<K>], edges: &[Edge]) -> BTreeMap<K, u64> {
    let mut sums: BTreeMap<K, (u64, u64)> = BTreeMap::new();
    for node in nodes {
        for key in &node.keys {
            let (sum, most) = sums.entry(*key).or_default();
            *sum = sum.saturating_add(node.count);
            *most = node.count.max(*most);
        }
    }
    for &(from, to, count) in edges.iter().filter(|(from, to, _)| from < to) {
        for key in nodes[from].keys.intersection(&nodes[to].keys) {
            if let Some((sum, _)) = sums.get_mut(key) {
                *sum = sum.saturating_sub(count);
            }
        }
    }
    sums.into_iter()
        .map(|(key, (sum, most))| (key, sum.max(most)))
        .collect()
}
