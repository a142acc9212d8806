//! The terminal: a line that is not shown while it is typed, every key as it
//! is pressed, and its size.

use super::{Errno, Result};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use std::os::fd::AsFd;

/// Ctrl-C as a character.
const INTERRUPT: u8 = 3;
/// No line of a terminal is longer.
const MAX_LINE: usize = 4096;

/// Reads a line without showing it, after `ask` has asked for it: from then on
/// nothing is shown, and what was typed before is thrown away. The terminal is
/// as before when this returns.
///
/// # Errors
/// `ENOTTY` where there is no terminal; those of `ask`. Ctrl-C ends the process
/// as always, but not before the terminal is as it was.
pub fn read_hidden(
    terminal: impl AsFd,
    ask: impl FnOnce() -> std::io::Result<()>,
) -> std::io::Result<Vec<u8>> {
    let before = tcgetattr(&terminal)?;
    let mut hidden = before.clone();
    hidden
        .local_modes
        .remove(LocalModes::ECHO | LocalModes::ISIG);
    hidden
        .local_modes
        .insert(LocalModes::ICANON | LocalModes::ECHONL);
    // Without signals ctrl-C is a character, and it ends the line.
    hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    let line = ask().and_then(|()| Ok(read_line(&terminal)?));
    let restored = tcsetattr(&terminal, OptionalActions::Drain, &before);
    let mut line = line?;
    restored?;
    match line.pop() {
        Some(INTERRUPT) => {
            kill_process(getpid(), Signal::INT)?;
            // Somebody has made the process deaf to it.
            Err(Errno::INTR.into())
        }
        Some(b'\n') | None => Ok(line),
        Some(last) => {
            line.push(last);
            Ok(line)
        }
    }
}

/// Up to and with the end of the line, or of all.
fn read_line(terminal: impl AsFd) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut part = [0; MAX_LINE];
    loop {
        let n = match rustix::io::read(&terminal, &mut part) {
            Err(Errno::INTR) => continue,
            n => n?,
        };
        line.extend_from_slice(part.get(..n).unwrap_or_default());
        if n == 0 || line.ends_with(b"\n") || line.ends_with(&[INTERRUPT]) {
            return Ok(line);
        }
    }
}

/// A terminal that hands every key on as it is pressed and shows nothing by
/// itself; as it was before when this is dropped.
#[derive(Debug)]
pub struct Raw<F: AsFd> {
    terminal: F,
    before: rustix::termios::Termios,
}

impl<F: AsFd> Raw<F> {
    /// Make it so.
    ///
    /// # Errors
    /// `ENOTTY` where there is no terminal.
    pub fn new(terminal: F) -> Result<Raw<F>> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(Raw { terminal, before })
    }
}

impl<F: AsFd> Drop for Raw<F> {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Is it a terminal.
pub fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// Rows and columns.
///
/// # Errors
/// `ENOTTY` where there is no terminal.
pub fn size(terminal: impl AsFd) -> Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_row, size.ws_col))
}

/// Set rows and columns; who runs there is told.
///
/// # Errors
/// `ENOTTY` where there is no terminal.
pub fn set_size(terminal: impl AsFd, (rows, columns): (u16, u16)) -> Result<()> {
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size)
}
