//! The unit file and the scripts around it, held against systemd's own judgement and against each other.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{process, workspace};

/// What systemd-analyze calls the unit's exposure at most. A service without any sandbox has 9.6; what is left here is root at
/// the start (0.4), its capabilities (1.0), the network (1.2) and the system calls that go with them, and 0.2 that systemd would
/// not count if what `ReadOnlyPaths=` does here were done by `ProtectKernelTunables=`.
const MOST_EXPOSURE: f64 = 2.9;

/// Folders that the service writes to.
const FOLDERS: [&str; 3] = ["/var/lib/ml-ids", "/var/log/ml-ids", "/var/cache/ml-ids"];

fn unit() -> PathBuf {
    workspace::root().join("deploy/systemd/ml-ids.service")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The value of a directive that is there once.
fn directive(name: &str) -> String {
    let text = read(&unit());
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("the unit has no {name}"));
    assert_eq!(values.next(), None, "{name} is there twice");
    value.to_owned()
}

/// `None`, said loudly, where systemd's tools are not there.
fn analyze(arguments: &[&str], unit: &Path) -> Option<Output> {
    if process::find("systemd-analyze").is_none() {
        eprintln!("SKIPPED: systemd-analyze is not there; `cargo xtask setup --tests` installs it");
        return None;
    }
    let mut command = Command::new("systemd-analyze");
    Some(command.arg("--no-pager").args(arguments).arg(unit).env("LC_ALL", "C").output().unwrap())
}

#[test]
fn the_unit_is_confined_as_systemd_judges_it() {
    let Some(output) = analyze(&["security", "--offline=true"], &unit()) else { return };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let level = said.lines().find_map(|line| line.split_once("Overall exposure level for ml-ids.service: "));
    let (_, level) = level.unwrap_or_else(|| panic!("no level in:\n{said}"));
    let level: f64 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(level <= MOST_EXPOSURE, "exposure {level} is over {MOST_EXPOSURE}:\n{said}");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let folder = std::env::temp_dir().join(format!("ml-ids-unit-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let copy = folder.join("ml-ids.service");
    // The program is not installed where the tests run.
    fs::write(&copy, read(&unit()).replace("ExecStart=/usr/bin/ml-ids ", "ExecStart=/bin/true ")).unwrap();
    let output = analyze(&["verify", "--man=no"], &copy);
    let wrong = copy.with_file_name("wrong.service");
    fs::write(&wrong, read(&copy).replace("ProtectSystem=strict", "ProtectSystem=nonsense")).unwrap();
    let complaint = analyze(&["verify", "--man=no"], &wrong);
    fs::remove_dir_all(&folder).unwrap();
    let (Some(output), Some(complaint)) = (output, complaint) else { return };
    let about = |output: &Output, name: &str| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.lines().filter(|line| line.contains(name)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(about(&output, "ml-ids.service"), Vec::<String>::new());
    assert!(!about(&complaint, "wrong.service").is_empty(), "systemd-analyze verify finds nothing wrong with nonsense");
}

#[test]
fn the_service_starts_the_program_that_the_package_installs_and_only_with_what_it_needs() {
    assert_eq!(directive("ExecStart"), "/usr/bin/ml-ids run");
    let capabilities = directive("CapabilityBoundingSet");
    for needed in ["BPF", "NET_ADMIN", "PERFMON", "CHOWN", "DAC_OVERRIDE", "SETUID", "SETGID", "SETPCAP"] {
        assert!(capabilities.split(' ').any(|held| held == format!("CAP_{needed}")), "{needed}: {capabilities}");
    }
    for needless in
        ["SYS_ADMIN", "SYS_RESOURCE", "SYS_PTRACE", "SYS_MODULE", "NET_RAW", "KILL", "DAC_READ_SEARCH", "FOWNER"]
    {
        assert!(!capabilities.contains(needless), "{capabilities}");
    }
}

#[test]
fn folders_of_the_service_are_made_by_the_package_and_go_with_its_purge() {
    let scripts = workspace::root().join("deploy/debian");
    let (postinst, postrm) = (read(&scripts.join("postinst")), read(&scripts.join("postrm")));
    let unit = read(&unit());
    for folder in FOLDERS {
        assert!(unit.contains(&format!("-{folder}")), "the unit does not let the sensor write to {folder}");
        assert!(postinst.contains(folder), "postinst does not make {folder}");
        assert!(postrm.contains("rm -rf ") && postrm.contains(folder), "postrm does not remove {folder}");
    }
    for taken in ["StateDirectory=", "LogsDirectory=", "CacheDirectory="] {
        let given = unit.lines().any(|line| line.starts_with(taken));
        assert!(!given || unit.contains("\nUser="), "{taken} without User= gives the folder to root");
    }
}

#[test]
fn maintainer_scripts_are_shell_and_end_at_the_first_failure() {
    let scripts = workspace::root().join("deploy/debian");
    for name in ["postinst", "prerm", "postrm"] {
        let file = scripts.join(name);
        let text = read(&file);
        assert!(text.starts_with("#!/bin/sh\nset -e\n"), "{name}");
        assert!(text.contains("\n#DEBHELPER#\n"), "{name} has no place for what systemd needs");
        let checked = Command::new("sh").arg("-n").arg(&file).output().unwrap();
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}
