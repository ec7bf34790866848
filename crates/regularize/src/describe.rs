//! The plan in words, one line per slot in use, in the order of the training loop.

use crate::plan::{
    Average, DecayMethod, Frozen, GradientTransform, Owned, PenaltyNorm, Plan, Projection, Sharing,
    Site, SmoothingTo, StopRule, Teachers, TokenGuide, TokenNoise,
};
use heldout_optim::ascent::Metric;
use heldout_optim::average::{Start, Which};
use heldout_optim::guard::Policy;

impl Plan {
    /// One line per slot in use, `slot: what (owner)`; a single line for plain training.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(tie) = &self.tie {
            lines.push(line("model", "output projection = input embedding", &tie.owner));
        }
        if let Some(Owned { owner, value }) = &self.frozen {
            let what = match value {
                Frozen::Below { top } => {
                    let blocks = if *top == 1 { "block" } else { "blocks" };
                    format!("trained: the top {top} {blocks}, the last norm, a head of its own")
                }
                Frozen::Parts(on) => format!("not trained: {}", on.describe()),
                Frozen::AllButAdapters => "trained: the factors of the adapters alone".to_owned(),
            };
            lines.push(line("model", &what, owner));
        }
        if let Some(Owned { owner, value: redrawn }) = &self.redrawn {
            let blocks = if redrawn.top == 1 { "block" } else { "blocks" };
            let what = format!("drawn anew: the top {} {blocks} and the pooler", redrawn.top);
            lines.push(line("model", &what, owner));
        }
        if let Some(Owned { owner, value }) = &self.effective {
            lines.push(line("model", &value.describe(), owner));
        }
        if let Some(Owned { owner, value: ahead }) = &self.ahead {
            let weight = ahead.weight.describe();
            let what = match ahead.heads {
                1 => format!("a head for the token 2 places ahead, weight {weight}"),
                n => format!("heads for tokens 2 to {} places ahead, weight {weight} each", n + 1),
            };
            lines.push(line("model", &what, owner));
        }
        if let Some(order) = &self.order {
            lines.push(line("data", "windows drawn anew in every epoch", &order.owner));
        }
        for (what, owner) in self.describe_augment() {
            lines.push(line("data", &what, &owner));
        }
        self.describe_noise(&mut lines);
        self.describe_loss(&mut lines);
        self.describe_passes(&mut lines);
        for (place, transform) in self.gradient.iter().enumerate() {
            let what = format!("{}. {}", place + 1, describe_transform(&transform.value));
            lines.push(line("gradient", &what, &transform.owner));
        }
        if let Some(Owned { owner, value: gamma }) = &self.layer_rates {
            let what = format!("η × {gamma}^(layers above), 1 at the head");
            lines.push(line("rate", &what, owner));
        }
        if let Some(Owned { owner, value: decay }) = &self.decay {
            let formula = match decay.method {
                DecayMethod::Decoupled => "w ← w − η·λ·w",
                DecayMethod::Coupled => "g ← g + λ·w",
            };
            let (rate, on) = (decay.rate.describe(), decay.on.describe());
            lines.push(line("decay", &format!("{formula}, λ = {rate}, on {on}"), owner));
        }
        for (place, Owned { owner, value }) in self.projections.iter().enumerate() {
            let what = format!("{}. {}", place + 1, describe_projection(value));
            lines.push(line("projection", &what, owner));
        }
        self.describe_around(&mut lines);
        if lines.is_empty() {
            lines.push("plain training: no technique in use".to_owned());
        }
        lines
    }

    fn describe_noise(&self, lines: &mut Vec<String>) {
        for (site, Owned { owner, value: rate }) in &self.noise.sites {
            let shared = match self.noise.sharing {
                Sharing::Time if owner == "dropout" && site.is_elementwise() => {
                    ", one mask per sequence"
                }
                _ => "",
            };
            let (site_word, rate) = (site.word(), rate.describe());
            let what = match self.noise.tokens {
                TokenNoise::Replace if *site == Site::Tokens => {
                    format!("{site_word} replaced by random ones with p = {rate}")
                }
                _ => format!("{site_word} dropped with p = {rate}{shared}"),
            };
            let what = match self.noise.guide {
                TokenGuide::Predictable { share } if *site == Site::Tokens => {
                    format!("{what}, all within the most predictable {share} of the text")
                }
                _ => what,
            };
            lines.push(line("noise", &what, owner));
        }
        if let Some(Owned { owner, value: alpha }) = &self.noise.neftune {
            let what = format!("embeddings + α·U(−1, 1)/√(T·C), α = {}", alpha.describe());
            lines.push(line("noise", &what, owner));
        }
    }

    fn describe_loss(&self, lines: &mut Vec<String>) {
        if let Some(Owned { owner, value: smoothing }) = &self.loss.smoothing {
            let whom = match smoothing.to {
                SmoothingTo::All => "all classes".to_owned(),
                SmoothingTo::Wrong => "the wrong classes".to_owned(),
                SmoothingTo::Likeliest { k } => format!("the {k} likeliest wrong classes"),
            };
            let what = format!("mass ε = {} moved to {whom}", smoothing.amount.describe());
            lines.push(line("loss", &what, owner));
        }
        for (what, owner) in self.describe_weighing() {
            lines.push(line("loss", &what, &owner));
        }
        if let Some(Owned { owner, value }) = &self.loss.z_loss {
            let what = format!("+ λ·(log Z)², λ = {}", value.describe());
            lines.push(line("loss", &what, owner));
        }
        if let Some(Owned { owner, value }) = &self.loss.confidence {
            let what = format!("− β·H(p), β = {}", value.describe());
            lines.push(line("loss", &what, owner));
        }
        if let Some(Owned { owner, value: teaching }) = &self.loss.teaching {
            let (share, t) = (teaching.share.describe(), teaching.temperature);
            let by = match &teaching.by {
                Teachers::Average { decay } => {
                    format!("an average of the model's own weights (decay {decay})")
                }
                Teachers::Models(folders) => folders.join(", "),
            };
            let formula = "(1−α)·loss + α·T²·KL(teacher ‖ model)";
            let what = format!("{formula}, α = {share}, T = {t}, teacher: {by}");
            lines.push(line("loss", &what, owner));
        }
        for Owned { owner, value: penalty } in &self.loss.penalties {
            let formula = match penalty.norm {
                PenaltyNorm::L1 => "λΣ|w|",
                PenaltyNorm::L2 => "λΣw²",
            };
            let (strength, on) = (penalty.strength.describe(), penalty.on.describe());
            lines.push(line("loss", &format!("+ {formula}, λ = {strength}, on {on}"), owner));
        }
    }

    fn describe_passes(&self, lines: &mut Vec<String>) {
        if let Some(Owned { owner, value: strength }) = &self.probe.twins {
            let what = format!(
                "two noisy passes of each sequence, + β·½(KL(p₁‖p₂) + KL(p₂‖p₁)), β = {}",
                strength.describe()
            );
            lines.push(line("probe", &what, owner));
        }
        if let Some(Owned { owner, value: climb }) = &self.probe.climb {
            let formula = match climb.metric {
                Metric::Euclidean => "ε = ρ·g/‖g‖",
                Metric::Relative => "ε = ρ·T²g/‖T·g‖, T = |w| + 0.01",
            };
            let radius = climb.radius.describe();
            let what = format!("gradient at w + ε, {formula}, ρ = {radius}");
            lines.push(line("probe", &what, owner));
        }
    }

    fn describe_around(&self, lines: &mut Vec<String>) {
        for Owned { owner, value } in &self.averages {
            lines.push(line("average", &describe_average(value), owner));
        }
        for Owned { owner, value } in &self.stop {
            let StopRule::EarlyStopping(rule) = value;
            let mut what = format!("no better {} for {}", rule.monitor.word(), rule.patience);
            if rule.min_delta > 0.0 {
                what += &format!(" (by at least {})", rule.min_delta);
            }
            lines.push(line("stop", &what, owner));
        }
        if let Some(Owned { owner, value: guard }) = &self.recovery {
            let policy = match guard.policy {
                Policy::Skip => "skip the step".to_owned(),
                Policy::ClipHarder => "clip the step to the usual norm".to_owned(),
                Policy::RollBack { rate_factor } => {
                    format!("back to the best weights, rate × {rate_factor}")
                }
                Policy::Stop => "stop".to_owned(),
            };
            let when = match guard.threshold {
                Some(z) => format!("z > {z} over {} steps, or not finite", guard.window),
                None => "not finite".to_owned(),
            };
            let what = format!("{when}: {policy}; stop at {} alarms", guard.limit);
            lines.push(line("recovery", &what, owner));
        }
    }
}

fn describe_projection(projection: &Projection) -> String {
    match projection {
        Projection::SoftThreshold { strength, on } => {
            let (strength, on) = (strength.describe(), on.describe());
            format!("w ← sign(w)·max(|w| − η·λ, 0), λ = {strength}, on {on}")
        }
        Projection::MaxNorm { limit, on } => {
            format!("every row's norm ≤ {}, on {}", limit.describe(), on.describe())
        }
    }
}

fn describe_average(average: &Average) -> String {
    match average {
        Average::Ema { decay, start } => {
            let start = match start {
                Start::Weights => "from the first weights",
                Start::Corrected => "bias-corrected",
                Start::WarmUp => "with a growing memory",
            };
            format!("of the weights, decay {}, {start}", decay.describe())
        }
        Average::Equal { start, every } => {
            let every = if *every == 1 { "step".to_owned() } else { format!("{every} steps") };
            format!("equal, of the weights after every {every} from {}% of the run", 100.0 * start)
        }
        Average::Checkpoints { count, which } => {
            let which = match which {
                Which::Last => "last",
                Which::Best => "best",
            };
            format!("equal, of the weights at the {which} {count} evaluations")
        }
    }
}

fn describe_transform(transform: &GradientTransform) -> String {
    match transform {
        GradientTransform::Noise { eta, gamma } => {
            format!("+ N(0, η/(1+t)^{gamma}), η = {}, before any clipping", eta.describe())
        }
        GradientTransform::ClipValue { limit } => format!("every element ±{}", limit.describe()),
        GradientTransform::ClipAdaptive { ratio } => {
            format!("every unit's norm ≤ {} of its weights'", ratio.describe())
        }
        GradientTransform::ClipNorm { limit } => format!("global norm ≤ {}", limit.describe()),
    }
}

fn line(slot: &str, what: &str, owner: &str) -> String {
    format!("{slot}: {what} ({owner})")
}
