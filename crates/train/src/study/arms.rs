//! From a question ("what is each of these worth?") to arms and contrasts.

use std::path::Path;

use heldout_base::card::{Default_, Search, Stage};
use heldout_base::schedule::short_number;
use heldout_data::Progress;
use heldout_record::manifest::now;
use heldout_record::study::{
    Arm, Contrast, ContrastKind, Design, FORMAT, Rule, Study, Term, Tuning,
};
use heldout_regularize::{Settings, Value, find};

use super::reference;
use super::trial::arm_recipe;
use crate::error::TrainError;
use crate::job::{Job, prepare_job};
use crate::recipe::{Recipe, RecipeError, to_toml};

/// What a study is to find out.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub design: Design,
    /// Techniques that are on in the recipe; "all" stands for all but those that stop or mend a
    /// run. Nothing here and nothing in `add` means all, too.
    pub drop: Vec<String>,
    /// Techniques that are off in it.
    pub add: Vec<Added>,
    /// Replicates of each arm.
    pub seeds: u64,
    /// After how many of them the evidence is looked at.
    pub looks: Vec<u64>,
    /// Effects smaller than this count as none, in nats.
    pub rope: f64,
    /// Whether each arm gets its own learning rate.
    pub rates: Rates,
    /// Arms whose effect is known beforehand, to try the method itself.
    pub planted: Vec<Planted>,
}

/// Whether the learning rate is chosen anew for each arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rates {
    /// The recipe's rate for all.
    #[default]
    Shared,
    /// The best of three on a seed that is used for nothing else.
    Retuned,
}

/// A technique to add, with a value for its key in the recipe, or with a usual one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    pub name: String,
    pub value: Option<String>,
}

/// An arm that is no technique: its effect is known, so that the method can be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The same recipe with other random numbers: no effect, and all the noise there can be.
    Null,
    /// A tenth of the learning rate: hurts.
    Harm,
}

/// Of the recipe's learning rate, where rates are chosen anew.
const RATE_FACTORS: [f64; 3] = [0.5, 1.0, 2.0];

/// From a run's seed to that on which rates are chosen; no study has so many replicates.
const TUNING_OFFSET: u64 = 1000;

/// From a seed to that of a planted null.
const NULL_OFFSET: u64 = 1_000_000;

/// More techniques than this make too many combinations.
const FACTORS_MOST: usize = 5;

/// The chance of any false claim that a study accepts: one study in fifty. At the usual 0.05, a
/// series of twenty studies of nothing claims two or more every fourth time.
const LEVEL: f64 = 0.02;

/// A study ready to be written: its design, and the reference's recipe as TOML.
pub struct Designed {
    pub study: Study,
    pub recipe: String,
    /// The reference with its data, for checks and for telling the plan.
    pub reference: Job,
}

/// Resolves the recipe, chooses the arms, and checks that each of them can be trained.
///
/// # Errors
/// Whatever is wrong with the recipe or the data, and questions that make no sense: dropping what
/// is off, adding what is on, too many factors, a length in time.
pub fn design(
    question: &Question,
    recipe: &Recipe,
    cache: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Designed, TrainError> {
    let named: Vec<String> =
        question.drop.iter().cloned().chain(question.add.iter().map(|a| a.name.clone())).collect();
    let prepared = reference::prepare(recipe, &named)?;
    let reference = prepare_job(&prepared.recipe, cache, progress)?;
    let recipe = to_toml(&reference.recipe);
    let factors = factors(question, &reference)?;
    let (mut arms, mut contrasts) = match question.design {
        Design::LeaveOneOut => leave_one_out(&factors),
        Design::AddOneIn => add_one_in(&factors),
        Design::Factorial => factorial(&factors)?,
    };
    for planted in &question.planted {
        let (arm, contrast) = plant(*planted, reference.recipe.schedule.rate.peak);
        arms.push(arm);
        contrasts.push(contrast);
    }
    let first = reference.recipe.run.seed;
    let study = Study {
        format: FORMAT,
        created: now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        design: question.design,
        arms,
        contrasts,
        seeds: (first..first + question.seeds).collect(),
        tuning: (question.rates == Rates::Retuned)
            .then(|| Tuning { factors: RATE_FACTORS.to_vec(), seed: first + TUNING_OFFSET }),
        rule: Rule { level: LEVEL, rope: question.rope, looks: question.looks.clone() },
        recipe_hash: hash_of_values(&recipe),
        content_hash: reference.data.facts().content_hash().to_owned(),
        split: reference.data.facts().reading()[1].clone(),
        notes: prepared.notes,
        ..Study::default()
    };
    check_arms(&study, &recipe, cache)?;
    Ok(Designed { study, recipe, reference })
}

/// The hash of what a resolved recipe says, without the reasons, and without what follows from the
/// memory that happens to be free.
fn hash_of_values(recipe: &str) -> String {
    let is_of_machine = |line: &&str| line.starts_with("micro = ") || line.starts_with("memory = ");
    let value = |line: &'_ str| line.split("  # ").next().unwrap_or(line).trim_end().to_owned();
    let lines: Vec<String> = recipe.lines().filter(|l| !is_of_machine(l)).map(value).collect();
    heldout_base::durable::sha256_bytes(lines.join("\n").as_bytes())
}

/// Composes every arm once: a combination that cannot be should be known before any is trained.
fn check_arms(study: &Study, recipe: &str, cache: &Path) -> Result<(), TrainError> {
    for arm in &study.arms[1..] {
        let recipe = arm_recipe(recipe, arm, 1.0)?;
        prepare_job(&recipe, cache, &mut |_| {}).map_err(|source| {
            let (arm, source) = (arm.name.clone(), Box::new(source));
            TrainError::Arm { arm, source }
        })?;
    }
    Ok(())
}

/// A technique under study and the settings that switch it on or off over the recipe.
struct Factor {
    name: String,
    /// Whether the recipe itself has it.
    standing: FactorStanding,
    /// What puts it in, where the recipe does not have it.
    on: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FactorStanding {
    InRecipe,
    NotInRecipe,
}

impl Factor {
    fn off(&self) -> String {
        format!("regularize.{}=false", self.name)
    }

    /// The settings for it to be on, or off.
    fn settings(&self, wanted: FactorStanding) -> Option<String> {
        match (self.standing, wanted) {
            (FactorStanding::InRecipe, FactorStanding::NotInRecipe) => Some(self.off()),
            (FactorStanding::NotInRecipe, FactorStanding::InRecipe) => Some(self.on.clone()),
            _ => None,
        }
    }
}

fn factors(question: &Question, reference: &Job) -> Result<Vec<Factor>, TrainError> {
    let is_on = |name: &str| {
        let mut techniques = reference.recipe.regularize.iter();
        techniques.any(|t| t.card.name == name && t.settings.as_ref().is_some_and(|s| !s.is_off()))
    };
    let is_all = question.drop.iter().any(|name| name == "all")
        || (question.drop.is_empty() && question.add.is_empty() && question.planted.is_empty());
    let mut factors: Vec<Factor> = Vec::new();
    for technique in &reference.recipe.regularize {
        let (name, stage) = (technique.card.name, technique.card.stage);
        let is_ordinary = !matches!(stage, Stage::Stop | Stage::Recovery);
        let is_named = question.drop.iter().any(|n| n == name);
        if is_on(name) && (is_named || (is_all && is_ordinary)) {
            let standing = FactorStanding::InRecipe;
            factors.push(Factor { name: name.into(), standing, on: String::new() });
        }
    }
    for name in question.drop.iter().filter(|name| *name != "all") {
        find(name)?;
        if !is_on(name) {
            let message = format!("cannot drop `{name}`: it is off in this recipe");
            return Err(RecipeError::general(message)
                .note(format!("--add {name} shows what it would bring"))
                .into());
        }
    }
    for added in &question.add {
        let (name, value) = (&added.name, added_value(added)?);
        if is_on(name) {
            let message = format!("cannot add `{name}`: it is on in this recipe");
            return Err(RecipeError::general(message)
                .note(format!("--drop {name} shows what it is worth"))
                .into());
        }
        let on = format!("regularize.{name}={value}");
        factors.push(Factor { name: name.clone(), standing: FactorStanding::NotInRecipe, on });
    }
    if factors.is_empty() && question.planted.is_empty() {
        return Err(RecipeError::general("there is nothing to ablate: no technique is on")
            .note("--add NAME compares with one more; `heldout list techniques` shows them")
            .into());
    }
    Ok(factors)
}

/// The value given; else the technique's defaults; else the middle of where a search would look.
fn added_value(added: &Added) -> Result<String, TrainError> {
    let entry = find(&added.name)?;
    if let Some(value) = &added.value {
        return Ok(value.clone());
    }
    if (entry.build)(&Settings::default()).is_ok() {
        return Ok("true".to_owned());
    }
    let main = entry.card.knobs.first();
    let value = match main.and_then(|knob| knob.search) {
        Some(Search::Uniform(low, high)) => Value::Number((low + high) / 2.0),
        Some(Search::Log(low, high)) => Value::Number(one_digit((low * high).sqrt())),
        Some(Search::Integer(low, high)) => Value::Number(((low + high) / 2) as f64),
        Some(Search::Choice(words)) if !words.is_empty() => Value::Text(words[0].to_owned()),
        _ => match main.map(|knob| knob.default) {
            Some(Default_::Number(number)) => Value::Number(number),
            _ => {
                let message = format!("`{}` has no usual value", added.name);
                let note = format!("give one: --add {}=VALUE", added.name);
                return Err(RecipeError::general(message).note(note).into());
            }
        },
    };
    Ok(match value {
        Value::Text(word) => word,
        Value::Number(number) => short_number(number),
        _ => unreachable!("only numbers and words are chosen above"),
    })
}

/// A number rounded to one significant digit.
fn one_digit(value: f64) -> f64 {
    let scale = 10f64.powi(value.log10().floor() as i32);
    (value / scale).round() * scale
}

const REFERENCE: &str = "reference";

fn arm(name: String, factors: &[Factor], wanted: impl Fn(&Factor) -> FactorStanding) -> Arm {
    let settings = factors.iter().filter_map(|f| f.settings(wanted(f))).collect();
    let is_on = |f: &&Factor| wanted(f) == FactorStanding::InRecipe;
    let on = factors.iter().filter(is_on).map(|f| f.name.clone()).collect();
    Arm { name, settings, on, seed_offset: 0 }
}

fn term(arm: impl Into<String>, weight: f64) -> Term {
    Term { arm: arm.into(), weight }
}

fn contrast(name: &str, kind: ContrastKind, terms: Vec<Term>) -> Contrast {
    Contrast { name: name.into(), kind, techniques: vec![name.into()], terms }
}

/// The recipe; without each of its techniques; with each added one.
fn leave_one_out(factors: &[Factor]) -> (Vec<Arm>, Vec<Contrast>) {
    let mut arms = vec![arm(REFERENCE.into(), factors, |f| f.standing)];
    let mut contrasts = Vec::new();
    for factor in factors {
        let (name, other, kind) = match factor.standing {
            FactorStanding::InRecipe => {
                (format!("no-{}", factor.name), FactorStanding::NotInRecipe, ContrastKind::Dropped)
            }
            FactorStanding::NotInRecipe => {
                (format!("with-{}", factor.name), FactorStanding::InRecipe, ContrastKind::Added)
            }
        };
        let sign = if kind == ContrastKind::Dropped { 1.0 } else { -1.0 };
        let terms = vec![term(&name, sign), term(REFERENCE, -sign)];
        contrasts.push(contrast(&factor.name, kind, terms));
        let wanted = |f: &Factor| if f.name == factor.name { other } else { f.standing };
        arms.push(arm(name, factors, wanted));
    }
    (arms, contrasts)
}

/// The recipe without any of the techniques; with each of them alone.
fn add_one_in(factors: &[Factor]) -> (Vec<Arm>, Vec<Contrast>) {
    let mut arms = vec![arm(REFERENCE.into(), factors, |_| FactorStanding::NotInRecipe)];
    let mut contrasts = Vec::new();
    for factor in factors {
        let name = format!("with-{}", factor.name);
        let terms = vec![term(REFERENCE, 1.0), term(&name, -1.0)];
        contrasts.push(contrast(&factor.name, ContrastKind::Added, terms));
        arms.push(arm(name, factors, |f| match f.name == factor.name {
            true => FactorStanding::InRecipe,
            false => FactorStanding::NotInRecipe,
        }));
    }
    (arms, contrasts)
}

/// Every combination; main effects and interactions of two.
fn factorial(factors: &[Factor]) -> Result<(Vec<Arm>, Vec<Contrast>), RecipeError> {
    let count = factors.len();
    if !(2..=FACTORS_MOST).contains(&count) {
        let message = format!(
            "a factorial study takes 2 to {FACTORS_MOST} techniques, and these are {count} \
             ({} combinations)",
            1u64 << count.min(63)
        );
        return Err(RecipeError::general(message).note("name some: --drop dropout,weight-decay"));
    }
    let is_on = |set: usize, i: usize| set >> i & 1 == 1;
    let of_recipe = |i: usize| usize::from(factors[i].standing == FactorStanding::InRecipe) << i;
    let recipe: usize = (0..count).map(of_recipe).sum();
    let name = |set: usize| {
        let on = (0..count).filter(|i| is_on(set, *i)).map(|i| factors[i].name.as_str());
        let on: Vec<&str> = on.collect();
        match (set == recipe, on.is_empty()) {
            (true, _) => REFERENCE.to_owned(),
            (false, true) => "none".to_owned(),
            (false, false) => on.join("+"),
        }
    };
    // The reference first, then the others by number.
    let others = (0..1 << count).filter(|set| *set != recipe);
    let sets: Vec<usize> = std::iter::once(recipe).chain(others).collect();
    let arms = sets.iter().map(|set| {
        arm(name(*set), factors, |f| {
            let place = factors.iter().position(|g| g.name == f.name).expect("one of them");
            match is_on(*set, place) {
                true => FactorStanding::InRecipe,
                false => FactorStanding::NotInRecipe,
            }
        })
    });
    let sign = |set: usize, i: usize| if is_on(set, i) { -1.0 } else { 1.0 };
    let mut contrasts = Vec::new();
    for (i, factor) in factors.iter().enumerate() {
        let share = 1.0 / (1 << (count - 1)) as f64;
        let terms = sets.iter().map(|set| term(name(*set), share * sign(*set, i))).collect();
        contrasts.push(contrast(&factor.name, ContrastKind::Main, terms));
    }
    for i in 0..count {
        for j in i + 1..count {
            // What i is worth with j, minus what it is worth without j.
            let share = 1.0 / (1 << (count - 2)) as f64;
            let weight = |set: usize| -share * sign(set, i) * sign(set, j);
            let terms = sets.iter().map(|set| term(name(*set), weight(*set))).collect();
            let techniques = vec![factors[i].name.clone(), factors[j].name.clone()];
            let name = techniques.join(" × ");
            contrasts.push(Contrast { name, kind: ContrastKind::Interaction, techniques, terms });
        }
    }
    Ok((arms.collect(), contrasts))
}

fn plant(planted: Planted, rate: f64) -> (Arm, Contrast) {
    let (technique, settings, seed_offset) = match planted {
        Planted::Null => ("planted-null", Vec::new(), NULL_OFFSET),
        Planted::Harm => {
            ("planted-harm", vec![format!("optimizer.learning-rate={:e}", rate / 10.0)], 0)
        }
    };
    let name = format!("with-{technique}");
    let terms = vec![term(REFERENCE, 1.0), term(&name, -1.0)];
    let on = vec![technique.to_owned()];
    let arm = Arm { name, settings, on, seed_offset };
    (arm, contrast(technique, ContrastKind::Added, terms))
}

#[cfg(test)]
mod tests;
