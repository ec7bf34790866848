//! The one place that maps a file into memory.
#![allow(unsafe_code)]

use crate::error::DataError;
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// A whole file, read-only, as bytes.
pub(crate) struct Mapping(Mmap);

impl Mapping {
    /// Maps `file`, opened from `path`, which must not be empty.
    pub(crate) fn new(file: &File, path: &Path) -> Result<Self, DataError> {
        // SAFETY: the file is a finished cache entry: it was written under another name, fsynced
        // and renamed, and this crate never writes to it again. Should something else truncate it
        // while it is mapped, the system stops the process (SIGBUS); the bytes are read as plain
        // integers, so no changed content can break an invariant of the language.
        let map = unsafe { Mmap::map(file) };
        map.map(Mapping).map_err(|e| DataError::io(path, "map", e))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
