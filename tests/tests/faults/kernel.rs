//! A kernel that lacks something, or refuses it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    fixture,
    lab::{Lab, Side, wait_until},
    sensor,
};

use super::{LIMIT, refuses, start, watches};

/// In a mount namespace of its own, which `ip netns exec` has made.
const WITHOUT_BTF: &[&str] =
    &["sh", "-c", "mount -t tmpfs none /sys/kernel/btf && test ! -e /sys/kernel/btf/vmlinux && exec \"$@\"", "sh"];
const WITHOUT_BPFFS: &[&str] = &["sh", "-c", "test \"$(stat -f -c %T /sys/fs/bpf)\" != bpf_fs && exec \"$@\"", "sh"];
/// What a login gave for years: 64 KiB.
const LITTLE_MEMLOCK: &[&str] = &["prlimit", "--memlock=65536:65536"];

#[test]
fn without_a_bpf_file_system_it_watches_and_mounts_one_if_it_needs_one() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    start(&mut lab, WITHOUT_BPFFS, &[], &[])?;
    let said = lab.log("sensor");
    ensure!(!said.contains("BPF file system"), "nobody needs one:\n{said}");
    watches(&mut lab)?;
    start(&mut lab, WITHOUT_BPFFS, &["--block"], &[])?;
    lab.wait_for_log("sensor", "mounted a BPF file system on /sys/fs/bpf")?;
    watches(&mut lab)?;
    // Not where one belongs: nothing is mounted over what may be somebody's.
    let elsewhere = lab.directory().join("pins").to_string_lossy().into_owned();
    refuses(
        &mut lab,
        WITHOUT_BPFFS,
        &["--pin", "--pin-dir", &elsewhere],
        &["is not on a BPF file system", "mount -t bpf"],
    )
}

#[test]
fn a_kernel_without_btf_is_watched_all_the_same() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    start(&mut lab, WITHOUT_BTF, &[], &[])?;
    watches(&mut lab)
}

#[test]
fn a_low_limit_of_locked_memory_is_no_obstacle() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    start(&mut lab, LITTLE_MEMLOCK, &[], &[])?;
    // The one who was started, not a shell before it.
    let limits = fs::read_to_string(format!("/proc/{}/limits", lab.pid("sensor")?))?;
    ensure!(limits.lines().any(|line| line.starts_with("Max locked memory") && line.contains("65536")), "{limits}");
    watches(&mut lab)
}

#[test]
fn a_kernel_that_refuses_maps_or_programs_is_said_to_do_so() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let script = fixture("refuse_bpf.py").to_string_lossy().into_owned();
    let mut case = |command, error, words: &[&str]| {
        refuses(&mut lab, &["python3", &script, command, error], &[], words)
            .with_context(|| format!("{command} {error}"))
    };
    case("0", "EPERM", &["the kernel refuses to create eBPF maps though this process has the rights", "seccomp"])?;
    case(
        "0",
        "ENOMEM",
        &["no memory for the eBPF maps of 131072 flows", "lower --max-flows", "Cannot allocate memory"],
    )?;
    case("5", "EPERM", &["the kernel refuses to load eBPF programs though this process has the rights", "seccomp"])?;
    // What a kernel from before 5.8 says of ring buffers.
    case("0", "EINVAL", &["has no ring buffers for eBPF programs", "5.10 or later"])
}

/// A control group with little memory, removed with the value.
struct Group(PathBuf);

impl Group {
    /// `None`, said loudly, where none can be made.
    fn with(bytes: u64) -> Option<Self> {
        let name = format!("ml-ids-test-{}", std::process::id());
        for (root, limit) in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")] {
            let group = Path::new(root).join(&name);
            if fs::create_dir(&group).is_ok() {
                let group = Self(group);
                if fs::write(group.0.join(limit), bytes.to_string()).is_ok() {
                    return Some(group);
                }
            }
        }
        eprintln!("SKIPPED: no control group with a limit of memory can be made here");
        None
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What the kernel frees late keeps it for a moment.
        let _ = wait_until(LIMIT, || fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn a_flow_table_beyond_the_memory_limit_is_refused_and_a_smaller_one_is_not() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let Some(group) = Group::with(256 << 20) else { return Ok(()) };
    // `ip netns exec` hides what is mounted below /sys.
    let (mounts, group) = (format!("/proc/{}/ns/mnt", std::process::id()), group.0.display());
    let join = format!("echo $$ | nsenter --mount={mounts} tee {group}/cgroup.procs > /dev/null && exec \"$@\"");
    let limited = ["sh", "-c", &join, "sh"];
    // Some ten gigabytes.
    let words = ["no memory for the eBPF maps of 16777216 flows", "lower --max-flows", "memory limit of the container"];
    refuses(&mut lab, &limited, &["--max-flows", "16777216"], &words)?;
    start(&mut lab, &limited, &["--max-flows", "16384", "--ring-bytes", "1048576"], &[])?;
    let own = fs::read_to_string(format!("/proc/{}/cgroup", lab.pid("sensor")?))?;
    ensure!(own.contains("ml-ids-test-"), "it is not in the group: {own}");
    let answer = lab.succeed(Side::Server, &["curl", "-sS", sensor::HEALTH])?;
    ensure!(answer.contains("healthy"), "{answer}");
    watches(&mut lab)
}
