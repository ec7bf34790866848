//! Downloads: what the hub says a model's files are, each into `blobs` under its tag, gone on with
//! where it broke off, and checked before it gets its name.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use heldout_base::durable;
use serde_json::Value;
use ureq::Agent;

use super::cache::{DESCRIPTIONS, WEIGHTS, shards};
use super::http::{Answer, Want};
use super::{Hub, Name};
use crate::console::Console;
use crate::failure::Failure;

/// Why a model did not come.
pub enum Trouble {
    /// The network or the hub is away: the cache may still help.
    Unreachable(String),
    Other(Box<Failure>),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Other(Box::new(failure))
    }
}

/// How often a download is gone on with after it broke off.
const ATTEMPTS: usize = 5;
const BUFFER_BYTES: usize = 1 << 20;
/// Descriptions of a repository are longer than this nowhere.
const LISTING_BYTES: u64 = 64 << 20;

impl Hub {
    /// Fetches what is missing of a model, and gives the folder of its snapshot.
    pub(super) fn download(&self, name: &Name, console: &Console) -> Result<PathBuf, Trouble> {
        let agent = Hub::agent();
        let (commit, files) = self.listing(&agent, name)?;
        let folder = self.folder(name);
        let snapshot = folder.join("snapshots").join(&commit);
        let has = |file: &str| files.iter().any(|known| known == file);
        if !has("config.json") {
            return Err(self.lacks(name, "no config.json: it is no model").into());
        }
        if !has("tokenizer.json") {
            let problem = "no tokenizer.json: only models with a fast tokenizer can be read";
            return Err(self.lacks(name, problem).into());
        }
        let form = WEIGHTS.iter().find(|(single, index)| has(single) || has(index));
        let Some((single, index)) = form else {
            let problem = "neither model.safetensors nor pytorch_model.bin";
            return Err(self.lacks(name, problem).into());
        };
        for file in DESCRIPTIONS.into_iter().filter(|file| has(file)) {
            self.file(&agent, name, &commit, file, console)?;
        }
        if has(single) {
            self.file(&agent, name, &commit, single, console)?;
        } else {
            self.file(&agent, name, &commit, index, console)?;
            let Some(shards) = shards(&snapshot.join(index)) else {
                return Err(self.lacks(name, "an index that names no shards").into());
            };
            for shard in shards {
                if !has(&shard) {
                    return Err(self
                        .lacks(name, &format!("no {shard}, which {index} names"))
                        .into());
                }
                self.file(&agent, name, &commit, &shard, console)?;
            }
        }
        write(&folder.join("refs").join(&name.revision), commit.as_bytes())?;
        Ok(snapshot)
    }

    /// The commit that a revision is, and the files there are.
    fn listing(&self, agent: &Agent, name: &Name) -> Result<(String, Vec<String>), Trouble> {
        let Name { repository, revision } = name;
        let revision = revision.replace('/', "%2F");
        let url = format!("{}/api/models/{repository}/revision/{revision}", self.endpoint);
        let mut answer = self.ask(agent, &url, Want::From(0)).map_err(Trouble::Unreachable)?;
        self.check(answer.status, name, "")?;
        let text = answer.body.with_config().limit(LISTING_BYTES).read_to_string();
        let text = text.map_err(|e| Trouble::Unreachable(format!("{url} breaks off ({e})")))?;
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let is_commit = |sha: &&str| sha.len() >= 7 && sha.chars().all(|c| c.is_ascii_hexdigit());
        let (Some(sha), Some(files)) =
            (json["sha"].as_str().filter(is_commit), json["siblings"].as_array())
        else {
            let failure = Failure::failed(format!("{url} does not answer as the hub does"))
                .next("check HF_ENDPOINT");
            return Err(failure.into());
        };
        let of = |file: &Value| file["rfilename"].as_str().map(str::to_owned);
        Ok((sha.to_owned(), files.iter().filter_map(of).collect()))
    }

    /// One file of a snapshot.
    fn file(
        &self,
        agent: &Agent,
        name: &Name,
        commit: &str,
        file: &str,
        console: &Console,
    ) -> Result<(), Trouble> {
        let folder = self.folder(name);
        let link = folder.join("snapshots").join(commit).join(file);
        if link.is_file() {
            return Ok(());
        }
        let url = format!("{}/{}/resolve/{commit}/{file}", self.endpoint, name.repository);
        let head = self.ask(agent, &url, Want::Head).map_err(Trouble::Unreachable)?;
        self.check(head.status, name, file)?;
        let (Some(tag), Some(bytes)) = (head.tag, head.bytes) else {
            let failure = Failure::failed(format!("{url} does not say what the file is"))
                .next("check HF_ENDPOINT: a mirror must pass ETag and Content-Length on");
            return Err(failure.into());
        };
        let blob = folder.join("blobs").join(&tag);
        if !blob.is_file() {
            if bytes > BUFFER_BYTES as u64 {
                let mib = bytes as f64 / f64::from(1 << 20);
                console.note(&format!("fetching {}/{file}, {mib:.0} MiB", name.repository));
            }
            self.blob(agent, &url, &blob, (&tag, bytes), name)?;
        }
        make_folder(&link)?;
        let target = Path::new("../../blobs").join(&tag);
        let _ = fs::remove_file(&link);
        symlink(&target, &blob, &link).map_err(|e| cannot("write", &link, &e).into())
    }

    /// The bytes of a file, under a name that says unfinished until they are checked.
    fn blob(
        &self,
        agent: &Agent,
        url: &str,
        blob: &Path,
        (tag, bytes): (&str, u64),
        name: &Name,
    ) -> Result<(), Trouble> {
        let unfinished = blob.with_file_name(format!("{tag}.incomplete"));
        make_folder(blob)?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&unfinished)
            .map_err(|e| cannot("write", &unfinished, &e))?;
        // Another process may be fetching the same: one waits for the other, and finds it done.
        file.lock().map_err(|e| cannot("lock", &unfinished, &e))?;
        if blob.is_file() {
            return Ok(());
        }
        let mut broken = String::new();
        for _ in 0..ATTEMPTS {
            let have = file.seek(SeekFrom::End(0)).map_err(|e| cannot("read", &unfinished, &e))?;
            if have == bytes {
                return finish(&file, &unfinished, blob, tag);
            }
            let start = if have < bytes { have } else { 0 };
            match self.ask(agent, url, Want::From(start)) {
                Err(why) => broken = why,
                Ok(answer) => {
                    if answer.status != 416 {
                        self.check(answer.status, name, url)?;
                    }
                    match append(answer, start, &mut file) {
                        Ok(()) => broken = "it broke off".to_owned(),
                        Err(Broken::Network(why)) => broken = why,
                        Err(Broken::Disk(e)) => return Err(cannot("write", &unfinished, &e).into()),
                    }
                }
            }
        }
        let have = file.metadata().map_or(0, |data| data.len());
        let failure = Failure::failed(format!("{url}: {have} of {bytes} bytes came: {broken}"))
            .next("start the command again: it goes on where it broke off");
        Err(failure.into())
    }

    /// Whether a status is one to go on with.
    fn check(&self, status: u16, name: &Name, file: &str) -> Result<(), Trouble> {
        let Name { repository, revision } = name;
        let what =
            if file.is_empty() { repository.clone() } else { format!("{repository}: {file}") };
        let failure = match status {
            200..=299 => return Ok(()),
            401 | 403 if self.token.is_none() => Failure::bad_input(format!(
                "{what}: the hub answers {status}: there is no such model, or it is not open to all"
            ))
            .next("check the name; for a private or gated model set HF_TOKEN"),
            401 | 403 => Failure::bad_input(format!(
                "{what}: the hub answers {status} to HF_TOKEN"
            ))
            .next(format!(
                "check the token, and accept the terms at {}/{repository}",
                self.endpoint
            )),
            404 => Failure::bad_input(format!("{what}: not on {} ({revision})", self.endpoint))
                .next("check the name and the revision (org/name@revision), or give a folder"),
            429 | 500..=599 => {
                let why = format!("{} answers {status}", self.endpoint);
                return Err(Trouble::Unreachable(why));
            }
            _ => Failure::failed(format!("{what}: {} answers {status}", self.endpoint))
                .next("check HF_ENDPOINT"),
        };
        Err(failure.into())
    }

    fn lacks(&self, name: &Name, problem: &str) -> Failure {
        Failure::bad_input(format!("{} on {} has {problem}", name.repository, self.endpoint))
            .next("choose another model, or another revision (org/name@revision)")
    }
}

/// Why a download stopped.
enum Broken {
    Network(String),
    Disk(std::io::Error),
}

/// Writes what comes, behind what is there; from the start where the hub sends all of it.
fn append(answer: Answer, start: u64, file: &mut File) -> Result<(), Broken> {
    let at = match answer.status {
        206 => start,
        200 => 0,
        // What is there does not fit what is on the hub.
        _ => return file.set_len(0).map_err(Broken::Disk),
    };
    file.set_len(at).map_err(Broken::Disk)?;
    file.seek(SeekFrom::Start(at)).map_err(Broken::Disk)?;
    let mut body = answer.body.into_with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => file.write_all(&buffer[..count]).map_err(Broken::Disk)?,
            Err(e) => return Err(Broken::Network(e.to_string())),
        }
    }
}

/// Checks the bytes where their tag is their SHA-256 (large files' is), and gives them their name.
fn finish(file: &File, unfinished: &Path, blob: &Path, tag: &str) -> Result<(), Trouble> {
    if tag.len() == 64 {
        let found = durable::sha256_file(unfinished).map_err(|e| Failure::failed(e.to_string()))?;
        if found != tag {
            file.set_len(0).map_err(|e| cannot("write", unfinished, &e))?;
            let what = format!("{}: SHA-256 {found}, expected {tag}", unfinished.display());
            let failure = Failure::failed(what)
                .next("the bytes were damaged on the way: start the command again");
            return Err(failure.into());
        }
    }
    file.sync_all().map_err(|e| cannot("write", unfinished, &e))?;
    fs::rename(unfinished, blob).map_err(|e| cannot("rename", unfinished, &e))?;
    Ok(())
}

fn cannot(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot {verb} {}: {error}", path.display()))
        .next("check the disk, or set HF_HOME to a folder that can be written")
}

fn make_folder(file: &Path) -> Result<(), Failure> {
    let folder = durable::parent(file);
    fs::create_dir_all(folder).map_err(|e| cannot("make", folder, &e))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    make_folder(path)?;
    fs::write(path, bytes).map_err(|e| cannot("write", path, &e))
}

/// A link where the system has them, a copy elsewhere.
#[cfg(unix)]
fn symlink(target: &Path, _blob: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_target: &Path, blob: &Path, link: &Path) -> std::io::Result<()> {
    fs::copy(blob, link).map(|_| ())
}
