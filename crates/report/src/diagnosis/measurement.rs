//! Rules about what the figures mean: leaks, a validation split that is too small, techniques that
//! did nothing.

use super::advice::{Suggestion, cite, plain, set};
use super::chart::Chart;
use super::{Finding, Kind, Severity};
use crate::format::{count, nats, share};

/// Share of held-out text known from training that makes its loss doubtful, and worthless.
const LEAK: (f64, f64) = (0.05, 0.2);
/// Bits per byte that no model of this size reaches on text it has not seen, unless the text is
/// very regular: the best large models come to about 0.6 on English.
const BITS_SUSPICIOUS: f64 = 0.5;
/// Standard errors of the held-out loss above which single techniques cannot be told apart (they
/// are worth 0.01 to 0.05 nats), and above which hardly anything can.
const ERROR: (f64, f64) = (0.03, 0.15);
/// Held-out text that is this much easier, and three standard errors, is of another kind.
const EASIER_NATS: f64 = 0.03;
/// Weights shrunk by less than this over the whole run were not decayed.
const SHRUNK: f64 = 0.005;
/// Steps below which it cannot be said that clipping never acts.
const STEPS_TO_CLIP: usize = 50;
/// A penalty below this share of the loss moves nothing.
const PENALTY_SHARE: f64 = 1e-4;

/// `before` is what is already known about the optimization.
pub(super) fn findings(chart: &Chart, before: &[Finding]) -> Vec<Finding> {
    let has = |kind: Kind| before.iter().any(|finding| finding.kind == kind);
    let leak = leaking(chart);
    if has(Kind::Diverged) {
        // Its losses and its errors are those of a broken model.
        return leak.into_iter().collect();
    }
    let easier = if leak.is_some() { None } else { easier_held_out(chart) };
    let single = [leak, small_validation(chart), easier];
    // Where hardly anything moved, nothing else can have acted.
    let dead = if has(Kind::RateTooLow) { None } else { dead_techniques(chart) };
    single.into_iter().flatten().chain(dead).collect()
}

/// Held-out text stands in training: documents, passages, or windows token for token. In runs that
/// recorded no facts about their data: a loss that is too good, without a gap, after many passes.
fn leaking(chart: &Chart) -> Option<Finding> {
    let mut evidence = Vec::new();
    let mut shares = Vec::new();
    if let Some(data) = chart.data() {
        let leaked = data.leaked_documents.saturating_sub(data.leaked_removed);
        if leaked > 0 {
            evidence.push(format!(
                "{} training documents also stand, or nearly stand, among the {} held-out ones \
                 and were left in training",
                count(leaked),
                count(data.documents_valid)
            ));
            shares.push(leaked as f64 / data.documents_valid.max(1) as f64);
        }
        let passages = data.shared_passage_bytes as f64 / data.bytes_valid.max(1) as f64;
        if passages >= LEAK.0 {
            evidence.push(format!(
                "{} of the held-out text lies in {} passages that stand word for word in training",
                share(passages),
                count(data.shared_passages)
            ));
            shares.push(passages);
        }
        if !evidence.is_empty() && !data.example.is_empty() {
            evidence.push(format!("such as {}", data.example));
        }
    }
    if let Some(overlap) = chart.examination.and_then(|found| found.overlap.as_ref()) {
        let found = overlap.found as f64 / overlap.windows.max(1) as f64;
        if overlap.found >= 3 && found >= LEAK.0 {
            evidence.push(format!(
                "{} of {} held-out windows stand token for token ({} tokens) in the training text",
                count(overlap.found),
                count(overlap.windows),
                overlap.length
            ));
            shares.push(found);
        }
    }
    let suspicion = if chart.data().is_none() { suspicion(chart) } else { None };
    let is_suspected = evidence.is_empty() && suspicion.is_some();
    evidence.extend(suspicion);
    if evidence.is_empty() {
        return None;
    }
    evidence.extend(no_gap(chart));
    let most = shares.iter().copied().fold(0.0, f64::max);
    let sentence = if is_suspected {
        "leaking, it seems: held-out text is predicted as well as training text, and too well"
            .to_owned()
    } else {
        format!("leaking: {} of the held-out text is known from training", share(most.min(1.0)))
    };
    Some(Finding {
        kind: Kind::Leaking,
        severity: if most >= LEAK.1 { Severity::Bad } else { Severity::Warning },
        sentence,
        since_step: None,
        nats: None,
        evidence,
        suggestions: close_leak(),
    })
}

fn close_leak() -> Vec<Suggestion> {
    vec![
        set(
            "data.duplicates=\"remove-leaks\"",
            "take documents that also stand in held-out text out of training",
        ),
        plain(
            "split by document or by source rather than in the middle of a text, and hold out \
             what is new: the held-out loss of this run says little about other text",
        ),
    ]
}

/// The losses side by side, where they are alike.
fn no_gap(chart: &Chart) -> Option<String> {
    let last = chart.last()?;
    let is_alike = last.gap <= 3.0 * last.gap_se || last.gap < 0.1 * last.loss_train;
    is_alike.then(|| {
        format!(
            "after {:.1} passes the held-out loss ({}) is hardly above the training loss ({})",
            last.epoch,
            nats(last.loss_valid),
            nats(last.loss_train)
        )
    })
}

fn suspicion(chart: &Chart) -> Option<String> {
    let last = chart.last()?;
    let is_alike = last.gap <= 2.0 * last.gap_se;
    let is_too_good = last.bits_per_byte > 0.0 && last.bits_per_byte < BITS_SUSPICIOUS;
    (is_alike && is_too_good && last.epoch >= 2.0).then(|| {
        format!(
            "held-out text takes {:.2} bits a byte; large models come to about 0.6 on English \
             (a text as regular as a table may be that easy)",
            last.bits_per_byte
        )
    })
}

/// The standard error of the held-out loss is larger than the differences that it must tell.
fn small_validation(chart: &Chart) -> Option<Finding> {
    let judged = chart.summary.best().or_else(|| chart.last())?;
    let error = judged.loss_valid_se;
    if !error.is_finite() || error <= ERROR.0 {
        return None;
    }
    let mut evidence = vec![format!(
        "the held-out loss is known to ± {} (one standard error): two runs must differ by about \
         {} before it means anything, and single techniques are worth 0.01 to 0.05",
        nats(error),
        nats(2.0 * error)
    )];
    let near = chart.evaluations().iter().filter(|e| e.loss_valid <= judged.loss_valid + error);
    let near: Vec<u64> = near.map(|e| e.step).collect();
    if let [first, .., last] = near.as_slice() {
        evidence.push(format!(
            "{} evaluations, from step {} to step {}, lie within one error of the best: which \
             weights are best is chance",
            near.len(),
            count(*first),
            count(*last)
        ));
    }
    let (unit, tokens) = held_out(chart);
    let is_sample = judged.targets_valid > 0 && judged.targets_valid + 1 < tokens;
    let mut suggestions = Vec::new();
    if is_sample {
        evidence.push(format!(
            "{} of the {} held-out {unit} were scored in each evaluation",
            count(judged.targets_valid),
            count(tokens)
        ));
        suggestions
            .push(set("evaluate.windows=\"all\"", "score the whole held-out split each time"));
    }
    let scored = if judged.targets_valid > 0 { judged.targets_valid } else { tokens };
    let needed = (scored as f64 * (error / 0.01).powi(2)).round() as u64;
    suggestions.push(set(
        "data.validation=\"last 20%\"",
        format!(
            "hold out more text: an error of 0.01 nats takes about {} {unit} (the error falls \
             with their square root)",
            count(needed)
        ),
    ));
    suggestions.push(plain("or train each setting with several seeds and compare the means"));
    Some(Finding {
        kind: Kind::SmallValidation,
        severity: if error > ERROR.1 { Severity::Bad } else { Severity::Warning },
        sentence: format!(
            "the held-out split is too small: its loss is known to ± {} nats only",
            nats(error)
        ),
        since_step: None,
        nats: Some(error),
        evidence,
        suggestions,
    })
}

fn easier_held_out(chart: &Chart) -> Option<Finding> {
    let last = chart.last()?;
    let is_easier = last.gap < -EASIER_NATS && last.gap < -3.0 * last.gap_se;
    is_easier.then(|| Finding {
        kind: Kind::EasierHeldOut,
        severity: Severity::Note,
        sentence: format!(
            "held-out text is easier than training text, by {} nats",
            nats(-last.gap)
        ),
        since_step: None,
        nats: Some(-last.gap),
        evidence: vec![format!(
            "at step {} the same evaluation gives {} on training and {} on held-out text, far \
             beyond their errors: the two are different kinds of text",
            count(last.step),
            nats(last.loss_train),
            nats(last.loss_valid)
        )],
        suggestions: vec![set(
            "data.validation=0.1",
            "hold out documents drawn from the whole corpus rather than its end",
        )],
    })
}

/// One finding for all techniques that did nothing.
fn dead_techniques(chart: &Chart) -> Option<Finding> {
    let mut dead: Vec<(String, String, Suggestion)> = Vec::new();
    dead.extend(without_receipt(chart));
    dead.extend(clipping_never(chart));
    dead.extend(decay_too_weak(chart));
    dead.extend(["l1", "l2"].into_iter().filter_map(|name| penalty_too_weak(chart, name)));
    dead.extend(average_too_short(chart));
    if dead.is_empty() {
        return None;
    }
    let names: Vec<&str> = dead.iter().map(|(name, ..)| name.as_str()).collect();
    let sentence = format!("{} had no effect to speak of", names.join(" and "));
    Some(Finding {
        kind: Kind::DeadTechnique,
        severity: Severity::Warning,
        sentence,
        since_step: None,
        nats: None,
        evidence: dead.iter().map(|(_, why, _)| why.clone()).collect(),
        suggestions: dead.into_iter().map(|(.., suggestion)| suggestion).collect(),
    })
}

type Dead = (String, String, Suggestion);

/// Planned, and no receipt proves that it is live: the run ended over it, or is of another version.
fn without_receipt(chart: &Chart) -> Vec<Dead> {
    if chart.summary.receipts.is_empty() && !chart.steps.is_empty() {
        // Runs that recorded no receipt at all prove nothing about any of them.
        return Vec::new();
    }
    let missing = chart.planned.iter().filter(|name| !chart.is_live(name));
    missing
        .map(|name| {
            let why = format!("{name} is in the plan, but no receipt proves that it acts");
            let text = format!("change what keeps {name} from acting, or remove it");
            let suggestion = Suggestion { text, technique: Some(name.clone()), setting: None };
            (name.clone(), why, suggestion)
        })
        .collect()
}

fn clipping_never(chart: &Chart) -> Option<Dead> {
    let share = chart.vitals.clipped_share?;
    if share > 0.0 || chart.steps.len() < STEPS_TO_CLIP {
        return None;
    }
    let (most, steps) = (chart.vitals.gradient_norm_most, chart.vitals.steps);
    let name = "gradient-clipping";
    let why = format!(
        "{name} clipped none of {} steps: the largest gradient norm was {most:.3}",
        count(steps)
    );
    let setting = format!("regularize.gradient-clipping={:.2}", most / 2.0);
    Some((name.to_owned(), why, cite(name, &setting, "lower the limit, or remove it")))
}

/// What decay alone left of a weight over the run: Π(1 − η_t·λ), from the receipt's multiplier at
/// the peak rate and the recorded rates.
fn decay_too_weak(chart: &Chart) -> Option<Dead> {
    let name = "weight-decay";
    let multiplier = chart.measured(name, "multiplier")?;
    let peak = chart.steps.iter().map(|step| step.learning_rate).fold(0.0, f64::max);
    let last = chart.steps.last()?.step;
    if peak <= 0.0 {
        return None;
    }
    let mean = chart.steps.iter().map(|step| step.learning_rate / peak).sum::<f64>()
        / chart.steps.len() as f64;
    let shrunk = (1.0 - multiplier) * mean * last as f64;
    (shrunk.abs() < SHRUNK).then(|| {
        let why = format!(
            "{name} alone would have shrunk a weight by {} over all {} steps",
            share(shrunk.abs()),
            count(last)
        );
        let text = "decay more strongly: on fixed data up to 30 times the usual 0.1 is right \
                    (Kim et al. 2025); or remove it";
        (name.to_owned(), why, cite(name, "regularize.weight-decay=0.3", text))
    })
}

/// λΣ|w| or λΣw² is nothing beside the loss.
fn penalty_too_weak(chart: &Chart, name: &str) -> Option<Dead> {
    let penalty = chart.measured(name, "penalty")?;
    let loss = chart.steps.first()?.loss_train;
    (penalty < PENALTY_SHARE * loss).then(|| {
        let why =
            format!("the penalty of {name} was {penalty:.1e} nats beside a loss of {loss:.2}");
        let text = format!("raise the strength of {name} until its penalty can be felt");
        let suggestion = Suggestion { text, technique: Some(name.to_owned()), setting: None };
        (name.to_owned(), why, suggestion)
    })
}

/// The average ended where the weights are: it remembers too short a time.
/// What losses are means over, and how many the held-out split has.
fn held_out(chart: &Chart) -> (&'static str, u64) {
    match chart.started() {
        Some(started) if !started.labels.is_empty() => {
            ("texts", started.data.as_ref().map_or(0, |data| data.documents_valid))
        }
        Some(started) if started.answers_questions() => {
            ("questions", started.data.as_ref().map_or(0, |data| data.documents_valid))
        }
        Some(started) if started.is_masked() => {
            ("masked tokens", chart.last().map_or(0, |last| last.targets_valid))
        }
        Some(started) if started.is_seq2seq() => {
            ("target tokens", chart.last().map_or(0, |last| last.targets_valid))
        }
        started => ("tokens", started.map_or(0, |started| started.tokens_valid)),
    }
}

fn average_too_short(chart: &Chart) -> Option<Dead> {
    let distance = chart.measured("ema", "distance")?;
    (distance < 1e-5).then(|| {
        let why = format!("the average ended {} away from the weights", share(distance));
        let text = "lengthen the average's memory, or remove it";
        ("ema".to_owned(), why, cite("ema", "regularize.ema=0.99", text))
    })
}
