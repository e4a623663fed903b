//! `ml-ids score --alerts`: the alerts that a sensor would have made of a capture, by the same code and the capture's clock.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use ml_ids_common::{Decap, FlowRecord};

use super::{
    alerts_print::{AlertFormat, Printer},
    score_capture::Scored,
    summary::Classes,
    tally::Tally,
};
use crate::{
    alert::{Alert, AlertChange, AlertSettings, Alerts, EventClock, Severities, Sighting, State, store::Stored},
    detect::{Judge, Judged, drift::Counts},
    offline::{
        Capture, Replay,
        pipeline::{self, Options},
    },
    sink::eve::{self, Place},
};

/// Alerts that are sorted by their beginning before they are written; beyond, memory counts more than order.
const SORTED: usize = 10_000;

/// Makes alerts of the flows of a capture and writes each when it is over, those that were held back and marked so included.
/// Returns how many there were, too.
///
/// # Errors
/// If the output cannot be written or the model fails.
pub(super) fn alerts_of_capture<R: Read + Send>(
    capture: Capture<R>,
    judge: &Judge,
    decap: Decap,
    options: &Options<'_>,
    settings: AlertSettings,
    output: (impl Write, AlertFormat),
    done: impl Fn(u64),
) -> anyhow::Result<(Scored, u64)> {
    let model = judge.model();
    let mut replay = Replay::new(model.contract().profile).with_decap(decap);
    let (mut tally, mut counts, mut classes) = (Tally::default(), Counts::default(), Classes::of(&model));
    let mut told = Told::new(settings, Printer::new(output.0, output.1)?);
    let damage = pipeline::replay(
        capture,
        &mut replay,
        options,
        |mut records: Vec<FlowRecord>| {
            let mut left_out = Tally::default();
            left_out.retain_judged(&mut records);
            judge.judge(records).map(|judged| (judged, left_out))
        },
        |judged| {
            let (judged, left_out) = judged?;
            tally.add(&left_out);
            classes.count_verdicts(&judged);
            done(judged.verdicts.len() as u64);
            for verdict in &judged.verdicts {
                tally.count_verdict(verdict);
                counts.add_verdict(judged.model.contract(), verdict);
            }
            Ok::<_, anyhow::Error>(told.take(&judged)?)
        },
    )?;
    let alerts = told.finish()?;
    Ok((Scored { tally, classes, counts, packets: replay.counters().ingress.seen, damage }, alerts))
}

/// The alerts, and where they go.
struct Told<W: Write> {
    alerts: Alerts,
    severities: Severities,
    clock: EventClock,
    printer: Printer<W>,
    changes: Vec<AlertChange>,
    over: Vec<Arc<Alert>>,
    count: u64,
}

impl<W: Write> Told<W> {
    fn new(settings: AlertSettings, printer: Printer<W>) -> Self {
        let severities = settings.severities.clone();
        let (alerts, clock) = (Alerts::new(settings), EventClock::default());
        Self { alerts, severities, clock, printer, changes: Vec::new(), over: Vec::new(), count: 0 }
    }

    fn take(&mut self, Judged { model, verdicts }: &Judged) -> io::Result<()> {
        for verdict in verdicts {
            let sighting = Sighting::of(verdict, model);
            let now_us = self.clock.at(sighting.end_us);
            let _looked = self.alerts.tick(now_us, &mut self.changes);
            if verdict.alert {
                self.alerts.observe(
                    &sighting,
                    now_us,
                    || {
                        let severities = Some(&self.severities);
                        eve::verdict(verdict, model, &Place { severities, ..Place::default() })
                    },
                    &mut self.changes,
                );
            }
            self.sort_out()?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.alerts.finish(self.clock.now_us(), &mut self.changes);
        self.sort_out()?;
        self.print()?;
        self.printer.finish()?;
        Ok(self.count)
    }

    fn sort_out(&mut self) -> io::Result<()> {
        let over = self.changes.drain(..).map(|change| change.alert).filter(|alert| alert.state == State::Closed);
        self.over.extend(over);
        if self.over.len() >= SORTED { self.print() } else { Ok(()) }
    }

    fn print(&mut self) -> io::Result<()> {
        self.over.sort_unstable_by_key(|alert| alert.id);
        self.count += self.over.len() as u64;
        for alert in self.over.drain(..) {
            self.printer.print(&Stored { alert: Arc::unwrap_or_clone(alert), ack: None })?;
        }
        Ok(())
    }
}
