//! Times what is done value by value: elementary functions, masks, reductions.
//!
//! `cargo bench -p heldout-kernels --bench elementwise` prints nanoseconds a thousand values on
//! one thread, in place on 8,192 values (in the first-level cache) and on 16 Mi (in memory), and
//! the cost of a fork and join; each the best of many short runs.

use std::time::Instant;

use heldout_kernels::random::Mask;
use heldout_kernels::simd::dispatch;
use heldout_kernels::{Device, Precision, math, reduce};

fn main() {
    let isa = Device::detect_isa();
    println!("{isa:?}: ns for 1,000 values, in the first-level cache and in memory");
    let mut small = vec![0.5f32; 8192];
    let mut large = vec![0.5f32; 16 << 20];
    let mut line = |name: &str, work: &dyn Fn(&mut [f32])| {
        let [fast, slow] = [(&mut small, 2000), (&mut large, 10)].map(|(values, rounds)| {
            let times = (0..rounds).map(|_| {
                let start = Instant::now();
                work(values);
                start.elapsed().as_nanos() as f64
            });
            times.fold(f64::MAX, f64::min) / values.len() as f64 * 1e3
        });
        println!("{name:<24}{fast:>10.1}{slow:>10.1}");
    };
    macro_rules! function {
        ($f:path) => {
            line(stringify!($f), &|values| {
                dispatch(
                    isa,
                    #[inline(always)]
                    || {
                        for x in values.iter_mut() {
                            *x = $f(*x);
                        }
                    },
                )
            })
        };
    }
    line("copy", &|values| values.iter_mut().for_each(|x| *x = std::hint::black_box(0.5)));
    function!(math::relu);
    function!(math::exp);
    function!(math::ln);
    function!(math::tanh);
    function!(math::sigmoid);
    function!(math::erf);
    function!(math::gelu_tanh);
    function!(math::gelu_tanh_derivative);
    function!(math::gelu_erf);
    function!(math::gelu_erf_derivative);
    function!(math::silu);
    let mask = Mask::new(1, 2, 3, 0.1);
    line("dropout", &|values| {
        dispatch(
            isa,
            #[inline(always)]
            || {
                for (row, values) in values.chunks_mut(1024).enumerate() {
                    let row = mask.row(row as u64);
                    for (column, x) in values.iter_mut().enumerate() {
                        *x *= row.factor(column as u32);
                    }
                }
            },
        );
    });
    let device = Device::cpu(1, Precision::F32).expect("one thread");
    line("sum of squares", &|values| {
        std::hint::black_box(reduce::sum_of_squares(&device, values));
    });
    forks();
}

fn forks() {
    let device = Device::cpu(2, Precision::F32).expect("two threads");
    let time = |pause: u64| {
        let times = (0..300).map(|_| {
            std::thread::sleep(std::time::Duration::from_micros(pause));
            device.pool().run(2, &|_| ());
            let start = Instant::now();
            for _ in 0..10 {
                device.pool().run(2, &|_| ());
            }
            start.elapsed().as_nanos() as f64 / 10.0
        });
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        (times[0], times[150])
    };
    let (best, median) = time(0);
    println!("fork and join, 2 threads, hot: best {best:.0} ns, median {median:.0} ns");
    let cold = (0..50).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(2));
        let start = Instant::now();
        device.pool().run(2, &|_| ());
        start.elapsed().as_nanos() as f64
    });
    println!("fork and join, 2 threads, asleep: best {:.0} ns", cold.fold(f64::MAX, f64::min));
}
