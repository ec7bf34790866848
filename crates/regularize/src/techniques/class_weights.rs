//! Class weights: the loss of an example is multiplied by a weight of its class (King & Zeng 2001;
//! `torch.nn.CrossEntropyLoss(weight=...)`), scaled so that the mean over the training examples is
//! 1 and the learning rate keeps its meaning. Held-out loss is never weighted.

use crate::error::{Conflict, NotLive, SettingError};
use crate::labelled::{ClassWeights, Learns};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::Plan;
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_text};
use crate::techniques::{fixed, searched, word};
use heldout_base::card::{Card, Kind, Search, Stage};
use std::collections::BTreeMap;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_text("auto") };

const AUTO: &str = "auto";

const CARD: Card = Card {
    name: "class-weights",
    kind: Kind::Technique,
    stage: Stage::Loss,
    purpose: "Lets examples of rare classes count more in the loss.",
    paper: "King & Zeng 2001, Logistic regression in rare events data; Cui et al. 2019, \
            arXiv:1901.05555",
    when_to_use: "Labels of which some are rare, judged by macro F1, recall of the rare ones or \
                  MCC.",
    when_to_avoid: "Accuracy or calibrated probabilities are what counts: weights move both away \
                    from the truth.",
    cost: "None.",
    knobs: &[
        word(
            "weights",
            "auto: by how rare each class is; or a list of \"label=weight\", others weigh 1.",
            AUTO,
            &[],
        ),
        searched(
            fixed(
                "power",
                "",
                "Of auto's (n/(K·n_k))^power: 1 makes all classes count alike, 0.5 goes half way.",
                1.0,
                (0.01, 2.0),
            ),
            1.0,
            Search::Uniform(0.25, 1.0),
        ),
    ],
};

struct Weights(ClassWeights);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let (texts, power) = (read.texts("weights")?, read.number("power")?);
    if texts == [AUTO] {
        return Ok(Box::new(Weights(ClassWeights::Balanced { power })));
    }
    if read.is_given("power") {
        let remedy = "remove it, or write weights = \"auto\"";
        return Err(read.no_effect("power", "it belongs to the weights \"auto\"", remedy));
    }
    let mut given = BTreeMap::new();
    for text in texts.iter().flat_map(|text| text.split(',')) {
        let parts = text.rsplit_once('=').and_then(|(label, weight)| {
            let weight = weight.trim().parse::<f64>().ok()?;
            let sound = weight.is_finite() && weight >= 0.0 && !label.trim().is_empty();
            sound.then(|| (label.trim().to_owned(), weight))
        });
        let Some((label, weight)) = parts else {
            let expected = "\"auto\" or \"label=weight\" with a weight of 0 or more";
            return Err(read.wrong("weights", expected, format!("{text:?}")));
        };
        given.insert(label, weight);
    }
    if given.is_empty() {
        let remedy = "write \"auto\" or \"label=weight\"";
        return Err(read.no_effect("weights", "the list is empty", remedy));
    }
    Ok(Box::new(Weights(ClassWeights::Given(given))))
}

impl Technique for Weights {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_class_weights(CARD.name, self.0.clone())
    }

    fn learns(&self) -> Learns {
        Learns::Labels
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.class_weights.as_ref())?;
        let off = measure.classes.iter().find(|(_, asked, found)| (asked - found).abs() > 1e-4);
        if let Some((label, asked, found)) = off {
            let finding = format!("an example of {label:?} counts {found}, not {asked}");
            return Err(not_live(&CARD, finding));
        }
        let found = || measure.classes.iter().map(|(_, _, found)| *found);
        let (lowest, highest) =
            (found().fold(f64::INFINITY, f64::min), found().fold(0.0, f64::max));
        if highest - lowest < 1e-6 {
            return Err(not_live(&CARD, "all classes are as frequent: each counts 1".to_owned()));
        }
        const SHOWN: usize = 8;
        let mut each: Vec<String> = measure
            .classes
            .iter()
            .take(SHOWN)
            .map(|(label, _, found)| format!("{label:?} × {found:.3}"))
            .collect();
        if measure.classes.len() > SHOWN {
            each.push(format!("and {} more", measure.classes.len() - SHOWN));
        }
        let statement = format!("the loss of an example counts: {}", each.join(", "));
        let figures = [("lowest", lowest), ("highest", highest)];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
