//! Layers on the way: a bar for each on a terminal, else lines as docker's.

use super::{Failure, Output, units};
use crate::store::Error;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// What is shown of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A new state.
    State(String),
    /// So many bytes of so many: the word for it and the numbers. Only on
    /// terminals.
    Bytes(&'static str, u64, u64),
}

impl Shown {
    /// A state by its words.
    pub fn state(text: &str) -> Shown {
        Shown::State(text.to_owned())
    }

    /// A wait before another attempt.
    pub fn retrying(time: Duration) -> Shown {
        let seconds = time.as_secs().max(1);
        let unit = if seconds == 1 { "second" } else { "seconds" };
        Shown::State(format!("Retrying in {seconds} {unit}"))
    }
}

/// Where it is shown.
pub enum Display {
    /// Nowhere.
    Quiet,
    /// As lines.
    Lines,
    /// As bars.
    Bars(MultiProgress, HashMap<String, ProgressBar>),
}

impl Display {
    /// What fits standard output.
    pub fn new(quiet: bool) -> Display {
        match (quiet, std::io::stdout().is_terminal()) {
            (true, _) => Display::Quiet,
            (false, false) => Display::Lines,
            (false, true) => {
                let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
                Display::Bars(bars, HashMap::new())
            }
        }
    }

    /// Do `work` in another thread, and show what it sends meanwhile: the short
    /// digest of a layer, and what is new of it.
    ///
    /// # Errors
    /// That of `work`; then when the output cannot be written.
    pub fn follow<T: Send>(
        mut self,
        output: &mut Output<'_>,
        work: impl FnOnce(Sender<(String, Vec<Shown>)>) -> Result<T, Error> + Send,
    ) -> Result<T, Failure> {
        let (sender, events) = channel();
        std::thread::scope(|scope| {
            let work = scope.spawn(move || work(sender));
            let mut written = Ok(());
            for (id, all) in events {
                for shown in all {
                    written = written.and_then(|()| self.show(&id, &shown, output.out));
                }
            }
            if let Display::Bars(_, bars) = self {
                let any = !bars.is_empty();
                bars.into_values().for_each(|bar| bar.abandon());
                if any {
                    written = written.and_then(|()| writeln!(output.out));
                }
            }
            let Ok(done) = work.join() else {
                return Err(Error::Invalid("the thread that works failed".to_owned()).into());
            };
            let done = done?;
            written?;
            Ok(done)
        })
    }

    fn show(&mut self, id: &str, shown: &Shown, out: &mut dyn Write) -> std::io::Result<()> {
        match self {
            Display::Quiet => Ok(()),
            Display::Lines => match shown {
                Shown::State(text) => {
                    writeln!(out, "{id}: {text}")?;
                    out.flush()
                }
                Shown::Bytes(..) => Ok(()),
            },
            Display::Bars(all, bars) => {
                if !bars.contains_key(id) {
                    // Earlier lines stay above.
                    out.flush()?;
                }
                let bar = bars
                    .entry(id.to_owned())
                    .or_insert_with(|| all.add(ProgressBar::no_length()));
                // The words are the style's, as a change of it alone draws
                // nothing: every change is drawn once, and whole.
                match shown {
                    Shown::State(text) => {
                        bar.set_style(style(&format!("{id}: {text}")));
                        bar.tick();
                    }
                    Shown::Bytes(word, at, size) => {
                        let numbers =
                            format!("{:>8}/{}", units::fine_size(*at), units::fine_size(*size));
                        bar.set_style(style(&format!("{id}: {word} [{{wide_bar}}] {numbers}")));
                        bar.update(|state| {
                            state.set_len(*size);
                            state.set_pos(*at);
                        });
                    }
                }
                Ok(())
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
