//! Real disks that are full or read-only, where the machine's owner has provided them:
//! HELDOUT_SMALL_DISK names a folder on a disk of at most 8 MiB (such as a tmpfs of size=3m),
//! HELDOUT_READ_ONLY_DISK a folder on a disk mounted read-only.

use heldout_base::durable::Cause;
use heldout_record::checkpoint::{self, Pointer};
use heldout_record::{Event, Manifest, MetricsLog, Notice, RecordError, RunDir, TensorBoard};
use std::path::PathBuf;

fn place(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        println!("skipped: {variable} is not set");
    }
    found
}

fn is_full(result: Result<(), RecordError>) -> RecordError {
    let error = result.expect_err("the disk is small");
    assert_eq!(error.cause(), Some(&Cause::DiskFull), "{error}");
    error
}

#[test]
fn on_a_full_disk_the_last_checkpoint_survives_and_the_space_comes_back() {
    let Some(place) = place("HELDOUT_SMALL_DISK") else { return };
    let run = RunDir::create(&RunDir::next_name(&place, "run")).expect("created");
    let write = |step, bytes: usize| {
        checkpoint::write_staged(&run, step, &mut |staging| {
            staging.write("model.safetensors", |out| out.write_all(&vec![7; bytes]))
        })
    };
    let one = write(1, 1 << 20).expect("this fits");
    checkpoint::point(&run, &one, Pointer::Last).expect("pointed");
    for step in 2..5 {
        let error = is_full(write(step, 9 << 20).map(drop));
        assert!(error.to_string().contains("model.safetensors: disk full; free some"), "{error}");
        assert_eq!(checkpoint::load_last(&run).expect("whole"), (one.clone(), Vec::new()));
    }
    write(5, 1 << 19).expect("the space came back");

    let mut log = MetricsLog::create(&run.metrics()).expect("created");
    let event = Event::Notice(Notice { step: None, text: "x".repeat(100_000) });
    let failed = (0..1000).find_map(|_| log.append(&event).err());
    is_full(failed.map_or(Ok(()), Err));
    let error = is_full(Manifest::new(vec!["x".repeat(1 << 20)], 0).write(&run.manifest()));
    assert!(error.to_string().contains("manifest.json: disk full"), "{error}");
    let before = heldout_record::read_metrics(&run.metrics()).expect("whole lines only").len();
    checkpoint::prune(&run, 0).expect("makes room");
    log.append(&event).expect("there is room again");
    let after = heldout_record::read_metrics(&run.metrics()).expect("whole lines only").len();
    assert_eq!(after, before + 1);
    std::fs::remove_dir_all(&run.root).expect("tidied");
}

#[test]
fn on_a_read_only_disk_every_door_says_so() {
    let Some(place) = place("HELDOUT_READ_ONLY_DISK") else { return };
    let run = RunDir { root: place.clone() };
    let check = |error: RecordError| {
        assert_eq!(error.cause(), Some(&Cause::ReadOnly), "{error}");
        assert!(error.to_string().contains("read-only file system; choose a folder"), "{error}");
    };
    check(RunDir::create(&place.join("run")).expect_err("read-only"));
    check(MetricsLog::create(&place.join("metrics.jsonl")).expect_err("read-only"));
    check(Manifest::new(Vec::new(), 0).write(&place.join("manifest.json")).expect_err("no"));
    check(TensorBoard::create(&place.join("tensorboard")).err().expect("read-only"));
    check(checkpoint::write(&run, 1, &mut |_| Ok(())).expect_err("read-only"));
    check(run.lock().expect_err("read-only"));
}
