//! Noise in training: absent when off, live at every site at the rate asked for, and independent
//! of threads and of how a batch is cut.

mod common;

use common::{KEY, lively_weights, mean_over, random_ids, step, tape, tape_with_threads};
use heldout_kernels::{Joint, NoiseKey, PassKind, Sharing, Twins};
use heldout_model::{Model, ModelConfig, ModelError, NoiseRates, Objective, Tied, Tokens};

type SetRate = fn(&mut NoiseRates, f32);
const SITES: [(&str, SetRate); 10] = [
    ("embedding", |rates, p| rates.embedding = p),
    ("attention", |rates, p| rates.attention = p),
    ("attention_output", |rates, p| rates.attention_output = p),
    ("feed_forward_hidden", |rates, p| rates.feed_forward_hidden = p),
    ("feed_forward_output", |rates, p| rates.feed_forward_output = p),
    ("heads", |rates, p| rates.heads = p),
    ("tokens", |rates, p| rates.tokens = p),
    ("replace", |rates, p| rates.replace = p),
    ("neftune", |rates, p| rates.neftune = p),
    ("layer_drop", |rates, p| rates.layer_drop = p),
];

/// Untied, so that the embedding's gradient comes from the input side alone.
fn models() -> Vec<(&'static str, Model, Vec<f32>)> {
    let gpt2 = ModelConfig { tied: Tied::No, ..ModelConfig::gpt2(61, 16, 3, 4, 32) };
    let llama = ModelConfig { tied: Tied::No, ..ModelConfig::llama(61, 16, 3, 4, 2, 32) };
    [("gpt2", gpt2), ("llama", llama)]
        .map(|(name, config)| {
            let model = Model::new(config).unwrap();
            let weights = lively_weights(&model, 1);
            (name, model, weights)
        })
        .into()
}

fn all_sites(p: f32) -> NoiseRates {
    let mut rates = NoiseRates::default();
    SITES.iter().for_each(|(_, set)| set(&mut rates, p));
    rates
}

#[test]
fn rates_of_zero_are_absent_bit_for_bit() {
    for (name, model, weights) in models() {
        let ids = random_ids(2 * 12, 61, 2);
        let targets = random_ids(2 * 12, 61, 3);
        let tokens = Tokens { ids: &ids, targets: &targets, batch: 2, seq_len: 12 };
        let mut tape = tape();
        let off = NoiseRates::default();
        let plain = step(&model, &mut tape, &weights, tokens, &off, KEY);
        let zero = NoiseRates { sharing: Sharing::Time, ..all_sites(0.0) };
        let other = NoiseKey { seed: 9, step: 77, first_sequence: 5 };
        let again = step(&model, &mut tape, &weights, tokens, &zero, other);
        assert_eq!(plain.0.nll_sum.to_bits(), again.0.nll_sum.to_bits(), "{name}");
        assert_eq!(plain.1, again.1, "{name}");

        // An evaluation sees no noise, whatever the rates.
        let mut pass = tape.pass(&weights, PassKind::Evaluate);
        let spec = mean_over(&targets);
        let evaluated = model.loss(&mut pass, tokens, &all_sites(0.5), &spec);
        assert_eq!(plain.0.nll_sum.to_bits(), evaluated.nll_sum.to_bits(), "{name}");
    }
}

#[test]
fn every_site_changes_the_loss_from_step_to_step() {
    for (name, model, weights) in models() {
        let ids = random_ids(2 * 12, 61, 2);
        let targets = random_ids(2 * 12, 61, 3);
        let tokens = Tokens { ids: &ids, targets: &targets, batch: 2, seq_len: 12 };
        let mut tape = tape();
        let mut loss = |rates: &NoiseRates, step_: u64| {
            let key = NoiseKey { step: step_, ..KEY };
            step(&model, &mut tape, &weights, tokens, rates, key).0.nll_sum
        };
        let plain = loss(&NoiseRates::default(), 0);
        for (site, set) in SITES {
            let mut rates = NoiseRates::default();
            set(&mut rates, 0.3);
            let losses: Vec<f64> = (0..8).map(|s| loss(&rates, s)).collect();
            assert!(losses.iter().all(|&l| l != plain), "{name} {site}: {losses:?}");
            assert!(losses.iter().any(|&l| l != losses[0]), "{name} {site}: {losses:?}");
            assert_eq!(losses[3], loss(&rates, 3), "{name} {site}: not a function of the step");
        }
    }
}

/// The zeros that a site leaves in the gradient of one single-token step, as (zeros, units).
///
/// With one token the gradient of a projection [out, in] is an outer product: its rows are zero
/// where the output was dropped and its columns where the input was.
fn zeros(model: &Model, gradients: &[f32], site: &str, id: u32, layer: usize) -> (usize, usize) {
    let is_gpt2 = model.layout().get("transformer.wte.weight").is_some();
    let (embedding, attention, feed_forward) = if is_gpt2 {
        (
            "transformer.wte.weight".to_string(),
            format!("transformer.h.{layer}.attn.c_proj.weight"),
            format!("transformer.h.{layer}.mlp.c_proj.weight"),
        )
    } else {
        (
            "model.embed_tokens.weight".to_string(),
            format!("model.layers.{layer}.self_attn.o_proj.weight"),
            format!("model.layers.{layer}.mlp.down_proj.weight"),
        )
    };
    let gradient = |name: &str| {
        let parameter = model.layout().get(name).unwrap();
        (&gradients[parameter.range()], parameter.shape[1])
    };
    let zero_rows = |name: &str| {
        let (values, cols) = gradient(name);
        let rows = values.chunks_exact(cols);
        (rows.clone().filter(|row| row.iter().all(|&g| g == 0.0)).count(), rows.len())
    };
    let zero_columns = |name: &str, width: usize| {
        let (values, cols) = gradient(name);
        let is_zero = |group: usize| {
            values
                .chunks_exact(cols)
                .all(|row| row[group * width..(group + 1) * width].iter().all(|&g| g == 0.0))
        };
        ((0..cols / width).filter(|&group| is_zero(group)).count(), cols / width)
    };
    let (values, cols) = gradient(&embedding);
    let token = &values[id as usize * cols..][..cols];
    match site {
        "embedding" => (token.iter().filter(|&&g| g == 0.0).count(), cols),
        "tokens" => (usize::from(token.iter().all(|&g| g == 0.0)), 1),
        "attention" | "heads" => zero_columns(&attention, model.config.head_width),
        "attention_output" => zero_rows(&attention),
        "feed_forward_hidden" => zero_columns(&feed_forward, 1),
        "feed_forward_output" => zero_rows(&feed_forward),
        _ => unreachable!(),
    }
}

#[test]
fn every_site_drops_the_share_it_was_asked_for() {
    let p = 0.3;
    for (name, model, weights) in models() {
        let mut tape = tape();
        let leaves_zeros = |site: &str| !matches!(site, "layer_drop" | "replace" | "neftune");
        for (site, set) in SITES.into_iter().filter(|site| leaves_zeros(site.0)) {
            let mut rates = NoiseRates::default();
            set(&mut rates, p);
            let (mut dropped, mut units) = (0, 0);
            for step_ in 0..250 {
                let id = (step_ % 61) as u32;
                let tokens = Tokens { ids: &[id], targets: &[7], batch: 1, seq_len: 1 };
                let key = NoiseKey { seed: 1, step: step_, first_sequence: step_ };
                let gradients = step(&model, &mut tape, &weights, tokens, &rates, key).1;
                for layer in if matches!(site, "embedding" | "tokens") { 0..1 } else { 0..3 } {
                    let (zero, all) = zeros(&model, &gradients, site, id, layer);
                    dropped += zero;
                    units += all;
                }
            }
            let share = dropped as f64 / units as f64;
            let error = (0.3 * 0.7 / units as f64).sqrt();
            println!("{name} {site}: dropped {share:.4} of {units} units");
            assert!((share - 0.3).abs() < 4.5 * error, "{name} {site}: {share} of {units}");
        }
    }
}

#[test]
fn variational_dropout_shares_its_mask_over_time() {
    let (_, model, weights) = models().remove(0);
    let ids = random_ids(8, 61, 2);
    let targets = random_ids(8, 61, 3);
    let tokens = Tokens { ids: &ids, targets: &targets, batch: 1, seq_len: 8 };
    let wpe = model.layout().get("transformer.wpe.weight").unwrap();
    let patterns = |sharing| -> Vec<Vec<bool>> {
        let rates = NoiseRates { embedding: 0.5, sharing, ..NoiseRates::default() };
        let gradients = step(&model, &mut tape(), &weights, tokens, &rates, KEY).1;
        let rows = gradients[wpe.range()].chunks_exact(32).take(8);
        rows.map(|row| row.iter().map(|&g| g == 0.0).collect()).collect()
    };
    let shared = patterns(Sharing::Time);
    assert!(shared.iter().all(|row| *row == shared[0]));
    assert!(shared[0].contains(&true) && shared[0].contains(&false));
    let own = patterns(Sharing::Element);
    assert!(own.iter().any(|row| *row != own[0]));
}

#[test]
fn layer_drop_skips_whole_blocks_linearly_in_depth_and_rescales_the_rest() {
    for (name, model, weights) in models() {
        let ids = random_ids(12, 61, 2);
        let targets = random_ids(12, 61, 3);
        let tokens = Tokens { ids: &ids, targets: &targets, batch: 1, seq_len: 12 };
        let rates = NoiseRates { layer_drop: 0.6, ..NoiseRates::default() };
        let mut tape = tape();
        let mut counts = [0; 3];
        for step_ in 0..2000 {
            let key = NoiseKey { seed: 4, step: step_, first_sequence: 0 };
            let is_dropped = [0, 1, 2].map(|layer| rates.drops_layer(key, layer, 3));
            (0..3).for_each(|layer| counts[layer] += usize::from(is_dropped[layer]));
            if step_ >= 12 {
                continue;
            }
            // The same function without layer drop: projections times 0 or 1/(1 − rate).
            let mut folded = weights.clone();
            for parameter in &model.layout().parameters {
                let is_out = ["attn.c_proj", "mlp.c_proj", "o_proj", "down_proj"];
                let Some(layer) = layer_of(&parameter.name) else { continue };
                if !is_out.iter().any(|part| parameter.name.contains(part)) {
                    continue;
                }
                let factor = match is_dropped[layer] {
                    true => 0.0,
                    false => (1.0 / (1.0 - rates.layer_drop_rate(layer, 3))) as f32,
                };
                folded[parameter.range()].iter_mut().for_each(|w| *w *= factor);
            }
            let off = NoiseRates::default();
            let expected = step(&model, &mut tape, &folded, tokens, &off, key).0.nll_sum;
            let (report, gradients) = step(&model, &mut tape, &weights, tokens, &rates, key);
            assert!((report.nll_sum - expected).abs() < 1e-4 * expected, "{name} step {step_}");
            for parameter in &model.layout().parameters {
                let Some(layer) = layer_of(&parameter.name) else { continue };
                let is_zero = gradients[parameter.range()].iter().all(|&g| g == 0.0);
                assert_eq!(is_zero, is_dropped[layer], "{name} {} step {step_}", parameter.name);
            }
        }
        for (layer, count) in counts.into_iter().enumerate() {
            let share = count as f64 / 2000.0;
            let expected = 0.2 * (layer + 1) as f64;
            assert!((share - expected).abs() < 0.05, "{name} layer {layer}: {share}");
        }
    }
}

fn layer_of(name: &str) -> Option<usize> {
    name.split('.').find_map(|part| part.parse().ok())
}

#[test]
fn threads_change_no_bit_and_cutting_the_batch_changes_no_mask() {
    for (name, model, weights) in models() {
        let (batch, seq_len) = (4, 12);
        let ids = random_ids(batch * seq_len, 61, 2);
        let mut targets = random_ids(batch * seq_len, 61, 3);
        targets[5] = u32::MAX;
        let tokens = Tokens { ids: &ids, targets: &targets, batch, seq_len };
        let rates = all_sites(0.2);
        // A step in which no block is skipped, so that every site acts.
        let key = (0..)
            .map(|step| NoiseKey { seed: 6, step, first_sequence: 8 })
            .find(|&key| (0..3).all(|layer| !rates.drops_layer(key, layer, 3)))
            .unwrap();
        let one = step(&model, &mut tape(), &weights, tokens, &rates, key);
        let two = step(&model, &mut tape_with_threads(2), &weights, tokens, &rates, key);
        assert_eq!(one.0.nll_sum.to_bits(), two.0.nll_sum.to_bits(), "{name}");
        assert_eq!(one.1, two.1, "{name}");

        let mut tape = tape();
        let mut gradients = vec![0.0; weights.len()];
        let mut nll = 0.0;
        let spec = mean_over(&targets);
        for half in 0..2 {
            let range = half * 2 * seq_len..(half + 1) * 2 * seq_len;
            let piece =
                Tokens { ids: &ids[range.clone()], targets: &targets[range], batch: 2, seq_len };
            let noise = NoiseKey { first_sequence: key.first_sequence + half as u64 * 2, ..key };
            let kind = PassKind::Train { gradients: &mut gradients, noise };
            let mut pass = tape.pass(&weights, kind);
            nll += model.loss(&mut pass, piece, &rates, &spec).nll_sum;
            pass.backward();
        }
        assert!((nll - one.0.nll_sum).abs() < 1e-6 * nll, "{name}: {nll} {}", one.0.nll_sum);
        let difference = common::largest_difference(&gradients, &one.1);
        assert!(difference < 1e-6, "{name}: {difference}");
    }
}

#[test]
fn rates_that_are_no_probability_are_named() {
    assert_eq!(all_sites(0.5).validate(), Ok(()));
    for (site, set) in SITES.into_iter().filter(|site| site.0 != "neftune") {
        for bad in [1.0, -0.1, f32::NAN] {
            let mut rates = NoiseRates::default();
            set(&mut rates, bad);
            let Err(ModelError::NoiseRate { key, .. }) = rates.validate() else { panic!("{site}") };
            assert_eq!(key, site);
        }
    }
    for bad in [-0.1, f32::INFINITY, f32::NAN] {
        let rates = NoiseRates { neftune: bad, ..NoiseRates::default() };
        let error = rates.validate().expect_err("no amplitude");
        assert!(matches!(error, ModelError::NoiseAmplitude { .. }), "{error}");
    }
    assert_eq!(NoiseRates { neftune: 5.0, ..NoiseRates::default() }.validate(), Ok(()));
}

#[test]
fn marked_tokens_alone_are_dropped_or_replaced() {
    for (name, model, weights) in models() {
        let (ids, targets) = (random_ids(2 * 12, 61, 2), random_ids(2 * 12, 61, 3));
        let tokens = Tokens { ids: &ids, targets: &targets, batch: 2, seq_len: 12 };
        for site in ["tokens", "replace"] {
            let set = SITES.iter().find(|(name, _)| *name == site).unwrap().1;
            let run = |rate: f32, marks: Option<&[u32]>, twins: Option<Twins>| {
                let mut rates = NoiseRates::default();
                set(&mut rates, rate);
                let mut gradients = vec![0.0; weights.len()];
                let mut tape = tape();
                let kind = PassKind::Train { gradients: &mut gradients, noise: KEY };
                let mut pass = tape.pass(&weights, kind);
                let joint = Joint { twins, ..Joint::default() };
                let objective = Objective { spec: mean_over(&targets), joint, ahead: 0.0, marks };
                let report = model.objective(&mut pass, tokens, &rates, &objective);
                pass.backward();
                drop(pass);
                (report.nll_sum.to_bits(), gradients)
            };
            let (all, none) = (vec![1; 24], vec![0; 24]);
            let some: Vec<u32> = (0..24).map(|at| at % 2).collect();
            let plain = run(0.0, None, None);
            assert_eq!(run(0.9, Some(&none), None), plain, "{name} {site}: none marked");
            assert_eq!(run(0.9, Some(&all), None), run(0.9, None, None), "{name} {site}: all");
            let half = run(0.9, Some(&some), None);
            assert!(half != plain && half != run(0.9, None, None), "{name} {site}: half");
            let twins = Some(Twins { strength: 1.0, seq_len: 12 });
            assert_eq!(run(0.9, Some(&none), twins), run(0.0, None, twins), "{name} {site}: twins");
            assert_eq!(run(0.9, Some(&all), twins), run(0.9, None, twins), "{name} {site}: twins");
            if site == "tokens" {
                // A dropped token's vector gets no gradient; what is not marked is not scaled.
                let table = &model.layout().parameters[0];
                let (start, width) = (table.range().start, table.shape[1]);
                let row = |id: u32| start + id as usize * width..start + (id as usize + 1) * width;
                let unmarked: Vec<u32> = (0..24).step_by(2).map(|at| ids[at]).collect();
                let zero = |id: &&u32| half.1[row(**id)].iter().all(|g| *g == 0.0);
                assert_eq!(unmarked.iter().filter(zero).count(), 0, "{name}");
                assert!(ids.iter().filter(zero).count() > 4, "{name}");
            }
        }
    }
}
