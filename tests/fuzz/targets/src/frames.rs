//! Frames and clock moves through the parser and the flow engine, every finished flow recounted.

use ml_ids_fuzz::sequence;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "frames",
    about: "frames and clock moves through packet parser and flow engine",
    run,
    longest: 4096,
    words: &[b"\x08\x00\x45", b"\x86\xdd\x60", b"\x81\x00", b"\x12\xb5", b"\x17\xc1", b"\x65\x58", b"\x88\xbe"],
    seeds: &[],
};

fn run(data: &[u8]) {
    if let Err(fault) = sequence::run(data) {
        panic!("{fault}");
    }
}
