//! What a report says, as data: gathered once from records, then written as HTML, Markdown or JSON.
//!
//! The JSON form is this module's types as they are, under `schema` and `version`; fields may be
//! added in a version, never renamed or removed. Losses, gaps and their errors are in nats per
//! token, times in seconds; a number that is not finite is `null`.

mod comparison;
pub(crate) mod facts;
mod run;
mod study;

pub use comparison::{Comparison, ComparisonRow, Difference, KnobPoint, KnobSweep, Varied};
pub(crate) use run::capitalized;
pub use run::{RunPart, StepSummary};
pub use study::{ArmCurve, ArmPoint, StudyPart, StudySource};
pub(crate) use study::{level, test_loss};

use std::path::Path;

use heldout_record::{Event, Papers, RecordError, RunDir, read_metrics};
use serde::Serialize;

/// What the JSON form calls itself.
pub const SCHEMA: &str = "heldout-report";
/// Raised when a field changes its meaning or goes away.
pub const VERSION: u32 = 1;

/// A report.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// [`VERSION`].
    pub version: u32,
    /// The program that wrote the report.
    pub heldout: String,
    /// When it was written, in UTC.
    pub written: String,
    /// Of what this is the report.
    pub title: String,
    /// The result in sentences, the most important first.
    pub lead: Vec<String>,
    /// The runs in the order they were given.
    pub runs: Vec<RunPart>,
    /// How they compare, where there are several.
    pub comparison: Option<Comparison>,
    /// The study, where the report is of one; its runs are told of by their means.
    pub study: Option<StudyPart>,
}

/// A run as read from disk.
#[derive(Clone, Debug)]
pub struct Source {
    /// As the user gave it.
    pub path: String,
    /// The folder's name.
    pub name: String,
    pub events: Vec<Event>,
    pub papers: Papers,
}

impl Source {
    /// Reads the run in `path`. Papers that are missing or damaged do not fail it, events do.
    pub fn read(path: &Path) -> Result<Source, RecordError> {
        let run = RunDir::open(path)?;
        Ok(Source {
            path: path.display().to_string(),
            name: run.name(),
            events: read_metrics(&run.metrics())?,
            papers: Papers::read(&run),
        })
    }
}

impl Document {
    /// The report of one run, or of several side by side; `written` is the time.
    pub fn of_runs(sources: &[Source], written: &str) -> Document {
        assert!(!sources.is_empty(), "a report is of at least one run");
        let mut runs: Vec<RunPart> = sources.iter().map(RunPart::new).collect();
        comparison::tell_apart(&mut runs);
        let comparison = (runs.len() > 1).then(|| Comparison::new(&runs));
        let (title, lead) = match &comparison {
            None => (runs[0].name.clone(), runs[0].lead.clone()),
            Some(comparison) => {
                let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
                let title = match names.as_slice() {
                    [one, other] => format!("{one} and {other}"),
                    many => format!("{} runs", many.len()),
                };
                (title, comparison.lead())
            }
        };
        Document { lead, runs, comparison, ..Document::empty(title, written) }
    }

    /// The report of a study; `written` is the time.
    pub fn of_study(source: &StudySource, written: &str) -> Document {
        let study = StudyPart::new(source);
        let empty = Document::empty(study.study.name.clone(), written);
        Document { lead: study.lead(), study: Some(study), ..empty }
    }

    fn empty(title: String, written: &str) -> Document {
        Document {
            schema: SCHEMA,
            version: VERSION,
            heldout: env!("CARGO_PKG_VERSION").to_owned(),
            written: written.to_owned(),
            title,
            lead: Vec::new(),
            runs: Vec::new(),
            comparison: None,
            study: None,
        }
    }
}
