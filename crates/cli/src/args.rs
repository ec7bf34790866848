//! The command line: global options and one variant per command.

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    ablate, advise, completions, data, diagnose, evaluate, explain, finetune, generate, list,
    lr_find, plan, predict, quickstart, report, resume, train, trial, validate,
};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed (disk, memory, a defect)
  2    bad usage, recipe, data or file
  3    stopped by a rule: the run diverged
  130  interrupted (Ctrl-C); 143 terminated; 138 SIGUSR1: a checkpoint was written, and
       `heldout resume RUN` goes on from it

Results go to stdout, progress and errors to stderr. NO_COLOR turns colours off.";

const START: &str = "\
Start here:
  heldout quickstart                 the whole story in two minutes
  heldout train my-text.txt          a language model of your text, best on what it has not seen
  heldout list                       what there is; `heldout explain NAME` says more

";

/// Trains language models that are best on held-out text, and measures by how much.
#[derive(Parser)]
#[command(name = "heldout", version, propagate_version = true)]
#[command(after_help = format!("{START}{EXIT_CODES}"), disable_help_subcommand = true)]
#[command(arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Say nothing but errors and the result
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more: every recorded step and checkpoint
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// One per file of `commands`.
#[derive(Subcommand)]
pub enum Command {
    /// See overfitting happen and be prevented, in about two minutes, with nothing else
    Quickstart(quickstart::Options),
    /// Train a language model on text; a bare text file is enough
    Train(train::Options),
    /// Go on from a trained model: on more text, or to label texts (--task classify)
    Finetune(finetune::Options),
    /// Go on exactly where a run stopped
    Resume(resume::Options),
    /// Measure a run or a model: losses with errors, perplexity, bits per byte
    Evaluate(evaluate::Options),
    /// Write text with a run's best weights, or with any model folder
    Generate(generate::Options),
    /// Label, translate or summarise texts: records in, the same with the prediction out
    Predict(predict::Options),
    /// Show what a recipe means: every value with its origin, and the plan
    Plan(plan::Options),
    /// Check a recipe and its data without training
    Validate(validate::Options),
    /// List techniques, optimizers, schedules, models, tokenizers, evaluations
    List(list::Options),
    /// Explain one of them: what, why, when, cost, knobs
    Explain(explain::Options),
    /// Look at data and propose a recipe, with reasons
    Advise(advise::Options),
    /// Look at data as training would see it: `heldout data preview` shows augmented texts
    Data(Box<data::Options>),
    /// Find a learning rate: a range test over several seeds, with an interval
    LrFind(lr_find::Options),
    /// Find out what each technique is worth: replicated paired comparisons with a verdict
    Ablate(Box<ablate::Options>),
    /// One trial of a study, for `ablate`
    #[command(hide = true)]
    AblateTrial(trial::Options),
    /// Say what is wrong with a run, since when, how much it cost, and what to try
    Diagnose(diagnose::Options),
    /// Write up runs side by side, or a study: one HTML page, Markdown or JSON
    Report(report::Options),
    /// Print shell completions
    Completions(completions::Options),
}
