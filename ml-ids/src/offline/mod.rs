//! Offline replay: a capture file through the very engine that runs in the kernel.
//!
//! ```text
//! source (file, gzip, zstd) ─► capture (pcap, pcapng) ─► link (Ethernet, SLL, …) ─► replay ─► FlowRecord ─► table ─► rows of text, or columns
//! ```
//!
//! [`replay`] does this on one thread, flow by flow; [`pipeline::replay`] on any number, in batches of flows; [`ReplaySensor`]
//! at the capture's pace, as a live sensor would have seen it.

mod buffer;
mod capture;
pub mod columns;
mod fragments;
mod link;
mod pcapng;
pub mod pipeline;
mod readdress;
mod replay;
pub mod row_groups;
pub mod rows;
mod sensor;
pub mod source;
mod speed;
pub mod table;
mod text;

use std::io::Read;

use ml_ids_common::FlowRecord;

pub use capture::{Capture, CaptureError, Frame, MAX_BLOCK};
pub use link::{LinkType, parse_frame};
pub use replay::{MAX_FLOWS, ParsedFrame, Replay};
pub use sensor::{OpenCapture, Reopen, ReplayOptions, ReplaySensor, ReplayState};
pub use speed::Speed;

/// Replays a capture from where it stands to its end, and ends the flows that are still open. Finished flows go to
/// `emit` in the order in which they end; the first error from it stops the replay and is returned.
///
/// A damaged capture is replayed as far as it can be read; the damage is the value returned.
///
/// # Errors
/// Only those of `emit`.
pub fn replay<R: Read, E>(
    capture: &mut Capture<R>,
    replay: &mut Replay,
    mut emit: impl FnMut(FlowRecord) -> Result<(), E>,
) -> Result<Option<CaptureError>, E> {
    let (profile, decap) = (replay.profile(), replay.decap());
    let damage = loop {
        match capture.next_frame() {
            Ok(Some(frame)) => {
                let parsed = parse_frame(frame.link, frame.data, profile, decap);
                replay.frame(parsed, frame.data.len(), frame.time_us, &mut emit)?;
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    replay.end(&mut emit)?;
    Ok(damage)
}
