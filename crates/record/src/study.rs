//! A study on disk: its design, the ledger of its trials, its result, and one run folder a trial.
//!
//! ```text
//! STUDY/
//! ├── study.json        what is compared, on which seeds, by which rule
//! ├── recipe.toml       the reference, every value resolved
//! ├── baseline.json     the n-gram model that every arm has to beat, counted once for all trials
//! ├── trials.jsonl      one line a trial that started or ended, and a look at the evidence; synced
//! ├── result.json       effects with intervals and verdicts, as of the last look
//! └── runs/ARM-seedN/   ordinary run folders, with trial.json beside the metrics
//! ```

mod baseline;
mod ledger;
mod result;

use crate::error::RecordError;
use crate::run_dir::RunDir;
use heldout_base::durable::{self, Naming};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

pub use baseline::{KeyedBaseline, NgramFigures, StudyBaseline};
pub use ledger::{
    Finding, Ledger, Look, TrialBegun, TrialEvent, TrialFailed, TrialResult, read_trials,
};
pub use result::{
    ArmSummary, EffectEstimate, EffectRecord, NoiseFloor, Standing, StudyResult, Verdict,
};

/// Of `study.json`; raise it when a reader of the old one would misread the new one.
pub const FORMAT: u32 = 1;

const LOCK: &str = ".lock";
/// The folder of the trials' locks.
const TRIAL_LOCKS: &str = ".trials";

/// `study.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// [`FORMAT`].
    pub format: u32,
    /// The study's name: that of its folder when it was made.
    pub name: String,
    /// When it was made, in UTC: "2026-11-22T15:04:05Z".
    pub created: String,
    /// The command line as it was given, the program first.
    pub command_line: Vec<String>,
    /// Of the program.
    pub version: String,
    /// How far it has come.
    pub status: StudyStatus,
    /// What kind of comparison it is.
    pub design: Design,
    /// What is trained; the first is the reference.
    pub arms: Vec<Arm>,
    /// What is compared.
    pub contrasts: Vec<Contrast>,
    /// In the order in which they are run; every arm runs with each.
    pub seeds: Vec<u64>,
    /// Seeds that were asked for after the study had begun, in the order of asking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<Extension>,
    /// Learning rates tried for each arm on a seed of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Tuning>,
    /// When an effect is settled.
    pub rule: Rule,
    /// SHA-256 of `recipe.toml`, in hexadecimal.
    pub recipe_hash: String,
    /// SHA-256 of the text that was read, in hexadecimal.
    pub content_hash: String,
    /// How the text was split, in one sentence.
    pub split: String,
    /// What was arranged so that the arms can be compared, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What kind of comparison a study is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Design {
    /// The whole recipe against it without one technique (or with one more).
    #[default]
    LeaveOneOut,
    /// The recipe without any of the techniques against it with one of them.
    AddOneIn,
    /// Every combination of the techniques.
    Factorial,
}

impl Design {
    /// The word for options and headings.
    pub fn word(self) -> &'static str {
        match self {
            Design::LeaveOneOut => "leave-one-out",
            Design::AddOneIn => "add-one-in",
            Design::Factorial => "factorial",
        }
    }
}

/// How far a study has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudyStatus {
    /// It goes on, or was killed.
    #[default]
    Running,
    /// A budget or a signal ended it before its plan was carried out; it can go on.
    Stopped,
    /// Everything planned was done, or every effect settled.
    Done,
}

/// One recipe of a study.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Short, and fit for a folder's name: "reference", "no-dropout", "with-ema".
    pub name: String,
    /// Recipe settings laid over `recipe.toml`: "regularize.dropout=false".
    pub settings: Vec<String>,
    /// The techniques under study that are on in it.
    pub on: Vec<String>,
    /// Added to every seed: for a null that is known to be one, the same recipe with other random
    /// numbers. Otherwise 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seed_offset: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A weighted sum of the arms' losses: the loss without a technique minus the loss with it, so
/// that a positive effect is help. (Of an interaction: by how much the first technique helps more
/// where the second is on.)
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// The technique's name; "dropout × ema" for an interaction.
    pub name: String,
    /// What it asks.
    pub kind: ContrastKind,
    /// The technique, or the two that interact.
    pub techniques: Vec<String>,
    /// The sum's terms.
    pub terms: Vec<Term>,
}

/// What a contrast asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContrastKind {
    /// What a technique of the reference is worth.
    #[default]
    Dropped,
    /// What a technique that the reference does not have would be worth.
    Added,
    /// What a technique is worth on average over all combinations of the others.
    Main,
    /// Whether two techniques are worth more, or less, together.
    Interaction,
}

/// One arm's part in a contrast.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// The arm's name.
    pub arm: String,
    /// Of its loss in the sum: positive where the technique is off.
    pub weight: f64,
}

/// Learning rates tried for each arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// Of the recipe's rate.
    pub factors: Vec<f64>,
    /// Used for nothing else; the lowest validation loss chooses.
    pub seed: u64,
}

/// More seeds than were planned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Seeds before.
    pub from: u64,
    /// Seeds after.
    pub to: u64,
    /// When it was asked for, in UTC.
    pub time: String,
    /// The command line, the program first.
    pub command_line: Vec<String>,
}

impl Study {
    /// Seeds of the first plan, before any extension.
    pub fn seeds_first(&self) -> u64 {
        self.extensions.first().map_or(self.seeds.len() as u64, |first| first.from)
    }
}

/// When an effect is settled; see `heldout_report::study` for the statistics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The share of studies without any effect that may claim one: 0.05.
    pub level: f64,
    /// Effects smaller than this count as none, in nats.
    pub rope: f64,
    /// After how many seeds the evidence is looked at; the last is all of them.
    pub looks: Vec<u64>,
}

/// A study's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StudyDir {
    /// The folder.
    pub root: PathBuf,
}

/// Holds a study, or one of its trials, for this process; dropping it lets go.
#[derive(Debug)]
pub struct StudyLock {
    _file: Option<File>,
}

impl StudyDir {
    /// Makes a new study: `root` must be absent or empty. `recipe` becomes `recipe.toml`.
    pub fn create(root: &Path, study: &Study, recipe: &str) -> Result<StudyDir, RecordError> {
        let folder = StudyDir { root: root.to_owned() };
        fs::create_dir_all(root).naming("create", root)?;
        let mut entries = fs::read_dir(root).naming("list", root)?;
        if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != LOCK)) {
            return Err(RecordError::ForeignFolder(root.to_owned()));
        }
        fs::create_dir_all(folder.runs()).naming("create", &folder.runs())?;
        durable::write_file(&folder.recipe(), |out| out.write_all(recipe.as_bytes()))?;
        // Last: a folder with this file is a study.
        folder.write_study(study)?;
        durable::sync_folder(durable::parent(root))?;
        Ok(folder)
    }

    /// Opens a study that `create` made, and reads its design.
    pub fn open(root: &Path) -> Result<(StudyDir, Study), RecordError> {
        let folder = StudyDir { root: root.to_owned() };
        if !folder.study().is_file() {
            let missing = "study.json";
            return Err(RecordError::NotAStudy { path: root.to_owned(), missing });
        }
        let study: Study = read_json(&folder.study(), "a study")?;
        if study.format != FORMAT {
            return Err(RecordError::Format {
                path: folder.study(),
                line: None,
                problem: format!("expected format {FORMAT}, found {}", study.format),
                next: "read it with the version of heldout that wrote it",
            });
        }
        Ok((folder, study))
    }

    /// Whether there is a study at `root`.
    pub fn is_study(root: &Path) -> bool {
        StudyDir { root: root.to_owned() }.study().is_file()
    }

    /// Replaces `study.json`, whole or not at all.
    pub fn write_study(&self, study: &Study) -> Result<(), RecordError> {
        write_json(&self.study(), study)
    }

    /// Replaces `result.json`, whole or not at all.
    pub fn write_result(&self, result: &StudyResult) -> Result<(), RecordError> {
        write_json(&self.result(), result)
    }

    /// Reads `result.json`.
    pub fn read_result(&self) -> Result<StudyResult, RecordError> {
        read_json(&self.result(), "a study's result")
    }

    /// The design.
    pub fn study(&self) -> PathBuf {
        self.root.join("study.json")
    }

    /// The reference's recipe.
    pub fn recipe(&self) -> PathBuf {
        self.root.join("recipe.toml")
    }

    /// The reference's recipe as it was resolved.
    pub fn recipe_text(&self) -> Result<String, RecordError> {
        Ok(fs::read_to_string(self.recipe()).naming("read", &self.recipe())?)
    }

    /// Replaces `baseline.json`, whole or not at all.
    pub fn write_baseline(&self, baseline: &StudyBaseline) -> Result<(), RecordError> {
        write_json(&self.baseline(), baseline)
    }

    /// Reads `baseline.json`; nothing where no n-gram model was counted.
    pub fn read_baseline(&self) -> Result<Option<StudyBaseline>, RecordError> {
        if !self.baseline().exists() {
            return Ok(None);
        }
        read_json(&self.baseline(), "a study's n-gram model").map(Some)
    }

    /// The n-gram model to beat.
    pub fn baseline(&self) -> PathBuf {
        self.root.join("baseline.json")
    }

    /// The ledger.
    pub fn trials(&self) -> PathBuf {
        self.root.join("trials.jsonl")
    }

    /// Effects and verdicts.
    pub fn result(&self) -> PathBuf {
        self.root.join("result.json")
    }

    /// One folder a trial.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// A trial's run folder, by the trial's name.
    pub fn run(&self, trial: &str) -> RunDir {
        RunDir { root: self.runs().join(trial) }
    }

    /// Takes the study for this process. The lock goes with the process, however it ends. File
    /// systems without locks are trusted.
    pub fn lock(&self) -> Result<StudyLock, RecordError> {
        take(&self.root.join(LOCK), &self.root)
    }

    /// Takes a trial for this process, from before its run begins until its end is written: a
    /// run's own lock goes with the training, and what comes after it must not be done twice.
    pub fn lock_trial(&self, trial: &str) -> Result<StudyLock, RecordError> {
        let locks = self.root.join(TRIAL_LOCKS);
        fs::create_dir_all(&locks).naming("create", &locks)?;
        take(&locks.join(trial), &self.runs().join(trial))
    }
}

/// Locks the file at `path`, made if need be; `what` is said to be in use where another has it.
fn take(path: &Path, what: &Path) -> Result<StudyLock, RecordError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.naming("write", path)?;
    match file.try_lock() {
        Ok(()) => Ok(StudyLock { _file: Some(file) }),
        Err(TryLockError::WouldBlock) => Err(RecordError::InUse(what.to_owned())),
        Err(TryLockError::Error(_)) => Ok(StudyLock { _file: None }),
    }
}

impl RunDir {
    /// What a trial's run came to, beside its metrics.
    pub fn trial(&self) -> PathBuf {
        self.root.join("trial.json")
    }

    /// Writes `trial.json`, whole or not at all: with it the trial has ended.
    pub fn write_trial(&self, ended: &TrialEvent) -> Result<(), RecordError> {
        write_json(&self.trial(), ended)
    }

    /// Reads `trial.json`; nothing where the trial has not ended.
    pub fn read_trial(&self) -> Result<Option<TrialEvent>, RecordError> {
        if !self.trial().exists() {
            return Ok(None);
        }
        read_json(&self.trial(), "a trial's end").map(Some)
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RecordError> {
    let text = serde_json::to_string_pretty(value).expect("plain data with string keys");
    Ok(durable::write_file(path, |out| writeln!(out, "{text}"))?)
}

fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, RecordError> {
    let text = fs::read(path).naming("read", path)?;
    serde_json::from_slice(&text).map_err(|error| RecordError::Format {
        path: path.to_owned(),
        line: Some(error.line() as u64),
        problem: format!("expected {what}: {error}"),
        next: "restore the file, or begin the study anew in another folder",
    })
}
