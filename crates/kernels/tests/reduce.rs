//! Reductions against f64 loops, with the same bits for any number of threads.

use heldout_kernels::reduce::{abs_sum, count_zero, has_non_finite, scale, sum_of_squares};
use heldout_kernels::{Device, Isa, Precision};

fn devices() -> Vec<Device> {
    let best = Device::detect_isa();
    let isas = [Isa::Portable, Isa::Avx2, Isa::Avx512].into_iter().filter(|&isa| isa <= best);
    let device = |isa, threads| Device::cpu_with_isa(threads, Precision::F32, isa);
    isas.flat_map(|isa| [1, 2, 3].map(|threads| device(isa, threads).expect("found"))).collect()
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1013) as f32 / 100.0 - 5.0).collect()
}

#[test]
fn sums_agree_with_f64_and_with_each_other_bit_for_bit() {
    for len in [0, 1, 15, 16, 17, 16_383, 16_384, 16_385, 100_000] {
        let values = values(len);
        let squares: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let magnitudes: f64 = values.iter().map(|&x| f64::from(x).abs()).sum();
        let zeros = values.iter().filter(|&&x| x == 0.0).count() as u64;
        let mut first = None;
        for device in devices() {
            let found = (sum_of_squares(&device, &values), abs_sum(&device, &values));
            assert!((found.0 - squares).abs() <= 1e-12 * squares, "{}", device.describe());
            assert!((found.1 - magnitudes).abs() <= 1e-12 * magnitudes);
            assert_eq!(count_zero(&device, &values), zeros);
            assert!(!has_non_finite(&device, &values));
            assert_eq!(*first.get_or_insert(found), found, "{}", device.describe());
        }
    }
}

#[test]
fn non_finite_values_are_found_wherever_they_are() {
    for device in devices() {
        for at in [0, 15, 16_383, 16_384, 40_000] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = values(40_001);
                values[at] = bad;
                assert!(has_non_finite(&device, &values), "{bad} at {at}");
            }
        }
        assert!(sum_of_squares(&device, &[f32::NAN]).is_nan());
        let large = f64::from(1e30f32);
        assert_eq!(sum_of_squares(&device, &[1e30, 1e30]), 2.0 * large * large);
    }
}

#[test]
fn scaling_multiplies_everything_once() {
    for device in devices() {
        let mut scaled = values(50_001);
        scale(&device, &mut scaled, 0.5);
        assert!(scaled.iter().zip(values(50_001)).all(|(&x, y)| x == 0.5 * y));
    }
}
