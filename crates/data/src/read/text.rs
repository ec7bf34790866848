//! A file as pieces of valid UTF-8 of bounded size, cut after a line end wherever there is one.

use super::open::Opened;
use crate::error::DataError;

/// Largest piece in bytes; only a longer line is cut inside.
pub(crate) const PIECE: usize = 1 << 20;

/// Reads pieces; knows the line it is on.
pub(crate) struct TextStream {
    pub source: Opened,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold text; those before `given` were handed out.
    filled: usize,
    given: usize,
    /// Offset in the file of `buffer[0]`, and the line it is on, from 1.
    offset: u64,
    line: u64,
    ended: bool,
}

impl TextStream {
    pub(crate) fn new(source: Opened) -> Self {
        let buffer = vec![0; PIECE];
        TextStream { source, buffer, filled: 0, given: 0, offset: 0, line: 1, ended: false }
    }

    /// The next piece and the line on which it starts.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, &str)>, DataError> {
        self.advance()?;
        let skip = if self.offset == 0 && self.buffer[..self.filled].starts_with(b"\xef\xbb\xbf") {
            3
        } else {
            0
        };
        if self.filled == skip {
            self.given = self.filled;
            return Ok(None);
        }
        let end = match self.buffer[..self.filled].iter().rposition(|b| *b == b'\n') {
            Some(last) if !self.ended => last + 1,
            _ => self.filled,
        };
        if let Some(nul) = self.buffer[..end].iter().position(|b| *b == 0) {
            return Err(self.binary(nul));
        }
        let valid = match std::str::from_utf8(&self.buffer[skip..end]) {
            Ok(_) => end,
            // A character cut by the end of the buffer comes whole with the next piece.
            Err(e) if e.error_len().is_none() && !self.ended && end == self.filled => {
                skip + e.valid_up_to()
            }
            Err(e) => return Err(self.invalid(skip + e.valid_up_to())),
        };
        self.given = valid;
        let text = std::str::from_utf8(&self.buffer[skip..valid]).expect("validated just above");
        Ok(Some((self.line, text)))
    }

    /// Drops what was handed out and fills the buffer again.
    fn advance(&mut self) -> Result<(), DataError> {
        self.line += newlines(&self.buffer[..self.given]);
        self.offset += self.given as u64;
        self.buffer.copy_within(self.given..self.filled, 0);
        self.filled -= self.given;
        self.given = 0;
        if !self.ended {
            let wanted = self.buffer.len() - self.filled;
            let got = self.source.fill(&mut self.buffer[self.filled..])?;
            self.filled += got;
            self.ended = got < wanted;
        }
        Ok(())
    }

    fn binary(&self, at: usize) -> DataError {
        let utf16 = self.buffer.starts_with(b"\xff\xfe") || self.buffer.starts_with(b"\xfe\xff");
        let hint = if utf16 {
            "it looks like UTF-16, convert it: iconv -f UTF-16 -t UTF-8 INPUT > OUTPUT"
        } else {
            "name the text files themselves"
        };
        let (offset, line) = self.place(at);
        DataError::Binary { path: self.source.path.clone(), offset, line, hint }
    }

    fn invalid(&self, at: usize) -> DataError {
        let (offset, line) = self.place(at);
        let byte = self.buffer[at];
        DataError::InvalidUtf8 { path: self.source.path.clone(), line, offset, byte }
    }

    fn place(&self, at: usize) -> (u64, u64) {
        (self.offset + at as u64, self.line + newlines(&self.buffer[..at]))
    }
}

/// How many line ends.
pub(crate) fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}
