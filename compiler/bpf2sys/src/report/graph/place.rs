//! Where the items of ordered layers are, from left to right: as near to what they are connected to as their neighbours let them.

/// Between neighbours of a layer, in pixels.
const GAP_X: f64 = 22.0;
/// The same where one of them is an edge.
const GAP_EDGE: f64 = 12.0;
/// How often layers are moved.
const SWEEPS: usize = 16;

/// Something in a layer: a node, or an edge on its way.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub width: f64,
    pub height: f64,
    /// Its middle.
    pub x: f64,
    pub is_edge: bool,
    /// Items of the layer above and of the one below that it is connected to.
    pub above: Vec<usize>,
    pub below: Vec<usize>,
}

/// Moves the items of each layer to where their neighbours are, in their order and with room between them.
pub(super) fn place(items: &mut [Item], layers: &[Vec<usize>]) {
    for layer in layers {
        let mut x = 0.0;
        for (index, &item) in layer.iter().enumerate() {
            if index > 0 {
                x += distance(&items[layer[index - 1]], &items[item]);
            }
            items[item].x = x;
        }
        // Centred, so that one chain of single blocks is straight.
        for &item in layer {
            items[item].x -= x / 2.0;
        }
    }
    for sweep in 0..SWEEPS {
        let downward = sweep % 2 == 0;
        for index in 0..layers.len() {
            let layer = &layers[if downward { index } else { layers.len() - 1 - index }];
            let wanted: Vec<f64> = layer
                .iter()
                .map(|&item| {
                    let (above, below) = (&items[item].above, &items[item].below);
                    let of = match (downward, above.is_empty(), below.is_empty()) {
                        (true, false, _) | (_, false, true) => above,
                        _ => below,
                    };
                    match of.len() {
                        0 => items[item].x,
                        count => of.iter().map(|other| items[*other].x).sum::<f64>() / count as f64,
                    }
                })
                .collect();
            for (&item, x) in layer.iter().zip(apart(items, layer, &wanted)) {
                items[item].x = x;
            }
        }
    }
}

/// How far apart the middles of neighbours are at least.
fn distance(left: &Item, right: &Item) -> f64 {
    let gap = if left.is_edge || right.is_edge { GAP_EDGE } else { GAP_X };
    left.width / 2.0 + gap + right.width / 2.0
}

/// The places that are nearest to those wanted, in the sum of squares, with room between neighbours: what is wanted too near to each
/// other moves together to the middle of what it wants.
fn apart(items: &[Item], layer: &[usize], wanted: &[f64]) -> Vec<f64> {
    // Without the room that they need, places only have to ascend.
    let mut room = Vec::with_capacity(layer.len());
    let mut taken = 0.0;
    for (index, &item) in layer.iter().enumerate() {
        if index > 0 {
            taken += distance(&items[layer[index - 1]], &items[item]);
        }
        room.push(taken);
    }
    // Groups that move together: the sum of what they want, and how many they are.
    let mut groups: Vec<(f64, f64)> = Vec::new();
    for (wanted, room) in wanted.iter().zip(&room) {
        let mut group = (wanted - room, 1.0);
        while let Some(before) = groups.pop_if(|before| before.0 / before.1 > group.0 / group.1) {
            group = (before.0 + group.0, before.1 + group.1);
        }
        groups.push(group);
    }
    let places = groups
        .iter()
        .flat_map(|(sum, count)| std::iter::repeat_n(sum / count, *count as usize));
    places.zip(room).map(|(place, room)| place + room).collect()
}
