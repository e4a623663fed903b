//! The top of a tree as a table: those of its branches that most rows come by, taken by all rows.
//!
//! Comparing a whole column with a threshold takes two instructions for 16 rows; fetching a branch and a value for each
//! row takes many more. Where many rows come by it pays to make the comparison for all of them, and to find out afterwards
//! for which of them it counted.

use std::{cmp::Ordering, collections::BinaryHeap};

use super::super::trees::{Forest, Node};

/// Most branches of a top for instruction sets that compare many values at a time. One more costs a comparison of all
/// rows, and saves those that would have come by it a step of the walk.
const WIDE: usize = 63;
/// Most branches of a top for those that do not.
const NARROW: usize = 7;
/// Most ways out of a top.
pub(super) const EXITS: usize = WIDE + 1;
/// Places in a top, rounded up to a power of two: its branches and the ways out of it.
pub(super) const PLACES: usize = 128;
const _: () = assert!(2 * WIDE < PLACES);

/// The tops of a forest's trees.
#[derive(Default)]
pub(in super::super) struct Tops {
    #[cfg(target_arch = "x86_64")]
    pub(super) wide: Table,
    pub(super) narrow: Table,
}

/// Tops of one size, one after the other.
#[derive(Default)]
pub(super) struct Table {
    branches: Vec<Branch>,
    exits: Vec<Exit>,
    /// Where each tree's top ends.
    ends: Vec<End>,
}

/// A branch of a top. The children of branch number `i` have the places `2 i + 1` and `2 i + 2`; the root has place 0.
#[derive(Clone, Copy)]
pub(super) struct Branch {
    pub(super) threshold: f32,
    pub(super) feature: u8,
    pub(super) place: u8,
}

/// A way out of a top.
#[derive(Clone, Copy)]
pub(super) struct Exit {
    /// Where it leads: a node of the forest.
    pub(super) node: u32,
    pub(super) place: u8,
}

/// Where the top of a tree ends.
#[derive(Clone, Copy, Default)]
struct End {
    branches: u32,
    exits: u32,
    /// How many of its exits lead to branches.
    inner: u32,
}

/// The top of one tree.
#[derive(Clone, Copy)]
pub(super) struct Top<'a> {
    /// Each behind its parent.
    pub(super) branches: &'a [Branch],
    pub(super) exits: &'a [Exit],
    /// The first of the exits, those to branches. The others lead to leaves.
    pub(super) inner: &'a [Exit],
}

impl Tops {
    /// The tops of a forest whose trees are complete.
    pub(in super::super) fn of(forest: &Forest) -> Self {
        let made;
        // How many rows come by a node is what training has seen. If the file does not say, large subtrees stand for it.
        let weights = match &forest.cover {
            Some(cover) => cover,
            None => {
                made = sizes(&forest.nodes);
                &made
            }
        };
        let table = |most| Table::of(forest, weights, most);
        Self {
            #[cfg(target_arch = "x86_64")]
            wide: table(WIDE),
            narrow: table(NARROW),
        }
    }
}

/// The number of nodes at and below each node.
fn sizes(nodes: &[Node]) -> Vec<f32> {
    let mut sizes = vec![1.0; nodes.len()];
    // In preorder every child lies behind its parent.
    for (at, node) in nodes.iter().enumerate().rev().filter(|(_, node)| !node.is_leaf()) {
        sizes[at] += sizes[at + 1] + sizes[node.target() as usize];
    }
    sizes
}

impl Table {
    fn of(forest: &Forest, weights: &[f32], most: usize) -> Self {
        let mut table = Self::default();
        for &root in &forest.roots {
            table.add(&forest.nodes, root, weights, most);
        }
        table
    }

    /// Adds the top of the tree at `root`: its `most` heaviest branches.
    fn add(&mut self, nodes: &[Node], root: u32, weights: &[f32], most: usize) {
        let reached = |node: u32, place: usize| Reached { weight: weights[node as usize], node, place: place as u8 };
        let (mut inner, mut leaves) = (Vec::new(), Vec::new());
        let mut heap = BinaryHeap::from([reached(root, 0)]);
        let mut count = 0;
        while let Some(Reached { node: at, place, .. }) = heap.pop() {
            let node = nodes[at as usize];
            if node.is_leaf() {
                leaves.push(Exit { node: at, place });
            } else if count == most {
                inner.push(Exit { node: at, place });
            } else {
                self.branches.push(Branch { threshold: node.threshold, feature: node.feature() as u8, place });
                heap.extend([reached(at + 1, 2 * count + 1), reached(node.target(), 2 * count + 2)]);
                count += 1;
            }
        }
        self.exits.extend(inner.iter().chain(&leaves));
        let [branches, exits, inner] = [self.branches.len(), self.exits.len(), inner.len()].map(|length| length as u32);
        self.ends.push(End { branches, exits, inner });
    }

    /// The top of tree number `tree`.
    #[inline(always)]
    pub(super) fn top(&self, tree: usize) -> Top<'_> {
        let start = tree.checked_sub(1).map_or(End::default(), |before| self.ends[before]);
        let end = self.ends[tree];
        let exits = &self.exits[start.exits as usize..end.exits as usize];
        Top {
            branches: &self.branches[start.branches as usize..end.branches as usize],
            exits,
            inner: &exits[..end.inner as usize],
        }
    }
}

/// A node that the top has grown to; the heaviest is the greatest.
struct Reached {
    weight: f32,
    node: u32,
    place: u8,
}

impl Ord for Reached {
    fn cmp(&self, other: &Self) -> Ordering {
        self.weight.total_cmp(&other.weight).then(other.node.cmp(&self.node))
    }
}

impl PartialOrd for Reached {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Reached {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Reached {}

#[cfg(test)]
mod tests {
    use super::{super::super::trees::Vote, *};

    /// A root with three branches on its left and one on its right.
    fn forest() -> Forest {
        let mut forest = Forest {
            nodes: Vec::new(),
            roots: vec![0],
            tops: Tops::default(),
            further: Vec::new(),
            classes: 1,
            depth: 3,
            base: None,
            cover: None,
        };
        let rights = [Some(6), Some(5), Some(4), None, None, None, Some(8), None, None];
        for (at, right) in rights.into_iter().enumerate() {
            match right {
                Some(right) => {
                    forest.nodes.push(Node::branch(at as u8, 0.5));
                    forest.nodes[at].set_right(right);
                }
                None => forest.push_leaf(&[Vote { weight: 1.0, class: 0 }]),
            }
        }
        forest
    }

    /// The branches of a top of that many, and where its ways out lead: to branches, and anywhere.
    fn top_of(weights: &[f32], most: usize) -> [Vec<u32>; 3] {
        let table = Table::of(&forest(), weights, most);
        let top = table.top(0);
        let nodes = |exits: &[Exit]| exits.iter().map(|exit| exit.node).collect();
        [top.branches.iter().map(|branch| u32::from(branch.feature)).collect(), nodes(top.inner), nodes(top.exits)]
    }

    #[test]
    fn the_heaviest_branches_are_the_top() {
        let weights = [10.0, 3.0, 2.0, 1.0, 1.0, 1.0, 7.0, 4.0, 3.0];
        assert_eq!(top_of(&weights, 2), [vec![0, 6], vec![1], vec![1, 7, 8]]);
        assert_eq!(top_of(&weights, 3), [vec![0, 6, 1], vec![2], vec![2, 7, 8, 5]]);
        assert_eq!(top_of(&weights, 63), [vec![0, 6, 1, 2], vec![], vec![7, 8, 3, 4, 5]]);
    }

    #[test]
    fn without_rows_to_count_the_largest_subtrees_are_the_heaviest() {
        let sizes = sizes(&forest().nodes);
        assert_eq!(sizes, [9.0, 5.0, 3.0, 1.0, 1.0, 1.0, 3.0, 1.0, 1.0]);
        assert_eq!(top_of(&sizes, 2), [vec![0, 1], vec![2, 6], vec![2, 6, 5]]);
    }

    #[test]
    fn a_place_is_that_of_the_parents_child() {
        let table = Table::of(&forest(), &sizes(&forest().nodes), 63);
        let top = table.top(0);
        let places: Vec<_> = top.branches.iter().map(|branch| (branch.feature, branch.place)).collect();
        assert_eq!(places, [(0, 0), (1, 1), (2, 3), (6, 2)]);
    }
}
