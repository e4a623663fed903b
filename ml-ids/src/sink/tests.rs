//! The queue and the thread of a sink, whatever the sink is.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::*;

/// A sink that is away until it is told otherwise, and takes one event in a go.
#[derive(Clone, Default)]
struct Receiver {
    here: Arc<AtomicBool>,
    /// An event that it will never take.
    poison: Option<u64>,
    got: Arc<Mutex<Vec<u64>>>,
}

impl Sink for Receiver {
    fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        let failure = |delivered, first| Err(Undelivered { delivered, first, error: "not now".into() });
        for (delivered, event) in events.iter().enumerate() {
            let number: u64 = event.line().parse().unwrap();
            if !self.here.load(Ordering::Relaxed) {
                return failure(delivered, First::Retry);
            }
            if self.poison == Some(number) {
                return failure(delivered, First::Refused);
            }
            self.got.lock().unwrap().push(number);
        }
        Ok(())
    }
}

fn port(queue: usize) -> Port {
    Port { name: "receiver", kinds: Kinds::of(&[EventKind::Alert]), queue }
}

fn emit(hub: &Hub, numbers: std::ops::Range<u64>) {
    for number in numbers {
        hub.emit(&Event::new(EventKind::Alert, &json!(number)));
    }
}

fn eventually(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never came to pass");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_a_sink_could_not_take_arrives_in_order_when_it_is_back_and_marks_wait_for_it() {
    let (receiver, marked) = (Receiver::default(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&marked);
    let sinks: Vec<(Port, Box<dyn Sink>)> = vec![(port(1000), Box::new(receiver.clone()))];
    let hub = Hub::start(sinks, move |records| {
        count.fetch_add(records, Ordering::Relaxed);
    })
    .unwrap();
    emit(&hub, 0..500);
    hub.mark(500);
    eventually(|| hub.states()[0].failure.is_some());
    assert_eq!(marked.load(Ordering::Relaxed), 0);
    receiver.here.store(true, Ordering::Relaxed);
    eventually(|| hub.states()[0].delivered == 500 && hub.states()[0].failure.is_none());
    assert_eq!(*receiver.got.lock().unwrap(), (0..500).collect::<Vec<_>>());
    eventually(|| marked.load(Ordering::Relaxed) == 500);
    assert!(hub.states()[0].retries > 0);
    hub.stop();
}

#[test]
fn a_full_queue_drops_and_counts_and_whoever_emits_does_not_wait() {
    let receiver = Receiver::default();
    let hub = Hub::start(vec![(port(10), Box::new(receiver.clone()))], |_| {}).unwrap();
    emit(&hub, 0..5000);
    let state = hub.states().remove(0);
    assert_eq!(state.queued, 5000);
    assert!(state.dropped > 4000, "{state:?}");
    assert_eq!(state.waiting, state.queued - state.dropped, "{state:?}");
    receiver.here.store(true, Ordering::Relaxed);
    eventually(|| hub.states()[0].waiting == 0);
    let state = hub.states().remove(0);
    assert_eq!(state.delivered + state.dropped, 5000, "{state:?}");
    hub.stop();
}

#[test]
fn an_event_that_is_refused_is_counted_and_holds_up_no_other() {
    let receiver = Receiver { poison: Some(3), ..Receiver::default() };
    receiver.here.store(true, Ordering::Relaxed);
    let hub = Hub::start(vec![(port(100), Box::new(receiver.clone()))], |_| {}).unwrap();
    emit(&hub, 0..6);
    eventually(|| hub.states()[0].waiting == 0);
    assert_eq!(hub.states()[0].failure, None, "it takes the others");
    hub.stop();
    assert_eq!(*receiver.got.lock().unwrap(), [0, 1, 2, 4, 5]);
    let state = hub.states().remove(0);
    assert_eq!((state.delivered, state.refused, state.waiting), (5, 1, 0));
}

#[test]
fn stopping_delivers_what_waits_and_counts_what_cannot_be_delivered_in_time() {
    let receiver = Receiver::default();
    let hub = Hub::start(vec![(port(100), Box::new(receiver))], |_| panic!("nothing is dealt with")).unwrap();
    emit(&hub, 0..20);
    hub.mark(20);
    hub.stop();
    let state = hub.states().remove(0);
    assert_eq!((state.lost_at_stop, state.waiting, state.delivered), (20, 0, 0), "{state:?}");
}

#[test]
fn only_what_some_sink_wants_is_wanted() {
    let hub = Hub::start(vec![(port(1), Box::new(Receiver::default()))], |_| {}).unwrap();
    assert!(hub.wants(EventKind::Alert) && !hub.wants(EventKind::Stats));
    hub.emit(&Event::new(EventKind::Stats, &json!(1)));
    assert_eq!(hub.states()[0].queued, 0);
}

/// Takes one event at a time and hangs for ever at the second.
struct Stuck(Arc<AtomicU64>);

impl Sink for Stuck {
    fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        assert_eq!(events.len(), 1, "more at once than it wants");
        if self.0.fetch_add(1, Ordering::Relaxed) > 0 {
            loop {
                thread::park();
            }
        }
        Ok(())
    }

    fn batch(&self) -> usize {
        1
    }
}

#[test]
fn a_sink_that_hangs_is_left_behind_and_its_events_are_counted_as_lost() {
    let hub = Hub::start(vec![(port(100), Box::new(Stuck(Arc::default())))], |_| {}).unwrap();
    emit(&hub, 0..20);
    hub.stop();
    let state = hub.states().remove(0);
    assert_eq!((state.delivered, state.lost_at_stop, state.waiting), (1, 19, 0), "{state:?}");
}
