//! The words of the quickstart's grammar: eight topics, and what they share.
//!
//! A noun is `singular plural`, a verb `plural-present singular-present past`. Written for Heldout.

/// The vocabulary of one topic. Earlier entries are likelier (Zipf weights).
pub(super) struct Topic {
    pub nouns: &'static [&'static str],
    pub places: &'static [&'static str],
    pub adjectives: &'static [&'static str],
    /// Verbs that take an object.
    pub transitive: &'static [&'static str],
    /// Verbs that stand alone.
    pub intransitive: &'static [&'static str],
}

/// The protagonists: a name and the pronoun that stands for it.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("Anna", "she"),
    ("Bruno", "he"),
    ("Clara", "she"),
    ("Daniel", "he"),
    ("Edith", "she"),
    ("Felix", "he"),
    ("Greta", "she"),
    ("Hugo", "he"),
];

pub(super) const SHARED_NOUNS: &[&str] = &[
    "friend friends",
    "child children",
    "stranger strangers",
    "neighbour neighbours",
    "letter letters",
    "box boxes",
    "dog dogs",
    "cousin cousins",
    "key keys",
    "coat coats",
];

pub(super) const SHARED_ADJECTIVES: &[&str] =
    &["old", "small", "quiet", "new", "strange", "heavy", "young", "forgotten"];

pub(super) const SHARED_TRANSITIVE: &[&str] = &[
    "see sees saw",
    "find finds found",
    "carry carries carried",
    "watch watches watched",
    "remember remembers remembered",
    "follow follows followed",
];

pub(super) const SHARED_INTRANSITIVE: &[&str] = &[
    "wait waits waited",
    "smile smiles smiled",
    "leave leaves left",
    "arrive arrives arrived",
    "sleep sleeps slept",
    "laugh laughs laughed",
];

pub(super) const ADVERBS: &[&str] =
    &["slowly", "quietly", "again", "together", "without a word", "for a while", "at once"];

pub(super) const TIMES: &[&str] = &[
    "in the morning",
    "after the rain",
    "before noon",
    "late at night",
    "every winter",
    "on the last day",
    "once a year",
];

pub(super) const SPEECH: &[&str] =
    &["say says said", "think thinks thought", "believe believes believed", "know knows knew"];

pub(super) const TOPICS: &[Topic] = &[
    Topic {
        nouns: &[
            "boat boats",
            "sailor sailors",
            "net nets",
            "captain captains",
            "gull gulls",
            "rope ropes",
            "anchor anchors",
            "fisherman fishermen",
            "oar oars",
            "crab crabs",
            "lantern lanterns",
            "wave waves",
        ],
        places: &["the harbour", "the pier", "the lighthouse", "the beach", "the old dock"],
        adjectives: &["salty", "stormy", "wet", "blue", "windy", "distant"],
        transitive: &[
            "row rows rowed",
            "haul hauls hauled",
            "repair repairs repaired",
            "sink sinks sank",
            "sail sails sailed",
        ],
        intransitive: &["drift drifts drifted", "float floats floated", "dive dives dived"],
    },
    Topic {
        nouns: &[
            "cook cooks",
            "soup soups",
            "knife knives",
            "onion onions",
            "pan pans",
            "loaf loaves",
            "guest guests",
            "apple apples",
            "spoon spoons",
            "kettle kettles",
            "cake cakes",
            "waiter waiters",
        ],
        places: &["the kitchen", "the pantry", "the oven", "the long table", "the cellar"],
        adjectives: &["hot", "sweet", "burnt", "fresh", "hungry", "sharp"],
        transitive: &[
            "taste tastes tasted",
            "slice slices sliced",
            "boil boils boiled",
            "serve serves served",
            "burn burns burned",
        ],
        intransitive: &["simmer simmers simmered", "eat eats ate", "cough coughs coughed"],
    },
    Topic {
        nouns: &[
            "gardener gardeners",
            "rose roses",
            "tree trees",
            "spade spades",
            "seed seeds",
            "bee bees",
            "leaf leaves",
            "weed weeds",
            "snail snails",
            "branch branches",
            "tulip tulips",
            "wheelbarrow wheelbarrows",
        ],
        places: &["the garden", "the orchard", "the hedge", "the pond", "the greenhouse"],
        adjectives: &["green", "ripe", "thorny", "muddy", "tall", "wild"],
        transitive: &[
            "plant plants planted",
            "water waters watered",
            "prune prunes pruned",
            "dig digs dug",
            "gather gathers gathered",
        ],
        intransitive: &["grow grows grew", "bloom blooms bloomed", "wither withers withered"],
    },
    Topic {
        nouns: &[
            "carpenter carpenters",
            "hammer hammers",
            "nail nails",
            "plank planks",
            "chair chairs",
            "clock clocks",
            "wheel wheels",
            "apprentice apprentices",
            "saw saws",
            "spring springs",
            "engine engines",
            "screw screws",
        ],
        places: &["the workshop", "the bench", "the shed", "the forge", "the yard"],
        adjectives: &["rusty", "broken", "wooden", "polished", "loud", "precise"],
        transitive: &[
            "build builds built",
            "mend mends mended",
            "measure measures measured",
            "paint paints painted",
            "bend bends bent",
        ],
        intransitive: &["work works worked", "creak creaks creaked", "turn turns turned"],
    },
    Topic {
        nouns: &[
            "teacher teachers",
            "pupil pupils",
            "book books",
            "lesson lessons",
            "pencil pencils",
            "map maps",
            "question questions",
            "poem poems",
            "answer answers",
            "bell bells",
            "number numbers",
            "story stories",
        ],
        places: &["the school", "the library", "the classroom", "the corridor", "the blackboard"],
        adjectives: &["clever", "difficult", "patient", "curious", "lazy", "long"],
        transitive: &[
            "read reads read",
            "explain explains explained",
            "learn learns learned",
            "copy copies copied",
            "forget forgets forgot",
        ],
        intransitive: &[
            "listen listens listened",
            "whisper whispers whispered",
            "pass passes passed",
        ],
    },
    Topic {
        nouns: &[
            "merchant merchants",
            "coin coins",
            "basket baskets",
            "customer customers",
            "carpet carpets",
            "price prices",
            "scale scales",
            "thief thieves",
            "ring rings",
            "spice spices",
            "cart carts",
            "debt debts",
        ],
        places: &["the market", "the square", "the stall", "the bridge", "the warehouse"],
        adjectives: &["cheap", "golden", "crowded", "honest", "rare", "foreign"],
        transitive: &[
            "buy buys bought",
            "sell sells sold",
            "count counts counted",
            "steal steals stole",
            "weigh weighs weighed",
        ],
        intransitive: &["bargain bargains bargained", "shout shouts shouted", "pay pays paid"],
    },
    Topic {
        nouns: &[
            "guide guides",
            "goat goats",
            "peak peaks",
            "stone stones",
            "climber climbers",
            "cloud clouds",
            "tent tents",
            "eagle eagles",
            "boot boots",
            "glacier glaciers",
            "shepherd shepherds",
            "trail trails",
        ],
        places: &["the valley", "the summit", "the pass", "the hut", "the northern ridge"],
        adjectives: &["steep", "frozen", "high", "white", "narrow", "lonely"],
        transitive: &[
            "climb climbs climbed",
            "cross crosses crossed",
            "reach reaches reached",
            "mark marks marked",
            "lose loses lost",
        ],
        intransitive: &["rest rests rested", "slip slips slipped", "descend descends descended"],
    },
    Topic {
        nouns: &[
            "train trains",
            "conductor conductors",
            "ticket tickets",
            "traveller travellers",
            "suitcase suitcases",
            "whistle whistles",
            "window windows",
            "porter porters",
            "rail rails",
            "signal signals",
            "newspaper newspapers",
            "timetable timetables",
        ],
        places: &["the station", "the platform", "the tunnel", "the dining car", "the border"],
        adjectives: &["late", "fast", "empty", "tired", "nervous", "silent"],
        transitive: &[
            "miss misses missed",
            "stop stops stopped",
            "check checks checked",
            "board boards boarded",
            "forward forwards forwarded",
        ],
        intransitive: &[
            "depart departs departed",
            "rattle rattles rattled",
            "hurry hurries hurried",
        ],
    },
];
