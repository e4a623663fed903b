//! The bytes of a CSV, record by record and bounded.

use std::io::{self, Read};

/// Most bytes of one record, quotes included. An unclosed quote would otherwise take in the rest of the input.
pub(super) const MAX_RECORD_BYTES: usize = 1 << 20;

/// Fails when more is read for one record than a record may have, and ends every line with a mere line feed, the last
/// one too.
pub(super) struct Bounded<R> {
    pub(super) input: R,
    /// Bytes that may still be read for the current record.
    pub(super) left: usize,
    /// Whether the line feed behind the end has been given.
    pub(super) ended: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.ended || buffer.is_empty() {
                return Ok(0);
            }
            if self.left == 0 {
                return Err(io::Error::other(format!("a record is longer than {MAX_RECORD_BYTES} bytes")));
            }
            let limit = buffer.len().min(self.left);
            let read = self.input.read(&mut buffer[..limit])?;
            self.left -= read;
            if read == 0 {
                self.ended = true;
                buffer[0] = b'\n';
                return Ok(1);
            }
            let mut kept = 0;
            for at in 0..read {
                buffer[kept] = buffer[at];
                kept += usize::from(buffer[at] != b'\r');
            }
            // Nothing but carriage returns is not the end.
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}
