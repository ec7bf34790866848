//! What `heldout evaluate` prints of a classifier: scores with intervals, simple methods beside
//! them, who is taken for whom, and what it is most wrong about.

use std::path::Path;
use std::sync::Arc;

use heldout_data::labelled::FieldNames;
use heldout_kernels::Device;
use heldout_report::summary::plus_minus;
use heldout_report::{format, wrap};
use heldout_train::{BesideLabels, Estimate, LabelEvaluation, Split, evaluate_labels};

use crate::console::{Console, Output};
use crate::failure::{DONE, Failure};
use crate::outcome::print_table;

/// Scores, and prints the figures.
pub fn run(
    path: &Path,
    which: Result<Split, (&[String], &FieldNames)>,
    device: Arc<Device>,
    console: &Console,
) -> Result<i32, Failure> {
    let evaluation = evaluate_labels(path, which, device)?;
    match console.output {
        Output::Json => console.out_json(&evaluation)?,
        Output::Text => print(&evaluation, console)?,
    }
    Ok(DONE)
}

/// Labels that a table of who is taken for whom has room for.
const LABELS_MOST: usize = 12;
/// Characters of a text that is told as wrong.
const TEXT_CHARACTERS: usize = 160;

fn print(e: &LabelEvaluation, console: &Console) -> Result<(), Failure> {
    let row = |label: &str, text: String| (label.to_owned(), text);
    let size = format!("{}: {} texts", e.data, format::count(e.examples));
    let mut rows = vec![row("data", wrap::truncate(&size, 400))];
    rows.extend(e.metrics.iter().map(|estimate| row(&estimate.name, figure(estimate))));
    rows.push(row("loss", format!("{} nats/text", plus_minus(e.loss, e.loss_se))));
    rows.extend(e.baselines.iter().map(|beside| row("baseline", sentence(beside))));
    if let Some(why) = &e.baselines_missing {
        rows.push(row("baseline", format!("none: {why}")));
    }
    print_table(&rows, console)?;
    console.out("")?;
    each_label(e, console)?;
    if e.labels.len() <= LABELS_MOST {
        console.out("")?;
        confusion(e, console)?;
    }
    if !e.most_wrong.is_empty() {
        console.out("\nmost wrong")?;
    }
    for wrong in &e.most_wrong {
        let text = wrong.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let share = format::fixed(100.0 * wrong.probability, 1);
        console.out(&format!(
            "  line {}: {} taken for {} ({share}% given to what is right): {}",
            wrong.line,
            wrong.label,
            wrong.said,
            wrap::truncate(&text, TEXT_CHARACTERS)
        ))?;
    }
    Ok(())
}

fn figure(e: &Estimate) -> String {
    let [value, low, high] = [e.value, e.low, e.high].map(|v| format::fixed(v, 4));
    let meaning = match e.name.as_str() {
        "f1" => ", the mean over labels",
        "mcc" => ", Matthews correlation",
        "auroc" => ", area under the ROC curve",
        "ece" => ", expected calibration error",
        _ => "",
    };
    format!("{value}, 95%: {low} to {high}{meaning}")
}

/// What a simple method reaches, and whether the network beats it.
fn sentence(beside: &BesideLabels) -> String {
    let percent = |share: f64| format::fixed(100.0 * share, 1);
    let verdict = if beside.low > 0.0 {
        "the network beats it by"
    } else if beside.high < 0.0 {
        "the network does not beat it: it is better by"
    } else {
        "the network does not clearly beat it:"
    };
    format!(
        "{}: {}% right; {verdict} {} points (95%: {} to {})",
        beside.name,
        percent(beside.accuracy),
        percent(if beside.high < 0.0 { -beside.better } else { beside.better }),
        percent(beside.low),
        percent(beside.high),
    )
}

fn each_label(e: &LabelEvaluation, console: &Console) -> Result<(), Failure> {
    let width = width_of(&e.labels);
    console.out(&format!("{:width$}  precision  recall      f1   texts", "label"))?;
    for class in &e.classes {
        let [precision, recall, f1] =
            [class.precision, class.recall, class.f1].map(|v| format::fixed(v, 4));
        console.out(&format!(
            "{:width$}  {precision:>9}  {recall:>6}  {f1:>6}  {:>6}",
            wrap::truncate(&class.label, width),
            format::count(class.support)
        ))?;
    }
    Ok(())
}

/// Rows by what is right, columns by what was said.
fn confusion(e: &LabelEvaluation, console: &Console) -> Result<(), Failure> {
    let width = width_of(&e.labels);
    let name = |label: &String| wrap::truncate(label, width);
    let heads: Vec<String> = e.labels.iter().map(|l| format!("{:>width$}", name(l))).collect();
    console.out(&format!("{:width$}  {}  <- said", "right", heads.join("  ")))?;
    for (label, counts) in e.labels.iter().zip(&e.confusion) {
        let cells: Vec<String> =
            counts.iter().map(|n| format!("{:>width$}", format::count(*n))).collect();
        console.out(&format!("{:width$}  {}", name(label), cells.join("  ")))?;
    }
    Ok(())
}

fn width_of(labels: &[String]) -> usize {
    labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).clamp(6, 16)
}
