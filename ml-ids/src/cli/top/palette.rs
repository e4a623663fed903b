//! Colours that can be read on light and on dark: those of the terminal's own sixteen that are neither nearly white nor nearly
//! black in common schemes; the rest is bold, dim and reversed.

use std::env;

use ratatui::style::{Color, Modifier, Style};

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    coloured: bool,
}

impl Palette {
    /// Without colours where `NO_COLOR` is not empty (<https://no-color.org>).
    pub(super) fn from_environment() -> Self {
        Self::new(env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    pub(super) const fn new(coloured: bool) -> Self {
        Self { coloured }
    }

    const fn in_colour(self, colour: Color) -> Style {
        if self.coloured { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) const fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) const fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) const fn curve(self) -> Style {
        self.in_colour(Color::Green)
    }

    pub(super) const fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What must not be overlooked.
    pub(super) const fn banner(self) -> Style {
        self.in_colour(Color::Red).add_modifier(Modifier::BOLD).add_modifier(Modifier::REVERSED)
    }

    /// How the agent is.
    pub(super) fn status(self, status: &str) -> Style {
        let colour = match status {
            "healthy" => Color::Green,
            "degraded" => Color::Magenta,
            _ => Color::Red,
        };
        self.in_colour(colour).add_modifier(Modifier::BOLD)
    }

    /// How grave an alert is.
    pub(super) const fn severity(self, number: u64) -> Style {
        match number {
            1 => self.in_colour(Color::Red).add_modifier(Modifier::BOLD),
            2 => self.in_colour(Color::Magenta),
            3 => Style::new(),
            _ => self.quiet(),
        }
    }
}
