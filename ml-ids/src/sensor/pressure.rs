//! When the table counts as nearly full: the mode in which flows end early.

/// Fill from which on flows end early.
const ON: f64 = 0.90;
/// Fill below which they no longer do.
const OFF: f64 = 0.75;

/// On or off, with a gap between the two thresholds so that it does not flutter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pressure {
    on: bool,
}

impl Pressure {
    /// Takes note of the fill, and returns the mode if it has changed.
    pub(super) fn observe(&mut self, used: u32, slots: u32) -> Option<bool> {
        let fill = f64::from(used) / f64::from(slots.max(1));
        let on = if self.on { fill >= OFF } else { fill >= ON };
        let changed = on != self.on;
        self.on = on;
        changed.then_some(on)
    }

    pub(super) const fn is_on(self) -> bool {
        self.on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_nine_tenths_and_holds_until_three_quarters() {
        let mut pressure = Pressure::default();
        let seen = [899, 900, 899, 750, 749, 750, 899, 950].map(|used| pressure.observe(used, 1000));
        assert_eq!(seen, [None, Some(true), None, None, Some(false), None, None, Some(true)]);
        assert!(pressure.is_on());
    }
}
