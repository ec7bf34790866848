//! A process that takes turns: it warms up, says "ready", and answers each number of seconds that
//! it is given with one line of JSON. Ours and PyTorch's both speak this.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

/// A running process and its two pipes; ended when dropped.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    errors: PathBuf,
}

/// Why there is no peer.
#[derive(Debug)]
pub enum NotReady {
    /// It was not ready in time.
    TimedOut,
    /// It ended or said something else: what it said last.
    Failed(String),
}

/// A turn may take this much longer than it was given; a step of the largest shape is seconds.
const TURN_GRACE: Duration = Duration::from_secs(600);

impl Peer {
    /// Starts `command` and waits until it is ready.
    ///
    /// It gets a process group of its own, so that compilers which it started end with it.
    pub fn start(command: &mut Command, limit: Duration) -> anyhow::Result<Result<Peer, NotReady>> {
        let errors = std::env::temp_dir().join(format!(
            "heldout-bench-{}-{}.tmp",
            std::process::id(),
            COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        ));
        let log = std::fs::File::create(&errors).context("a file for a peer's messages")?;
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let input = child.stdin.take().context("the pipe to a peer")?;
        let output = child.stdout.take().context("the pipe from a peer")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let peer = Peer { child, input, lines, errors };
        let deadline = Instant::now() + limit;
        loop {
            match peer.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line == "\"ready\"" => return Ok(Ok(peer)),
                // Whatever else a library says on the way.
                Ok(_) => continue,
                Err(RecvTimeoutError::Timeout) => return Ok(Err(NotReady::TimedOut)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Err(NotReady::Failed(peer.last_words())));
                }
            }
        }
    }

    /// One turn of about so many seconds.
    pub fn turn<T: DeserializeOwned>(&mut self, seconds: f64) -> anyhow::Result<T> {
        writeln!(self.input, "{seconds}").with_context(|| self.last_words())?;
        let limit = Duration::from_secs_f64(seconds) + TURN_GRACE;
        match self.lines.recv_timeout(limit) {
            Ok(line) => serde_json::from_str(&line).with_context(|| line),
            Err(RecvTimeoutError::Timeout) => bail!("no answer in {limit:?}: a step hangs"),
            Err(RecvTimeoutError::Disconnected) => bail!("it ended: {}", self.last_words()),
        }
    }

    /// The last line that it wrote to its standard error.
    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or("(it said nothing)").chars().take(200).collect()
    }
}

static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

impl Drop for Peer {
    fn drop(&mut self) {
        // The whole group: torch.compile leaves workers and compilers behind.
        #[cfg(unix)]
        {
            let group = format!("-{}", self.child.id());
            let kill = Command::new("kill").args(["-KILL", "--", &group]).output();
            drop(kill);
        }
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_file(&self.errors));
    }
}

/// Whether there is somebody to compare with: whether Python has this module.
pub fn has_module(module: &str) -> bool {
    let check = Command::new(crate::python()).args(["-c", &format!("import {module}")]).output();
    check.is_ok_and(|output| output.status.success())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, limit_ms: u64) -> Result<Peer, NotReady> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Peer::start(&mut command, Duration::from_millis(limit_ms)).expect("a shell")
    }

    #[test]
    fn a_peer_answers_turn_by_turn() {
        let script = "echo hello; echo '\"ready\"'; while read s; do echo \"[$s, 7]\"; done";
        let mut peer = shell(script, 5000).expect("ready");
        assert_eq!(peer.turn::<Vec<f64>>(0.5).expect("an answer"), [0.5, 7.0]);
        assert_eq!(peer.turn::<Vec<f64>>(2.0).expect("an answer"), [2.0, 7.0]);
    }

    #[test]
    fn one_that_hangs_or_fails_is_told_apart() {
        assert!(matches!(shell("sleep 60", 50), Err(NotReady::TimedOut)));
        match shell("echo 'no compiler' >&2; exit 3", 5000) {
            Err(NotReady::Failed(words)) => assert_eq!(words, "no compiler"),
            _ => panic!("it failed"),
        }
    }
}
