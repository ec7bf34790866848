//! The directory of a zip archive whose entries are stored as they are (PKWARE's APPNOTE.TXT
//! 6.3.10, sections 4.3 to 4.5), with its extension to 64 bits.

use super::{Entries, Source, read_at};

/// Where an entry's bytes are; both within the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub start: u64,
    pub bytes: u64,
}

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
/// The end record with the longest comment that there can be.
const TAIL: u64 = 22 + 65535;
/// Entries of 46 bytes and a name: more than a million of them are no model.
const DIRECTORY_BYTES_MAX: u64 = 256 << 20;

/// Little-endian number of `N` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<u64, String> {
    let end = at.checked_add(N).filter(|end| *end <= bytes.len());
    let end = end.ok_or("the zip archive's directory is cut short")?;
    let mut all = [0; 8];
    all[..N].copy_from_slice(&bytes[at..end]);
    Ok(u64::from_le_bytes(all))
}

/// The names of all entries with their places.
///
/// # Errors
/// In words: no zip archive, a damaged one, or one with compressed entries.
pub fn entries(source: &mut dyn Source, file_bytes: u64) -> Result<Entries, String> {
    let (directory, count) = directory(source, file_bytes)?;
    let mut entries = Entries::new();
    let mut at = 0;
    for _ in 0..count {
        if directory.get(at..at + 4) != Some(CENTRAL) {
            return Err("the zip archive's directory is damaged".to_owned());
        }
        let method = number::<2>(&directory, at + 10)?;
        let mut packed = number::<4>(&directory, at + 20)?;
        let mut bytes = number::<4>(&directory, at + 24)?;
        let name = number::<2>(&directory, at + 28)? as usize;
        let extra = number::<2>(&directory, at + 30)? as usize;
        let comment = number::<2>(&directory, at + 32)? as usize;
        let mut local = number::<4>(&directory, at + 42)?;
        let name_end = at + 46 + name;
        let text = directory.get(at + 46..name_end).ok_or("a name in it is cut short")?;
        let text = String::from_utf8_lossy(text).into_owned();
        let fields = directory.get(name_end..name_end + extra).ok_or("an entry is cut short")?;
        wide(fields, &mut [&mut bytes, &mut packed, &mut local])?;
        if method != 0 || packed != bytes {
            return Err(format!("its entry {text:?} is compressed, which torch.save never does"));
        }
        let head = read_at(source, local, 30)?;
        if !head.starts_with(LOCAL) {
            return Err(format!("its entry {text:?} is not where the directory says"));
        }
        let start = local + 30 + number::<2>(&head, 26)? + number::<2>(&head, 28)?;
        if start.checked_add(bytes).is_none_or(|end| end > file_bytes) {
            return Err(format!("its entry {text:?} reaches past the end: cut short or damaged"));
        }
        entries.insert(text, Entry { start, bytes });
        at = name_end + extra + comment;
    }
    Ok(entries)
}

/// The bytes of the central directory, and its number of entries.
fn directory(source: &mut dyn Source, file_bytes: u64) -> Result<(Vec<u8>, u64), String> {
    let tail_start = file_bytes.saturating_sub(TAIL);
    let tail = read_at(source, tail_start, file_bytes - tail_start)?;
    let end = tail.windows(4).rposition(|window| window == END);
    let end = end.ok_or("expected a zip archive, found no directory at its end: cut short?")?;
    // The record's last field: one that is cut short has none.
    number::<2>(&tail, end + 20)?;
    let mut count = number::<2>(&tail, end + 10)?;
    let mut bytes = number::<4>(&tail, end + 12)?;
    let mut start = number::<4>(&tail, end + 16)?;
    let locator = end.checked_sub(20).filter(|at| tail[*at..].starts_with(LOCATOR_64));
    if let Some(locator) = locator {
        let record = read_at(source, number::<8>(&tail, locator + 8)?, 56)?;
        if !record.starts_with(END_64) {
            return Err("the zip archive's 64-bit end record is damaged".to_owned());
        }
        count = number::<8>(&record, 32)?;
        bytes = number::<8>(&record, 40)?;
        start = number::<8>(&record, 48)?;
    }
    let is_within = start.checked_add(bytes).is_some_and(|end| end <= file_bytes);
    if !is_within || bytes > DIRECTORY_BYTES_MAX {
        return Err("the zip archive's directory reaches past its end".to_owned());
    }
    Ok((read_at(source, start, bytes)?, count))
}

/// Takes 64-bit values for those that say so by being all ones, from the extra field 1.
fn wide(mut fields: &[u8], values: &mut [&mut u64; 3]) -> Result<(), String> {
    while fields.len() >= 4 {
        let (id, size) = (number::<2>(fields, 0)?, number::<2>(fields, 2)? as usize);
        let own = fields.get(4..4 + size).ok_or("an extra field is cut short")?;
        if id == 1 {
            let mut at = 0;
            for value in values.iter_mut().filter(|value| ***value == 0xffff_ffff) {
                **value = number::<8>(own, at)?;
                at += 8;
            }
        }
        fields = &fields[4 + size..];
    }
    Ok(())
}

/// The bytes of an entry that is no longer than `most`.
///
/// # Errors
/// In words.
pub fn read(source: &mut dyn Source, entry: Entry, most: u64) -> Result<Vec<u8>, String> {
    if entry.bytes > most {
        return Err(format!("an entry of {} bytes is longer than any should be", entry.bytes));
    }
    read_at(source, entry.start, entry.bytes)
}
