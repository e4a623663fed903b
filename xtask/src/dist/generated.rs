//! What is in a package and is made by the build: manual pages and completions, which the agent prints itself, the licences of
//! its parts, the bill of materials, Debian's changelog, and the configuration file as it is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::{
    compile::Checkout,
    contents::{GENERATED, Manifest, matching},
    dependencies, licences, sbom,
    target::Target,
    tools::{self, output},
};

/// Shells, and what their completions are called.
const SHELLS: [(&str, &str); 3] = [("bash", "ml-ids.bash"), ("zsh", "_ml-ids"), ("fish", "ml-ids.fish")];

/// Options that have another value where the package is installed than their default: section, name, value.
const INSTALLED: [(&str, &str, &str); 1] = [("run", "log-dir", "/var/log/ml-ids")];

/// Makes all of it.
pub(super) fn make(
    checkout: &Checkout,
    target: Target,
    program: &Path,
    manifest: &Manifest,
) -> anyhow::Result<PathBuf> {
    let folder = checkout.output(target).join(GENERATED);
    tools::remove(&folder)?;
    let pages = folder.join("man");
    fs::create_dir_all(&pages).with_context(|| format!("cannot make {}", pages.display()))?;
    output(target.start(program)?.arg("man").arg(&pages))?;
    for page in matching(&pages.join("*.1"))? {
        compress(&page)?;
    }
    for (shell, name) in SHELLS {
        write(&folder.join(name), &output(target.start(program)?.args(["completions", shell]))?)?;
    }
    let dependencies = dependencies::list(checkout, target)?;
    write(&folder.join("THIRD-PARTY-LICENCES"), licences::text(&dependencies, &checkout.root)?.as_bytes())?;
    let bill = serde_json::to_vec_pretty(&sbom::bill(&dependencies, checkout.epoch)?)?;
    write(&folder.join("ml-ids.cdx.json"), &bill)?;
    write(&folder.join("changelog.Debian"), changelog(manifest, checkout.epoch)?.as_bytes())?;
    let example = output(target.start(program)?.args(["config", "example"]))?;
    write(&folder.join("config.toml"), installed(&String::from_utf8(example)?)?.as_bytes())?;
    for name in ["THIRD-PARTY-LICENCES", "ml-ids.cdx.json", "changelog.Debian"] {
        compress(&folder.join(name))?;
    }
    Ok(folder)
}

/// Writes `NAME.gz` beside a file, without name and time in it.
fn compress(file: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("gzip");
    command.args(["-9", "--no-name", "--stdout"]).arg(file).stdin(Stdio::null());
    let mut name = file.as_os_str().to_owned();
    name.push(".gz");
    write(Path::new(&name), &output(&mut command)?)
}

/// The example of a configuration file with what is set where the package is installed.
fn installed(example: &str) -> anyhow::Result<String> {
    let mut text = example.to_owned();
    for (section, name, value) in INSTALLED {
        text = set(&text, section, name, value)?;
    }
    Ok(text)
}

/// Sets an option in a section: in place of its comment, `#NAME = …`, or, where the option is one of several commands and
/// explained above all sections, as the section's first.
fn set(text: &str, section: &str, name: &str, value: &str) -> anyhow::Result<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let heading = format!("[{section}]");
    let Some(begin) = lines.iter().position(|line| *line == heading) else {
        bail!("the example of a configuration file has no section {heading}");
    };
    let is_heading = |line: &String| line.starts_with('[');
    let end = lines.iter().skip(begin + 1).position(is_heading).map_or(lines.len(), |after| begin + 1 + after);
    let is_option = |line: &String| {
        let commented = line.trim_start_matches(['#', ' ']).split_once('=');
        commented.is_some_and(|(key, _)| key.trim() == name)
    };
    let setting = format!("{name} = \"{value}\"");
    match lines.iter().take(end).skip(begin).position(is_option) {
        Some(after) => lines.splice(begin + after..=begin + after, [setting]),
        None if lines.iter().take_while(|line| !is_heading(line)).any(is_option) => {
            lines.splice(begin + 1..begin + 1, [setting])
        }
        None => bail!("the example of a configuration file has no line for {name}"),
    };
    Ok(lines.join("\n") + "\n")
}

/// Debian's changelog: one entry, that of this version. What changed is in the project's own.
fn changelog(manifest: &Manifest, epoch: u64) -> anyhow::Result<String> {
    let (version, maintainer) = (manifest.version()?, manifest.deb("maintainer")?);
    Ok(format!(
        "ml-ids ({version}-1) unstable; urgency=medium\n\n  * Release {version}.\n\n -- {maintainer}  {}\n",
        date(epoch)
    ))
}

/// As RFC 5322 writes it.
fn date(epoch: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = epoch / 86_400;
    let (year, month, day) = sbom::civil(days);
    let name =
        |names: &[&'static str], index: u64| usize::try_from(index).ok().and_then(|index| names.get(index).copied());
    let (weekday, month) = (name(&DAYS, days % 7).unwrap_or_default(), name(&MONTHS, month - 1).unwrap_or_default());
    format!(
        "{weekday}, {day:02} {month} {year} {:02}:{:02}:{:02} +0000",
        epoch / 3600 % 24,
        epoch / 60 % 60,
        epoch % 60
    )
}

fn write(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_set_in_its_own_section_and_nowhere_else() {
        let example = "#user = \"x\"\n\n[run]\n#log-dir = \"logs\"\n#pin = false\n\n[serve]\n#log-dir = \"other\"\n";
        let expected = example.replace("#log-dir = \"logs\"", "log-dir = \"/var/log/x\"");
        assert_eq!(set(example, "run", "log-dir", "/var/log/x").unwrap(), expected);
        assert!(set(example, "serve", "pin", "x").is_err());
        assert!(set(example, "alerts", "pin", "x").is_err());
    }

    #[test]
    fn an_option_that_commands_share_is_set_for_one_of_them() {
        let example = "# Folder\n#log-dir = \"logs\"\n\n[run]\n#pin = false\n";
        let expected = "# Folder\n#log-dir = \"logs\"\n\n[run]\nlog-dir = \"x\"\n#pin = false\n";
        assert_eq!(set(example, "run", "log-dir", "x").unwrap(), expected);
    }

    #[test]
    fn dates_are_written_as_debian_reads_them() {
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(date(1_795_778_092), "Fri, 27 Nov 2026 11:14:52 +0000");
    }
}
