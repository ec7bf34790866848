//! What was found in the data, in a few lines: sizes, split, duplicates, leaks.

use heldout_data::answers::AnswerFacts;
use heldout_data::labelled::LabelledFacts;
use heldout_data::pairs::{PairFacts, SideFacts};
use heldout_data::{DataFacts, InputFact, Progress};
use heldout_report::format;
use heldout_train::CorpusFacts;

/// The lines that a run does not tell by itself: where the text came from, and copies in it.
pub fn brief(facts: CorpusFacts) -> Vec<(String, String)> {
    let told = ["split", "tokens", "note"];
    lines(facts).into_iter().filter(|(label, _)| !told.contains(&label.as_str())).collect()
}

/// Label and text of each line worth saying about prepared data.
pub fn lines(facts: CorpusFacts) -> Vec<(String, String)> {
    match facts {
        CorpusFacts::Text(facts) => lines_of_text(facts),
        CorpusFacts::Labelled(facts) => lines_of_labelled(facts),
        CorpusFacts::Answers(facts) => lines_of_answers(facts),
        CorpusFacts::Pairs(facts) => lines_of_pairs(facts),
    }
}

fn lines_of_labelled(facts: &LabelledFacts) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
    row("data", inputs(&facts.inputs, &format!("{} examples", format::count(examples(facts)))));
    row("fields", fields(facts));
    row("labels", label_counts(facts));
    row("split", facts.split.clone());
    let lengths = &facts.train.lengths;
    row(
        "lengths",
        format!(
            "{} tokens in the middle, 95% up to {}, the longest {}{}",
            lengths.median,
            lengths.percentile_95,
            lengths.maximum,
            match facts.train.truncated {
                0.0 => String::new(),
                cut => format!("; {:.1}% are cut to {}", 100.0 * cut, facts.max_length),
            }
        ),
    );
    let vocabulary = format::count(facts.vocabulary);
    row("tokenizer", format!("{}, {vocabulary} tokens", facts.tokenizer));
    row("duplicates", duplicates_of_labelled(facts));
    for example in facts.examples.iter().take(3) {
        let kind = match example.kind.as_str() {
            "conflict" => "has another label than",
            "near" => "is nearly the same as",
            _ => "is the same as",
        };
        row("", format!("{} {kind} {}: {:?}", example.one, example.other, example.excerpt));
    }
    for notice in facts.inferred.iter().chain(&facts.notices) {
        row("note", notice.clone());
    }
    rows
}

fn lines_of_answers(facts: &AnswerFacts) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
    let count = |of: fn(&heldout_data::answers::AnswerSplitFacts) -> u64| {
        of(&facts.train) + of(&facts.validation) + facts.test.as_ref().map_or(0, of)
    };
    let (questions, paragraphs) = (count(|s| s.questions), count(|s| s.paragraphs));
    let content = format!(
        "{} questions about {} paragraphs",
        format::count(questions),
        format::count(paragraphs)
    );
    row("data", inputs(&facts.inputs, &content));
    let unanswerable = count(|s| s.unanswerable);
    if unanswerable > 0 {
        row("no answer", format!("to {} of the questions", format::count(unanswerable)));
    }
    row("split", facts.split.clone());
    let (lengths, windows) = (&facts.train.lengths, facts.train.windows);
    row(
        "lengths",
        format!(
            "{} tokens in the middle, 95% up to {}, the longest {}; {} training questions in {} \
             windows of up to {} tokens",
            lengths.median,
            lengths.percentile_95,
            lengths.maximum,
            format::count(facts.train.questions),
            format::count(windows),
            facts.max_length,
        ),
    );
    row("tokenizer", format!("{}, {} tokens", facts.tokenizer, format::count(facts.vocabulary)));
    let copies = tell(&[
        (facts.duplicates, "repeated questions"),
        (facts.duplicates_removed, "of these taken out of training"),
        (facts.leaks, "training paragraphs also held out"),
        (facts.leaks_removed, "questions taken out of training with them"),
        (facts.leaks_validation_test, "validation paragraphs also in the test"),
    ]);
    row("duplicates", copies);
    for example in facts.examples.iter().take(3) {
        let kind = if example.kind == "near" { "is nearly the same as" } else { "is the same as" };
        row("", format!("{} {kind} {}: {:?}", example.one, example.other, example.excerpt));
    }
    for notice in &facts.notices {
        row("note", notice.clone());
    }
    rows
}

fn lines_of_pairs(facts: &PairFacts) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
    let test = facts.test.as_ref().map_or(0, |test| test.pairs);
    let pairs = facts.train.pairs + facts.validation.pairs + test;
    row("data", inputs(&facts.inputs, &format!("{} pairs", format::count(pairs))));
    row("sides", format!("from {} to {}", facts.source, facts.target));
    row("split", facts.split.clone());
    let side = |name: &str, side: &SideFacts| {
        let (lengths, cut) = (&side.lengths, side.truncated);
        let cut = match cut {
            0.0 => String::new(),
            cut => format!("; {:.1}% are cut to {}", 100.0 * cut, facts.max_length),
        };
        format!(
            "{name} {} tokens in the middle, 95% up to {}, the longest {}{cut}",
            lengths.median, lengths.percentile_95, lengths.maximum
        )
    };
    row("lengths", side("sources", &facts.train.source));
    row("", side("targets", &facts.train.target));
    let vocabulary = format::count(facts.vocabulary);
    row("tokenizer", format!("{}, {vocabulary} tokens for both sides", facts.tokenizer));
    let found = [
        (facts.duplicates, "repeated pairs"),
        (facts.duplicates_removed, "of these taken out of training"),
        (facts.leaks, "training sources also held out"),
        (facts.leaks_removed, "of these taken out of training"),
        (facts.leaks_validation_test, "validation sources also in the test"),
    ];
    row("duplicates", tell(&found));
    for example in facts.examples.iter().take(3) {
        let kind = if example.kind == "near" { "is nearly the same as" } else { "is the same as" };
        row("", format!("{} {kind} {}: {:?}", example.one, example.other, example.excerpt));
    }
    for notice in facts.inferred.iter().chain(&facts.notices) {
        row("note", notice.clone());
    }
    rows
}

fn examples(facts: &LabelledFacts) -> u64 {
    let test = facts.test.as_ref().map_or(0, |test| test.examples);
    facts.train.examples + facts.validation.examples + test
}

fn fields(facts: &LabelledFacts) -> String {
    let pair = facts.field_pair.as_ref().map(|pair| format!(" and {pair:?}")).unwrap_or_default();
    format!("text in {:?}{pair}, label in {:?}", facts.field_text, facts.field_label)
}

/// The labels with their counts in training, the first ten of them.
fn label_counts(facts: &LabelledFacts) -> String {
    const MOST: usize = 10;
    let each = facts.labels.iter().zip(&facts.train.counts).take(MOST);
    let mut told: Vec<String> =
        each.map(|(name, count)| format!("{name} {}", format::count(*count))).collect();
    if facts.labels.len() > MOST {
        told.push(format!("and {} more", facts.labels.len() - MOST));
    }
    told.join(", ")
}

fn duplicates_of_labelled(facts: &LabelledFacts) -> String {
    tell(&[
        (facts.duplicates, "repeated texts"),
        (facts.duplicates_removed, "of these taken out of training"),
        (facts.conflicts, "texts with two labels"),
        (facts.leaks, "training texts also held out"),
        (facts.leaks_removed, "of these taken out of training"),
        (facts.leaks_validation_test, "validation texts also in the test"),
    ])
}

fn tell(parts: &[(u64, &str)]) -> String {
    let parts = parts.iter().filter(|(n, _)| *n > 0);
    let parts: Vec<String> =
        parts.map(|(n, what)| format!("{} {what}", format::count(*n))).collect();
    if parts.is_empty() { "none found".to_owned() } else { parts.join(", ") }
}

/// Where the data came from: its name or the number of files, their size, and how much is in them.
fn inputs(inputs: &[InputFact], content: &str) -> String {
    let bytes: u64 = inputs.iter().map(|input| input.bytes).sum();
    let names = match inputs {
        [only] => only.path.clone(),
        several => format!("{} files", format::count(several.len() as u64)),
    };
    format!("{names}: {}, {content}", format::bytes(bytes))
}

fn lines_of_text(facts: &DataFacts) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
    let documents = match facts.documents {
        1 => "one text".to_owned(),
        n => format!("{} documents", format::count(n)),
    };
    row("data", inputs(&facts.inputs, &documents));
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
    tell(&[
        (facts.exact_duplicates, "exact copies"),
        (facts.near_duplicates, "near copies"),
        (facts.leaked_documents, "training documents also held out"),
        (facts.leaked_removed, "of these taken out of training"),
        (facts.duplicates_removed, "other copies taken out of training"),
        (facts.shared_passages, "passages in both splits"),
    ])
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
