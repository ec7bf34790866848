//! The corpus after one reading: all text end to end in one scratch file, and a fixed-size record
//! per document in another, so that later passes are bounded in memory and inputs are read only
//! once.

use crate::error::DataError;
use crate::read::DocumentSink;
use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// One document of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where its text starts in the spool, and how long it is, in bytes.
    pub offset: u64,
    pub bytes: u64,
    pub characters: u64,
    /// XXH3 of the text with every run of white space as one space and none at the ends.
    pub hash: u64,
    /// Its first line in the input, from 1.
    pub line: u64,
    pub input: u32,
}

const RECORD_BYTES: usize = 48;

impl Record {
    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let fields =
            [self.offset, self.bytes, self.characters, self.hash, self.line, u64::from(self.input)];
        for (slot, field) in bytes.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let field =
            |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
        Record {
            offset: field(0),
            bytes: field(1),
            characters: field(2),
            hash: field(3),
            line: field(4),
            input: field(5) as u32,
        }
    }
}

/// Hashes text with white space made uniform, piece by piece.
#[derive(Default)]
struct NormalHash {
    hash: Xxh3,
    /// The uniform text of one piece.
    uniform: Vec<u8>,
    /// White space was seen since the last text.
    gap: bool,
    any: bool,
}

impl NormalHash {
    fn restart(&mut self) {
        self.hash.reset();
        (self.gap, self.any) = (false, false);
    }

    fn update(&mut self, piece: &str) {
        self.uniform.clear();
        let mut rest = piece;
        while let Some(first) = rest.chars().next() {
            // Runs of plain ASCII go byte by byte; anything else by character.
            let ascii = rest.as_bytes().iter().take_while(|b| b.is_ascii()).count();
            for byte in &rest.as_bytes()[..ascii] {
                if matches!(byte, b' ' | b'\t'..=b'\r') {
                    self.gap = true;
                } else {
                    self.space();
                    self.uniform.push(*byte);
                }
            }
            let end = if ascii > 0 { ascii } else { first.len_utf8() };
            if ascii == 0 && first.is_whitespace() {
                self.gap = true;
            } else if ascii == 0 {
                self.space();
                self.uniform.extend_from_slice(&rest.as_bytes()[..end]);
            }
            rest = &rest[end..];
        }
        self.hash.update(&self.uniform);
    }

    /// Before text: the space that stands for the gap, unless it is the start.
    fn space(&mut self) {
        if self.gap && self.any {
            self.uniform.push(b' ');
        }
        (self.gap, self.any) = (false, true);
    }
}

/// Writes the spool while files are read.
pub(crate) struct SpoolWriter {
    folder: PathBuf,
    text: BufWriter<File>,
    index: BufWriter<File>,
    written: u64,
    current: Record,
    hash: NormalHash,
    /// Set for each file before it is read.
    pub input: u32,
    pub documents: u64,
    pub documents_empty: u64,
}

fn text_path(folder: &Path) -> PathBuf {
    folder.join("spool.text")
}

fn index_path(folder: &Path) -> PathBuf {
    folder.join("spool.index")
}

fn create(path: &Path) -> Result<BufWriter<File>, DataError> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    file.map(|f| BufWriter::with_capacity(1 << 18, f)).map_err(|e| DataError::io(path, "create", e))
}

impl SpoolWriter {
    pub(crate) fn new(folder: &Path) -> Result<Self, DataError> {
        let current = Record { offset: 0, bytes: 0, characters: 0, hash: 0, line: 1, input: 0 };
        Ok(SpoolWriter {
            folder: folder.to_path_buf(),
            text: create(&text_path(folder))?,
            index: create(&index_path(folder))?,
            written: 0,
            current,
            hash: NormalHash::default(),
            input: 0,
            documents: 0,
            documents_empty: 0,
        })
    }

    /// Ends writing; the files go when the folder goes.
    pub(crate) fn finish(mut self) -> Result<Spool, DataError> {
        let failed = |e| DataError::io(&self.folder, "write the scratch files in", e);
        self.text.flush().map_err(failed)?;
        self.index.flush().map_err(failed)?;
        let text = self.text.into_inner().expect("flushed just above");
        let index = self.index.into_inner().expect("flushed just above");
        let ahead = RefCell::default();
        Ok(Spool { folder: self.folder, text, index, ahead, documents: self.documents })
    }
}

impl DocumentSink for SpoolWriter {
    fn begin(&mut self, line: u64) -> Result<(), DataError> {
        let (offset, input) = (self.written, self.input);
        self.current = Record { offset, bytes: 0, characters: 0, hash: 0, line, input };
        self.hash.restart();
        Ok(())
    }

    fn text(&mut self, piece: &str) -> Result<(), DataError> {
        self.text
            .write_all(piece.as_bytes())
            .map_err(|e| DataError::io(&text_path(&self.folder), "write", e))?;
        self.written += piece.len() as u64;
        self.current.bytes += piece.len() as u64;
        self.current.characters += characters(piece.as_bytes());
        self.hash.update(piece);
        Ok(())
    }

    fn end(&mut self) -> Result<(), DataError> {
        if !self.hash.any {
            // Nothing but white space: its bytes stay in the spool, unused.
            self.documents_empty += 1;
            return Ok(());
        }
        self.current.hash = self.hash.hash.digest();
        self.documents += 1;
        if self.documents > u64::from(u32::MAX) {
            let words = "more than 4,294,967,295 documents; use a coarser boundary";
            return Err(DataError::Split(words.into()));
        }
        self.index
            .write_all(&self.current.to_bytes())
            .map_err(|e| DataError::io(&index_path(&self.folder), "write", e))
    }
}

/// Characters in valid UTF-8.
pub(crate) fn characters(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| (**b as i8) >= -64).count() as u64
}

/// The finished spool.
pub(crate) struct Spool {
    folder: PathBuf,
    text: File,
    index: File,
    /// The bytes around the last read, for passes in order.
    ahead: RefCell<Ahead>,
    pub documents: u64,
}

#[derive(Default)]
struct Ahead {
    start: u64,
    bytes: Vec<u8>,
}

/// Bytes read ahead when reads follow one another.
const AHEAD: u64 = 256 << 10;

/// Records read at a time.
const BLOCK: usize = 16 << 10;

impl Spool {
    fn read_at(
        &self,
        mut file: &File,
        path: &Path,
        at: u64,
        out: &mut [u8],
    ) -> Result<(), DataError> {
        // One thread reads: the shared position is safe, and this works on every system.
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(out))
            .map_err(|e| DataError::io(path, "read", e))
    }

    /// The record of document `number`.
    pub(crate) fn record(&self, number: u64) -> Result<Record, DataError> {
        let mut bytes = [0; RECORD_BYTES];
        let at = number * RECORD_BYTES as u64;
        self.read_at(&self.index, &index_path(&self.folder), at, &mut bytes)?;
        Ok(Record::from_bytes(&bytes))
    }

    /// Calls `visit` with every record in order and its number.
    pub(crate) fn each_record(
        &self,
        visit: &mut dyn FnMut(u64, &Record) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let mut block = vec![0; BLOCK * RECORD_BYTES];
        let mut number = 0;
        while number < self.documents {
            let count = BLOCK.min((self.documents - number) as usize);
            let bytes = &mut block[..count * RECORD_BYTES];
            let at = number * RECORD_BYTES as u64;
            self.read_at(&self.index, &index_path(&self.folder), at, bytes)?;
            for record in bytes.chunks_exact(RECORD_BYTES) {
                visit(number, &Record::from_bytes(record))?;
                number += 1;
            }
        }
        Ok(())
    }

    /// `length` bytes of text from `offset`, cut anywhere.
    pub(crate) fn bytes_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, DataError> {
        let path = text_path(&self.folder);
        let mut ahead = self.ahead.borrow_mut();
        let end = ahead.start + ahead.bytes.len() as u64;
        let follows = (ahead.start..=end + AHEAD / 4).contains(&offset);
        if !follows || length as u64 > AHEAD {
            let mut bytes = vec![0; length];
            self.read_at(&self.text, &path, offset, &mut bytes)?;
            // The next read may follow this one.
            *ahead = Ahead { start: offset + length as u64, bytes: Vec::new() };
            return Ok(bytes);
        }
        if offset + length as u64 > end {
            let available = self.bytes()?.saturating_sub(offset);
            let wanted = AHEAD.min(available).max(length as u64);
            ahead.bytes.resize(wanted as usize, 0);
            ahead.start = offset;
            self.read_at(&self.text, &path, offset, &mut ahead.bytes)?;
        }
        let from = (offset - ahead.start) as usize;
        Ok(ahead.bytes[from..from + length].to_vec())
    }

    /// `length` bytes from `offset`, shortened to whole characters. `offset` must start a
    /// character.
    pub(crate) fn text(&self, offset: u64, length: usize) -> Result<String, DataError> {
        let path = text_path(&self.folder);
        let mut bytes = self.bytes_at(offset, length)?;
        if let Err(e) = std::str::from_utf8(&bytes) {
            if e.error_len().is_some() {
                let words = "its text is no longer what was written".into();
                return Err(DataError::Damaged { path, words });
            }
            bytes.truncate(e.valid_up_to());
        }
        Ok(String::from_utf8(bytes).expect("checked just above"))
    }

    /// Calls `visit` with a record's text in pieces of at most `piece` bytes, cut where
    /// [`cut_before`] says.
    pub(crate) fn each_piece(
        &self,
        record: &Record,
        piece: usize,
        visit: &mut dyn FnMut(&str) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let (mut at, end) = (record.offset, record.offset + record.bytes);
        while at < end {
            let left = end - at;
            let text = self.text(at, left.min(piece as u64) as usize)?;
            let cut = if text.len() as u64 == left { text.len() } else { cut_before(&text) };
            visit(&text[..cut])?;
            at += cut as u64;
        }
        Ok(())
    }

    /// Replaces the records, keeping the text.
    pub(crate) fn replace_records(&mut self, records: &[Record]) -> Result<(), DataError> {
        let path = index_path(&self.folder);
        let mut writer = create(&path)?;
        for record in records {
            writer.write_all(&record.to_bytes()).map_err(|e| DataError::io(&path, "write", e))?;
        }
        self.index =
            writer.into_inner().map_err(|e| DataError::io(&path, "write", e.into_error()))?;
        self.documents = records.len() as u64;
        Ok(())
    }

    /// Bytes of text in the file.
    pub(crate) fn bytes(&self) -> Result<u64, DataError> {
        let path = text_path(&self.folder);
        self.text.metadata().map(|m| m.len()).map_err(|e| DataError::io(&path, "read", e))
    }
}

/// Where to cut a long text so that tokenizing the parts equals tokenizing the whole: before the
/// last space that follows other text (no byte-level pre-tokenizer in use joins across it), else
/// before the last such line end, else between a letter and a sign (scripts without spaces), else
/// after the last character (then a word may be cut). Never 0.
pub(crate) fn cut_before(text: &str) -> usize {
    let bytes = text.as_bytes();
    let least = bytes.len() / 2;
    for wanted in [b' ', b'\n'] {
        let mut at = bytes.len();
        while let Some(found) = bytes[least..at].iter().rposition(|b| *b == wanted) {
            at = least + found;
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| !c.is_whitespace()) {
                return at;
            }
        }
    }
    let mut after = None;
    for (at, c) in text.char_indices().rev().take_while(|(at, _)| *at >= least) {
        match after {
            Some(sign) if c.is_alphabetic() => return sign,
            _ => {}
        }
        let is_sign = !c.is_alphanumeric() && !c.is_whitespace() && c != '\'';
        after = is_sign.then_some(at);
    }
    bytes.len()
}
