//! Token files: a header, the ids of one split as u16 or u32, and where each document starts.
//!
//! Layout, little-endian: 64 bytes of header (magic 8, version 4, id width in bytes 4, tokens 8,
//! documents 8, bytes of text 8, vocabulary 8, XXH3 of all after the header 8, reserved 8), then
//! the ids, zero padding to a multiple of 8, then one u64 per document: the position of its first
//! id.

use crate::error::DataError;
use crate::map::Mapping;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8; 8] = b"HELDTOKS";
const VERSION: u32 = 1;
const HEADER: usize = 64;

/// Writes one token file; nothing but a write buffer is held.
pub(crate) struct TokenWriter {
    path: PathBuf,
    out: BufWriter<File>,
    starts: BufWriter<File>,
    hash: Xxh3,
    width: u32,
    vocabulary: u64,
    tokens: u64,
    documents: u64,
    scratch: Vec<u8>,
}

impl TokenWriter {
    /// Ids are stored in two bytes when `vocabulary` is at most 65,536.
    pub(crate) fn new(path: &Path, vocabulary: u64) -> Result<Self, DataError> {
        let failed = |e| DataError::io(path, "create", e);
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
        out.write_all(&[0; HEADER]).map_err(failed)?;
        let folder = heldout_base::durable::parent(path);
        let starts =
            BufWriter::with_capacity(1 << 16, tempfile::tempfile_in(folder).map_err(failed)?);
        let width = if vocabulary <= 1 << 16 { 2 } else { 4 };
        Ok(TokenWriter {
            path: path.to_path_buf(),
            out,
            starts,
            hash: Xxh3::new(),
            width,
            vocabulary,
            tokens: 0,
            documents: 0,
            scratch: Vec::new(),
        })
    }

    pub(crate) fn begin_document(&mut self) -> Result<(), DataError> {
        self.documents += 1;
        let bytes = self.tokens.to_le_bytes();
        self.starts.write_all(&bytes).map_err(|e| DataError::io(&self.path, "write", e))
    }

    pub(crate) fn push(&mut self, ids: &[u32]) -> Result<(), DataError> {
        self.scratch.clear();
        if self.width == 2 {
            self.scratch.extend(ids.iter().flat_map(|id| (*id as u16).to_le_bytes()));
        } else {
            self.scratch.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        }
        self.tokens += ids.len() as u64;
        let bytes = std::mem::take(&mut self.scratch);
        self.write(&bytes)?;
        self.scratch = bytes;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.hash.update(bytes);
        self.out.write_all(bytes).map_err(|e| DataError::io(&self.path, "write", e))
    }

    /// Writes the document starts and the header; gives the number of tokens.
    pub(crate) fn finish(mut self, text_bytes: u64) -> Result<u64, DataError> {
        let padding = (self.tokens * u64::from(self.width)).next_multiple_of(8)
            - self.tokens * u64::from(self.width);
        self.write(&[0; 8][..padding as usize])?;
        let path = self.path.clone();
        let failed = |e| DataError::io(&path, "write", e);
        self.starts.flush().map_err(failed)?;
        self.starts.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = self.starts.get_mut().read(&mut buffer).map_err(failed)?;
            if n == 0 {
                break;
            }
            self.write(&buffer[..n])?;
        }
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend(self.width.to_le_bytes());
        let checksum = self.hash.digest();
        for field in [self.tokens, self.documents, text_bytes, self.vocabulary, checksum, 0] {
            header.extend(field.to_le_bytes());
        }
        self.out.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.out.write_all(&header).map_err(failed)?;
        self.out.flush().map_err(failed)?;
        Ok(self.tokens)
    }
}

/// One split's token ids, mapped from disk. Cloning shares the mapping.
#[derive(Clone)]
pub struct TokenStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    map: Mapping,
    width: usize,
    tokens: u64,
    documents: u64,
    text_bytes: u64,
    vocabulary: u64,
}

impl std::fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenStore({}, {} tokens)", self.inner.path.display(), self.inner.tokens)
    }
}

impl TokenStore {
    /// Opens a token file and verifies its checksum (reading it once, without keeping it in
    /// memory).
    ///
    /// # Errors
    /// The file cannot be read, is of another version, cut short, or not what was written.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let damaged = |words: &str| DataError::Damaged { path: path.into(), words: words.into() };
        let mut file = File::open(path).map_err(|e| DataError::io(path, "open", e))?;
        let mut header = [0; HEADER];
        file.read_exact(&mut header).map_err(|_| damaged("shorter than its header"))?;
        if &header[..8] != MAGIC {
            return Err(damaged("it does not start as a token file"));
        }
        let small =
            |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let large =
            |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let (version, width) = (small(8), small(12));
        if version != VERSION {
            return Err(damaged(&format!("format version {version}, expected {VERSION}")));
        }
        let (tokens, documents, text_bytes, vocabulary) =
            (large(16), large(24), large(32), large(40));
        let expected = match width {
            2 | 4 => tokens
                .checked_mul(u64::from(width))
                .and_then(|bytes| bytes.checked_next_multiple_of(8))
                .and_then(|bytes| bytes.checked_add(documents.checked_mul(8)?))
                .and_then(|bytes| bytes.checked_add(HEADER as u64)),
            _ => None,
        };
        let found = file.metadata().map_err(|e| DataError::io(path, "read", e))?.len();
        match expected {
            Some(expected) if expected == found => {}
            Some(expected) => {
                return Err(damaged(&format!("{found} bytes, expected {expected}")));
            }
            None => return Err(damaged("its header makes no sense")),
        }
        if checksum(&mut file, path)? != large(48) {
            return Err(damaged("its checksum does not match"));
        }
        let map = Mapping::new(&file, path)?;
        let (path, width) = (path.to_path_buf(), width as usize);
        let inner = Inner { path, map, width, tokens, documents, text_bytes, vocabulary };
        Ok(TokenStore { inner: Arc::new(inner) })
    }

    /// Number of tokens, separators included.
    pub fn len(&self) -> u64 {
        self.inner.tokens
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.inner.tokens == 0
    }

    /// Number of documents.
    pub fn documents(&self) -> u64 {
        self.inner.documents
    }

    /// UTF-8 bytes of the text behind the tokens, separators not counted.
    pub fn text_bytes(&self) -> u64 {
        self.inner.text_bytes
    }

    /// Size of the vocabulary that the ids are from.
    pub fn vocabulary(&self) -> u64 {
        self.inner.vocabulary
    }

    /// Position of the first token of document `number`; that of the end for `number ==
    /// documents()`.
    ///
    /// # Panics
    /// If there is no such document.
    pub fn document_start(&self, number: u64) -> u64 {
        let inner = &*self.inner;
        assert!(number <= inner.documents, "document {number} of {}", inner.documents);
        if number == inner.documents {
            return inner.tokens;
        }
        let ids = (inner.tokens as usize * inner.width).next_multiple_of(8);
        let at = HEADER + ids + number as usize * 8;
        u64::from_le_bytes(inner.map.bytes()[at..at + 8].try_into().expect("eight bytes"))
    }

    /// Copies the ids at `start..start + out.len()` into `out`.
    ///
    /// # Panics
    /// If the range reaches past the end.
    pub fn read_into(&self, start: u64, out: &mut [u32]) {
        let inner = &*self.inner;
        assert!(start + out.len() as u64 <= inner.tokens, "tokens {start}.. of {}", inner.tokens);
        let from = HEADER + start as usize * inner.width;
        let bytes = &inner.map.bytes()[from..from + out.len() * inner.width];
        if inner.width == 2 {
            for (id, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *id = u32::from(u16::from_le_bytes([pair[0], pair[1]]));
            }
        } else {
            for (id, four) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *id = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            }
        }
    }

    /// The ids of a range of positions.
    ///
    /// # Panics
    /// If the range reaches past the end.
    pub fn tokens(&self, range: Range<u64>) -> Vec<u32> {
        let mut out = vec![0; (range.end - range.start) as usize];
        self.read_into(range.start, &mut out);
        out
    }

    /// The file behind it.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}

/// XXH3 of what is left of a file.
fn checksum(file: &mut File, path: &Path) -> Result<u64, DataError> {
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(|e| DataError::io(path, "read", e))? {
            0 => return Ok(hash.digest()),
            n => hash.update(&buffer[..n]),
        }
    }
}
