"""Runs a study: arms x seeds of `heldout train`, in rounds, one JSON line for each finished run.

usage: run.py STUDY.toml --corpora DIR [--binary PATH] [--seeds N] [--arms A,B] [--out FILE] [--scratch DIR]

A study names a corpus, settings that all arms share, and what each arm changes. One round runs every
arm once with the same seed, so that arms are always compared like for like. Runs whose line already
stands in the results are not run again: stop it whenever you like, and start it again.
Only Python's standard library is used.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent


def flatten(table, prefix=""):
    """{"model": {"width": 64}} becomes {"model.width": 64}; tables of [regularize] stay whole."""
    flat = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and not prefix:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def toml_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return repr(value)


def to_toml(flat):
    """A recipe from flat settings; null removes a key that the base has."""
    tables = {}
    for name, value in flat.items():
        table, key = name.split(".", 1)
        if value is not None and value != "unset":
            tables.setdefault(table, []).append(f"{key} = {toml_value(value)}")
    return "\n".join(f"[{table}]\n" + "\n".join(lines) + "\n" for table, lines in tables.items())


def make_corpus(corpus, corpora, folder):
    """Writes the parts of the corpus that a run sees: text, held-out text, and an untouched test.

    `field` takes that field of JSON lines, one paragraph a record. `train`, `held` and `test` are
    [start, count] in bytes; without `held` the recipe says what of the text is held out. With
    `labels = true` these are files of labelled records, read as they are.
    """
    if corpus.get("labels"):
        files = {part: corpora / corpus[part] for part in ("train", "held", "test") if part in corpus}
        return {part: file.resolve() for part, file in files.items()}
    whole = (corpora / corpus["source"]).read_bytes()
    if "field" in corpus:
        records = [json.loads(line)[corpus["field"]] for line in whole.decode().splitlines()]
        whole = "\n\n".join(records).encode()
    parts = {}
    for part in ("train", "held", "test"):
        if part in corpus:
            start, count = corpus[part]
            parts[part] = folder / f"{part}.txt"
            # A cut within a character leaves some of its bytes out.
            cut = whole[start : start + count].decode(errors="ignore")
            parts[part].write_text(cut, encoding="utf-8")
    return parts


def run_one(study, arm, seed, options):
    settings, corpus = settings_of(study, arm)
    if options.scratch:
        options.scratch = Path(options.scratch).resolve()
        options.scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{study['name']}-", dir=options.scratch))
    try:
        parts = make_corpus(corpus, options.corpora, folder)
        if "held" in parts:
            settings["data.validation"] = [str(parts["held"])]
        recipe, run = folder / "recipe.toml", folder / "run"
        recipe.write_text(to_toml(settings))
        command = ["nice", "-n", "19", options.binary, "train", str(parts["train"])]
        command += ["--recipe", str(recipe), "--seed", str(seed), "--threads", "1"]
        began = time.time()
        done = subprocess.run(command + ["--out", str(run), "--json", "--quiet"],
                              cwd=folder, capture_output=True, text=True)
        # 3 is a run that diverged: a result, too.
        if done.returncode not in (0, 3):
            raise SystemExit(f"{study['name']} {arm} {seed}: {done.stderr[-2000:]}")
        line = {"study": study["name"], "arm": arm, "seed": seed, "key": key_of(study, arm, seed)}
        line.update(summary(json.loads(done.stdout)))
        line["settings"], line["corpus"] = settings, corpus
        line["seconds_wall"] = round(time.time() - began, 1)
        line["evaluations"] = evaluations(run)
        if "test" in parts:
            score = evaluate_labels if corpus.get("labels") else evaluate
            line["test"] = score(options.binary, run, parts["test"], settings)
        if options.keep:
            kept = options.keep / study["name"] / f"{arm}-{seed}"
            shutil.copytree(run / "model", kept, dirs_exist_ok=True)
        return line
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def evaluations(run):
    """The curve: step, weights, training and held-out loss of every evaluation."""
    curve = []
    with open(run / "metrics.jsonl", encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            if event.get("event") == "evaluation":
                curve.append([event["step"], event["weights"], round(event["loss_train"], 4),
                              round(event["loss_valid"], 4)])
    return curve


def evaluate(binary, run, text, settings):
    """The loss on text that neither training nor any selection has touched."""
    boundary = settings.get("data.boundary", "auto")
    command = ["nice", "-n", "19", binary, "evaluate", str(run), str(text), "--boundary", boundary]
    command += ["--threads", "1", "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    out = json.loads(done.stdout)
    return {key: out[key] for key in ("loss", "loss_se", "accuracy", "tokens")}


def evaluate_labels(binary, run, file, _settings):
    """Loss and figures on labelled texts that neither training nor any selection has touched."""
    command = ["nice", "-n", "19", binary, "evaluate", str(run), str(file), "--threads", "1"]
    done = subprocess.run(command + ["--json", "--quiet"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    out = json.loads(done.stdout)
    figures = {figure["name"]: round(figure["value"], 6) for figure in out["metrics"]}
    return {"loss": out["loss"], "loss_se": out["loss_se"], "examples": out["examples"], **figures}


def summary(out):
    def point(at):
        keys = ["step", "epoch", "loss_train", "loss_valid", "gap", "weights"]
        return {key: at[key] for key in keys if key in at}

    return {
        "best": point(out["best"]),
        "last": point(out["last"]),
        "stopped": out["stopped"]["reason"],
        "guard": out["guard_events"],
        "seconds_step": round(out["timing"]["step_seconds"], 1),
    }


def settings_of(study, arm):
    """The recipe's keys and the corpus of one arm: what all share, overlaid by what it changes."""
    settings = flatten({**study.get("base", {})})
    settings.update(flatten(study["arms"][arm]))
    corpus = dict(study["corpus"])
    for name in [name for name in settings if name.startswith("corpus.")]:
        corpus[name.split(".", 1)[1]] = settings.pop(name)
    return settings, corpus


def key_of(study, arm, seed):
    """What a run depends on, in sixteen digits: equal keys are the same run."""
    text = json.dumps([*settings_of(study, arm), seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--binary", default=str(HERE / "../../target/release/heldout"))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--arms")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--scratch")
    parser.add_argument("--keep", type=Path, help="folder that receives every run's model")
    options = parser.parse_args()
    study = tomllib.loads(options.study.read_text())
    study.setdefault("name", options.study.stem)
    results = options.out or HERE / "results" / f"{study['name']}.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    lines = results.read_text().splitlines() if results.exists() else []
    done = {json.loads(line)["key"] for line in lines}
    arms = options.arms.split(",") if options.arms else list(study["arms"])
    for seed in range(1, (options.seeds or study.get("seeds", 5)) + 1):
        for arm in arms:
            if key_of(study, arm, seed) in done:
                continue
            line = run_one(study, arm, seed, options)
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
            best, last = line["best"], line["last"]
            print(f"{study['name']} {arm} seed {seed}: best {best['loss_valid']:.4f} at "
                  f"{best['step']} ({best['weights']}), last {last['loss_valid']:.4f}, "
                  f"gap {last['gap']:.3f}, {line['seconds_wall']} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
