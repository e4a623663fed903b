//! `ml-ids run --dry-run`: everything that is checked before a sensor starts, and everything that it would do. Nothing is
//! attached, listened on or written; all that is wrong is said at once.

use std::{
    ffi::CString,
    fmt::Display,
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};

use super::{Args, options, watch};
use crate::{
    cli::{
        config,
        exit::{Exit, is_broken_pipe},
    },
    model::{Keeper, KeeperOptions, Live},
    sensor::{Lack, Plan, default_interface, plan},
};

/// What is printed, and what is wrong.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
    problems: Vec<(Exit, String)>,
}

impl Report {
    fn head(&mut self, text: &str) {
        self.lines.push(text.to_owned());
    }

    fn say(&mut self, text: impl Display) {
        self.lines.push(format!("  {text}"));
    }

    fn problem(&mut self, exit: Exit, error: impl Display) {
        self.problems.push((exit, error.to_string()));
    }
}

/// Says what would be done. The exit code is that of the first thing that `run` would fail at.
pub(super) fn dry_run(mut args: Args) -> Result<Exit> {
    let mut report = Report::default();
    report.head("Dry run: nothing is attached, listened on or written.");
    if let Some(file) = config::in_use() {
        report.say(format_args!("settings from {}", file.display()));
    }
    if args.interfaces.is_empty() {
        match default_interface() {
            Ok(name) => args.interfaces.push(name),
            Err(error) => report.problem(Exit::Usage, error),
        }
    }
    if let Err(error) = args.privileges.rights() {
        report.problem(Exit::Usage, error);
    }
    report.head("events");
    match args.sinks.open() {
        Ok(further) if further.is_empty() => report.say("to log files only"),
        Ok(further) => {
            let names: Vec<&str> = further.iter().map(|(port, _)| port.name).collect();
            report.say(format_args!("to log files and {}", names.join(", ")));
        }
        Err(error) => report.problem(Exit::Usage, error),
    }
    pods(&args, &mut report)?;
    listen(&args, &mut report)?;
    let live = models(&args, &mut report);
    attach(&args, live.as_ref(), &mut report);
    write(&args, &mut report);
    block(&args, &mut report);
    print(report)
}

fn pods(args: &Args, report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    match runtime.block_on(args.kubernetes.find()) {
        Ok(None) => {}
        Ok(Some((node, connection))) => {
            report.say(format_args!("with the names of the pods of {}, from {}", node.as_str(), connection.server()));
        }
        Err(error) => report.problem(Exit::Usage, error),
    }
    Ok(())
}

fn listen(args: &Args, report: &mut Report) -> Result<()> {
    report.head("listen");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    match runtime.block_on(args.listen.check()) {
        Ok((address, scheme)) => {
            report.say(format_args!("{scheme}://{address}"));
            report.say(match &args.listen.token_file {
                Some(file) => format!("clients show a token of {}", file.display()),
                None => "nobody is asked for a token".to_owned(),
            });
        }
        Err(error) => report.problem(error.exit_code(), error),
    }
    Ok(())
}

fn models(args: &Args, report: &mut Report) -> Option<Live> {
    report.head("model");
    let wanted = args.model.keeper_options();
    let live = load("model", wanted, report)?;
    if let Some(source) = &args.keep.shadow {
        let wanted = args.model.keeper_options_of(source.clone()).map(KeeperOptions::without_checksum);
        if let Some(shadow) = load("shadow", wanted, report) {
            let (ours, theirs) = (live.model.contract().profile.name(), shadow.model.contract().profile.name());
            if ours != theirs {
                report.problem(
                    Exit::BadInput,
                    format_args!(
                        "--shadow: model {source} is of profile {theirs} and that of --model of {ours}; both must see \
                         the same features"
                    ),
                );
            }
        }
    }
    Some(live)
}

fn load(what: &str, options: Result<KeeperOptions>, report: &mut Report) -> Option<Live> {
    let mut options = match options {
        Ok(options) => options,
        Err(error) => {
            report.problem(Exit::BadInput, format_args!("{error:#}"));
            return None;
        }
    };
    options.cache = options.cache.map(crate::model::Cache::read_only);
    let source = options.source.clone();
    match Keeper::start(options, &|_, _| {}) {
        Ok(keeper) => {
            let live = keeper.handle().current();
            let model = Arc::clone(&live.model);
            let (name, version, profile) = (model.name(), model.version(), model.contract().profile.name());
            report.say(format_args!("{what} {source}: {name} {version}, profile {profile}, {} trees", model.trees()));
            if let Some(resolved) = &live.origin.resolved {
                report.say(format_args!("from {resolved}"));
            }
            report.say(format_args!("sha256 {}", model.sha256()));
            Some(live)
        }
        Err(error) => {
            report.problem(Exit::BadInput, format_args!("{what} {source} is refused: {error}"));
            None
        }
    }
}

fn attach(args: &Args, live: Option<&Live>, report: &mut Report) {
    report.head("attach");
    let profile = live.map(|live| live.model.contract().profile).unwrap_or(ml_ids_common::Profile::Fixed);
    let Plan { interfaces, awaited, kernel, rights, memory, loads, lacks } =
        match plan(&watch(args), &options(args, profile)) {
            Ok(plan) => plan,
            Err(error) => return report.problem(Exit::Failed, format_args!("{:#}", anyhow::Error::from(error))),
        };
    for interface in interfaces {
        let running = if interface.running { "" } else { ", down" };
        report.say(format_args!("{} (index {}, {}{running})", interface.name, interface.index, interface.role));
        for (direction, hooks) in interface.hooks {
            report.say(format_args!("  {direction} packets: {}", hooks.join(", else ")));
        }
    }
    for name in awaited {
        report.say(format_args!("{name}: no such interface yet; attached when one comes"));
    }
    if args.pin {
        report.say(format_args!("pinned at {}: goes on counting when the sensor ends", args.pin_dir.display()));
    }
    report.head("kernel");
    for (feature, there) in kernel {
        report.say(format_args!("{} {feature}", if there { "yes" } else { "no " }));
    }
    for (right, held) in rights {
        report.say(format_args!("{} {right}", if held { "yes" } else { "no " }));
    }
    report.say(match loads {
        Some(true) => "the programs were loaded, verified and released again",
        Some(false) => "the programs were refused",
        None => "whether the programs load could not be tried: that needs root, as `ml-ids run` does",
    });
    let (bytes, exact) = memory;
    let (about, mib) = (if exact { "" } else { "about " }, bytes as f64 / f64::from(1 << 20));
    report.say(format_args!("a table of {} flows takes {about}{mib:.0} MiB of kernel memory", args.max_flows));
    for lack in lacks {
        match lack {
            Lack::Interface(error) => report.problem(Exit::Usage, error),
            Lack::Kernel(error) => report.problem(Exit::Failed, format_args!("{:#}", anyhow::Error::from(error))),
        }
    }
}

fn write(args: &Args, report: &mut Report) {
    report.head("write");
    report.say(format_args!("log files in {}", args.log_dir.display()));
    if let Err(error) = can_write(&args.log_dir) {
        let place = args.log_dir.display();
        report.problem(
            Exit::Failed,
            format_args!("cannot write logs to {place}: {error}; choose another place with --log-dir"),
        );
    }
    match args.alerts_kept.store() {
        Some(store) => {
            report.say(format_args!("alerts in {}", store.path.display()));
            let folder = store.path.parent().unwrap_or(Path::new("."));
            if let Err(error) = can_write(folder) {
                let place = store.path.display();
                // The sensor starts without it, and says so.
                report.say(format_args!(
                    "warning: cannot keep alerts in {place}: {error}; --state-dir chooses another place"
                ));
            }
        }
        None => report.say("alerts in memory only"),
    }
}

fn block(args: &Args, report: &mut Report) {
    report.head("block");
    match args.response.block() {
        None => report.say("nobody"),
        Some(options) => {
            let what = if options.dry_run { "counted, not dropped:" } else { "dropped:" };
            let ttl = humantime::format_duration(options.ttl);
            report.say(format_args!(
                "{what} what sources of alerts of at least {} send, for {ttl}, {} sources at most",
                options.threshold, options.max
            ));
        }
    }
}

/// Whether files can be made in a folder, or the folder itself where it is not there yet.
fn can_write(folder: &Path) -> io::Result<()> {
    let folder = std::path::absolute(folder)?;
    let there: PathBuf = folder.ancestors().find(|part| part.exists()).unwrap_or(Path::new("/")).to_owned();
    if !there.is_dir() {
        return Err(io::Error::other(format!("{} is no directory", there.display())));
    }
    let path = CString::new(there.as_os_str().as_bytes())?;
    // SAFETY: a C string; by the rights that a write would be judged by.
    let allowed = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) };
    if allowed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn print(Report { lines, problems }: Report) -> Result<Exit> {
    let mut text = lines.join("\n") + "\n";
    text += if problems.is_empty() { "It would start.\n" } else { "It would not start:\n" };
    let printed = io::stdout().write_all(text.as_bytes()).map_err(anyhow::Error::from);
    for (_, problem) in &problems {
        eprintln!("error: {problem}");
    }
    match printed {
        Err(error) if !is_broken_pipe(&error) => Err(error),
        _ => Ok(problems.first().map_or(Exit::Done, |(exit, _)| *exit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_to_come_is_judged_by_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        assert!(can_write(&folder.path().join("a/b")).is_ok());
        std::fs::write(folder.path().join("file"), "").unwrap();
        let error = can_write(&folder.path().join("file/a")).unwrap_err().to_string();
        assert!(error.contains("no directory"), "{error}");
    }
}
