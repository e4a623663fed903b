//! The table at the end of `ml-ids score`: what the flows were taken for, and how sure the model was.

use std::{collections::HashMap, io::Write, net::IpAddr, time::Duration};

use super::tally::Tally;
use crate::{detect::Judged, model::Model};

/// Sources of a class that are counted one by one. With more, the counts are lower bounds, and the top one is still found
/// if it has more than one flow in as many.
const MAX_SOURCES: usize = 4096;

/// What was counted of each class.
pub(super) struct Classes(Vec<Class>);

struct Class {
    name: String,
    flows: u64,
    alerts: u64,
    /// Sum of the probabilities.
    probability: f64,
    sources: Sources,
}

impl Classes {
    /// Those of a model.
    pub(super) fn of(model: &Model) -> Self {
        let class = |name: &String| Class {
            name: name.clone(),
            flows: 0,
            alerts: 0,
            probability: 0.0,
            sources: Sources::default(),
        };
        Self(model.contract().classes.iter().map(class).collect())
    }

    /// Counts a verdict.
    pub(super) fn count(&mut self, class: usize, probability: f32, alert: bool, source: Option<IpAddr>) {
        let Some(class) = self.0.get_mut(class) else { return };
        class.flows += 1;
        class.alerts += u64::from(alert);
        class.probability += f64::from(probability);
        if let Some(source) = source {
            class.sources.count(source);
        }
    }

    /// Counts verdicts on flows.
    pub(super) fn count_verdicts(&mut self, judged: &Judged) {
        for verdict in &judged.verdicts {
            let score = &verdict.score;
            self.count(score.class, score.probability, verdict.alert, Some(verdict.record.source().0));
        }
    }
}

/// The most frequent sources, by the algorithm of Misra and Gries.
#[derive(Default)]
struct Sources {
    counts: HashMap<IpAddr, u64>,
    /// Some have been forgotten.
    rounded: bool,
}

impl Sources {
    fn count(&mut self, source: IpAddr) {
        if let Some(count) = self.counts.get_mut(&source) {
            *count += 1;
        } else if self.counts.len() < MAX_SOURCES {
            self.counts.insert(source, 1);
        } else {
            self.rounded = true;
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// The first of those with the most flows.
    fn top(&self) -> String {
        let top = self.counts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        let more = if self.rounded { "at least " } else { "" };
        top.map_or_else(|| "-".to_owned(), |(source, count)| format!("{source} ({more}{count})"))
    }
}

/// What is said at the end.
pub(super) struct Summary<'a> {
    pub(super) tally: &'a Tally,
    pub(super) classes: &'a Classes,
    /// What was scored.
    pub(super) what: &'static str,
    pub(super) time: Duration,
}

impl Summary<'_> {
    /// Writes a line for each class that there was, the most frequent first, and one of what is between them.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, report: &mut impl Write) -> std::io::Result<()> {
        let Self { tally: Tally { scored, far, bad, untrained, unjudged, .. }, classes, what, time } = self;
        let mut seen: Vec<_> = classes.0.iter().filter(|class| class.flows > 0).collect();
        seen.sort_by_key(|class| std::cmp::Reverse(class.flows));
        if !seen.is_empty() {
            let width = seen.iter().map(|class| class.name.chars().count()).max().unwrap_or(0).max("class".len());
            writeln!(
                report,
                "  {:<width$}  {what:>9}    share   alerts  mean probability  top source (its {what})",
                "class"
            )?;
            for Class { name, flows, alerts, probability, sources } in seen {
                let share = 100.0 * *flows as f64 / *scored as f64;
                let mean = probability / *flows as f64;
                let top = sources.top();
                writeln!(report, "  {name:<width$}  {flows:>9}  {share:>5.1} %  {alerts:>7}  {mean:>16.3}  {top}")?;
            }
        }
        let seconds = time.as_secs_f64();
        let rate = *scored as f64 / seconds.max(1e-6);
        let left_out = match *what {
            "flows" => format!("{unjudged} not judged (neither TCP nor UDP), {untrained} too short to be alerts"),
            _ => format!("{bad} not readable"),
        };
        writeln!(report, "  {left_out}, {far} unlike the training data; {seconds:.2} s, {rate:.0} {what}/s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> Option<IpAddr> {
        Some(IpAddr::V4((0x0a00_0000 + last).into()))
    }

    fn written(tally: &Tally, classes: &Classes, what: &'static str) -> String {
        let mut text = Vec::new();
        Summary { tally, classes, what, time: Duration::from_secs(2) }.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn classes_are_listed_by_how_frequent_they_are() {
        let mut classes = Classes::of(&Model::embedded().unwrap());
        let mut tally = Tally { untrained: 3, unjudged: 2, ..Tally::default() };
        for (class, probability, alert, source) in
            [(0, 0.5, false, 9), (1, 0.75, true, 7), (1, 0.25, false, 7), (1, 0.5, true, 8)]
        {
            classes.count(class, probability, alert, address(source));
            tally.count(alert, false);
        }
        let text = written(&tally, &classes, "flows");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].ends_with(&["3", "75.0", "%", "2", "0.500", "10.0.0.7", "(2)"]), "{text}");
        assert_eq!(lines[2], ["BENIGN", "1", "25.0", "%", "0", "0.500", "10.0.0.9", "(1)"], "{text}");
        assert!(text.ends_with("2 not judged (neither TCP nor UDP), 3 too short to be alerts, 0 unlike the training data; 2.00 s, 2 flows/s\n"), "{text}");
    }

    #[test]
    fn nothing_scored_is_no_table() {
        let classes = Classes::of(&Model::embedded().unwrap());
        let text = written(&Tally { bad: 4, ..Tally::default() }, &classes, "rows");
        assert_eq!(text, "  4 not readable, 0 unlike the training data; 2.00 s, 0 rows/s\n");
    }

    #[test]
    fn the_top_source_is_found_among_a_flood_of_made_up_ones() {
        let mut sources = Sources::default();
        for made_up in 0..50_000 {
            sources.count(address(1000 + made_up).unwrap());
            if made_up % 10 == 0 {
                sources.count(address(1).unwrap());
            }
        }
        assert!(sources.counts.len() <= MAX_SOURCES);
        assert!(sources.top().starts_with("10.0.0.1 (at least "), "{}", sources.top());
    }
}
