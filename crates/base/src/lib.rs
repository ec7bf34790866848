//! What std lacks and two crates need: counter-based rng, schedules, technique cards, durable
//! files.

pub mod card;
pub mod durable;
pub mod nearest;
mod portable;
pub mod rng;
pub mod schedule;
mod schedule_cards;
