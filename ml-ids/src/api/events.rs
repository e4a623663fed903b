//! Server-sent events: how one is written, and an answer that consists of them.
//!
//! An endpoint takes a place of its own (they are open for hours), makes the answer, spawns a task that sends events
//! until [`closed`](tokio::sync::mpsc::Sender::closed) or the server drains, and drops the sender.

use std::time::Duration;

use hyper::{StatusCode, body::Bytes};
use tokio::sync::mpsc;

use super::{
    answer::{Answer, typed},
    content::Content,
};

/// A comment, which clients ignore.
const HEARTBEAT: &[u8] = b":\n\n";

/// An answer that stays open, and where to put events. `capacity` is how many may wait for a client that reads slowly.
pub(crate) fn stream(capacity: usize, heartbeat: Duration) -> (mpsc::Sender<Bytes>, Answer) {
    let (sender, content) = Content::with_heartbeat(capacity, heartbeat, HEARTBEAT);
    (sender, typed(StatusCode::OK, "text/event-stream", content))
}

/// One event. A client that was cut off asks for what came after the `id` that it saw last.
pub(crate) fn event(name: &str, id: Option<&str>, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + name.len() + 32);
    if let Some(id) = id {
        field(&mut text, "id", id);
    }
    field(&mut text, "event", name);
    for line in data.split('\n') {
        field(&mut text, "data", line);
    }
    text.push('\n');
    text.into()
}

/// How long a client that was cut off waits before it comes again.
pub(crate) fn retry(after: Duration) -> Bytes {
    format!("retry: {}\n\n", after.as_millis()).into()
}

/// A remark for people who watch with curl, the reason why the stream ends for example.
pub(crate) fn comment(text: &str) -> Bytes {
    let mut comment = String::with_capacity(text.len() + 4);
    field(&mut comment, "", text);
    comment.push('\n');
    comment.into()
}

/// A line break within a value would begin another field.
fn field(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str(": ");
    text.extend(value.chars().filter(|char| !matches!(char, '\n' | '\r' | '\0')));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_fields_and_a_blank_line() {
        assert_eq!(event("alert", Some("7"), "{}"), "id: 7\nevent: alert\ndata: {}\n\n");
        assert_eq!(event("alert", None, "a\nb"), "event: alert\ndata: a\ndata: b\n\n");
        assert_eq!(retry(Duration::from_secs(3)), "retry: 3000\n\n");
        assert_eq!(comment("too slow"), ": too slow\n\n");
    }

    #[tokio::test]
    async fn the_answer_is_an_open_stream_of_events() {
        let (sender, answer) = stream(1, Duration::from_secs(60));
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert!(!sender.is_closed());
        drop(answer);
        assert!(sender.is_closed());
    }

    #[test]
    fn no_value_can_begin_another_field() {
        assert_eq!(event("a\nid: 9", Some("1\r2"), "x\r"), "id: 12\nevent: aid: 9\ndata: x\n\n");
    }
}
