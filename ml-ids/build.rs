//! Builds the eBPF object and puts it beside the agent's own artefacts.
//!
//! Two things are needed beyond the host's compiler: one that can build `core` for the BPF target, and `bpf-linker`.
//! `cargo xtask setup` provides both and leaves them where this script looks: the rustup toolchain [`LINKED_TOOLCHAIN`]
//! if there is one, else `nightly` with rust-src; and `$ML_IDS_CACHE/tools/bin` (default `~/.cache/ml-ids`) for the linker.

use std::{env, path::PathBuf, process::Command};

use aya_build::{Package, Toolchain};

/// The toolchain that `cargo xtask setup` makes of a distribution's compiler where rustup cannot fetch rust-src.
const LINKED_TOOLCHAIN: &str = "ml-ids-ebpf";

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-env-changed=ML_IDS_CACHE");
    println!("cargo:rerun-if-changed=../ml-ids-common/src");
    println!("cargo:rerun-if-changed=../models/default.onnx");
    let linked = has_linked_toolchain();
    let path = path_with_tools();
    // SAFETY: a build script's main thread, before any other thread is started.
    unsafe {
        if let Some(path) = path {
            env::set_var("PATH", path);
        }
        if linked {
            // A stable compiler builds `core` only when it is told to accept unstable options.
            env::set_var("RUSTC_BOOTSTRAP", "1");
        }
    }
    let package = Package {
        name: "ml-ids-ebpf",
        root_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/../ml-ids-ebpf"),
        ..Default::default()
    };
    let toolchain = if linked { Toolchain::Custom(LINKED_TOOLCHAIN) } else { Toolchain::default() };
    aya_build::build_ebpf([package], toolchain)
}

fn has_linked_toolchain() -> bool {
    Command::new("rustup").args(["toolchain", "list"]).output().is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).lines().any(|line| line.starts_with(LINKED_TOOLCHAIN))
    })
}

fn path_with_tools() -> Option<std::ffi::OsString> {
    let cache = match env::var_os("ML_IDS_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME")?).join(".cache/ml-ids"),
    };
    let path = env::var_os("PATH")?;
    env::join_paths(std::iter::once(cache.join("tools/bin")).chain(env::split_paths(&path))).ok()
}
