//! What has come of a stream of lines and is not scored yet.

use hyper::body::Bytes;

use super::{
    body::{BodyBudget, Held, Share},
    error::ApiError,
};

/// Bytes in the order in which they came. Bounded by who fills it.
#[derive(Debug, Default)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    /// Bytes before this are cut off already.
    start: usize,
    /// No line ends between the start and here.
    searched: usize,
    /// Where the last, incomplete line begins.
    last: usize,
    share: Share,
}

/// Whole lines that are scored together.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Their bytes; blank lines may be among them.
    pub(crate) held: Held,
    /// How many are not blank; never 0.
    pub(crate) count: usize,
}

impl Window {
    /// Bytes in it.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Bytes of the line that is not complete.
    pub(crate) fn incomplete(&self) -> usize {
        self.bytes.len() - self.last
    }

    /// Appends. The error is too little memory; nothing is appended then.
    pub(crate) fn push(&mut self, data: &Bytes, budget: &BodyBudget) -> Result<(), ApiError> {
        self.share.grow_to(self.len() + data.len(), budget)?;
        // What is cut off goes when it is the greater part, so that each byte is moved once at most.
        if self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.last -= self.start;
            self.start = 0;
        }
        if let Some(end) = data.iter().rposition(|byte| *byte == b'\n') {
            self.last = self.bytes.len() + end + 1;
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Cuts off up to `most` lines, if there is one. The last line of a body need not have an end.
    pub(crate) fn cut(&mut self, most: usize, is_ended: bool) -> Option<Lines> {
        let (mut line, mut count) = (self.start, 0);
        while count < most {
            let from = line.max(self.searched);
            let rest = self.bytes.get(from..).unwrap_or_default();
            let end = match rest.iter().position(|byte| *byte == b'\n') {
                Some(length) => from + length + 1,
                None if is_ended && line < self.bytes.len() => self.bytes.len(),
                None => break,
            };
            let is_blank = self.bytes.get(line..end).unwrap_or_default().trim_ascii().is_empty();
            count += usize::from(!is_blank);
            line = end;
        }
        if count < most {
            self.searched = self.bytes.len();
        }
        let (start, end) = (self.start, line);
        self.start = end;
        self.searched = self.searched.max(end);
        self.last = self.last.max(end);
        let share = self.share.shrink_to(self.len());
        let bytes = self.bytes.get(start..end).filter(|_| count > 0)?.to_vec();
        Some(Lines { held: Held { bytes, share }, count })
    }

    /// Forgets the line that is not complete and never will be.
    pub(crate) fn drop_incomplete(&mut self) {
        self.bytes.truncate(self.last);
        self.searched = self.searched.min(self.last);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    fn window(text: &'static str) -> Window {
        let mut window = Window::default();
        push(&mut window, text);
        window
    }

    fn push(window: &mut Window, text: &'static str) {
        static BUDGET: LazyLock<BodyBudget> = LazyLock::new(|| BodyBudget::new(1 << 20));
        window.push(&Bytes::from_static(text.as_bytes()), &BUDGET).unwrap();
    }

    fn cut(window: &mut Window, most: usize, is_ended: bool) -> Option<(String, usize)> {
        let lines = window.cut(most, is_ended)?;
        Some((String::from_utf8(lines.held.bytes).unwrap(), lines.count))
    }

    #[test]
    fn lines_come_out_whole_and_in_order_however_they_came_in() {
        let mut window = window("ab");
        assert_eq!(cut(&mut window, 9, false), None);
        push(&mut window, "c\nd");
        assert_eq!(window.incomplete(), 1);
        assert_eq!(cut(&mut window, 9, false), Some(("abc\n".to_owned(), 1)));
        assert_eq!(cut(&mut window, 9, false), None);
        push(&mut window, "e\n\nf\ng");
        assert_eq!(cut(&mut window, 1, false), Some(("de\n".to_owned(), 1)));
        assert_eq!(cut(&mut window, 9, false), Some(("\nf\n".to_owned(), 1)));
        assert_eq!(cut(&mut window, 9, true), Some(("g".to_owned(), 1)));
        assert_eq!((cut(&mut window, 9, true), window.len(), window.incomplete()), (None, 0, 0));
    }

    #[test]
    fn blank_lines_are_not_lines_and_take_no_room() {
        let mut window = window("\n \r\n\n");
        assert_eq!((cut(&mut window, 9, false), window.len()), (None, 0));
        push(&mut window, " \na\n");
        assert_eq!(cut(&mut window, 1, false), Some((" \na\n".to_owned(), 1)));
    }

    #[test]
    fn what_is_cut_off_leaves_room_in_the_budget_and_in_memory() {
        let (budget, data) = (BodyBudget::new(8 << 10), Bytes::from(b"x".repeat(1023)));
        let mut window = Window::default();
        for _ in 0..1000 {
            window.push(&data, &budget).unwrap();
            window.push(&Bytes::from_static(b"\n"), &budget).unwrap();
            assert_eq!(window.cut(9, false).unwrap().held.bytes.len(), 1024);
            assert!(window.bytes.len() < 8 << 10);
        }
        for _ in 0..8 {
            window.push(&data, &budget).unwrap();
        }
        let length = window.len();
        assert!(window.push(&data, &budget).is_err());
        assert_eq!(window.len(), length);
        drop(window);
        Window::default().push(&Bytes::from(b"x".repeat(8 << 10)), &budget).unwrap();
    }

    #[test]
    fn line_that_broke_off_is_forgotten() {
        let mut window = window("a\nb\nc");
        window.drop_incomplete();
        assert_eq!(cut(&mut window, 9, true), Some(("a\nb\n".to_owned(), 2)));
        assert_eq!(cut(&mut window, 9, true), None);
    }
}
