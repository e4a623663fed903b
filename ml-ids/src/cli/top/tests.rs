//! What is on the screen after what has happened.

use std::time::{Duration, Instant};

use ratatui::{Terminal, backend::TestBackend, style::Color};
use serde_json::json;

use super::{
    client::{Away, Look, Wanted},
    draw::draw,
    input::Action,
    palette::Palette,
    rows::{Alert, Curve, Flow, Health},
    state::{Event, Sort, State, Table, Then},
};

const UNIX: f64 = 1_795_768_200.0;

fn look() -> Look {
    let health = json!({
        "status": "healthy", "reasons": [], "uptime_seconds": 7505.0,
        "model": { "name": "default", "version": "1", "source": "embedded" },
        "sensor": { "interfaces": [{ "name": "eth0" }], "flows": { "live": 100_204 }, "verdicts": { "alerts": 3 } },
    });
    let timeline = json!({
        "step_seconds": 1, "time": [1.0, 2.0, 3.0], "packets": [10.0, 18_204.0, 900.0], "bytes": [1.0, 1.0, 9_120_033.0],
        "flows": [0.0, 0.0, 212.0], "alerts": [0, 1, 1],
    });
    let flow = |port: u16| {
        json!({ "src_ip": "10.0.0.1", "src_port": port, "dest_ip": "10.0.0.2", "dest_port": 443, "proto": "TCP",
            "pkts_toserver": 7, "pkts_toclient": 5, "bytes_toserver": 1_500_000, "bytes_toclient": 0, "age": 75.0, "quiet": 0.5 })
    };
    let alerts = json!({ "alerts": [
        { "severity": 1, "state": "open", "last_seen": "2026-11-27T08:29:00Z", "count": 1234, "title": "Bot: 10.0.0.9 against 2 hosts" },
        { "severity": 3, "state": "closed", "last_seen": "2026-11-27T08:00:00Z", "count": 1, "title": "evil\u{1b}[2J" },
    ] });
    Look {
        health: Health::of(&health),
        curve: Curve::of(&timeline, 300),
        sort: Sort::Packets,
        flows: Flow::all(&json!({ "flows": (1..=40).map(flow).collect::<Vec<_>>() })),
        alerts: Alert::all(&alerts),
    }
}

fn state() -> State {
    let mut state = State::new("http://127.0.0.1:8000".to_owned());
    assert_eq!(state.take(Event::Looked(Ok(Box::new(look()))), Instant::now()), Then::Draw);
    state
}

/// The screen as lines of text.
fn screen(state: &State, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, Palette::new(true), Instant::now(), UNIX)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width));
    rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect()).collect()
}

fn shows(state: &State, width: u16, height: u16, words: &str) -> bool {
    screen(state, width, height).iter().any(|line| line.contains(words))
}

#[test]
fn head_curve_flows_and_alerts_are_shown_with_units() {
    let state = state();
    for words in [
        "healthy  up 2 h 5 min  on eth0",
        "900 packets/s  9.1 MB/s  212 flows/s judged  100,204 flows open",
        "model default 1 (embedded)",
        "packets/s, last 3.0 s: now 900, most 18.2 k",
        "40 of 100,204 open flows by packets",
        "1.5 MB",
        "1 min 15 s",
        "newest 2 alerts, 2 opened in the last 5 min",
        "1.2 k",
        "Bot: 10.0.0.9 against 2 hosts",
        "q quit",
    ] {
        assert!(shows(&state, 100, 30, words), "{words}\n{}", screen(&state, 100, 30).join("\n"));
    }
    assert!(shows(&state, 100, 30, "\u{fffd}[2J"), "text of others is cleaned");
}

#[test]
fn every_size_can_be_drawn_and_one_that_is_too_small_says_so() {
    let mut state = state();
    for help in [false, true] {
        state.help = help;
        for width in [1, 20, 39, 40, 80, 89, 90, 200] {
            for height in [1, 7, 8, 17, 18, 60] {
                assert_eq!(screen(&state, width, height).len(), usize::from(height));
            }
        }
    }
    state.help = false;
    assert!(shows(&state, 39, 10, "make the terminal larger"));
    assert!(shows(&state, 40, 8, "10.0.0.1:1") && !shows(&state, 40, 8, "Bot"));
    state.table = Table::Alerts;
    assert!(shows(&state, 40, 8, "Bot") && !shows(&state, 40, 8, "10.0.0.1:1"));
    assert!(!shows(&state, 100, 17, "last 3.0 s") && shows(&state, 100, 18, "last 3.0 s"));
    assert!(shows(&State::new("http://x".to_owned()), 80, 24, "waiting for the first answer"));
}

#[test]
fn an_agent_that_goes_away_leaves_a_banner_over_what_was_known_until_it_is_back() {
    let mut state = state();
    let away = Away::Unreachable { url: "http://127.0.0.1:8000".to_owned(), reason: "connection refused".to_owned() };
    state.take(Event::Looked(Err(away)), Instant::now());
    assert!(shows(&state, 120, 30, "AWAY") && shows(&state, 120, 30, "no agent answers"));
    assert!(!shows(&state, 120, 30, "healthy"), "nobody knows");
    assert!(shows(&state, 120, 30, "10.0.0.1:1"), "what was known is still there");
    state.take(Event::Looked(Ok(Box::new(look()))), Instant::now());
    assert!(!shows(&state, 120, 30, "AWAY"));
}

#[test]
fn reasons_of_a_degraded_agent_take_the_models_place_and_serve_has_nothing_to_show() {
    let mut state = state();
    let mut bad = look();
    bad.health = Health::of(&json!({ "status": "degraded", "reasons": ["the disk is full", "x"], "model": null }));
    state.take(Event::Looked(Ok(Box::new(bad))), Instant::now());
    assert!(shows(&state, 100, 30, "the disk is full (and 1 more)"));
    assert!(shows(&state, 100, 30, "watches no interface"));
}

#[test]
fn keys_change_what_is_shown_and_asked_for() {
    let (mut state, now) = (state(), Instant::now());
    let mut press = |action| state.take(Event::Do(action), now);
    assert_eq!(press(Action::Sort), Then::Ask);
    assert_eq!(press(Action::Move(3)), Then::Draw);
    assert_eq!(press(Action::Switch), Then::Draw);
    assert_eq!(press(Action::Move(isize::MAX)), Then::Draw);
    assert_eq!(press(Action::Pause), Then::Ask);
    assert_eq!((state.flow, state.alert), (3, 1));
    assert_eq!(state.wanted(), Wanted { sort: Sort::Bytes, paused: true });
    assert!(shows(&state, 100, 30, "standing still") && shows(&state, 100, 30, "packets (payload next)"));
    // What was on its way changes nothing.
    state.take(Event::Looked(Ok(Box::default())), now);
    assert!(shows(&state, 100, 30, "10.0.0.1:1"));
    state.take(Event::Do(Action::Pause), now);
    state.take(Event::Looked(Ok(Box::default())), now);
    assert_eq!((state.flow, state.alert), (0, 0), "rows that are gone cannot be chosen");
    state.take(Event::Do(Action::Move(isize::MIN)), now);
    assert_eq!(state.alert, 0);
}

#[test]
fn escape_closes_the_help_first() {
    let (mut state, now) = (state(), Instant::now());
    assert_eq!(state.take(Event::Do(Action::Help), now), Then::Draw);
    assert!(shows(&state, 100, 30, "keys, Esc closes"));
    assert_eq!(state.take(Event::Do(Action::Close), now), Then::Draw);
    assert!(!shows(&state, 100, 30, "keys, Esc closes"));
    assert_eq!(state.take(Event::Do(Action::Close), now), Then::Quit);
    assert_eq!(state.take(Event::Stop, now + Duration::from_secs(1)), Then::Quit);
    assert_eq!(state.take(Event::Lost, now), Then::Fail);
}

#[test]
fn without_colours_there_is_none() {
    let mut state = state();
    state.away = Some(Away::Token("http://x".to_owned()));
    let colours = |palette| {
        let mut terminal = Terminal::new(TestBackend::new(100, 30)).unwrap();
        terminal.draw(|frame| draw(frame, &state, palette, Instant::now(), UNIX)).unwrap();
        let cells = terminal.backend().buffer().content().to_vec();
        cells.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    assert_eq!(colours(Palette::new(false)), 0);
    assert!(colours(Palette::new(true)) > 0);
}
