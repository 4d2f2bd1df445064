//! The edges of a body, backwards: what follows a value from its reads to its writes goes along them.

use super::{Body, NodeIndex};

/// The edges of a body, backwards.
pub(crate) struct Predecessors {
    /// By node: where its predecessors start in `all`; one more entry for the end.
    starts: Vec<u32>,
    all: Vec<NodeIndex>,
}

impl Predecessors {
    /// Those of a body.
    pub(crate) fn of(body: &Body) -> Predecessors {
        let count = body.count() as usize;
        let edges = || {
            body.nodes()
                .flat_map(|from| body.successors(from).map(move |to| (from, to)))
        };
        let mut starts = vec![0_u32; count + 1];
        for (_, to) in edges() {
            starts[to.index() + 1] += 1;
        }
        for index in 0..count {
            starts[index + 1] += starts[index];
        }
        let mut free = starts.clone();
        let mut all = vec![NodeIndex(0); starts[count] as usize];
        for (from, to) in edges() {
            all[free[to.index()] as usize] = from;
            free[to.index()] += 1;
        }
        Predecessors { starts, all }
    }

    /// The nodes that lead to one.
    pub(crate) fn of_node(&self, index: NodeIndex) -> &[NodeIndex] {
        &self.all[self.starts[index.index()] as usize..self.starts[index.index() + 1] as usize]
    }
}
