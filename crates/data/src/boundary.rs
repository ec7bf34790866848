//! Where one document ends and the next begins, and the rule when nobody said.

use crate::error::DataError;
use crate::inputs::{Format, Input};
use crate::read::{END_OF_TEXT, TextStream, open};
use serde::{Deserialize, Serialize};

/// What separates documents. In files with records each record is a document, whatever is set here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Boundary {
    /// The first that holds, for plain text: a line `<|endoftext|>` in the first MiB of any file →
    /// such lines; at least 20 files → each file; 2 to 19 files with at least 20 blank-line blocks
    /// in the first MiB of each, taken together → blank lines; otherwise contiguous (one long
    /// text).
    #[default]
    Auto,
    /// One or more blank lines (lines of white space only).
    BlankLine,
    /// Each line of plain text (blank ones skipped), each record of other files.
    Record,
    /// A line that holds `<|endoftext|>` and nothing else.
    EndOfText,
    /// Each file.
    File,
    /// One long text in the order given, split at a place and not by document.
    Contiguous,
}

/// How a plain file is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Whole,
    Line,
    BlankLine,
    EndOfText,
}

/// Whether held-out data are documents or the tail of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Documents,
    Contiguous,
}

/// A boundary resolved against the inputs.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub cut: Cut,
    pub manner: Manner,
    /// For the record: what was chosen and why.
    pub reason: String,
}

/// From this many plain files on, each file is a document.
const FILES_AS_DOCUMENTS: usize = 20;
/// This many blank-line blocks make several files a collection of blocks.
const BLOCKS_MIN: usize = 20;

/// Resolves `boundary` for `inputs`; reads at most the first MiB of each plain file (of 20 files).
pub(crate) fn decide(boundary: Boundary, inputs: &[Input]) -> Result<Decision, DataError> {
    let plain: Vec<&Input> = inputs.iter().filter(|i| i.format == Format::Plain).collect();
    let decision = |cut, manner, reason: &str| Decision { cut, manner, reason: reason.to_string() };
    if plain.is_empty() && boundary != Boundary::Contiguous {
        return Ok(decision(Cut::Line, Manner::Documents, "each record is a document"));
    }
    let chosen = match boundary {
        Boundary::Auto => return automatic(&plain, inputs.len()),
        Boundary::BlankLine => (Cut::BlankLine, Manner::Documents, "blank lines, as asked"),
        Boundary::Record => (Cut::Line, Manner::Documents, "each line is a document, as asked"),
        Boundary::EndOfText => {
            (Cut::EndOfText, Manner::Documents, "lines with <|endoftext|>, as asked")
        }
        Boundary::File => (Cut::Whole, Manner::Documents, "each file is a document, as asked"),
        Boundary::Contiguous => (Cut::Whole, Manner::Contiguous, "one contiguous text, as asked"),
    };
    Ok(decision(chosen.0, chosen.1, chosen.2))
}

fn automatic(plain: &[&Input], inputs: usize) -> Result<Decision, DataError> {
    let mut blocks = 0;
    for input in plain.iter().take(FILES_AS_DOCUMENTS) {
        let mut stream = TextStream::new(open(&input.path)?);
        let Some((_, text)) = stream.next()? else { continue };
        if text.lines().any(|line| line.trim() == END_OF_TEXT) {
            let reason = "lines with <|endoftext|>, found in the text";
            let (cut, manner) = (Cut::EndOfText, Manner::Documents);
            return Ok(Decision { cut, manner, reason: reason.into() });
        }
        let lines: Vec<&str> = text.lines().collect();
        blocks += lines
            .windows(2)
            .filter(|pair| pair[0].trim().is_empty() && !pair[1].trim().is_empty())
            .count();
    }
    let (cut, manner, reason) = if plain.len() >= FILES_AS_DOCUMENTS {
        (Cut::Whole, Manner::Documents, format!("each of {} files is a document", plain.len()))
    } else if inputs > plain.len() {
        (Cut::Whole, Manner::Documents, "each record and each text file is a document".into())
    } else if plain.len() > 1 && blocks >= BLOCKS_MIN {
        (Cut::BlankLine, Manner::Documents, format!("blank lines, in {} files", plain.len()))
    } else {
        let files = if plain.len() == 1 { "one text file" } else { "few files, few blank lines" };
        (Cut::Whole, Manner::Contiguous, format!("one contiguous text ({files})"))
    };
    Ok(Decision { cut, manner, reason })
}
