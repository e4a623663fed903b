//! Keys.

use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::Event;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// To the end.
    Quit,
    /// Away with the help, or to the end.
    Close,
    /// The list of keys.
    Help,
    /// The other table.
    Switch,
    /// Stand still, or go on.
    Pause,
    /// Another order of flows.
    Sort,
    /// So many rows down, or up if negative.
    Move(isize),
}

/// Rows of a page.
const PAGE: isize = 10;

/// The keys, as the help shows them.
pub(super) const KEYS: [(&str, &str); 7] = [
    ("q, Esc, Ctrl-C", "quit"),
    ("Tab", "the other table"),
    ("arrows, PgUp, PgDn, Home, End", "move in the table"),
    ("s", "sort flows by packets, bytes, age"),
    ("p, blank", "stand still, go on"),
    ("?", "this help"),
    ("NO_COLOR=1", "in the environment: no colours"),
];

/// What a key asks for; `None` if nothing.
pub(super) fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if control => Action::Quit,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Esc => Action::Close,
        KeyCode::Char('?' | 'h') => Action::Help,
        KeyCode::Tab | KeyCode::BackTab => Action::Switch,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Up | KeyCode::Char('k') => Action::Move(-1),
        KeyCode::Down | KeyCode::Char('j') => Action::Move(1),
        KeyCode::PageUp => Action::Move(-PAGE),
        KeyCode::PageDown => Action::Move(PAGE),
        KeyCode::Home => Action::Move(isize::MIN),
        KeyCode::End => Action::Move(isize::MAX),
        _ => return None,
    })
}

/// The next event of the terminal that matters. Waits for it.
///
/// # Errors
/// When the terminal is gone.
pub(super) fn next() -> std::io::Result<Event> {
    loop {
        match event::read()? {
            event::Event::Key(key) => {
                if let Some(action) = action(key) {
                    return Ok(Event::Do(action));
                }
            }
            event::Event::Resize(..) => return Ok(Event::Resized),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ask_for_what_the_help_says() {
        let pressed = |code| action(KeyEvent::new(code, KeyModifiers::NONE));
        let held = |code| action(KeyEvent::new(code, KeyModifiers::CONTROL));
        assert_eq!(pressed(KeyCode::Char('q')), Some(Action::Quit));
        assert_eq!(pressed(KeyCode::Esc), Some(Action::Close));
        assert_eq!(held(KeyCode::Char('c')), Some(Action::Quit));
        assert_eq!(pressed(KeyCode::Char('c')), None);
        assert_eq!(held(KeyCode::Char('s')), None);
        assert_eq!(pressed(KeyCode::Char('s')), Some(Action::Sort));
        assert_eq!(pressed(KeyCode::Tab), Some(Action::Switch));
        assert_eq!(pressed(KeyCode::Up), Some(Action::Move(-1)));
        let mut released = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        released.kind = KeyEventKind::Release;
        assert_eq!(action(released), None);
    }
}
