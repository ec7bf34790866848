//! Times what follows the backward pass: the norm of all gradients, and one update.
//!
//! `cargo bench -p heldout-optim --bench update`, on all threads, for the parameters of W1 (10.8M)
//! and W3 (123.8M). Throughput is bytes read and written: AdamW reads four vectors, writes the
//! parameters and two moments; a norm reads one.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use heldout_kernels::{Device, Precision, Role, default_threads};
use heldout_optim::{OptimizerSpec, Segment, Update, build, clip};

/// (name, bytes a parameter).
const OPTIMIZERS: [(&str, u64); 3] = [("adamw", 28), ("lion", 20), ("sgd", 20)];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    let device = Device::cpu(default_threads(), Precision::F32).expect("a device");
    for (name, count) in [("W1", 10_788_864), ("W3", 123_849_984)] {
        let mut parameters = vec![0.1f32; count];
        let mut gradients = vec![1e-3f32; count];
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(4 * count as u64));
        group.bench_function("global norm", |bencher| {
            bencher.iter(|| black_box(clip::global_norm(&device, black_box(&gradients))));
        });
        let segments = [Segment {
            name: "all".into(),
            range: 0..count,
            shape: vec![count / 128, 128],
            role: Role::Matrix,
            decay: 1.0,
            rate: 1.0,
        }];
        for (optimizer, bytes) in OPTIMIZERS {
            let spec = OptimizerSpec::named(optimizer).expect("a known optimizer");
            let mut rule = build(&spec, &segments);
            let update =
                Update { gradient_scale: 0.5, decoupled_decay: 0.1, ..Update::at_rate(1e-6) };
            group.throughput(Throughput::Bytes(bytes * count as u64));
            group.bench_function(optimizer, |bencher| {
                bencher.iter(|| {
                    rule.update(&device, &mut parameters, &mut gradients, &segments, &update);
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
