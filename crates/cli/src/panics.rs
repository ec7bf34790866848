//! A defect of ours, told in words a user can act on.

use crate::console::Console;
use crate::live::terminal;

/// Replaces the default panic message: restores the terminal, says that this is our fault and
/// what to send. The backtrace stays available through `RUST_BACKTRACE=1`.
pub fn install(console: &Console) {
    let console = console.clone();
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        terminal::restore();
        let place = info.location().map_or_else(String::new, |at| format!(" ({at})"));
        let message = info
            .payload_as_str()
            .map_or_else(|| "no message".to_owned(), |text| text.replace('\n', "\n       "));
        console.defect(&[
            format!("heldout {} met a defect of its own{place}:", env!("CARGO_PKG_VERSION")),
            format!("       {message}"),
            "       This is never your fault. Please report the lines above together with the"
                .into(),
            "       command you ran; checkpoints written so far are whole, and".into(),
            "       `heldout resume RUN` goes on from the last one.".into(),
        ]);
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0") {
            default(info);
        }
    }));
}
