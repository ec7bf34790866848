//! Files of `torch.save`: what PyTorch writes is read to the bit, and nothing a pickle asks for is
//! ever done.

mod support;

use heldout_record::RecordError;
use heldout_record::weights::WeightFile;
use std::fs;
use std::path::Path;

/// A zip archive of stored entries, as `torch.save` lays them out; nobody looks at checksums.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let start = out.len() as u32;
        let size = (bytes.len() as u32).to_le_bytes();
        let sizes = [[0; 4], size, size].concat();
        let lengths = [(name.len() as u16).to_le_bytes(), [0, 0]].concat();
        out.extend(
            [b"PK\x03\x04" as &[u8], &[0; 10], &sizes, &lengths, name.as_bytes(), bytes].concat(),
        );
        let rest = [&[0u8; 10] as &[u8], &start.to_le_bytes(), name.as_bytes()].concat();
        directory.extend([b"PK\x01\x02" as &[u8], &[0; 12], &sizes, &lengths, &rest].concat());
    }
    let (start, size) = ((out.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    let count = (entries.len() as u16).to_le_bytes();
    out.extend(directory);
    out.extend([b"PK\x05\x06" as &[u8], &[0; 4], &count, &count, &size, &start, &[0; 2]].concat());
    out
}

/// `{"w": tensor}` with the given offset, sizes and strides on storage 0 of floats.
fn pickle(offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let mut out = b"\x80\x02}(X\x01\x00\x00\x00w".to_vec();
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n(");
    out.extend(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000");
    out.extend(b"X\x03\x00\x00\x00cpuK\x04tQ");
    out.extend([b'K', offset]);
    for list in [shape, strides] {
        out.push(b'(');
        list.iter().for_each(|n| out.extend([b'K', *n]));
        out.push(b't');
    }
    out.extend(b"\x89ccollections\nOrderedDict\n)RtRu.");
    out
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn write(folder: &Path, pickle: &[u8], storage: &[u8]) {
    let bytes = archive(&[("archive/data.pkl", pickle), ("archive/data/0", storage)]);
    fs::write(folder.join("pytorch_model.bin"), bytes).expect("written");
}

fn refused(folder: &Path) -> String {
    let error = WeightFile::open(folder).expect_err("it must not open");
    assert!(matches!(error, RecordError::Weights { .. }), "{error}");
    error.to_string()
}

#[test]
fn tensors_of_hand_made_bytes_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = floats(&[1.0, -2.0, 3.5, 4.0]);
    write(folder.path(), &pickle(1, &[3], &[1]), &storage);
    let file = WeightFile::open(folder.path()).expect("a file of torch.save");
    assert_eq!(file.read_f32("w").expect("w"), (vec![3], vec![-2.0, 3.5, 4.0]));
    for (pickle, words) in [
        (pickle(2, &[3], &[1]), "reaches past its storage"),
        (pickle(0, &[2, 2], &[1, 2]), "not stored row by row"),
        (b"\x80\x02}.".to_vec(), ""),
        (b"\x80\x02K\x01.".to_vec(), "no dictionary of tensors"),
        (b"\x80\x02}(X\xff\xff\xff\xff".to_vec(), "cut short"),
    ] {
        write(folder.path(), &pickle, &storage);
        match words {
            "" => assert_eq!(WeightFile::open(folder.path()).expect("empty").names().count(), 0),
            words => assert!(refused(folder.path()).contains(words), "{}", refused(folder.path())),
        }
    }
}

#[test]
fn pickles_that_would_run_something_are_refused_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let trap = folder.path().join("trap");
    let call = |import: &[u8]| {
        let command = format!("touch {}", trap.display());
        let length = (command.len() as u32).to_le_bytes();
        [b"\x80\x02" as &[u8], import, b"(X", &length, command.as_bytes(), b"tR."].concat()
    };
    for (import, name) in [
        (b"cos\nsystem\n" as &[u8], "os.system"),
        (b"cposix\nsystem\n", "posix.system"),
        (b"cbuiltins\neval\n", "builtins.eval"),
        (b"X\x0a\x00\x00\x00subprocessX\x05\x00\x00\x00Popen\x93", "subprocess.Popen"),
        (b"ctorch._utils\n_rebuild_tensor_v3\n", "torch._utils._rebuild_tensor_v3"),
        (b"ccollections\nOrderedDict.__init__\n", "collections.OrderedDict.__init__"),
    ] {
        write(folder.path(), &call(import), &[]);
        let words = refused(folder.path());
        assert!(words.contains(name) && words.contains("refused"), "{words}");
        assert!(words.contains("if you trust the file"), "{words}");
    }
    // Instructions that make objects by other ways: INST, OBJ, NEWOBJ, EXT1.
    for code in [&b"(ios\nsystem\n."[..], b"(o.", b")\x81.", b"\x82\x01."] {
        write(folder.path(), &[b"\x80\x02", code].concat(), &[]);
        let words = refused(folder.path());
        assert!(words.contains("instruction 0x"), "{words}");
    }
    assert!(!trap.exists());
}

#[test]
fn copies_of_copies_do_not_fill_the_memory() {
    // Each round doubles a tuple by its note: 2^60 values from some hundred bytes.
    let mut bomb = b"\x80\x02K\x01\x85q\x00".to_vec();
    (0..60).for_each(|_| bomb.extend(b"0h\x00h\x00\x86q\x00"));
    bomb.push(b'.');
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &bomb, &[]);
    assert!(refused(folder.path()).contains("without measure"), "{}", refused(folder.path()));
}

#[test]
fn any_damage_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pytorch_model.bin");
    let whole = archive(&[
        ("archive/data.pkl", &pickle(0, &[4], &[1])),
        ("archive/data/0", &floats(&[1.0, 2.0, 3.0, 4.0])),
    ]);
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).expect("written");
        WeightFile::open(folder.path()).expect_err("cut short");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        fs::write(&path, &bytes).expect("written");
        // Many bytes matter to nobody; none may lead outside the file.
        if let Ok(file) = WeightFile::open(folder.path()) {
            let names: Vec<String> = file.names().map(str::to_owned).collect();
            names.iter().for_each(|name| drop(file.read_f32(name)));
        }
    }
    let old =
        [b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" as &[u8], &[0; 64]].concat();
    fs::write(&path, old).expect("written");
    assert!(refused(folder.path()).contains("before 1.6"), "{}", refused(folder.path()));
}

#[test]
fn what_pytorch_saves_is_read_to_the_bit() {
    let script = r#"
import json, os, sys, torch
folder = sys.argv[1]
torch.manual_seed(3)
shared = torch.randn(4, 6)
state = {
    "f32": torch.randn(3, 5), "f16": torch.randn(7).half(), "bf16": torch.randn(2, 2).bfloat16(),
    "f64": torch.randn(2, 3, dtype=torch.float64), "part": shared[1:3], "all": shared,
    "scalar": torch.tensor(2.5), "parameter": torch.nn.Parameter(torch.randn(5)),
    "empty": torch.zeros(0, 4), "ids": torch.arange(5),
}
torch.save(state, os.path.join(folder, "pytorch_model.bin"))
expected = {n: t.detach().float().flatten().tolist() for n, t in state.items()}
os.mkdir(os.path.join(folder, "module"))
module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
inner = {"epoch": 3, "state_dict": module.state_dict()}
torch.save(inner, os.path.join(folder, "module", "pytorch_model.bin"))
shards = os.path.join(folder, "shards")
os.mkdir(shards)
names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
torch.save({"f32": state["f32"]}, os.path.join(shards, names[0]))
torch.save({"f16": state["f16"]}, os.path.join(shards, names[1]))
index = {"weight_map": {"f32": names[0], "f16": names[1]}}
json.dump(index, open(os.path.join(shards, "pytorch_model.bin.index.json"), "w"))
torch.save(torch.nn.Linear(2, 2), os.path.join(folder, "whole.bin"))
json.dump(expected, open(os.path.join(folder, "expected.json"), "w"))
"#;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    if support::python("torch", script, path).is_none() {
        return;
    }
    let expected: serde_json::Value =
        serde_json::from_slice(&fs::read(path.join("expected.json")).expect("read")).expect("JSON");
    let file = WeightFile::open(path).expect("a file of torch.save");
    assert_eq!(file.shape("part"), Some(&[2, 6][..]));
    assert_eq!(file.shape("scalar"), Some(&[][..]));
    assert_eq!(file.dtype("ids"), Some("I64"));
    assert_eq!(file.names().count(), 10);
    for (name, values) in expected.as_object().expect("tensors").iter().filter(|(n, _)| *n != "ids")
    {
        let values: Vec<f32> = values
            .as_array()
            .expect("values")
            .iter()
            .map(|v| v.as_f64().expect("f") as f32)
            .collect();
        assert_eq!(file.read_f32(name).expect(name).1, values, "{name}");
    }
    let module = WeightFile::open(&path.join("module")).expect("a state_dict within");
    assert_eq!(module.names().collect::<Vec<_>>(), ["0.bias", "0.weight", "1.bias", "1.weight"]);
    let shards = WeightFile::open(&path.join("shards")).expect("an index over shards");
    assert_eq!(shards.read_f32("f16").expect("f16"), file.read_f32("f16").expect("f16"));
    // A whole module pickles its classes: to load it is to run code.
    let words = WeightFile::open(&path.join("whole.bin")).expect_err("code").to_string();
    assert!(words.contains("torch.nn.modules.linear.Linear"), "{words}");
}
