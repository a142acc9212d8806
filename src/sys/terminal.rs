//! The terminal: a line that is not shown while it is typed, every key as it
//! is pressed, and its size.

use super::{Errno, Result};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// No line of a terminal is longer.
const MAX_LINE: usize = 4096;
/// A special character that is none (`_POSIX_VDISABLE`).
const NONE: u8 = 0;

/// A terminal that hides what is typed, and how it was before.
static HIDDEN: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

fn hidden() -> MutexGuard<'static, Option<(OwnedFd, Termios)>> {
    HIDDEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a line without showing it, after `ask` has asked for it: from then on
/// nothing is shown, and what was typed before is thrown away. The terminal is
/// as before when this returns. Who ends the process meanwhile, by a signal,
/// calls [`restore`].
///
/// # Errors
/// `ENOTTY` where there is no terminal; those of `ask`.
pub fn read_hidden(
    terminal: impl AsFd,
    ask: impl FnOnce() -> std::io::Result<()>,
) -> std::io::Result<Vec<u8>> {
    let before = tcgetattr(&terminal)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    quiet
        .local_modes
        .insert(LocalModes::ICANON | LocalModes::ECHONL);
    // A shell that we would be stopped for sets other modes, and we would not
    // know of it.
    quiet.special_codes[SpecialCodeIndex::VSUSP] = NONE;
    *hidden() = Some((terminal.as_fd().try_clone_to_owned()?, before));
    let line = tcsetattr(&terminal, OptionalActions::Flush, &quiet)
        .map_err(std::io::Error::from)
        .and_then(|()| ask())
        .and_then(|()| Ok(read_line(&terminal)?));
    restore();
    let mut line = line?;
    if line.ends_with(b"\n") {
        line.pop();
    }
    Ok(line)
}

/// Shows again what is typed, if [`read_hidden`] hides it just now.
pub fn restore() {
    if let Some((terminal, before)) = hidden().take() {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(terminal, OptionalActions::Drain, &before);
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
        if n == 0 || line.ends_with(b"\n") {
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
