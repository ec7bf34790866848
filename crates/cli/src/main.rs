//! The `heldout` binary: one file per command; the only crate that prints, reads the environment
//! or exits.

mod ablation;
mod args;
mod commands;
mod console;
mod device_options;
mod diagnosis;
mod facts;
mod failure;
mod hub;
mod interrupt;
mod live;
mod outcome;
mod panics;
mod picture;
mod places;
mod quickstart;
mod readiness;
mod recipe_options;
mod registry;
mod text_stream;
mod writing_arguments;

use clap::Parser;

use crate::args::Arguments;
use crate::console::Console;
use crate::failure::{DONE, FAILED};

fn main() {
    std::process::exit(run());
}

/// Everything between the command line and the exit code.
fn run() -> i32 {
    let arguments = Arguments::parse();
    let console = Console::new(&arguments.global);
    panics::install(&console);
    let outcome = std::panic::catch_unwind(|| commands::run(arguments, &console));
    match outcome {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) if failure.is_broken_pipe() => DONE,
        Ok(Err(failure)) => {
            console.failure(&failure);
            failure.code
        }
        // The hook has printed what a user needs to know.
        Err(_) => FAILED,
    }
}
