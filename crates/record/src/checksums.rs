//! `SHA256SUMS`: one line a file as `sha256sum -c` reads it, after a comment with their number.

use heldout_base::durable::{self, Cause};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

/// The file's name within a checkpoint.
pub const NAME: &str = "SHA256SUMS";

/// A list of this size has some ten thousand files; more is damage.
const BYTES_MAX: u64 = 1 << 20;

/// File name → 64 lower-case hexadecimal digits.
pub type Sums = BTreeMap<String, String>;

/// The text of the file. The count lets a reader notice lines that went missing.
pub fn format(sums: &Sums) -> String {
    let mut text = format!("# {} files\n", sums.len());
    for (name, sum) in sums {
        text.push_str(&format!("{sum}  {name}\n"));
    }
    text
}

/// Reads the text back, strictly: no byte of it can change unnoticed.
pub fn parse(text: &str) -> Result<Sums, String> {
    let mut sums = Sums::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')).skip(1) {
        let bad = || format!("{NAME}, line {number}: expected a SHA-256, two spaces and a name");
        let (sum, name) =
            line.strip_suffix('\n').and_then(|l| l.split_once("  ")).ok_or_else(bad)?;
        let is_sum = sum.len() == 64 && sum.bytes().all(|b| b"0123456789abcdef".contains(&b));
        if !is_sum || !is_plain_name(name) || sums.insert(name.into(), sum.into()).is_some() {
            return Err(bad());
        }
    }
    if text.split_inclusive('\n').next() != Some(format!("# {} files\n", sums.len()).as_str()) {
        return Err(format!(
            "{NAME}, line 1: expected \"# {} files\" as there are so many lines",
            sums.len()
        ));
    }
    Ok(sums)
}

/// A file directly in the folder, not some path that leads elsewhere.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\n', '\0'])
}

/// Reads every file of a checkpoint and compares; says in words what differs.
pub fn verify(folder: &Path) -> Result<(), String> {
    let mut text = Vec::new();
    fs::File::open(folder.join(NAME))
        .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut text))
        .map_err(|e| format!("{NAME}: {}", Cause::of(&e)))?;
    if text.len() as u64 > BYTES_MAX {
        return Err(format!("{NAME} is larger than any that we write"));
    }
    let text = String::from_utf8(text).map_err(|_| format!("{NAME} is not text"))?;
    for (name, expected) in parse(&text)? {
        let found = durable::sha256_file(&folder.join(&name))
            .map_err(|e| format!("{name}: {}", e.cause))?;
        if found != expected {
            let (found, expected) = (&found[..12], &expected[..12]);
            return Err(format!(
                "{name} has changed since it was written (SHA-256 {found}… instead of {expected}…)"
            ));
        }
    }
    Ok(())
}
