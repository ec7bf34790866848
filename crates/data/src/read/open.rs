//! Opening a file: decompression by magic bytes, and a hash of the raw bytes as they pass.

use crate::error::DataError;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use xxhash_rust::xxh3::Xxh3;

/// A file being read, decompressed when it has to be.
pub(crate) struct Opened {
    pub path: PathBuf,
    stream: Box<dyn Read>,
    raw: Rc<RefCell<Xxh3>>,
    /// The program that tests such a file, when it is compressed.
    tool: Option<&'static str>,
    /// Bytes of text handed out.
    pub offset: u64,
}

/// Hashes what passes through it.
struct Hashing {
    file: File,
    hash: Rc<RefCell<Xxh3>>,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.hash.borrow_mut().update(&buffer[..n]);
        Ok(n)
    }
}

/// Opens `path`; gzip and Zstandard are told by their first bytes, whatever the name.
pub(crate) fn open(path: &Path) -> Result<Opened, DataError> {
    let file = File::open(path).map_err(|e| DataError::io(path, "open", e))?;
    let hash = Rc::new(RefCell::new(Xxh3::new()));
    let mut raw = BufReader::with_capacity(1 << 18, Hashing { file, hash: hash.clone() });
    let magic = io::BufRead::fill_buf(&mut raw).map_err(|e| DataError::io(path, "read", e))?;
    let (is_gzip, is_zstd) =
        (magic.starts_with(&[0x1f, 0x8b]), magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    let name = path.to_string_lossy().to_lowercase();
    let claims = if name.ends_with(".gz") { Some("gzip") } else { None }
        .or(if name.ends_with(".zst") { Some("zstd") } else { None });
    let (stream, tool): (Box<dyn Read>, _) = if is_gzip {
        (Box::new(flate2::bufread::MultiGzDecoder::new(raw)), Some("gzip"))
    } else if is_zstd {
        let decoder = zstd::stream::read::Decoder::with_buffer(raw)
            .map_err(|e| DataError::io(path, "decompress", e))?;
        (Box::new(decoder), Some("zstd"))
    } else if let (Some(tool), false) = (claims, magic.is_empty()) {
        let words = "its first bytes are not those of such a file".to_string();
        return Err(DataError::Compressed { path: path.to_path_buf(), offset: 0, words, tool });
    } else {
        (Box::new(raw), None)
    };
    Ok(Opened { path: path.to_path_buf(), stream, raw: hash, tool, offset: 0 })
}

impl Opened {
    /// Fills as much of `buffer` as the file has left.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DataError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// A read error, said as damage when the file is compressed.
    pub(crate) fn failed(&self, error: io::Error) -> DataError {
        match self.tool {
            Some(tool) => DataError::Compressed {
                path: self.path.clone(),
                offset: self.offset,
                words: error.to_string(),
                tool,
            },
            None => DataError::io(&self.path, "read", error),
        }
    }

    /// Reads what is left of the file and gives the hash of its raw bytes.
    pub(crate) fn finish(mut self) -> Result<u64, DataError> {
        let mut rest = vec![0u8; 1 << 16];
        while self.fill(&mut rest)? > 0 {}
        Ok(self.raw.borrow().digest())
    }
}

impl Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buffer)?;
        self.offset += n as u64;
        Ok(n)
    }
}
