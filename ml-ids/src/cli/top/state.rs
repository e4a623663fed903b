//! What is shown, and how events change it.

use std::time::Instant;

use super::{
    client::{Away, Look, Wanted},
    input::Action,
};

/// Something has happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The agent was asked.
    Looked(Result<Box<Look>, Away>),
    /// A key.
    Do(Action),
    /// The terminal has another size.
    Resized,
    /// A signal says that it is time to go.
    Stop,
    /// One of our threads has ended, which it should not.
    Lost,
}

/// Order of the flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Packets,
    Bytes,
    Age,
}

impl Sort {
    /// As the API calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Bytes => "bytes",
            Self::Age => "age",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Packets => Self::Bytes,
            Self::Bytes => Self::Age,
            Self::Age => Self::Packets,
        }
    }
}

/// A table that keys work on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Table {
    #[default]
    Flows,
    Alerts,
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct State {
    pub(super) server: String,
    /// `None` until the first answer.
    pub(super) look: Option<Look>,
    /// When that was.
    pub(super) looked: Option<Instant>,
    /// Why there is no newer one.
    pub(super) away: Option<Away>,
    pub(super) table: Table,
    /// Chosen rows of the tables.
    pub(super) flow: usize,
    pub(super) alert: usize,
    pub(super) sort: Sort,
    pub(super) paused: bool,
    pub(super) help: bool,
}

/// What follows from an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The screen may look different.
    Draw,
    /// That, and the agent is to be asked for something else.
    Ask,
    /// The user has seen enough.
    Quit,
    /// It cannot go on.
    Fail,
}

impl State {
    pub(super) const fn new(server: String) -> Self {
        Self {
            server,
            look: None,
            looked: None,
            away: None,
            table: Table::Flows,
            flow: 0,
            alert: 0,
            sort: Sort::Packets,
            paused: false,
            help: false,
        }
    }

    /// What the agent is to be asked for.
    pub(super) const fn wanted(&self) -> Wanted {
        Wanted { sort: self.sort, paused: self.paused }
    }

    pub(super) fn take(&mut self, event: Event, now: Instant) -> Then {
        match event {
            // An answer that was on its way when the user wanted everything to stand still.
            Event::Looked(_) if self.paused => {}
            Event::Looked(Ok(look)) => {
                (self.look, self.looked, self.away) = (Some(*look), Some(now), None);
                self.keep_in_range();
            }
            Event::Looked(Err(away)) => self.away = Some(away),
            Event::Do(action) => return self.act(action),
            Event::Resized => {}
            Event::Stop => return Then::Quit,
            Event::Lost => return Then::Fail,
        }
        Then::Draw
    }

    fn act(&mut self, action: Action) -> Then {
        match action {
            Action::Close if self.help => self.help = false,
            Action::Close | Action::Quit => return Then::Quit,
            Action::Help => self.help = !self.help,
            Action::Switch => {
                self.table = match self.table {
                    Table::Flows => Table::Alerts,
                    Table::Alerts => Table::Flows,
                };
            }
            Action::Pause => {
                self.paused = !self.paused;
                return Then::Ask;
            }
            Action::Sort => {
                self.sort = self.sort.next();
                return Then::Ask;
            }
            Action::Move(rows) => {
                let chosen = self.chosen();
                *chosen = chosen.saturating_add_signed(rows);
                self.keep_in_range();
            }
        }
        Then::Draw
    }

    const fn chosen(&mut self) -> &mut usize {
        match self.table {
            Table::Flows => &mut self.flow,
            Table::Alerts => &mut self.alert,
        }
    }

    fn keep_in_range(&mut self) {
        let (flows, alerts) = self.look.as_ref().map_or((0, 0), |look| (look.flows.len(), look.alerts.len()));
        self.flow = self.flow.min(flows.saturating_sub(1));
        self.alert = self.alert.min(alerts.saturating_sub(1));
    }
}
