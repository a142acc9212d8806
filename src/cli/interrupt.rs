//! Ctrl-C and its like, for commands that work long or have things in the
//! making.

use crate::store::staging;
use crate::sys::process::{Signals, exit_now};
use crate::sys::terminal;
use std::io::Write;

/// What is said where nothing was done before that stays.
pub const NOTHING: &str = "nothing was changed";
/// What is said where things are removed one after another.
pub const REMOVING: &str = "what was removed is gone, the rest stays";

/// From now on a signal that ends the process removes what is in the making
/// first, restores the terminal, and says so: `text`, unless something was
/// complete before. Call it before any other thread is there.
pub fn watch(text: &'static str) {
    let Ok(signals) = Signals::block() else {
        return;
    };
    std::thread::spawn(move || {
        let Ok(number) = signals.wait() else { return };
        terminal::restore();
        let mut commit = staging::committing();
        let text = match commit.abandon() {
            false => text,
            true => "what was complete before stays",
        };
        let _ = writeln!(std::io::stderr(), "\ninterrupted: {text}");
        // The others wait for what is held here, or are of no use any more.
        exit_now(128 + number);
    });
}
