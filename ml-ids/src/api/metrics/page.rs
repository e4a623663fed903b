//! A page of metrics in the making: what each part has to say, in the shapes that there are.

use std::{collections::HashMap, fmt};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, exemplar::Exemplar, gauge::ConstGauge, info::Info},
    registry::Registry,
};

use crate::histogram::Shape;

/// Labels with their values.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// Where metrics are put. Names are without prefix, and those of counters without `_total`.
pub(super) struct Page<'a>(pub(super) &'a mut Registry);

impl Page<'_> {
    /// What says who something is.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: Vec<(&'static str, String)>) {
        self.0.register(name, help, Info::new(labels));
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.0.register(name, help, ConstGauge::new(value));
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, count: u64) {
        self.0.register(name, help, ConstCounter::new(count));
    }

    /// A counter of seconds.
    pub(super) fn seconds(&mut self, name: &str, help: &str, seconds: f64) {
        self.0.register(name, help, ConstCounter::new(seconds));
    }

    /// A gauge for each set of labels.
    pub(super) fn gauges<'v, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'v, N>, f64)>,
    ) {
        self.family(name, help, MetricType::Gauge, values, ConstGauge::new);
    }

    /// A counter for each set of labels.
    pub(super) fn counters<'v, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        counts: impl IntoIterator<Item = (Labels<'v, N>, u64)>,
    ) {
        self.family(name, help, MetricType::Counter, counts, ConstCounter::new);
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, shape: Shape) {
        self.0.register(name, help, Drawn(shape));
    }

    /// A histogram for each set of labels.
    pub(super) fn histograms<'v, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        shapes: impl IntoIterator<Item = (Labels<'v, N>, Shape)>,
    ) {
        self.family(name, help, MetricType::Histogram, shapes, Drawn);
    }

    /// Nothing at all where there are no members: a name without a value tells nobody anything.
    fn family<'v, const N: usize, V, M: EncodeMetric + fmt::Debug + Send + Sync + 'static>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl IntoIterator<Item = (Labels<'v, N>, V)>,
        metric: impl Fn(V) -> M,
    ) {
        let owned = |labels: Labels<'v, N>| labels.map(|(name, value)| (name, value.to_owned()));
        let members: Vec<_> = values.into_iter().map(|(labels, value)| (Owned(owned(labels)), metric(value))).collect();
        if !members.is_empty() {
            self.0.register(name, help, Family { kind, members });
        }
    }
}

#[derive(Debug)]
struct Owned<const N: usize>([(&'static str, String); N]);

impl<const N: usize> EncodeLabelSet for Owned<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

#[derive(Debug)]
struct Family<const N: usize, M> {
    kind: MetricType,
    members: Vec<(Owned<N>, M)>,
}

impl<const N: usize, M: EncodeMetric> EncodeMetric for Family<N, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, metric) in &self.members {
            metric.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }
}

/// A distribution as the crate writes its own.
#[derive(Debug)]
struct Drawn(Shape);

impl EncodeMetric for Drawn {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Self(shape) = self;
        let none: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;
        encoder.encode_histogram(shape.sum, shape.count(), &shape.buckets, none)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
