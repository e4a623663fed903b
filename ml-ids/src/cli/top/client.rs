//! Asking the agent: one request at a time, bounded in time and bytes, and a thread that does it again and again.

use std::{
    fmt,
    io::ErrorKind,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use serde_json::Value;
use ureq::{
    Agent, Error, Timeout,
    http::{StatusCode, header::AUTHORIZATION},
};

use super::{
    rows::{Alert, Curve, Flow, Health},
    state::{Event, Sort},
    words::clean,
};
use crate::{
    cli::agent_client::{self, TokenError, bearer},
    model::WebUrl,
};

/// Longest wait for an answer; the first one is waited for before the screen is taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes.
const MOST_BYTES: u64 = 8 << 20;
/// Seconds of the curve.
pub(super) const CURVE: usize = 300;
/// Flows and alerts that are fetched.
const FLOWS: usize = 100;
const ALERTS: usize = 50;

/// Where an agent listens.
#[derive(Clone)]
pub(super) struct Server {
    url: WebUrl,
    /// Without a slash at its end.
    text: String,
}

/// Why there is no answer. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Away {
    /// Nobody is there.
    #[error("no agent answers at {url}: {reason}; start one with `ml-ids run`, or say where it listens with --url")]
    Unreachable {
        /// Where.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// It wants to know who asks.
    #[error("the agent at {0} asks for a token; name the file that holds it with --token-file")]
    Token(String),
    /// It refuses the token.
    #[error(
        "the agent at {0} does not accept the token of --token-file; take a line of the file that it was started with"
    )]
    WrongToken(String),
    /// No token can be shown.
    #[error("{url}: {reason}")]
    NoToken {
        /// Where.
        url: String,
        /// Why not.
        reason: TokenError,
    },
    /// Something else listens there.
    #[error(
        "what listens at {url} does not answer as an agent does ({reason}); say where the agent listens with --url"
    )]
    Stranger {
        /// Where.
        url: String,
        /// What it answers.
        reason: String,
    },
    /// The agent has no such thing; what it says of it.
    #[error("{0}")]
    Missing(String),
}

/// What the thread is to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) sort: Sort,
    pub(super) paused: bool,
}

/// All that one look has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Look {
    pub(super) health: Health,
    pub(super) curve: Curve,
    /// In this order, which may no longer be the one that is wanted.
    pub(super) sort: Sort,
    pub(super) flows: Vec<Flow>,
    pub(super) alerts: Vec<Alert>,
}

/// A client of one agent.
pub(super) struct Client {
    server: Server,
    agent: Agent,
    authorization: Option<String>,
}

/// Reads `--url`.
pub(super) fn server(text: &str) -> Result<Server, String> {
    let wrong = || "use http://ADDRESS:PORT or https://NAME:PORT, for example http://127.0.0.1:8000".to_owned();
    let url: WebUrl = text.parse().map_err(|_| wrong())?;
    if url.auth().is_some() || url.uri().query().is_some() {
        return Err(wrong());
    }
    let text = clean(url.uri().to_string().trim_end_matches('/'));
    Ok(Server { url, text })
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Client {
    /// A client that shows the first line of this file.
    ///
    /// # Errors
    /// When the file has none, or others could read it on its way there.
    pub(super) fn new(server: Server, token_file: Option<&Path>) -> Result<Self, Away> {
        let agent = agent_client::client(&server.url, PATIENCE, false);
        let authorization = token_file.map(|file| bearer(file, &server.url)).transpose();
        let authorization = authorization.map_err(|reason| Away::NoToken { url: server.to_string(), reason })?;
        Ok(Self { server, agent, authorization })
    }

    pub(super) const fn server(&self) -> &Server {
        &self.server
    }

    /// Whether an agent is there and lets us in.
    pub(super) fn hello(&self) -> Result<(), Away> {
        let answer = self.get("/health")?;
        if answer.get("model_initialized").is_none() {
            return Err(self.stranger("no health of an agent"));
        }
        Ok(())
    }

    fn get(&self, path: &str) -> Result<Value, Away> {
        let url = || self.server.to_string();
        let unreachable = |error: &Error| {
            let reason = match error {
                Error::Timeout(Timeout::Resolve) => "its name is not resolved in time".to_owned(),
                Error::Timeout(_) => "it does not answer in time".to_owned(),
                Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
                Error::Io(error) => clean(&error.to_string()),
                Error::HostNotFound => "there is no such host".to_owned(),
                error => clean(&error.to_string()),
            };
            Away::Unreachable { url: url(), reason }
        };
        let mut request = self.agent.get(format!("{}{path}", self.server));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut response = request.call().map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(MOST_BYTES).read_to_vec();
        let body = body.map_err(|error| unreachable(&error))?;
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        match (status, answer) {
            (StatusCode::OK, Some(answer)) => Ok(answer),
            (StatusCode::OK, None) => Err(self.stranger("no JSON")),
            (StatusCode::UNAUTHORIZED, _) if self.authorization.is_some() => Err(Away::WrongToken(url())),
            (StatusCode::UNAUTHORIZED, _) => Err(Away::Token(url())),
            (status, Some(answer)) if answer.get("detail").is_some_and(Value::is_string) => {
                let detail = answer.get("detail").and_then(Value::as_str).unwrap_or_default();
                log::debug!("{path}: {status}");
                Err(Away::Missing(clean(detail)))
            }
            (status, _) => Err(self.stranger(&format!("status {}", status.as_u16()))),
        }
    }

    fn stranger(&self, reason: &str) -> Away {
        Away::Stranger { url: self.server.to_string(), reason: reason.to_owned() }
    }

    /// All that is shown. What an agent that watches nothing does not have stays empty.
    fn look(&self, sort: Sort) -> Result<Look, Away> {
        let health = Health::of(&self.get("/health")?);
        let or_empty = |path: String| match self.get(&path) {
            Err(Away::Missing(_)) => Ok(Value::Null),
            answer => answer,
        };
        let by = sort.name();
        Ok(Look {
            health,
            curve: Curve::of(&or_empty(format!("/timeline?seconds={CURVE}"))?, CURVE),
            sort,
            flows: Flow::all(&or_empty(format!("/flows?by={by}&limit={FLOWS}"))?),
            alerts: Alert::all(&or_empty(format!("/alerts?limit={ALERTS}"))?),
        })
    }

    /// Looks again and again, until nobody wants it any more; at once when something else is wanted.
    pub(super) fn work(&self, interval: Duration, wishes: &Receiver<Wanted>, events: &Sender<Event>) {
        let mut wanted = Wanted { sort: Sort::default(), paused: false };
        let mut next = Instant::now();
        loop {
            match wishes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(wish) => {
                    wanted = wishes.try_iter().last().unwrap_or(wish);
                    next = Instant::now();
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            next = Instant::now() + interval;
            if wanted.paused {
                continue;
            }
            let looked = self.look(wanted.sort);
            if events.send(Event::Looked(looked.map(Box::new))).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, net::TcpListener};

    use super::*;

    #[test]
    fn a_server_is_an_address_on_the_web_without_a_password() {
        assert_eq!(server("http://127.0.0.1:8000/").unwrap().to_string(), "http://127.0.0.1:8000");
        assert_eq!(server("https://ids.example/base/").unwrap().to_string(), "https://ids.example/base");
        for wrong in ["127.0.0.1:8000", "ftp://x", "http://", "http://user:secret@x", "http://x/?q=1"] {
            assert!(server(wrong).unwrap_err().contains("http://127.0.0.1:8000"), "{wrong}");
        }
    }

    #[test]
    fn no_token_goes_to_another_host_in_the_clear() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"a-token\n").unwrap();
        let of = |url: &str| Client::new(server(url).unwrap(), Some(file.path())).map(|client| client.authorization);
        let refused = of("http://sensor.example:8000").unwrap_err();
        assert!(matches!(refused, Away::NoToken { reason: TokenError::InTheClear, .. }));
        assert!(refused.to_string().contains("https://"), "{refused}");
        for url in ["http://127.0.0.1:8000", "https://sensor.example"] {
            assert_eq!(of(url).unwrap().as_deref(), Some("Bearer a-token"));
        }
    }

    /// A server that gives this answer once.
    fn answering(answer: &'static str) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let _read = std::io::Read::read(&mut stream, &mut head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Client::new(server(&url).unwrap(), None).unwrap()
    }

    #[test]
    fn what_is_wrong_with_the_other_side_is_told_apart() {
        let close = "connection: close\r\n\r\n";
        let nobody = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            drop(listener);
            Client::new(server(&url).unwrap(), None).unwrap()
        };
        let told = nobody.hello().unwrap_err();
        assert!(matches!(told, Away::Unreachable { .. }) && told.to_string().contains("ml-ids run"), "{told}");
        for (answer, expected) in [
            ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}", "--token-file"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}", "as an agent does"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi", "no JSON"),
            ("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", "status 500"),
        ] {
            assert!(answer.contains(close));
            let told = answering(answer).hello().unwrap_err().to_string();
            assert!(told.contains(expected), "{told}");
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 27\r\nconnection: close\r\n\r\n{\"model_initialized\": true} ";
        assert_eq!(answering(answer).hello(), Ok(()));
    }
}
