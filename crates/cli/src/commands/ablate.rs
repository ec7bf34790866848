//! `heldout ablate RECIPE`: what each technique is worth, with replicates, intervals and a verdict.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use heldout_record::study::{
    Design, NgramFigures, Standing, Study, StudyDir, StudyStatus, TrialEvent,
};
use heldout_report::study::{analyze, is_all_settled, planned_looks};
use heldout_report::summary::plus_minus;
use heldout_train::recipe::Amount;
use heldout_train::study::{
    Designed, Keep, Limits, Ngram, Planted, Question, Rates, Stopping, conduct, count_baseline,
    design,
};
use heldout_train::{Control, Corpus};

use crate::ablation::analyst::Statistics;
use crate::ablation::board::StudyBoard;
use crate::ablation::existing::{self, Opened};
use crate::ablation::processes::Processes;
use crate::ablation::{names, result};
use crate::console::{Console, Output};
use crate::facts;
use crate::failure::{DIVERGED, DONE, Failure, SIGNALLED};
use crate::interrupt::Interrupts;
use crate::live::Live;
use crate::places;
use crate::readiness;
use crate::recipe_options::RecipeOptions;

/// Options of `heldout ablate`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  heldout ablate recipe.toml                             drop each technique in turn, 5 seeds
  heldout ablate recipe.toml --drop dropout,ema --seeds 8 --workers 2
  heldout ablate my-text.txt --steps 500 --add z-loss,head-dropout=0.1 --budget \"30 min\"
  heldout ablate recipe.toml --design factorial --drop dropout,weight-decay

All arms train from the same weights on the same batches, seed by seed, for the same number of
steps; each keeps its best weights by validation, and the verdict is about a test split that chose
nothing. Ctrl-C, kill or a budget end it at any time: the same command goes on, and with more
--seeds it extends the study: only what is missing is run.")]
pub struct Options {
    #[command(flatten)]
    pub recipe: RecipeOptions,
    /// Techniques to switch off, one by one: names, or all [default: all that are on]
    #[arg(long, value_name = "NAMES")]
    pub drop: Vec<String>,
    /// Techniques to put in, one by one: NAME or NAME=VALUE
    #[arg(long, value_name = "NAMES")]
    pub add: Vec<String>,
    /// Replicates of each arm, settled effects need fewer; more than a study has extend it
    /// [default: 5, or those of the study]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=30))]
    pub seeds: Option<u64>,
    /// Stop after this time, e.g. "30 min", with the pairs that are whole by then
    #[arg(long, value_name = "TIME")]
    pub budget: Option<String>,
    /// What is compared with what
    #[arg(long, value_name = "DESIGN", default_value = "leave-one-out")]
    pub design: DesignArgument,
    /// Choose each arm's learning rate anew (×0.5, ×1, ×2) on a seed of its own
    #[arg(long)]
    pub retune_rate: bool,
    /// Trials at a time, each a process; they share the threads
    #[arg(long, value_name = "K", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=256))]
    pub workers: u64,
    /// Effects smaller than this count as none, in nats
    #[arg(long, value_name = "NATS", default_value_t = 0.005)]
    pub rope: f64,
    /// What to keep of each trial beside its records
    #[arg(long, default_value = "best")]
    pub keep: KeepArgument,
    /// Folder of the study; one that is there goes on [default: studies/NAME]
    #[arg(long, short, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Arms whose effect is known, to try the method itself
    #[arg(long, hide = true, value_delimiter = ',')]
    pub planted: Vec<PlantedArgument>,
}

/// A design as written on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DesignArgument {
    /// The recipe, and without (or with) one technique
    LeaveOneOut,
    /// The recipe without any of them, and with one
    AddOneIn,
    /// Every combination: main effects and interactions
    Factorial,
}

/// What is kept, as written on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KeepArgument {
    /// The model with the lowest validation loss
    Best,
    /// Every trial's model
    Models,
    /// Models and checkpoints
    All,
}

/// A planted arm, as written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlantedArgument {
    Null,
    Harm,
}

impl KeepArgument {
    /// What it means.
    pub fn keep(self) -> Keep {
        match self {
            KeepArgument::Best => Keep::Best,
            KeepArgument::Models => Keep::Models,
            KeepArgument::All => Keep::All,
        }
    }

    fn word(self) -> &'static str {
        match self {
            KeepArgument::Best => "best",
            KeepArgument::Models => "models",
            KeepArgument::All => "all",
        }
    }
}

/// Carries the study out, or goes on with it, and prints what came of it.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let budget = options.budget.as_deref().map(duration).transpose()?;
    if !(options.rope >= 0.0 && options.rope.is_finite()) {
        return Err(Failure::bad_input(format!("--rope {} is no size of an effect", options.rope))
            .next("give nats of 0 or more, such as 0.005"));
    }
    let recipe = options.recipe.recipe()?;
    let root = options
        .out
        .clone()
        .unwrap_or_else(|| Path::new(places::STUDIES).join(options.recipe.stem()));
    let control = Control::new();
    let interrupts = Interrupts::install(console, vec![control.clone()])?;
    let live = Live::start(console, &[""], None);
    let mut preparing = |progress| live.phase(&facts::progress(&progress));
    let designed = design(&question(&options), &recipe, &places::cache(), &mut preparing)?;
    live.finish();
    readiness::check(&designed.reference)?;
    check_test(&designed)?;
    let threads = designed.reference.recipe.run.threads;
    let Opened { folder, mut study, _lock } = existing::open(&root, designed, options.seeds)?;
    tell_plan(&folder, &study, console);
    interrupts.run_started();
    study.status = StudyStatus::Running;
    folder.write_study(&study)?;
    let baseline = beat_this(&folder, &study, &control, console)?;

    let limits = Limits { workers: options.workers as usize, budget, keep: options.keep.keep() };
    let threads = threads.unwrap_or_else(heldout_kernels::default_threads);
    let each = (threads / limits.workers).max(1).to_string();
    let place = root.display().to_string();
    let arguments = [place.as_str(), "--threads", &each, "--keep", options.keep.word()];
    let mut workers = Processes::new(limits.workers, arguments.map(str::to_owned).to_vec())?;
    let seconds = budget.map(|b| b.as_secs_f64());
    let mut board = StudyBoard::new(console, workers.board.clone(), seconds);
    let mut watch = |now: &heldout_train::study::Conducted<'_>| board.show(now);
    let ended = conduct(&folder, &study, &limits, &mut workers, &Statistics, &control, &mut watch);
    board.finish();
    let ended = ended?;
    let standing = standing(ended.why, &study, &ended.events);
    let mut result = analyze(&study, &ended.events, standing);
    result.baseline = baseline;
    folder.write_result(&result)?;
    study.status = match ended.why {
        Stopping::Done => StudyStatus::Done,
        Stopping::Budget | Stopping::Interrupted => StudyStatus::Stopped,
    };
    folder.write_study(&study)?;
    match console.output {
        Output::Json => console.out_json(&result)?,
        Output::Text => result::print(&folder, &result, &ended.events, console)?,
    }
    if ended.why == Stopping::Interrupted {
        return Ok(interrupts.exit_code().unwrap_or(SIGNALLED + signal_hook::consts::SIGINT));
    }
    let is_hopeless = result.trials_finished == 0 && result.trials_failed > 0;
    Ok(if is_hopeless { DIVERGED } else { DONE })
}

/// Replicates of each arm where nobody says how many.
const SEEDS: u64 = 5;

fn question(options: &Options) -> Question {
    let seeds = options.seeds.unwrap_or(SEEDS);
    Question {
        design: match options.design {
            DesignArgument::LeaveOneOut => Design::LeaveOneOut,
            DesignArgument::AddOneIn => Design::AddOneIn,
            DesignArgument::Factorial => Design::Factorial,
        },
        drop: names::dropped(&options.drop),
        add: names::added(&options.add),
        seeds,
        looks: planned_looks(seeds),
        rope: options.rope,
        rates: if options.retune_rate { Rates::Retuned } else { Rates::Shared },
        planted: options
            .planted
            .iter()
            .map(|planted| match planted {
                PlantedArgument::Null => Planted::Null,
                PlantedArgument::Harm => Planted::Harm,
            })
            .collect(),
    }
}

fn duration(text: &str) -> Result<Duration, Failure> {
    let wrong = |why: String| {
        Failure::bad_input(format!("--budget {text:?}: {why}"))
            .next("give a time, such as \"30 min\" or \"2 h\"")
    };
    match Amount::parse(text).map_err(wrong)? {
        Amount::Seconds(seconds) => Ok(Duration::from_secs_f64(seconds)),
        other => Err(wrong(format!("{other} is no time"))),
    }
}

/// A test split that no window fits into cannot give a verdict.
fn check_test(designed: &Designed) -> Result<(), Failure> {
    let job = &designed.reference;
    let (count, what) = match &job.data {
        Corpus::Text(data) => (data.facts.tokens_test, "tokens"),
        Corpus::Labelled(data) => (data.facts.test.as_ref().map_or(0, |t| t.examples), "texts"),
        Corpus::Masked(_) | Corpus::Answers(_) | Corpus::Pairs(_) => {
            return Err(Failure::bad_input("studies are about language models and classifiers")
                .next("compare runs of this task with several seeds: heldout report RUN RUN2"));
        }
    };
    if count >= 2 {
        return Ok(());
    }
    Err(Failure::bad_input(format!(
        "the test split has {count} {what}: no verdict can be based on it"
    ))
    .next("give a larger share, such as --set data.test=0.2, or a file of its own"))
}

/// The n-gram model that every arm has to beat: counted now, or before.
fn beat_this(
    folder: &StudyDir,
    study: &Study,
    control: &Control,
    console: &Console,
) -> Result<Option<NgramFigures>, Failure> {
    let known = folder.read_baseline()?;
    let live = Live::start(console, &[""], None);
    live.phase("counting n-grams for a baseline ...");
    let counted = folder.recipe_text().map_err(Failure::from).and_then(|recipe| {
        Ok(count_baseline(study, &recipe, known.as_ref(), &places::cache(), control)?)
    });
    live.finish();
    let known = match counted? {
        Ngram::Counted(baseline) => {
            folder.write_baseline(&baseline)?;
            Some(*baseline)
        }
        Ngram::Known => known,
        Ngram::Skipped(reason) => {
            console.note(&format!("note       {reason}"));
            None
        }
        Ngram::Absent => None,
    };
    let figures = known.map(|baseline| baseline.figures);
    if let Some(ngram) = &figures {
        console.note(&format!(
            "baseline   n-gram (order {}, {}): {} on the test split, the loss to beat",
            ngram.order,
            ngram.smoothing,
            plus_minus(ngram.loss_test, ngram.loss_test_se)
        ));
    }
    Ok(figures)
}

/// What is about to happen, in a few lines.
fn tell_plan(folder: &StudyDir, study: &Study, console: &Console) {
    let names: Vec<&str> = study.arms.iter().map(|arm| arm.name.as_str()).collect();
    console.note(&format!(
        "study      {}: {}, {} arms × {} seeds",
        folder.root.display(),
        study.design.word(),
        names.len(),
        study.seeds.len()
    ));
    console.note(&format!("arms       {}", names.join(", ")));
    console.note(&format!("split      {}", study.split));
    for note in &study.notes {
        console.note(&format!("note       {note}"));
    }
}

/// Whether the result is final, and if not, why.
fn standing(why: Stopping, study: &Study, events: &[TrialEvent]) -> Standing {
    match why {
        Stopping::Budget => Standing::Budget,
        Stopping::Interrupted => Standing::Interrupted,
        Stopping::Done if is_early(study, events) => Standing::Settled,
        Stopping::Done => Standing::Complete,
    }
}

fn is_early(study: &Study, events: &[TrialEvent]) -> bool {
    let done = heldout_report::study::seeds_done(study, events);
    done < study.seeds.len() && is_all_settled(study, events)
}
