//! The fuzzer of the packet parser and the flow engine: hostile frames and clocks, what holds of every finished flow, and
//! the same engine driven by the bytes of a coverage-guided fuzzer.

pub mod episode;
mod frames;
pub mod identities;
mod mutate;
pub mod random;
mod recount;
pub mod sequence;
mod table;
mod tunnels;
