//! A POST for each event. Delivered when the answer is 2xx; tried again when the server is away, too busy or broken; refused
//! when it says that this request is wrong.
//!
//! Receivers such as Slack give out addresses that are secrets themselves, so only scheme and host are ever shown.

use std::{io::Read as _, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;
use time::{OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description};
use ureq::{
    Agent, Body, Error, Timeout,
    http::{
        HeaderValue, Response,
        header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
    },
    tls::{RootCerts, TlsConfig},
};

use super::{
    event::Event,
    hub::{First, Sink, Undelivered},
    template::Template,
};
use crate::model::{Auth, Secret, WebUrl};

/// How long one event may take, from finding the host's address to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read: a connection whose answer is read to its end serves the next event, too.
const ANSWER_BYTES: u64 = 16 << 10;
/// Characters of a refusal that are shown.
const SHOWN: usize = 200;
/// A time in a header.
const HTTP_DATE: &[BorrowedFormatItem<'static>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// The sink.
pub(super) struct Webhook {
    agent: Agent,
    url: WebUrl,
    authorization: Option<HeaderValue>,
    template: Option<Template>,
}

/// The value of the header `Authorization` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the webhook's authorization holds characters that no HTTP header may hold; it is one line such as: Bearer TOKEN"
)]
pub struct AuthorizationError;

impl Webhook {
    /// Connects when there is something to send. `authorization` is the whole value of the header `Authorization`; a user in the
    /// address comes first.
    pub(super) fn new(
        url: WebUrl,
        authorization: Option<&Secret>,
        template: Option<Template>,
    ) -> Result<Self, AuthorizationError> {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let mut config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("ml-ids/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // A redirect would carry events and the token to somebody else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(PATIENCE));
        if url.is_loopback() {
            config = config.proxy(None);
        }
        let of_url = url.auth().map(|auth| match auth {
            Auth::Basic { user, password } => {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.reveal())))
            }
            Auth::Bearer(token) => format!("Bearer {}", token.reveal()),
        });
        let authorization = of_url.as_deref().or(authorization.map(Secret::reveal));
        let authorization = authorization.map(HeaderValue::from_str).transpose().map_err(|_| AuthorizationError)?;
        let authorization = authorization.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Ok(Self { agent: config.build().new_agent(), url, authorization, template })
    }

    fn post(&self, event: &Event) -> Result<(), (First, String)> {
        let body = match &self.template {
            None => event.line().to_owned(),
            Some(template) => template.fill(&serde_json::from_str(event.line()).unwrap_or(Value::Null)),
        };
        let mut request = self.agent.post(self.url.uri()).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.send(body.as_bytes()).map_err(|error| (First::Retry, in_words(&error)))?;
        let status = response.status();
        let first = match status.as_u16() {
            200..=299 => None,
            408 | 425 | 429 | 500.. => Some(wish(&response).map_or(First::Retry, First::RetryAfter)),
            _ => Some(First::Refused),
        };
        let mut words = String::new();
        // What can be read of it is shown; that it broke off matters less than the status.
        let _ = response.into_body().into_reader().take(ANSWER_BYTES).read_to_string(&mut words);
        let Some(first) = first else { return Ok(()) };
        let hint = match status.as_u16() {
            300..=399 => ": give the address that it leads to",
            401 | 403 => ": look at ML_IDS_WEBHOOK_AUTHORIZATION",
            _ if words.trim().is_empty() => "",
            _ => ": ",
        };
        if hint == ": " {
            let shown: String =
                words.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
            return Err((first, format!("answered {status}: {shown}")));
        }
        Err((first, format!("answered {status}{hint}")))
    }
}

impl Sink for Webhook {
    fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        for (delivered, event) in events.iter().enumerate() {
            self.post(event).map_err(|(first, reason)| Undelivered {
                delivered,
                first,
                error: format!("{}: {reason}", self.url.origin_text()).into(),
            })?;
        }
        Ok(())
    }

    fn batch(&self) -> usize {
        1
    }
}

/// How long the server wants to be left alone: seconds, or a time.
fn wish(response: &Response<Body>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    wish_of(text, OffsetDateTime::now_utc())
}

fn wish_of(text: &str, now: OffsetDateTime) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = PrimitiveDateTime::parse(text, HTTP_DATE).ok()?.assume_utc();
    Some(Duration::try_from(until - now).unwrap_or(Duration::ZERO))
}

fn in_words(error: &Error) -> String {
    match error {
        Error::Timeout(Timeout::Resolve) => "its name is not resolved in time".to_owned(),
        Error::Timeout(Timeout::Connect) => "it does not accept the connection in time".to_owned(),
        Error::Timeout(_) => "it does not answer in time".to_owned(),
        Error::HostNotFound => "there is no such host".to_owned(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
        thread::JoinHandle,
    };

    use serde_json::json;

    use super::*;
    use crate::sink::EventKind;

    /// A server that gives one connection these answers, and returns the requests.
    fn server(answers: &'static [&'static str]) -> (WebUrl, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://ann:secret@{}/hook/T0/s3cr3t", listener.local_addr().unwrap()).parse().unwrap();
        let requests = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let answer = |answer: &&str| {
                let request = read_request(&mut peer);
                peer.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 4\r\n\r\nno\r\n").as_bytes()).unwrap();
                request
            };
            answers.iter().map(answer).collect()
        });
        (url, requests)
    }

    fn read_request(peer: &mut TcpStream) -> String {
        let (mut text, mut byte) = (String::new(), [0]);
        let complete = |text: &str| {
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length = head.to_lowercase().split_once("content-length: ")?.1.lines().next()?.parse::<usize>().ok()?;
            Some(body.len() >= length)
        };
        while complete(&text) != Some(true) {
            peer.read_exact(&mut byte).unwrap();
            text.push(char::from(byte[0]));
        }
        text
    }

    fn events(count: usize) -> Vec<Event> {
        (0..count).map(|number| Event::new(EventKind::Alert, &json!({ "label": number }))).collect()
    }

    #[test]
    fn each_event_is_a_request_over_one_connection_and_the_status_decides() {
        let (url, requests) = server(&[
            "200 OK",
            "429 Slow\r\nretry-after: 7",
            "500 Oops",
            "400 Bad",
            "307 Away\r\nlocation: http://other.example/",
        ]);
        let template = Template::parse(r#"{"x": {{label}}}"#).unwrap();
        let mut webhook = Webhook::new(url, None, Some(template)).unwrap();
        let failure = webhook.deliver(&events(2)).unwrap_err();
        assert_eq!((failure.delivered, failure.first), (1, First::RetryAfter(Duration::from_secs(7))));
        let mut outcome = || webhook.deliver(&events(1)).unwrap_err();
        assert_eq!(outcome().first, First::Retry);
        let refused = outcome();
        assert_eq!(refused.first, First::Refused);
        assert!(refused.to_string().ends_with("answered 400 Bad Request: no"), "{refused}");
        let redirected = outcome();
        assert_eq!(redirected.first, First::Refused);
        for failure in [refused, redirected] {
            assert!(!failure.to_string().contains("s3cr3t"), "{failure}");
        }
        let requests = requests.join().unwrap();
        assert!(requests[0].starts_with("POST /hook/T0/s3cr3t HTTP/1.1\r\n"), "{}", requests[0]);
        assert!(requests[0].contains("authorization: Basic YW5uOnNlY3JldA=="), "{}", requests[0]);
        assert!(requests[0].ends_with("\r\n\r\n{\"x\": 0}") && requests[1].ends_with("{\"x\": 1}"), "{requests:?}");
    }

    #[test]
    fn a_server_that_is_away_is_tried_again() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}/").parse().unwrap();
        let failure = Webhook::new(url, None, None).unwrap().deliver(&events(1)).unwrap_err();
        assert_eq!(failure.first, First::Retry);
    }

    #[test]
    fn a_server_asks_for_patience_in_seconds_or_until_a_time() {
        let now = time::macros::datetime!(2026-11-27 08:00:00 UTC);
        assert_eq!(wish_of("120", now), Some(Duration::from_secs(120)));
        assert_eq!(wish_of("Fri, 27 Nov 2026 08:01:00 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(wish_of("Fri, 27 Nov 2026 07:59:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(wish_of("soon", now), None);
    }

    #[test]
    fn an_authorization_of_two_lines_is_refused() {
        let secret = Secret::new("Bearer x\r\nhost: y".to_owned());
        let url: WebUrl = "https://hooks.example/".parse().unwrap();
        assert!(Webhook::new(url, Some(&secret), None).is_err());
    }
}
