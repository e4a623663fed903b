//! The crates that a release consists of: what is linked into the agent, and into the kernel programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{compile::Checkout, target::Target, tools::output};
use crate::process;

/// A crate as its manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) version: String,
    /// SPDX expression; older manifests write `A/B` for `A OR B`, which is put right.
    pub(super) licence: String,
    pub(super) description: Option<String>,
    pub(super) repository: Option<String>,
    /// SHA-256 of the crate's file, from Cargo.lock. Our own crates have none.
    pub(super) checksum: Option<String>,
    /// The crate's folder.
    pub(super) folder: PathBuf,
    /// Crates that it uses.
    pub(super) uses: BTreeSet<Id>,
}

/// Name and version.
pub(super) type Id = (String, String);

/// All of a release, by name and version.
pub(super) type Dependencies = BTreeMap<Id, Dependency>;

/// Asks cargo. Procedural macros and build scripts are left out: nothing of them is in what is shipped.
pub(super) fn list(checkout: &Checkout, target: Target) -> anyhow::Result<Dependencies> {
    let mut linked = BTreeSet::new();
    let mut edges: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    for (package, target) in [("ml-ids", target.triple()), ("ml-ids-ebpf", "bpfel-unknown-none")] {
        let mut tree = process::cargo(["tree", "--locked", "--package", package, "--edges", "normal,no-proc-macro"]);
        tree.args(["--target", target, "--prefix", "depth", "--format", "{p}"]).current_dir(&checkout.root);
        read_tree(&String::from_utf8(output(&mut tree)?)?, &mut linked, &mut edges)?;
    }
    let mut metadata =
        process::cargo(["metadata", "--locked", "--format-version", "1", "--filter-platform", target.triple()]);
    let metadata: Value = serde_json::from_slice(&output(metadata.current_dir(&checkout.root))?)?;
    let checksums =
        checksums(&std::fs::read_to_string(checkout.root.join("Cargo.lock")).context("cannot read Cargo.lock")?);
    let mut found = Dependencies::new();
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let text = |field: &str| package[field].as_str().map(str::to_owned);
        let id = (text("name").unwrap_or_default(), text("version").unwrap_or_default());
        if !linked.contains(&id) {
            continue;
        }
        let Some(licence) = text("license") else { bail!("{} {} names no licence", id.0, id.1) };
        let manifest = text("manifest_path").context("cargo metadata tells no manifest")?;
        let dependency = Dependency {
            name: id.0.clone(),
            version: id.1.clone(),
            licence: spdx(&licence),
            description: text("description").map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")),
            repository: text("repository"),
            checksum: checksums.get(&id).cloned(),
            folder: Path::new(&manifest).parent().context("a manifest without a folder")?.to_owned(),
            uses: edges.remove(&id).unwrap_or_default(),
        };
        found.insert(id, dependency);
    }
    match linked.iter().find(|id| !found.contains_key(id)) {
        Some((name, version)) => bail!("cargo metadata does not know {name} {version}"),
        None => Ok(found),
    }
}

/// `0ml-ids v0.1.0 (/path)`, `1anyhow v1.0.1`, …: the number is the depth.
fn read_tree(tree: &str, linked: &mut BTreeSet<Id>, edges: &mut BTreeMap<Id, BTreeSet<Id>>) -> anyhow::Result<()> {
    let mut path: Vec<Id> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        let (depth, rest) = line.split_at(digits);
        let depth: usize = depth.parse().with_context(|| format!("cargo tree printed {line}"))?;
        let mut words = rest.split_whitespace();
        let (name, version) = (words.next(), words.next().and_then(|version| version.strip_prefix('v')));
        let (Some(name), Some(version)) = (name, version) else { bail!("cargo tree printed {line}") };
        let id = (name.to_owned(), version.to_owned());
        path.truncate(depth);
        if let Some(user) = path.last() {
            edges.entry(user.clone()).or_default().insert(id.clone());
        }
        linked.insert(id.clone());
        path.push(id);
    }
    Ok(())
}

/// Checksums in a Cargo.lock, whose fields stand one a line.
fn checksums(lock: &str) -> BTreeMap<Id, String> {
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'));
        line.map(str::to_owned)
    };
    let blocks = lock.split("[[package]]");
    blocks
        .filter_map(|block| Some(((field(block, "name")?, field(block, "version")?), field(block, "checksum")?)))
        .collect()
}

/// `A/B` and `A / B`, as was written before SPDX expressions, mean `A OR B`.
fn spdx(licence: &str) -> String {
    licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        (name.to_owned(), "1.0.0".to_owned())
    }

    #[test]
    fn a_tree_tells_who_uses_whom() {
        let (mut linked, mut edges) = (BTreeSet::new(), BTreeMap::new());
        let tree = "0a v1.0.0 (/work)\n1b v1.0.0\n2c v1.0.0\n1d v1.0.0\n2c v1.0.0\n";
        read_tree(tree, &mut linked, &mut edges).unwrap();
        assert_eq!(linked, ["a", "b", "c", "d"].map(id).into());
        assert_eq!(edges[&id("a")], [id("b"), id("d")].into());
        assert_eq!(edges[&id("d")], [id("c")].into());
        assert!(read_tree("what is this", &mut linked, &mut edges).is_err());
    }

    #[test]
    fn checksums_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"x\"\nchecksum = \"ab\"\n\n\
                    [[package]]\nname = \"b\"\nversion = \"1.0.0\"\ndependencies = [\n \"a\",\n]\n";
        assert_eq!(checksums(lock), BTreeMap::from([(id("a"), "ab".to_owned())]));
    }

    #[test]
    fn a_slash_between_licences_is_a_choice() {
        assert_eq!(spdx("MIT / Apache-2.0"), "MIT OR Apache-2.0");
        assert_eq!(spdx("(MIT OR Apache-2.0) AND Unicode-3.0"), "(MIT OR Apache-2.0) AND Unicode-3.0");
    }
}
