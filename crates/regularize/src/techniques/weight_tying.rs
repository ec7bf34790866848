//! Weight tying: the output projection is the input embedding (Press & Wolf 2017).

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{Plan, Tie};
use crate::settings::{Reader, Settings, no_effect};
use crate::technique::{Entry, Facts, Technique, bare_text};
use crate::techniques::word;
use heldout_base::card::{Card, Kind, Stage};
use heldout_model::Tied;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_text("yes") };

const CARD: Card = Card {
    name: "weight-tying",
    kind: Kind::Technique,
    stage: Stage::Model,
    purpose: "Uses the input embedding as the output projection: fewer parameters, shared.",
    paper: "Press & Wolf 2017, arXiv:1608.05859",
    when_to_use: "Small models and large vocabularies, where the head would be most of the model.",
    when_to_avoid: "Large models with data to spare: an own head is a little better there.",
    cost: "Negative: saves vocabulary × width parameters.",
    knobs: &[word("tie", "Whether input and output share their weights.", "yes", &["yes"])],
};

struct WeightTying;

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    Reader::new(&CARD, settings)?.word("tie")?;
    Ok(Box::new(WeightTying))
}

impl Technique for WeightTying {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_tie(CARD.name, Tie::InputOutput)
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        if !facts.config.head.is_language_model() {
            let reason = "a classifier has no output projection over the vocabulary";
            return Err(no_effect(&CARD, "tie", reason, "remove weight-tying"));
        }
        if facts.tied_by_model == Tied::Yes {
            let reason = "the model ties its embeddings already";
            let remedy = "remove weight-tying, or untie the model";
            return Err(no_effect(&CARD, "tie", reason, remedy));
        }
        Ok(())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = required(&CARD, live.tie.as_ref())?;
        if measure.heads > 0 {
            let finding = "the model has an output projection of its own".to_owned();
            return Err(not_live(&CARD, finding));
        }
        let statement = format!(
            "the output projection is the input embedding; {} parameters saved",
            measure.parameters_saved
        );
        let figures = [("parameters_saved", measure.parameters_saved as f64)];
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
