//! A web server for tests that says exactly what it is told to, however wrong.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// A running server; it takes no further requests once dropped.
pub(in crate::model) struct Site {
    pub(in crate::model) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    closed: Arc<AtomicBool>,
}

impl Site {
    /// Answers each request, one a connection, by `answer`, which gets its head and writes what it likes.
    pub(in crate::model) fn start(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (heads, closed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let site =
            Self { address: listener.local_addr().unwrap(), heads: Arc::clone(&heads), closed: Arc::clone(&closed) };
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    break;
                }
                let (mut stream, heads, answer) = (stream.unwrap(), Arc::clone(&heads), Arc::clone(&answer));
                thread::spawn(move || {
                    let reader = BufReader::new(stream.try_clone().unwrap());
                    let lines = reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                    let head = lines.fold(String::new(), |head, line| head + &line + "\n");
                    heads.lock().unwrap().push(head.clone());
                    answer(&head, &mut stream);
                });
            }
        });
        site
    }

    /// Answers every request with these bytes.
    pub(in crate::model) fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |_, stream| {
            let _ = stream.write_all(&answer);
        })
    }

    pub(in crate::model) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Heads of the requests so far.
    pub(in crate::model) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

/// An answer with a body and further header lines, each ending in CRLF.
pub(in crate::model) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}
