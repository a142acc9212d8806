//! Ctrl-C and its like, for commands that work long in staging.

use crate::store::staging;
use crate::sys::process::{Signals, exit_now};
use std::io::Write;

/// From now on a signal that ends the process removes what is in the making
/// first, and says so. Call it before any other thread is there.
pub fn watch() {
    let Ok(signals) = Signals::block() else {
        return;
    };
    std::thread::spawn(move || {
        let Ok(number) = signals.wait() else { return };
        let mut commit = staging::committing();
        let text = match commit.abandon() {
            false => "interrupted: nothing was changed",
            true => "interrupted: what was complete before stays",
        };
        let _ = writeln!(std::io::stderr(), "\n{text}");
        // The others wait for what is held here, or are of no use any more.
        exit_now(128 + i32::try_from(number).unwrap_or(2));
    });
}
