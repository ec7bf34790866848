//! Times matrix products at training shapes, next to the processor's peak.
//!
//! `cargo bench -p heldout-kernels --bench products` prints a table; the peak is measured again
//! beside every shape, because a shared machine's speed wanders. With `serve` as its argument it
//! reads lines `M N K forward|input|weight f32|bf16 THREADS ROUNDS` and answers each with the
//! best and the median seconds: so another program can take turns with it. On one thread the
//! thread's own time is taken, on several the wall's.
#![allow(unsafe_code)]

use std::io::BufRead;
use std::sync::OnceLock;
use std::time::Instant;

use heldout_kernels::gemm::{Accumulate, Epilogue, Mat, matmul};
use heldout_kernels::{Device, Precision};

/// Which product of a linear layer: y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x. M, N, K are c's sizes.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Forward,
    Input,
    Weight,
}

#[rustfmt::skip]
const SHAPES: &[(usize, usize, usize, Kind)] = &[
    (2048, 1152, 384, Kind::Forward), (2048, 384, 384, Kind::Forward),
    (2048, 1536, 384, Kind::Forward), (2048, 384, 1536, Kind::Forward),
    (2048, 384, 1152, Kind::Input), (2048, 384, 1536, Kind::Input),
    (2048, 1536, 384, Kind::Input), (1152, 384, 2048, Kind::Weight),
    (1536, 384, 2048, Kind::Weight), (384, 1536, 2048, Kind::Weight),
    (384, 384, 2048, Kind::Weight),
    (2048, 65, 384, Kind::Forward), (1024, 2048, 512, Kind::Forward), (512, 3072, 768, Kind::Forward),
    (512, 768, 3072, Kind::Input), (3072, 768, 512, Kind::Weight),
    (512, 50257, 768, Kind::Forward), (512, 768, 50257, Kind::Input),
    (50257, 768, 512, Kind::Weight),
    (768, 384, 128, Kind::Forward), (768, 128, 128, Kind::Forward), (768, 512, 128, Kind::Forward),
    (768, 128, 512, Kind::Forward), (768, 128, 384, Kind::Input), (128, 128, 768, Kind::Weight),
    (512, 128, 768, Kind::Weight), (768, 65, 128, Kind::Forward),
    (1, 2304, 768, Kind::Forward), (1, 3072, 768, Kind::Forward), (1, 50257, 768, Kind::Forward),
    (4, 3072, 768, Kind::Forward), (16, 3072, 768, Kind::Forward),
];

struct Problem {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    size: (usize, usize, usize),
    kind: Kind,
}

impl Problem {
    fn new((m, n, k, kind): (usize, usize, usize, Kind)) -> Problem {
        let fill = |len: usize| (0..len).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect();
        Problem { a: fill(m * k), b: fill(k * n), c: vec![0.0; m * n], size: (m, n, k), kind }
    }

    fn seconds(&mut self, device: &Device) -> f64 {
        let (m, n, k) = self.size;
        let (a, b) = match self.kind {
            Kind::Forward => (Mat::new(&self.a, m, k), Mat::new(&self.b, n, k).t()),
            Kind::Input => (Mat::new(&self.a, m, k), Mat::new(&self.b, k, n)),
            Kind::Weight => (Mat::new(&self.a, k, m).t(), Mat::new(&self.b, k, n)),
        };
        let clock = if device.threads() == 1 { cpu_seconds } else { wall_seconds };
        let start = clock();
        matmul(device, &mut self.c, n, a, b, Accumulate::Overwrite, Epilogue::None);
        clock() - start
    }

    fn gflop(&self) -> f64 {
        2e-9 * self.size.0 as f64 * self.size.1 as f64 * self.size.2 as f64
    }

    /// Best and median of so many rounds.
    fn measure(&mut self, device: &Device, rounds: usize) -> (f64, f64) {
        self.seconds(device);
        let mut all: Vec<f64> = (0..rounds).map(|_| self.seconds(device)).collect();
        all.sort_by(f64::total_cmp);
        (all[0], all[all.len() / 2])
    }
}

fn wall_seconds() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Time that this thread has run: what other processes take from it does not count.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn main() {
    let serve = std::env::args().any(|argument| argument == "serve");
    if serve { answer_lines() } else { print_table() }
}

fn answer_lines() {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [m, n, k, kind, precision, threads, rounds] = words[..] else {
            println!("expected: M N K forward|input|weight f32|bf16 THREADS ROUNDS");
            continue;
        };
        let number = |word: &str| word.parse::<usize>().expect("a number");
        let kind = match kind {
            "forward" => Kind::Forward,
            "input" => Kind::Input,
            _ => Kind::Weight,
        };
        let precision = if precision == "bf16" { Precision::Bf16 } else { Precision::F32 };
        let device = Device::cpu(number(threads), precision).expect("a device");
        let mut problem = Problem::new((number(m), number(n), number(k), kind));
        let (best, median) = problem.measure(&device, number(rounds));
        println!("{best} {median}");
    }
}

fn print_table() {
    let only = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    println!("best (median) GFLOP/s, and the best as a share of the peak measured beside it");
    for threads in [1, 2] {
        for precision in [Precision::F32, Precision::Bf16] {
            let device = Device::cpu(threads, precision).expect("a device");
            println!("\n{}", device.describe());
            for &shape in SHAPES {
                let (m, n, k, kind) = shape;
                let name = format!("{m}×{n}×{k} {kind:?}");
                if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
                    continue;
                }
                let mut problem = Problem::new(shape);
                let rounds = ((0.3 * 200.0 / problem.gflop()) as usize).clamp(5, 300);
                let peak = peak(&device);
                let (best, median) = problem.measure(&device, rounds);
                let rate = |seconds: f64| problem.gflop() / seconds;
                let share = 100.0 * rate(best) / peak.max(self::peak(&device));
                println!("{name:<28}{:>8.1} ({:>6.1}) {share:>5.0}%", rate(best), rate(median));
            }
        }
    }
}

/// GFLOP/s of multiply-adds from registers on all of the device's threads.
fn peak(device: &Device) -> f64 {
    let peak = heldout_kernels::peak::peak(device.threads(), device.precision(), device.isa());
    peak.unwrap_or(f64::NAN)
}
