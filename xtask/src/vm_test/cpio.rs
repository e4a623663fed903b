//! The archive format of an initial file system ("newc"), written.

use std::io::Write as _;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that grows in memory.
#[derive(Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
    folders: Vec<String>,
}

impl Cpio {
    /// Adds a file that everybody may read and run, and the folders that it is in.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        let path = path.trim_start_matches('/');
        self.folders_of(path);
        self.entry(path, FILE | 0o755, (0, 0), content);
    }

    /// Adds a folder.
    pub(super) fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        self.folders_of(path);
        if !self.folders.iter().any(|known| known == path) {
            self.entry(path, FOLDER | 0o755, (0, 0), &[]);
            self.folders.push(path.to_owned());
        }
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) {
        let path = path.trim_start_matches('/');
        self.folders_of(path);
        self.entry(path, CHARACTER_DEVICE | 0o666, (major, minor), &[]);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn folders_of(&mut self, path: &str) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (inode, size, name_size) = (self.entries, content.len(), path.len() + 1);
        // Inode, mode, owner, group, links, time, size, device of the file system, device of the entry, length of the name,
        // check sum.
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{major:08x}{minor:08x}\
             {name_size:08x}{0:08x}{path}\0",
            0, 1
        );
        // Writing to memory cannot fail.
        let _ = self.bytes.write_all(header.as_bytes());
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_names_each_folder_once_and_before_what_is_in_it() {
        let mut cpio = Cpio::default();
        cpio.file("/usr/bin/a", b"12345");
        cpio.file("/usr/bin/b", b"");
        cpio.device("/dev/console", 5, 1);
        let bytes = cpio.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let names: Vec<&str> = text
            .split("070701")
            .skip(1)
            .map(|entry| entry.get(104..).and_then(|name| name.split('\0').next()).unwrap_or_default())
            .collect();
        assert_eq!(names, ["usr", "usr/bin", "usr/bin/a", "usr/bin/b", "dev", "dev/console", "TRAILER!!!"]);
    }
}
