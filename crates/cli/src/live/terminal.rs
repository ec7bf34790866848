//! The one owner of stderr: lines that stay, and below them a frame that is redrawn in place.
//!
//! The frame lives in the normal screen, so the scrollback keeps what was said and the last
//! picture. Nothing is ever asked of the terminal (no cursor query), so one that cannot answer
//! cannot stall a run. A resize clears the visible screen and draws the latest lines and the
//! frame anew: terminals disagree on whether they re-wrap, and this is right in all of them.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use unicode_width::UnicodeWidthChar;

use super::paint::{Colors, Line};

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
/// Synchronized update: the terminal shows the frame at once; others ignore the sequence.
const HOLD: &str = "\x1b[?2026h";
const RELEASE: &str = "\x1b[?2026l";
const LINES_KEPT: usize = 200;

/// Set when the terminal was given back for good: no frame is drawn any more.
static CLOSED: AtomicBool = AtomicBool::new(false);

static SCREEN: Mutex<Screen> = Mutex::new(Screen::new());

struct Screen {
    is_live: bool,
    /// The frame as last drawn, without colours' effect on width: one entry a row.
    frame: Vec<String>,
    size: (usize, usize),
    /// The latest lines said, for redrawing after a resize.
    said: VecDeque<String>,
}

impl Screen {
    const fn new() -> Screen {
        Screen { is_live: false, frame: Vec::new(), size: (0, 0), said: VecDeque::new() }
    }

    /// Moves to the first row of the frame and clears it and all below.
    fn erase(&self, out: &mut String) {
        out.push('\r');
        if self.frame.len() > 1 {
            out.push_str(&format!("\x1b[{}A", self.frame.len() - 1));
        }
        out.push_str("\x1b[J");
    }

    fn paint(&self, out: &mut String) {
        // The cursor stays in the last row (a newline there would scroll an empty row in), and at
        // its start: a key echoed by the terminal must not wrap into a row we do not count.
        out.push_str(&self.frame.join("\r\n"));
        out.push('\r');
    }

    /// Clears the visible screen and writes as many of the latest lines as fit above a frame of
    /// `rows`.
    fn start_over(&self, rows: usize, out: &mut String) {
        out.push_str("\x1b[2J\x1b[H");
        let mut room = self.size.1.saturating_sub(rows + 1);
        let mut latest = Vec::new();
        for line in self.said.iter().rev() {
            let rows = rows_of(line, self.size.0);
            if rows > room {
                break;
            }
            room -= rows;
            latest.push(line);
        }
        for line in latest.into_iter().rev() {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
}

/// Rows that a line takes on a terminal of this width: escape codes take none.
fn rows_of(line: &str, width: usize) -> usize {
    let mut columns = 0;
    let mut is_escape = false;
    for c in line.chars() {
        match c {
            '\x1b' => is_escape = true,
            'm' if is_escape => is_escape = false,
            _ if is_escape => {}
            c => columns += c.width().unwrap_or(0),
        }
    }
    columns.div_ceil(width.max(1)).max(1)
}

/// Width and height of the terminal behind stderr; `None` where there is none.
pub fn size() -> Option<(usize, usize)> {
    let (width, height) = terminal_size::terminal_size_of(std::io::stderr())?;
    Some((usize::from(width.0), usize::from(height.0)))
}

/// Writes a line that stays, above the frame if there is one. Errors of a terminal that went
/// away are ignored: a run must not die with the window it was started from.
pub fn say(line: &str) {
    let mut screen = lock();
    let mut out = String::new();
    if screen.is_live {
        screen.erase(&mut out);
    }
    out.push_str(line);
    out.push_str(if screen.is_live { "\r\n" } else { "\n" });
    if screen.is_live {
        screen.paint(&mut out);
    }
    send(&out);
    screen.said.extend(line.lines().map(str::to_owned));
    while screen.said.len() > LINES_KEPT {
        screen.said.pop_front();
    }
}

/// Draws the frame in place of the previous one; the first call starts the live view. Rows must
/// be narrower than the terminal.
pub fn draw(lines: &[Line], size: (usize, usize), colors: Colors) {
    let mut screen = lock();
    if CLOSED.load(Ordering::Relaxed) {
        return;
    }
    let mut out = String::from(HOLD);
    let frame: Vec<String> = lines.iter().map(|line| line.render(colors)).collect();
    if screen.is_live && screen.size != size {
        screen.size = size;
        screen.start_over(frame.len(), &mut out);
    } else if screen.is_live {
        screen.erase(&mut out);
    } else {
        out.push_str(HIDE_CURSOR);
        screen.is_live = true;
        screen.size = size;
    }
    screen.frame = frame;
    screen.paint(&mut out);
    out.push_str(RELEASE);
    send(&out);
}

/// Ends the live view and takes the frame away.
pub fn clear() {
    let mut screen = lock();
    if screen.is_live {
        let mut out = String::new();
        screen.erase(&mut out);
        out.push_str(SHOW_CURSOR);
        send(&out);
        screen.is_live = false;
        screen.frame.clear();
    }
}

/// Leaves the frame as it is and gives the terminal back: for a panic or a hard stop. Works even
/// while another thread holds the screen.
pub fn restore() {
    CLOSED.store(true, Ordering::Relaxed);
    let Ok(mut screen) = SCREEN.try_lock() else {
        if std::io::stderr().is_terminal() {
            send(&format!("{RELEASE}{SHOW_CURSOR}\r\n"));
        }
        return;
    };
    if screen.is_live {
        send(&format!("{RELEASE}{SHOW_CURSOR}\r\n"));
        screen.is_live = false;
        screen.frame.clear();
    }
}

fn lock() -> std::sync::MutexGuard<'static, Screen> {
    SCREEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn send(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::rows_of;

    #[test]
    fn rows_are_counted_without_escape_codes() {
        assert_eq!(rows_of("", 10), 1);
        assert_eq!(rows_of("\x1b[31m0123456789\x1b[0m", 10), 1);
        assert_eq!(rows_of("0123456789a", 10), 2);
        assert_eq!(rows_of("中文中文中文", 10), 2);
        assert_eq!(rows_of("abc", 0), 3);
    }
}
