//! What a model file says about itself, parsed from its `metadata_props`.
//!
//! The training side writes the same keys (`training/ml_ids_training/contract.py`); a change of meaning takes a new
//! `ml_ids.contract` number in both places.

use std::collections::HashSet;

use ml_ids_common::Profile;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{
    distribution::Distribution,
    ensemble::MAX_CLASSES,
    predictor::Kind,
    probes::{ProbeError, Probes},
};
use crate::features::{FEATURE_COUNT, FEATURES, FeatureVector};

/// The contract version this program keeps.
pub const VERSION: &str = "1";
/// The class at index 0 of every model.
pub const BENIGN: &str = "BENIGN";
/// Longest name of a model, a version or a class, in characters: they end up in logs and labels.
const MAX_NAME: usize = 128;

/// What is missing in the contract, or wrong with it.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ContractError {
    /// A required key is missing.
    #[error("the model's metadata lacks `{0}`; export it with the training package or add the key")]
    Missing(&'static str),
    /// A key occurs twice.
    #[error("the model's metadata has `{0}` twice")]
    Twice(String),
    /// Another contract version.
    #[error(
        "the model keeps contract `{0}`, this program knows contract `{VERSION}`; export it with the training package of this version"
    )]
    Version(String),
    /// A profile that does not exist.
    #[error("`ml_ids.profile` is `{0}`, expected fixed, cns2022 or cic2017")]
    Profile(String),
    /// A value that is not the JSON it should be.
    #[error("`{key}` is not {expected}: {error}")]
    Json {
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What the JSON parser said.
        error: String,
    },
    /// A name that is empty, too long or has control characters.
    #[error("`{0}` holds a name that is empty, longer than {MAX_NAME} characters or has control characters in it")]
    BadName(&'static str),
    /// The model was trained on other features or in another order.
    #[error("feature {position} of the model is `{found}`, expected `{expected}`")]
    Feature {
        /// Position, 1 to 78.
        position: usize,
        /// What the model has there; empty if its list is shorter.
        found: String,
        /// What belongs there; empty if the model's list is longer.
        expected: String,
    },
    /// Class 0 is not BENIGN, or a name occurs twice.
    #[error("`ml_ids.classes`: {0}")]
    Classes(String),
    /// A threshold is missing, of no class, or no probability.
    #[error("`ml_ids.thresholds`: {0}")]
    Thresholds(String),
    /// The replacements of NaN and Infinity are incomplete or not finite.
    #[error("`ml_ids.non_finite`: {0}")]
    NonFinite(String),
    /// A kind of model that does not exist.
    #[error("`ml_ids.kind` is `{0}`, expected forest, stacking or boosted")]
    Kind(String),
    /// Stored rows that are none.
    #[error(transparent)]
    Probes(#[from] ProbeError),
    /// `ml_ids.unused_features` names something that is no feature, or that the trees do look at.
    #[error("`ml_ids.unused_features`: {0}")]
    UnusedFeatures(String),
    /// The training distribution is not what it should be.
    #[error("`ml_ids.distribution`: {0}")]
    Distribution(String),
}

/// What becomes of values that are not finite, decided at training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NonFinite {
    /// In place of NaN.
    pub nan: f32,
    /// In place of Infinity.
    pub pos_inf: f32,
    /// In place of -Infinity.
    pub neg_inf: f32,
}

impl NonFinite {
    /// One measured value as the trees see it: replaced if it is not finite and rounded to float32 once.
    ///
    /// A finite value beyond float32 becomes infinite by rounding and is replaced then, as in training.
    #[must_use]
    pub fn apply(self, value: f64) -> f32 {
        let rounded = value as f32;
        if rounded.is_finite() {
            rounded
        } else if rounded.is_nan() {
            self.nan
        } else if rounded > 0.0 {
            self.pos_inf
        } else {
            self.neg_inf
        }
    }

    /// All 78 values as the trees see them.
    #[must_use]
    pub fn apply_all(self, row: &FeatureVector) -> [f32; FEATURE_COUNT] {
        row.map(|value| self.apply(value))
    }
}

/// The contract of a model. It has been checked: every field is what its type says.
#[derive(Clone, Debug, PartialEq)]
pub struct Contract {
    /// The model's name.
    pub name: String,
    /// The model's version, free text.
    pub version: String,
    /// The semantics of the feature vectors it was trained on and has to be fed.
    pub profile: Profile,
    /// What kind of model the file says it is; the graph has to be of it.
    pub kind: Option<Kind>,
    /// Rows with the answers that the model has to give.
    pub probes: Option<Probes>,
    /// Class names; index 0 is [`BENIGN`].
    pub classes: Vec<String>,
    /// Least probability of an alert for each class, 0 to 1. Infinity for BENIGN, which is never one.
    pub thresholds: Vec<f32>,
    /// What becomes of NaN and Infinity.
    pub non_finite: NonFinite,
    /// Indices of features that the trees never look at, ascending.
    pub unused_features: Vec<usize>,
    /// What it was trained on, free text; empty if the file does not say.
    pub training_data: String,
    /// Whose data that was, free text; empty if the file does not say.
    pub citation: String,
    /// When it was trained; empty if the file does not say.
    pub date: String,
    /// SHA-256 of the training inputs by file name.
    pub inputs_sha256: Map<String, Value>,
    /// What was measured at training; null if the file does not say.
    pub metrics: Value,
    /// What the training data looked like; `None` if the file does not say.
    pub distribution: Option<Distribution>,
}

/// The names that `ml_ids.features` has to list, in order.
pub(crate) fn expected_names() -> Vec<&'static str> {
    FEATURES.iter().map(|feature| feature.name).collect()
}

impl Contract {
    /// Reads the contract out of the file's metadata.
    pub(super) fn parse(metadata: &[(String, String)]) -> Result<Self, ContractError> {
        let metadata = Metadata::of(metadata)?;
        match metadata.required("ml_ids.contract")? {
            VERSION => {}
            other => return Err(ContractError::Version(shortened(other))),
        }
        let names = expected_names();
        check_features(&metadata.json::<Vec<_>>("ml_ids.features", "a JSON array of names")?, &names)?;
        let classes = parse_classes(metadata.json("ml_ids.classes", "a JSON array of names")?)?;
        let thresholds = parse_thresholds(&metadata.json("ml_ids.thresholds", "a JSON object")?, &classes)?;
        let probes: Option<Probes> = match metadata.optional("ml_ids.probes") {
            Some(_) => Some(metadata.json("ml_ids.probes", "rows and probabilities")?),
            None => None,
        };
        probes.as_ref().map_or(Ok(()), |probes| probes.check_shape(classes.len()))?;
        let unused_features = match metadata.optional("ml_ids.unused_features") {
            Some(_) => {
                parse_unused(&metadata.json::<Vec<_>>("ml_ids.unused_features", "a JSON array of names")?, &names)?
            }
            None => Vec::new(),
        };
        let distribution = metadata.optional("ml_ids.distribution");
        Ok(Self {
            name: metadata.name("ml_ids.name")?,
            version: metadata.name("ml_ids.version")?,
            profile: parse_profile(metadata.required("ml_ids.profile")?)?,
            kind: metadata.optional("ml_ids.kind").map(parse_kind).transpose()?,
            probes,
            classes,
            thresholds,
            non_finite: parse_non_finite(&metadata.json("ml_ids.non_finite", "a JSON object")?)?,
            training_data: metadata.text("ml_ids.training_data"),
            citation: metadata.text("ml_ids.citation"),
            date: metadata.text("ml_ids.date"),
            inputs_sha256: match metadata.optional("ml_ids.inputs_sha256") {
                Some(_) => metadata.json("ml_ids.inputs_sha256", "a JSON object")?,
                None => Map::new(),
            },
            metrics: match metadata.optional("ml_ids.metrics") {
                Some(_) => metadata.json("ml_ids.metrics", "JSON")?,
                None => Value::Null,
            },
            distribution: distribution.map(|text| Distribution::parse(text, &unused_features)).transpose()?,
            unused_features,
        })
    }
}

/// The `ml_ids.` keys of the file.
struct Metadata<'a>(&'a [(String, String)]);

impl<'a> Metadata<'a> {
    fn of(entries: &'a [(String, String)]) -> Result<Self, ContractError> {
        let mut seen = HashSet::new();
        for (key, _) in entries.iter().filter(|(key, _)| key.starts_with("ml_ids.")) {
            if !seen.insert(key) {
                return Err(ContractError::Twice(shortened(key)));
            }
        }
        Ok(Self(entries))
    }

    fn optional(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    fn required(&self, key: &'static str) -> Result<&'a str, ContractError> {
        self.optional(key).ok_or(ContractError::Missing(key))
    }

    fn json<T: DeserializeOwned>(&self, key: &'static str, expected: &'static str) -> Result<T, ContractError> {
        serde_json::from_str(self.required(key)?).map_err(|error| ContractError::Json {
            key,
            expected,
            error: error.to_string(),
        })
    }

    fn name(&self, key: &'static str) -> Result<String, ContractError> {
        let name = self.required(key)?;
        if is_name(name) { Ok(name.to_owned()) } else { Err(ContractError::BadName(key)) }
    }

    /// Free text, without the control characters that would move a terminal's cursor.
    fn text(&self, key: &str) -> String {
        let keep = |c: &char| !c.is_control() || *c == '\n';
        self.optional(key).map_or_else(String::new, |text| text.chars().filter(keep).collect())
    }
}

fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= MAX_NAME && !name.contains(char::is_control)
}

/// A piece of the file as it may stand in a message.
fn shortened(text: &str) -> String {
    super::scan::printable(text.as_bytes())
}

fn parse_profile(name: &str) -> Result<Profile, ContractError> {
    let known = Profile::ALL.into_iter().find(|profile| profile.name() == name);
    known.ok_or_else(|| ContractError::Profile(shortened(name)))
}

fn parse_kind(name: &str) -> Result<Kind, ContractError> {
    let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| ContractError::Kind(shortened(name)))
}

fn check_features(found: &[String], expected: &[&str]) -> Result<(), ContractError> {
    for index in 0..found.len().max(expected.len()) {
        let (found, expected) = (found.get(index).map(String::as_str), expected.get(index).copied());
        if found != expected {
            return Err(ContractError::Feature {
                position: index + 1,
                found: shortened(found.unwrap_or_default()),
                expected: expected.unwrap_or_default().to_owned(),
            });
        }
    }
    Ok(())
}

fn parse_classes(names: Vec<String>) -> Result<Vec<String>, ContractError> {
    let refuse = |fault: String| Err(ContractError::Classes(fault));
    if names.first().map(String::as_str) != Some(BENIGN) {
        return refuse(format!("the first class has to be {BENIGN}"));
    }
    if !(2..=MAX_CLASSES).contains(&names.len()) {
        return refuse(format!("{} classes, supported are 2 to {MAX_CLASSES}", names.len()));
    }
    let mut seen = HashSet::new();
    for name in &names {
        if !is_name(name) {
            return Err(ContractError::BadName("ml_ids.classes"));
        }
        if !seen.insert(name) {
            return refuse(format!("class `{name}` is listed twice"));
        }
    }
    Ok(names)
}

fn parse_thresholds(found: &Map<String, Value>, classes: &[String]) -> Result<Vec<f32>, ContractError> {
    let refuse = |fault: String| ContractError::Thresholds(fault);
    if let Some(name) = found.keys().find(|name| !classes[1..].contains(name)) {
        return Err(refuse(format!("`{}` is none of the attack classes", shortened(name))));
    }
    let mut thresholds = vec![f32::INFINITY];
    for class in &classes[1..] {
        let value = found.get(class).ok_or_else(|| refuse(format!("attack class `{class}` has none")))?;
        let value = value.as_f64().filter(|value| (0.0..=1.0).contains(value));
        thresholds.push(value.ok_or_else(|| refuse(format!("that of `{class}` is no number from 0 to 1")))? as f32);
    }
    Ok(thresholds)
}

fn parse_non_finite(found: &Map<String, Value>) -> Result<NonFinite, ContractError> {
    const KEYS: [&str; 3] = ["nan", "pos_inf", "neg_inf"];
    if let Some(key) = found.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(ContractError::NonFinite(format!("unknown key `{}`", shortened(key))));
    }
    let value = |key: &str| {
        let value = found.get(key).and_then(Value::as_f64).map(|value| value as f32).filter(|value| value.is_finite());
        value.ok_or_else(|| ContractError::NonFinite(format!("`{key}` is missing or no finite float32")))
    };
    let [nan, pos_inf, neg_inf] = KEYS.map(value);
    Ok(NonFinite { nan: nan?, pos_inf: pos_inf?, neg_inf: neg_inf? })
}

fn parse_unused(found: &[String], names: &[&str]) -> Result<Vec<usize>, ContractError> {
    let index = |name: &String| {
        let index = names.iter().position(|known| known == name);
        index.ok_or_else(|| ContractError::UnusedFeatures(format!("`{}` is no feature", shortened(name))))
    };
    let mut indices = found.iter().map(index).collect::<Result<Vec<_>, _>>()?;
    indices.sort_unstable();
    indices.dedup();
    Ok(indices)
}
