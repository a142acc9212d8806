//! The terminal: keys from it, the view onto it, and back as it was whatever
//! happens, a panic and a signal included.

use super::browse::{Browser, Key};
use super::draw::draw;
use crate::layers::Analysis;
use crate::sys::tree::Forward;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io::Result;
use std::time::Duration;

/// How soon a signal is noticed.
const WAIT: Duration = Duration::from_millis(200);

/// Restores the terminal when dropped.
struct Screen(ratatui::DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = ratatui::try_restore();
    }
}

/// Show the layers until the user leaves; gives the signal that ended it.
///
/// # Errors
/// When the terminal cannot be used.
pub fn run(analysis: &Analysis, title: &str) -> Result<Option<i32>> {
    // Those that would end us are asked for instead.
    let signals = Forward::new();
    // Sets a hook for panics, too.
    let mut screen = Screen(ratatui::try_init()?);
    let mut browser = Browser::new(analysis);
    while !browser.done {
        screen.0.draw(|frame| draw(frame, &browser, title))?;
        while !event::poll(WAIT)? {
            if let Some((signal, _)) = signals.taken(Duration::ZERO) {
                return Ok(Some(signal));
            }
        }
        if let Event::Key(event) = event::read()?
            && let Some(key) = key(event)
        {
            browser.press(key);
        }
    }
    Ok(None)
}

/// What a key of the terminal means.
fn key(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    Some(match event.code {
        KeyCode::Char('c') if control => Key::Interrupt,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab => Key::Tab,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}
