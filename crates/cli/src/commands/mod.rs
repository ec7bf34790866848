//! One file per command; each has its `Options` and a `run` that returns the exit code.

pub mod ablate;
pub mod advise;
pub mod completions;
pub mod data;
pub mod diagnose;
pub mod evaluate;
mod evaluate_answers;
mod evaluate_labels;
mod evaluate_texts;
pub mod explain;
pub mod finetune;
pub mod generate;
pub mod list;
pub mod lr_find;
pub mod plan;
pub mod predict;
pub mod quickstart;
pub mod report;
pub mod resume;
pub mod train;
pub mod trial;
pub mod validate;

use crate::args::{Arguments, Command};
use crate::console::Console;
use crate::failure::Failure;

/// Runs the chosen command.
pub fn run(arguments: Arguments, console: &Console) -> Result<i32, Failure> {
    match arguments.command {
        Command::Quickstart(options) => quickstart::run(options, console),
        Command::Train(options) => train::run(options, console),
        Command::Finetune(options) => finetune::run(options, console),
        Command::Resume(options) => resume::run(options, console),
        Command::Evaluate(options) => evaluate::run(options, console),
        Command::Generate(options) => generate::run(options, console),
        Command::Predict(options) => predict::run(options, console),
        Command::Plan(options) => plan::run(options, console),
        Command::Validate(options) => validate::run(options, console),
        Command::List(options) => list::run(options, console),
        Command::Explain(options) => explain::run(options, console),
        Command::Advise(options) => advise::run(options, console),
        Command::Data(options) => data::run(*options, console),
        Command::LrFind(options) => lr_find::run(options, console),
        Command::Ablate(options) => ablate::run(*options, console),
        Command::AblateTrial(options) => trial::run(options, console),
        Command::Diagnose(options) => diagnose::run(options, console),
        Command::Report(options) => report::run(options, console),
        Command::Completions(options) => completions::run(options, console),
    }
}
