//! Cards: what a technique, optimizer, schedule, model or tokenizer says about itself, as data.
//!
//! Command-line help, docs, the search space and the conformance tests all read these.

/// One entry of a registry, described for a human and for a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// The key in a recipe: lower case, words joined by `-`.
    pub name: &'static str,
    /// Which registry the card belongs to.
    pub kind: Kind,
    /// Where in training it acts; the catalogue is listed in this order.
    pub stage: Stage,
    /// One line: what it does.
    pub purpose: &'static str,
    /// Author, year and title or arXiv number of the source.
    pub paper: &'static str,
    /// The situations in which it helps.
    pub when_to_use: &'static str,
    /// The situations in which it hurts or does nothing.
    pub when_to_avoid: &'static str,
    /// Extra time and memory, in words with figures.
    pub cost: &'static str,
    /// Its settings; the first one is the main knob, the one a bare number in a recipe sets.
    pub knobs: &'static [Knob],
}

/// The registry that a card belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regularization technique.
    Technique,
    /// An update rule.
    Optimizer,
    /// A shape of a rate over the run.
    Schedule,
    /// A family of models.
    Model,
    /// A way to cut text into tokens.
    Tokenizer,
    /// Something that is done with trained models when they are scored.
    Evaluation,
}

impl Kind {
    /// Every kind, in the order in which `heldout list` shows them.
    pub const ALL: [Kind; 6] = [
        Kind::Technique,
        Kind::Optimizer,
        Kind::Schedule,
        Kind::Model,
        Kind::Tokenizer,
        Kind::Evaluation,
    ];

    /// The singular word for headings and arguments.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Technique => "technique",
            Kind::Optimizer => "optimizer",
            Kind::Schedule => "schedule",
            Kind::Model => "model",
            Kind::Tokenizer => "tokenizer",
            Kind::Evaluation => "evaluation",
        }
    }
}

/// Where in a training step (or around it) an entry acts, in the order of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Changes the architecture.
    Model,
    /// Changes what is read, or in which order.
    Data,
    /// Noise inside the forward pass.
    Noise,
    /// Targets and penalties.
    Loss,
    /// How many passes over the batch make a step's gradient, and at which weights.
    Probe,
    /// Gradient transforms, before the update.
    Gradient,
    /// The update rule.
    Optimizer,
    /// Shrinking of weights as part of the update.
    Decay,
    /// A projection of the weights after the update.
    Projection,
    /// Averages of the weights.
    Average,
    /// Rules that end a run.
    Stop,
    /// Rules that react to an explosion.
    Recovery,
    /// A rate over the run.
    Schedule,
    /// After training, when models are scored.
    Evaluation,
}

impl Stage {
    /// The word for headings.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Model => "model",
            Stage::Data => "data",
            Stage::Noise => "noise",
            Stage::Loss => "loss",
            Stage::Probe => "probe",
            Stage::Gradient => "gradient",
            Stage::Optimizer => "optimizer",
            Stage::Decay => "decay",
            Stage::Projection => "projection",
            Stage::Average => "average",
            Stage::Stop => "stop",
            Stage::Recovery => "recovery",
            Stage::Schedule => "schedule",
            Stage::Evaluation => "evaluation",
        }
    }
}

/// One setting of a card.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knob {
    /// The key in the recipe: lower case, words joined by `-`.
    pub name: &'static str,
    /// The unit in words (`"share of units"`, `"nats"`, `"steps"`), or `""` for a plain number.
    pub unit: &'static str,
    /// What it does, in one sentence.
    pub meaning: &'static str,
    /// The value when the recipe does not say.
    pub default: Default_,
    /// Least and greatest allowed number; not looked at for a text knob.
    pub range: (f64, f64),
    /// Where a search looks; `None` when it should leave the knob alone.
    pub search: Option<Search>,
    /// Whether the value may be a schedule over the run.
    pub schedulable: Schedulable,
    /// The allowed words of a text knob; empty for a number or for free text.
    pub choices: &'static [&'static str],
}

/// The default of a knob. (The trailing underscore keeps it apart from the std trait.)
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default_ {
    /// A number.
    Number(f64),
    /// A word.
    Text(&'static str),
    /// Absent unless set.
    Off,
}

impl std::fmt::Display for Default_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Default_::Number(value) => f.write_str(&crate::schedule::short_number(*value)),
            Default_::Text(word) => f.write_str(word),
            Default_::Off => f.write_str("off"),
        }
    }
}

/// Where a search looks for a good value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Search {
    /// Uniform between the two.
    Uniform(f64, f64),
    /// Uniform in the logarithm between the two, both positive.
    Log(f64, f64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number between the two, both included.
    Integer(i64, i64),
}

/// Whether a knob may be a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedulable {
    /// Yes.
    Yes,
    /// No.
    No,
}

impl Card {
    /// What is incomplete or contradictory in this card, one sentence each; empty when all is well.
    /// Every registry's conformance test asserts that this is empty.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !is_key(self.name) {
            found.push(format!("the name {:?} is not lower-case words joined by '-'", self.name));
        }
        for (what, text) in [
            ("purpose", self.purpose),
            ("paper", self.paper),
            ("when_to_use", self.when_to_use),
            ("when_to_avoid", self.when_to_avoid),
            ("cost", self.cost),
        ] {
            if text.trim().is_empty() {
                found.push(format!("{}: {what} is empty", self.name));
            }
        }
        for (position, knob) in self.knobs.iter().enumerate() {
            if self.knobs[..position].iter().any(|earlier| earlier.name == knob.name) {
                found.push(format!("{}: two knobs are called {}", self.name, knob.name));
            }
            found.extend(knob.problems().into_iter().map(|p| format!("{}: {p}", self.name)));
        }
        found
    }

    /// The knob called `name`.
    pub fn knob(&self, name: &str) -> Option<&'static Knob> {
        self.knobs.iter().find(|knob| knob.name == name)
    }
}

impl Knob {
    /// What is incomplete or contradictory in this knob, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let name = self.name;
        if !is_key(name) {
            found.push(format!("knob {name:?} is not lower-case words joined by '-'"));
        }
        if self.meaning.trim().is_empty() {
            found.push(format!("knob {name} has no meaning"));
        }
        let (low, high) = self.range;
        match self.default {
            Default_::Number(value) if !(low <= value && value <= high) => {
                found.push(format!("knob {name}: default {value} is outside {low}..{high}"));
            }
            Default_::Text(word) if !self.choices.is_empty() && !self.choices.contains(&word) => {
                found.push(format!("knob {name}: default {word:?} is not one of its choices"));
            }
            _ => {}
        }
        if let Some(search) = self.search {
            found.extend(self.search_problem(search));
        }
        found
    }

    /// A search range must lie in the allowed range and hold the default.
    fn search_problem(&self, search: Search) -> Option<String> {
        let name = self.name;
        let (low, high) = match search {
            Search::Choice(words) => {
                let unknown =
                    words.iter().find(|w| !self.choices.is_empty() && !self.choices.contains(w));
                let default_missing = matches!(self.default, Default_::Text(word)
                    if !words.contains(&word));
                return match (unknown, default_missing) {
                    (Some(word), _) => Some(format!("knob {name}: searches {word:?}, no choice")),
                    (None, true) => Some(format!("knob {name}: the search misses the default")),
                    (None, false) => None,
                };
            }
            Search::Integer(low, high) => (low as f64, high as f64),
            Search::Uniform(low, high) => (low, high),
            Search::Log(low, high) if low > 0.0 => (low, high),
            Search::Log(low, _) => {
                return Some(format!("knob {name}: a log search cannot start at {low}"));
            }
        };
        let allowed = self.range;
        if !(low < high && allowed.0 <= low && high <= allowed.1) {
            return Some(format!("knob {name}: search {low}..{high} is not within its range"));
        }
        match self.default {
            // Zero means "off" and no logarithmic range can hold it.
            Default_::Number(0.0) if matches!(search, Search::Log(..)) => None,
            Default_::Number(value) if !(low <= value && value <= high) => {
                Some(format!("knob {name}: search {low}..{high} misses the default {value}"))
            }
            _ => None,
        }
    }
}

/// Lower-case letters, digits and single hyphens, beginning with a letter.
fn is_key(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--")
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Knob = Knob {
        name: "rate",
        unit: "share",
        meaning: "How much.",
        default: Default_::Number(0.1),
        range: (0.0, 1.0),
        search: Some(Search::Uniform(0.0, 0.5)),
        schedulable: Schedulable::Yes,
        choices: &[],
    };

    #[test]
    fn a_complete_knob_has_no_problems_and_each_fault_is_named() {
        let check = |knob: Knob, word: &str| {
            let problems = knob.problems();
            assert!(problems.iter().any(|p| p.contains(word)), "{word}: {problems:?}");
        };
        assert_eq!(GOOD.problems(), Vec::<String>::new());
        check(Knob { name: "Rate", ..GOOD }, "lower-case");
        check(Knob { name: "a--b", ..GOOD }, "lower-case");
        check(Knob { meaning: " ", ..GOOD }, "meaning");
        check(Knob { default: Default_::Number(2.0), ..GOOD }, "outside");
        check(Knob { default: Default_::Number(f64::NAN), ..GOOD }, "outside");
        check(Knob { search: Some(Search::Log(0.0, 1.0)), ..GOOD }, "cannot start");
        check(Knob { search: Some(Search::Uniform(0.0, 2.0)), ..GOOD }, "within");
        check(Knob { search: Some(Search::Uniform(0.2, 0.4)), ..GOOD }, "misses");
        let word =
            Knob { default: Default_::Text("a"), choices: &["a", "b"], search: None, ..GOOD };
        assert!(word.problems().is_empty());
        check(Knob { default: Default_::Text("c"), ..word }, "choices");
        check(Knob { search: Some(Search::Choice(&["b"])), ..word }, "misses");
        check(Knob { search: Some(Search::Choice(&["a", "z"])), ..word }, "no choice");
    }

    #[test]
    fn cards_report_empty_texts_and_double_knobs() {
        let card = Card {
            name: "x",
            kind: Kind::Technique,
            stage: Stage::Noise,
            purpose: "",
            paper: "p",
            when_to_use: "u",
            when_to_avoid: "a",
            cost: "none",
            knobs: &[GOOD, GOOD],
        };
        let problems = card.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(card.knob("rate").is_some() && card.knob("other").is_none());
    }

    #[test]
    fn defaults_print_as_a_user_would_write_them() {
        assert_eq!(Default_::Number(0.1).to_string(), "0.1");
        assert_eq!(Default_::Number(1e-8).to_string(), "1e-8");
        assert_eq!(Default_::Text("all").to_string(), "all");
        assert_eq!(Default_::Off.to_string(), "off");
    }
}
