//! The pool: each task exactly once, nothing lost in panics, nesting or sleep.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use heldout_kernels::{Pool, default_threads};

fn counters(len: usize) -> Vec<AtomicUsize> {
    (0..len).map(|_| AtomicUsize::new(0)).collect()
}

fn all_once(counters: &[AtomicUsize]) -> bool {
    counters.iter().all(|counter| counter.load(Ordering::Relaxed) == 1)
}

#[test]
fn every_task_runs_exactly_once() {
    for threads in [1, 2, 3, 8] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads);
        for tasks in [0, 1, 2, 3, 7, 100, 1000] {
            for _ in 0..20 {
                let seen = counters(tasks);
                pool.run(tasks, &|task| {
                    seen[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(all_once(&seen), "{threads} threads, {tasks} tasks");
            }
        }
    }
}

/// What tasks write is there when the run returns, for very many very short runs.
#[test]
fn results_are_visible_after_each_of_many_short_runs() {
    let pool = Pool::new(3);
    let mut data = [0u64; 5];
    for round in 1..20_000u64 {
        pool.for_each_chunk(&mut data, 1, &|index, value| value[0] += round * index as u64);
        if round % 1000 == 0 {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
    let sum: u64 = (1..20_000).sum();
    assert_eq!(data, [0, sum, 2 * sum, 3 * sum, 4 * sum]);
}

#[test]
fn workers_take_part_and_wake_from_sleep() {
    let pool = Pool::new(2);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(5));
        // Each task waits for the other: only two threads can finish this.
        let arrived = AtomicUsize::new(0);
        let start = Instant::now();
        pool.run(2, &|_| {
            arrived.fetch_add(1, Ordering::SeqCst);
            while arrived.load(Ordering::SeqCst) < 2 {
                assert!(start.elapsed() < Duration::from_secs(20), "no worker came");
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn nested_runs_execute_inline() {
    let pool = Pool::new(3);
    let seen = counters(64);
    pool.run(8, &|outer| {
        let caller = std::thread::current().id();
        pool.run(8, &|inner| {
            assert_eq!(std::thread::current().id(), caller);
            seen[outer * 8 + inner].fetch_add(1, Ordering::Relaxed);
        });
    });
    assert!(all_once(&seen));
}

#[test]
fn a_panic_in_a_task_reaches_the_caller_and_the_pool_lives_on() {
    let pool = Pool::new(3);
    for culprit in [0, 1, 17, 99] {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.run(100, &|task| assert!(task != culprit, "task {task} fails"));
        }));
        let payload = outcome.expect_err("the panic was lost");
        let message = payload.downcast_ref::<String>().expect("a message");
        assert!(message.contains(&format!("task {culprit} fails")), "{message}");
        let seen = counters(50);
        pool.run(50, &|task| {
            seen[task].fetch_add(1, Ordering::Relaxed);
        });
        assert!(all_once(&seen));
    }
}

#[test]
fn two_callers_at_once_both_finish() {
    let pool = Arc::new(Pool::new(2));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let pool = Arc::clone(&pool);
            std::thread::spawn(move || {
                for _ in 0..200 {
                    let seen = counters(20);
                    pool.run(20, &|task| {
                        seen[task].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(all_once(&seen));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().expect("a caller failed");
    }
}

#[test]
fn chunks_cover_slices_and_cut_them_alike() {
    let pool = Pool::new(2);
    for len in [0, 1, 9, 10, 11, 100] {
        let (mut a, mut b) = (vec![1; len], vec![2; len]);
        pool.zip_chunks([&mut a, &mut b], 10, &|number, [a, b]| {
            assert_eq!(a.len(), b.len());
            for (a, b) in a.iter_mut().zip(b) {
                *a += number;
                *b += *a;
            }
        });
        for i in 0..len {
            assert_eq!((a[i], b[i]), (1 + i / 10, 3 + i / 10));
        }
    }
}

#[test]
fn dropping_joins_sleeping_and_spinning_workers() {
    for pause in [0, 2] {
        let pool = Pool::new(4);
        pool.run(10, &|_| ());
        std::thread::sleep(Duration::from_millis(pause));
        drop(pool);
    }
    assert!(default_threads() >= 1);
}
