//! `heldout completions SHELL`: a script for the shell to complete our commands with.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Arguments;
use crate::console::Console;
use crate::failure::{DONE, Failure};

/// Options of `heldout completions`.
#[derive(Args)]
#[command(after_help = "\
For bash:  heldout completions bash > ~/.local/share/bash-completion/completions/heldout
For zsh:   heldout completions zsh > \"${fpath[1]}/_heldout\"
For fish:  heldout completions fish > ~/.config/fish/completions/heldout.fish")]
pub struct Options {
    /// The shell that will read it
    pub shell: Shell,
}

/// Prints the script.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(options.shell, &mut command, "heldout", &mut script);
    console.out_raw(&String::from_utf8_lossy(&script))?;
    Ok(DONE)
}
