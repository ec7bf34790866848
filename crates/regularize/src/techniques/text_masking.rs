//! Masking of texts that have labels: words or spans of words become the mask token, so that the
//! label must follow from the rest (as in BERT's and T5's pre-training, Devlin et al. 2019, Raffel
//! et al. 2020, though nothing is asked about what stood there).

use crate::error::{Conflict, NotLive, SettingError};
use crate::labelled::{Augment, Learns};
use crate::live::{Live, Receipt};
use crate::plan::Plan;
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{SHARE, augment_receipt, fixed, searched, word};
use heldout_base::card::{Card, Kind, Search, Stage};
use heldout_data::augment::{Choice, Edit, Step};

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.2) };

const CARD: Card = Card {
    name: "text-masking",
    kind: Kind::Technique,
    stage: Stage::Data,
    purpose: "Hides words of the training texts, others in every epoch.",
    paper: "Devlin et al. 2019, arXiv:1810.04805 (words); Raffel et al. 2020, arXiv:1910.10683 \
            (spans)",
    when_to_use: "Labels, where single words of the training texts give them away.",
    when_to_avoid: "Short texts, whose one telling word may be hidden; tokenizers without a token \
                    for a mask or for what is unknown.",
    cost: "A little time to encode changed texts anew.",
    knobs: &[
        searched(
            fixed(
                "rate",
                "share of the words",
                "How many words of a text are hidden, in the mean.",
                0.15,
                (1e-3, 0.99),
            ),
            0.15,
            Search::Log(0.03, 0.5),
        ),
        SHARE,
        word(
            "unit",
            "Each word for itself, or spans of three words in the mean with one mask token each.",
            "word",
            &["word", "span"],
        ),
    ],
};

struct TextMasking(Augment);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let edit = if read.word("unit")? == "span" { Edit::Span } else { Edit::Mask };
    let steps = vec![Step { edit, rate: read.number("rate")? }];
    let share = read.number("share")?;
    let augment = Augment { steps, share, choice: Choice::All, synonyms: None };
    Ok(Box::new(TextMasking(augment)))
}

impl Technique for TextMasking {
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
