//! Where the blocks of a graph are drawn: in layers, so that edges lead down but where they close a loop.
//!
//! Given: the sizes of nodes, and edges between them; the first node is the entry. Computed: a place for each node, and for each edge
//! the points that it goes through. The way is that of Sugiyama, Tagawa and Toda (1981): edges that close a loop are turned around,
//! nodes get layers, edges that cross layers get a place in each, layers are ordered so that few edges cross, and then every layer is
//! moved to where its neighbours are. The same graph gives the same picture: nothing is random, and sorting keeps the order of equals.

use std::collections::BTreeMap;

use super::place::{Item, place};

/// Between layers.
const GAP_Y: f64 = 34.0;
/// Around everything.
const MARGIN: f64 = 14.0;
/// How often layers are ordered.
const SWEEPS: usize = 8;

/// A place in pixels.
pub(super) type Point = (f64, f64);

/// A drawn graph.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Width and height.
    pub size: Point,
    /// By node, its left upper corner.
    pub nodes: Vec<Point>,
    /// By edge, its points from the lower side of its first node to the upper side of its last one: two for each place in a layer that it
    /// crosses.
    pub edges: Vec<Vec<Point>>,
}

/// Places nodes of these widths and heights.
pub(super) fn layout(nodes: &[Point], edges: &[(usize, usize)]) -> Layout {
    let closes = closing(nodes.len(), edges);
    let layer_of = layers(nodes.len(), edges, &closes);
    let mut items: Vec<Item> = nodes
        .iter()
        .map(|(width, height)| item(*width, *height, false))
        .collect();
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); layer_of.iter().max().map_or(0, |last| last + 1)];
    for (node, layer) in layer_of.iter().enumerate() {
        layers[*layer].push(node);
    }
    // The items that each edge goes through, from top to bottom.
    let mut ways: Vec<Vec<usize>> = Vec::with_capacity(edges.len());
    for (&(from, to), closes) in edges.iter().zip(&closes) {
        // One that closes a loop begins below its block and ends above the loop's head: it passes both.
        let (top, bottom) = if *closes { (to, from) } else { (from, to) };
        let passed = match closes {
            true => layer_of[top]..layer_of[bottom] + 1,
            false => layer_of[top] + 1..layer_of[bottom],
        };
        let mut way = Vec::new();
        for layer in passed {
            items.push(item(0.0, 0.0, true));
            layers[layer].push(items.len() - 1);
            way.push(items.len() - 1);
        }
        let ends = match closes {
            true => way.clone(),
            false => [vec![from], way.clone(), vec![to]].concat(),
        };
        for pair in ends.windows(2) {
            items[pair[0]].below.push(pair[1]);
            items[pair[1]].above.push(pair[0]);
        }
        // It is drawn best beside the blocks that it connects.
        ways.push(way);
    }
    order(&mut items, &mut layers, &ways, edges, &closes);
    place(&mut items, &layers);
    let tops = tops(&items, &layers);
    finish(&items, &layers, &tops, edges, &ways, &closes)
}

fn item(width: f64, height: f64, is_edge: bool) -> Item {
    Item {
        width,
        height,
        x: 0.0,
        is_edge,
        above: Vec::new(),
        below: Vec::new(),
    }
}

/// Which edges close a loop: those to a node that a walk from the entry is still in.
fn closing(count: usize, edges: &[(usize, usize)]) -> Vec<bool> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        Inside,
        Done,
    }
    let mut from: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (index, edge) in edges.iter().enumerate() {
        from[edge.0].push(index);
    }
    let (mut seen, mut closes) = (vec![Seen::No; count], vec![false; edges.len()]);
    for start in 0..count {
        if seen[start] != Seen::No {
            continue;
        }
        seen[start] = Seen::Inside;
        // Nodes of the walk, each with the number of its edges that were followed.
        let mut walk = vec![(start, 0)];
        while let Some((node, followed)) = walk.last_mut() {
            let Some(&edge) = from[*node].get(*followed) else {
                seen[*node] = Seen::Done;
                walk.pop();
                continue;
            };
            *followed += 1;
            let to = edges[edge].1;
            match seen[to] {
                Seen::No => {
                    seen[to] = Seen::Inside;
                    walk.push((to, 0));
                }
                Seen::Inside => closes[edge] = true,
                Seen::Done => {}
            }
        }
    }
    closes
}

/// The layer of each node: below all that lead to it, loops aside.
fn layers(count: usize, edges: &[(usize, usize)], closes: &[bool]) -> Vec<usize> {
    let down = || {
        edges
            .iter()
            .zip(closes)
            .filter(|(_, closes)| !**closes)
            .map(|(edge, _)| *edge)
    };
    let mut incoming = vec![0; count];
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (from, to) in down() {
        incoming[to] += 1;
        next[from].push(to);
    }
    let mut layer = vec![0; count];
    let mut ready: Vec<usize> = (0..count).filter(|node| incoming[*node] == 0).collect();
    while let Some(node) = ready.pop() {
        for &to in &next[node] {
            layer[to] = layer[to].max(layer[node] + 1);
            incoming[to] -= 1;
            if incoming[to] == 0 {
                ready.push(to);
            }
        }
    }
    layer
}

/// Orders the items of each layer by the middle of what they are connected to, from top to bottom and back.
fn order(
    items: &mut [Item],
    layers: &mut [Vec<usize>],
    ways: &[Vec<usize>],
    edges: &[(usize, usize)],
    closes: &[bool],
) {
    let mut position = vec![0.0; items.len()];
    // The ends of an edge that closes a loop stay near its nodes.
    let mut beside: BTreeMap<usize, usize> = BTreeMap::new();
    for ((way, (from, to)), _) in ways.iter().zip(edges).zip(closes).filter(|(_, closes)| **closes) {
        beside.extend(way.first().map(|first| (*first, *to)));
        beside.extend(way.last().map(|last| (*last, *from)));
    }
    let number = |layers: &[Vec<usize>], position: &mut [f64]| {
        for layer in layers {
            for (index, item) in layer.iter().enumerate() {
                position[*item] = index as f64;
            }
        }
    };
    number(layers, &mut position);
    for sweep in 0..SWEEPS {
        let downward = sweep % 2 == 0;
        for index in 0..layers.len() {
            let index = if downward { index } else { layers.len() - 1 - index };
            let wanted = |item: usize| {
                let of = if downward {
                    &items[item].above
                } else {
                    &items[item].below
                };
                if of.is_empty() {
                    return beside.get(&item).map_or(position[item], |node| position[*node] + 0.5);
                }
                of.iter().map(|other| position[*other]).sum::<f64>() / of.len() as f64
            };
            let mut keyed: Vec<(f64, usize)> = layers[index].iter().map(|item| (wanted(*item), *item)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            layers[index] = keyed.into_iter().map(|(_, item)| item).collect();
            for (place, item) in layers[index].iter().enumerate() {
                position[*item] = place as f64;
            }
        }
    }
}

/// The upper side of each layer, and of what would be the next one.
fn tops(items: &[Item], layers: &[Vec<usize>]) -> Vec<f64> {
    let mut tops = vec![MARGIN + GAP_Y / 2.0];
    for layer in layers {
        let height = layer.iter().map(|item| items[*item].height).fold(0.0, f64::max);
        tops.push(tops[tops.len() - 1] + height + GAP_Y);
    }
    tops
}

fn finish(
    items: &[Item],
    layers: &[Vec<usize>],
    tops: &[f64],
    edges: &[(usize, usize)],
    ways: &[Vec<usize>],
    closes: &[bool],
) -> Layout {
    let left = |item: &Item| item.x - item.width / 2.0;
    let smallest = items.iter().map(left).fold(f64::INFINITY, f64::min);
    let shift = if smallest.is_finite() {
        MARGIN - smallest
    } else {
        MARGIN
    };
    let right = items
        .iter()
        .map(|item| item.x + item.width / 2.0 + shift)
        .fold(0.0, f64::max);
    let mut layer_of = vec![0; items.len()];
    for (index, layer) in layers.iter().enumerate() {
        for &item in layer {
            layer_of[item] = index;
        }
    }
    let top = |item: usize| (items[item].x + shift, tops[layer_of[item]]);
    let bottom = |item: usize| {
        let (x, y) = top(item);
        (x, y + items[item].height)
    };
    let end_of_layer = |item: usize| (items[item].x + shift, tops[layer_of[item] + 1] - GAP_Y);
    let points = |((from, to), way): (&(usize, usize), &Vec<usize>), closes: bool| {
        let mut points = vec![bottom(*from)];
        if closes {
            points.extend(way.iter().rev().flat_map(|&item| [end_of_layer(item), top(item)]));
        } else {
            points.extend(way.iter().flat_map(|&item| [top(item), end_of_layer(item)]));
        }
        points.push(top(*to));
        points
    };
    Layout {
        size: (right + MARGIN, tops[tops.len() - 1] - GAP_Y / 2.0 + MARGIN),
        nodes: layers_of_nodes(items, &top),
        edges: (edges.iter().zip(ways).zip(closes))
            .map(|(edge, closes)| points(edge, *closes))
            .collect(),
    }
}

/// The left upper corners of the items that are nodes.
fn layers_of_nodes(items: &[Item], top: &impl Fn(usize) -> Point) -> Vec<Point> {
    let nodes = (0..items.len()).filter(|item| !items[*item].is_edge);
    nodes
        .map(|item| {
            let (x, y) = top(item);
            (x - items[item].width / 2.0, y)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Point = (80.0, 30.0);

    /// Some graph of `count` nodes, each with up to two ways.
    fn some(count: usize, seed: u64) -> Vec<(usize, usize)> {
        let mut state = seed;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut edges = Vec::new();
        for node in 0..count {
            if node + 1 < count {
                edges.push((node, node + 1));
            }
            edges.push((node, random(count)));
        }
        edges
    }

    #[test]
    fn nodes_do_not_touch_and_lie_inside() {
        for seed in 0..40 {
            let edges = some(3 + seed as usize, seed);
            let nodes = vec![SIZE; 3 + seed as usize];
            let drawn = layout(&nodes, &edges);
            let (width, height) = drawn.size;
            for (index, (x, y)) in drawn.nodes.iter().enumerate() {
                assert!(
                    *x >= 0.0 && *y >= 0.0 && x + SIZE.0 <= width && y + SIZE.1 <= height,
                    "{seed}"
                );
                for (other_x, other_y) in &drawn.nodes[index + 1..] {
                    let apart = (x - other_x).abs() >= SIZE.0 || (y - other_y).abs() >= SIZE.1;
                    assert!(apart, "{seed}: {x},{y} and {other_x},{other_y}");
                }
            }
            for ((from, to), points) in edges.iter().zip(&drawn.edges) {
                let (first, last) = (points[0], points[points.len() - 1]);
                assert!((first.1 - drawn.nodes[*from].1 - SIZE.1).abs() < 0.001, "{seed}");
                assert!((last.1 - drawn.nodes[*to].1).abs() < 0.001, "{seed}");
                assert!(points.iter().all(|(x, _)| *x >= 0.0 && *x <= width), "{seed}");
            }
        }
    }

    #[test]
    fn edges_lead_down_but_those_that_close_a_loop() {
        let edges = [(0, 1), (1, 2), (2, 1), (1, 3), (3, 3)];
        let drawn = layout(&[SIZE; 4], &edges);
        let y = |node: usize| drawn.nodes[node].1;
        assert!(y(0) < y(1) && y(1) < y(2) && y(1) < y(3));
        assert_eq!(closing(4, &edges), [false, false, true, false, true]);
        // The one that closes the longer loop passes both of its nodes.
        assert_eq!(drawn.edges[2].len(), 2 + 2 * 2);
        assert_eq!(drawn.edges[4].len(), 2 + 2);
    }

    #[test]
    fn a_chain_is_a_straight_line() {
        let edges: Vec<(usize, usize)> = (0..9).map(|node| (node, node + 1)).collect();
        let drawn = layout(&[SIZE; 10], &edges);
        assert!(drawn.nodes.windows(2).all(|pair| (pair[0].0 - pair[1].0).abs() < 0.001));
    }

    #[test]
    fn the_same_graph_is_drawn_the_same() {
        let edges = some(60, 7);
        let drawn = || format!("{:?}", layout(&[SIZE; 60], &edges));
        assert_eq!(drawn(), drawn());
    }

    #[test]
    fn a_graph_without_nodes_has_a_size() {
        let drawn = layout(&[], &[]);
        assert!(drawn.nodes.is_empty() && drawn.size.0 > 0.0);
    }
}
