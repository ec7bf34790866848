//! A study's arms beside the n-gram model of the same tokens: which of them beat it, and by how
//! much.

use heldout_record::study::{ArmSummary, NgramFigures, TrialResult};
use serde::Serialize;

use crate::baseline::Standing;
use crate::document::capitalized;
use crate::format;
use crate::summary::{perplexity, plus_minus};

/// The arms of a study beside an n-gram model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Beside {
    /// What the n-gram model reaches.
    pub ngram: NgramFigures,
    /// The split on which they are compared: "test", or "validation" where the n-gram model was
    /// not scored on the test split.
    pub split: &'static str,
    /// The arms with a result, in the study's order.
    pub arms: Vec<ArmBeside>,
}

/// One arm beside the n-gram model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmBeside {
    pub arm: String,
    /// Mean over seeds, nats per token.
    pub loss: f64,
    /// How far it lies below the n-gram model's.
    pub standing: Standing,
}

/// Compares each arm's mean over seeds with the n-gram model. The error is that of one trial's
/// loss over windows of text: seeds share the text, so that more of them do not make it smaller.
pub fn beside(arms: &[ArmSummary], trials: &[&TrialResult], ngram: &NgramFigures) -> Beside {
    let is_test = ngram.loss_test.is_finite();
    let (split, own) = match is_test {
        true => ("test", (ngram.loss_test, ngram.loss_test_se)),
        false => ("validation", (ngram.loss_valid, ngram.loss_valid_se)),
    };
    let of = |arm: &ArmSummary| {
        let loss = if is_test { arm.loss_test } else { arm.loss_valid };
        let of_arm = trials.iter().filter(|t| t.arm == arm.name && !t.is_tuning);
        let errors: Vec<f64> =
            of_arm.map(|t| if is_test { t.loss_test_se } else { t.loss_valid_se }).collect();
        let error = errors.iter().sum::<f64>() / errors.len() as f64;
        ArmBeside { arm: arm.name.clone(), loss, standing: Standing::apart((loss, error), own) }
    };
    let arms = arms.iter().filter(|arm| arm.finished > 0).map(of).collect();
    Beside { ngram: ngram.clone(), split, arms }
}

impl Beside {
    /// `n-gram (order 5, modified Kneser-Ney)`.
    pub fn model(&self) -> String {
        format!("n-gram (order {}, {})", self.ngram.order, self.ngram.smoothing)
    }

    /// Its loss with the standard error, on the split that counts.
    pub fn loss(&self) -> (f64, f64) {
        match self.split {
            "test" => (self.ngram.loss_test, self.ngram.loss_test_se),
            _ => (self.ngram.loss_valid, self.ngram.loss_valid_se),
        }
    }

    /// An arm's place.
    pub fn of(&self, arm: &str) -> Option<&ArmBeside> {
        self.arms.iter().find(|found| found.arm == arm)
    }

    /// Both perplexities, and whether the networks beat the n-gram model, in sentences.
    pub fn sentences(&self) -> Vec<String> {
        let (loss, se) = self.loss();
        let mut first = format!(
            "{} reaches {} on the {} split, a perplexity of {}",
            capitalized(&format!("an {}", self.model())),
            plus_minus(loss, se),
            self.split,
            perplexity(loss.exp())
        );
        if let Some(arm) = self.arms.first() {
            first += &format!(
                "; {} reaches {}, a perplexity of {}: {}",
                arm.arm,
                format::nats(arm.loss),
                perplexity(arm.loss.exp()),
                arm.standing.sentence()
            );
        }
        let mut sentences = vec![first + "."];
        let others = self.arms.iter().skip(1);
        let names: Vec<&str> =
            others.filter(|a| !a.standing.is_better()).map(|a| a.arm.as_str()).collect();
        if !names.is_empty() {
            let verb = if names.len() == 1 { "does" } else { "do" };
            sentences.push(format!("{} {verb} not clearly beat it.", names.join(", ")));
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_that_do_not_beat_it_are_named() {
        let arm = |name: &str, loss: f64| ArmSummary {
            name: name.into(),
            finished: 2,
            loss_test: loss,
            loss_valid: loss + 1.0,
            ..ArmSummary::default()
        };
        let arms = [arm("reference", 1.5), arm("no-a", 1.92), arm("no-b", 2.4), arm("no-c", 1.6)];
        let trial = |name: &str| TrialResult {
            arm: name.into(),
            loss_test_se: 0.03,
            loss_valid_se: 0.03,
            ..TrialResult::default()
        };
        let trials = arms.each_ref().map(|arm| trial(&arm.name));
        let trials: Vec<&TrialResult> = trials.iter().collect();
        let ngram = NgramFigures {
            smoothing: "modified Kneser-Ney".into(),
            order: 5,
            loss_valid: 2.0,
            loss_valid_se: 0.04,
            loss_test: 1.95,
            loss_test_se: 0.04,
        };
        let found = beside(&arms, &trials, &ngram);
        let standing = found.of("reference").expect("it ran").standing;
        assert!(
            (standing.better - 0.45).abs() < 1e-12 && (standing.better_se - 0.05).abs() < 1e-12
        );
        let [first, second] = <[String; 2]>::try_from(found.sentences()).expect("two");
        assert_eq!(
            first,
            "An n-gram (order 5, modified Kneser-Ney) reaches 1.950 ± 0.040 on the test split, a \
             perplexity of 7.03; reference reaches 1.500, a perplexity of 4.48: the network is \
             0.450 nats better."
        );
        assert_eq!(second, "no-a, no-b do not clearly beat it.");
        // Without a score on the test split the validation split decides.
        let ngram = NgramFigures { loss_test: f64::NAN, ..ngram };
        let found = beside(&arms[..1], &trials, &ngram);
        assert_eq!(found.split, "validation");
        let sentences = found.sentences();
        assert!(
            sentences[0].ends_with("does not beat it: it is 0.500 nats worse."),
            "{sentences:?}"
        );
    }
}
