//! LoRA (Hu et al. 2021): the model stays as it is, and each adapted weight gets a change of low
//! rank, (α/r)·B·A, whose two factors alone are trained. Results hold the sum.

use crate::effective::{Effective, LowRank};
use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{Frozen, Plan};
use crate::settings::{Reader, Settings, Value, no_effect, unusable};
use crate::technique::{Beginning, Entry, Facts, Technique};
use crate::techniques::{fixed, searched, word};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_model::extra::adapters;
use heldout_model::{Adapted, Adapters};

/// The registry's row.
pub const ENTRY: Entry = Entry {
    card: &CARD,
    build,
    example: || Settings::table([("rank", Value::Number(4.0)), ("alpha", Value::Number(32.0))]),
};

const CARD: Card = Card {
    name: "lora",
    kind: Kind::Technique,
    stage: Stage::Model,
    purpose: "Trains a low-rank change (α/r)·B·A of each chosen weight and nothing else; the \
              result is a plain model with the changes added.",
    paper: "Hu et al. 2021, arXiv:2106.09685",
    when_to_use: "Fine-tuning (model.from) on little text. Rates about ten times those of full \
                  fine-tuning suit it.",
    when_to_avoid: "Fresh models (refused), and so much text that all weights should move.",
    cost: "One copy more of the weights; no optimizer state but the factors'. A step takes about \
           as long as without: three thin products a weight more.",
    knobs: &[
        searched(
            fixed("rank", "", "r, the most that a change's rank can be.", 8.0, (0.0, 4096.0)),
            8.0,
            Search::Integer(2, 64),
        ),
        fixed(
            "alpha",
            "",
            "α; changes are scaled by α/r, so that the rate need not follow the rank.",
            16.0,
            (1e-6, 1e6),
        ),
        fixed(
            "dropout",
            "",
            "Share of the adapters' inputs that a step leaves out, drawn for each input and step \
             (peft: for each token, too); evaluations leave out none.",
            0.0,
            (0.0, 0.99),
        ),
        word(
            "on",
            "Which linear layers of the blocks: those of attention (query, key, value, output), \
             of the feed-forward layer, or both. Norms, biases, embeddings and the head stay.",
            "all",
            &["attention", "feed-forward", "all"],
        ),
    ],
};

struct Lora(LowRank);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let rank = read.whole("rank")?;
    if rank == 0 {
        let remedy = "give at least 1, or write lora = \"off\"";
        return Err(read.no_effect("rank", "there would be no adapter", remedy));
    }
    let on = match read.word("on")? {
        "attention" => Adapted::Attention,
        "feed-forward" => Adapted::FeedForward,
        _ => Adapted::All,
    };
    let (alpha, dropout) = (read.number("alpha")?, read.number("dropout")?);
    Ok(Box::new(Lora(LowRank { adapters: Adapters { rank, on }, alpha, dropout })))
}

impl Technique for Lora {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_effective(CARD.name, Effective::LowRank(self.0))?;
        plan.own_frozen(CARD.name, Frozen::AllButAdapters)
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        if facts.beginning == Beginning::Random {
            let reason = "there is nothing to adapt: the model starts from random weights, which \
                          would stay random";
            let remedy = "name a trained model with model.from, or write lora = \"off\"";
            return Err(unusable(&CARD, "rank", reason.to_owned(), remedy));
        }
        let rank = self.0.adapters.rank;
        let least = adapters(facts.layout).into_iter().map(|a| {
            let (out, input) = (a.weight.shape[0], a.weight.shape[1]);
            (out.min(input), a.weight)
        });
        match least.min_by_key(|(least, _)| *least) {
            Some((least, weight)) if rank > least => {
                let reason = format!("{} has a rank of {least} at most", weight.name);
                let remedy = format!("give {least} or less");
                Err(no_effect(&CARD, "rank", &reason, &remedy))
            }
            _ => Ok(()),
        }
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = *required(&CARD, live.adapted.as_ref())?;
        let trained = *required(&CARD, live.trained.as_ref())?;
        let is_live = measure.loss_after < measure.loss_before && measure.gradient > 0.0;
        if trained.parameters != measure.parameters || !is_live {
            let finding = format!(
                "{} parameters of {} in adapters are trained, and a small step of theirs takes \
                 the loss of a probe batch from {} to {}",
                trained.parameters, measure.parameters, measure.loss_before, measure.loss_after
            );
            return Err(not_live(&CARD, finding));
        }
        let share = 100.0 * measure.parameters as f64 / measure.parameters_model as f64;
        let mut statement = format!(
            "{} adapters of rank {}: {} parameters are trained, {share:.3}% of the model's {}, \
             which stay as they are; a small step takes the loss of a probe batch {:.6} → {:.6}",
            measure.adapters,
            self.0.adapters.rank,
            measure.parameters,
            measure.parameters_model,
            measure.loss_before,
            measure.loss_after
        );
        let mut figures = vec![
            ("adapters", measure.adapters as f64),
            ("trained", measure.parameters as f64),
            ("loss_before", measure.loss_before),
            ("loss_after", measure.loss_after),
            ("gradient", measure.gradient),
        ];
        if let Some(distance) = live.distance_from_start {
            statement += &format!("; they end {:.3}% away from the start", 100.0 * distance);
            figures.push(("distance", distance));
        }
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
