//! Signals: the first asks the run to finish its step and checkpoint, the second ends us at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use heldout_train::Control;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::console::Console;
use crate::failure::{Failure, SIGNALLED};
use crate::live::terminal;

/// Whether whoever started us has hangups ignored.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

/// What has been asked of us since the handlers were installed.
#[derive(Clone)]
pub struct Interrupts {
    first: Arc<AtomicI32>,
    /// 1 once a run is under way, so that there is something to checkpoint.
    is_running: Arc<AtomicI32>,
}

impl Interrupts {
    /// Installs the handlers; the first signal stops `control`.
    ///
    /// Before a run is under way ([`Interrupts::run_started`]) there is nothing to save, so even
    /// the first signal ends the process.
    pub fn install(console: &Console, controls: Vec<Control>) -> Result<Interrupts, Failure> {
        let state = Interrupts {
            first: Arc::new(AtomicI32::new(0)),
            is_running: Arc::new(AtomicI32::new(0)),
        };
        let mut asked = vec![SIGINT, SIGTERM, SIGUSR1];
        // `nohup` has it ignored, and a handler of ours would undo that.
        if !is_hangup_ignored() {
            asked.push(SIGHUP);
        }
        let mut signals = Signals::new(asked)
            .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
        let (seen, console) = (state.clone(), console.clone());
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let is_second = seen.first.load(Ordering::Relaxed) != 0;
                // The shell and the kernel both send it when a terminal closes; nobody insists.
                if is_second && signal == SIGHUP {
                    continue;
                }
                if is_second || seen.is_running.load(Ordering::Relaxed) == 0 {
                    terminal::restore();
                    std::process::exit(SIGNALLED + signal);
                }
                seen.first.store(signal, Ordering::Relaxed);
                controls.iter().for_each(Control::stop_gracefully);
                console.notice_from_signal(
                    "stopping after this step and writing a checkpoint; once more quits at once",
                );
            }
        });
        Ok(state)
    }

    /// From now on there is a run to checkpoint.
    pub fn run_started(&self) {
        self.is_running.store(1, Ordering::Relaxed);
    }

    /// The exit code of the signal that came, if one came.
    pub fn exit_code(&self) -> Option<i32> {
        match self.first.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(SIGNALLED + signal),
        }
    }
}
