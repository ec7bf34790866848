//! EMA: w̄ ← βw̄ + (1−β)w after every update, evaluated and saved as weights of its own.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt};
use crate::plan::{Average, Plan};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{average_receipt, scheduled, searched, word};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_base::schedule::Schedule;
use heldout_optim::average::Start;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.9) };

const CARD: Card = Card {
    name: "ema",
    kind: Kind::Technique,
    stage: Stage::Average,
    purpose: "Keeps a running average of the weights, which is evaluated and saved on its own.",
    paper: "Polyak & Juditsky 1992; Tarvainen & Valpola 2017, arXiv:1703.01780",
    when_to_use: "Constant or slowly falling rates; gains 0.01 to 0.02 nats for little. Several \
                  models' probabilities are averaged by ensembling, at the price of each.",
    when_to_avoid: "Runs shorter than 1/(1−decay) steps: the average is still of early weights.",
    cost: "One more set of weights; one pass over it in each step; evaluations take twice as long.",
    knobs: &[
        searched(
            scheduled("decay", "share kept per step", "β.", (0.0, 0.999_999)),
            0.999,
            Search::Uniform(0.9, 0.9999),
        ),
        word(
            "start",
            "From the exact mean of what was seen, with a short memory that grows, or from the \
             first weights.",
            "corrected",
            &["corrected", "warm-up", "weights"],
        ),
    ],
};

struct Ema {
    decay: Schedule,
    start: Start,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let start = match read.word("start")? {
        "corrected" => Start::Corrected,
        "warm-up" => Start::WarmUp,
        _ => Start::Weights,
    };
    Ok(Box::new(Ema { decay: read.schedule("decay")?, start }))
}

impl Technique for Ema {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        let (decay, start) = (self.decay.clone(), self.start);
        plan.add_average(CARD.name, Average::Ema { decay, start })
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        average_receipt(&CARD, live)
    }
}
