//! The kernels that the sensor must run on, and where Debian keeps them.

/// One kernel series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// As it is named on the command line.
    pub(super) name: &'static str,
    /// What every package of the series has in its name.
    pub(super) series: &'static str,
    /// Archive and suite, as in a source list.
    pub(super) source: &'static str,
}

/// The suite that emulator, shell and network tools come from. Its QEMU is a 10: that of Debian 12 panics on 6.12.
pub(super) const TOOLS_SOURCE: &str = "http://deb.debian.org/debian trixie main";

/// Oldest first. 5.10 is the oldest that has ring buffers and is still maintained; the others are those of Debian 12 and 13,
/// and the newest.
pub(super) const KERNELS: [Kernel; 4] = [
    Kernel { name: "5.10", series: "5.10.", source: "http://deb.debian.org/debian-security bullseye-security main" },
    Kernel { name: "6.1", series: "6.1.", source: "http://deb.debian.org/debian bookworm main" },
    Kernel { name: "6.12", series: "6.12.", source: TOOLS_SOURCE },
    Kernel { name: "7.x", series: "7.", source: "http://deb.debian.org/debian trixie-backports main" },
];

impl Kernel {
    /// The kernel of that name.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        KERNELS.into_iter().find(|kernel| kernel.name == name).ok_or_else(|| {
            let names: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
            format!("there are: {}", names.join(", "))
        })
    }

    /// The newest release of this series among the names of packages, such as `6.12.117+deb13-cloud-amd64`.
    pub(super) fn newest_release<'a>(&self, packages: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        packages
            .filter_map(|package| package.strip_prefix("linux-image-"))
            .filter(|release| release.starts_with(self.series) && release.ends_with("-cloud-amd64"))
            .max_by_key(|release| numbers(release))
    }
}

/// The numbers in a version, in their order: `5.10.0-46` is newer than `5.10.0-9`.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_of_a_series_is_taken_by_number() {
        let packages = [
            "linux-image-7.2.9+deb13-cloud-amd64",
            "linux-image-7.10.1+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64-dbg",
            "linux-image-7.11.0+deb13-cloud-arm64",
            "linux-image-6.19.14+deb13-cloud-amd64",
        ];
        let release = Kernel::named("7.x").unwrap().newest_release(packages.into_iter());
        assert_eq!(release, Some("7.10.1+deb13-cloud-amd64"));
        assert_eq!(Kernel::named("6.12").unwrap().newest_release(packages.into_iter()), None);
    }

    #[test]
    fn an_unknown_kernel_is_answered_with_those_that_there_are() {
        assert_eq!(Kernel::named("4.19").unwrap_err(), "there are: 5.10, 6.1, 6.12, 7.x");
    }
}
