//! Prepared corpora on disk: one folder per content and settings, written whole or not at all.

use crate::error::DataError;
use crate::facts::DataFacts;
use crate::split::PART_NAMES;
use crate::store::TokenStore;
use crate::tokenizer::Tokenizer;
use heldout_base::durable;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Part of every key: raise it when anything about preparing changes its result.
pub(crate) const FORMAT: u32 = 1;

/// Scratch folders older than this belong to no living process.
const ABANDONED: Duration = Duration::from_secs(48 * 3600);
const SCRATCH: &str = ".staging-";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// A scratch folder inside the cache; it vanishes unless it is committed.
pub(crate) struct Staging {
    folder: tempfile::TempDir,
}

impl Staging {
    pub(crate) fn new(cache: &Path) -> Result<Self, DataError> {
        fs::create_dir_all(cache).map_err(|e| DataError::io(cache, "create the folder", e))?;
        clean(cache);
        let folder = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(cache);
        let folder = folder.map_err(|e| DataError::io(cache, "create a folder in", e))?;
        Ok(Staging { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes scratch folders that a killed process left behind; what cannot be removed stays.
fn clean(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    for entry in entries.flatten() {
        let is_scratch = entry.file_name().to_string_lossy().starts_with(SCRATCH);
        let modified = entry.metadata().and_then(|m| m.modified());
        let age = modified.map(|m| SystemTime::now().duration_since(m).unwrap_or_default());
        if is_scratch && age.is_ok_and(|age| age > ABANDONED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// What a cache entry holds.
pub(crate) struct Entry {
    pub stores: [Option<TokenStore>; 3],
    pub tokenizer: Tokenizer,
    pub facts: DataFacts,
}

pub(crate) fn token_path(folder: &Path, part: usize) -> PathBuf {
    folder.join(format!("{}.tokens", PART_NAMES[part]))
}

/// Writes the small files of an entry, with a list of their hashes.
pub(crate) fn write_small(
    folder: &Path,
    tokenizer: &Tokenizer,
    facts: &DataFacts,
) -> Result<(), DataError> {
    let facts = serde_json::to_string_pretty(facts).expect("plain values serialize");
    let mut sums = String::new();
    // The configuration keeps which token ends a text; its length limit is not read.
    let config = tokenizer.config_json(1 << 20);
    let files =
        [(TOKENIZER, tokenizer.to_json()), (TOKENIZER_CONFIG, &config), ("facts.json", &facts)];
    for (name, text) in files {
        durable::write_file(&folder.join(name), |out| out.write_all(text.as_bytes()))?;
        sums += &format!("{}  {name}\n", durable::sha256_bytes(text.as_bytes()));
    }
    Ok(durable::write_file(&folder.join("SHA256SUMS"), |out| out.write_all(sums.as_bytes()))?)
}

/// Opens an entry, verifying every file.
pub(crate) fn load(folder: &Path) -> Result<Entry, DataError> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(|e| DataError::io(&path, "read", e))
    };
    let sums = read("SHA256SUMS")?;
    let verified = |name: &str| {
        let text = read(name)?;
        let line = format!("{}  {name}", durable::sha256_bytes(text.as_bytes()));
        if sums.lines().any(|l| l == line) {
            Ok(text)
        } else {
            let words = "its SHA-256 does not match".into();
            Err(DataError::Damaged { path: folder.join(name), words })
        }
    };
    verified(TOKENIZER)?;
    verified(TOKENIZER_CONFIG)?;
    let tokenizer = Tokenizer::load(&folder.join(TOKENIZER))?;
    let text = verified("facts.json")?;
    let facts: DataFacts = serde_json::from_str(&text).map_err(|e| DataError::Damaged {
        path: folder.join("facts.json"),
        words: e.to_string(),
    })?;
    let open = |part: usize, expected: u64| {
        let path = token_path(folder, part);
        if part == 2 && expected == 0 && !path.exists() {
            return Ok(None);
        }
        TokenStore::open(&path).map(Some)
    };
    let counts = [facts.tokens_train, facts.tokens_validation, facts.tokens_test];
    let stores = [open(0, counts[0])?, open(1, counts[1])?, open(2, counts[2])?];
    Ok(Entry { stores, tokenizer, facts })
}
