//! What threads finish in any order and one takes in order.

use std::collections::VecDeque;

/// Items that come in any order and leave in that of their numbers.
pub(super) struct Ring<T> {
    items: VecDeque<Option<T>>,
    /// The number of the item that leaves next.
    pub(super) next: u64,
}

impl<T> Ring<T> {
    pub(super) const fn new() -> Self {
        Self { items: VecDeque::new(), next: 0 }
    }

    pub(super) fn put(&mut self, number: u64, item: T) {
        let index = number.wrapping_sub(self.next) as usize;
        while self.items.len() <= index {
            self.items.push_back(None);
        }
        if let Some(place) = self.items.get_mut(index) {
            *place = Some(item);
        }
    }

    pub(super) fn has_next(&self) -> bool {
        matches!(self.items.front(), Some(Some(_)))
    }

    pub(super) fn take(&mut self) -> Option<(u64, T)> {
        let item = self.items.front_mut()?.take()?;
        self.items.pop_front();
        self.next += 1;
        Some((self.next - 1, item))
    }
}
