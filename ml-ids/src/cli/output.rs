//! Where offline commands write: standard output, a file, or a file that appears under its name when it is whole.

use std::{
    fs::{self, File, Permissions},
    io::{self, IsTerminal as _, Write},
    os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use tempfile::{Builder, TempPath};

use crate::offline::{source::FileId, table::Format};

/// What an input or output is called in messages.
pub(super) fn name(path: &Path, standard: &str) -> String {
    if path == Path::new("-") { standard.to_owned() } else { path.display().to_string() }
}

/// What is written to.
pub(super) struct Output {
    file: File,
    unfinished: Option<Unfinished>,
    name: String,
}

/// A file that has not its name yet, and is removed with the value. Without its end a Parquet file is of no use, so that
/// none is left under the name.
struct Unfinished {
    part: TempPath,
    target: PathBuf,
}

impl Output {
    /// Opens a path, or standard output for `-`. Rows of text appear in the file as they are written, so that it can be
    /// followed; a Parquet file has a name of its own, which nobody can foresee, until [`Self::commit`].
    ///
    /// # Errors
    /// If it cannot be created, or is a terminal and the format is not for one.
    pub(super) fn create(path: &Path, format: Format) -> anyhow::Result<Self> {
        let name = name(path, "standard output");
        let whole = format == Format::Parquet;
        if path == Path::new("-") {
            if whole && io::stdout().is_terminal() {
                bail!("a terminal cannot show Parquet; name a file with --output, or choose --format csv");
            }
            // Standard output itself is line buffered, the file behind it is not.
            let file = io::stdout().as_fd().try_clone_to_owned().context("cannot write to standard output")?.into();
            return Ok(Self { file, unfinished: None, name });
        }
        let made = match replaceable(path).filter(|_| whole) {
            Some(target) => Unfinished::beside(target).map(|(file, unfinished)| (file, Some(unfinished))),
            None => File::create(path).map(|file| (file, None)),
        };
        let (file, unfinished) = made.with_context(|| {
            format!("cannot create {}; does its directory exist, and may you write there?", path.display())
        })?;
        Ok(Self { file, unfinished, name })
    }

    /// Gives the file its name, now that it is whole.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub(super) fn commit(self) -> anyhow::Result<()> {
        let Some(Unfinished { part, target }) = self.unfinished else { return Ok(()) };
        part.persist(&target).with_context(|| format!("cannot rename what was written to {}", target.display()))
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The file that is replaced. `None` for what is there and no regular file, a pipe for example: that is written to as it is.
fn replaceable(path: &Path) -> Option<PathBuf> {
    // A link stays one, and what it leads to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    fs::metadata(&target).map_or(true, |metadata| metadata.is_file()).then_some(target)
}

impl Unfinished {
    fn beside(target: PathBuf) -> io::Result<(File, Self)> {
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut prefix = target.file_name().unwrap_or_default().to_owned();
        prefix.push(".");
        // Those of any other file: the umask takes away from them.
        let permissions = Permissions::from_mode(0o666);
        let made = Builder::new().prefix(&prefix).suffix(".part").permissions(permissions).tempfile_in(folder)?;
        let (file, part) = made.into_parts();
        Ok((file, Self { part, target }))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writing an input over itself would destroy it before it is read.
pub(super) fn refuse_same_file(input: Option<FileId>, output: &Path) -> anyhow::Result<()> {
    let metadata = if output == Path::new("-") {
        io::stdout().as_fd().try_clone_to_owned().and_then(|stdout| File::from(stdout).metadata())
    } else {
        fs::metadata(output)
    };
    let output_id = metadata.ok().and_then(|metadata| FileId::of(&metadata));
    if input.is_some() && input == output_id {
        bail!("input and output are the same file; name another output");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_parquet_file_has_its_name_when_it_is_whole_and_none_is_left_of_a_broken_off_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.parquet");
        let mut output = Output::create(&path, Format::Parquet).unwrap();
        output.write_all(b"half").unwrap();
        let part = listed(folder.path());
        let [part] = part.as_slice() else { panic!("{part:?}") };
        assert!(part.starts_with("flows.parquet.") && part.ends_with(".part"), "{part}");
        drop(output);
        assert!(listed(folder.path()).is_empty());
        fs::write(&path, "earlier").unwrap();
        let mut output = Output::create(&path, Format::Parquet).unwrap();
        output.write_all(b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"earlier");
        output.commit().unwrap();
        assert_eq!(listed(folder.path()), ["flows.parquet"]);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn a_link_stays_one_and_a_device_is_written_to_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link] = ["real", "link"].map(|name| folder.path().join(name));
        fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut output = Output::create(&link, Format::Parquet).unwrap();
        output.write_all(b"whole").unwrap();
        output.commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        Output::create(Path::new("/dev/null"), Format::Parquet).unwrap().commit().unwrap();
    }

    #[test]
    fn no_link_that_somebody_has_put_there_is_followed_and_permissions_are_the_usual_ones() {
        let folder = tempfile::tempdir().unwrap();
        let [path, usual, victim] = ["a.parquet", "usual", "victim"].map(|name| folder.path().join(name));
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("a.parquet.part")).unwrap();
        fs::write(&usual, "").unwrap();
        let mut output = Output::create(&path, Format::Parquet).unwrap();
        output.write_all(b"whole").unwrap();
        output.commit().unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&usual));
    }

    #[test]
    fn an_output_that_cannot_be_made_is_named() {
        let error = Output::create(Path::new("/nowhere/flows.csv"), Format::Csv).err().unwrap();
        assert!(error.to_string().starts_with("cannot create /nowhere/flows.csv; "), "{error}");
    }
}
