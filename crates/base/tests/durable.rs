//! Durable files: whole or untouched, and errors that a user can act on.

use heldout_base::durable::{
    Cause, Sha256Writer, commit_folder, parent, sha256_bytes, sha256_file, write_file,
};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// SHA-256 of "abc" (FIPS 180-2, appendix B.1).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("the scratch folder is there")
        .map(|e| e.expect("listed").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn writes_and_replaces_whole_files() {
    let folder = tempfile::tempdir().expect("scratch");
    let path = folder.path().join("a.json");
    for text in ["first", "the second, longer", ""] {
        write_file(&path, |out| out.write_all(text.as_bytes())).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), text);
    }
    assert_eq!(entries(folder.path()), ["a.json"]);
}

#[cfg(unix)]
#[test]
fn new_files_are_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("scratch");
    let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
    write_file(&ours, |out| out.write_all(b"x")).expect("written");
    fs::write(&plain, b"x").expect("written");
    let mode = |p: &Path| fs::metadata(p).expect("there").permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

#[test]
fn a_failed_write_leaves_the_old_file_and_no_litter() {
    let folder = tempfile::tempdir().expect("scratch");
    let path = folder.path().join("weights");
    fs::write(&path, "old").expect("written");
    let error = write_file(&path, |out| {
        out.write_all(&vec![7; 3 << 20])?;
        Err(io::Error::from_raw_os_error(28)) // ENOSPC, as a full disk gives it
    })
    .expect_err("the disk is full");
    assert_eq!(error.cause, Cause::DiskFull);
    let text = error.to_string();
    assert!(text.contains("weights: disk full; free some space"), "{text}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "old");
    assert_eq!(entries(folder.path()), ["weights"]);
}

#[test]
fn missing_and_wrong_folders_are_named() {
    let folder = tempfile::tempdir().expect("scratch");
    let check = |path: &Path, cause: Cause, words: &str| {
        let error = write_file(path, |out| out.write_all(b"x")).expect_err(words);
        assert_eq!(error.cause, cause);
        let text = error.to_string();
        let named = parent(path).to_string_lossy().into_owned();
        assert!(text.contains(words) && text.contains(&named), "{text}");
    };
    check(&folder.path().join("no/such/file"), Cause::Missing, "no such file or folder");
    fs::write(folder.path().join("plain"), "x").expect("written");
    check(&folder.path().join("plain/file"), Cause::WrongKind, "a file stands where");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_refuses_writes_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("scratch");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).expect("changed");
    let path = folder.path().join("x");
    match write_file(&path, |out| out.write_all(b"x")) {
        Ok(()) => println!("skipped: this user (root?) may write to a read-only folder"),
        Err(error) => {
            assert_eq!(error.cause, Cause::PermissionDenied);
            assert!(error.to_string().contains("permission denied; check the owner"), "{error}");
        }
    }
}

#[test]
fn every_cause_has_words_and_a_next_step() {
    let check = |code: i32, cause: Cause, words: &str| {
        let found = Cause::of(&io::Error::from_raw_os_error(code));
        assert_eq!(found, cause);
        assert_eq!(found.to_string(), words);
        assert!(!found.next_step().is_empty());
    };
    check(28, Cause::DiskFull, "disk full");
    check(122, Cause::QuotaUsedUp, "disk quota used up");
    check(30, Cause::ReadOnly, "read-only file system");
    check(13, Cause::PermissionDenied, "permission denied");
    check(1, Cause::PermissionDenied, "permission denied");
    check(2, Cause::Missing, "no such file or folder");
    check(116, Cause::Missing, "no such file or folder");
    check(5, Cause::DeviceFailed, "the device failed to read or write");
    check(24, Cause::TooManyOpen, "too many files are open");
    check(27, Cause::TooLarge, "the file is too large for this file system");
    let other = Cause::of(&io::Error::other("the cat sat on it"));
    assert_eq!(other, Cause::Other("the cat sat on it".to_owned()));
}

#[test]
fn a_folder_appears_whole_or_says_what_is_in_the_way() {
    let folder = tempfile::tempdir().expect("scratch");
    let (staged, end) = (folder.path().join(".staged"), folder.path().join("end"));
    fs::create_dir_all(staged.join("deeper")).expect("made");
    fs::write(staged.join("deeper/file"), "x").expect("written");
    commit_folder(&staged, &end).expect("committed");
    assert_eq!(fs::read_to_string(end.join("deeper/file")).expect("read"), "x");
    assert!(!staged.exists());

    fs::create_dir(&staged).expect("made");
    let error = commit_folder(&staged, &end).expect_err("end is not empty");
    assert_eq!(error.cause, Cause::Exists);
    assert!(error.to_string().contains("move away what is there"), "{error}");
    let error = commit_folder(&folder.path().join("gone"), &end).expect_err("nothing staged");
    assert_eq!(error.cause, Cause::Missing);
}

#[test]
fn hashes_agree_with_the_published_one_and_with_each_other() {
    assert_eq!(sha256_bytes(b"abc"), ABC);
    let mut writer = Sha256Writer::new(Vec::new());
    writer.write_all(b"a").and_then(|()| writer.write_all(b"bc")).expect("a Vec takes all");
    writer.flush().expect("a Vec takes all");
    assert_eq!(writer.bytes(), 3);
    assert_eq!(writer.finish(), (b"abc".to_vec(), ABC.to_owned()));

    let folder = tempfile::tempdir().expect("scratch");
    let path = folder.path().join("big");
    let bytes: Vec<u8> = (0..3_000_001u32).map(|i| (i * i) as u8).collect();
    fs::write(&path, &bytes).expect("written");
    assert_eq!(sha256_file(&path).expect("read"), sha256_bytes(&bytes));
    let error = sha256_file(&folder.path().join("none")).expect_err("not there");
    assert!(error.to_string().starts_with("cannot open "), "{error}");
}

#[test]
fn only_the_bytes_that_were_taken_are_hashed() {
    struct Slow(Vec<u8>);
    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes[0]);
            Ok(1)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = Sha256Writer::new(Slow(Vec::new()));
    writer.write_all(b"abc").expect("taken byte by byte");
    assert_eq!(writer.finish().1, ABC);
}

#[test]
fn a_device_that_is_always_full_is_called_full() {
    let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("skipped: this system has no /dev/full");
        return;
    };
    let error = Sha256Writer::new(full).write_all(b"x").expect_err("always full");
    assert_eq!(Cause::of(&error), Cause::DiskFull);
}
