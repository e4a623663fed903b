//! What tests of the sensor need of the kernel: a network namespace of their own, the programs loaded. Without root both are
//! skipped, loudly.

use std::{process::Command, thread, time::Duration};

use super::{
    Options, SensorError,
    links::{LinkInfo, Links},
    replay::KernelReplay,
};

/// Runs an `ip` command in this thread's namespace.
pub(super) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.is_ok_and(|status| status.success()), "ip {arguments}");
}

/// Runs a test on a thread in a network namespace of its own with a veth pair, `a0` and `b0`. Without root it is skipped,
/// loudly.
pub(super) fn in_namespace(test: impl FnOnce() + Send) {
    let run = || {
        // SAFETY: no pointers involved; only this thread changes its namespace.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            eprintln!("SKIPPED: network namespaces and eBPF need root");
            return;
        }
        ip("link add a0 type veth peer name b0");
        // Without addresses IPv6 sends nothing of its own accord.
        ip("link set a0 addrgenmode none up");
        ip("link set b0 addrgenmode none up");
        let running = |link: &LinkInfo| link.flags & libc::IFF_RUNNING as u32 != 0;
        let mut links = Links::open().unwrap();
        // The kernel opens the queues a moment after the links are up.
        while links.list().unwrap().iter().filter(|link| running(link)).count() < 2 {
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(100));
        test();
    };
    thread::scope(|scope| scope.spawn(run).join().unwrap());
}

/// The programs, loaded for a test that gives them packets and the time.
pub(super) fn loaded(options: &Options) -> Option<KernelReplay> {
    match KernelReplay::load(options, true) {
        Ok(replay) => Some(replay),
        Err(SensorError::Permission { .. } | SensorError::Barred { .. }) => {
            eprintln!("SKIPPED: loading eBPF programs needs root");
            None
        }
        Err(error) => panic!("{:#}", anyhow::Error::from(error)),
    }
}
