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
/// Columns from which on there is room for all of a flow.
const WIDE: u16 = 90;
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
    let curve_rows = if area.height >= TALL { 6 } else { 0 };
    let [head, curve, flows, alerts, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(curve_rows),
        Constraint::Fill(3),
        Constraint::Fill(2),
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
    if state.look.is_some() {
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

fn draw_flows(frame: &mut Frame<'_>, area: Rect, state: &State, look: &Look, palette: Palette) {
    let wide = area.width >= WIDE;
    let shown = look.flows.len();
    let title = format!(" {shown} of {} open flows by {} ", whole(look.health.open_flows), order(look, state));
    let cells = |flow: &Flow| {
        let mut cells = vec![flow.source.clone(), flow.destination.clone()];
        if wide {
            cells.push(flow.protocol.clone());
        }
        cells.extend([short(flow.packets as f64, ""), short(flow.bytes as f64, "B"), span(flow.age)]);
        if wide {
            cells.push(span(flow.quiet));
        }
        Row::new(cells)
    };
    let (heads, widths): (Vec<&str>, Vec<Constraint>) = [
        ("source", Constraint::Fill(1), true),
        ("destination", Constraint::Fill(1), true),
        ("", Constraint::Length(5), wide),
        ("packets", Constraint::Length(8), true),
        ("payload", Constraint::Length(9), true),
        ("age", Constraint::Length(11), true),
        ("quiet", Constraint::Length(11), wide),
    ]
    .into_iter()
    .filter_map(|(head, width, shown)| shown.then_some((head, width)))
    .unzip();
    let focused = state.table == Table::Flows;
    let grid = Grid::new(look.flows.iter().map(cells), widths)
        .header(Row::new(heads).style(palette.title()))
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
        shown => format!(" newest {shown} alerts, {recent} opened in the last 5 min "),
    };
    let row = |alert: &Alert| {
        let word = match alert.severity {
            1 => "high",
            2 => "medium",
            3 => "low",
            _ => "info",
        };
        let seen = if alert.last_seen > 0.0 { format!("{} ago", span(unix - alert.last_seen)) } else { String::new() };
        Row::new(vec![
            Cell::from(word).style(palette.severity(alert.severity)),
            Cell::from(if alert.open { "open" } else { "" }),
            Cell::from(seen),
            Cell::from(short(alert.flows as f64, "")),
            Cell::from(alert.title.clone()),
        ])
    };
    let widths = [
        Constraint::Length(6),
        Constraint::Length(4),
        Constraint::Length(15),
        Constraint::Length(7),
        Constraint::Fill(1),
    ];
    let focused = state.table == Table::Alerts;
    let grid = Grid::new(look.alerts.iter().map(row), widths)
        .header(Row::new(["", "", "last seen", "flows", "what"]).style(palette.title()))
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
