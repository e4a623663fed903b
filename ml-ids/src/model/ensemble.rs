//! From the attributes of a `TreeEnsembleClassifier` to a [`Forest`]: every index is checked here, once.
//!
//! tract's own reader trusts the file: a class out of range writes out of bounds, a cycle loops for ever, a bad child
//! panics at the first row (docs/models.md). What is not understood is refused, not guessed.

use tract_onnx::pb::{NodeProto, attribute_proto::AttributeType};

use super::{
    attributes::{Attributes, counted, of_length},
    faults::{EnsembleError, NodeFault, WeightFault},
    scan::printable,
    trees::{Forest, Node, TARGETS, Vote},
    walk::Tops,
};
use crate::features::FEATURE_COUNT;

/// Most trees of a forest.
const MAX_TREES: usize = 10_000;
/// Most classes.
pub(super) const MAX_CLASSES: usize = 256;
/// Most branches on a path. Unlimited trees on 300,000 rows stay below 100.
pub(super) const MAX_DEPTH: usize = 1024;
/// Most leaf weights other than 0: a node has to be able to name each.
const MAX_VOTES: usize = TARGETS;
/// How far the votes of a row may add up to something else than 1: float32 rounding of 10,000 weights and no more.
const SUM_TOLERANCE: f64 = 1e-3;
/// How far a node's cover may differ from the sum of its children's, relative: float32 rounding.
const COVER_TOLERANCE: f32 = 1e-4;

/// Reads and checks the ensemble.
pub(super) fn read(node: &NodeProto) -> Result<Forest, EnsembleError> {
    let attributes = Attributes::of(node)?;
    let classes = class_count(&attributes)?;
    let base = base(&attributes, classes)?;
    if attributes.0.contains_key("aggregate_function") {
        return Err(EnsembleError::Unsupported("aggregate_function".to_owned()));
    }
    let table = NodeTable::of(&attributes)?;
    let votes = LeafVotes::of(&attributes, &table, classes, base.is_some())?;
    Builder::new(&table, &votes, classes, base).build()
}

/// What boosted trees start from; `None` for a forest.
fn base(attributes: &Attributes<'_>, classes: usize) -> Result<Option<Vec<f64>>, EnsembleError> {
    let transform = attributes.typed("post_transform", AttributeType::String)?.map_or(&b"NONE"[..], |found| &found.s);
    let given = attributes.floats("base_values", None)?.filter(|values| !values.is_empty());
    match (transform, given) {
        (b"NONE", None) => Ok(None),
        (b"NONE", Some(_)) => Err(EnsembleError::Unsupported("base_values".to_owned())),
        (b"SOFTMAX", None) => Ok(Some(vec![0.0; classes])),
        (b"SOFTMAX", Some(values)) => {
            of_length("base_values", values, Some(classes))?;
            match values.iter().find(|value| !value.is_finite()) {
                Some(&value) => Err(EnsembleError::Base(value)),
                None => Ok(Some(values.iter().map(|&value| f64::from(value)).collect())),
            }
        }
        (other, _) => Err(EnsembleError::PostTransform(printable(other))),
    }
}

fn class_count(attributes: &Attributes<'_>) -> Result<usize, EnsembleError> {
    if attributes.0.contains_key("classlabels_strings") {
        return Err(EnsembleError::ClassLabels);
    }
    let labels = attributes.integers("classlabels_int64s", None)?;
    counted("classes", labels.len(), MAX_CLASSES)?;
    if labels.iter().zip(0..).all(|(&label, expected)| label == expected) {
        Ok(labels.len())
    } else {
        Err(EnsembleError::ClassLabels)
    }
}

/// The node attributes, known to be of one length and numbered in order.
struct NodeTable<'a> {
    /// Where each tree starts, and behind the last one the number of nodes.
    starts: Vec<usize>,
    modes: &'a [Vec<u8>],
    features: &'a [i64],
    thresholds: &'a [f32],
    lefts: &'a [i64],
    rights: &'a [i64],
    tracks_true: &'a [i64],
    cover: Option<&'a [f32]>,
}

impl<'a> NodeTable<'a> {
    fn of(attributes: &Attributes<'a>) -> Result<Self, EnsembleError> {
        let trees = attributes.integers("nodes_treeids", None)?;
        let count = counted("nodes", trees.len(), super::scan::MAX_NODES)?;
        let length = Some(count);
        let nodes = attributes.integers("nodes_nodeids", length)?;
        let mut starts = Vec::new();
        for (entry, (&tree, &node)) in trees.iter().zip(nodes).enumerate() {
            if tree == starts.len() as i64 {
                starts.push(entry);
            }
            let expected = starts.last().map(|&start| (starts.len() as i64 - 1, (entry - start) as i64));
            if expected != Some((tree, node)) {
                return Err(EnsembleError::Order { entry, tree, node });
            }
        }
        counted("trees", starts.len(), MAX_TREES)?;
        starts.push(count);
        let tracks_true = "nodes_missing_value_tracks_true";
        Ok(Self {
            starts,
            modes: attributes.strings("nodes_modes", count)?,
            features: attributes.integers("nodes_featureids", length)?,
            thresholds: attributes.floats("nodes_values", length)?.ok_or(EnsembleError::Missing("nodes_values"))?,
            lefts: attributes.integers("nodes_truenodeids", length)?,
            rights: attributes.integers("nodes_falsenodeids", length)?,
            tracks_true: match attributes.0.contains_key(tracks_true) {
                true => attributes.integers(tracks_true, None)?,
                false => &[],
            },
            cover: attributes.floats("nodes_hitrates", None)?.filter(|cover| !cover.is_empty()),
        })
        .and_then(|table| {
            of_length(tracks_true, table.tracks_true, (!table.tracks_true.is_empty()).then_some(count))?;
            table.cover.map_or(Ok(()), |cover| of_length("nodes_hitrates", cover, length).map(drop))?;
            Ok(table)
        })
    }

    fn trees(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether the node at `entry` is a leaf, `None` if its mode is neither.
    fn is_leaf(&self, entry: usize) -> Option<bool> {
        match &self.modes[entry][..] {
            b"LEAF" => Some(true),
            b"BRANCH_LEQ" => Some(false),
            _ => None,
        }
    }

    /// The entry of node `node` of tree `tree`, if there is one.
    fn entry(&self, tree: i64, node: i64) -> Option<usize> {
        let tree = usize::try_from(tree).ok().filter(|&tree| tree < self.trees())?;
        let entry = self.starts[tree].checked_add(usize::try_from(node).ok()?)?;
        (entry < self.starts[tree + 1]).then_some(entry)
    }
}

/// The votes of each node entry, sparse.
struct LeafVotes {
    /// The votes of entry `i` are `starts[i]..starts[i + 1]`.
    starts: Vec<u32>,
    votes: Vec<Vote>,
}

impl LeafVotes {
    fn of(
        attributes: &Attributes<'_>,
        table: &NodeTable<'_>,
        classes: usize,
        boosted: bool,
    ) -> Result<Self, EnsembleError> {
        let ids = attributes.integers("class_ids", None)?;
        let length = Some(ids.len());
        let trees = attributes.integers("class_treeids", length)?;
        let nodes = attributes.integers("class_nodeids", length)?;
        let weights = attributes.floats("class_weights", length)?.ok_or(EnsembleError::Missing("class_weights"))?;
        // skl2onnx writes two classes as the share of class 1, filed under class 0.
        let share_of_one = classes == 2 && ids.iter().all(|&id| id == 0);
        if share_of_one && boosted {
            // Runtimes disagree on whose score that is.
            return Err(EnsembleError::OneOfTwo);
        }

        let count = table.modes.len();
        let mut starts = vec![0u32; count + 1];
        let mut checked = Vec::with_capacity(ids.len());
        for (entry, (((&class, &tree), &node), &weight)) in ids.iter().zip(trees).zip(nodes).zip(weights).enumerate() {
            let fault = |fault| EnsembleError::Weight { entry, fault };
            let at = table.entry(tree, node).ok_or_else(|| fault(WeightFault::NoSuchNode { tree, node }))?;
            if table.is_leaf(at) == Some(false) {
                return Err(fault(WeightFault::NotALeaf { tree, node }));
            }
            let class = u16::try_from(class).ok().filter(|&class| usize::from(class) < classes);
            let class = class.ok_or_else(|| fault(WeightFault::Class(ids[entry])))?;
            if !weight.is_finite() || (weight < 0.0 && !boosted) {
                return Err(fault(WeightFault::Weight(weight)));
            }
            // Nine tenths of what skl2onnx writes are zeros.
            if weight != 0.0 {
                let class = if share_of_one { 1 } else { class };
                starts[at] += 1;
                checked.push((at, Vote { weight, class }));
            }
        }
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        // Filled from the back, each entry's end moves to its start and the file's order is kept.
        let mut votes = vec![Vote { weight: 0.0, class: 0 }; checked.len()];
        for (at, vote) in checked.into_iter().rev() {
            starts[at] -= 1;
            votes[starts[at] as usize] = vote;
        }
        let all = Self { starts, votes };
        let all = if share_of_one { all.with_the_rest_for_zero(table) } else { all };
        match all.votes.len() {
            found if found > MAX_VOTES => Err(EnsembleError::Count { what: "leaf weights", found, limit: MAX_VOTES }),
            _ => Ok(all),
        }
    }

    fn of_entry(&self, entry: usize) -> &[Vote] {
        &self.votes[self.starts[entry] as usize..self.starts[entry + 1] as usize]
    }

    /// Gives class 0 what class 1 leaves of each leaf's share.
    fn with_the_rest_for_zero(&self, table: &NodeTable<'_>) -> Self {
        let share = 1.0 / table.trees() as f64;
        let (mut starts, mut votes) = (vec![0u32], Vec::new());
        for entry in 0..table.modes.len() {
            if table.is_leaf(entry) == Some(true) {
                let ones = self.of_entry(entry);
                let rest = share - ones.iter().map(|vote| f64::from(vote.weight)).sum::<f64>();
                // Below float32's precision of a share it is nothing.
                if rest > share * 1e-7 {
                    votes.push(Vote { weight: rest as f32, class: 0 });
                }
                votes.extend_from_slice(ones);
            }
            starts.push(votes.len() as u32);
        }
        Self { starts, votes }
    }
}

/// Lays the trees out in preorder, following their links.
struct Builder<'a> {
    table: &'a NodeTable<'a>,
    votes: &'a LeafVotes,
    forest: Forest,
    reached: Vec<bool>,
    cover: Vec<f32>,
    /// Least and greatest possible sum of a row's votes.
    sums: (f64, f64),
}

/// A node that is still to be laid out.
struct Pending {
    entry: usize,
    depth: usize,
    /// The branch whose right child it is, as an index into the forest.
    right_of: Option<usize>,
}

impl<'a> Builder<'a> {
    fn new(table: &'a NodeTable<'a>, votes: &'a LeafVotes, classes: usize, base: Option<Vec<f64>>) -> Self {
        let count = table.modes.len();
        let forest = Forest {
            nodes: Vec::with_capacity(count),
            roots: Vec::with_capacity(table.trees()),
            tops: Tops::default(),
            further: Vec::new(),
            classes,
            depth: 0,
            base,
            cover: None,
        };
        Self { table, votes, forest, reached: vec![false; count], cover: Vec::new(), sums: (0.0, 0.0) }
    }

    fn build(mut self) -> Result<Forest, EnsembleError> {
        const { assert!(super::scan::MAX_NODES <= TARGETS) };
        for tree in 0..self.table.trees() {
            self.tree(tree)?;
        }
        let (least, most) = self.sums;
        let boosted = self.forest.base.is_some();
        if !boosted && ((least - 1.0).abs() > SUM_TOLERANCE || (most - 1.0).abs() > SUM_TOLERANCE) {
            return Err(EnsembleError::NotProbabilities { least, most });
        }
        let mut forest = self.forest;
        if self.table.cover.is_some() && adds_up(&forest, &self.cover) {
            forest.cover = Some(self.cover);
        }
        Ok(forest.finish())
    }

    fn tree(&mut self, tree: usize) -> Result<(), EnsembleError> {
        let table = self.table;
        let (start, end) = (table.starts[tree], table.starts[tree + 1]);
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        self.forest.roots.push(self.forest.nodes.len() as u32);
        let mut pending = vec![Pending { entry: start, depth: 0, right_of: None }];
        while let Some(Pending { entry, depth, right_of }) = pending.pop() {
            let fault = |fault| EnsembleError::Node { tree, node: entry - start, fault };
            if std::mem::replace(&mut self.reached[entry], true) {
                return Err(fault(NodeFault::ReachedTwice));
            }
            if depth > MAX_DEPTH {
                return Err(fault(NodeFault::TooDeep));
            }
            let at = self.forest.nodes.len();
            if let Some(parent) = right_of {
                self.forest.nodes[parent].set_right(at as u32);
            }
            self.forest.depth = self.forest.depth.max(depth);
            self.cover.extend(table.cover.map(|cover| cover[entry]));
            match table.is_leaf(entry) {
                None => return Err(fault(NodeFault::Mode(printable(&table.modes[entry])))),
                Some(true) => {
                    let sum = self.leaf(entry);
                    least = least.min(sum);
                    most = most.max(sum);
                }
                Some(false) => {
                    self.forest.nodes.push(branch(table, entry).map_err(fault)?);
                    let child = |id: i64| {
                        let child = table.entry(tree as i64, id).ok_or_else(|| fault(NodeFault::Child(id)));
                        child.map(|entry| Pending { entry, depth: depth + 1, right_of: None })
                    };
                    let (left, right) = (child(table.lefts[entry])?, child(table.rights[entry])?);
                    // Taken from the end: the left child comes next.
                    pending.extend([Pending { right_of: Some(at), ..right }, left]);
                }
            }
            if let Some(cover) = table.cover.map(|cover| cover[entry])
                && !(cover.is_finite() && cover >= 0.0)
            {
                return Err(fault(NodeFault::Cover(cover)));
            }
        }
        if let Some(lost) = self.reached[start..end].iter().position(|reached| !reached) {
            return Err(EnsembleError::Node { tree, node: lost, fault: NodeFault::Unreachable });
        }
        self.sums.0 += least;
        self.sums.1 += most;
        Ok(())
    }

    /// Adds a leaf and gives the sum of its votes.
    fn leaf(&mut self, entry: usize) -> f64 {
        let votes = self.votes.of_entry(entry);
        self.forest.push_leaf(votes);
        votes.iter().map(|vote| f64::from(vote.weight)).sum()
    }
}

fn branch(table: &NodeTable<'_>, entry: usize) -> Result<Node, NodeFault> {
    let feature = table.features[entry];
    let feature = u8::try_from(feature)
        .ok()
        .filter(|&feature| usize::from(feature) < FEATURE_COUNT)
        .ok_or(NodeFault::Feature(feature))?;
    let threshold = table.thresholds[entry];
    if !threshold.is_finite() {
        return Err(NodeFault::Threshold(threshold));
    }
    if table.tracks_true.get(entry).is_some_and(|&tracks_true| tracks_true != 0) {
        return Err(NodeFault::MissingTracksTrue);
    }
    Ok(Node::branch(feature, threshold))
}

/// Whether these really are sample counts: each branch has what its children have together. skl2onnx fills the
/// attribute with ones, and explanations made from those would be wrong without showing it.
fn adds_up(forest: &Forest, cover: &[f32]) -> bool {
    (0..forest.nodes.len()).all(|at| match forest.below(at) {
        super::trees::Below::Votes(_) => true,
        super::trees::Below::Children(left, right) => {
            let sum = cover[left] + cover[right];
            sum > 0.0 && (cover[at] - sum).abs() <= sum * COVER_TOLERANCE
        }
    })
}
