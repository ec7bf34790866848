//! Sentences in another order: a text's label seldom hangs on which of its sentences comes first
//! (one of the noises of BART's pre-training, Lewis et al. 2020, here for labelled texts).

use crate::error::{Conflict, NotLive, SettingError};
use crate::labelled::{Augment, Learns};
use crate::live::{Live, Receipt};
use crate::plan::Plan;
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{augment_receipt, fixed};
use heldout_base::card::{Card, Kind, Stage};
use heldout_data::augment::{Choice, Edit, Step};

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(1.0) };

const CARD: Card = Card {
    name: "sentence-order",
    kind: Kind::Technique,
    stage: Stage::Data,
    purpose: "Puts the sentences of training texts into a random order, another in every epoch.",
    paper: "Lewis et al. 2020 (BART), arXiv:1910.13461, section 2.2",
    when_to_use: "Labels of longer texts: reviews, articles, letters.",
    when_to_avoid: "Texts of one sentence (an error), pairs of texts, and labels that hang on the \
                    course of a text.",
    cost: "A little time to encode changed texts anew.",
    knobs: &[fixed(
        "share",
        "share of the texts",
        "How many texts of an epoch are reordered; the others stay as they are.",
        0.5,
        (1e-3, 1.0),
    )],
};

struct SentenceOrder(Augment);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let share = Reader::new(&CARD, settings)?.number("share")?;
    let steps = vec![Step { edit: Edit::SentenceOrder, rate: 1.0 }];
    let augment = Augment { steps, share, choice: Choice::All, synonyms: None };
    Ok(Box::new(SentenceOrder(augment)))
}

impl Technique for SentenceOrder {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.add_augment(CARD.name, self.0.clone())
    }

    fn learns(&self) -> Learns {
        Learns::Labels
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        augment_receipt(&CARD, live)
    }
}
