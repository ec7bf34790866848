//! `heldout finetune org/name`: models from a hub that is a stub here, into the standard cache.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{Ran, Scratch, ran};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request as far as it matters: method, path, and some headers.
#[derive(Clone, Debug, Default)]
struct Asked {
    method: String,
    path: String,
    range: Option<String>,
    token: Option<String>,
    port: u16,
}

/// What goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Every answer stops after so many bytes of a large file; what is asked for again goes on.
    Truncate(usize),
    /// One byte of large files is another.
    Damage,
    /// Only who has this token gets anything.
    Locked,
}

/// A hub on a port of this machine; large files are redirected to another port, as to a CDN.
struct Stub {
    endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    fault: Arc<Mutex<Fault>>,
}

impl Stub {
    fn start(model: &Path, fault: Fault) -> Stub {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(model).expect("a model").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            files.insert(name, std::fs::read(entry.path()).expect("a file"));
        }
        let (hub, store) = (listener(), listener());
        let port = |l: &TcpListener| l.local_addr().expect("an address").port();
        let stub = Stub {
            endpoint: format!("http://127.0.0.1:{}", port(&hub)),
            asked: Arc::default(),
            fault: Arc::new(Mutex::new(fault)),
        };
        let store_url = format!("http://127.0.0.1:{}", port(&store));
        let files = Arc::new(files);
        for listener in [hub, store] {
            let (files, asked, fault) = (files.clone(), stub.asked.clone(), stub.fault.clone());
            let store_url = store_url.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let fault = *fault.lock().expect("no panic");
                    let own = stream.local_addr().expect("an address").port();
                    answer(stream, own, &files, &store_url, fault, &asked);
                }
            });
        }
        stub
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock().expect("no panic") = fault;
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors")
}

fn answer(
    mut stream: TcpStream,
    port: u16,
    files: &BTreeMap<String, Vec<u8>>,
    store: &str,
    fault: Fault,
    asked: &Mutex<Vec<Asked>>,
) {
    let Some(request) = read(&stream, port) else { return };
    asked.lock().expect("no panic").push(request.clone());
    let listing = "/api/models/org/tiny/revision/main";
    let name = request.path.rsplit('/').next().unwrap_or_default();
    // A store of signed addresses asks for no token.
    let is_hub = !request.path.starts_with("/cdn/");
    if is_hub && fault == Fault::Locked && request.token.as_deref() != Some("Bearer secret") {
        respond(&mut stream, "401 Unauthorized", "", b"no", 2);
        return;
    }
    if request.path == listing {
        let siblings: Vec<_> =
            files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        respond(&mut stream, "200 OK", "", body.as_bytes(), body.len());
        return;
    }
    let Some(bytes) = files.get(name).filter(|_| request.path.contains(COMMIT)) else {
        respond(&mut stream, "404 Not Found", "", b"", 0);
        return;
    };
    let sha = heldout_base::durable::sha256_bytes(bytes);
    if is_large(name) && request.path.starts_with("/org/") {
        let length = bytes.len();
        let headers = format!(
            "X-Linked-ETag: \"{sha}\"\r\nX-Linked-Size: {length}\r\n\
             Location: {store}/cdn/{COMMIT}/{name}\r\n"
        );
        respond(&mut stream, "302 Found", &headers, b"", 0);
        return;
    }
    let mut bytes = bytes.clone();
    if fault == Fault::Damage && is_large(name) {
        bytes[20] ^= 1;
    }
    let first: usize = request.range.as_deref().map_or(0, |r| {
        r.trim_start_matches("bytes=").trim_end_matches('-').parse().expect("a range")
    });
    let status = if first > 0 { "206 Partial Content" } else { "200 OK" };
    let rest = &bytes[first..];
    let sent = match fault {
        Fault::Truncate(most) if is_large(name) => &rest[..rest.len().min(most)],
        _ => rest,
    };
    let body: &[u8] = if request.method == "HEAD" { b"" } else { sent };
    let headers = format!("ETag: \"{}\"\r\n", &sha[..40]);
    respond(&mut stream, status, &headers, body, rest.len());
}

fn read(stream: &TcpStream, port: u16) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut parts = first.split(' ');
    let (method, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut asked = Asked { method, path, port, ..Asked::default() };
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.range = Some(value.to_owned()),
            "authorization" => asked.token = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(asked)
}

fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8], length: usize) {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    // Who went away needs no answer.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// A tiny model in Hugging Face layout, and a text to go on with.
fn tiny(scratch: &Scratch) -> PathBuf {
    let text: String = (0..400).map(|n| format!("line {} of {}\n", n % 17, n % 5)).collect();
    scratch.write("text.txt", &text);
    let run = ["train", "text.txt", "--steps", "2", "--out", "base", "--threads", "1"];
    let small = ["model.layers=1", "model.heads=1", "model.width=8", "model.context=16"];
    let small = small.iter().flat_map(|s| ["--set", s]);
    let other = ["--set", "data.tokenizer=char", "--set", "evaluate.baseline=none"];
    scratch.ok(&run.into_iter().chain(small).chain(other).collect::<Vec<_>>());
    scratch.join("base/model")
}

fn tune(scratch: &Scratch, endpoint: &str, out: &str, environment: &[(&str, &str)]) -> Ran {
    let arguments = [
        "finetune",
        "org/tiny",
        "text.txt",
        "--steps",
        "1",
        "--out",
        out,
        "--threads",
        "1",
        "--set",
        "evaluate.baseline=none",
    ];
    let mut command = scratch.command(&arguments);
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", scratch.join("hf")).env("HF_ENDPOINT", endpoint);
    command.envs(environment.iter().copied());
    ran(command.output().expect("the binary runs"))
}

fn said(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "{}\n{}", ran.out, ran.err);
    assert!(words.iter().all(|word| ran.err.contains(word)), "{words:?} in {}", ran.err);
}

#[test]
fn a_model_is_fetched_once_checked_and_found_again_without_network() {
    let scratch = Scratch::new();
    let stub = Stub::start(&tiny(&scratch), Fault::None);
    said(&tune(&scratch, &stub.endpoint, "one", &[("HF_TOKEN", "secret")]), 0, &[]);
    let folder = scratch.join("hf/hub/models--org--tiny");
    let commit = std::fs::read_to_string(folder.join("refs/main")).expect("a ref");
    assert_eq!(commit, COMMIT);
    let weights = folder.join("snapshots").join(COMMIT).join("model.safetensors");
    let target = std::fs::read_link(&weights).expect("a link");
    let sha = heldout_base::durable::sha256_file(&weights).expect("weights");
    assert_eq!(target, Path::new("../../blobs").join(&sha));
    // The token stays with the hub.
    let hub: u16 = stub.endpoint.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
    for asked in stub.asked() {
        assert_eq!(asked.token.is_some(), asked.port == hub, "{asked:?}");
    }
    let before = stub.asked().len();
    said(&tune(&scratch, &stub.endpoint, "two", &[]), 0, &[]);
    assert_eq!(stub.asked().len(), before + 1, "only the listing is asked for again");
    said(&tune(&scratch, &stub.endpoint, "three", &[("HF_HUB_OFFLINE", "1")]), 0, &[]);
    assert_eq!(stub.asked().len(), before + 1, "nothing is asked for offline");
    let away = tune(&scratch, "http://127.0.0.1:1", "four", &[]);
    said(&away, 0, &["what the cache has is used"]);
}

#[test]
fn what_breaks_off_goes_on_and_what_is_damaged_is_refused() {
    let scratch = Scratch::new();
    let model = tiny(&scratch);
    let size = std::fs::metadata(model.join("model.safetensors")).expect("weights").len() as usize;
    let stub = Stub::start(&model, Fault::Truncate(size / 20));
    let broken = tune(&scratch, &stub.endpoint, "one", &[]);
    said(&broken, 1, &["bytes came", "goes on where it broke off"]);
    stub.set(Fault::None);
    said(&tune(&scratch, &stub.endpoint, "two", &[]), 0, &[]);
    let resumed = |asked: &Asked| asked.range.is_some() && asked.path.contains("/cdn/");
    assert!(stub.asked().iter().any(resumed), "{:?}", stub.asked());

    let other = Scratch::new();
    std::fs::copy(scratch.join("text.txt"), other.join("text.txt")).expect("a text");
    stub.set(Fault::Damage);
    said(&tune(&other, &stub.endpoint, "one", &[]), 1, &["SHA-256", "damaged on the way"]);
    stub.set(Fault::None);
    said(&tune(&other, &stub.endpoint, "one", &[]), 0, &[]);
}

#[test]
fn what_the_hub_refuses_is_said_with_the_way_out() {
    let scratch = Scratch::new();
    let stub = Stub::start(&tiny(&scratch), Fault::Locked);
    said(&tune(&scratch, &stub.endpoint, "one", &[]), 2, &["401", "HF_TOKEN"]);
    let wrong = tune(&scratch, &stub.endpoint, "one", &[("HF_TOKEN", "other")]);
    said(&wrong, 2, &["401", "accept the terms"]);
    said(&tune(&scratch, &stub.endpoint, "one", &[("HF_TOKEN", "secret")]), 0, &[]);
    let none = |model: &str, environment: &[(&str, &str)]| {
        let mut command = scratch.command(&["finetune", model, "text.txt"]);
        command.env("HF_HOME", scratch.join("none")).env("HF_ENDPOINT", &stub.endpoint);
        command.envs(environment.iter().copied());
        ran(command.output().expect("the binary runs"))
    };
    stub.set(Fault::None);
    said(&none("org/tinny", &[]), 2, &["not on http://127.0.0.1", "check the name"]);
    let offline = none("org/tiny", &[("HF_HUB_OFFLINE", "1")]);
    said(&offline, 2, &["not in the cache", "HF_HUB_OFFLINE is set"]);
    let unreachable = none("org/tiny", &[("HF_ENDPOINT", "http://127.0.0.1:1")]);
    said(&unreachable, 2, &["not in the cache", "cannot be reached"]);
}
