//! NATS JetStream: each event under the subject `PREFIX.NODE.TYPE`, delivered when the stream has acknowledged it.
//!
//! A batch is published without waiting, then all acknowledgments are awaited. Each event carries a number made of its content,
//! so that the server recognises what is published again because an acknowledgment did not come (within the stream's
//! duplicate window, two minutes unless it says otherwise).
//!
//! The client works while this thread waits for it, so an idle sink lets it work a little now and then.

use std::{io, time::Duration};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, ServerAddr,
    jetstream::{
        self, ErrorCode,
        context::{Context, PublishError, PublishErrorKind},
        message::PublishMessage,
        stream::{Config, DiscardPolicy, StorageType},
    },
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::runtime::{Builder, Runtime};

use super::{
    address::NatsTarget,
    event::Event,
    hub::{First, Sink, Undelivered},
    node::{node_name, one_word},
};
use crate::model::Secret;

/// How long connecting may take, and acknowledging a batch.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the client gets to answer the server's pings while there is nothing to publish.
const UPKEEP: Duration = Duration::from_millis(2);
/// Longest name of a node in a subject.
const NODE_BYTES: usize = 128;
/// Bytes that a stream made by us may hold; the oldest events go.
const STREAM_BYTES: i64 = 1 << 30;
/// Bytes of an event's number, of its SHA-256.
const ID_BYTES: usize = 16;

/// A user with a password, or a token alone.
pub type Login = (Secret, Option<Secret>);

/// The sink.
pub(super) struct Nats {
    target: NatsTarget,
    login: Option<Login>,
    node: String,
    /// Made by the thread that uses it.
    runtime: Option<Runtime>,
    open: Option<Context>,
}

/// Why events could not be published.
#[derive(Debug, thiserror::Error)]
enum NatsError {
    #[error("the system does not give the client what it needs: {0}")]
    Runtime(io::Error),
    #[error("the address is none: {0}")]
    Address(io::Error),
    #[error("user, password or token are not accepted")]
    Login,
    #[error("{0}")]
    Connect(async_nats::ConnectError),
    #[error("it does not answer in time")]
    Slow,
    #[error("the stream {0} cannot be made: {1}")]
    Create(String, Box<dyn std::error::Error + Send + Sync>),
    #[error("no stream takes {0}; make one, or let ?create=STREAM in the address do it")]
    NoStream(String),
    #[error("{0}")]
    Publish(PublishError),
}

impl Nats {
    /// Connects when there is something to send. The login in the address comes before `login`.
    pub(super) fn new(target: NatsTarget, login: Option<Login>) -> Self {
        let login = target.login.clone().or(login);
        Self { target, login, node: one_word(&node_name(), NODE_BYTES), runtime: None, open: None }
    }
}

impl Sink for Nats {
    fn deliver(&mut self, events: &[Event]) -> Result<(), Undelivered> {
        let Self { target, login, node, runtime, open } = self;
        let subject = |event: &Event| format!("{}.{node}.{}", target.prefix, event.kind().name());
        let failed = |(delivered, error): (usize, NatsError)| Undelivered {
            delivered,
            first: error.first(),
            error: format!("{}: {error}", target.host).into(),
        };
        let runtime = match runtime {
            Some(runtime) => runtime,
            none => {
                let made = Builder::new_current_thread().enable_all().build();
                none.insert(made.map_err(|error| failed((0, NatsError::Runtime(error))))?)
            }
        };
        let published = runtime.block_on(async {
            let context = match open.take() {
                Some(context) => context,
                None => connect(target, login.as_ref()).await.map_err(|error| (0, error))?,
            };
            publish(&context, events, &subject).await?;
            *open = Some(context);
            Ok(())
        });
        published.map_err(failed)
    }

    fn reopen(&mut self) {
        self.open = None;
    }

    fn idle(&mut self) {
        if let (Some(_), Some(runtime)) = (&self.open, &self.runtime) {
            runtime.block_on(tokio::time::sleep(UPKEEP));
        }
    }
}

impl NatsError {
    /// What becomes of the event: too large it stays, whatever else may change.
    fn first(&self) -> First {
        let Self::Publish(error) = self else { return First::Retry };
        let said = std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
        let too_large = error.kind() == PublishErrorKind::MaxPayloadExceeded
            || said.is_some_and(|said| said.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM);
        if too_large { First::Refused } else { First::Retry }
    }
}

async fn connect(target: &NatsTarget, login: Option<&Login>) -> Result<Context, NatsError> {
    let scheme = if target.tls { "tls" } else { "nats" };
    let address: ServerAddr = format!("{scheme}://{}", target.host).parse().map_err(NatsError::Address)?;
    let mut options = ConnectOptions::new()
        .name("ml-ids")
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .require_tls(target.tls)
        // What to do when it breaks is decided here.
        .max_reconnects(1);
    if let Some(ca) = &target.ca {
        options = options.add_root_certificates(ca.clone());
    }
    options = match login {
        Some((user, Some(password))) => {
            options.user_and_password(user.reveal().to_owned(), password.reveal().to_owned())
        }
        Some((token, None)) => options.token(token.reveal().to_owned()),
        None => options,
    };
    let client: Client = tokio::time::timeout(PATIENCE, options.connect(address))
        .await
        .map_err(|_| NatsError::Slow)?
        .map_err(|error| match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => NatsError::Login,
        _ => NatsError::Connect(error),
    })?;
    let mut context = jetstream::new(client);
    context.set_timeout(PATIENCE);
    if let Some(name) = &target.create {
        let config = Config {
            name: name.clone(),
            subjects: vec![format!("{}.>", target.prefix)],
            max_bytes: STREAM_BYTES,
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            ..Config::default()
        };
        let made = context.get_or_create_stream(config).await;
        made.map_err(|error| NatsError::Create(name.clone(), error.into()))?;
    }
    Ok(context)
}

/// Publishes all, then awaits all. The error comes with how many at the front were acknowledged.
async fn publish(
    context: &Context,
    events: &[Event],
    subject: &impl Fn(&Event) -> String,
) -> Result<(), (usize, NatsError)> {
    let mut acknowledgments = Vec::with_capacity(events.len());
    let mut failure = None;
    for event in events {
        let subject = subject(event);
        let message = PublishMessage::build()
            .payload(Bytes::copy_from_slice(event.line().as_bytes()))
            .message_id(id(&subject, event));
        match context.send_publish(subject.clone(), message).await {
            Ok(acknowledgment) => acknowledgments.push((subject, acknowledgment)),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    // All of them are on their way, so together they get the time of one.
    let end = tokio::time::Instant::now() + PATIENCE;
    let sent = acknowledgments.len();
    for (count, (subject, acknowledgment)) in acknowledgments.into_iter().enumerate() {
        match tokio::time::timeout_at(end, acknowledgment).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == PublishErrorKind::StreamNotFound => {
                return Err((count, NatsError::NoStream(subject)));
            }
            Ok(Err(error)) => return Err((count, NatsError::Publish(error))),
            Err(_) => return Err((count, NatsError::Slow)),
        }
    }
    failure.map_or(Ok(()), |error| Err((sent, NatsError::Publish(error))))
}

/// The event's number: the same whenever it is published.
fn id(subject: &str, event: &Event) -> String {
    let mut hash = Sha256::new();
    hash.update(subject);
    hash.update([0]);
    hash.update(event.line());
    let digest = hash.finalize();
    digest.iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sink::{EventKind, HostPort};

    #[test]
    fn an_event_has_one_number_and_no_other_has_it() {
        let event = |number: u32| Event::new(EventKind::Alert, &json!(number));
        assert_eq!(id("a", &event(1)), id("a", &event(1)));
        assert_ne!(id("a", &event(1)), id("a", &event(2)));
        assert_ne!(id("a", &event(1)), id("b", &event(1)));
        assert_eq!(id("a", &event(1)).len(), 2 * ID_BYTES);
    }

    #[test]
    fn a_server_that_is_away_is_tried_again() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let target = NatsTarget {
            host: HostPort { host: "127.0.0.1".to_owned(), port },
            tls: false,
            ca: None,
            login: None,
            prefix: "mlids".to_owned(),
            create: None,
        };
        let failure = Nats::new(target, None).deliver(&[Event::new(EventKind::Alert, &json!(1))]).unwrap_err();
        assert_eq!((failure.delivered, failure.first), (0, First::Retry));
    }
}
