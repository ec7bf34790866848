//! How much memory a run takes, and how much this process may still take: what the system has
//! left, within its cgroup.

use std::fs;
use std::path::Path;

use heldout_kernels::{Activations, Precision};
use heldout_model::{Model, ModelConfig};

use crate::error::TrainError;
use crate::job::Job;
use crate::session::read_config;

/// Assumed where the system does not say: 2 GiB.
const UNKNOWN: u64 = 2 << 30;

/// What a run takes at its peak beside its data, estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Bytes of weights, gradients, the usual two moments and averages.
    pub vectors: u64,
    /// Bytes of what a micro-batch keeps for its backward pass.
    pub activations: u64,
}

impl Need {
    /// Of a job as it is resolved.
    pub fn of(job: &Job) -> Need {
        let recipe = &job.recipe;
        let plan = &job.techniques.plan;
        let config = &recipe.model.config;
        let heads = plan.heads_ahead();
        let parameters = Model::for_training(config.clone(), &plan.extra())
            .map_or(config.parameter_count(), |model| model.layout().len)
            as u64;
        let further = [
            plan.probe.climb.is_some(),
            plan.own_teacher().is_some(),
            plan.keeps_start(),
            plan.disturbs(),
        ];
        let further = further.into_iter().filter(|needed| *needed).count();
        let averages: usize = plan.averages.iter().map(|average| average.value.vectors()).sum();
        let further = averages + further;
        // Each head that looks ahead is one block more, with a chunk of logits at a time.
        let config = &ModelConfig { layers: config.layers + heads, ..config.clone() };
        let (memory, products) = (recipe.run.memory, recipe.run.products());
        let (micro, context) = (recipe.batch.micro, recipe.model.context);
        // Two passes of each sequence are taken of half as many sequences.
        let rows = if plan.probe.twins.is_some() { 2 * (micro / 2).max(1) } else { micro };
        let activations = config.activation_bytes(rows, context, memory, products);
        let vectors = (4 + further as u64) * 4 * parameters;
        let (weights, lectures) = teaching(job, micro * context);
        Need { vectors: vectors + weights, activations: activations as u64 + lectures }
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.vectors.saturating_add(self.activations)
    }
}

/// Bytes of the teachers' weights, and of what they make of a micro-batch of so many tokens.
fn teaching(job: &Job, tokens: usize) -> (u64, u64) {
    let plan = &job.techniques.plan;
    let own = plan.own_teacher().map(|_| (0, job.recipe.model.config.clone()));
    let models = plan.teachers().iter().filter_map(|name| {
        let config = read_config(Path::new(name)).ok()?;
        Some((4 * config.parameter_count() as u64, config))
    });
    let mut need = (0, 0);
    for (weights, config) in own.into_iter().chain(models) {
        // A block at a time, the hidden states beside it, and a chunk of logits.
        let one = ModelConfig { layers: 1, ..config };
        let block = one.activation_bytes(tokens, 1, Activations::Keep, Precision::F32);
        let hidden = 4 * tokens * one.width;
        need = (need.0 + weights, need.1.max(block as u64) + hidden as u64);
    }
    need
}

/// Refuses what cannot fit, before anything large is allocated.
///
/// # Errors
/// [`TrainError::Memory`], with what would help.
pub fn check(job: &Job) -> Result<Need, TrainError> {
    const GIB: f64 = (1u64 << 30) as f64;
    let (need, available) = (Need::of(job), available());
    if need.bytes() <= available {
        return Ok(need);
    }
    let advice = if job.recipe.run.memory == Activations::Keep {
        "set run.memory = \"recompute\" or a smaller batch.micro"
    } else if job.recipe.batch.micro > 1 {
        "set a smaller batch.micro"
    } else {
        "choose a smaller model, vocabulary or context"
    };
    let (needed_gib, available_gib) = (need.bytes() as f64 / GIB, available as f64 / GIB);
    Err(TrainError::Memory { needed_gib, available_gib, advice })
}

/// Bytes that may still be taken: the least of `MemAvailable` and the room in the cgroups.
pub fn available() -> u64 {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").ok();
    let cgroup = groups.and_then(|text| cgroup_room(&text, Path::new("/sys/fs/cgroup")));
    match (system, cgroup) {
        (Some(system), Some(cgroup)) => system.min(cgroup),
        (Some(bytes), None) | (None, Some(bytes)) => bytes,
        (None, None) => UNKNOWN,
    }
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The least room in this process's cgroup and those above it, version 2 or 1.
fn cgroup_room(groups: &str, root: &Path) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (base, most, used) = match controllers {
            "" => (root.to_path_buf(), "memory.max", "memory.current"),
            c if c.split(',').any(|c| c == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        let mut folder = base.join(path.trim_start_matches('/'));
        loop {
            if let Some(room) = room_in(&folder, most, used) {
                least = Some(least.map_or(room, |l| l.min(room)));
            }
            if folder == base || !folder.pop() {
                break;
            }
        }
    }
    least
}

fn room_in(folder: &Path, most: &str, used: &str) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let most: u64 = read(most)?.trim().parse().ok()?;
    // Version 1 writes a number near 2^63 where there is no limit.
    if most > 1 << 60 {
        return None;
    }
    let used: u64 = read(used)?.trim().parse().ok()?;
    // Cached file pages count as used but are given back under pressure.
    let cached = read("memory.stat").map_or(0, |stat| {
        let field = |name: &str| {
            stat.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        field("inactive_file ").unwrap_or(0)
    });
    Some(most.saturating_sub(used.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_kilobytes() {
        let text = "MemTotal: 100 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(mem_available(text), Some(2 << 20));
        assert_eq!(mem_available("MemTotal: 100 kB\n"), None);
    }

    #[test]
    fn the_tightest_cgroup_counts() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).expect("folders");
        let put = |path: &Path, name: &str, text: &str| {
            fs::write(path.join(name), text).expect("a small file");
        };
        put(&inner, "memory.max", "max\n");
        put(&inner, "memory.current", "5\n");
        put(&root.path().join("a"), "memory.max", "1000\n");
        put(&root.path().join("a"), "memory.current", "300\n");
        put(&root.path().join("a"), "memory.stat", "anon 1\ninactive_file 100\n");
        assert_eq!(cgroup_room("0::/a/b\n", root.path()), Some(800));
        assert_eq!(cgroup_room("0::/elsewhere\n", root.path()), None);
    }

    #[test]
    fn this_machine_has_some() {
        assert!(available() > 1 << 20);
    }
}
