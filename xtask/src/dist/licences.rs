//! The licences of everything in a package, as one text: each crate's own files, each different text once.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::dependencies::Dependencies;

/// How names of files begin that state licences.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
/// Folders of crates in which the licences of what they bring along stand.
const FOLDERS: [&str; 4] = ["", "LICENSES", "licenses", "zstd"];
/// Programs in other languages that crates bring along and whose licence is no file of theirs.
const BUNDLED: [(&str, &str); 1] = [(
    "libsqlite3-sys",
    "SQLite, which this crate contains, is in the public domain: https://sqlite.org/copyright.html",
)];
/// Licences that a crate may name without bringing their text: those whose text is the same for everybody or ours, too.
const KNOWN: [(&str, &str); 2] = [("Apache-2.0", "LICENSE-APACHE"), ("MIT", "LICENSE-MIT")];

const HEAD: &str = "\
ML-IDS contains the work of others. Below is each piece with its licence: first the list, then the texts, each once with the
names of all pieces that it came with. Rust's standard library, which is part of every Rust program, is MIT OR Apache-2.0.
";

/// Makes the text. `root` is the repository's, where the texts of the most common licences are.
///
/// # Errors
/// When a crate brings no text and its licence is not one of those that are known.
pub(super) fn text(dependencies: &Dependencies, root: &Path) -> anyhow::Result<String> {
    let mut list = String::new();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for dependency in dependencies.values().filter(|dependency| dependency.checksum.is_some()) {
        let title = format!("{} {}", dependency.name, dependency.version);
        writeln!(list, "{title}: {}", dependency.licence)?;
        if let Some(link) = &dependency.repository {
            writeln!(list, "    {link}")?;
        }
        if let Some((_, note)) = BUNDLED.iter().find(|(name, _)| *name == dependency.name) {
            writeln!(list, "    {note}")?;
        }
        let mut files = files(&dependency.folder)?;
        if files.is_empty() {
            let known =
                KNOWN.iter().find(|(name, _)| dependency.licence.split([' ', '(', ')']).any(|word| word == *name));
            let Some((name, file)) = known else {
                bail!("{title} brings no text of its licence, {}; add it to {}", dependency.licence, file!())
            };
            writeln!(list, "    (brings no text of its licence; the one of {name} is below)")?;
            files.push(root.join(file));
        }
        for file in files {
            let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim_end().to_owned();
            let owners = texts.entry(text).or_default();
            if owners.last() != Some(&title) {
                owners.push(title.clone());
            }
        }
    }
    let mut texts: Vec<(String, Vec<String>)> = texts.into_iter().collect();
    texts.sort_by(|(_, one), (_, other)| one.cmp(other));
    let mut all = format!("{HEAD}\n{list}");
    for (text, owners) in texts {
        write!(all, "\n{}\n{}\n\n{text}\n", "=".repeat(100), owners.join(", "))?;
    }
    Ok(all)
}

/// The files of a crate that state licences, in order.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for part in FOLDERS {
        let folder = folder.join(part);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let file = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
            let is_text = !name.ends_with(".RS") && !name.ends_with(".HTML");
            let states = part.to_uppercase() == "LICENSES" || NAMES.iter().any(|begin| name.starts_with(begin));
            if states && is_text && file.is_file() {
                found.push(file);
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::{
            compile::Checkout,
            dependencies::{self, Dependency},
            sbom,
            target::Target,
        },
        *,
    };

    fn crates(folder: &Path, named: &[(&str, &str)]) -> Dependencies {
        let one = |(name, licence): &(&str, &str)| {
            let id = ((*name).to_owned(), "1.0.0".to_owned());
            let dependency = Dependency {
                name: id.0.clone(),
                version: id.1.clone(),
                licence: (*licence).to_owned(),
                description: None,
                repository: None,
                checksum: Some("ab".to_owned()),
                folder: folder.join(name),
                uses: BTreeSet::new(),
            };
            (id, dependency)
        };
        named.iter().map(one).collect()
    }

    #[test]
    fn a_text_that_two_crates_share_stands_once_with_both_names() {
        let folder = std::env::temp_dir().join(format!("ml-ids-licences-{}", std::process::id()));
        for name in ["a", "b"] {
            fs::create_dir_all(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("LICENSE-MIT"), "do as you like\n").unwrap();
        }
        let text = text(&crates(&folder, &[("a", "MIT"), ("b", "MIT")]), &crate::workspace::root()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(text.matches("do as you like").count(), 1);
        assert!(text.contains("a 1.0.0, b 1.0.0"), "{text}");
    }

    #[test]
    fn every_crate_of_a_release_has_a_licence_and_a_place_in_the_bill() {
        let root = crate::workspace::root();
        let checkout = Checkout { root: root.clone(), target_dir: root.join("target"), epoch: 0 };
        let dependencies = dependencies::list(&checkout, Target::native().unwrap()).unwrap();
        let named = |name: &str| dependencies.keys().any(|(found, _)| found == name);
        assert!(named("tract-core") && named("aya-ebpf"), "agent or kernel programs are missing");
        assert!(!named("serde_derive"), "a procedural macro is not shipped");
        let text = text(&dependencies, &root).unwrap();
        let bill = sbom::bill(&dependencies, 0).unwrap();
        let parts = bill["components"].as_array().unwrap();
        assert_eq!(parts.len() + 1, dependencies.len());
        for ((name, version), dependency) in &dependencies {
            assert!(dependency.checksum.is_none() || text.contains(&format!("{name} {version}: ")), "{name} {version}");
        }
    }

    #[test]
    fn a_crate_without_a_text_gets_a_common_one_and_an_uncommon_licence_is_refused() {
        let nowhere = Path::new("/nonexistent");
        let root = crate::workspace::root();
        assert!(text(&crates(nowhere, &[("a", "Apache-2.0")]), &root).unwrap().contains("Apache License"));
        let error = text(&crates(nowhere, &[("a", "Beerware")]), &root).unwrap_err().to_string();
        assert!(error.contains("a 1.0.0 brings no text of its licence, Beerware"), "{error}");
    }
}
