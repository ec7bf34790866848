//! What std lacks and two crates need: counter-based rng, schedules, technique cards, durable files.
