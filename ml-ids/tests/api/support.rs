//! A server on a free port with a model whose answers follow from the row, and a client that sends any bytes.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use ml_ids::{
    api::{
        AppState, Contribution, Explanation, Limits, ModelCard, ModelDetails, Prediction, Predictor, TimeUnit, serve,
    },
    features::FeatureVector,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Above this `Flow Duration`, in microseconds, [`Threshold`] calls a flow a DoS.
pub(crate) const LONG_FLOW: f64 = 1e6;

/// Calls long flows `DoS Hulk`, remembers what it was asked, and waits while its gate is shut.
#[derive(Default)]
pub(crate) struct Threshold {
    pub(crate) seen: Mutex<Vec<FeatureVector>>,
    /// How often it has been asked, answered or not.
    pub(crate) asked: AtomicUsize,
    shut: Mutex<bool>,
    opened: Condvar,
    broken: bool,
}

impl Threshold {
    pub(crate) fn shut(&self) {
        *self.shut.lock().unwrap() = true;
    }

    pub(crate) fn broken() -> Self {
        Self { broken: true, ..Self::default() }
    }

    pub(crate) fn open(&self) {
        *self.shut.lock().unwrap() = false;
        self.opened.notify_all();
    }
}

impl Predictor for Threshold {
    fn card(&self) -> ModelCard {
        ModelCard {
            name: "threshold".to_owned(),
            version: "3".to_owned(),
            source: "embedded".to_owned(),
            resolved: None,
            cached: false,
            sha256: "00".repeat(32),
            profile: "fixed",
            runtime: "comparison".to_owned(),
            loaded_at: SystemTime::UNIX_EPOCH,
            classes: vec!["BENIGN".to_owned(), "DoS Hulk".to_owned()],
        }
    }

    fn predict(&self, rows: &[FeatureVector]) -> Result<Vec<Prediction>, String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let shut = self.shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
        if self.broken {
            return Err("out of order".to_owned());
        }
        self.seen.lock().unwrap().extend_from_slice(rows);
        let score = |row: &FeatureVector| {
            let class = usize::from(row[1] > LONG_FLOW);
            let probabilities = if class == 1 { vec![0.25, 0.75] } else { vec![0.9, 0.1] };
            Prediction {
                class,
                probability: probabilities[class],
                probabilities,
                alert: class == 1,
                out_of_distribution: false,
            }
        };
        Ok(rows.iter().map(score).collect())
    }

    fn explain(&self, row: &FeatureVector, _class: usize, most: usize) -> Option<Explanation> {
        let part = |feature, value, contribution, text: &str| Contribution {
            feature,
            value,
            contribution,
            text: text.to_owned(),
        };
        let mut contributions = vec![
            part("Flow Duration", row[1], -0.5, "Flow Duration 2 s -0.50"),
            part("Destination Port", row[0], 0.1, "Destination Port 0 +0.10"),
        ];
        contributions.truncate(most);
        Some(Explanation { space: "probability", base: 0.25, score: 0.75, contributions })
    }

    fn details(&self) -> ModelDetails {
        ModelDetails { kind: "threshold", ..ModelDetails::default() }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<AppState>,
    pub(crate) model: Arc<Threshold>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default(), false).await
    }

    pub(crate) async fn limited(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::with(limits, false).await
    }

    pub(crate) async fn with(limits: Limits, capture_asked: bool) -> Self {
        let server = Self::without_model(limits, capture_asked).await;
        server.state.set_predictor(server.model.clone());
        server
    }

    pub(crate) async fn without_model(limits: Limits, capture_asked: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(AppState::new(limits, TimeUnit::Auto, capture_asked));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(listener, state.clone(), stopped));
        Self { address, state, model: Arc::default(), stop, task }
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection { stream: TcpStream::connect(self.address).await.unwrap(), buffer: Vec::new(), lines: String::new() }
    }

    /// One request on its own connection.
    pub(crate) async fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut connection = self.connect().await;
        connection.write(&request).await;
        let answer = connection.read().await;
        if let Some(breach) = crate::contract::breach(request.as_ref(), &answer).await {
            panic!("{breach}");
        }
        answer
    }

    /// How often something was refused for this reason.
    pub(crate) async fn refusals(&self, reason: &str) -> u64 {
        let text = self.get("/metrics").await.text();
        let counter = format!("ml_ids_api_refused_requests_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&counter)).unwrap().parse().unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await
    }

    pub(crate) async fn post(&self, body: impl AsRef<[u8]>) -> Answer {
        self.post_as("/predict", "Content-Type: application/json\r\n", body).await
    }

    pub(crate) async fn post_as(&self, target: &str, headers: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send(request(target, headers, body)).await
    }

    /// The last row that the model saw.
    pub(crate) fn row(&self) -> FeatureVector {
        *self.model.seen.lock().unwrap().last().expect("the model was asked")
    }
}

pub(crate) fn request(target: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("POST {target} HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// What has come of an answer in chunks and was not read as a line.
    lines: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that has answered already may have closed its side: what it said is still to be read.
        let _closed = self.stream.write_all(bytes.as_ref()).await.is_err();
    }

    /// The next answer, of a known length or in chunks.
    pub(crate) async fn read(&mut self) -> Answer {
        let mut answer = self.read_head().await;
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(piece) = self.read_piece().await {
                answer.body.extend(piece);
            }
            return answer;
        }
        let length: usize = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if answer.status != 100 {
            answer.body = self.read_exactly(length).await;
        }
        answer
    }

    /// The next chunk of an answer; `None` at its end.
    pub(crate) async fn read_piece(&mut self) -> Option<Vec<u8>> {
        let end = loop {
            match self.buffer.windows(2).position(|window| window == b"\r\n") {
                Some(end) => break end,
                None => assert!(self.fill().await > 0, "closed within an answer"),
            }
        };
        let size = self.read_exactly(end + 2).await;
        let size = usize::from_str_radix(std::str::from_utf8(&size[..end]).unwrap(), 16).unwrap();
        let piece = self.read_exactly(size).await;
        assert_eq!(self.read_exactly(2).await, b"\r\n");
        (size > 0).then_some(piece)
    }

    /// The next line of an answer in chunks, which arrive a line each or many.
    pub(crate) async fn read_line(&mut self) -> Value {
        while !self.lines.contains('\n') {
            let piece = self.read_piece().await.expect("the answer goes on");
            self.lines.push_str(std::str::from_utf8(&piece).unwrap());
        }
        let (line, rest) = self.lines.split_once('\n').unwrap();
        let line = serde_json::from_str(line).unwrap();
        self.lines = rest.to_owned();
        line
    }

    async fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill().await > 0, "closed within an answer");
        }
        self.buffer.drain(..count).collect()
    }

    /// The head of the next answer.
    pub(crate) async fn read_head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(self.fill().await > 0, "closed before an answer: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: Vec::new() }
    }

    /// Whether the server has nothing more to say.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0
    }

    async fn fill(&mut self) -> usize {
        self.stream.read_buf(&mut self.buffer).await.unwrap_or(0)
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// An error with this status: its detail.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.json()["detail"].as_str().expect("detail is a string").to_owned()
    }

    /// A good answer: its JSON.
    #[track_caller]
    pub(crate) fn accepted(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }
}
