//! The words after `cargo xtask bench`: which cells, how many rounds, how long.

use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::workload::{WORKLOADS, Workload};

/// What is said about the words when they are wrong.
pub const USAGE: &str = "usage: cargo xtask bench [PART ...] [OPTION ...]
  PART       nano W1 W2 W3   training steps of these shapes (train: all of them)
             generation      tokens a second of generation, W3 shape
             finetune        texts a second of fine-tuning, MiniLM's shape, against the Trainer
             scaling         step time against batch, depth and context
             large           two steps of a 350M Llama
             render          draw bench/RESULTS.md from bench/results.json again
             without any: everything
  --precision f32|bf16       this one alone
  --dropout 0|0.1            this one alone
  --modes eager[,compile]    the modes of PyTorch to compare with (default both; none: us alone)
  --rounds N (5)  --seconds S (2.5, of a turn)
  --compile-limit S (300, for torch.compile to warm up)
or: cargo xtask bench --step WORKLOAD f32|bf16 DROPOUT THREADS SECONDS|serve";

/// What to measure, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub workloads: Vec<&'static str>,
    pub generation: Part,
    pub finetune: Part,
    pub scaling: Part,
    pub large: Part,
    pub precisions: Vec<String>,
    pub dropouts: Vec<String>,
    pub modes: Vec<String>,
    pub rounds: usize,
    pub seconds: f64,
    pub compile_limit: Duration,
}

/// Whether a part is to be measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    Wanted,
    #[default]
    Left,
}

impl Options {
    /// Reads the words.
    pub fn parse(words: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options::default();
        let mut named = false;
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            if let Some(key) = word.strip_prefix("--") {
                let value = words.next().with_context(|| format!("{word} what?\n{USAGE}"))?;
                options.set(key, value)?;
            } else {
                options.add(word)?;
                named = true;
            }
        }
        if !named {
            for part in ["train", "generation", "finetune", "scaling", "large"] {
                options.add(part)?;
            }
        }
        Ok(options)
    }

    fn add(&mut self, part: &str) -> anyhow::Result<()> {
        match part {
            "train" => self.workloads.extend(WORKLOADS.iter().map(|w| w.name)),
            "generation" => self.generation = Part::Wanted,
            "finetune" => self.finetune = Part::Wanted,
            "scaling" => self.scaling = Part::Wanted,
            "large" => self.large = Part::Wanted,
            // It is drawn after anything else, too.
            "render" => (),
            name => self.workloads.push(Workload::named(name).context(USAGE)?.name),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        let one_of = |known: &[&str]| -> anyhow::Result<Vec<String>> {
            let chosen: Vec<String> = value.split(',').map(str::to_string).collect();
            let strange = chosen.iter().find(|word| !known.contains(&word.as_str()));
            match strange {
                Some(word) => bail!("--{key} {word}: there are {}\n{USAGE}", known.join(", ")),
                None => Ok(chosen),
            }
        };
        match key {
            "precision" => self.precisions = one_of(&["f32", "bf16"])?,
            "dropout" => self.dropouts = one_of(&["0", "0.1"])?,
            "modes" if value == "none" => self.modes = Vec::new(),
            "modes" => self.modes = one_of(&["eager", "compile"])?,
            "rounds" => self.rounds = value.parse().context(USAGE)?,
            "seconds" => self.seconds = value.parse().context(USAGE)?,
            "compile-limit" => {
                self.compile_limit = Duration::try_from_secs_f64(value.parse()?).context(USAGE)?;
            }
            _ => bail!("no option --{key}\n{USAGE}"),
        }
        ensure!(self.rounds > 0, "--rounds 0 measures nothing: give at least 1");
        ensure!(self.seconds > 0.0, "--seconds {}: give more than 0", self.seconds);
        Ok(())
    }
}

impl Default for Options {
    /// Nothing chosen, every precision, dropout and mode.
    fn default() -> Options {
        let all = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        Options {
            workloads: Vec::new(),
            generation: Part::Left,
            finetune: Part::Left,
            scaling: Part::Left,
            large: Part::Left,
            precisions: all(&["f32", "bf16"]),
            dropouts: all(&["0", "0.1"]),
            modes: all(&["eager", "compile"]),
            rounds: 5,
            seconds: 2.5,
            compile_limit: Duration::from_secs(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_options_are_read() {
        let words = "W1 --precision bf16 --dropout 0 --rounds 2 --seconds 3 --modes eager";
        let options = Options::parse(&words.split(' ').collect::<Vec<_>>()).expect("good words");
        assert_eq!(options.workloads, ["W1"]);
        assert_eq!((options.rounds, options.seconds), (2, 3.0));
        assert_eq!((options.precisions, options.dropouts), (vec!["bf16".into()], vec!["0".into()]));
        assert_eq!(options.modes, ["eager"]);
        assert_eq!(options.generation, Part::Left);
        let all = Options::parse(&[]).expect("no words");
        assert_eq!((all.workloads.len(), all.large, all.modes.len()), (4, Part::Wanted, 2));
        let redraw = Options::parse(&["render"]).expect("a part");
        assert_eq!((redraw.workloads.len(), redraw.large), (0, Part::Left));
    }

    #[test]
    fn wrong_words_are_told() {
        for (words, said) in [
            (["W9", "--rounds", "1"], "no workload"),
            (["W1", "--rounds", "0"], "at least 1"),
            (["W1", "--modes", "jit"], "there are eager, compile"),
            (["W1", "--shape", "1"], "no option --shape"),
        ] {
            let error = Options::parse(&words).expect_err("wrong");
            assert!(format!("{error:#}").contains(said), "{error:#}");
        }
        assert!(Options::parse(&["--rounds"]).is_err());
    }
}
