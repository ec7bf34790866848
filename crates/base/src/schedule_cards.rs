//! One card per schedule shape, for `heldout list schedules` and `heldout explain`.

use crate::card::{Card, Default_, Kind, Knob, Schedulable, Search, Stage};

/// A knob of a schedule: a number that cannot itself be a schedule.
const fn number(name: &'static str, unit: &'static str, meaning: &'static str) -> Knob {
    Knob {
        name,
        unit,
        meaning,
        default: Default_::Off,
        range: (0.0, 1.0),
        search: None,
        schedulable: Schedulable::No,
        choices: &[],
    }
}

const WARMUP: Knob = Knob {
    default: Default_::Number(0.0),
    range: (0.0, f64::INFINITY),
    search: Some(Search::Uniform(0.0, 0.1)),
    ..number("warmup", "\"100 steps\" or \"5%\"", "Rise linearly to the peak over this span first.")
};

const END: Knob = Knob {
    default: Default_::Number(0.0),
    search: Some(Search::Uniform(0.0, 0.2)),
    ..number("end", "share of the peak", "Where the schedule ends.")
};

const FACTOR: Knob = Knob {
    default: Default_::Number(0.5),
    search: Some(Search::Uniform(0.1, 0.9)),
    ..number("factor", "", "What each cut multiplies the rate by.")
};

const fn schedule(name: &'static str, purpose: &'static str, paper: &'static str) -> Card {
    Card {
        name,
        kind: Kind::Schedule,
        stage: Stage::Schedule,
        purpose,
        paper,
        when_to_use: "",
        when_to_avoid: "",
        cost: "None: one number a step.",
        knobs: &[WARMUP],
    }
}

/// One card per shape, in reading order.
pub static CARDS: &[Card] = &[
    Card {
        when_to_use: "For knobs that need no change, and to compare optimizers plainly.",
        when_to_avoid: "As the learning rate of a final run: a decay ends lower at the same cost.",
        ..schedule("constant", "The same value at every step.", "Robbins & Monro 1951")
    },
    Card {
        when_to_use: "The plain choice when the horizon is known: a good end value for its cost.",
        when_to_avoid: "When the run may be prolonged: the decay cannot be undone.",
        knobs: &[WARMUP, END],
        ..schedule(
            "linear",
            "Falls in a straight line from the peak to the end value.",
            "Defazio et al. 2023, arXiv 2310.07831",
        )
    },
    Card {
        when_to_use: "The usual choice for language models whose horizon is known.",
        when_to_avoid: "When the run may be prolonged, or stops early by another rule most times.",
        knobs: &[WARMUP, END],
        ..schedule(
            "cosine",
            "Falls along half a cosine: slowly, quickly, slowly.",
            "Loshchilov & Hutter 2017, arXiv 1608.03983",
        )
    },
    Card {
        when_to_use: "When the length of the run is open: branch off a decay whenever you like.",
        when_to_avoid: "Very short runs, where the flat part never pays.",
        knobs: &[
            WARMUP,
            Knob {
                default: Default_::Number(0.2),
                search: Some(Search::Uniform(0.05, 0.5)),
                ..number("decay", "share of the run", "How much of the run, at its end, decays.")
            },
            END,
        ],
        ..schedule(
            "warmup-stable-decay",
            "Stays at the peak, then falls linearly over the last part of the run.",
            "Hu et al. 2024 (MiniCPM), arXiv 2404.06395",
        )
    },
    Card {
        when_to_use: "Training from scratch with no fixed horizon, as the first transformers.",
        when_to_avoid: "When the horizon is known: cosine or linear end lower.",
        knobs: &[Knob {
            default: Default_::Off,
            search: Some(Search::Uniform(0.01, 0.1)),
            meaning: "Rise linearly to the peak over this span; it sets the time scale (needed).",
            ..WARMUP
        }],
        ..schedule(
            "inverse-sqrt",
            "Falls with the square root of the step once the warm-up is over (Noam).",
            "Vaswani et al. 2017, arXiv 1706.03762",
        )
    },
    Card {
        when_to_use: "When a fixed decay per epoch is wanted whatever the peak.",
        when_to_avoid: "Short runs: most of the time is spent at rates that are too low.",
        knobs: &[
            WARMUP,
            Knob {
                default: Default_::Number(3.0),
                range: (0.0, 100.0),
                search: Some(Search::Uniform(1.0, 6.0)),
                ..number("rate", "nats over the run", "k in peak·e^(−k·t/T).")
            },
        ],
        ..schedule("exponential", "Falls by the same ratio at every step.", "Standard practice")
    },
    Card {
        when_to_use: "To repeat published recipes that cut the rate at fixed points.",
        when_to_avoid: "Otherwise: a smooth decay needs less tuning.",
        knobs: &[
            WARMUP,
            Knob {
                default: Default_::Number(0.3),
                range: (0.0, f64::INFINITY),
                ..number("every", "\"500 steps\" or \"30%\"", "The time from one cut to the next.")
            },
            FACTOR,
        ],
        ..schedule("step", "Cuts the rate by a factor at regular times.", "He et al. 2016")
    },
    Card {
        when_to_use: "When a decay between linear (power 1) and steeper is wanted.",
        when_to_avoid: "Without a reason for the power: it is one more knob.",
        knobs: &[
            WARMUP,
            Knob {
                default: Default_::Number(2.0),
                range: (0.0, 100.0),
                search: Some(Search::Uniform(0.5, 4.0)),
                ..number("power", "", "p in peak·(1 − t/T)^p.")
            },
            END,
        ],
        ..schedule("polynomial", "Falls with a power of the time that is left.", "Chen et al. 2017")
    },
    Card {
        when_to_use: "Short runs at a high peak rate, where the rise itself regularizes.",
        when_to_avoid: "Long runs, and together with a warm-up: the cycle has its own.",
        knobs: &[
            WARMUP,
            Knob {
                default: Default_::Number(0.3),
                search: Some(Search::Uniform(0.1, 0.5)),
                ..number("up", "share of the run", "How much of the run rises.")
            },
            Knob {
                default: Default_::Number(0.04),
                search: Some(Search::Uniform(0.0, 0.2)),
                ..number("start", "share of the peak", "Where the cycle starts.")
            },
            Knob { default: Default_::Number(0.0), search: Some(Search::Uniform(0.0, 0.1)), ..END },
        ],
        ..schedule(
            "one-cycle",
            "Rises along a cosine to the peak, then falls along one below the start.",
            "Smith & Topin 2018, arXiv 1708.07120",
        )
    },
    Card {
        when_to_use: "When the horizon is unknown and evaluations are frequent and quiet.",
        when_to_avoid: "Noisy or rare evaluations: cuts come at random or too late.",
        knobs: &[
            WARMUP,
            FACTOR,
            Knob {
                default: Default_::Number(3.0),
                range: (0.0, 1e9),
                search: Some(Search::Integer(1, 10)),
                ..number("patience", "evaluations", "How many without improvement are borne.")
            },
            Knob {
                default: Default_::Number(0.01),
                search: None,
                ..number("floor", "share of the peak", "The rate is never cut below this.")
            },
        ],
        ..schedule(
            "plateau",
            "Cuts the rate when the held-out loss has stopped improving.",
            "Standard practice",
        )
    },
];
