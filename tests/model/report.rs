//! What a failing run leaves for whoever mends it.

use super::op::Op;
use super::run::{Config, Failure, Source, Stats, run, shrink};
use std::fmt::Write as _;
use std::time::Duration;

/// Runs a configuration; panics with everything needed to repeat a failure.
///
/// `CAPAS_OPS=FILE` replays a list instead, `CAPAS_SHRINK=SECONDS` looks for a
/// shorter list that fails as well.
pub fn check(config: &Config) -> Stats {
    let list = std::env::var("CAPAS_OPS").ok().map(|file| {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        parse(&text)
    });
    let source = match &list {
        Some(ops) => Source::List(ops),
        None => Source::Seed,
    };
    match run(config, &source) {
        Ok(stats) => stats,
        Err(failure) => panic!("{}", describe(config, failure)),
    }
}

/// The operations of a text, one a line.
pub fn parse(text: &str) -> Vec<Op> {
    text.lines()
        .filter(|l| !l.trim().is_empty() && !l.starts_with('#'))
        .map(|l| Op::parse(l).unwrap_or_else(|| panic!("bad operation {l:?}")))
        .collect()
}

/// The text of a failure.
pub fn describe(config: &Config, failure: Failure) -> String {
    let Failure { mut what, mut log } = failure;
    let length = log.len();
    let seconds = std::env::var("CAPAS_SHRINK").ok().and_then(|s| s.parse().ok());
    if let Some(s) = seconds {
        (log, what) = shrink(config, log, Duration::from_secs(s));
    }
    let file = std::env::temp_dir().join(format!("capas-model-{}.ops", config.seed));
    let text: String = log.iter().map(|op| format!("{op}\n")).collect();
    let _ = std::fs::write(&file, &text);
    let mut out = format!(
        "seed {} on {:?} failed at operation {length}\n{what}\n",
        config.seed, config.target
    );
    let _ = writeln!(out, "the last of {} operations:", log.len());
    for op in log.iter().rev().take(25).rev() {
        let _ = writeln!(out, "    {op}");
    }
    let _ = writeln!(
        out,
        "repeat with CAPAS_SEED={} CAPAS_OPS={} (shorten with CAPAS_SHRINK=60)",
        config.seed,
        file.display()
    );
    out
}
