//! Where a capture comes from: a file or standard input, plain, gzip or zstd.

use std::{
    fs::{File, Metadata},
    io::{self, Cursor, Read},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
};

use flate2::read::MultiGzDecoder;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// An open input.
pub struct Source {
    /// Its bytes as stored.
    pub file: File,
    /// Its size in bytes if it is a regular file.
    pub size: Option<u64>,
    /// Which file it is.
    pub identity: Option<FileId>,
}

/// A regular file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// `None` for pipes, devices and the like: reading and writing one of them at a time is not an accident.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Option<Self> {
        metadata.is_file().then(|| Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// Opens a path, or standard input for `-`.
///
/// # Errors
/// Those of the operating system.
pub fn open(path: &Path) -> io::Result<Source> {
    let file =
        if path == Path::new("-") { File::from(io::stdin().as_fd().try_clone_to_owned()?) } else { File::open(path)? };
    let metadata = file.metadata()?;
    let size = metadata.is_file().then_some(metadata.len());
    Ok(Source { file, size, identity: FileId::of(&metadata) })
}

/// An input as it was before it was packed.
pub struct Unpacked<'a> {
    bytes: Box<dyn Read + Send + 'a>,
    packed: bool,
}

impl Unpacked<'_> {
    /// Whether the bytes are not those of the input, but unpacked from it.
    #[must_use]
    pub const fn is_packed(&self) -> bool {
        self.packed
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(space)
    }
}

/// Reads a decoder in pieces of one size, whatever size is asked for. How much of a damaged input a decoder gives
/// before its error depends on that size.
struct Steady<R> {
    decoder: R,
    piece: Vec<u8>,
    given: usize,
}

impl<R: Read> Steady<R> {
    const PIECE: usize = 64 * 1024;

    const fn new(decoder: R) -> Self {
        Self { decoder, piece: Vec::new(), given: 0 }
    }
}

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.given == self.piece.len() {
            self.piece.resize(Self::PIECE, 0);
            self.given = self.piece.len();
            let count = self.decoder.read(&mut self.piece)?;
            self.piece.truncate(count);
            self.given = 0;
        }
        let count = self.piece.get(self.given..).unwrap_or_default().read(space)?;
        self.given += count;
        Ok(count)
    }
}

/// Unpacks gzip (any number of members) and zstd, recognised by their first bytes; passes everything else on.
///
/// # Errors
/// Those of reading the first bytes.
pub fn unpack<'a>(mut packed: impl Read + Send + 'a) -> io::Result<Unpacked<'a>> {
    let mut start = Vec::with_capacity(ZSTD_MAGIC.len());
    packed.by_ref().take(ZSTD_MAGIC.len() as u64).read_to_end(&mut start)?;
    let (gzip, zstd) = (start.starts_with(&GZIP_MAGIC), start.starts_with(&ZSTD_MAGIC));
    let whole = Cursor::new(start).chain(packed);
    let bytes: Box<dyn Read + Send + 'a> = if gzip {
        Box::new(Steady::new(MultiGzDecoder::new(whole)))
    } else if zstd {
        // The decoder's own limit of 128 MiB holds for the window that a file may ask for.
        Box::new(Steady::new(zstd::Decoder::new(whole)?))
    } else {
        Box::new(whole)
    };
    Ok(Unpacked { bytes, packed: gzip || zstd })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        unpack(packed)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn packed_input_is_unpacked_and_plain_input_left_alone() {
        let text = b"neither gzip nor zstd".repeat(1000);
        assert_eq!(unpacked(&text).unwrap(), text);
        assert_eq!(unpacked(&[gzip(&text), gzip(&text)].concat()).unwrap(), text.repeat(2));
        assert_eq!(unpacked(&zstd::encode_all(&text[..], 1).unwrap()).unwrap(), text);
        assert_eq!(unpacked(b"").unwrap(), b"");
        assert_eq!(unpacked(b"\x1f").unwrap(), b"\x1f");
    }

    #[test]
    fn a_cut_gzip_file_is_an_error_after_its_bytes() {
        let packed = gzip(&b"something".repeat(1000));
        assert!(unpacked(&packed[..packed.len() - 4]).is_err());
    }
}
