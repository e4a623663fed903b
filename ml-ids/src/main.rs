//! The `ml-ids` binary: wires the library together, nothing else.
fn main() {
    if let Err(e) = ml_ids::sensor::bench::kernel(|f| println!("{f:?}")) {
        println!("{e:?}")
    }
}
