//! Events in the shape of Suricata's EVE, with our own part under `ml`: one file a kind.

mod verdict;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub(crate) use verdict::verdict;

/// A time as events have it.
pub(crate) fn timestamp(unix_us: u64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_us) * 1_000).ok()?;
    time.format(&Rfc3339).ok()
}
