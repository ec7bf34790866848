//! The network against an n-gram model of the same tokens: better, level, or not even that.

use heldout_record::{
    AnswerBaselineRecord, AnswerFigures, BaselineRecord, BesideRecord, EvaluationRecord,
    LabelBaselineRecord, TextBaselineRecord,
};
use serde::Serialize;

use crate::format;

/// How far the network's loss lies below the n-gram model's, on the same windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// Nats per token that the network is better by; negative where it is worse.
    pub better: f64,
    /// Its standard error.
    pub better_se: f64,
}

impl Standing {
    /// From the losses of network and n-gram model with their standard errors. Both are over the
    /// same windows, whose difficulty they share, so the error of the difference is smaller than
    /// the one given here: nothing is called better too early.
    pub fn apart(network: (f64, f64), ngram: (f64, f64)) -> Standing {
        Standing { better: ngram.0 - network.0, better_se: network.1.hypot(ngram.1) }
    }

    /// Whether the network is better by more than two standard errors.
    pub fn is_better(&self) -> bool {
        self.better > 2.0 * self.better_se
    }

    /// What a person should know.
    pub fn sentence(&self) -> String {
        let nats = format::nats(self.better.abs());
        if !self.better.is_finite() {
            "the network's loss is not a number".to_owned()
        } else if self.is_better() {
            format!("the network is {nats} nats better")
        } else if self.better < -2.0 * self.better_se {
            format!("the network does not beat it: it is {nats} nats worse")
        } else {
            let side = if self.better < 0.0 { "worse" } else { "better" };
            format!("the network does not clearly beat it ({nats} nats {side}, within the error)")
        }
    }
}

/// `n-gram (order 5, modified Kneser-Ney)`; of order 1 what it goes by.
pub fn model(baseline: &BaselineRecord) -> String {
    if baseline.order == 1 && baseline.choice.is_empty() {
        return baseline.smoothing.clone();
    }
    format!("n-gram (order {}, {})", baseline.order, baseline.smoothing)
}

/// Always the commonest label, and a bag of words, with what they reach on held-out texts.
pub fn labels(baseline: &LabelBaselineRecord) -> String {
    let percent = |share: f64| format::fixed(100.0 * share, 1);
    format!(
        "always {:?}: {}% right; a bag of words and pairs of words ({} of them, {} hidden): {}%, \
         the accuracy to beat",
        baseline.label,
        percent(baseline.majority.accuracy),
        format::count(baseline.features),
        baseline.hidden,
        percent(baseline.bag.accuracy),
    )
}

/// How a classifier stands against the better of the simple methods.
pub fn labels_standing(best: &EvaluationRecord, baseline: &LabelBaselineRecord) -> Option<String> {
    let accuracy = best.metrics.iter().find(|metric| metric.name == "accuracy")?.valid;
    let (name, beaten) = match baseline.bag.accuracy >= baseline.majority.accuracy {
        true => ("the bag of words", baseline.bag.accuracy),
        false => ("the commonest label", baseline.majority.accuracy),
    };
    let n = baseline.examples.max(1) as f64;
    let variance = |share: f64| share * (1.0 - share) / n;
    // Both saw the same texts, so the error of the difference is smaller than this.
    let error = (variance(accuracy) + variance(beaten)).sqrt();
    let points = format::fixed(100.0 * (accuracy - beaten).abs(), 1);
    let better = accuracy - beaten;
    Some(if better > 2.0 * error {
        format!("the network beats {name} by {points} points")
    } else if better < -2.0 * error {
        format!("the network does not beat {name}: it is {points} points worse")
    } else {
        let side = if better < 0.0 { "worse" } else { "better" };
        format!("the network does not clearly beat {name} ({points} points {side})")
    })
}

/// The rule that counts words, with what it reaches on held-out questions.
pub fn answers(baseline: &AnswerBaselineRecord) -> String {
    let figures = |of: &AnswerFigures| {
        let [exact_match, f1] = [of.exact_match, of.f1].map(|v| format::fixed(100.0 * v, 1));
        format!("exact match {exact_match}%, F1 {f1}%")
    };
    let silence = match &baseline.silence {
        Some(silence) => format!("always \"no answer\": {}; ", figures(silence)),
        None => String::new(),
    };
    let name = &baseline.name;
    format!("{silence}{name} (a rule): {}, the figures to beat", figures(&baseline.rule))
}

/// How a model that answers questions stands against the better of the simple methods, by F1.
pub fn answers_standing(
    best: &EvaluationRecord,
    baseline: &AnswerBaselineRecord,
) -> Option<String> {
    let f1 = best.metrics.iter().find(|metric| metric.name == "f1")?.valid;
    let silence = baseline.silence.filter(|silence| silence.f1 > baseline.rule.f1);
    let (name, beaten) = match &silence {
        Some(silence) => ("saying nothing", silence.f1),
        None => (baseline.name.as_str(), baseline.rule.f1),
    };
    let n = baseline.examples.max(1) as f64;
    // No set of numbers from 0 to 1 with this mean varies more.
    let variance = |mean: f64| mean * (1.0 - mean) / n;
    let error = (variance(f1) + variance(beaten)).sqrt();
    let better = f1 - beaten;
    let points = format::fixed(100.0 * better.abs(), 1);
    Some(if better > 2.0 * error {
        format!("the network beats {name} by {points} points of F1")
    } else if better < -2.0 * error {
        format!("the network does not beat {name}: it is {points} points of F1 worse")
    } else {
        let side = if better < 0.0 { "worse" } else { "better" };
        format!("the network does not clearly beat {name} ({points} points of F1 {side})")
    })
}

/// What needs no model to write a text, with what it reaches on held-out pairs.
pub fn texts(baseline: &TextBaselineRecord) -> String {
    let each = baseline.methods.iter().map(|method| {
        let figures: Vec<String> = method
            .figures
            .iter()
            .map(|f| format!("{} {}", f.name, format::figure(&f.name, f.value)))
            .collect();
        format!("{}: {}", method.name, figures.join(", "))
    });
    each.collect::<Vec<_>>().join("; ")
}

/// How a network that writes texts stands against one method, on the whole held-out split.
pub fn texts_standing(figure: &str, beside: &BesideRecord) -> String {
    let of = |value: f64| format::figure(figure, value);
    let verdict = if beside.low > 0.0 {
        format!("the network beats it by {}", of(beside.better))
    } else if beside.high < 0.0 {
        format!("the network does not beat it: it is {} worse", of(-beside.better))
    } else {
        format!("the network does not clearly beat it ({} better)", of(beside.better))
    };
    format!(
        "{}: {figure} {}; {verdict} (95%: {} to {})",
        beside.name,
        of(beside.value),
        of(beside.low),
        of(beside.high)
    )
}

/// The same from a run's evaluations alone, where nothing was written at its end.
pub fn texts_apart(best: &EvaluationRecord, baseline: &TextBaselineRecord) -> Option<String> {
    let first = best.metrics.first()?;
    let value = |method: &heldout_record::MethodRecord| {
        method.figures.iter().find(|f| f.name == first.name).map(|f| f.value)
    };
    let methods = baseline.methods.iter().filter_map(|m| Some((m, value(m)?)));
    let (method, beaten) = methods.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let (better, name) = (first.valid - beaten, &method.name);
    let size = format::figure(&first.name, better.abs());
    Some(match better > 0.0 {
        true => format!("in {} the network beats \"{name}\" by {size}", first.name),
        false => {
            format!("in {} the network does not beat \"{name}\": it is {size} worse", first.name)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_does_not_beat_the_source_is_told_so() {
        let check = |better, low, high, words: &str| {
            let name = "copy the source".to_owned();
            let beside = BesideRecord { name, value: 12.0, better, low, high };
            let sentence = texts_standing("bleu", &beside);
            assert!(sentence.contains(words), "{sentence}");
        };
        check(3.0, 1.0, 5.0, "copy the source: bleu 12.00; the network beats it by 3.00");
        check(-3.0, -5.0, -1.0, "does not beat it: it is 3.00 worse (95%: -5.00 to -1.00)");
        check(0.5, -1.0, 2.0, "does not clearly beat it (0.50 better)");
    }

    #[test]
    fn a_network_that_does_not_beat_it_is_told_so() {
        let check = |network, ngram, words: &str| {
            let sentence = Standing::apart((network, 0.03), (ngram, 0.04)).sentence();
            assert!(sentence.contains(words), "{sentence}");
        };
        check(1.5, 1.8, "is 0.300 nats better");
        check(1.8, 1.5, "does not beat it: it is 0.300 nats worse");
        check(1.5, 1.58, "not clearly beat it (0.080 nats better");
        check(1.58, 1.5, "not clearly beat it (0.080 nats worse");
        check(f64::NAN, 1.5, "not a number");
    }
}
