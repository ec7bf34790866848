//! EDA, "easy data augmentation" (Wei & Zou 2019): every second text of an epoch has some words
//! replaced by synonyms, synonyms put in, words swapped or left out; one of the four at random.

use crate::error::{Conflict, NotLive, SettingError};
use crate::labelled::{Augment, Learns};
use crate::live::{Live, Receipt};
use crate::plan::Plan;
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{SHARE, augment_receipt, fixed, searched, word};
use heldout_base::card::{Card, Default_, Kind, Knob, Search, Stage};
use heldout_data::augment::{Choice, Edit, Step};
use std::path::Path;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.2) };

const AUTO: &str = "auto";

const CARD: Card = Card {
    name: "eda",
    kind: Kind::Technique,
    stage: Stage::Data,
    purpose: "Changes a few words of the training texts, differently in every epoch.",
    paper: "Wei & Zou 2019, arXiv:1901.11196",
    when_to_use: "Labels: some hundred examples, trained from scratch or nearly so.",
    when_to_avoid: "Thousands of examples, or a pre-trained model: little is left to gain. Pairs \
                    of texts, whose label hangs on single words.",
    cost: "A little time to encode changed texts anew.",
    knobs: &[
        searched(
            fixed(
                "rate",
                "share of the words",
                "How many words of a text change, in the mean.",
                0.1,
                (1e-3, 1.0),
            ),
            0.1,
            Search::Log(0.02, 0.4),
        ),
        SHARE,
        Knob {
            choices: &[AUTO, "synonym", "insertion", "swap", "deletion"],
            ..word(
                "edits",
                "One or several; auto: all four, without synonyms swap and deletion.",
                AUTO,
                &[],
            )
        },
        word("apply", "To each text one edit at random, or all of them.", "one", &["one", "all"]),
        Knob {
            default: Default_::Text(""),
            ..word(
                "synonyms",
                "The folder of WordNet's data files, or a file of word<TAB>synonym synonym lines.",
                "",
                &[],
            )
        },
    ],
};

struct Eda(Augment);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let (rate, share) = (read.number("rate")?, read.number("share")?);
    let synonyms = Some(read.text("synonyms")?).filter(|path| !path.is_empty());
    if let Some(path) = synonyms.as_deref().filter(|path| !Path::new(path).exists()) {
        let remedy = "name WordNet's folder (Debian's wordnet-base puts it in /usr/share/wordnet) \
                      or a lexicon file";
        return Err(read.unusable("synonyms", format!("there is no {path:?}"), remedy));
    }
    let named = read.words("edits")?;
    let automatic = named.contains(&AUTO);
    let all = [Edit::Synonym, Edit::Insertion, Edit::Swap, Edit::Deletion];
    let edits = all.into_iter().filter(|edit| match automatic {
        true => synonyms.is_some() || !edit.needs_lexicon(),
        false => named.contains(&edit.name()),
    });
    let steps: Vec<Step> = edits.map(|edit| Step { edit, rate }).collect();
    let needs = steps.iter().any(|step| step.edit.needs_lexicon());
    if needs && synonyms.is_none() {
        let remedy = "give synonyms = \"PATH\", or leave `synonym` and `insertion` out";
        return Err(read.unusable("edits", "there are no synonyms to take".into(), remedy));
    }
    if synonyms.is_some() && !needs {
        let remedy = "remove it, or add \"synonym\" or \"insertion\" to the edits";
        return Err(read.no_effect("synonyms", "no edit takes any", remedy));
    }
    let choice = if read.word("apply")? == "all" { Choice::All } else { Choice::One };
    if choice == Choice::All && steps.len() == 1 {
        let remedy = "remove it, or name several edits";
        return Err(read.no_effect("apply", "there is a single edit", remedy));
    }
    Ok(Box::new(Eda(Augment { steps, share, choice, synonyms })))
}

impl Technique for Eda {
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
