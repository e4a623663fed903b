//! One function of bytes for each thing that strangers send. A fault is a panic; an input that is refused is none.
//!
//! ```text
//! stable: cargo run -p ml-ids-fuzz-targets     corpus, then mutations of it ─┐
//!                                                                            ├─► TARGETS
//! nightly: cargo fuzz (tests/fuzz/cargo-fuzz)  guided by coverage ───────────┘
//! ```

mod config;
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
pub const TARGETS: [Target; 6] =
    [frames::TARGET, pcap::TARGET, predict::TARGET, model::TARGET, config::TARGET, eve::TARGET];

/// Looks a target up.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, convert::Infallible, fs, path::Path};

    use ml_ids::{
        api::{TimeUnit, rows_of_json},
        cli::check_configuration,
        model::{LoadOptions, Model, Source},
        offline::{Capture, Replay, replay},
    };
    use ml_ids_common::Profile;
    use ml_ids_fuzz::sequence::Sequence;

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

    /// Mutations of what is refused at the first byte find nothing.
    #[test]
    fn sound_seeds_get_to_the_end_of_their_path() {
        let seed = |path: &str| {
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(path)).expect("a seed of that name")
        };
        for kind in ["forest", "boosted"] {
            let model = seed(&format!("model/{kind}"));
            let loaded = Model::from_bytes(&model, Source::Embedded, &LoadOptions::default());
            assert_eq!(loaded.map(|model| model.trees()).map_err(|error| error.to_string()), Ok(2), "{kind}");
        }
        for capture in ["little", "big-nanoseconds", "raw", "sll", "ng", "ng-big-nanoseconds", "ng-two-sections"] {
            let bytes = seed(&format!("pcap/{capture}"));
            let (mut capture_of, mut table) = (Capture::new(&bytes[..]).unwrap(), Replay::new(Profile::Fixed));
            let Ok(damage) = replay(&mut capture_of, &mut table, |_| Ok::<_, Infallible>(()));
            assert!(damage.is_none(), "{capture}: {damage:?}");
            assert!(table.counters().flows.emitted > 0, "{capture} has no flow");
        }
        for (body, rows) in [("single", 1), ("batch", 2), ("client", 1), ("table", 1), ("numbers", 1), ("flows", 2)] {
            let read = rows_of_json(&seed(&format!("predict/{body}")), 16, TimeUnit::Auto);
            assert_eq!(read.map(|rows| rows.len()), Ok(rows), "{body}");
        }
        for file in ["run", "shared", "tables"] {
            let checked = check_configuration(&String::from_utf8(seed(&format!("config/{file}"))).unwrap());
            assert!(checked.as_ref().is_ok_and(|count| *count > 0), "{file}: {checked:?}");
        }
        assert!(frames_of(&seed("frames/tcp4")) > 5 && frames_of(&seed("eve/long")[4..]) > 50);
    }

    fn frames_of(input: &[u8]) -> usize {
        Sequence::new(input).map_or(0, Iterator::count)
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
