//! Builds the eBPF object and puts it beside the agent's own artefacts.
//!
//! Two things are needed beyond the host's compiler: one that can build `core` for the BPF target, and `bpf-linker`.
//! `cargo xtask setup` provides both and leaves them where this script looks: the rustup toolchain [`LINKED_TOOLCHAIN`]
//! if there is one, else `nightly` with rust-src; and `$ML_IDS_CACHE/tools/bin` (default `~/.cache/ml-ids`) for the linker.
//!
//! Building `core` takes a minute, so what is built is kept in `$ML_IDS_CACHE/ebpf` and shared by all profiles of a checkout.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use aya_build::{Package, Toolchain};

/// The toolchain that `cargo xtask setup` makes of a distribution's compiler where rustup cannot fetch rust-src.
const LINKED_TOOLCHAIN: &str = "ml-ids-ebpf";

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-env-changed=ML_IDS_CACHE");
    println!("cargo:rerun-if-changed=../ml-ids-common/src");
    println!("cargo:rerun-if-changed=../models/default.onnx");
    // Asked at run time: a build folder that several checkouts share keeps this script compiled.
    let manifest = env::var("CARGO_MANIFEST_DIR")?;
    let root_dir = format!("{manifest}/../ml-ids-ebpf");
    let cache = cache();
    if let (Some(cache), Some(out_dir)) = (&cache, env::var_os("OUT_DIR")) {
        share_target(cache, &manifest, Path::new(&out_dir))?;
    }
    let linked = has_linked_toolchain();
    // SAFETY: a build script's main thread, before any other thread is started.
    unsafe {
        if let Some(path) = cache.and_then(|cache| path_with_tools(&cache)) {
            env::set_var("PATH", path);
        }
        if linked {
            // A stable compiler builds `core` only when it is told to accept unstable options.
            env::set_var("RUSTC_BOOTSTRAP", "1");
        }
        // aya-build turns each line that cargo prints into a warning; real ones come another way.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    let package = Package { name: "ml-ids-ebpf", root_dir: &root_dir, ..Default::default() };
    let toolchain = if linked { Toolchain::Custom(LINKED_TOOLCHAIN) } else { Toolchain::default() };
    aya_build::build_ebpf([package], toolchain)
}

fn has_linked_toolchain() -> bool {
    Command::new("rustup").args(["toolchain", "list"]).output().is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).lines().any(|line| line.starts_with(LINKED_TOOLCHAIN))
    })
}

fn cache() -> Option<PathBuf> {
    match env::var_os("ML_IDS_CACHE") {
        Some(cache) => Some(PathBuf::from(cache)),
        None => Some(PathBuf::from(env::var_os("HOME")?).join(".cache/ml-ids")),
    }
}

fn path_with_tools(cache: &Path) -> Option<std::ffi::OsString> {
    let path = env::var_os("PATH")?;
    env::join_paths(std::iter::once(cache.join("tools/bin")).chain(env::split_paths(&path))).ok()
}

/// Lets the folder in which aya-build builds be one that outlives `cargo clean`: one a checkout, because two that build at
/// the same time would take each other's object.
fn share_target(cache: &Path, manifest: &str, out_dir: &Path) -> io::Result<()> {
    let mut hasher = DefaultHasher::new();
    manifest.hash(&mut hasher);
    let shared = cache.join("ebpf").join(format!("{:016x}", hasher.finish()));
    let link = out_dir.join("aya-build");
    if link.exists() {
        return Ok(());
    }
    if fs::create_dir_all(&shared).is_ok() {
        // A dangling link of a cache that was removed stands in the way.
        let _ = fs::remove_file(&link);
        symlink(&shared, &link)?;
    }
    Ok(())
}
