//! Workers: child processes of this very binary, one a trial, that live no longer than we do.
//!
//! A child holds the other end of a pipe from us. When the pipe closes, because we ask it to stop
//! or because we were killed, it finishes its step, writes a checkpoint and ends.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use heldout_train::TrainError;
use heldout_train::study::{TrialSpec, WorkerEnd, Workers};
use serde::{Deserialize, Serialize};

use crate::commands::trial::{DIED, INTERRUPTED};
use crate::failure::{DONE, Failure};

/// What a child tells of its trial, one line of JSON each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub step: u64,
    /// Steps in all.
    pub of: u64,
}

/// The progress of each worker, for whoever draws it.
pub type Board = Arc<Mutex<Vec<Progress>>>;

/// Bytes of a child's last words that are kept.
const WORDS_MOST: usize = 4000;

/// Child processes, one a worker.
pub struct Processes {
    /// Arguments that are the same for every trial.
    arguments: Vec<String>,
    binary: PathBuf,
    /// While it is open, the child works.
    pipes: Vec<Option<ChildStdin>>,
    ended: Receiver<(usize, WorkerEnd)>,
    sender: Sender<(usize, WorkerEnd)>,
    pub board: Board,
}

impl Processes {
    /// Nobody works yet. `arguments` name the study and what is the same for every trial.
    pub fn new(workers: usize, arguments: Vec<String>) -> Result<Processes, Failure> {
        let (sender, ended) = channel();
        let board = Arc::new(Mutex::new(vec![Progress::default(); workers]));
        let pipes = (0..workers).map(|_| None).collect();
        let binary = std::env::current_exe().map_err(|error| {
            Failure::failed(format!("our own program cannot be found: {error}"))
                .next("start heldout by its full path")
        })?;
        Ok(Processes { arguments, binary, pipes, ended, sender, board })
    }

    fn command(&self, spec: &TrialSpec) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--quiet").arg("ablate-trial").args(&self.arguments);
        command.args(["--arm", &spec.arm, "--seed", &spec.seed.to_string()]);
        command.args(["--rate-factor", &spec.rate_factor.to_string()]);
        if spec.is_tuning {
            command.arg("--tuning");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C goes to us alone; the children hear of it through the pipe.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }
}

impl Workers for Processes {
    fn start(&mut self, worker: usize, spec: &TrialSpec) -> Result<(), TrainError> {
        let spawned = self.command(spec).spawn();
        let mut child = spawned.map_err(|error| TrainError::Worker {
            trial: spec.name(),
            words: format!("no process could be started: {error}"),
        })?;
        self.pipes[worker] = child.stdin.take();
        lock(&self.board)[worker] = Progress::default();
        let (sender, board) = (self.sender.clone(), Arc::clone(&self.board));
        std::thread::spawn(move || {
            let end = follow(child, worker, &board);
            // Whoever waited may be gone; then nobody needs to know.
            let _ = sender.send((worker, end));
        });
        Ok(())
    }

    fn wait(&mut self, most: Duration) -> Option<(usize, WorkerEnd)> {
        let (worker, end) = self.ended.recv_timeout(most).ok()?;
        self.pipes[worker] = None;
        Some((worker, end))
    }

    fn stop(&mut self) {
        self.pipes.iter_mut().for_each(|pipe| drop(pipe.take()));
    }
}

/// Reads what a child says until it ends.
fn follow(mut child: Child, worker: usize, board: &Board) -> WorkerEnd {
    let errors = child.stderr.take();
    let errors = std::thread::spawn(move || {
        let mut words = Vec::new();
        if let Some(mut pipe) = errors {
            // What was read before an error is all there is.
            let _ = pipe.read_to_end(&mut words);
        }
        let start = words.len().saturating_sub(WORDS_MOST);
        String::from_utf8_lossy(&words[start..]).trim().to_owned()
    });
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if let Ok(progress) = serde_json::from_str(&line) {
                lock(board)[worker] = progress;
            }
        }
    }
    let words = errors.join().unwrap_or_default();
    let words = words.strip_prefix("error: ").unwrap_or(&words).to_owned();
    match child.wait() {
        Err(error) => WorkerEnd::Died(error.to_string()),
        Ok(status) => match status.code() {
            Some(DONE) => WorkerEnd::Ended,
            Some(INTERRUPTED) => WorkerEnd::Interrupted,
            Some(DIED) | None if words.is_empty() => WorkerEnd::Died(status.to_string()),
            Some(DIED) | None => WorkerEnd::Died(words),
            Some(_) => WorkerEnd::Broken(words),
        },
    }
}

/// The board, even if whoever held it panicked: it is only for show.
pub fn lock(board: &Board) -> std::sync::MutexGuard<'_, Vec<Progress>> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}
