//! Which optimizer, with which knobs, as plain data; and the one place that builds it.

use crate::adagrad::{Adagrad, AdagradKnobs};
use crate::adam::{Adam, AdamKnobs};
use crate::gradient_descent::GradientDescent;
use crate::lion::{Lion, LionKnobs};
use crate::muon::{Muon, MuonKnobs, Scale};
use crate::rmsprop::{Centered, RmsProp, RmsPropKnobs};
use crate::sgd::{Nesterov, Sgd, SgdKnobs};
use crate::{CARDS, OptimError, Optimizer, Segment, adamw};
use heldout_base::card::{Card, Default_};
use heldout_base::nearest::nearest;
use serde::{Deserialize, Serialize};

/// An optimizer and its knobs (the rate is not among them: it is a schedule, given per update).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerSpec {
    /// Plain descent.
    GradientDescent,
    /// Descent with momentum.
    Sgd(SgdKnobs),
    /// Adam.
    Adam(AdamKnobs),
    /// Adam whose decay is decoupled.
    #[serde(rename = "adamw")]
    AdamW(AdamKnobs),
    /// RMSprop.
    #[serde(rename = "rmsprop")]
    RmsProp(RmsPropKnobs),
    /// Adagrad.
    Adagrad(AdagradKnobs),
    /// Lion.
    Lion(LionKnobs),
    /// Muon with AdamW.
    Muon(MuonKnobs),
}

/// The value of a knob as a recipe gives it.
#[derive(Clone, Debug, PartialEq)]
pub enum KnobValue {
    /// A number.
    Number(f64),
    /// A word.
    Text(String),
}

impl std::fmt::Display for KnobValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KnobValue::Number(number) => write!(f, "{number}"),
            KnobValue::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// Builds the optimizer with fresh state for these segments.
pub fn build(spec: &OptimizerSpec, segments: &[Segment]) -> Box<dyn Optimizer> {
    match *spec {
        OptimizerSpec::GradientDescent => Box::new(GradientDescent),
        OptimizerSpec::Sgd(knobs) => Box::new(Sgd::new(knobs, segments)),
        OptimizerSpec::Adam(knobs) => Box::new(Adam::new("adam", knobs, segments)),
        OptimizerSpec::AdamW(knobs) => Box::new(adamw::new(knobs, segments)),
        OptimizerSpec::RmsProp(knobs) => Box::new(RmsProp::new(knobs, segments)),
        OptimizerSpec::Adagrad(knobs) => Box::new(Adagrad::new(knobs, segments)),
        OptimizerSpec::Lion(knobs) => Box::new(Lion::new(knobs, segments)),
        OptimizerSpec::Muon(knobs) => Box::new(Muon::new(knobs, segments)),
    }
}

impl OptimizerSpec {
    /// The optimizer called `name` with its cards' defaults.
    pub fn named(name: &str) -> Result<Self, OptimError> {
        Ok(match name {
            "gradient-descent" => Self::GradientDescent,
            "sgd" => Self::Sgd(SgdKnobs::default()),
            "adam" => Self::Adam(AdamKnobs::default()),
            "adamw" => Self::AdamW(AdamKnobs::default()),
            "rmsprop" => Self::RmsProp(RmsPropKnobs::default()),
            "adagrad" => Self::Adagrad(AdagradKnobs::default()),
            "lion" => Self::Lion(LionKnobs::default()),
            "muon" => Self::Muon(MuonKnobs::default()),
            _ => return Err(unknown_optimizer(name)),
        })
    }

    /// The optimizer's card.
    pub fn card(&self) -> &'static Card {
        match self {
            Self::GradientDescent => &crate::gradient_descent::CARD,
            Self::Sgd(_) => &crate::sgd::CARD,
            Self::Adam(_) => &crate::adam::CARD,
            Self::AdamW(_) => &crate::adamw::CARD,
            Self::RmsProp(_) => &crate::rmsprop::CARD,
            Self::Adagrad(_) => &crate::adagrad::CARD,
            Self::Lion(_) => &crate::lion::CARD,
            Self::Muon(_) => &crate::muon::CARD,
        }
    }

    /// The rate that the card recommends when a recipe gives none.
    pub fn default_rate(&self) -> f64 {
        match self.card().knobs[0].default {
            Default_::Number(rate) => rate,
            _ => unreachable!("a test holds that every card starts with a numeric rate"),
        }
    }

    /// Sets one knob by its card's name, checked against the card. `rate` is not a knob of the
    /// spec: a recipe turns it into a schedule.
    pub fn set(&mut self, knob: &str, value: &KnobValue) -> Result<(), OptimError> {
        self.check(knob, value)?;
        match value {
            KnobValue::Number(number) => {
                if let Self::Muon(knobs) = self
                    && knob == "steps"
                {
                    knobs.steps = *number as u32;
                    return Ok(());
                }
                let field = self.number(knob).expect("the check found this knob in the card");
                *field = *number;
            }
            KnobValue::Text(text) => self.set_word(knob, text),
        }
        Ok(())
    }

    /// One line for a plan: `adamw (beta1 0.9, beta2 0.999, epsilon 1e-8)`.
    pub fn describe(&self) -> String {
        let knobs: Vec<String> = self.card().knobs[1..]
            .iter()
            .map(|knob| format!("{} {}", knob.name, self.clone().shown(knob.name)))
            .collect();
        if knobs.is_empty() {
            return self.card().name.to_owned();
        }
        format!("{} ({})", self.card().name, knobs.join(", "))
    }

    fn check(&self, name: &str, value: &KnobValue) -> Result<(), OptimError> {
        let card = self.card();
        let knob = card.knobs[1..].iter().find(|knob| knob.name == name);
        let Some(knob) = knob else {
            let names: Vec<&str> = card.knobs.iter().map(|knob| knob.name).collect();
            return Err(OptimError::UnknownKnob {
                optimizer: card.name.to_owned(),
                knob: name.to_owned(),
                nearest: nearest(name, names.iter().copied()).map(str::to_owned),
                known: names.join(", "),
            });
        };
        let (low, high) = knob.range;
        let whole = name == "steps";
        let (fits, expected) = match value {
            _ if !knob.choices.is_empty() => (
                matches!(value, KnobValue::Text(text) if knob.choices.contains(&text.as_str())),
                format!("one of {}", knob.choices.join(", ")),
            ),
            KnobValue::Number(n) => (
                (low..=high).contains(n) && !(whole && n.fract() != 0.0),
                format!("a {}number between {low} and {high}", if whole { "whole " } else { "" }),
            ),
            KnobValue::Text(_) => (false, format!("a number between {low} and {high}")),
        };
        if fits {
            return Ok(());
        }
        Err(OptimError::BadKnob {
            optimizer: card.name.to_owned(),
            knob: name.to_owned(),
            expected,
            found: value.to_string(),
        })
    }

    /// The field behind a numeric knob.
    fn number(&mut self, knob: &str) -> Option<&mut f64> {
        match (self, knob) {
            (Self::Sgd(k), "momentum") => Some(&mut k.momentum),
            (Self::Sgd(k), "dampening") => Some(&mut k.dampening),
            (Self::Adam(k) | Self::AdamW(k), _) => adam_number(k, knob),
            (Self::RmsProp(k), "alpha") => Some(&mut k.alpha),
            (Self::RmsProp(k), "epsilon") => Some(&mut k.epsilon),
            (Self::RmsProp(k), "momentum") => Some(&mut k.momentum),
            (Self::Adagrad(k), "epsilon") => Some(&mut k.epsilon),
            (Self::Adagrad(k), "initial-sum") => Some(&mut k.initial_sum),
            (Self::Lion(k), "beta1") => Some(&mut k.beta1),
            (Self::Lion(k), "beta2") => Some(&mut k.beta2),
            (Self::Muon(k), "momentum") => Some(&mut k.momentum),
            (Self::Muon(k), "vector-rate") => Some(&mut k.vector_rate),
            (Self::Muon(k), _) => adam_number(&mut k.adamw, knob),
            _ => None,
        }
    }

    fn set_word(&mut self, knob: &str, text: &str) {
        let yes = text == "yes";
        match (self, knob) {
            (Self::Sgd(SgdKnobs { nesterov, .. }), "nesterov")
            | (Self::Muon(MuonKnobs { nesterov, .. }), "nesterov") => {
                *nesterov = if yes { Nesterov::Yes } else { Nesterov::No };
            }
            (Self::RmsProp(k), "centered") => {
                k.centered = if yes { Centered::Yes } else { Centered::No };
            }
            (Self::Muon(k), "scale") => {
                k.scale = match text {
                    "original" => Scale::Original,
                    _ => Scale::MatchRmsAdamw,
                };
            }
            _ => unreachable!("the check found {knob} in the card"),
        }
    }

    /// The value of a knob in words.
    fn shown(&mut self, knob: &str) -> String {
        let yes_or_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        match (&*self, knob) {
            (Self::Sgd(k), "nesterov") => yes_or_no(k.nesterov == Nesterov::Yes),
            (Self::Muon(k), "nesterov") => yes_or_no(k.nesterov == Nesterov::Yes),
            (Self::RmsProp(k), "centered") => yes_or_no(k.centered == Centered::Yes),
            (Self::Muon(k), "steps") => k.steps.to_string(),
            (Self::Muon(MuonKnobs { scale: Scale::Original, .. }), "scale") => "original".into(),
            (Self::Muon(_), "scale") => "match-rms-adamw".into(),
            _ => {
                let value = self.number(knob).expect("every other knob of a card is a number");
                heldout_base::schedule::Schedule::constant(*value).describe()
            }
        }
    }
}

fn adam_number<'a>(knobs: &'a mut AdamKnobs, knob: &str) -> Option<&'a mut f64> {
    match knob {
        "beta1" => Some(&mut knobs.beta1),
        "beta2" => Some(&mut knobs.beta2),
        "epsilon" => Some(&mut knobs.epsilon),
        _ => None,
    }
}

fn unknown_optimizer(name: &str) -> OptimError {
    let names: Vec<&str> = CARDS.iter().map(|card| card.name).collect();
    OptimError::UnknownOptimizer {
        name: name.to_owned(),
        nearest: nearest(name, names.iter().copied()).map(str::to_owned),
        known: names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::segment;
    use heldout_kernels::Role;

    #[test]
    fn every_card_builds_with_defaults_that_are_its_own() {
        let segments = [segment("w", 0..6, &[2, 3], Role::Matrix)];
        for card in CARDS {
            let mut spec = OptimizerSpec::named(card.name).expect("a registered name");
            assert_eq!(spec.card(), card);
            assert_eq!(build(&spec, &segments).name(), card.name);
            for knob in &card.knobs[1..] {
                let shown = spec.shown(knob.name);
                assert_eq!(shown, knob.default.to_string(), "{}.{}", card.name, knob.name);
                let value = match knob.default {
                    Default_::Number(number) => KnobValue::Number(number),
                    Default_::Text(text) => KnobValue::Text(text.to_owned()),
                    Default_::Off => continue,
                };
                let before = spec.clone();
                spec.set(knob.name, &value).expect("the default is allowed");
                assert_eq!(spec, before);
            }
            let json = serde_json::to_string(&spec).expect("plain data");
            assert_eq!(serde_json::from_str::<OptimizerSpec>(&json).expect("its own"), spec);
        }
    }

    #[test]
    fn errors_name_the_nearest_and_the_range() {
        let check = |spec: &str, knob: &str, value: KnobValue, part: &str| {
            let error = OptimizerSpec::named(spec)
                .and_then(|mut spec| spec.set(knob, &value))
                .expect_err("a wrong setting")
                .to_string();
            assert!(error.contains(part), "{error}");
        };
        check("adamW", "beta1", KnobValue::Number(0.9), "did you mean `adamw`");
        check("adamw", "beta_1", KnobValue::Number(0.9), "beta1");
        check("adamw", "beta2", KnobValue::Number(1.5), "between 0 and 0.999999, found 1.5");
        check("adamw", "beta2", KnobValue::Number(f64::NAN), "found NaN");
        check("sgd", "nesterov", KnobValue::Text("perhaps".into()), "one of yes, no");
        check("sgd", "nesterov", KnobValue::Number(1.0), "one of yes, no");
        check("muon", "steps", KnobValue::Number(2.5), "whole");
        check("adamw", "rate", KnobValue::Number(0.1), "no knob `rate`");
    }
}
