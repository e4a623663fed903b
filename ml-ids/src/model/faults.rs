//! The ways in which trees can be broken, in words.

use thiserror::Error;

use super::ensemble::MAX_DEPTH;
use crate::features::FEATURE_COUNT;

/// What is wrong with the trees.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum EnsembleError {
    /// A required attribute is missing.
    #[error("the ensemble lacks attribute `{0}`")]
    Missing(&'static str),
    /// An attribute occurs twice.
    #[error("the ensemble has attribute `{0}` twice")]
    Twice(String),
    /// An attribute that this program does not implement.
    #[error("the ensemble has attribute `{0}`, which is not supported")]
    Unsupported(String),
    /// An attribute has another type than ONNX gives it.
    #[error("attribute `{0}` has the wrong type")]
    WrongType(&'static str),
    /// Attributes that belong together differ in length.
    #[error("attribute `{name}` has {found} values, expected {expected}")]
    Length {
        /// The attribute.
        name: &'static str,
        /// Its length.
        found: usize,
        /// The length it should have.
        expected: usize,
    },
    /// Too many or too few of something.
    #[error("the ensemble has {found} {what}, supported are 1 to {limit}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The scores are made of the votes in a way that is not implemented.
    #[error("post transform `{0}` is not supported, only NONE (a forest) and SOFTMAX (boosted trees)")]
    PostTransform(String),
    /// NaN or Infinity among the scores that boosted trees start from.
    #[error("a base value is {0}, not a finite number")]
    Base(f32),
    /// Boosted trees over two classes whose weights are all filed under class 0.
    #[error("boosted trees over two classes have weights for class 0 only; write those of class 1 as class 1")]
    OneOfTwo,
    /// The class labels are not 0, 1, 2, …
    #[error("class labels have to be the integers 0, 1, 2, … in order; class names belong in ml_ids.classes")]
    ClassLabels,
    /// Trees or nodes are not numbered in order.
    #[error(
        "node entry {entry} is node {node} of tree {tree}, expected trees and their nodes numbered 0, 1, 2, … in order"
    )]
    Order {
        /// Position in the attributes.
        entry: usize,
        /// Its tree.
        tree: i64,
        /// Its node.
        node: i64,
    },
    /// Something about one node.
    #[error("node {node} of tree {tree}: {fault}")]
    Node {
        /// The tree.
        tree: usize,
        /// The node's number in its tree.
        node: usize,
        /// What is wrong with it.
        fault: NodeFault,
    },
    /// Something about one leaf weight.
    #[error("leaf weight {entry}: {fault}")]
    Weight {
        /// Position in the attributes.
        entry: usize,
        /// What is wrong with it.
        fault: WeightFault,
    },
    /// Votes that are no probabilities.
    #[error("the leaf weights of a row add up to between {least} and {most}, not to 1, so they are no probabilities")]
    NotProbabilities {
        /// Least possible sum.
        least: f64,
        /// Greatest possible sum.
        most: f64,
    },
}

/// What is wrong with one node.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum NodeFault {
    /// A mode other than BRANCH_LEQ and LEAF.
    #[error("mode `{0}` is not supported, only BRANCH_LEQ and LEAF")]
    Mode(String),
    /// A feature that does not exist.
    #[error("feature {0} does not exist, there are {FEATURE_COUNT}")]
    Feature(i64),
    /// NaN or Infinity as threshold.
    #[error("the threshold is {0}, not a finite number")]
    Threshold(f32),
    /// A child outside of the tree.
    #[error("child {0} does not exist in its tree")]
    Child(i64),
    /// A node with two parents, or its own ancestor.
    #[error("it is reached twice, so this is no tree")]
    ReachedTwice,
    /// A node that no path leads to.
    #[error("no path leads to it")]
    Unreachable,
    /// A path that is too long.
    #[error("it lies deeper than {MAX_DEPTH} branches")]
    TooDeep,
    /// NaN takes the true branch.
    #[error("missing values take the true branch, which is not supported")]
    MissingTracksTrue,
    /// NaN, Infinity or a negative number of samples.
    #[error("the hit rate is {0}, not a number of samples")]
    Cover(f32),
}

/// What is wrong with one leaf weight.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum WeightFault {
    /// The node does not exist.
    #[error("node {node} of tree {tree} does not exist")]
    NoSuchNode {
        /// The tree it names.
        tree: i64,
        /// The node it names.
        node: i64,
    },
    /// The node is a branch.
    #[error("node {node} of tree {tree} is no leaf")]
    NotALeaf {
        /// The tree it names.
        tree: i64,
        /// The node it names.
        node: i64,
    },
    /// The class does not exist.
    #[error("class {0} does not exist")]
    Class(i64),
    /// NaN, Infinity, or negative in a forest.
    #[error("the weight is {0}, not a share of votes")]
    Weight(f32),
}
