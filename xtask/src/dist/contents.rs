//! What is in a package and where it goes. The list is the one that cargo-deb reads, `[package.metadata.deb]` in
//! ml-ids/Cargo.toml: tarball and .deb cannot come to differ.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{compile::Checkout, target::Target, tools::output};
use crate::process;

/// How paths of build output begin in the list, wherever the output is.
const OUTPUT: &str = "target/release/";
/// The folder of what is generated, in the build output.
pub(super) const GENERATED: &str = "package";
/// cargo-deb knows by itself that it belongs to the package.
const UNIT: Entry<'static> =
    Entry { source: "../deploy/systemd/ml-ids.service", to: "usr/lib/systemd/system/", mode: 0o644 };

/// A line of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry<'text> {
    source: &'text str,
    to: &'text str,
    mode: u32,
}

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packaged {
    pub(super) from: PathBuf,
    /// Below the root of the file system.
    pub(super) to: String,
    pub(super) mode: u32,
}

/// The agent's manifest, as cargo tells it.
pub(super) struct Manifest(Value);

impl Manifest {
    /// Asks cargo.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut command = process::cargo(["metadata", "--locked", "--no-deps", "--format-version", "1"]);
        let metadata: Value = serde_json::from_slice(&output(command.current_dir(root))?)?;
        let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
        let agent =
            packages.iter().find(|package| package["name"] == "ml-ids").context("there is no package ml-ids")?;
        Ok(Self(agent.clone()))
    }

    /// Of the agent, and of the packages.
    pub(super) fn version(&self) -> anyhow::Result<&str> {
        self.0["version"].as_str().context("the package ml-ids has no version")
    }

    /// A text of `[package.metadata.deb]`.
    pub(super) fn deb(&self, name: &str) -> anyhow::Result<&str> {
        let text = self.0["metadata"]["deb"][name].as_str();
        text.with_context(|| format!("ml-ids/Cargo.toml has no package.metadata.deb.{name}"))
    }

    fn entries(&self) -> anyhow::Result<Vec<Entry<'_>>> {
        let assets = self.0["metadata"]["deb"]["assets"].as_array().context("ml-ids/Cargo.toml lists no assets")?;
        let mut entries = vec![UNIT];
        for asset in assets {
            let part = |index: usize| asset[index].as_str().with_context(|| format!("not an asset: {asset}"));
            let mode = u32::from_str_radix(part(2)?, 8).with_context(|| format!("not a mode in octal: {asset}"))?;
            entries.push(Entry { source: part(0)?, to: part(1)?, mode });
        }
        Ok(entries)
    }

    /// Every file of the package, in order of where it goes.
    pub(super) fn files(&self, checkout: &Checkout, target: Target) -> anyhow::Result<Vec<Packaged>> {
        let mut files = Vec::new();
        for Entry { source, to, mode } in self.entries()? {
            let source = match source.strip_prefix(OUTPUT) {
                Some(output) => checkout.output(target).join(output),
                None => checkout.root.join("ml-ids").join(source),
            };
            for from in matching(&source)? {
                let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let to = if to.ends_with('/') { format!("{to}{name}") } else { to.to_owned() };
                files.push(Packaged { from, to, mode });
            }
        }
        files.sort_by(|one, other| one.to.cmp(&other.to));
        let twice = files.windows(2).find(|pair| matches!(pair, [one, other] if one.to == other.to));
        ensure!(twice.is_none(), "two files of the package have one name: {twice:?}");
        Ok(files)
    }
}

/// The files that a path stands for, whose last part may have one `*`.
pub(super) fn matching(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((begin, end)) = name.split_once('*') else { return Ok(vec![path.to_owned()]) };
    let folder = path.parent().context("a pattern without a folder")?;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let file = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end) {
            found.push(file);
        }
    }
    if found.is_empty() {
        bail!("nothing matches {}", path.display());
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn every_file_of_the_list_that_is_not_made_by_the_build_is_there() {
        let root = workspace::root();
        let manifest = Manifest::read(&root).unwrap();
        let entries = manifest.entries().unwrap();
        assert!(entries.len() > 10, "{entries:?}");
        for entry in entries.iter().filter(|entry| !entry.source.starts_with(OUTPUT)) {
            let file = root.join("ml-ids").join(entry.source);
            assert!(file.is_file(), "ml-ids/Cargo.toml packages {}, which is not there", file.display());
        }
    }

    #[test]
    fn the_package_holds_what_a_service_needs_where_debian_expects_it() {
        let manifest = Manifest::read(&workspace::root()).unwrap();
        let entries = manifest.entries().unwrap();
        for (place, mode) in [
            ("usr/bin/", 0o755),
            ("usr/lib/systemd/system/", 0o644),
            ("etc/ml-ids/config.toml", 0o644),
            ("usr/share/man/man1/", 0o644),
            ("usr/share/bash-completion/completions/ml-ids", 0o644),
            ("usr/share/zsh/vendor-completions/_ml-ids", 0o644),
            ("usr/share/fish/vendor_completions.d/ml-ids.fish", 0o644),
            ("usr/share/ml-ids/default.onnx", 0o644),
            ("usr/share/doc/ml-ids/THIRD-PARTY-LICENCES.gz", 0o644),
            ("usr/share/doc/ml-ids/ml-ids.cdx.json.gz", 0o644),
        ] {
            let found = entries.iter().find(|entry| entry.to == place).map(|entry| entry.mode);
            assert_eq!(found, Some(mode), "{place}");
        }
    }

    #[test]
    fn the_lists_description_has_no_paragraph_that_debian_would_not_take() {
        let manifest = Manifest::read(&workspace::root()).unwrap();
        for name in ["maintainer", "section", "priority", "depends", "extended-description", "maintainer-scripts"] {
            assert!(!manifest.deb(name).unwrap().is_empty(), "{name}");
        }
        let maintainer = manifest.deb("maintainer").unwrap();
        assert!(maintainer.ends_with('>') && maintainer.contains(" <"), "{maintainer}");
    }

    #[test]
    fn a_star_stands_for_the_rest_of_a_name() {
        let folder = std::env::temp_dir().join(format!("ml-ids-matching-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for name in ["b.1", "a.1", "a.2"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let found = matching(&folder.join("*.1")).unwrap();
        let nothing = matching(&folder.join("*.3")).unwrap_err().to_string();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, [folder.join("a.1"), folder.join("b.1")]);
        assert!(nothing.contains("nothing matches"), "{nothing}");
    }
}
