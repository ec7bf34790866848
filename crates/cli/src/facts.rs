//! What was found in the data, in a few lines: sizes, split, duplicates, leaks.

use heldout_data::{DataFacts, Progress};
use heldout_report::format;

/// The lines that a run does not tell by itself: where the text came from, and copies in it.
pub fn brief(facts: &DataFacts) -> Vec<(String, String)> {
    let told = ["split", "tokens", "note"];
    lines(facts).into_iter().filter(|(label, _)| !told.contains(&label.as_str())).collect()
}

/// Label and text of each line worth saying about prepared data.
pub fn lines(facts: &DataFacts) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
    let bytes: u64 = facts.inputs.iter().map(|input| input.bytes).sum();
    let inputs = match facts.inputs.as_slice() {
        [only] => only.path.clone(),
        several => format!("{} files", format::count(several.len() as u64)),
    };
    let documents = match facts.documents {
        1 => "one text".to_owned(),
        n => format!("{} documents", format::count(n)),
    };
    row("data", format!("{inputs}: {}, {documents}", format::bytes(bytes)));
    row("split", facts.split.clone());
    let mut sizes = format!(
        "{} training tokens, {} held out",
        format::count(facts.tokens_train),
        format::count(facts.tokens_validation)
    );
    if facts.tokens_test > 0 {
        sizes.push_str(&format!(", {} for the test", format::count(facts.tokens_test)));
    }
    row("tokens", sizes);
    row(
        "tokenizer",
        format!(
            "{}, {} tokens, {} bytes each",
            facts.tokenizer,
            format::count(facts.vocabulary),
            format::fixed(facts.bytes_per_token_validation, 2)
        ),
    );
    row("duplicates", duplicates(facts));
    for example in facts.examples.iter().take(3) {
        let kind = match example.kind.as_str() {
            "exact" => "the same as",
            "near" => "nearly the same as",
            _ => "shares a passage with",
        };
        row("", format!("{} {kind} {}: {:?}", example.one, example.other, example.excerpt));
    }
    for notice in &facts.notices {
        row("note", notice.clone());
    }
    rows
}

fn duplicates(facts: &DataFacts) -> String {
    let mut parts = Vec::new();
    let mut part = |n: u64, what: &str| {
        if n > 0 {
            parts.push(format!("{} {what}", format::count(n)));
        }
    };
    part(facts.exact_duplicates, "exact copies");
    part(facts.near_duplicates, "near copies");
    part(facts.leaked_documents, "training documents also held out");
    part(facts.leaked_removed, "of these taken out of training");
    part(facts.duplicates_removed, "other copies taken out of training");
    part(facts.shared_passages, "passages in both splits");
    if parts.is_empty() { "none found".to_owned() } else { parts.join(", ") }
}

/// What data preparation is doing, in a few words.
pub fn progress(progress: &Progress) -> String {
    let share = |verb: &str, done: u64, total: u64| match total {
        0 => format!("{verb} ..."),
        total => format!("{verb} {:.0}%", 100.0 * done as f64 / total as f64),
    };
    match *progress {
        Progress::Hashing { done, total } => share("looking at the data", done, total),
        Progress::Reading { done, total } => share("reading text", done, total),
        Progress::Comparing { done, total } => share("looking for duplicates", done, total),
        Progress::TrainingTokenizer => "training the tokenizer ...".to_owned(),
        Progress::Tokenizing { done, total } => share("tokenizing", done, total),
        Progress::Ready { .. } => "ready".to_owned(),
    }
}
