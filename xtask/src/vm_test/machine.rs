//! One run of the emulated machine, watched until it ends, says nothing any more, or takes too long.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::packages::{KernelFiles, Tools};
use crate::process;

/// The longest that a run may take. A quiet machine needs a twentieth of it.
const LIMIT: Duration = Duration::from_mins(15);
/// The longest without a word from the guest; the longest pause in its script is the loading of the model.
const SILENCE: Duration = Duration::from_mins(6);
const POLL: Duration = Duration::from_millis(200);
/// Lines of the console that are shown of a run that failed.
const TAIL: usize = 30;
/// And letters of each.
const WIDTH: usize = 300;

/// What the guest left behind.
pub(super) struct Ended {
    /// What its script wrote.
    pub(super) report: String,
    /// What its kernel wrote.
    pub(super) console: String,
    pub(super) time: Duration,
}

/// Boots a kernel with an initial file system. Its two serial ports become files beside that.
pub(super) fn run(tools: &Tools, kernel: &KernelFiles, image: &Path) -> anyhow::Result<Ended> {
    let (console, report) = (image.with_extension("console"), image.with_extension("report"));
    for file in [&console, &report] {
        File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut command = emulator(tools, kernel, image, &console, &report);
    let errors = image.with_extension("qemu");
    let log = File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let started = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {}", process::shown(&command)))?;
    let ended = watch(Guest(child), &[&console, &report], started);
    let text = |file: &PathBuf| fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', ""));
    let (console, report) = (text(&console).unwrap_or_default(), text(&report).unwrap_or_default());
    if let Err(error) = ended {
        let emulator = fs::read_to_string(&errors).unwrap_or_default();
        bail!("{error:#}\n{emulator}{}", tail(&console, &report));
    }
    Ok(Ended { report, console, time: started.elapsed() })
}

/// The ends of both outputs, for people who look for the reason of a failure.
pub(super) fn tail(console: &str, report: &str) -> String {
    let last = |text: &str| {
        let lines: Vec<String> = text.lines().map(|line| line.chars().take(WIDTH).collect()).collect();
        lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n")
    };
    format!("the console's last lines:\n{}\nthe script's last lines:\n{}", last(console), last(report))
}

fn emulator(tools: &Tools, kernel: &KernelFiles, image: &Path, console: &Path, report: &Path) -> Command {
    let serial = |file: &Path| format!("file:{}", file.display());
    let mut command = Command::new(tools.loader());
    command.env("QEMU_MODULE_DIR", tools.libraries().join("qemu"));
    command.arg("--library-path").arg(tools.libraries()).arg(tools.file("usr/bin/qemu-system-x86_64"));
    for firmware in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(tools.file(firmware));
    }
    // Emulation, not KVM: what a virtual machine offers as /dev/kvm does not always run these kernels.
    command.args(["-machine", "pc,accel=tcg", "-cpu", "qemu64", "-smp", "2", "-m", "1024"]);
    command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
    command.args(["-serial", &serial(console), "-serial", &serial(report)]);
    // A panic reboots at once, which ends the machine.
    command.arg("-kernel").arg(&kernel.image).args(["-append", "console=ttyS0 panic=-1 quiet"]);
    command.arg("-initrd").arg(image);
    command
}

/// The emulator's process. Gone when this is.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail when it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(mut guest: Guest, outputs: &[&PathBuf], started: Instant) -> anyhow::Result<()> {
    let written = || outputs.iter().filter_map(|file| fs::metadata(file).ok()).map(|data| data.len()).sum::<u64>();
    let (mut last, mut since) = (0, Instant::now());
    loop {
        if let Some(status) = guest.0.try_wait().context("cannot wait for the emulator")? {
            if status.success() {
                return Ok(());
            }
            bail!("the emulator failed ({status})");
        }
        let now = written();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if since.elapsed() > SILENCE {
            bail!("the machine has said nothing for {} s", SILENCE.as_secs());
        }
        if started.elapsed() > LIMIT {
            bail!("the machine has not come to an end in {} s", LIMIT.as_secs());
        }
        thread::sleep(POLL);
    }
}
