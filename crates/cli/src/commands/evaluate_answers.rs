//! What `heldout evaluate` prints of a model that answers questions: scores with intervals, simple
//! methods beside them, and what it is most wrong about.

use std::path::Path;
use std::sync::Arc;

use heldout_data::answers::AnswerFields;
use heldout_kernels::Device;
use heldout_report::summary::plus_minus;
use heldout_report::{format, wrap};
use heldout_train::{AnswerEvaluation, BesideAnswers, Estimate, Split, evaluate_answers};

use crate::console::{Console, Output};
use crate::failure::{DONE, Failure};
use crate::outcome::print_table;

/// Scores, and prints the figures.
pub fn run(
    path: &Path,
    which: Result<Split, (&[String], &AnswerFields)>,
    device: Arc<Device>,
    console: &Console,
) -> Result<i32, Failure> {
    let evaluation = evaluate_answers(path, which, device, None)?;
    match console.output {
        Output::Json => console.out_json(&evaluation)?,
        Output::Text => print(&evaluation, console)?,
    }
    Ok(DONE)
}

/// Characters of a question that is told as wrong.
const TEXT_CHARACTERS: usize = 160;

fn print(e: &AnswerEvaluation, console: &Console) -> Result<(), Failure> {
    let row = |label: &str, text: String| (label.to_owned(), text);
    let unanswerable = match e.unanswerable {
        0 => String::new(),
        n => format!(", {} without an answer", format::count(n)),
    };
    let size = format!("{}: {} questions{unanswerable}", e.data, format::count(e.questions));
    let mut rows = vec![row("data", wrap::truncate(&size, 400))];
    rows.extend(e.metrics.iter().map(|estimate| row(name(estimate), figure(estimate))));
    rows.push(row("loss", format!("{} nats/question", plus_minus(e.loss, e.loss_se))));
    rows.extend(e.baselines.iter().map(|beside| row("baseline", sentence(beside))));
    if let Some(why) = &e.baselines_missing {
        rows.push(row("baseline", format!("none: {why}")));
    }
    print_table(&rows, console)?;
    if !e.most_wrong.is_empty() {
        console.out("\nmost wrong")?;
    }
    for wrong in &e.most_wrong {
        let said = |words: &str| match words {
            "" => "no answer".to_owned(),
            words => format!("{words:?}"),
        };
        console.out(&format!(
            "  {}: {} said for {} (F1 {}, given {}%)",
            wrap::truncate(&wrong.question, TEXT_CHARACTERS),
            wrap::truncate(&said(&wrong.said), TEXT_CHARACTERS),
            wrap::truncate(&said(&wrong.answer), TEXT_CHARACTERS),
            format::fixed(wrong.f1, 2),
            format::fixed(100.0 * wrong.score, 0),
        ))?;
    }
    Ok(())
}

/// Labels have ten characters' room.
fn name(e: &Estimate) -> &str {
    if e.name == "exact-match" { "exact" } else { &e.name }
}

fn figure(e: &Estimate) -> String {
    let [value, low, high] = [e.value, e.low, e.high].map(|v| format::fixed(v, 4));
    let meaning = match e.name.as_str() {
        "exact-match" => ", share of answers that match a right one (SQuAD)",
        "f1" => ", mean over questions of the words' F1 (SQuAD)",
        _ => "",
    };
    format!("{value}, 95%: {low} to {high}{meaning}")
}

/// What a simple method reaches, and whether the network beats it.
fn sentence(beside: &BesideAnswers) -> String {
    let percent = |share: f64| format::fixed(100.0 * share, 1);
    let verdict = if beside.low > 0.0 {
        "the network beats it by"
    } else if beside.high < 0.0 {
        "the network does not beat it: it is better by"
    } else {
        "the network does not clearly beat it:"
    };
    format!(
        "{}: exact match {}%, F1 {}%; {verdict} {} points of F1 (95%: {} to {})",
        beside.name,
        percent(beside.exact_match),
        percent(beside.f1),
        percent(if beside.high < 0.0 { -beside.better } else { beside.better }),
        percent(beside.low),
        percent(beside.high),
    )
}
