//! From the paths, folders and patterns that a user names to an ordered list of files with a format
//! and a hash.

use crate::error::DataError;
use crate::facts::InputFact;
use heldout_base::nearest::nearest;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// How the text lies in a file; told from the extension, under any `.gz` or `.zst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Format {
    /// Text as it is.
    Plain,
    /// One JSON object a line.
    JsonLines,
    /// One array of objects, or objects one after another.
    Json,
    /// Comma-separated with a header line.
    Csv,
    /// Tab-separated with a header line; quotes have no meaning in it.
    Tsv,
}

impl Format {
    /// Whether the file is a list of records with fields.
    pub fn has_records(self) -> bool {
        self != Format::Plain
    }
}

/// One file to read.
#[derive(Clone, Debug)]
pub struct Input {
    pub path: PathBuf,
    pub format: Format,
}

/// Extensions that a folder is searched for; a file named outright may have any.
const EXTENSIONS_PLAIN: [&str; 6] = ["txt", "text", "md", "markdown", "rst", "tex"];

/// The format by extension, and whether the extension is one that folders are searched for.
fn format_of(path: &Path) -> (Format, Known) {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let stem = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let extension = stem.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension {
        "jsonl" | "ndjson" => (Format::JsonLines, Known::Yes),
        "json" => (Format::Json, Known::Yes),
        "csv" => (Format::Csv, Known::Yes),
        "tsv" => (Format::Tsv, Known::Yes),
        e if EXTENSIONS_PLAIN.contains(&e) => (Format::Plain, Known::Yes),
        _ => (Format::Plain, Known::No),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Known {
    Yes,
    No,
}

/// The files behind `names`, in the order given; a folder's and a pattern's files sorted by path.
///
/// # Errors
/// A name that is not there (with the nearest one that is), a folder or pattern with no text file.
pub fn expand(names: &[String]) -> Result<Vec<Input>, DataError> {
    let mut inputs = Vec::new();
    for name in names {
        let path = PathBuf::from(name);
        if path.is_dir() {
            inputs.extend(folder(&path)?);
        } else if path.exists() {
            inputs.push(Input { format: format_of(&path).0, path });
        } else if name.contains(['*', '?', '[']) {
            inputs.extend(pattern(name)?);
        } else {
            return Err(DataError::NoSuchInput { hint: nearest_file(&path), path });
        }
    }
    Ok(inputs)
}

/// ": did you mean ...?" among the files beside a missing one.
fn nearest_file(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Ok(entries) = fs::read_dir(parent) else {
        return format!(" (its folder {} is not there either)", parent.display());
    };
    let names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    match nearest(&name, names.iter().map(String::as_str)) {
        Some(near) => format!(". Did you mean {}?", parent.join(near).display()),
        None => ". Check the spelling and the folder you are in".into(),
    }
}

fn folder(root: &Path) -> Result<Vec<Input>, DataError> {
    let mut found = Vec::new();
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    let mut stack = vec![root.to_path_buf()];
    while let Some(folder) = stack.pop() {
        let entries = fs::read_dir(&folder).map_err(|e| DataError::io(&folder, "list", e))?;
        for entry in entries {
            let path = entry.map_err(|e| DataError::io(&folder, "list", e))?.path();
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            if hidden {
                continue;
            }
            if path.is_dir() {
                stack.push(path);
                continue;
            }
            match format_of(&path) {
                (format, Known::Yes) => found.push(Input { path, format }),
                (_, Known::No) => {
                    let extension = path
                        .extension()
                        .map_or("no extension".into(), |e| format!(".{}", e.to_string_lossy()));
                    *others.entry(extension).or_default() += 1;
                }
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    if found.is_empty() {
        let list: Vec<String> = others.iter().map(|(e, n)| format!("{n} × {e}")).collect();
        let hint = if list.is_empty() {
            "the folder is empty. Put .txt, .md, .jsonl, .json, .csv or .tsv files in it".into()
        } else {
            format!(
                "it holds {}. Folders are searched for .txt, .md, .jsonl, .json, .csv, .tsv (also \
                 .gz, .zst); name other files with a pattern such as \"{}/**/*{}\"",
                list.join(", "),
                root.display(),
                others.keys().next().map_or("", |e| e.as_str()),
            )
        };
        let what = "no text files in the folder";
        return Err(DataError::NothingToRead { path: root.to_path_buf(), what, hint });
    }
    Ok(found)
}

fn pattern(name: &str) -> Result<Vec<Input>, DataError> {
    let bad = |hint: String| DataError::NothingToRead {
        path: PathBuf::from(name),
        what: "no file matches the pattern",
        hint,
    };
    let paths = glob::glob(name).map_err(|e| bad(format!("the pattern is malformed: {e}")))?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.map_err(|e| DataError::io(&PathBuf::from(e.path()), "list", e.into()))?;
        if path.is_file() {
            found.push(Input { format: format_of(&path).0, path });
        }
    }
    if found.is_empty() {
        return Err(bad(
            "check the spelling, and quote it so that the shell leaves it alone".into()
        ));
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// What identifies a file's bytes: SHA-256 for the record, XXH3 to recognise them when read again.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    pub bytes: u64,
    pub sha256: String,
    pub xxh3: u64,
}

/// Reads a file once and hashes its raw bytes.
///
/// # Errors
/// The file cannot be opened or read.
pub fn fingerprint(path: &Path) -> Result<Fingerprint, DataError> {
    let mut file = File::open(path).map_err(|e| DataError::io(path, "open", e))?;
    let (mut sha, mut quick, mut bytes) = (Sha256::new(), Xxh3::new(), 0);
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let n = file.read(&mut buffer).map_err(|e| DataError::io(path, "read", e))?;
        if n == 0 {
            break;
        }
        sha.update(&buffer[..n]);
        quick.update(&buffer[..n]);
        bytes += n as u64;
    }
    Ok(Fingerprint { bytes, sha256: hex(&sha.finalize()), xxh3: quick.digest() })
}

impl Fingerprint {
    /// As it is recorded.
    pub(crate) fn fact(&self, path: &Path) -> InputFact {
        let path = path.display().to_string();
        InputFact { path, bytes: self.bytes, sha256: self.sha256.clone() }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
