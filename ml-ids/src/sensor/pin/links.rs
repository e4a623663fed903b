//! Pinned links: programs that stay attached, and are replaced in place by the next agent's.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{fchown, lchown},
    },
    path::{Path, PathBuf},
};

use aya::programs::{
    ProgramError,
    links::{FdLink, LinkError, PinnedLink as AyaPin},
};
use log::{info, warn};
use ml_ids_common::Hook;

use super::{bpffs::entries, syscall::Link};
use crate::sensor::hook::Place;

/// The links' directory.
pub(in crate::sensor) struct LinkPins {
    directory: PathBuf,
    /// The same by a descriptor: folders above may be closed to the account that the sensor becomes.
    via: PathBuf,
    held: File,
    /// Left by the last agent and not claimed yet.
    found: Vec<Found>,
}

struct Found {
    path: PathBuf,
    interface: u32,
    direction: Hook,
    place: Place,
}

/// A link that stays when the agent ends. Dropping it leaves the program attached.
#[derive(Debug)]
pub(in crate::sensor) struct PinnedLink {
    path: PathBuf,
    /// So that removing the file by hand does not detach a running sensor.
    _link: FdLink,
}

impl LinkPins {
    /// The links below a table's directory. What is attached to nothing any more, or is none of ours, is removed.
    pub(super) fn find(table: &Path) -> io::Result<Self> {
        let directory = directory(table);
        let held = File::open(&directory)?;
        let via = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
        let mut found = Vec::new();
        for path in entries(&via) {
            match parse(&path) {
                Some((interface, direction, place))
                    if Link::open(&path).and_then(|link| link.interface()).is_ok_and(|index| index == interface) =>
                {
                    found.push(Found { path, interface, direction, place });
                }
                _ => {
                    info!("{} holds nothing any more, removed", named(&directory, &path));
                    remove(&path);
                }
            }
        }
        Ok(Self { directory, via, held, found })
    }

    /// Where they are.
    pub(in crate::sensor) fn folder(&self) -> &Path {
        &self.directory
    }

    /// Gives them to another user and group, who can then replace and remove them, and make others.
    pub(in crate::sensor) fn give(&self, uid: u32, gid: u32) -> io::Result<()> {
        fchown(&self.held, Some(uid), Some(gid))?;
        entries(&self.via).iter().try_for_each(|link| lchown(link, Some(uid), Some(gid)))
    }

    /// The link that an earlier agent left at a direction of an interface, and its place.
    pub(in crate::sensor) fn claim(&mut self, interface: u32, direction: Hook) -> Option<(PathBuf, Place)> {
        let found = self.found.iter().position(|found| found.interface == interface && found.direction == direction)?;
        let Found { path, place, .. } = self.found.swap_remove(found);
        Some((path, place))
    }

    /// Pins a new link.
    pub(in crate::sensor) fn pin(
        &self,
        link: FdLink,
        interface: u32,
        direction: Hook,
        place: Place,
    ) -> io::Result<PinnedLink> {
        let path = self.via.join(name(interface, direction, place));
        if path.exists() {
            remove(&path);
        }
        let link = link.pin(&path).map_err(io::Error::other)?;
        Ok(PinnedLink { path, _link: link.into() })
    }

    /// Detaches what no interface of this agent has claimed.
    pub(in crate::sensor) fn drop_unclaimed(&mut self) {
        for Found { path, interface, direction, place } in self.found.drain(..) {
            info!("{} on interface {interface} is no longer watched: detached", place.name(direction));
            remove(&path);
        }
    }
}

impl PinnedLink {
    /// Opens a pinned link to give it another program, by `update`, which returns it.
    pub(in crate::sensor) fn update(
        path: PathBuf,
        update: impl FnOnce(FdLink) -> Result<FdLink, ProgramError>,
    ) -> Result<Self, ProgramError> {
        let link = AyaPin::from_pin(&path).map_err(link_error)?;
        let link = update(link.into())?;
        Ok(Self { path, _link: link })
    }

    /// Detaches at once and removes the pin.
    pub(in crate::sensor) fn detach(self) {
        remove(&self.path);
    }
}

/// What went wrong with a link, as what went wrong with its program.
pub(in crate::sensor) fn link_error(error: LinkError) -> ProgramError {
    match error {
        LinkError::SyscallError(error) => error.into(),
        other => ProgramError::IOError(io::Error::other(other)),
    }
}

/// Where the links of a table are.
pub(super) fn directory(table: &Path) -> PathBuf {
    table.join("links")
}

/// Detaches a pinned link and removes it. Says what of it fails.
pub(in crate::sensor) fn remove(path: &Path) {
    // Unlinking alone detaches, too, but some time later, and the place is taken until then.
    let detached = Link::open(path).and_then(|link| link.detach());
    if let Err(error) = fs::remove_file(path) {
        warn!(
            "cannot remove {}: {error}{}",
            path.display(),
            detached.err().map_or(String::new(), |e| format!(" ({e})"))
        );
    }
}

/// The link's path as people know it.
fn named(directory: &Path, path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| directory.join(name).display().to_string())
}

/// The file name of a link. The BPF file system takes no dots, so it is not the interface's name; that may change, too.
fn name(interface: u32, direction: Hook, place: Place) -> String {
    format!("{interface}-{}-{}", direction.name(), place.slug())
}

/// What a link is, in words.
pub(super) fn describe(path: &Path) -> String {
    match parse(path) {
        Some((interface, direction, place)) => format!("{} on interface {interface}", place.name(direction)),
        None => path.display().to_string(),
    }
}

/// What a file name says.
fn parse(path: &Path) -> Option<(u32, Hook, Place)> {
    let (index, rest) = path.file_name()?.to_str()?.split_once('-')?;
    let (direction, slug) = rest.split_once('-')?;
    let direction = Hook::ALL.into_iter().find(|hook| hook.name() == direction)?;
    let place = Place::PINNABLE.iter().copied().find(|place| place.slug() == slug)?;
    Some((index.parse().ok()?, direction, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_says_what_the_link_is() {
        for direction in Hook::ALL {
            for place in Place::PINNABLE.iter().copied() {
                let name = name(17, direction, place);
                assert!(!name.contains('.'), "{name}");
                assert_eq!(parse(&Path::new("/x/links").join(&name)), Some((17, direction, place)), "{name}");
            }
        }
        for strange in
            ["", "17", "17-ingress", "17-sideways-tcx-first", "17-ingress-clsact-first", "x-ingress-tcx-first"]
        {
            assert_eq!(parse(Path::new(strange)), None, "{strange}");
        }
    }
}
