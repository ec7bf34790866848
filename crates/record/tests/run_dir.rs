//! The run directory: never over something else, never two writers, links replaced at once.

use heldout_record::checkpoint::{self, Pointer};
use heldout_record::{Manifest, MetricsLog, RecordError, RunDir};
use std::fs;
use std::path::Path;

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("scratch")
}

#[test]
fn lies_where_the_documentation_says() {
    let folder = scratch();
    let root = folder.path().join("runs/first");
    let run = RunDir::create(&root).expect("created with its parents");
    assert_eq!(run.name(), "first");
    let check = |path: std::path::PathBuf, expected: &str| assert_eq!(path, root.join(expected));
    check(run.recipe(), "recipe.toml");
    check(run.plan(), "plan.json");
    check(run.manifest(), "manifest.json");
    check(run.metrics(), "metrics.jsonl");
    check(run.profile(), "profile.json");
    check(run.examination(), "examination.json");
    check(run.tensorboard(), "tensorboard");
    check(run.checkpoints(), "checkpoints");
    check(run.best(), "best");
    check(run.last(), "last");
    check(run.model(), "model");
    assert_eq!(RunDir::open(&root).expect("opened"), run);
}

#[test]
fn the_plan_tells_who_is_in_it() {
    let folder = scratch();
    let run = RunDir { root: folder.path().to_owned() };
    assert!(run.planned().is_empty(), "there is no plan");
    let plan = r#"{"tie":{"owner":"weight-tying","value":1},"stop":[],"noise":{"sites":
        {"embedding":{"owner":"dropout","value":{}},"heads":{"owner":"dropout"}}}}"#;
    fs::write(run.plan(), plan).expect("written");
    let mut names = run.planned();
    names.sort();
    assert_eq!(names, ["dropout", "weight-tying"]);
    fs::write(run.plan(), "{torn").expect("written");
    assert!(run.planned().is_empty());
}

#[test]
fn refuses_what_is_not_its_own() {
    let folder = scratch();
    fs::write(folder.path().join("thesis.txt"), "dear").expect("written");
    let error = RunDir::create(folder.path()).expect_err("foreign");
    assert!(matches!(error, RecordError::ForeignFolder(_)));
    assert!(error.to_string().contains("choose another folder"), "{error}");
    let error = RunDir::open(folder.path()).expect_err("no run");
    assert!(matches!(error, RecordError::NotARun { .. }), "{error}");
    let error = RunDir::open(&folder.path().join("none")).expect_err("nothing").to_string();
    assert!(error.contains("none: no such file or folder"), "{error}");
    let error = RunDir::create(&folder.path().join("thesis.txt/run")).expect_err("a file");
    assert!(error.to_string().contains("thesis.txt/run: "), "{error}");

    let root = folder.path().join("run");
    RunDir::create(&root).expect("created");
    let error = RunDir::create(&root).expect_err("a run is there");
    assert!(matches!(error, RecordError::RunExists(_)));
    let command = format!("`heldout resume {}`", root.display());
    assert!(error.to_string().contains(&command), "{error}");
}

#[test]
fn an_empty_folder_will_do() {
    let folder = scratch();
    RunDir::create(folder.path()).expect("created");
}

#[test]
fn names_that_are_taken_get_a_number() {
    let folder = scratch();
    let next = || RunDir::next_name(folder.path(), "run");
    assert_eq!(next(), folder.path().join("run"));
    RunDir::create(&next()).expect("created");
    assert_eq!(next(), folder.path().join("run-2"));
    RunDir::create(&next()).expect("created");
    assert_eq!(next(), folder.path().join("run-3"));
}

#[test]
fn one_writer_at_a_time() {
    let folder = scratch();
    let run = RunDir::create(&folder.path().join("run")).expect("created");
    let lock = run.lock().expect("free");
    let error = run.lock().expect_err("taken");
    assert!(matches!(error, RecordError::InUse(_)), "{error}");
    drop(lock);
    run.lock().expect("free again");
}

#[test]
fn a_run_copied_with_its_links_followed_still_works() {
    let folder = scratch();
    let run = RunDir::create(&folder.path().join("run")).expect("created");
    let write = |step| {
        checkpoint::write_staged(&run, step, &mut |s| s.write("a", |out| out.write_all(b"x")))
            .expect("written")
    };
    write(1);
    fs::create_dir(run.last()).expect("as cp -rL would");
    fs::write(run.last().join("a"), "x").expect("written");
    let (found, warnings) = checkpoint::load_last(&run).expect("the folder is whole");
    assert_eq!((found.step, warnings.len()), (1, 1));
    let second = write(2);
    checkpoint::point(&run, &second, Pointer::Last).expect("pointed");
    assert_eq!(checkpoint::pointed(&run, Pointer::Last), Some(second));
    assert!(run.root.join("last-copy/a").is_file(), "nothing is deleted");
}

#[test]
fn a_link_may_be_a_text_file() {
    let folder = scratch();
    let run = RunDir::create(&folder.path().join("run")).expect("created");
    let one = checkpoint::write(&run, 1, &mut |folder| {
        fs::write(folder.join("a"), "x").expect("written");
        Ok(())
    });
    fs::write(run.last(), "checkpoints/step-000001\n").expect("written");
    assert_eq!(checkpoint::pointed(&run, Pointer::Last), one.ok());
    assert!(checkpoint::load_last(&run).expect("loaded").1.is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_that_cannot_be_written_is_named() {
    let error = RunDir::create(Path::new("/proc/heldout-run")).expect_err("not a place for runs");
    assert!(error.to_string().starts_with("cannot create /proc/heldout-run: "), "{error}");
    assert!(error.cause().is_some());
    let missing = Path::new("/proc/heldout/metrics.jsonl");
    assert!(MetricsLog::create(missing).is_err());
    assert!(Manifest::new(Vec::new(), 0).write(missing).is_err());
}
