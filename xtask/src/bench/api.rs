//! `/predict` under 256 clients, each posting one flow after the other on a connection of its own: answers a second and how
//! long they take, beside a server on the same HTTP library that only parses the JSON.
//!
//! The two take turns, and the best turn of each counts: what others do on the machine only ever takes away. The clients share
//! the processors with the server, which costs both servers the same.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;

use super::{figure::Figure, figures_of};
use crate::workspace;

const NAME: &str = "api";
const TURNS: u32 = 3;
const CLIENTS: &str = "256";
/// Seconds of a turn.
const SECONDS: &str = "4";

/// Measures.
pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let ours = Server::start(&["serve", "--listen", "127.0.0.1:0"])?;
    let bare = Server::start(&["bench", "bare"])?;
    let (mut our_best, mut bare_best) = (None, None);
    for _ in 0..TURNS {
        for (server, best) in [(&bare, &mut bare_best), (&ours, &mut our_best)] {
            let turn = Turn::take(&server.address)?;
            if best.as_ref().is_none_or(|best: &Turn| best.rate < turn.rate) {
                *best = Some(turn);
            }
        }
    }
    let (ours, bare) = our_best.zip(bare_best).context("no turn was taken")?;
    let mut figures = ours.figures("/predict");
    figures.extend(bare.figures("parsing alone"));
    figures.push(Figure::new(NAME, "/predict over parsing alone", ours.rate / bare.rate, "times"));
    Ok(figures)
}

/// What the clients saw in one turn.
struct Turn {
    rate: f64,
    p50: f64,
    p99: f64,
}

impl Turn {
    fn take(address: &str) -> anyhow::Result<Self> {
        let mut clients = Command::new(workspace::agent("release"));
        clients.args(["bench", "clients", "--address", address, "--count", CLIENTS, "--seconds", SECONDS]);
        let figures = figures_of(clients)?;
        let value = |name: &str| {
            let found = figures.iter().find(|figure| figure.figure == name);
            found.map(|figure| figure.value).with_context(|| format!("the clients did not print {name}"))
        };
        Ok(Self { rate: value("rate")?, p50: value("p50")?, p99: value("p99")? })
    }

    fn figures(&self, server: &str) -> Vec<Figure> {
        let Self { rate, p50, p99 } = *self;
        [("rate", rate, "requests/s"), ("p50", p50, "ms"), ("p99", p99, "ms")]
            .map(|(figure, value, unit)| Figure::new(NAME, &format!("{server}: {figure}"), value, unit))
            .to_vec()
    }
}

/// A server that ends with the value.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(workspace::agent("release"));
        command.args(arguments).env("RUST_LOG", "info").stdin(Stdio::null()).stderr(Stdio::piped());
        let process = command.spawn().context("cannot start a server")?;
        let mut server = Self { process, address: String::new() };
        let stderr = server.process.stderr.take().context("a server without standard error")?;
        let mut lines = BufReader::new(stderr).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("listening on http://")?.1.to_owned()));
        server.address = address.context("a server did not say where it listens")?;
        if arguments.first() == Some(&"serve") {
            lines
                .by_ref()
                .map_while(Result::ok)
                .find(|line| line.contains("trees"))
                .context("the model was not loaded")?;
        }
        // It must not wait for a reader of what else it says.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about it if it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
