//! Several runs side by side: what they differ in, and which differences exceed their errors.

use std::collections::BTreeMap;

use serde::Serialize;

use super::run::RunPart;
use crate::format;
use crate::statistics::{self, normal_interval};

/// Keys that say how a run was made, not what it is.
const IRRELEVANT: [&str; 8] = [
    "run.threads",
    "run.memory",
    "run.isa",
    "run.checkpoint",
    "run.keep",
    "run.histograms",
    "batch.micro",
    "evaluate.samples",
];

/// How runs compare with the first of them.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The run that the others are compared with: the first given.
    pub reference: String,
    /// "nats_per_token"; "bits_per_byte" where tokenizers differ; absent where the held-out text
    /// differs, so that nothing can be compared.
    pub measure: Option<&'static str>,
    pub rows: Vec<ComparisonRow>,
    /// Settings in which the runs differ.
    pub varied: Vec<Varied>,
    /// Loss and gap along the only number in which they differ, where there is one.
    pub sweep: Option<KnobSweep>,
    /// What the figures do not tell, in sentences.
    pub caveats: Vec<String>,
}

/// A run's best evaluation.
#[derive(Clone, Debug, Serialize)]
pub struct ComparisonRow {
    pub run: String,
    pub step: u64,
    pub loss: f64,
    pub loss_se: f64,
    pub gap: f64,
    pub gap_se: f64,
    pub perplexity: f64,
    pub bits_per_byte: f64,
    /// How far held-out loss rose from there to the end.
    pub rise: f64,
    pub parameters: u64,
    /// Training time.
    pub seconds: f64,
    /// To the reference; absent for itself and where nothing can be compared.
    pub difference: Option<Difference>,
}

/// A difference to the reference in the comparison's measure; negative is better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub value: f64,
    pub standard_error: f64,
    /// 95% interval.
    pub low: f64,
    pub high: f64,
    /// Whether the interval leaves zero out.
    pub exceeds_noise: bool,
}

/// One setting with its value in each run, in the order of the rows; empty where it is not set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Varied {
    pub key: String,
    pub values: Vec<String>,
}

/// Loss and gap along a number.
#[derive(Clone, Debug, Serialize)]
pub struct KnobSweep {
    pub key: String,
    /// In ascending order of the value.
    pub points: Vec<KnobPoint>,
}

/// The runs at one value: the mean over them, and the mean's error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KnobPoint {
    pub value: f64,
    pub runs: usize,
    pub loss: f64,
    pub loss_se: f64,
    pub gap: f64,
    pub gap_se: f64,
}

impl Comparison {
    /// Compares the runs with the first that was evaluated.
    pub(super) fn new(runs: &[RunPart]) -> Comparison {
        let measure = measure(runs);
        let mut rows: Vec<ComparisonRow> = runs.iter().map(row).collect();
        let is_measured = |row: &&ComparisonRow| row.loss.is_finite();
        let reference = rows.iter().find(is_measured).unwrap_or(&rows[0]).clone();
        for row in rows.iter_mut().filter(|row| row.run != reference.run) {
            row.difference = measure.and_then(|measure| difference(row, &reference, measure));
        }
        let varied = varied(runs);
        Comparison {
            sweep: sweep(&rows, &varied),
            caveats: caveats(runs, measure, &varied),
            reference: reference.run,
            measure,
            rows,
            varied,
        }
    }

    /// The result in sentences.
    pub(super) fn lead(&self) -> Vec<String> {
        let measured = self.rows.iter().filter(|row| row.loss.is_finite());
        let Some(best) = measured.min_by(|a, b| self.figure(a).total_cmp(&self.figure(b))) else {
            return vec!["No run was evaluated yet.".to_owned()];
        };
        if self.measure.is_none() {
            return self.caveats.iter().take(1).cloned().collect();
        }
        let (figure, unit) = (format::nats(self.figure(best)), self.unit());
        let mut lead = vec![format!("{} is best on held-out text: {figure} {unit}.", best.run)];
        lead.splice(0..0, self.over_seeds());
        let others = self.rows.iter().filter(|row| row.difference.is_some());
        let (clear, within): (Vec<_>, Vec<_>) =
            others.partition(|row| row.difference.is_some_and(|d| d.exceeds_noise));
        let names = |rows: &[&ComparisonRow]| {
            rows.iter().map(|row| row.run.as_str()).collect::<Vec<_>>().join(", ")
        };
        if !clear.is_empty() {
            let verb = if clear.len() == 1 { "differs" } else { "differ" };
            let clear = names(&clear);
            lead.push(format!("{clear} {verb} from {} by more than the error.", self.reference));
        }
        if !within.is_empty() {
            let verb = if within.len() == 1 { "does" } else { "do" };
            lead.push(format!("{} {verb} not, as far as can be told.", names(&within)));
        }
        lead
    }

    /// Where the runs differ in nothing but their seed: their mean.
    fn over_seeds(&self) -> Option<String> {
        let is_seed = |varied: &Varied| varied.key == "run.seed";
        let losses: Vec<f64> = self.rows.iter().map(|row| row.loss).collect();
        let mean = statistics::estimate(&losses).filter(|mean| mean.mean.is_finite())?;
        (!self.varied.is_empty() && self.varied.iter().all(is_seed)).then(|| {
            let loss = crate::summary::plus_minus(mean.mean, mean.standard_error);
            let n = mean.n;
            format!("The {n} runs differ in their seed alone: held-out loss {loss} over seeds.")
        })
    }

    /// A row's figure in the comparison's measure.
    pub fn figure(&self, row: &ComparisonRow) -> f64 {
        if self.measure == Some("bits_per_byte") { row.bits_per_byte } else { row.loss }
    }

    /// The measure in words.
    pub fn unit(&self) -> &'static str {
        if self.measure == Some("bits_per_byte") { "bits per byte" } else { "nats per token" }
    }
}

/// Gives runs of the same name as much of their path as tells them apart.
pub(super) fn tell_apart(runs: &mut [RunPart]) {
    let mut count = BTreeMap::<String, usize>::new();
    runs.iter().for_each(|run| *count.entry(run.name.clone()).or_default() += 1);
    for run in runs.iter_mut().filter(|run| count[&run.name] > 1) {
        run.name = run.path.trim_end_matches('/').to_owned();
    }
}

fn measure(runs: &[RunPart]) -> Option<&'static str> {
    let same = |of: &dyn Fn(&RunPart) -> Option<String>| {
        runs.windows(2).all(|pair| of(&pair[0]) == of(&pair[1]))
    };
    let setting = |key: &'static str| move |run: &RunPart| run.setting(key).map(str::to_owned);
    let is_same_text = same(&|run| run.content_hash().map(str::to_owned))
        && same(&setting("data.validation"))
        && same(&setting("evaluate.windows"));
    let is_same_tokens = same(&setting("data.tokenizer"))
        && same(&|run| run.started.as_ref().map(|s| format!("{}", s.vocabulary)));
    match (is_same_text, is_same_tokens) {
        (false, _) => None,
        (true, true) => Some("nats_per_token"),
        (true, false) => Some("bits_per_byte"),
    }
}

fn row(run: &RunPart) -> ComparisonRow {
    let best = run.best.as_ref();
    let of = |value: fn(&heldout_record::EvaluationRecord) -> f64| best.map_or(f64::NAN, value);
    let last = run.last.as_ref().map_or(f64::NAN, |last| last.loss_valid);
    ComparisonRow {
        run: run.name.clone(),
        step: best.map_or(0, |best| best.step),
        loss: of(|e| e.loss_valid),
        loss_se: of(|e| e.loss_valid_se),
        gap: of(|e| e.gap),
        gap_se: of(|e| e.gap_se),
        perplexity: of(|e| e.perplexity),
        bits_per_byte: of(|e| e.bits_per_byte),
        rise: last - of(|e| e.loss_valid),
        parameters: run.started.as_ref().map_or(0, |s| s.parameters),
        seconds: run.seconds,
        difference: None,
    }
}

fn difference(row: &ComparisonRow, to: &ComparisonRow, measure: &str) -> Option<Difference> {
    let figure = |row: &ComparisonRow| match measure {
        "bits_per_byte" => {
            (row.bits_per_byte, row.loss_se * row.bits_per_byte / row.loss.max(1e-12))
        }
        _ => (row.loss, row.loss_se),
    };
    let ((a, a_se), (b, b_se)) = (figure(row), figure(to));
    let (value, standard_error) = (a - b, a_se.hypot(b_se));
    let interval = normal_interval(value, standard_error, 0.95);
    let exceeds_noise = interval.low > 0.0 || interval.high < 0.0;
    let found =
        Difference { value, standard_error, low: interval.low, high: interval.high, exceeds_noise };
    (value.is_finite() && standard_error.is_finite()).then_some(found)
}

fn varied(runs: &[RunPart]) -> Vec<Varied> {
    let settings: Vec<_> = runs.iter().map(settings).collect();
    let mut keys: Vec<&String> = Vec::new();
    for key in settings.iter().flatten().map(|(key, _)| key) {
        if !keys.contains(&key) && !IRRELEVANT.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let value = |settings: &[(String, String)], key: &String| {
        let found = settings.iter().find(|(name, _)| name == key);
        found.map_or_else(String::new, |(_, value)| value.clone())
    };
    keys.into_iter()
        .map(|key| Varied {
            key: key.clone(),
            values: settings.iter().map(|settings| value(settings, key)).collect(),
        })
        .filter(|varied| varied.values.windows(2).any(|pair| pair[0] != pair[1]))
        .collect()
}

/// The recipe's values, inline tables taken apart: `regularize.dropout.rate`.
fn settings(run: &RunPart) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    for line in &run.recipe {
        let inner = line.value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        match inner {
            Some(inner) => settings.extend(
                pairs(inner).into_iter().map(|(key, value)| (format!("{}.{key}", line.key), value)),
            ),
            None => settings.push((line.key.clone(), line.value.clone())),
        }
    }
    settings
}

/// `a = 1, b = [2, 3]` as pairs; commas inside brackets and strings do not part.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut parts = vec![String::new()];
    let (mut depth, mut is_quoted) = (0, false);
    for c in text.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            '[' | '{' if !is_quoted => depth += 1,
            ']' | '}' if !is_quoted => depth -= 1,
            ',' if !is_quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("there is one from the start").push(c);
    }
    let pair = |part: &String| {
        let (key, value) = part.split_once('=')?;
        Some((key.trim().to_owned(), value.trim().to_owned()))
    };
    parts.iter().filter_map(pair).collect()
}

fn sweep(rows: &[ComparisonRow], varied: &[Varied]) -> Option<KnobSweep> {
    let others: Vec<&Varied> = varied.iter().filter(|varied| varied.key != "run.seed").collect();
    let [knob] = others.as_slice() else { return None };
    // A technique that is off has no strength.
    let number = |text: &String| match text.as_str() {
        "false" => Some(0.0),
        text => text.parse::<f64>().ok().filter(|value| value.is_finite()),
    };
    let values: Vec<f64> = knob.values.iter().map(number).collect::<Option<_>>()?;
    let mut distinct = values.clone();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    let at = |value: f64| {
        let here =
            rows.iter().zip(&values).filter(|(row, at)| **at == value && row.loss.is_finite());
        point(value, &here.map(|(row, _)| row).collect::<Vec<_>>())
    };
    let points: Vec<KnobPoint> = distinct.into_iter().filter_map(at).collect();
    (points.len() > 1).then(|| KnobSweep { key: knob.key.clone(), points })
}

/// The mean over runs: errors of the held-out sample, and of the seed where there are several.
fn point(value: f64, rows: &[&ComparisonRow]) -> Option<KnobPoint> {
    let n = rows.len() as f64;
    let mean = |of: fn(&ComparisonRow) -> f64| rows.iter().map(|row| of(row)).sum::<f64>() / n;
    let spread = |of: fn(&ComparisonRow) -> f64| {
        let values: Vec<f64> = rows.iter().map(|row| of(row)).collect();
        statistics::estimate(&values).map_or(0.0, |e| e.standard_error)
    };
    (!rows.is_empty()).then(|| KnobPoint {
        value,
        runs: rows.len(),
        loss: mean(|row| row.loss),
        loss_se: mean(|row| row.loss_se).hypot(spread(|row| row.loss)),
        gap: mean(|row| row.gap),
        gap_se: mean(|row| row.gap_se).hypot(spread(|row| row.gap)),
    })
}

fn caveats(runs: &[RunPart], measure: Option<&str>, varied: &[Varied]) -> Vec<String> {
    let mut caveats = Vec::new();
    match measure {
        None => caveats.push(
            "The runs were not measured on the same held-out text, so their losses cannot be \
             compared; `heldout evaluate RUN TEXT` measures each on the same text."
                .to_owned(),
        ),
        Some("bits_per_byte") => caveats.push(
            "The runs cut text into tokens differently: they are compared in bits per byte."
                .to_owned(),
        ),
        Some(_) => {}
    }
    if measure.is_some() {
        caveats.push(
            "Intervals count the error of the held-out sample as if it were independent in each \
             run (it is the same text: they are wide on that account), and not the luck of the \
             seed. `heldout ablate` compares arms over paired seeds."
                .to_owned(),
        );
    }
    let unfinished: Vec<&str> =
        runs.iter().filter(|run| run.stopped.is_none()).map(|run| run.name.as_str()).collect();
    if !unfinished.is_empty() {
        caveats.push(format!("Not ended yet: {}.", unfinished.join(", ")));
    }
    if runs.iter().any(|run| run.recipe.is_empty()) {
        caveats.push("A run without its recipe cannot be told apart by its settings.".to_owned());
    } else if varied.is_empty() {
        caveats.push("The runs do not differ in any setting that matters.".to_owned());
    }
    caveats
}
