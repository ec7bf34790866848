//! The training table: our steps and PyTorch's in turn, two threads, and ours on one thread.
//!
//! All sides of a cell live as processes through all of its rounds and sleep while it is not their
//! turn, so that neither start-up nor compilation is ever timed. The order changes from round to
//! round, since a turn inherits the heat of the one before.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::options::Options;
use super::peer::{NotReady, Peer, has_module};
use super::results::{Cell, Provenance, Results, Side, Turn};
use super::workload::Workload;
use super::{THREADS, step};

/// After so many rounds a mode of PyTorch whose best turn was slower than `HOPELESS` times the
/// worst turn of its other mode takes no further part.
const TRIAL_ROUNDS: usize = 2;
const HOPELESS: f64 = 0.9;
/// Between two turns: what the one before still spins or frees is not the next one's business.
const SETTLE: Duration = Duration::from_millis(200);
/// Warming up everything but torch.compile.
const START_LIMIT: Duration = Duration::from_secs(180);

/// Measures the chosen cells, one after the other, and files each as soon as it is done.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let torch = has_module("torch");
    if !torch && !options.modes.is_empty() {
        println!("(no PyTorch in {}: our side alone; set HELDOUT_PYTHON)", crate::python());
    }
    for name in &options.workloads {
        let workload = Workload::named(name)?;
        for precision in &options.precisions {
            for dropout in dropouts(workload, options) {
                let mut measurement = Measurement::start(root, workload, precision, dropout)?;
                let mode = |mode: &str| match (torch, options.modes.iter().any(|m| m == mode)) {
                    (true, true) => measurement.peer(mode, options.compile_limit),
                    (true, false) => Ok(Contender::absent("not run")),
                    (false, _) => Ok(Contender::absent("no PyTorch")),
                };
                let modes = [mode("eager")?, mode("compile")?];
                measurement.modes = modes;
                let cell = measurement.run(options)?;
                println!("{}", super::render::line(&cell));
                let key = format!("{name} {precision} {dropout}");
                Results::change(root, |results| drop(results.training.insert(key, cell)))?;
            }
        }
    }
    Ok(())
}

/// W3 is GPT-2 as it is trained today, without dropout.
fn dropouts<'a>(workload: &Workload, options: &'a Options) -> Vec<&'a String> {
    let wanted = |dropout: &&String| workload.name != "W3" || dropout.as_str() == "0";
    options.dropouts.iter().filter(wanted).collect()
}

/// One that takes turns, or the reason why it does not.
struct Contender {
    process: Option<Peer>,
    side: Side,
}

impl Contender {
    fn absent(note: &str) -> Contender {
        Contender { process: None, side: Side::absent(note) }
    }

    fn start(command: &mut Command, limit: Duration) -> anyhow::Result<Contender> {
        Ok(match Peer::start(command, limit)? {
            Ok(peer) => Contender { process: Some(peer), side: Side::default() },
            Err(NotReady::TimedOut) => {
                Contender::absent(&format!("timed out after {} s", limit.as_secs()))
            }
            Err(NotReady::Failed(words)) => Contender::absent(&format!("failed: {words}")),
        })
    }

    fn turn(&mut self, seconds: f64) -> anyhow::Result<()> {
        if let Some(peer) = &mut self.process {
            std::thread::sleep(SETTLE);
            self.side.turns.push(peer.turn::<Turn>(seconds)?);
        }
        Ok(())
    }
}

/// A cell while it is being measured.
struct Measurement<'a> {
    root: &'a Path,
    workload: &'static Workload,
    precision: &'a str,
    dropout: &'a str,
    ours: Contender,
    ours_one_thread: Contender,
    /// Eager, compiled.
    modes: [Contender; 2],
    peak_gflops: f64,
}

impl<'a> Measurement<'a> {
    /// Starts our side; the time of one thread is taken without dropout alone.
    fn start(
        root: &'a Path,
        workload: &'static Workload,
        precision: &'a str,
        dropout: &'a str,
    ) -> anyhow::Result<Measurement<'a>> {
        let own = |threads: usize| -> anyhow::Result<Contender> {
            let threads = threads.to_string();
            let words = ["bench", "--step", workload.name, precision, dropout, &threads, "serve"];
            let contender =
                Contender::start(Command::new(std::env::current_exe()?).args(words), START_LIMIT)?;
            anyhow::ensure!(contender.process.is_some(), "our step: {}", contender.side.note);
            Ok(contender)
        };
        let ours = own(THREADS)?;
        let ours_one_thread =
            if dropout == "0" { own(1)? } else { Contender::absent("without dropout only") };
        let modes = [Contender::absent("not run"), Contender::absent("not run")];
        let peak_gflops = 0.0;
        Ok(Measurement {
            root,
            workload,
            precision,
            dropout,
            ours,
            ours_one_thread,
            modes,
            peak_gflops,
        })
    }

    fn peer(&self, mode: &str, compile_limit: Duration) -> anyhow::Result<Contender> {
        let w = self.workload;
        let shape = [w.layers, w.heads, w.width, w.context, w.batch, w.vocabulary];
        let threads = THREADS.to_string();
        let limit = if mode == "compile" { compile_limit } else { START_LIMIT };
        let began = std::time::Instant::now();
        let contender = Contender::start(
            Command::new(crate::python())
                .arg(self.root.join("bench/pytorch/step.py"))
                .args(shape.map(|n| n.to_string()))
                .args([self.dropout, self.precision, mode, &threads, "serve"])
                .env("TORCHINDUCTOR_CACHE_DIR", compile_cache()?),
            limit,
        )?;
        let (seconds, note) = (began.elapsed().as_secs_f64(), &contender.side.note);
        eprintln!("  {} {} {mode} warm after {seconds:.0} s {note}", w.name, self.precision);
        Ok(contender)
    }

    fn run(mut self, options: &Options) -> anyhow::Result<Cell> {
        for round in 0..options.rounds {
            for place in 0..4 {
                match (round + place) % 4 {
                    0 => {
                        self.peak_gflops = self.peak_gflops.max(self.peak()?);
                        self.ours.turn(options.seconds)?;
                    }
                    1 => self.ours_one_thread.turn(options.seconds)?,
                    mode => self.modes[mode - 2]
                        .turn(options.seconds)
                        .context("PyTorch stopped in the middle")?,
                }
            }
            if round + 1 == TRIAL_ROUNDS {
                self.drop_hopeless();
            }
        }
        let mut at = Provenance::now(self.root, options.rounds, options.seconds);
        at.peer = super::version_of("torch");
        let [eager, compiled] = self.modes.map(|mode| mode.side);
        Ok(Cell {
            at,
            workload: self.workload.name.to_string(),
            precision: self.precision.to_string(),
            dropout: self.dropout.to_string(),
            flop_per_token: self.workload.flop_per_token(),
            peak_gflops: self.peak_gflops,
            ours: self.ours.side,
            ours_one_thread: self.ours_one_thread.side,
            eager,
            compiled,
        })
    }

    /// GFLOP/s of multiply-adds on all threads, measured right before a turn of ours.
    fn peak(&self) -> anyhow::Result<f64> {
        let precision = step::precision_of(self.precision)?;
        let isa = heldout_kernels::Device::detect_isa();
        Ok(heldout_kernels::peak::peak(THREADS, precision, isa).unwrap_or(0.0))
    }

    /// Ends a mode of PyTorch that cannot become its faster one.
    fn drop_hopeless(&mut self) {
        let speeds = |contender: &Contender| -> Vec<f64> {
            contender.side.turns.iter().map(|turn| turn.tokens_per_second).collect()
        };
        for (slow, fast) in [(0, 1), (1, 0)] {
            let best = speeds(&self.modes[slow]).into_iter().fold(0.0, f64::max);
            let worst = speeds(&self.modes[fast]).into_iter().fold(f64::INFINITY, f64::min);
            if best > 0.0 && worst.is_finite() && best < HOPELESS * worst {
                self.modes[slow].process = None;
                self.modes[slow].side.note = format!("{TRIAL_ROUNDS} rounds: the slower mode");
            }
        }
    }
}

/// Where torch.compile keeps what it compiled, so that only the first run of a cell is slow.
fn compile_cache() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("the folder of this program")?;
    Ok(folder.join("bench-torch-compile"))
}
