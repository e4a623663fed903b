//! One line a verdict on standard error, by way of the log: alerts as warnings, the rest as information.
//! `RUST_LOG=info,verdict=warn` shows alerts only.

use log::{Level, log};

use super::eve::protocol_name;
use crate::{detect::Verdict, model::Model};

/// The log target of verdict lines.
const TARGET: &str = "verdict";

pub(super) fn write(verdict: &Verdict, model: &Model) {
    let record = &verdict.record;
    let (source, destination) = (record.source(), record.destination());
    let state = record.state();
    let label = model.contract().classes.get(verdict.score.class).map_or("?", String::as_str);
    let level = if verdict.alert { Level::Warn } else { Level::Info };
    log!(
        target: TARGET,
        level,
        "{}{label} {:.3} {} {} -> {} {} packets {} bytes {:.3} s ended by {}{}",
        if verdict.alert { "ALERT " } else { "" },
        verdict.score.probability,
        protocol_name(record.protocol()),
        std::net::SocketAddr::from(source),
        std::net::SocketAddr::from(destination),
        state.packets(),
        state.forward.length_sum + state.backward.length_sum,
        record.duration_us() as f64 / 1e6,
        record.reason().name(),
        match verdict {
            Verdict { untrained: true, .. } => " (unlike any training flow)",
            Verdict { out_of_distribution: true, .. } => " (far outside the training data)",
            _ => "",
        },
    );
}
