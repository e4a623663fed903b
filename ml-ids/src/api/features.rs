//! `GET /features`: the feature table, for those who write clients.

use std::sync::LazyLock;

use hyper::HeaderMap;
use ml_ids_common::Profile;
use serde::Serialize;

use super::{answer::Answer, fixed::Fixed};
use crate::features::FEATURES;

#[derive(Serialize)]
struct Table {
    /// In which a flow can be counted; the units are the same.
    profiles: [&'static str; 3],
    features: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    /// Position in a row of 78 numbers, from 0.
    index: usize,
    names: Names,
    unit: &'static str,
    description: &'static str,
    differs: &'static str,
}

#[derive(Serialize)]
struct Names {
    machine_learning_cve: &'static str,
    cicflowmeter4: Option<&'static str>,
    cicflowmeter2018: Option<&'static str>,
    python: Option<&'static str>,
}

pub(crate) fn features(headers: &HeaderMap) -> Answer {
    static TABLE: LazyLock<Fixed> = LazyLock::new(|| Fixed::json(&table()));
    TABLE.answer(headers)
}

fn table() -> Table {
    let features = FEATURES.iter().enumerate().map(|(index, feature)| Entry {
        index,
        names: Names {
            machine_learning_cve: feature.name,
            cicflowmeter4: feature.cicflowmeter4,
            cicflowmeter2018: feature.cicflowmeter2018,
            python: feature.python,
        },
        unit: feature.unit,
        description: feature.description,
        differs: feature.differs,
    });
    Table { profiles: Profile::ALL.map(Profile::name), features: features.collect() }
}
