//! What clients get back: the JSON of verdicts, and responses made of JSON.

use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    content::Content,
    predictor::{Contribution, Explanation, ModelCard, Prediction},
    table::Ends,
};

/// Any answer.
pub(crate) type Answer = Response<Content>;

/// A response with a JSON body.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // Strings, numbers and string-keyed maps only: nothing that serialising could refuse.
    let body = serde_json::to_vec(value).unwrap_or_else(|_| br#"{"detail":"answer could not be written"}"#.to_vec());
    typed(status, "application/json", body)
}

/// A response with this content. Nothing here may be cached or guessed at.
pub(crate) fn typed(status: StatusCode, media: &'static str, content: impl Into<Content>) -> Answer {
    let mut response = Response::new(content.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The verdict on one flow: the whole answer to a single flow, one of `results` in a batch.
#[derive(Serialize)]
pub(crate) struct Verdict<'a> {
    prediction: [usize; 1],
    label: &'a str,
    probability: f32,
    probabilities: ByClass<'a>,
    alert: bool,
    out_of_distribution: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<ModelName<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explained: Option<Explained>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Vec<Contribution>>,
    warnings: &'a [String],
}

impl<'a> Verdict<'a> {
    /// The verdict alone; the error is a model that breaks its own contract.
    pub(crate) fn new(card: &'a ModelCard, prediction: &'a Prediction, warnings: &'a [String]) -> Result<Self, String> {
        let Prediction { class, probability, probabilities, alert, out_of_distribution } = prediction;
        let label = card.classes.get(*class).ok_or_else(|| format!("class {class} has no name"))?;
        if probabilities.len() != card.classes.len() {
            return Err(format!("{} probabilities for {} classes", probabilities.len(), card.classes.len()));
        }
        if !probability.is_finite() || probabilities.iter().any(|value| !value.is_finite()) {
            return Err("a probability is not a finite number".to_owned());
        }
        Ok(Self {
            prediction: [*class],
            label,
            probability: *probability,
            probabilities: ByClass { classes: &card.classes, values: probabilities },
            alert: *alert,
            out_of_distribution: *out_of_distribution,
            model: None,
            explained: None,
            explanation: None,
            warnings,
        })
    }

    /// With what only the answer to a single flow has.
    pub(crate) fn in_full(mut self, card: &'a ModelCard, explanation: Option<Explanation>) -> Self {
        self.model = Some(ModelName::of(card));
        let (explained, contributions) = match explanation {
            Some(Explanation { space, base, score, contributions }) => {
                (Some(Explained { space, base, score }), contributions)
            }
            None => (None, Vec::new()),
        };
        self.explained = explained;
        self.explanation = Some(contributions);
        self
    }
}

/// The model in an answer; `GET /model` has the rest.
#[derive(Serialize)]
pub(crate) struct ModelName<'a> {
    name: &'a str,
    version: &'a str,
    profile: &'a str,
}

impl<'a> ModelName<'a> {
    pub(crate) fn of(card: &'a ModelCard) -> Self {
        Self { name: &card.name, version: &card.version, profile: card.profile }
    }
}

/// The answer to a list of flows.
#[derive(Serialize)]
pub(crate) struct Batch<'a> {
    pub(crate) predictions: Vec<&'a str>,
    pub(crate) results: Vec<Verdict<'a>>,
    pub(crate) model: ModelName<'a>,
    pub(crate) warnings: Vec<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) first_client: Option<FirstClient<'a>>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(card: &'a ModelCard, results: Vec<Verdict<'a>>, warnings: Vec<String>) -> Self {
        let predictions = results.iter().map(|verdict| verdict.label).collect();
        Self { predictions, results, model: ModelName::of(card), warnings, first_client: None }
    }

    /// With what releases 0.1 of the Python client print. They pop `result` and `probability` and index the one popped
    /// by the other.
    pub(crate) fn for_first_client(mut self, ends: &'a Ends) -> Self {
        let Ends { src_ip, src_port, dst_ip, dst_port } = ends;
        self.first_client = Some(FirstClient {
            result: self.results.iter().map(|verdict| verdict.prediction[0]).collect(),
            probability: self.results.iter().map(|verdict| verdict.probabilities.values).collect(),
            src_ip,
            src_port,
            dst_ip,
            dst_port,
        });
        self
    }
}

/// See [`Batch::for_first_client`].
#[derive(Serialize)]
pub(crate) struct FirstClient<'a> {
    result: Vec<usize>,
    probability: Vec<&'a [f32]>,
    src_ip: &'a str,
    src_port: &'a str,
    dst_ip: &'a str,
    dst_port: &'a str,
}

struct ByClass<'a> {
    classes: &'a [String],
    values: &'a [f32],
}

impl Serialize for ByClass<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len()))?;
        for (class, value) in self.classes.iter().zip(self.values) {
            map.serialize_entry(class, value)?;
        }
        map.end()
    }
}

/// What the contributions are parts of, from where they start, and what they come to with those that are not shown.
#[derive(Serialize)]
struct Explained {
    space: &'static str,
    base: f32,
    score: f32,
}
