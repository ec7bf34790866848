//! Times greedy generation by a GPT-2 with random weights; prints one JSON line a round.
//!
//! `cargo run --release -p heldout-model --example generate --
//! SHAPE [f32|bf16] [THREADS] [NEW] [ROUNDS|serve]`
//!
//! SHAPE is w1, w2, w3 or nano; 16 tokens of prompt, then NEW tokens. With `serve` every line of
//! standard input asks for one round, so that another program can take turns with it.

use std::io::BufRead;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use heldout_kernels::{Device, Precision, Tape};
use heldout_model::generate::{Generator, Sampling};
use heldout_model::{Model, ModelConfig};

const PROMPT: u32 = 16;

fn config(shape: &str) -> ModelConfig {
    let [vocabulary, context, layers, heads, width] = match shape {
        "w1" => [65, 256, 6, 6, 384],
        "w2" => [16_384, 256, 4, 8, 512],
        "w3" => [50_257, 1024, 12, 12, 768],
        "nano" => [65, 64, 4, 4, 128],
        other => panic!("no shape {other}: w1, w2, w3 or nano"),
    };
    ModelConfig::gpt2(vocabulary, context, layers, heads, width)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize, default: &'static str| {
        arguments.get(index).map_or(default, String::as_str).to_owned()
    };
    let number = |text: String| text.parse::<usize>().expect("a number");
    let precision = match argument(1, "f32").as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => panic!("no precision {other}: f32 or bf16"),
    };
    let (threads, new) = (number(argument(2, "2")), number(argument(3, "128")));
    let model = Model::new(config(&argument(0, "w3"))).expect("a sound configuration");
    let weights = model.initialize(1);
    let device = Arc::new(Device::cpu(threads, precision).expect("at least one thread"));
    let mut tape = Tape::new(Arc::clone(&device));
    let since = Instant::now();
    let generator = Generator::new(&model, &device, &weights);
    let prepare = since.elapsed().as_secs_f64();
    let mut round = || {
        let seconds = round(&generator, &mut tape, new, model.config.vocabulary as u32);
        let (first, last) = (seconds[0], seconds[seconds.len() - 1]);
        println!(
            "{{\"device\": \"{}\", \"parameters\": {}, \"prompt\": {PROMPT}, \"new\": {new}, \
             \"prepare_seconds\": {prepare:.4}, \"first_token_seconds\": {first:.5}, \
             \"seconds\": {last:.5}, \"tokens_per_second\": {:.2}, \
             \"decode_tokens_per_second\": {:.2}}}",
            device.describe(),
            weights.len(),
            new as f64 / last,
            (new - 1) as f64 / (last - first),
        );
    };
    match argument(4, "5").as_str() {
        "serve" => std::io::stdin().lock().lines().for_each(|_| round()),
        count => (0..number(count.to_owned())).for_each(|_| round()),
    }
}

/// Seconds from the start to every new token.
fn round(generator: &Generator, tape: &mut Tape, new: usize, vocabulary: u32) -> Vec<f64> {
    let prompt: Vec<u32> = (0..PROMPT).map(|i| i * 37 % vocabulary).collect();
    let since = Instant::now();
    let mut seconds = Vec::with_capacity(new);
    let mut note = |_| {
        seconds.push(since.elapsed().as_secs_f64());
        ControlFlow::Continue(())
    };
    let text = generator.generate(tape, &prompt, &Sampling::greedy(new), &mut note);
    assert_eq!(text.expect("finite logits").len(), new);
    seconds
}
