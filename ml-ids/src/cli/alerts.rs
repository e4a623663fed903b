//! `ml-ids alerts`: the alerts that a sensor has kept, while it runs or after it.

use std::{
    env,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;

use super::{
    alerts_print::{AlertFormat, Printer, print_in_full},
    exit::{Exit, is_broken_pipe},
    state_dir::StateArgs,
};
use crate::{
    alert::{
        AlertText, Severity, since_us,
        store::{ALERT_DB, Ack, Archive, Filter, MOST_ROWS},
    },
    sensor::clock::now_us,
};

/// Longest note and name, in characters.
const LONGEST_NOTE: usize = 1000;

const EXAMPLES: &str = "\
Examples:
  ml-ids alerts list                                   the newest alerts
  ml-ids alerts list --since 1d --severity high        those of a day that matter
  ml-ids alerts list --label DoS --format jsonl        all classes whose name begins with DoS
  ml-ids alerts list --search 10.0.0.7                 those about this address
  ml-ids alerts show 1790000000000000                  everything about one of them
  ml-ids alerts ack 1790000000000000 --note 'our own scan'
  ml-ids alerts export --since 30d --format csv -o alerts.csv";

const LIST_EXAMPLES: &str = "\
Examples:
  ml-ids alerts list
  ml-ids alerts list --since 2h --severity high --limit 10
  ml-ids alerts list --format jsonl --merged
  ml-ids alerts list --db /var/lib/ml-ids/alerts.db";

const SHOW_EXAMPLES: &str = "\
Examples:
  ml-ids alerts show 1790000000000000
  ml-ids alerts show 1790000000000000 --json   with the event of the flow that opened it";

const ACK_EXAMPLES: &str = "\
Examples:
  ml-ids alerts ack 1790000000000000
  ml-ids alerts ack 1790000000000000 --note 'our own scan' --by ann";

const EXPORT_EXAMPLES: &str = "\
Examples:
  ml-ids alerts export --since 30d --format csv -o alerts.csv
  ml-ids alerts export | head -n 1";

/// See and acknowledge the alerts that a sensor has kept
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// File that the sensor keeps alerts in [default: alerts.db in the state directory]
    #[arg(long, value_name = "FILE", env = "ML_IDS_ALERT_DB", global = true)]
    db: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print alerts, the newest first
    #[command(after_help = LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        which: Which,
        /// Most of them
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// How they are written
        #[arg(long, value_enum, default_value_t = AlertFormat::Table)]
        format: AlertFormat,
    },
    /// Print everything about one alert
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Its number
        id: u64,
        /// As JSON, with the event of the flow that opened it
        #[arg(long)]
        json: bool,
    },
    /// Note that you have seen alerts
    #[command(after_help = ACK_EXAMPLES)]
    Ack {
        /// Their numbers
        #[arg(required = true)]
        ids: Vec<u64>,
        /// What you say of them
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        /// Who you are [default: the user who is logged in]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Print all alerts, the newest first
    #[command(after_help = EXPORT_EXAMPLES)]
    Export {
        #[command(flatten)]
        which: Which,
        /// How they are written
        #[arg(long, value_enum, default_value_t = AlertFormat::Jsonl)]
        format: AlertFormat,
        /// Where they go; - is standard output
        #[arg(short, long, value_name = "FILE|-", default_value = "-")]
        output: PathBuf,
    },
}

/// Which alerts are wanted.
#[derive(clap::Args)]
struct Which {
    /// Seen since then: 2h or 7d ago, 2026-11-27T08:00:00Z, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Of this class, or of those whose name begins so
    #[arg(long, value_name = "CLASS")]
    label: Option<String>,
    /// Whose class, addresses, ports or ATT&CK techniques hold this text, in any case
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// So grave or graver: 1 (high) to 4 (info)
    #[arg(long, value_name = "N")]
    severity: Option<Severity>,
    /// Those as well that have become part of another
    #[arg(long)]
    merged: bool,
}

impl Which {
    fn filter(&self, limit: usize) -> Result<Filter> {
        let Self { since, label, search, severity, merged } = self;
        let since_us = since.as_deref().map(|since| since_us(since, now_us())).transpose();
        let since_us = since_us.map_err(|error| anyhow::anyhow!("--since: {error}"))?;
        let text = search.as_deref().map(AlertText::new).transpose();
        let text = text.map_err(|error| anyhow::anyhow!("--search: {error}"))?.flatten();
        Ok(Filter { since_us, label: label.clone(), text, severity: *severity, before: None, merged: *merged, limit })
    }
}

/// Does it.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let path = args.db.clone().unwrap_or_else(|| args.state.directory().join(ALERT_DB));
    if !path.exists() {
        eprintln!("error: there is no {}; name the sensor's file with --db or its --state-dir", path.display());
        return Ok(Exit::BadInput);
    }
    let done = match &args.command {
        Command::List { which, limit, format } => list(&path, which.filter(*limit)?, *format, io::stdout().lock()),
        Command::Export { which, format, output } => {
            let filter = which.filter(usize::MAX)?;
            if output == Path::new("-") {
                list(&path, filter, *format, io::stdout().lock())
            } else {
                let file = File::create(output).with_context(|| format!("cannot create {}", output.display()))?;
                list(&path, filter, *format, file)
            }
        }
        Command::Show { id, json } => show(&path, *id, *json),
        Command::Ack { ids, note, by } => acknowledge(&path, ids, note, by.as_deref()),
    };
    match done {
        // The reader of our output, `head` for example, has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Done),
        done => done.with_context(|| path.display().to_string()).map(|()| Exit::Done),
    }
}

fn list(path: &Path, mut filter: Filter, format: AlertFormat, out: impl Write) -> Result<()> {
    let archive = Archive::open(path)?;
    let mut printer = Printer::new(BufWriter::new(out), format)?;
    let mut left = filter.limit;
    while left > 0 {
        filter.limit = left.min(MOST_ROWS);
        let page = archive.list(&filter)?;
        for stored in &page {
            printer.print(stored)?;
        }
        left -= page.len();
        match page.last() {
            Some(last) if page.len() == filter.limit => filter.before = Some(last.alert.id),
            _ => break,
        }
    }
    printer.finish()?;
    let unreadable = archive.unreadable().len();
    if unreadable > 0 {
        eprintln!("warning: {unreadable} rows of {} are no alerts and are left out", path.display());
    }
    Ok(())
}

fn show(path: &Path, id: u64, json: bool) -> Result<()> {
    let Some(stored) = Archive::open(path)?.get(id)? else {
        bail!("there is no alert {id}; `ml-ids alerts list` prints what there is");
    };
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &stored.json_in_full())?;
        writeln!(out)?;
    } else {
        print_in_full(&mut out, &stored)?;
    }
    Ok(())
}

fn acknowledge(path: &Path, ids: &[u64], note: &str, by: Option<&str>) -> Result<()> {
    let user = || ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| env::var(name).ok());
    let by = by.map(str::to_owned).or_else(user).unwrap_or_else(|| "unknown".to_owned());
    for (text, what) in [(note, "--note"), (&by, "--by")] {
        if text.chars().count() > LONGEST_NOTE || text.chars().any(char::is_control) {
            bail!("{what} must have at most {LONGEST_NOTE} characters and no line breaks");
        }
    }
    let archive = Archive::open_for_acks(path)?;
    let ack = Ack { at_us: now_us(), by, note: note.to_owned() };
    for id in ids {
        if !archive.acknowledge(*id, &ack)? {
            bail!("there is no alert {id}; `ml-ids alerts list` prints what there is");
        }
        println!("{id} seen by {}", ack.by);
    }
    Ok(())
}
