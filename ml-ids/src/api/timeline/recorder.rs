//! The task that asks the sensor once a second, and tells those who listen what the second has brought.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    rounded,
    totals::{Growth, Totals},
};
use crate::{
    api::state::AppState,
    sink::{Event, EventKind},
};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// After so long without a look, as on a machine that was suspended, there is a gap: nobody knows when what came did.
const GAP: Duration = Duration::from_secs(10);

/// Begins to record the sensor of this server for `GET /timeline` and `pulse` events; needs a runtime. The task ends with
/// the server. Until there is a sensor, and where one sensor takes the place of another, nothing is recorded.
pub fn record(state: &Arc<AppState>) -> JoinHandle<()> {
    let (state, mut draining) = (Arc::downgrade(state), state.draining());
    tokio::spawn(async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut recorder = Recorder { state, last: None };
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = draining.wait_for(|draining| *draining) => return,
            }
            if !recorder.look(Instant::now(), unix_seconds()) {
                return;
            }
        }
    })
}

pub(super) fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

struct Recorder {
    state: Weak<AppState>,
    last: Option<(Instant, Totals)>,
}

impl Recorder {
    /// Looks once; false when the server is gone.
    fn look(&mut self, now: Instant, time: f64) -> bool {
        let Some(state) = self.state.upgrade() else { return false };
        let Some(sensor) = state.sensor() else {
            self.last = None;
            return true;
        };
        let totals = sensor.totals();
        let grown = self.last.as_ref().and_then(|(then, before)| {
            let span = now.saturating_duration_since(*then);
            Some((totals.since(before)?, span)).filter(|(_, span)| !span.is_zero() && *span <= GAP)
        });
        self.last = Some((now, totals));
        if let Some((growth, span)) = grown {
            state.timeline.lock().unwrap_or_else(PoisonError::into_inner).push(&growth, time, span);
            let alerting = state.alerts();
            if let Some(feed) = alerting.as_ref().map(|alerting| alerting.board.feed())
                && feed.wants(EventKind::Pulse)
            {
                feed.publish(&pulse(&growth, time, span));
            }
        }
        true
    }
}

/// The event of a second.
fn pulse(growth: &Growth, time: f64, span: Duration) -> Event {
    let Growth { packets, bytes, skipped, flows, open_flows, alerts, verdicts } = growth;
    let rate = |count: &u64| rounded(*count as f64 / span.as_secs_f64());
    let verdicts: BTreeMap<_, _> = verdicts.iter().cloned().collect();
    let data = json!({
        "time": rounded(time),
        "packets": rate(packets),
        "bytes": rate(bytes),
        "skipped": rate(skipped),
        "flows": rate(flows),
        "open_flows": open_flows,
        "alerts": alerts,
        "verdicts": verdicts,
    });
    Event::new(EventKind::Pulse, &data)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::{
        alert::Board,
        api::{Limits, SensorHealth, SensorSnapshot, TimeUnit},
        sink::Feed,
    };

    /// A sensor whose packets are set from without.
    struct Counting(AtomicU64);

    impl SensorHealth for Counting {
        fn snapshot(&self) -> SensorSnapshot {
            let mut snapshot = SensorSnapshot::default();
            snapshot.packets.ingress.seen = self.0.load(Ordering::Relaxed);
            snapshot
        }
    }

    struct Scene {
        state: Arc<AppState>,
        sensor: Arc<Counting>,
        recorder: Recorder,
        begun: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let state = Arc::new(AppState::new(Limits::default(), TimeUnit::Auto, true));
            let sensor = Arc::new(Counting(AtomicU64::new(0)));
            let recorder = Recorder { state: Arc::downgrade(&state), last: None };
            Self { state, sensor, recorder, begun: Instant::now() }
        }

        /// A look at this second, when so many packets have been seen.
        fn look(&mut self, second: u64, packets: u64) {
            self.sensor.0.store(packets, Ordering::Relaxed);
            assert!(self.recorder.look(self.begun + Duration::from_secs(second), 1_000.0 + second as f64));
        }

        fn rates(&self) -> Vec<(f64, f64)> {
            let timeline = self.state.timeline.lock().unwrap();
            let columns = timeline.columns(720, 1_100.0);
            columns.time.iter().map(|time| time - 1_000.0).zip(columns.packets).collect()
        }
    }

    #[test]
    fn nothing_is_recorded_before_a_sensor_is_there_nor_what_it_counted_before() {
        let mut scene = Scene::new();
        scene.look(0, 5);
        assert_eq!(scene.rates(), []);
        scene.state.set_sensor(Arc::clone(&scene.sensor) as Arc<dyn SensorHealth>);
        // Pinned programs have counted before this process came.
        scene.look(1, 1_000_000);
        scene.look(2, 1_000_010);
        assert_eq!(scene.rates(), [(2.0, 10.0)]);
    }

    #[test]
    fn counters_that_begin_anew_and_a_suspended_machine_leave_gaps_and_no_absurd_rates() {
        let mut scene = Scene::new();
        scene.state.set_sensor(Arc::clone(&scene.sensor) as Arc<dyn SensorHealth>);
        for (second, packets) in [(0, 100), (1, 150), (2, 20), (3, 25), (5, 45), (65, 90_000), (66, 90_001)] {
            scene.look(second, packets);
        }
        assert_eq!(scene.rates(), [(1.0, 50.0), (3.0, 5.0), (5.0, 10.0), (66.0, 1.0)]);
    }

    #[test]
    fn who_listens_hears_each_second_and_the_recorder_ends_with_the_server() {
        let mut scene = Scene::new();
        scene.state.set_sensor(Arc::clone(&scene.sensor) as Arc<dyn SensorHealth>);
        let board = Arc::new(Board::new(None, Feed::default()));
        let mut listener = board.feed().listen(EventKind::Pulse).unwrap();
        scene.state.set_alerts(board);
        scene.look(0, 0);
        scene.look(2, 7);
        let pulse: serde_json::Value = serde_json::from_str(listener.try_recv().unwrap().line()).unwrap();
        assert_eq!((&pulse["time"], &pulse["packets"]), (&json!(1_002.0), &json!(3.5)));
        assert_eq!((&pulse["open_flows"], &pulse["verdicts"]), (&json!(0), &json!({})));
        assert!(listener.try_recv().is_err());
        drop(scene.state);
        assert!(!scene.recorder.look(Instant::now(), 0.0));
    }
}
