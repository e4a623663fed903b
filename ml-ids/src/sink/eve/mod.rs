//! Events in the shape of Suricata's EVE, with our own part under `ml`: one file an object.
//!
//! What each field means is `docs/EVE.md`; what an event may hold is `docs/schema/eve.schema.json`.

mod alert;
mod community_id;
mod flow;
mod kubernetes;
mod ml;
mod stats;
mod tcp;
mod verdict;

use time::{
    OffsetDateTime,
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

use crate::{alert::Severities, kubernetes::Pods};

pub use alert::alert;
pub use community_id::{Endpoints, community_id};
pub use flow::flow;
pub(crate) use flow::protocol_name;
pub use stats::{StatsSource, stats};
pub use verdict::{judged_flow, verdict};

/// As Suricata writes times. Its readers take no other form: RFC 3339 wants a colon in the offset, or `Z`.
const SURICATA: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+0000");

/// Where events come from: what no flow knows of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// The sensor's name; empty for none.
    pub host: &'a str,
    /// The interface's name.
    pub interface: Option<&'a str>,
    /// The seed of Community IDs, the same for all sensors whose events are to be joined.
    pub community_id_seed: u16,
    /// How grave classes are; `None` is as the table of classes has it.
    pub severities: Option<&'a Severities>,
    /// The pods of this node, where they are asked for.
    pub pods: Option<&'a Pods>,
}

/// A time as the API and the log of blocks have it: RFC 3339.
pub(crate) fn timestamp(unix_us: u64) -> Option<String> {
    moment(unix_us)?.format(&Rfc3339).ok()
}

/// A time as events have it: `2026-11-27T07:30:00.123456+0000`.
#[must_use]
pub fn eve_timestamp(unix_us: u64) -> Option<String> {
    moment(unix_us)?.format(SURICATA).ok()
}

/// The float64 that prints as the float32 does: 0.1, not 0.10000000149011612.
pub(crate) fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

fn moment(unix_us: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_us) * 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_carry_six_digits_and_an_offset_without_a_colon_whatever_the_time() {
        assert_eq!(eve_timestamp(1_499_348_422_024_349).as_deref(), Some("2017-07-06T13:40:22.024349+0000"));
        assert_eq!(eve_timestamp(0).as_deref(), Some("1970-01-01T00:00:00.000000+0000"));
        assert_eq!(eve_timestamp(u64::MAX), None);
    }
}
