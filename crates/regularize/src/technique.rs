//! What a technique is: a card, a contribution to the plan, a check against the model, a receipt.

use crate::error::{Conflict, NotLive, SettingError};
use crate::labelled::Learns;
use crate::live::{Live, Receipt};
use crate::plan::Plan;
use crate::settings::{Settings, Value};
use heldout_base::card::Card;
use heldout_kernels::Layout;
use heldout_model::{ModelConfig, Tied};

/// A technique with its knobs set.
pub trait Technique {
    /// What it says about itself.
    fn card(&self) -> &'static Card;

    /// Writes into the plan's slots; the only way to influence a run.
    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict>;

    /// Whether the settings can have an effect on this model.
    fn check(&self, _facts: &Facts) -> Result<(), SettingError> {
        Ok(())
    }

    /// Whether the settings can have an effect beside what else is in the plan.
    fn check_beside(&self, _plan: &Plan) -> Result<(), SettingError> {
        Ok(())
    }

    /// Which runs it is for.
    fn learns(&self) -> Learns {
        Learns::Anything
    }

    /// A technique without which this one's example does nothing: the conformance suites switch it
    /// on as well.
    fn companion(&self) -> Option<&'static str> {
        None
    }

    /// Proof, from measurements, that the technique acts; or what is missing.
    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive>;
}

/// How long a run will be, as far as it is known beforehand: a limit in time says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Length {
    /// Updates.
    pub steps: Option<u64>,
    /// Passes over the data.
    pub epochs: Option<f64>,
    /// Evaluations on held-out data.
    pub evaluations: Option<u64>,
}

/// What the first weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Drawn by the seed.
    Random,
    /// A trained model's.
    Trained,
}

/// What the techniques may know about the model and the run before training.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The model as it will be trained, tied or not.
    pub config: &'a ModelConfig,
    /// Its parameters.
    pub layout: &'a Layout,
    /// Whether the recipe's model section (or the imported model) ties the embeddings already.
    pub tied_by_model: Tied,
    /// How long the run will be.
    pub length: Length,
    /// What the first weights are.
    pub beginning: Beginning,
}

/// One row of the registry.
pub struct Entry {
    /// What the technique says about itself.
    pub card: &'static Card,
    /// From settings to a technique.
    pub build: fn(&Settings) -> Result<Box<dyn Technique>, SettingError>,
    /// Settings that act on a tiny model within a few steps, for conformance tests and docs.
    pub example: fn() -> Settings,
}

impl Entry {
    /// The key in a recipe.
    pub fn name(&self) -> &'static str {
        self.card.name
    }

    /// Settings that act on a tiny model within a few steps.
    pub fn example_settings(&self) -> Settings {
        (self.example)()
    }
}

/// `technique = number`, for examples.
pub(crate) fn bare_number(number: f64) -> Settings {
    Settings::bare(Value::Number(number))
}

/// `technique = "word"`, for examples.
pub(crate) fn bare_text(text: &str) -> Settings {
    Settings::bare(Value::Text(text.to_owned()))
}
