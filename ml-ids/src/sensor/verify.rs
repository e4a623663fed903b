//! What the running kernel's verifier makes of each program, for `ml-ids bench verify`.

use std::{io, net::Ipv4Addr, time::Instant};

use aya::{
    VerifierLogLevel,
    programs::{Program, ProgramError, ProgramInfo},
};

use ipnet::IpNet;
use ml_ids_common::Decap;

use super::{
    Options, SensorError,
    bench::Figure,
    filter::{BlockMode, FilterOptions},
    ignore::IgnoreRule,
    load::Loaded,
};

const INSTRUCTION: u32 = 8;

/// Loads every program of the object and reports how hard that was: as the sensor is started without options, and with all
/// that add to a program. Refused programs are told at the end, so that the others are known.
///
/// # Errors
/// When the kernel refuses a program.
pub fn verify(mut report: impl FnMut(Figure)) -> Result<(), SensorError> {
    let mut refused = Ok(());
    for (set_up, options) in [("", Options::default()), (", all options", everything())] {
        let mut loaded = Loaded::create(&options, false, None, VerifierLogLevel::STATS)?;
        for name in Loaded::PROGRAMS {
            let program = loaded.ebpf.program_mut(name).ok_or(SensorError::Missing(name))?;
            let figure = |what: &str, value: f64, unit| {
                report(Figure { bench: "verify", figure: format!("{name}{set_up}: {what}"), value, unit });
            };
            if let Err(error) = examine(program, name, figure) {
                refused = Err(error);
            }
        }
    }
    refused
}

/// Every switch that makes the programs longer.
fn everything() -> Options {
    let ignore = vec![
        IgnoreRule::Prefix(IpNet::new_assert(Ipv4Addr::new(192, 0, 2, 0).into(), 24)),
        IgnoreRule::Port { tcp: true, udp: true, port: 53 },
        // One that is not there: the program is as long, and nothing is done.
        IgnoreRule::Interface("nowhere0".to_owned()),
    ];
    let filter = FilterOptions { ignore, block: Some(BlockMode::Drop), block_max: 1024 };
    Options { decap: Decap::ALL, filter, ..Options::default() }
}

fn examine(
    program: &mut Program,
    name: &'static str,
    mut figure: impl FnMut(&str, f64, &'static str),
) -> Result<(), SensorError> {
    let refused = |source| SensorError::Program { program: name, source: Box::new(source) };
    let statistics = Statistics::of(program, name)?;
    figure("instructions followed by the verifier", statistics.followed.into(), "instructions");
    figure("stack", statistics.stack.into(), "bytes");
    let started = Instant::now();
    load(program).map_err(refused)?;
    let time = started.elapsed();
    let size = info(program).map_err(refused)?.size_translated().unwrap_or(0) / INSTRUCTION;
    figure("instructions of the program", size.into(), "instructions");
    figure("time to load", time.as_secs_f64() * 1e3, "ms");
    Ok(())
}

/// What the verifier says at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Statistics {
    /// Instructions, counted once for each state in which they were looked at. The kernel gives up at a million.
    followed: u32,
    /// The deepest stack, called functions included.
    stack: u32,
}

impl Statistics {
    /// Has a program verified, and not loaded.
    ///
    /// Kernels before 5.16 tell the numbers in the verifier's log alone, and the log of a program that was loaded is not
    /// handed out by aya. So the program is kept from being loaded by the one step that comes after verification: making a
    /// file descriptor.
    fn of(program: &mut Program, name: &'static str) -> Result<Self, SensorError> {
        let limit = OpenFiles::forbid()
            .map_err(|source| SensorError::Io { action: "lower the limit on open files", source })?;
        let refused = load(program);
        drop(limit);
        match refused {
            Err(ProgramError::LoadError { io_error, verifier_log })
                if io_error.raw_os_error() == Some(libc::EMFILE) =>
            {
                Ok(Self::parse(&verifier_log.to_string()))
            }
            Err(source) => Err(SensorError::Program { program: name, source: Box::new(source) }),
            // Nothing is known of a kernel that makes descriptors beyond the limit; zeros say so.
            Ok(()) => Ok(Self::default()),
        }
    }

    /// `stack depth 312+16` (a number a function; `stack depth max 328` from 7.3 on) and `processed 148569 insns (limit
    /// 1000000) …`, each at the start of a line.
    fn parse(log: &str) -> Self {
        let mut statistics = Self::default();
        for line in log.lines() {
            if let Some(depths) = line.strip_prefix("stack depth ") {
                statistics.stack = depths.split(['+', ' ']).filter_map(|depth| depth.parse::<u32>().ok()).sum();
            } else if let Some(rest) = line.strip_prefix("processed ") {
                statistics.followed = rest.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
            }
        }
        statistics
    }
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn info(program: &Program) -> Result<ProgramInfo, ProgramError> {
    match program {
        Program::Xdp(program) => program.info(),
        Program::SchedClassifier(program) => program.info(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// While it lives, this process can open nothing.
struct OpenFiles {
    before: libc::rlimit,
}

impl OpenFiles {
    fn forbid() -> io::Result<Self> {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a valid pointer to a local.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before) } != 0 {
            return Err(io::Error::last_os_error());
        }
        set(libc::rlimit { rlim_cur: 0, ..before })?;
        Ok(Self { before })
    }
}

impl Drop for OpenFiles {
    fn drop(&mut self) {
        // Back to what it was, which is always allowed.
        let _ = set(self.before);
    }
}

fn set(limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: a valid pointer to a local.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_closing_lines_are_read() {
        let log = "verification time 85632 usec\nstack depth 312+16\n\
                   processed 148569 insns (limit 1000000) max_states_per_insn 4 total_states 6340 peak_states 293 mark_read 27\n";
        assert_eq!(Statistics::parse(log), Statistics { followed: 148_569, stack: 328 });
        let newer = "stack depth max 256\nsubprog 0 (ingress) main insns_self 62 insns_total 62 stack 248\nprocessed 62 insns\n";
        assert_eq!(Statistics::parse(newer), Statistics { followed: 62, stack: 256 });
        assert_eq!(Statistics::parse(""), Statistics::default());
    }
}
