//! One function of bytes for each thing that strangers send. A fault is a panic; an input that is refused is none.
//!
//! ```text
//! stable: cargo run -p ml-ids-fuzz-targets     corpus, then mutations of it ─┐
//!                                                                            ├─► TARGETS
//! nightly: cargo fuzz (tests/fuzz/cargo-fuzz)  guided by coverage ───────────┘
//! ```

mod eve;
mod frames;
mod model;
mod pcap;
mod predict;

/// Something to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also its folder in the corpus.
    pub name: &'static str,
    /// What is fed to what.
    pub about: &'static str,
    /// Panics when something is wrong.
    pub run: fn(&[u8]),
    /// Longest input that mutation makes, in bytes.
    pub longest: usize,
    /// What mutation writes in one piece, because single bytes would rarely hit it.
    pub words: &'static [&'static [u8]],
    /// Files of the repository that belong to the corpus, too.
    pub seeds: &'static [&'static str],
}

/// All of them.
pub const TARGETS: [Target; 5] = [frames::TARGET, pcap::TARGET, predict::TARGET, model::TARGET, eve::TARGET];

/// Looks a target up.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_target_has_a_name_of_its_own_and_seeds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        assert_eq!(TARGETS.iter().map(|target| target.name).collect::<HashSet<_>>().len(), TARGETS.len());
        for target in &TARGETS {
            let folder = root.join("tests/fuzz/corpus").join(target.name);
            let files = fs::read_dir(&folder).map_or(0, Iterator::count);
            assert!(files > 0, "{} has no seed", folder.display());
            for seed in target.seeds {
                assert!(root.join(seed).is_file(), "{seed} is not there");
            }
        }
    }

    /// A file of five lines each, which cargo-fuzz wants; one that is forgotten would never be run there.
    #[test]
    fn cargo_fuzz_knows_every_target() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cargo-fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for Target { name, .. } in TARGETS {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in Cargo.toml");
            let text = fs::read_to_string(folder.join(format!("targets/{name}.rs"))).unwrap();
            assert!(text.contains(&format!("\"{name}\"")), "targets/{name}.rs runs something else");
        }
    }
}
