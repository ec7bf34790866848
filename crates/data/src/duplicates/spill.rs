//! Pairs (key, document) grouped by key: in memory while they are few, on disk when they are many.

use crate::error::DataError;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Pairs kept in memory (16 bytes each) before all go to disk.
const MEMORY_MAX: usize = 4 << 20;
/// Files by the top bits of the key; each is sorted in memory on its own.
const PARTITIONS: usize = 64;
const PAIR_BYTES: usize = 12;

/// Collects pairs and gives back the documents that share a key.
pub(crate) struct Spill {
    folder: PathBuf,
    memory_max: usize,
    memory: Vec<(u64, u32)>,
    files: Vec<BufWriter<File>>,
}

impl Spill {
    pub(crate) fn new(folder: &Path) -> Self {
        Self::with_memory(folder, MEMORY_MAX)
    }

    pub(crate) fn with_memory(folder: &Path, memory_max: usize) -> Self {
        let folder = folder.to_path_buf();
        Spill { folder, memory_max, memory: Vec::new(), files: Vec::new() }
    }

    fn failed(&self, action: &'static str, error: std::io::Error) -> DataError {
        DataError::io(&self.folder, action, error)
    }

    pub(crate) fn push(&mut self, key: u64, document: u32) -> Result<(), DataError> {
        self.memory.push((key, document));
        if self.memory.len() >= self.memory_max { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), DataError> {
        while self.files.len() < PARTITIONS {
            let file = tempfile::tempfile_in(&self.folder);
            let file = file.map_err(|e| self.failed("create a scratch file in", e))?;
            self.files.push(BufWriter::with_capacity(1 << 16, file));
        }
        for (key, document) in std::mem::take(&mut self.memory) {
            let mut bytes = [0; PAIR_BYTES];
            bytes[..8].copy_from_slice(&key.to_le_bytes());
            bytes[8..].copy_from_slice(&document.to_le_bytes());
            let file = &mut self.files[(key >> 58) as usize];
            file.write_all(&bytes).map_err(|e| DataError::io(&self.folder, "write in", e))?;
        }
        Ok(())
    }

    /// Calls `visit` with the documents, ascending, of every key that has at least two, in key
    /// order.
    pub(crate) fn each_group(
        &mut self,
        visit: &mut dyn FnMut(&[u32]) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        if self.files.is_empty() {
            self.memory.sort_unstable();
            return groups(&self.memory, visit);
        }
        self.spill()?;
        for number in 0..self.files.len() {
            let mut pairs = self.partition(number)?;
            pairs.sort_unstable();
            groups(&pairs, visit)?;
        }
        Ok(())
    }

    fn partition(&mut self, number: usize) -> Result<Vec<(u64, u32)>, DataError> {
        let writer = &mut self.files[number];
        let read = |writer: &mut BufWriter<File>| {
            writer.flush()?;
            let file = writer.get_mut();
            let bytes = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(0))?;
            let mut reader = BufReader::with_capacity(1 << 18, file);
            let mut pairs = Vec::with_capacity(bytes as usize / PAIR_BYTES);
            let mut pair = [0; PAIR_BYTES];
            for _ in 0..bytes / PAIR_BYTES as u64 {
                reader.read_exact(&mut pair)?;
                let key = u64::from_le_bytes(pair[..8].try_into().expect("eight bytes"));
                let document = u32::from_le_bytes(pair[8..].try_into().expect("four bytes"));
                pairs.push((key, document));
            }
            Ok(pairs)
        };
        read(writer).map_err(|e| DataError::io(&self.folder, "read a scratch file in", e))
    }
}

fn groups(
    pairs: &[(u64, u32)],
    visit: &mut dyn FnMut(&[u32]) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut documents = Vec::new();
    for group in pairs.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
        documents.clear();
        documents.extend(group.iter().map(|(_, document)| *document));
        documents.dedup();
        if documents.len() > 1 {
            visit(&documents)?;
        }
    }
    Ok(())
}
