//! `capas`: images and containers.

use std::io::Write;
use std::process::ExitCode;

/// Warnings go to standard error, one line each; what crates say beside their
/// errors does not.
struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        let ours = metadata.target().split("::").next() == Some("capas");
        ours && metadata.level() <= log::Level::Warn
    }
    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let _ = writeln!(std::io::stderr(), "warning: {}", record.args());
        }
    }
    fn flush(&self) {}
}

fn main() -> ExitCode {
    if log::set_logger(&Warnings).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
    // Tests let a system call fail, or the process die there.
    capas::sys::fail::arm_from_env();
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let mut err = std::io::stderr();
    let mut output = capas::cli::Output {
        out: &mut out,
        err: &mut err,
    };
    let code = capas::cli::main(std::env::args_os(), &mut output);
    ExitCode::from(code)
}
