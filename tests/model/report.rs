//! What a failing run leaves for whoever mends it.

use super::op::Op;
use super::run::{Config, Failure, Source, Stats, run, shrink};
use std::fmt::Write as _;
use std::time::Duration;

/// Runs a configuration; a failure comes with everything needed to repeat it.
///
/// `CAPAS_OPS=FILE` replays a list instead, `CAPAS_SHRINK=SECONDS` looks for a
/// shorter list that fails as well.
pub fn check(config: &Config) -> Result<Stats, String> {
    let list = std::env::var("CAPAS_OPS").ok().map(|file| {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        parse(&text)
    });
    let source = match &list {
        Some(ops) => Source::List(ops),
        None => Source::Seed,
    };
    run(config, &source).map_err(|failure| describe(config, failure))
}

/// The operations of a text, one a line.
pub fn parse(text: &str) -> Vec<Op> {
    text.lines()
        .filter(|l| !l.trim().is_empty() && !l.starts_with('#'))
        .map(|l| Op::parse(l).unwrap_or_else(|| panic!("bad operation {l:?}")))
        .collect()
}

/// The seeds of `seeds.txt`.
pub fn known_seeds() -> Vec<u64> {
    include_str!("seeds.txt")
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split_whitespace().next()?.parse().ok())
        .collect()
}

/// The text of a failure.
pub fn describe(config: &Config, failure: Failure) -> String {
    let Failure { mut what, mut log } = failure;
    let seconds = std::env::var("CAPAS_SHRINK")
        .ok()
        .and_then(|s| s.parse().ok());
    if let Some(s) = seconds {
        (log, what) = shrink(config, log, Duration::from_secs(s));
    }
    describe_only(config, &Failure { what, log })
}

/// As [`describe`], without looking for a shorter list.
pub fn describe_only(config: &Config, failure: &Failure) -> String {
    let Failure { what, log } = failure;
    let file = std::env::temp_dir().join(format!(
        "capas-model-{}-{}.ops",
        config.seed,
        std::process::id()
    ));
    let text: String = log.iter().map(|op| format!("{op}\n")).collect();
    let _ = std::fs::write(&file, &text);
    let mut out = format!(
        "seed {} on {:?} failed\n{}\n",
        config.seed,
        config.target,
        short(what)
    );
    let _ = writeln!(out, "the last of {} operations:", log.len());
    for op in log.iter().rev().take(25).rev() {
        let _ = writeln!(out, "    {}", short(&op.to_string()));
    }
    let _ = writeln!(
        out,
        "repeat with CAPAS_SEED={} CAPAS_OPS={} (shorten with CAPAS_SHRINK=60)",
        config.seed,
        file.display()
    );
    out
}

/// Long names, readable.
fn short(line: &str) -> String {
    line.replace(&"L".repeat(255), "L{255}")
        .replace(&"M".repeat(256), "M{256}")
}

/// Runs all configurations on two threads; panics with every failure.
pub fn check_all(configs: Vec<Config>) -> Stats {
    let next = std::sync::Mutex::new(configs.into_iter());
    let done = std::sync::Mutex::new((Stats::default(), Vec::new()));
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                loop {
                    let Some(config) = next.lock().unwrap().next() else {
                        break;
                    };
                    let result = std::panic::catch_unwind(|| check(&config)).unwrap_or_else(|_| {
                        Err(format!("seed {}: panicked, see above", config.seed))
                    });
                    let mut done = done.lock().unwrap();
                    match result {
                        Ok(stats) => done.0 += stats,
                        Err(e) => done.1.push(e),
                    }
                }
            });
        }
    });
    let (stats, failures) = done.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} runs failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    stats
}
