//! Which files can be opened from now on, whoever they belong to: Landlock, where the kernel has it (Linux 5.13 and later).
//!
//! What is open already stays usable. No TCP port can be bound any more (Linux 6.7 and later); connecting is free, because
//! sinks and models may be anywhere.

use std::{
    env,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, path_beneath_rules,
};

/// The newest version whose rights are known here.
const KNOWN: ABI = ABI::V5;
/// `LANDLOCK_CREATE_RULESET_VERSION` (include/uapi/linux/landlock.h).
const ASK_VERSION: u32 = 1;

/// What every agent reads, and for what.
const READ: &[(&[&str], &str)] = &[
    (&["/proc"], "metrics of the process, routes, whether a former sensor lives"),
    (&["/sys/class/net", "/sys/devices"], "interfaces; processors, for maps that have a value for each"),
    // The folder: a rule is about a file and not its name, and what is replaced by renaming would be out of reach.
    (&["/etc"], "names of servers, certificates, accounts, time zone; permissions protect what is secret in there"),
    (&["/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager"], "where resolv.conf leads to"),
    (&["/lib", "/lib64", "/usr/lib", "/usr/lib64"], "modules of the C library that resolve names"),
    (&["/usr/share/zoneinfo"], "what the C library may ask for"),
    (
        &[
            "/usr/lib/ssl",
            "/usr/share/ssl",
            "/usr/share/ca-certificates",
            "/usr/local/share/ca-certificates",
            "/usr/local/ssl",
        ],
        "certificates that servers of models and sinks are checked against",
    ),
    (&["/dev/urandom", "/dev/random"], "random numbers on old kernels"),
];
/// Where certificates are if it is not there.
const CERTIFICATE_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// What every agent writes to.
const WRITE: &[(&[&str], &str)] = &[(&["/dev/null"], "libraries that want to write nowhere")];

/// Files and folders that this agent uses besides those that every agent does.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Read. A folder stands for all that is in it.
    pub read: Vec<PathBuf>,
    /// Written, made, renamed and removed.
    pub write: Vec<PathBuf>,
}

impl Places {
    /// Lets a file be read, and whatever gets its name later.
    pub fn read_file(&mut self, path: &Path) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        self.read.push(folder.unwrap_or(Path::new(".")).to_owned());
        // Its folder may be another one's: links are followed.
        self.read.push(path.to_owned());
    }
}

/// Limits that no thread is under yet.
pub(super) struct Limits {
    /// Version of the kernel's Landlock, 0 if it has none.
    pub(super) version: i32,
    rules: Option<OwnedFd>,
}

impl Limits {
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.rules.as_ref().map(OwnedFd::as_fd)
    }
}

/// The limits, as far as this kernel can keep them.
pub(super) fn ruleset(places: &Places) -> Result<Limits, RulesetError> {
    let version = version();
    if version <= 0 {
        return Ok(Limits { version: 0, rules: None });
    }
    // Not on shared libraries: these are mapped, not executed.
    let all = AccessFs::from_all(KNOWN) & !AccessFs::Execute;
    let read = AccessFs::from_read(KNOWN) & !AccessFs::Execute;
    let fixed = |table: &'static [(&[&str], &str)]| table.iter().flat_map(|(paths, _)| paths.iter().map(PathBuf::from));
    let mut certificates = Places::default();
    for path in CERTIFICATE_VARIABLES.iter().filter_map(env::var_os) {
        certificates.read_file(Path::new(&path));
    }
    let created = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::BindTcp)?
        .create()?
        .add_rules(path_beneath_rules(fixed(READ).chain(certificates.read).chain(places.read.iter().cloned()), read))?
        .add_rules(path_beneath_rules(fixed(WRITE).chain(places.write.iter().cloned()), all))?;
    Ok(Limits { version, rules: created.into() })
}

/// The kernel's version, negative without Landlock.
fn version() -> i32 {
    // SAFETY: asks for the version, for which no attributes are read.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, ASK_VERSION)
    };
    i32::try_from(version).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    #[test]
    fn under_the_limits_only_the_places_can_be_used_and_what_is_open_stays_so() {
        let scratch = tempfile::tempdir().unwrap();
        let (own, other) = (scratch.path().join("own"), scratch.path().join("other"));
        for folder in [&own, &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("file"), "x").unwrap();
        }
        let places = Places { write: vec![own.clone()], ..Places::default() };
        let limits = ruleset(&places).unwrap();
        let Some(rules) = limits.descriptor() else {
            eprintln!("SKIPPED: this kernel has no Landlock");
            return;
        };
        let open = fs::File::open(other.join("file")).unwrap();
        thread::scope(|scope| {
            let limited = scope.spawn(|| {
                use std::os::fd::AsRawFd as _;
                // SAFETY: numbers only; on this thread alone, which ends with the test.
                let restricted = unsafe {
                    libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                    libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0)
                };
                assert_eq!(restricted, 0);
                fs::rename(own.join("file"), own.join("renamed")).unwrap();
                fs::write(own.join("new"), "y").unwrap();
                fs::remove_file(own.join("new")).unwrap();
                assert!(open.metadata().is_ok());
                let refused = |result: std::io::Result<()>| result.unwrap_err().raw_os_error() == Some(libc::EACCES);
                assert!(refused(fs::read(other.join("file")).map(drop)));
                assert!(refused(fs::write(other.join("new"), "y")));
                assert!(refused(fs::read("/usr/bin/env").map(drop)));
                assert!(fs::read("/etc/passwd").is_ok());
                assert!(fs::read("/proc/self/status").is_ok());
                if limits.version >= 4 {
                    assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err(), "a port was bound");
                }
            });
            limited.join().unwrap();
        });
    }
}
