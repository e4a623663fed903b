//! A program that has been taken over: system calls made inside a running process, by a thread of its own and with its own
//! rights, as an intruder would make them.
//!
//! The kernel's interface for debuggers does it from outside, so the program needs no way in for tests.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use anyhow::{Context as _, Result, bail, ensure};

/// The two bytes of the instruction `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Below the stack of the thread: room for what arguments point to.
const ROOM: u64 = 64 << 10;

/// Most instructions of a handler.
const STEPS: usize = 100_000;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel answered: a value, or an error number below zero.
    Answered(i64),
    /// The filter refused it with a signal that the program answers.
    Refused,
    /// The process was ended by this signal.
    Ended(i32),
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// As it is.
    Number(i64),
    /// A pointer to these bytes.
    Bytes(&'a [u8]),
}

/// A thread that does what it is told. Dropping it lets it go on as if nothing had been.
pub struct Intruder {
    thread: i32,
    registers: libc::user_regs_struct,
    memory: File,
}

impl Intruder {
    /// Stops the first thread of a process, which has to be in a system call, as one that waits is.
    ///
    /// # Errors
    /// When it cannot be traced.
    #[cfg(target_arch = "x86_64")]
    pub fn enter(process: u32) -> Result<Self> {
        let thread = i32::try_from(process)?;
        // SAFETY: no pointers are read.
        let attached = unsafe { libc::ptrace(libc::PTRACE_ATTACH, thread, 0, 0) };
        ensure!(attached == 0, "cannot trace {process}: {}", io::Error::last_os_error());
        let memory = File::options().read(true).write(true).open(format!("/proc/{process}/mem"))?;
        // SAFETY: all bytes zero is a valid value.
        let mut intruder = Self { thread, registers: unsafe { std::mem::zeroed() }, memory };
        ensure!(intruder.wait()? == Stop::Signal(libc::SIGSTOP), "{process} did not stop");
        intruder.registers = intruder.read()?;
        let mut instruction = [0; 2];
        intruder.memory.read_exact_at(&mut instruction, intruder.registers.rip - 2)?;
        ensure!(instruction == SYSCALL, "{process} is not in a system call");
        Ok(intruder)
    }

    /// Makes a call.
    ///
    /// # Errors
    /// When the thread does not do as it is told.
    #[cfg(target_arch = "x86_64")]
    pub fn call(&mut self, number: i64, arguments: &[Argument<'_>]) -> Result<Outcome> {
        self.prepare(number, arguments)?;
        loop {
            self.step(0)?;
            match self.wait()? {
                Stop::Signal(libc::SIGTRAP) => {
                    let registers = self.read()?;
                    // A call that was refused before leaves the trap of its step behind.
                    if registers.rip == self.registers.rip {
                        return Ok(Outcome::Answered(registers.rax.cast_signed()));
                    }
                }
                Stop::Signal(libc::SIGSYS) => return Ok(Outcome::Refused),
                Stop::Signal(other) => bail!("stopped by signal {other}"),
                Stop::End(signal) => return Ok(Outcome::Ended(signal)),
            }
        }
    }

    /// Makes a call that the filter refuses, and lets the program's own handler answer it. Returns what the call is answered.
    ///
    /// # Errors
    /// When the filter does not refuse it, or the handler does not come to its end.
    #[cfg(target_arch = "x86_64")]
    pub fn call_answered(&mut self, number: i64, arguments: &[Argument<'_>]) -> Result<i64> {
        self.prepare(number, arguments)?;
        self.step(0)?;
        let stop = self.wait()?;
        ensure!(stop == Stop::Signal(libc::SIGSYS), "not refused: {stop:?}");
        // The handler begins with its signal, and has ended when the thread is back behind the call.
        let back = self.registers.rip;
        let mut signal = libc::SIGSYS;
        for _ in 0..STEPS {
            self.step(signal)?;
            signal = 0;
            let stop = self.wait()?;
            ensure!(stop == Stop::Signal(libc::SIGTRAP), "{stop:?} in the handler");
            let registers = self.read()?;
            if registers.rip == back {
                return Ok(registers.rax.cast_signed());
            }
        }
        bail!("the handler does not end")
    }

    /// One instruction, begun with a signal unless that is 0.
    fn step(&self, signal: i32) -> Result<()> {
        // SAFETY: no pointers are read.
        let stepped = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.thread, 0, signal) };
        ensure!(stepped == 0, "cannot step: {}", io::Error::last_os_error());
        Ok(())
    }

    /// Puts the thread before a call.
    #[cfg(target_arch = "x86_64")]
    fn prepare(&mut self, number: i64, arguments: &[Argument<'_>]) -> Result<()> {
        let mut registers = self.registers;
        let mut place = registers.rsp.saturating_sub(ROOM) & !0xf;
        let mut values = [0u64; 6];
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = match argument {
                Argument::Number(number) => number.cast_unsigned(),
                Argument::Bytes(bytes) => {
                    self.memory.write_all_at(bytes, place)?;
                    let here = place;
                    place += (bytes.len() as u64).next_multiple_of(16);
                    here
                }
            };
        }
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = values;
        registers.rip -= 2;
        registers.rax = number.cast_unsigned();
        // What the thread was doing is not gone on with before it has its own registers back.
        registers.orig_rax = u64::MAX;
        self.set(&registers)
    }

    #[cfg(target_arch = "x86_64")]
    fn read(&self) -> Result<libc::user_regs_struct> {
        // SAFETY: all bytes zero is a valid value, which the call fills.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: room for the registers.
        let read = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.thread, 0, &raw mut registers) };
        ensure!(read == 0, "cannot read registers: {}", io::Error::last_os_error());
        Ok(registers)
    }

    #[cfg(target_arch = "x86_64")]
    fn set(&self, registers: &libc::user_regs_struct) -> Result<()> {
        // SAFETY: valid registers.
        let set = unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.thread, 0, std::ptr::from_ref(registers)) };
        ensure!(set == 0, "cannot set registers: {}", io::Error::last_os_error());
        Ok(())
    }

    /// Waits until the thread stops. Whoever started the process is left to hear of its end.
    fn wait(&self) -> Result<Stop> {
        // SAFETY: all bytes zero is a valid value, which the call fills.
        let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let states = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL;
        let id = self.thread.cast_unsigned();
        // SAFETY: room for the answer.
        let waited = unsafe { libc::waitid(libc::P_PID, id, &raw mut found, states) };
        ensure!(waited == 0, "cannot wait: {}", io::Error::last_os_error());
        // SAFETY: filled by a call that waits for children.
        let status = unsafe { found.si_status() };
        if found.si_code != libc::CLD_TRAPPED && found.si_code != libc::CLD_STOPPED {
            return Ok(Stop::End(status));
        }
        let mut taken = 0;
        // SAFETY: room for the answer.
        let thread = unsafe { libc::waitpid(self.thread, &raw mut taken, libc::__WALL) };
        ensure!(thread == self.thread, "cannot wait: {}", io::Error::last_os_error());
        Ok(Stop::Signal(libc::WSTOPSIG(taken)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Signal(i32),
    End(i32),
}

impl Drop for Intruder {
    fn drop(&mut self) {
        #[cfg(target_arch = "x86_64")]
        // One that has ended has no registers.
        let _ = self.set(&self.registers);
        // SAFETY: no pointers are read.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.thread, 0, 0) };
    }
}

/// The calling thread's answer as an error number, if it is one.
///
/// # Errors
/// When the call was not answered.
pub fn error_of(outcome: Outcome) -> Result<Option<i32>> {
    let Outcome::Answered(value) = outcome else { bail!("{outcome:?}") };
    (value < 0).then(|| i32::try_from(-value)).transpose().context("no error number")
}
