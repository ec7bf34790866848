//! Agreement with PyTorch over 100 steps, from the values that `golden/make_torch.py` wrote; the
//! same bits for any number of threads and instruction set, and after a stop.

use heldout_kernels::{Device, Isa, Precision, Role};
use heldout_optim::spec::{KnobValue, OptimizerSpec, build};
use heldout_optim::{Optimizer, Segment, Update, clip};
use safetensors::SafeTensors;

const GOLDEN: &[u8] = include_bytes!("golden/torch.safetensors");
const STEPS: u64 = 100;
const LEN: usize = 12 * 24 + 20 * 6 + 10 * 8 + 7;

fn golden(name: &str) -> Vec<f32> {
    let file = SafeTensors::deserialize(GOLDEN).expect("a file of our own");
    let tensor = file.tensor(name).expect("a case of the script");
    tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn segments() -> Vec<Segment> {
    let shapes: [(&str, &[usize], Role); 4] = [
        ("wide", &[12, 24], Role::Matrix),
        ("tall", &[20, 6], Role::Matrix),
        ("table", &[10, 8], Role::Embedding),
        ("bias", &[7], Role::Bias),
    ];
    let mut start = 0;
    let segment = |(name, shape, role): (&str, &[usize], Role)| {
        let end = start + shape.iter().product::<usize>();
        let range = start..end;
        start = end;
        let decay = if name == "bias" { 0.0 } else { 1.0 };
        Segment { name: name.to_owned(), range, shape: shape.to_vec(), role, decay, rate: 1.0 }
    };
    shapes.into_iter().map(segment).collect()
}

/// The script's generator.
struct Generator(u32);

impl Generator {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((self.0 >> 8) as f64 / 16_777_216.0 - 0.5) as f32
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..LEN).map(|_| self.next()).collect()
    }

    fn gradient(&mut self, step: u64, parameters: &[f32]) -> Vec<f32> {
        let mut gradient = self.vector();
        for (g, w) in gradient.iter_mut().zip(parameters) {
            *g += 0.5 * w;
        }
        for segment in segments().iter().filter(|_| step <= STEPS / 2) {
            gradient[segment.range.clone()].iter_mut().skip(3).step_by(7).for_each(|g| *g = 0.0);
        }
        gradient
    }
}

/// A case: what the script called it, the optimizer with its knobs, and the update's numbers.
struct Case {
    name: &'static str,
    spec: OptimizerSpec,
    rate: f64,
    decoupled: f64,
    coupled: f64,
}

fn case(
    name: &'static str,
    knobs: &[(&str, KnobValue)],
    rate: f64,
    [decoupled, coupled]: [f64; 2],
) -> Case {
    let optimizer = name.split('.').next().expect("a name has a first part");
    let mut spec = OptimizerSpec::named(optimizer).expect("a registered name");
    for (knob, value) in knobs {
        spec.set(knob, value).expect("an allowed value");
    }
    Case { name, spec, rate, decoupled, coupled }
}

fn cases() -> Vec<Case> {
    use KnobValue::Number as N;
    let yes = || KnobValue::Text("yes".to_owned());
    let no = || KnobValue::Text("no".to_owned());
    let matching = || KnobValue::Text("match-rms-adamw".to_owned());
    vec![
        case("gradient-descent", &[], 0.05, [0.0, 0.0]),
        case("gradient-descent.clip", &[], 0.05, [0.0, 0.0]),
        case("sgd.momentum", &[], 0.05, [0.0, 0.0]),
        case("sgd.nesterov", &[("nesterov", yes())], 0.05, [0.0, 0.0]),
        case(
            "sgd.dampening.coupled",
            &[("momentum", N(0.8)), ("dampening", N(0.3))],
            0.05,
            [0.0, 0.1],
        ),
        case("adam", &[], 0.01, [0.0, 0.0]),
        case("adam.coupled.clip", &[("beta1", N(0.8)), ("beta2", N(0.95))], 0.01, [0.0, 0.1]),
        case("adamw", &[], 0.01, [0.1, 0.0]),
        case("adamw.clip.schedule", &[("beta2", N(0.95))], 0.01, [1.0, 0.0]),
        case("rmsprop", &[], 0.01, [0.0, 0.0]),
        case("rmsprop.centered", &[("centered", yes()), ("alpha", N(0.9))], 0.01, [0.0, 0.1]),
        case("rmsprop.momentum", &[("momentum", N(0.7))], 0.01, [0.0, 0.0]),
        case(
            "rmsprop.centered.momentum",
            &[("momentum", N(0.7)), ("centered", yes()), ("alpha", N(0.95))],
            0.01,
            [0.0, 0.0],
        ),
        case("adagrad", &[], 0.05, [0.0, 0.0]),
        case("adagrad.initial", &[("initial-sum", N(0.1))], 0.05, [0.0, 0.1]),
        case("lion", &[], 0.01, [0.0, 0.0]),
        case("lion.decay", &[("beta1", N(0.95)), ("beta2", N(0.98))], 0.01, [0.3, 0.0]),
        case("muon", &[], 0.02, [0.1, 0.0]),
        case(
            "muon.plain",
            &[("nesterov", no()), ("momentum", N(0.9)), ("steps", N(3.0))],
            0.02,
            [0.0, 0.0],
        ),
        case("muon.match", &[("scale", matching()), ("vector-rate", N(1.0))], 0.01, [0.1, 0.0]),
        case("muon.bf16", &[], 0.02, [0.1, 0.0]),
    ]
}

struct Run {
    device: Device,
    segments: Vec<Segment>,
    optimizer: Box<dyn Optimizer>,
    generator: Generator,
    parameters: Vec<f32>,
    step: u64,
}

impl Run {
    fn new(case: &Case, device: Device) -> Self {
        let segments = segments();
        let mut generator = Generator(12345);
        let parameters = generator.vector();
        let optimizer = build(&case.spec, &segments);
        Self { device, segments, optimizer, generator, parameters, step: 0 }
    }

    fn step(&mut self, case: &Case) {
        self.step += 1;
        let mut gradients = self.generator.gradient(self.step, &self.parameters);
        let norm = clip::global_norm(&self.device, &gradients);
        let limit = if case.name.contains("clip") { 1.0 } else { f64::INFINITY };
        let scheduled = case.name.contains("schedule");
        let share = if scheduled { self.step as f64 / STEPS as f64 } else { 1.0 };
        let update = Update {
            rate: case.rate * share,
            gradient_scale: clip::by_norm(norm, limit).scale,
            decoupled_decay: case.decoupled,
            coupled_decay: case.coupled,
        };
        let (w, segments) = (&mut self.parameters, &self.segments);
        self.optimizer.update(&self.device, w, &mut gradients, segments, &update);
    }

    fn finish(mut self, case: &Case) -> Vec<u32> {
        while self.step < STEPS {
            self.step(case);
        }
        self.parameters.iter().map(|w| w.to_bits()).collect()
    }
}

fn device(threads: usize, isa: Isa) -> Device {
    Device::cpu_with_isa(threads, Precision::F32, isa).expect("this processor has it")
}

/// ‖found − expected‖ / ‖expected‖, the largest over tensors and kept steps.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let error = |segment: &Segment| {
        let range = segment.range.clone();
        let pairs = || found[range.clone()].iter().zip(&expected[range.clone()]);
        let square = |x: f64| x * x;
        let distance: f64 = pairs().map(|(a, b)| square(f64::from(a - b))).sum();
        let norm: f64 = pairs().map(|(_, b)| square(f64::from(*b))).sum();
        (distance / norm).sqrt()
    };
    segments().iter().map(error).fold(0.0, f64::max)
}

#[test]
fn a_hundred_steps_follow_pytorch() {
    for case in cases() {
        let mut run = Run::new(&case, device(2, Device::detect_isa()));
        let tolerance = if case.name == "muon.bf16" { 2e-2 } else { 1e-6 };
        while run.step < STEPS {
            run.step(&case);
            if [1, 10, 100].contains(&run.step) {
                let expected = golden(&format!("{}/{}", case.name, run.step));
                let error = relative_error(&run.parameters, &expected);
                println!("{:28} step {:3}: {error:.1e}", case.name, run.step);
                assert!(error <= tolerance, "{} at step {}: {error:e}", case.name, run.step);
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads_or_instruction_set() {
    let isas = [Isa::Portable, Isa::Avx2, Isa::Avx512];
    for case in cases() {
        let reference = Run::new(&case, device(1, Device::detect_isa())).finish(&case);
        for threads in [2, 3] {
            let other = Run::new(&case, device(threads, Device::detect_isa())).finish(&case);
            assert!(other == reference, "{} on {threads} threads", case.name);
        }
        // Muon's products may differ in the last bit between instruction sets.
        for isa in isas.into_iter().filter(|isa| *isa <= Device::detect_isa()) {
            if !case.name.starts_with("muon") {
                let other = Run::new(&case, device(1, isa)).finish(&case);
                assert!(other == reference, "{} with {isa:?}", case.name);
            }
        }
    }
}

#[test]
fn a_restored_optimizer_goes_on_with_the_same_bits() {
    for case in cases() {
        let mut whole = Run::new(&case, device(1, Device::detect_isa()));
        (0..37).for_each(|_| whole.step(&case));
        let mut resumed = Run::new(&case, device(2, Device::detect_isa()));
        let saved = whole.optimizer.state();
        let mut take = |name: &str| {
            saved.iter().find(|(saved, _)| saved == name).map(|(_, values)| values.to_vec())
        };
        resumed.optimizer.restore(&mut take).expect("the state of the same optimizer");
        resumed.parameters = whole.parameters.clone();
        resumed.generator = Generator(whole.generator.0);
        resumed.step = whole.step;
        assert!(resumed.finish(&case) == whole.finish(&case), "{}", case.name);
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let case = case("adamw", &[], 0.01, [0.0, 0.0]);
    let mut run = Run::new(&case, device(1, Isa::Portable));
    let missing = run.optimizer.restore(&mut |_| None).expect_err("nothing was saved");
    assert!(missing.to_string().contains("lacks `updates`"), "{missing}");
    let short = |name: &str| Some(vec![0.0; if name == "updates" { 2 } else { 5 }]);
    let error = run.optimizer.restore(&mut { short }).expect_err("too short");
    assert!(error.to_string().contains("has 5 values where 495"), "{error}");
}

#[test]
fn clipping_follows_pytorch_and_the_paper() {
    let device = device(2, Device::detect_isa());
    let mut generator = Generator(777);
    let weights = generator.vector();
    let gradients: Vec<f32> = generator.vector().iter().map(|g| g * 0.05).collect();
    let check = |name: &str, found: &[f32]| {
        let error = relative_error(found, &golden(name));
        println!("{name:16} {error:.1e}");
        assert!(error <= 1e-6, "{name}: {error:e}");
    };
    let clipped = clip::by_norm(clip::global_norm(&device, &gradients), 0.1);
    let scaled: Vec<f32> = gradients.iter().map(|g| g * clipped.scale).collect();
    check("clip.norm", &scaled);
    assert!((clipped.norm_after - clip::global_norm(&device, &scaled)).abs() < 1e-6);

    let mut by_value = gradients.clone();
    clip::by_value(&device, &mut by_value, 0.01);
    check("clip.value", &by_value);

    let mut adaptive = gradients.clone();
    clip::adaptive(&device, &weights, &mut adaptive, &segments(), 0.05);
    check("clip.adaptive", &adaptive);
}

#[test]
fn a_segments_rate_multiplies_the_learning_rate() {
    for case in cases() {
        // Powers of two, so that nothing is rounded differently.
        let after = |rate: f64, share: f32| {
            let device = Device::cpu(2, Precision::F32).expect("a processor");
            let segments: Vec<Segment> =
                segments().into_iter().map(|s| Segment { rate: share, ..s }).collect();
            let mut optimizer = build(&case.spec, &segments);
            let (mut generator, mut parameters) = (Generator(3), Generator(2).vector());
            for step in 1..=3 {
                let mut gradients = generator.gradient(step, &parameters);
                let update = Update {
                    decoupled_decay: case.decoupled,
                    coupled_decay: case.coupled,
                    ..Update::at_rate(rate)
                };
                optimizer.update(&device, &mut parameters, &mut gradients, &segments, &update);
            }
            parameters
        };
        let rate = 2f64.powi(-6);
        assert_eq!(after(rate, 0.25), after(0.25 * rate, 1.0), "{}", case.name);
        assert_ne!(after(rate, 0.25), after(rate, 1.0), "{}", case.name);
    }
}
