//! Everything that can be wrong with the data, each error with its place and the next thing to do.

use heldout_base::durable::DurableError;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong while reading, splitting, tokenizing or batching.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A named input is not there.
    #[error("no such file or folder: {}{hint}", path.display())]
    NoSuchInput { path: PathBuf, hint: String },

    /// A pattern or folder holds nothing that can be read.
    #[error("{what} {}: {hint}", path.display())]
    NothingToRead { path: PathBuf, what: &'static str, hint: String },

    /// Every input is empty.
    #[error(
        "{}: the file is empty (0 characters of text). Give a file with text in it, or check that \
         the download or export finished", path.display()
    )]
    Empty { path: PathBuf },

    /// A NUL byte: not text.
    #[error(
        "{}: not a text file (a NUL byte at byte {offset}, line {line}). Expected UTF-8 text; \
         {hint}", path.display()
    )]
    Binary { path: PathBuf, offset: u64, line: u64, hint: &'static str },

    /// Bytes that are not UTF-8.
    #[error(
        "{}:{line}: invalid UTF-8 at byte {offset} (found byte 0x{byte:02x}). Convert the file \
         first, for example: iconv -f LATIN1 -t UTF-8 INPUT > OUTPUT", path.display()
    )]
    InvalidUtf8 { path: PathBuf, line: u64, offset: u64, byte: u8 },

    /// A compressed file that does not decompress.
    #[error(
        "{}: the compressed file is damaged or cut short after {offset} bytes of text ({words}). \
         Fetch it again, or test it with `{tool} -t`", path.display()
    )]
    Compressed { path: PathBuf, offset: u64, words: String, tool: &'static str },

    /// A record that does not parse.
    #[error("{}:{line}: {words}. {hint}", path.display())]
    BadRecord { path: PathBuf, line: u64, words: String, hint: &'static str },

    /// A record without the text field.
    #[error(
        "{}:{line}: the record has no field \"{field}\"; it has {found}{hint}", path.display()
    )]
    MissingField { path: PathBuf, line: u64, field: String, found: String, hint: String },

    /// The text field holds something else than text.
    #[error(
        "{}:{line}: the field \"{field}\" holds {found}, expected text. Name a field that holds \
         text, or convert it", path.display()
    )]
    NotText { path: PathBuf, line: u64, field: String, found: &'static str },

    /// A record too long to be held in memory.
    #[error(
        "{}:{line}: the record is longer than {limit_mib} MiB. {hint}", path.display()
    )]
    RecordTooLong { path: PathBuf, line: u64, limit_mib: u64, hint: &'static str },

    /// The bytes on disk are not those that were hashed a moment ago.
    #[error(
        "{}: the file changed while it was being read. Let whatever writes it finish, then start \
         again", path.display()
    )]
    Changed { path: PathBuf },

    /// The split cannot be made.
    #[error("cannot split the data: {0}")]
    Split(String),

    /// Labels that cannot be learned from, or a split without them.
    #[error("labelled data: {0}")]
    Labelled(String),

    /// Pairs of texts whose sides do not belong together.
    #[error("pairs of texts: {0}")]
    Pairs(String),

    /// An augmentation that cannot be done, or that would spoil the task.
    #[error("augmentation: {0}")]
    Augmentation(String),

    /// Nothing honest is left to train on or to measure on.
    #[error("{0}")]
    Leak(String),

    /// A split is too small for the sequence length.
    #[error(
        "the {split} split has {tokens} tokens, fewer than one sequence of {seq_len} and its next \
         token ({needed}). Give more text, or set a shorter sequence length (context)"
    )]
    TooShort { split: String, tokens: u64, seq_len: usize, needed: u64 },

    /// A batch that cannot be made.
    #[error("cannot make batches: {0}")]
    Batch(String),

    /// A tokenizer that cannot be trained, read or used.
    #[error("tokenizer: {0}")]
    Tokenizer(String),

    /// A tokenizer file that cannot be read.
    #[error(
        "{}: not a tokenizer.json that can be used ({words}). Expected the file that Hugging Face \
         `tokenizers` saves", path.display()
    )]
    TokenizerFile { path: PathBuf, words: String },

    /// A file of the cache whose bytes are not those that were written.
    #[error(
        "{}: the file is damaged ({words}). Delete it; it will be built again", path.display()
    )]
    Damaged { path: PathBuf, words: String },

    /// The operating system refused to read or write; says why and what to do.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

impl DataError {
    /// An input or output error, its cause put in words with the next thing to do.
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        DataError::Durable(DurableError::new(action, path, source))
    }
}
