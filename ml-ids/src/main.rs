//! The `ml-ids` binary: wires the library together, nothing else.
fn main() {}
