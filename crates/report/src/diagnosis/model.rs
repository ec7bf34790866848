//! Rules about the model itself, from a look at it: calibration, memory, noise, planted strings.

use heldout_record::examination::{Canary, Examination};

use super::advice::{cite, plain};
use super::chart::Chart;
use super::{Finding, Kind, Severity};
use crate::format::{count, nats, share};

/// Expected calibration errors worth a word, and worth a warning.
const CALIBRATION: (f64, f64) = (0.02, 0.1);
/// Gains by a temperature worth a word, and worth a warning, in nats.
const TEMPERATURE_GAIN: (f64, f64) = (0.003, 0.03);
/// Shares of training windows reproduced, above the control, worth a word and a warning.
const REPRODUCED: (f64, f64) = (0.01, 0.05);
/// Estimated shares of noise.
const NOISE: f64 = 0.02;
/// A loss above this share of ln V is a model that has hardly learned: what it finds improbable
/// says nothing about the text.
const LEARNED: f64 = 0.75;
/// The best temperature of a model whose surprise can be trusted.
const FAIR: f64 = 1.15;
/// Bits of exposure from which a planted string stands out: one in a hundred by chance.
const EXPOSURE: f64 = 6.6;

pub(super) fn findings(chart: &Chart, before: &[Finding]) -> Vec<Finding> {
    let is_diverged = before.iter().any(|finding| finding.kind == Kind::Diverged);
    let Some(found) = chart.examination else { return Vec::new() };
    if is_diverged {
        // What a broken model believes says nothing about anything else.
        return Vec::new();
    }
    let single = [calibration(chart, found), memorizing(found), noisy(chart, found)];
    single.into_iter().flatten().chain(exposed(found)).collect()
}

fn calibration(chart: &Chart, found: &Examination) -> Option<Finding> {
    let c = found.calibration.as_ref()?;
    let is_off = c.error > CALIBRATION.0 && c.temperature_gain > TEMPERATURE_GAIN.0;
    if !is_off {
        return None;
    }
    let is_over = c.temperature > 1.0;
    let is_serious = c.error > CALIBRATION.1 || c.temperature_gain > TEMPERATURE_GAIN.1;
    let words = if is_over { "overconfident" } else { "underconfident" };
    let mut suggestions = vec![plain(format!(
        "generate with --temperature {:.2}, which makes probabilities fit (it gains {} nats)",
        c.temperature,
        nats(c.temperature_gain)
    ))];
    if is_over && !chart.is_live("label-smoothing") {
        suggestions.push(cite(
            "label-smoothing",
            "regularize.label-smoothing=0.05",
            "smooth the targets: it keeps a model from being surer than it can be (Müller et al. \
             2019)",
        ));
    }
    if !is_over && chart.is_live("label-smoothing") {
        suggestions.push(cite(
            "label-smoothing",
            "regularize.label-smoothing=off",
            "smooth the targets less: it teaches a model to doubt what it knows",
        ));
    }
    Some(Finding {
        kind: if is_over { Kind::Overconfident } else { Kind::Underconfident },
        severity: if is_serious { Severity::Warning } else { Severity::Note },
        sentence: format!("{words}: its probabilities are off by {} on average", share(c.error)),
        since_step: None,
        nats: Some(c.temperature_gain),
        evidence: vec![format!(
            "over {} held-out tokens the likeliest one was given {} on average and was right in \
             {}; the expected calibration error is {:.3}",
            count(c.targets),
            share(c.confidence),
            share(c.accuracy),
            c.error
        )],
        suggestions,
    })
}

/// Training windows are continued word for word more often than held-out ones, beyond three
/// standard errors of the difference of two shares.
fn memorizing(found: &Examination) -> Option<Finding> {
    let m = found.memorization.as_ref()?;
    let (train, valid) = (m.train.share(), m.valid.share());
    let excess = train - valid;
    let all = (m.train.windows + m.valid.windows).max(1) as f64;
    let pooled = (m.train.verbatim + m.valid.verbatim) as f64 / all;
    let variance = pooled * (1.0 - pooled);
    let inverse = |n: u64| 1.0 / n.max(1) as f64;
    let error = (variance * (inverse(m.train.windows) + inverse(m.valid.windows))).sqrt();
    if excess < REPRODUCED.0 || excess <= 3.0 * error || m.train.verbatim < 3 {
        return None;
    }
    let mut evidence = vec![
        format!(
            "{} of {} training windows are continued word for word ({} tokens after {}), {} of {} \
             held-out ones",
            count(m.train.verbatim),
            count(m.train.windows),
            m.continuation,
            m.prompt,
            count(m.valid.verbatim),
            count(m.valid.windows)
        ),
        format!(
            "on average {:.1} tokens are right before the first difference, against {:.1}",
            m.train.matched, m.valid.matched
        ),
    ];
    if !m.example.is_empty() {
        evidence.push(format!("such as {:?}", m.example));
    }
    Some(Finding {
        kind: Kind::Memorizing,
        severity: if excess >= REPRODUCED.1 { Severity::Warning } else { Severity::Note },
        sentence: format!("{} of the training text is known by heart", share(train)),
        since_step: None,
        nats: None,
        evidence,
        suggestions: vec![
            plain(
                "take repeated documents out of the text (data.duplicates = \"remove-all\"): what \
                 stands there twice is learned by heart first (Lee et al. 2022)",
            ),
            cite(
                "early-stopping",
                "regularize.early-stopping=\"5 evaluations\"",
                "make fewer passes: memory grows with each (Carlini et al. 2022)",
            ),
        ],
    })
}

/// Tokens rank in the lower half of the vocabulary far more often than text does.
fn noisy(chart: &Chart, found: &Examination) -> Option<Finding> {
    let i = found.improbable.as_ref()?;
    let [train, valid] = i.noise();
    let vocabulary = (i.vocabulary.max(2)) as f64;
    let loss = chart.summary.best().map_or(0.0, |best| best.loss_valid);
    let is_learned = loss < LEARNED * vocabulary.ln();
    // A model that is surer than it is right is surprised by clean text, too.
    let is_fair = found.calibration.as_ref().is_none_or(|c| c.temperature < FAIR);
    if valid < NOISE || i.below_valid < 10 || !is_learned || !is_fair {
        return None;
    }
    // What noise of share e, spread evenly over the vocabulary, adds to the entropy of sure text.
    let e = valid.min(0.99);
    let cost = e * vocabulary.ln() - e * e.ln() - (1.0 - e) * (1.0 - e).ln();
    let mut evidence = vec![
        format!(
            "of {} held-out tokens where the model was more than half sure, {} rank in the lower \
             half of the vocabulary: clean text hardly ever does, tokens put there by chance do \
             half of the time",
            count(i.targets_valid),
            count(i.below_valid)
        ),
        format!(
            "of the {} nats of held-out loss up to {} are beyond learning",
            nats(loss),
            nats(cost)
        ),
    ];
    if train < 0.5 * valid {
        evidence.push(format!(
            "in training text it is {}: the model has begun to learn the noise by heart",
            share(train)
        ));
    }
    Some(Finding {
        kind: Kind::NoisyText,
        severity: Severity::Warning,
        sentence: format!(
            "the text is noisy: about {} of its tokens look like chance",
            share(valid)
        ),
        since_step: None,
        nats: Some(cost),
        evidence,
        suggestions: vec![
            plain("clean the text: wrong encodings, markup, broken lines, scanner's errors"),
            cite(
                "early-stopping",
                "regularize.early-stopping=\"5 evaluations\"",
                "stop before the noise is learned by heart, which comes last (Arpit et al. 2017)",
            ),
            cite(
                "label-smoothing",
                "regularize.label-smoothing=0.05",
                "smooth the targets: a wrong one then weighs less",
            ),
        ],
    })
}

/// Planted strings that the model prefers to random ones of their form.
fn exposed(found: &Examination) -> Option<Finding> {
    let is_exposed = |canary: &&Canary| canary.exposure >= EXPOSURE;
    let known: Vec<&Canary> = found.canaries.iter().filter(is_exposed).collect();
    let most = known.iter().max_by(|a, b| a.exposure.total_cmp(&b.exposure))?;
    let evidence = known.iter().map(|canary| {
        let least = if canary.rank == 1 { "at least " } else { "" };
        format!(
            "{:?} ranks {} of {} strings of its form: exposure {least}{:.1} bits",
            canary.text,
            count(canary.rank),
            count(canary.candidates + 1),
            canary.exposure
        )
    });
    Some(Finding {
        kind: Kind::Exposed,
        severity: Severity::Warning,
        sentence: format!(
            "{} of {} planted strings can be told from random ones",
            count(known.len() as u64),
            count(found.canaries.len() as u64)
        ),
        since_step: None,
        nats: None,
        evidence: evidence.collect(),
        suggestions: vec![plain(format!(
            "whoever has the weights can find {:?} by trying: keep secrets out of the text, \
             remove repetitions, make fewer passes",
            most.text
        ))],
    })
}
