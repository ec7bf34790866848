//! A report as one HTML page: no network, no fonts, no script that it needs to be read.
//!
//! Everything is written through `maud`, which escapes what it is given: a sample may hold any
//! characters. The only exceptions are this module's own style sheet and script.

mod answers;
mod chart;
mod charts;
mod forest;
mod labels;
mod parts;
mod runs;
mod study;
mod table;
mod writing;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::document::Document;

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// A part of the page: where a link leads, its heading, what it holds.
struct Section {
    id: &'static str,
    heading: &'static str,
    body: Markup,
}

impl Section {
    fn new(id: &'static str, heading: &'static str, body: Markup) -> Section {
        Section { id, heading, body }
    }
}

/// The page.
pub fn page(document: &Document) -> String {
    let (kicker, sections, figures) = match (&document.study, document.runs.as_slice()) {
        (Some(study), _) => ("Study", study::sections(study), html! {}),
        (None, [run]) => ("Run", runs::one(run), runs::figures(run)),
        (None, _) => ("Comparison", runs::several(document), html! {}),
    };
    let title = format!("{} · Heldout report", document.title);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Without it a browser asks the server (or the disk) for one.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header {
                    p.kicker { "Heldout report · " (kicker) }
                    h1 { (document.title) }
                    @for (i, sentence) in document.lead.iter().enumerate() {
                        p class=(if i == 0 { "lead first" } else { "lead" }) { (sentence) }
                    }
                    (figures)
                    nav aria-label="Contents" {
                        @for section in &sections {
                            a href=(format!("#{}", section.id)) { (section.heading) }
                        }
                    }
                }
                main id="content" {
                    @for section in &sections {
                        section id=(section.id) aria-labelledby=(format!("{}-h", section.id)) {
                            h2 id=(format!("{}-h", section.id)) { (section.heading) }
                            (section.body)
                        }
                    }
                }
                footer {
                    p {
                        "Written by heldout " (document.heldout) " at " (document.written)
                        " from the records of the " (kicker.to_lowercase())
                        ". Losses are in nats per token; ± is a standard error; intervals and "
                        "bands cover 95% (1.96 standard errors) unless said otherwise."
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}
