//! Checkpoint averaging: the mean of the weights at the last, or best, k evaluations.

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt};
use crate::plan::{Average, Plan};
use crate::settings::{Reader, Settings, no_effect};
use crate::technique::{Entry, Facts, Technique, bare_number};
use crate::techniques::{average_receipt, fixed, searched, word};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_optim::average::Which;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(2.0) };

const CARD: Card = Card {
    name: "checkpoint-averaging",
    kind: Kind::Technique,
    stage: Stage::Average,
    purpose: "Averages the weights at the last (or best) few evaluations; evaluated and saved on \
              their own.",
    paper: "Vaswani et al. 2017, arXiv:1706.03762, section 6.1; Utans 1996",
    when_to_use: "Runs whose end is open: it follows the last evaluations, where swa must know the \
                  horizon. It averages weights of one run; ensembling averages probabilities of \
                  several.",
    when_to_avoid: "Large models in little memory: each of the sets is kept, in checkpoints too.",
    cost: "`count` + 1 more sets of weights in memory and in each checkpoint; longer evaluations.",
    knobs: &[
        searched(
            fixed("count", "evaluations", "How many are averaged.", 5.0, (2.0, 100.0)),
            5.0,
            Search::Uniform(2.0, 10.0),
        ),
        word("which", "The last ones, or those of least held-out loss.", "last", &["last", "best"]),
    ],
};

struct CheckpointAveraging {
    count: usize,
    which: Which,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let which = match read.word("which")? {
        "last" => Which::Last,
        _ => Which::Best,
    };
    Ok(Box::new(CheckpointAveraging { count: read.whole("count")?, which }))
}

impl Technique for CheckpointAveraging {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        let (count, which) = (self.count, self.which);
        plan.add_average(CARD.name, Average::Checkpoints { count, which })
    }

    fn check(&self, facts: &Facts) -> Result<(), SettingError> {
        match facts.length.evaluations {
            Some(evaluations) if evaluations < 2 => {
                let reason = format!("the run has {evaluations} evaluation, and one is no average");
                Err(no_effect(&CARD, "count", &reason, "evaluate more often (evaluate.every)"))
            }
            _ => Ok(()),
        }
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        average_receipt(&CARD, live)
    }
}
