//! What somebody who has taken the process over cannot have: system calls that are made inside of it.
#![cfg(target_arch = "x86_64")]

use std::{fs, net::TcpListener, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent::Server,
    inject::{
        Argument::{self, Bytes, Number},
        Intruder,
        Outcome::{self, Ended, Refused},
        error_of,
    },
    lab::{Lab, wait_until},
    sensor,
};

/// Longest wait for what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(30);
/// `bpf(2)`: `BPF_MAP_CREATE` and `BPF_PROG_LOAD`.
const MAP_CREATE: i64 = 0;
const PROG_LOAD: i64 = 5;

fn is_root() -> bool {
    // SAFETY: no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("SKIPPED: only root has rights to give up");
    }
    root
}

fn openat(intruder: &mut Intruder, path: &str) -> Result<Option<i32>> {
    let path = format!("{path}\0");
    let arguments = [Number(i64::from(libc::AT_FDCWD)), Bytes(path.as_bytes()), Number(0)];
    error_of(intruder.call(libc::SYS_openat, &arguments)?)
}

/// Two instructions: return 2.
fn program() -> [u8; 16] {
    let mut instructions = [0; 16];
    (instructions[0], instructions[4], instructions[8]) = (0xb7, 2, 0x95);
    instructions
}

#[test]
fn somebody_inside_has_no_files_no_sockets_no_rights_and_no_memory_to_write_programs_to() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    // Everybody may read it, but it is none of the sensor's places.
    let other = lab.directory().join("other");
    fs::create_dir(&other)?;
    fs::write(other.join("file"), "x")?;
    let other = other.join("file").to_string_lossy().into_owned();
    sensor::start(&mut lab, &[])?;
    let health = sensor::health(&lab)?;
    let limited = health["privileges"]["landlock"] != "unavailable";
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().wrapping_add(1).to_be_bytes();
    {
        let mut intruder = Intruder::enter(lab.pid("sensor")?)?;
        ensure!(openat(&mut intruder, "/etc/shadow")? == Some(libc::EACCES), "/etc/shadow");
        if limited {
            ensure!(openat(&mut intruder, &other)? == Some(libc::EACCES), "a file of others");
            ensure!(openat(&mut intruder, "/root")? == Some(libc::EACCES), "root's home");
            let socket = intruder
                .call(libc::SYS_socket, &[Number(libc::AF_INET.into()), Number(libc::SOCK_STREAM.into()), Number(0)])?;
            let Outcome::Answered(socket) = socket else { anyhow::bail!("{socket:?}") };
            let mut address = [0; 16];
            (address[0], address[2], address[3], address[4], address[7]) = (2, port[0], port[1], 127, 1);
            let bound = intruder.call(libc::SYS_bind, &[Number(socket), Bytes(&address), Number(16)])?;
            ensure!(error_of(bound)? == Some(libc::EACCES), "a port: {bound:?}");
            intruder.call(libc::SYS_close, &[Number(socket)])?;
        } else {
            eprintln!("SKIPPED: this kernel has no Landlock");
        }
        let raw = [Number(libc::AF_PACKET.into()), Number(libc::SOCK_RAW.into()), Number(0)];
        let write_and_execute = [
            Number(0),
            Number(4096),
            Number(7),
            Number((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).into()),
            Number(-1),
            Number(0),
        ];
        let map = [0u8; 72];
        let refused: [(&str, i64, &[Argument<'_>]); 7] = [
            ("a raw socket", libc::SYS_socket, &raw),
            ("root", libc::SYS_setuid, &[Number(0)]),
            ("a process", libc::SYS_clone, &[Number(libc::SIGCHLD.into()), Number(0)]),
            ("memory to write and execute", libc::SYS_mmap, &write_and_execute),
            ("a map", libc::SYS_bpf, &[Number(MAP_CREATE), Bytes(&map), Number(72)]),
            ("a signal to others", libc::SYS_kill, &[Number(1), Number(0)]),
            ("dumps", libc::SYS_prctl, &[Number(libc::PR_SET_DUMPABLE.into()), Number(1)]),
        ];
        for (what, number, arguments) in refused {
            let outcome = intruder.call(number, arguments)?;
            ensure!(outcome == Refused, "{what}: {outcome:?}");
        }
        // The filter pretends not to know it: its flags are not to be seen.
        let clone3 = intruder.call(libc::SYS_clone3, &[Bytes(&map), Number(64)])?;
        ensure!(error_of(clone3)? == Some(libc::ENOSYS), "{clone3:?}");
    }
    sensor::stop(&mut lab, libc::SIGTERM)
}

#[test]
fn who_executes_traces_mounts_or_loads_ends_the_process() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let mut load = [0u8; 72];
    // Type, instructions, then pointers, which are checked later than the rights.
    (load[0], load[4]) = (6, 2);
    let instructions = program();
    let fatal: [(&str, i64, &[Argument<'_>]); 5] = [
        ("execve", libc::SYS_execve, &[Bytes(b"/bin/true\0"), Number(0), Number(0)]),
        ("ptrace", libc::SYS_ptrace, &[Number(libc::PTRACE_TRACEME.into())]),
        ("mount", libc::SYS_mount, &[Bytes(b"x\0"), Bytes(b"/\0"), Bytes(b"tmpfs\0"), Number(0), Number(0)]),
        ("loading a program", libc::SYS_bpf, &[Number(PROG_LOAD), Bytes(&load), Number(72), Bytes(&instructions)]),
        ("io_uring", libc::SYS_io_uring_setup, &[Number(1), Bytes(&load)]),
    ];
    for (what, number, arguments) in fatal {
        let server = Server::ready(&[])?;
        let mut intruder = Intruder::enter(server.pid())?;
        let outcome = intruder.call(number, arguments)?;
        ensure!(outcome == Ended(libc::SIGSYS), "{what}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn a_refused_call_fails_is_counted_and_is_told_once() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let server = Server::ready(&[])?;
    for _ in 0..2 {
        let mut intruder = Intruder::enter(server.pid())?;
        let answer = intruder.call_answered(libc::SYS_fchown, &[Number(0), Number(0), Number(0)])?;
        ensure!(answer == -i64::from(libc::EPERM), "{answer}");
    }
    let told = || server.get("/health").is_ok_and(|health| health.body.contains("has refused numbers [93]"));
    wait_until(SOON, told).with_context(|| server.log())?;
    let log = server.log();
    ensure!(log.matches("has refused numbers [93]").count() == 1, "{log}");
    server.stop()
}
