//! `heldout report RUN...`: runs or a study written up as one page, as Markdown, or as data.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use heldout_base::durable;
use heldout_record::study::StudyDir;
use heldout_record::{RecordError, RunDir, manifest};
use heldout_report::document::{Document, Source, StudySource};
use heldout_report::{format, html, markdown};
use serde_json::json;

use crate::console::{Console, Output};
use crate::failure::{DONE, Failure};
use crate::outcome::print_table;

/// Options of `heldout report`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  heldout report runs/mine                          writes runs/mine/report.html
  heldout report runs/dropout-* --out dropout.html  compares with the first; differing in one
                                                    number, also gap against strength
  heldout report studies/regularizers               effects of a study with their intervals
  heldout report runs/mine --format markdown        to the terminal, or into a file with --out

The page is one file that needs no network and no script; it prints, and follows light and dark.")]
pub struct Options {
    /// Folders of runs, or the folder of one study
    #[arg(value_name = "RUN", required = true, value_hint = clap::ValueHint::DirPath)]
    pub runs: Vec<PathBuf>,
    /// What to write
    #[arg(long, value_name = "FORMAT", default_value = "html")]
    pub format: ReportFormat,
    /// Where to write it; - is stdout [default: report.html in the folder of the run or study, or
    /// here for several runs; stdout for markdown and json]
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub out: Option<PathBuf>,
}

/// A form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// One page for a browser
    Html,
    /// Tables for a terminal, a README, an issue
    Markdown,
    /// All of it as data
    Json,
}

/// Reads, writes, and says where.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let document = read(&options.runs)?;
    let text = match options.format {
        ReportFormat::Html => html::page(&document),
        ReportFormat::Markdown => markdown::text(&document),
        ReportFormat::Json => {
            let text = serde_json::to_string_pretty(&document)
                .map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
            text + "\n"
        }
    };
    let Some(path) = target(&options) else {
        console.out_raw(&text)?;
        return Ok(DONE);
    };
    durable::write_file(&path, |out| out.write_all(text.as_bytes()))
        .map_err(|error| Failure::from(RecordError::from(error)))?;
    match console.output {
        Output::Json => {
            console
                .out_json(&json!({ "report": path.display().to_string(), "bytes": text.len() }))?;
        }
        Output::Text => {
            for sentence in &document.lead {
                print_table(&[(String::new(), sentence.clone())], console)?;
            }
            let size = format::bytes(text.len() as u64);
            let open = match options.format {
                ReportFormat::Html => "; open it in a browser",
                _ => "",
            };
            let words = format!("{} ({size}{open})", path.display());
            print_table(&[("report".to_owned(), words)], console)?;
        }
    }
    Ok(DONE)
}

fn read(paths: &[PathBuf]) -> Result<Document, Failure> {
    let now = manifest::now();
    if let Some(study) = paths.iter().find(|path| StudyDir::is_study(path)) {
        if paths.len() > 1 {
            return Err(Failure::bad_input(format!("{} is a study", study.display()))
                .why("  a study is reported by itself")
                .next(format!("heldout report {}", study.display())));
        }
        return Ok(Document::of_study(&StudySource::read(study)?, &now));
    }
    let sources: Result<Vec<Source>, Failure> = paths.iter().map(|path| source(path)).collect();
    Ok(Document::of_runs(&sources?, &now))
}

fn source(path: &Path) -> Result<Source, Failure> {
    Source::read(path).map_err(|error| {
        let inside = std::fs::read_dir(path).into_iter().flatten().flatten();
        let holds_runs = inside.into_iter().any(|entry| {
            let is_run = |path: &Path| RunDir::open(path).is_ok();
            entry.path().is_dir() && is_run(&entry.path())
        });
        match &error {
            RecordError::NotARun { .. } if holds_runs => Failure::from(error)
                .next(format!("give the runs inside it: heldout report {}/*", path.display())),
            _ => Failure::from(error),
        }
    })
}

/// Where the report goes; `None` is stdout.
fn target(options: &Options) -> Option<PathBuf> {
    match (&options.out, options.format, options.runs.as_slice()) {
        (Some(out), ..) if out.as_os_str() == "-" => None,
        (Some(out), ..) => Some(out.clone()),
        (None, ReportFormat::Html, [one]) => Some(one.join("report.html")),
        (None, ReportFormat::Html, _) => Some(PathBuf::from("report.html")),
        (None, ReportFormat::Markdown | ReportFormat::Json, _) => None,
    }
}
