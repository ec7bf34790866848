//! Dropout (Srivastava et al. 2014), inverted: x·m/(1−p) with m ~ Bernoulli(1−p), at five sites of
//! a block; `variational` draws one mask for all positions of a sequence (Gal & Ghahramani 2016).

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt};
use crate::plan::{Plan, Sharing, Site};
use crate::settings::{Reader, Settings};
use crate::technique::{Entry, Technique, bare_number};
use crate::techniques::{RATE_MOST, noise_receipt, scheduled, searched, word};
use heldout_base::card::{Card, Kind, Knob, Search, Stage};
use heldout_base::schedule::Schedule;

/// The registry's row.
pub const ENTRY: Entry = Entry { card: &CARD, build, example: || bare_number(0.2) };

const CARD: Card = Card {
    name: "dropout",
    kind: Kind::Technique,
    stage: Stage::Noise,
    purpose: "Drops random units while training, so that no unit can rely on another.",
    paper: "Srivastava et al. 2014; variational: Gal & Ghahramani 2016, arXiv:1512.05287",
    when_to_use: "Several epochs over fixed data: the first thing to try against overfitting.",
    when_to_avoid: "A single epoch over fresh data, where it costs capacity and gains nothing.",
    cost: "None in time to speak of (masks are computed inside the ops); no memory.",
    knobs: &[
        searched(
            scheduled(
                "rate",
                "share of units",
                "Rate at the standard sites: embedding, attention, attention-output and \
                 feed-forward-output.",
                (0.0, RATE_MOST),
            ),
            0.1,
            Search::Uniform(0.0, 0.5),
        ),
        scheduled("embedding", "share of units", "Rate behind the embedding.", (0.0, RATE_MOST)),
        scheduled("attention", "share of units", "Rate on probabilities.", (0.0, RATE_MOST)),
        scheduled(
            "attention-output",
            "share of units",
            "Rate behind the attention's output projection.",
            (0.0, RATE_MOST),
        ),
        scheduled(
            "feed-forward-hidden",
            "share of units",
            "Rate behind the feed-forward non-linearity; not among the standard sites.",
            (0.0, RATE_MOST),
        ),
        scheduled(
            "feed-forward-output",
            "share of units",
            "Rate behind the feed-forward layer.",
            (0.0, RATE_MOST),
        ),
        VARIATIONAL,
    ],
};

const VARIATIONAL: Knob =
    word("variational", "One mask for all positions of a sequence.", "no", &["yes", "no"]);

/// Sites with a knob, and whether `rate` sets them.
const SITES: [(Site, Standard); 5] = [
    (Site::Embedding, Standard::Yes),
    (Site::Attention, Standard::Yes),
    (Site::AttentionOutput, Standard::Yes),
    (Site::FeedForwardHidden, Standard::No),
    (Site::FeedForwardOutput, Standard::Yes),
];

#[derive(Clone, Copy, PartialEq)]
enum Standard {
    Yes,
    No,
}

struct Dropout {
    sites: Vec<(Site, Schedule)>,
    sharing: Sharing,
}

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let any_site = SITES.iter().any(|(site, _)| read.is_given(site.word()));
    // A table of sites alone means just those; a table without any rate means the default.
    let standard =
        if any_site && !read.is_given("rate") { None } else { read.schedule_or_off("rate")? };
    if standard.as_ref().is_some_and(Schedule::is_zero) {
        read.schedule("rate")?;
    }
    let mut sites = Vec::new();
    for (site, is_standard) in SITES {
        let rate = if read.is_given(site.word()) {
            // A zero here takes a standard site out.
            read.schedule_or_off(site.word())?.filter(|rate| !rate.is_zero())
        } else {
            standard.clone().filter(|_| is_standard == Standard::Yes)
        };
        sites.extend(rate.map(|rate| (site, rate)));
    }
    if sites.is_empty() {
        let remedy = "give a rate above zero, or write dropout = \"off\"";
        return Err(read.no_effect("rate", "no site is left with a rate above zero", remedy));
    }
    let sharing = match read.word("variational")? {
        "yes" => Sharing::Time,
        _ => Sharing::Element,
    };
    Ok(Box::new(Dropout { sites, sharing }))
}

impl Technique for Dropout {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        for (site, rate) in &self.sites {
            plan.own_site(CARD.name, *site, rate.clone())?;
        }
        plan.noise.sharing = self.sharing;
        Ok(())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let sites: Vec<Site> = self.sites.iter().map(|(site, _)| *site).collect();
        let units = match self.sharing {
            Sharing::Element => "units",
            Sharing::Time => "channels (one mask per sequence)",
        };
        noise_receipt(&CARD, live, &sites, units)
    }
}
