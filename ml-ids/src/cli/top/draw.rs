//! The screen.

use std::time::Instant;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Sparkline, SparklineBar, Table as Grid, TableState, Wrap},
};

use super::{
    client::Look,
    input::KEYS,
    palette::Palette,
    rows::{Alert, Flow, Health, Now},
    state::{Sort, State, Table},
    words::{short, span, whole},
};

/// Rows from which on there is room for the curve.
const TALL: u16 = 18;
/// Rows from which on there is room for both tables; else there is the one that keys work on.
const BOTH: u16 = 14;
/// Smallest screen on which anything makes sense.
const LEAST: (u16, u16) = (40, 8);

/// Draws all of it. `unix` is the time, in seconds.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, palette: Palette, now: Instant, unix: f64) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let words = format!("make the terminal larger: at least {} columns and {} rows; q quits", LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), area);
        return;
    }
    let share = |table, share| {
        if area.height >= BOTH || state.table == table { Constraint::Fill(share) } else { Constraint::Length(0) }
    };
    let curve_rows = if area.height >= TALL { 6 } else { 0 };
    let [head, curve, flows, alerts, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(curve_rows),
        share(Table::Flows, 3),
        share(Table::Alerts, 2),
        Constraint::Length(1),
    ])
    .areas(area);
    let empty = Look::default();
    let look = state.look.as_ref().unwrap_or(&empty);
    draw_head(frame, head, state, look, palette, now);
    draw_curve(frame, curve, look, palette);
    draw_flows(frame, flows, state, look, palette);
    draw_alerts(frame, alerts, state, look, palette, unix);
    let keys = " q quit  Tab table  ↑↓ move  s sort  p pause  ? help";
    frame.render_widget(Paragraph::new(Line::styled(keys, palette.quiet())), foot);
    if state.help {
        draw_help(frame, area, palette);
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, state: &State, look: &Look, palette: Palette, now: Instant) {
    let Health { status, reasons, model, uptime, interfaces, open_flows, alert_flows, watches } = &look.health;
    let mut first = vec![Span::styled(" ml-ids ", palette.title()), Span::raw(format!("{}  ", state.server))];
    if state.look.is_some() && state.away.is_none() {
        first.push(Span::styled(status.clone(), palette.status(status)));
        first.push(Span::raw(format!("  up {}", span(*uptime))));
        if !interfaces.is_empty() {
            first.push(Span::raw(format!("  on {interfaces}")));
        }
    }
    if state.paused {
        first.push(Span::styled("  standing still, p goes on", palette.title()));
    }
    let Now { packets, bytes, flows, .. } = look.curve.now;
    let second = if *watches {
        format!(
            " {} packets/s  {}  {} flows/s judged  {} flows open  {} alert verdicts",
            short(packets, ""),
            short(bytes, "B/s"),
            short(flows, ""),
            whole(*open_flows),
            whole(*alert_flows),
        )
    } else if state.look.is_some() {
        " this agent watches no interface: there are no flows and no alerts".to_owned()
    } else {
        " waiting for the first answer".to_owned()
    };
    let third = match (&state.away, reasons.as_slice()) {
        (Some(away), _) => {
            let since = state.looked.map_or(0.0, |looked| now.saturating_duration_since(looked).as_secs_f64());
            Line::styled(format!(" AWAY, as of {} ago: {away} ", span(since)), palette.banner())
        }
        (None, [reason, rest @ ..]) => {
            let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            Line::styled(format!(" {reason}{more}"), palette.status(status))
        }
        (None, []) if model.is_empty() => Line::raw(""),
        (None, []) => Line::raw(format!(" model {model}")),
    };
    frame.render_widget(Paragraph::new(vec![Line::from(first), Line::raw(second), third]), area);
}

fn draw_curve(frame: &mut Frame<'_>, area: Rect, look: &Look, palette: Palette) {
    let width = usize::from(area.width.saturating_sub(2));
    let shown = &look.curve.packets;
    let shown = shown.get(shown.len().saturating_sub(width)..).unwrap_or_default();
    let most = shown.iter().flatten().max().copied().unwrap_or(0);
    let title = format!(
        " packets/s, last {}: now {}, most {} ",
        span(shown.len() as f64),
        short(look.curve.now.packets, ""),
        short(most as f64, "")
    );
    let bars = shown.iter().map(|value| SparklineBar::from(*value)).collect::<Vec<_>>();
    let curve = Sparkline::default()
        .block(Block::bordered().title(title))
        .data(bars)
        .max(most.max(1))
        .style(palette.curve())
        .absent_value_symbol(" ");
    frame.render_widget(curve, area);
}

fn frame_of(title: String, focused: bool, palette: Palette) -> Block<'static> {
    let style = if focused { palette.title() } else { palette.quiet() };
    Block::default().borders(Borders::ALL).border_style(style).title(Span::styled(title, style))
}

/// A column of the flows: its head, its width, the columns of a screen from which on it is shown, and what is in it.
type Column = (&'static str, Constraint, u16, fn(&Flow) -> String);

const COLUMNS: [Column; 7] = [
    ("source", Constraint::Fill(1), 0, |flow| flow.source.clone()),
    ("destination", Constraint::Fill(1), 0, |flow| flow.destination.clone()),
    ("", Constraint::Length(5), 90, |flow| flow.protocol.clone()),
    ("packets", Constraint::Length(8), 0, |flow| short(flow.packets as f64, "")),
    ("payload", Constraint::Length(9), 60, |flow| short(flow.bytes as f64, "B")),
    ("age", Constraint::Length(11), 75, |flow| span(flow.age)),
    ("quiet", Constraint::Length(11), 90, |flow| span(flow.quiet)),
];

fn draw_flows(frame: &mut Frame<'_>, area: Rect, state: &State, look: &Look, palette: Palette) {
    let shown = look.flows.len();
    let title = format!(" {shown} of {} open flows by {} ", whole(look.health.open_flows), order(look, state));
    let columns: Vec<&Column> = COLUMNS.iter().filter(|(_, _, from, _)| area.width >= *from).collect();
    let rows = look.flows.iter().map(|flow| Row::new(columns.iter().map(|(_, _, _, cell)| cell(flow))));
    let focused = state.table == Table::Flows;
    let grid = Grid::new(rows, columns.iter().map(|(_, width, _, _)| *width))
        .header(Row::new(columns.iter().map(|(head, _, _, _)| *head)).style(palette.title()))
        .block(frame_of(title, focused, palette))
        .row_highlight_style(if focused { palette.chosen() } else { Style::new() });
    let mut chosen = TableState::default().with_selected(Some(state.flow));
    frame.render_stateful_widget(grid, area, &mut chosen);
}

fn order(look: &Look, state: &State) -> String {
    let Look { sort, .. } = look;
    // The answer in the new order is on its way.
    if *sort == state.sort || state.look.is_none() {
        name(state.sort).to_owned()
    } else {
        format!("{} ({} next)", name(*sort), name(state.sort))
    }
}

const fn name(sort: Sort) -> &'static str {
    match sort {
        Sort::Packets => "packets",
        Sort::Bytes => "payload",
        Sort::Age => "age",
    }
}

fn draw_alerts(frame: &mut Frame<'_>, area: Rect, state: &State, look: &Look, palette: Palette, unix: f64) {
    let recent = look.curve.now.alerts;
    let title = match look.alerts.len() {
        0 => " no alerts ".to_owned(),
        1 => " the only alert ".to_owned(),
        shown => format!(" newest {shown} alerts, {recent} opened in the last 5 min "),
    };
    // The head of each column, its width, and the columns of a screen from which on it is shown.
    let columns = [
        ("", Constraint::Length(6), 0),
        ("", Constraint::Length(4), 75),
        ("last seen", Constraint::Length(15), 60),
        ("flows", Constraint::Length(7), 50),
        ("what", Constraint::Fill(1), 0),
    ];
    let shown = |(_, _, from): &(&str, Constraint, u16)| area.width >= *from;
    let row = |alert: &Alert| {
        let word = match alert.severity {
            1 => "high",
            2 => "medium",
            3 => "low",
            _ => "info",
        };
        let seen = if alert.last_seen > 0.0 { format!("{} ago", span(unix - alert.last_seen)) } else { String::new() };
        let cells = [
            Cell::from(word).style(palette.severity(alert.severity)),
            Cell::from(if alert.open { "open" } else { "" }),
            Cell::from(seen),
            Cell::from(short(alert.flows as f64, "")),
            Cell::from(alert.title.clone()),
        ];
        Row::new(cells.into_iter().zip(&columns).filter(|(_, column)| shown(column)).map(|(cell, _)| cell))
    };
    let heads: Vec<&str> = columns.iter().filter(|column| shown(column)).map(|(head, _, _)| *head).collect();
    let widths = columns.iter().filter(|column| shown(column)).map(|(_, width, _)| *width);
    let focused = state.table == Table::Alerts;
    let grid = Grid::new(look.alerts.iter().map(row), widths)
        .header(Row::new(heads).style(palette.title()))
        .block(frame_of(title, focused, palette))
        .row_highlight_style(if focused { palette.chosen() } else { Style::new() });
    let mut chosen = TableState::default().with_selected(Some(state.alert));
    frame.render_stateful_widget(grid, area, &mut chosen);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect, palette: Palette) {
    let wide = KEYS.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(key, meaning)| {
            Line::from(vec![Span::styled(format!(" {key:<wide$}  "), palette.title()), Span::raw(*meaning)])
        })
        .collect();
    let (width, height) = (area.width.min(72), area.height.min(u16::try_from(KEYS.len()).unwrap_or(8) + 2));
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys, Esc closes ")), place);
}
