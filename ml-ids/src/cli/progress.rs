//! Bars for people while long work goes on: on a terminal only, and never in the midst of a line of the log.

use std::{
    env,
    fs::File,
    io::{self, IsTerminal as _, LineWriter, Read, Seek as _, Write},
    os::unix::fs::FileExt as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// Of an input whose size is known.
const BAR: &str = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}{msg}, {eta} left";
/// Of one whose size is not.
const SPINNER: &str = "{spinner} {bytes} {bytes_per_sec}{msg} in {elapsed}";
/// Of a download.
const DOWNLOAD: &str = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";

/// The bar on the terminal, which has to go while a line is written.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// How much an offline command says.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(super) struct Quiet {
    /// No progress bar and no summary: only what is wrong
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// The bar of the work that goes on; it is gone when this is dropped.
pub(super) struct Progress {
    bar: ProgressBar,
    /// Flows, or rows, that are done.
    done: AtomicU64,
    what: &'static str,
}

impl Progress {
    /// For reading an input of this size; `what` is what is made of it.
    pub(super) fn of_input(size: Option<u64>, what: &'static str, quiet: Quiet) -> Self {
        let bar = match size {
            _ if !wanted(quiet) => ProgressBar::hidden(),
            Some(size) => styled(ProgressBar::new(size), BAR),
            None => {
                let bar = styled(ProgressBar::no_length(), SPINNER);
                bar.enable_steady_tick(Duration::from_millis(200));
                bar
            }
        };
        Self::shown(bar, what)
    }

    /// For a download.
    pub(super) fn of_download(quiet: Quiet) -> Self {
        let bar = if wanted(quiet) { styled(ProgressBar::no_length(), DOWNLOAD) } else { ProgressBar::hidden() };
        Self::shown(bar, "")
    }

    fn shown(bar: ProgressBar, what: &'static str) -> Self {
        if !bar.is_hidden() {
            *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        }
        Self { bar, done: AtomicU64::new(0), what }
    }

    /// Counts what is read.
    pub(super) fn wrap_read<R: Read>(&self, input: R) -> impl Read + use<R> {
        self.bar.wrap_read(input)
    }

    /// Reads the rest of a plain file, from where it stands, at any place of it, and counts it; `None` if there is no
    /// `size`, as that is not a regular file.
    pub(super) fn read_at<'a>(
        &'a self,
        file: &'a File,
        size: Option<u64>,
    ) -> Option<impl Fn(&mut [u8], u64) -> io::Result<usize> + Sync + 'a> {
        size?;
        let mut here = file;
        let start = here.stream_position().ok()?;
        Some(move |space: &mut [u8], offset: u64| {
            let count = file.read_at(space, start.saturating_add(offset))?;
            self.bar.inc(count as u64);
            Ok(count)
        })
    }

    /// Counts what is done.
    pub(super) fn done(&self, more: u64) {
        let done = self.done.fetch_add(more, Relaxed) + more;
        if !self.bar.is_hidden() {
            self.bar.set_message(format!(", {done} {}", self.what));
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Of a download, how far it is.
    pub(super) fn received(&self, received: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(received);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether somebody looks, and wants to.
fn wanted(quiet: Quiet) -> bool {
    let refused = env::var_os("NO_PROGRESS").is_some_and(|value| !value.is_empty());
    !quiet.quiet && !refused && io::stderr().is_terminal()
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Standard error, line by line beside a bar.
pub(super) fn report() -> impl Write {
    LineWriter::new(BesideBar)
}

/// Standard error. The bar is away while something is written, which must be whole lines.
pub(super) struct BesideBar;

impl Write for BesideBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bar = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bar {
            Some(bar) => bar.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
