//! Limits of a container as they are given.

use super::units;
use crate::container::cgroup::Limits;
use crate::store::Result;
use crate::store::error::{invalid, show};

/// What `--memory`, `--cpus` and `--pids-limit` ask for.
///
/// # Errors
/// For what is no size or number.
pub fn limits(memory: Option<&str>, cpus: Option<&str>, pids: Option<i64>) -> Result<Limits> {
    // Docker's words for "none".
    let given = |text: &&str| !matches!(*text, "" | "0");
    Ok(Limits {
        memory: memory.filter(given).map(bytes).transpose()?,
        nano_cpus: cpus.filter(given).map(nano_cpus).transpose()?,
        pids: pids.filter(|n| *n > 0),
    })
}

/// Bytes of `512m`, whose units are binary.
fn bytes(text: &str) -> Result<i64> {
    let binary = match text.trim_end_matches(['b', 'B']) {
        plain if plain.ends_with(|c: char| c.is_ascii_alphabetic() && !"iI".contains(c)) => {
            format!("{plain}iB")
        }
        plain => plain.to_owned(),
    };
    let size = units::parse_size(&binary).and_then(|n| i64::try_from(n).ok());
    match size {
        Some(size) if size >= 6 << 20 => Ok(size),
        Some(_) => invalid("Minimum memory limit allowed is 6MB"),
        None => invalid(format!("invalid size: '{}'", show(text.as_bytes()))),
    }
}

/// Billionths of `1.5`.
fn nano_cpus(text: &str) -> Result<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = part.len() <= 9 && [whole, part].concat().bytes().all(|b| b.is_ascii_digit());
    let nanos = format!("{whole}{part:0<9}").parse::<i64>().ok();
    match nanos.filter(|n| digits && *n >= 10_000_000 && !text.is_empty()) {
        Some(nanos) => Ok(nanos),
        None => invalid(format!(
            "invalid number of processors '{}': give one such as 1.5, at least 0.01",
            show(text.as_bytes())
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_as_docker_reads_them() {
        for (text, size) in [
            ("512m", 512 << 20),
            ("1g", 1 << 30),
            ("1GB", 1 << 30),
            ("8388608", 8 << 20),
            ("8388608b", 8 << 20),
            ("10240k", 10 << 20),
            ("7MiB", 7 << 20),
        ] {
            assert_eq!(bytes(text).unwrap(), size, "{text}");
        }
        for bad in ["", "m", "1", "-1", "1x"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        for (text, nanos) in [
            ("1.5", 1_500_000_000),
            ("2", 2_000_000_000),
            ("0.01", 10_000_000),
        ] {
            assert_eq!(nano_cpus(text).unwrap(), nanos, "{text}");
        }
        for bad in ["", ".", "0", "-1", "1.x", "0.001", "1.0000000001"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }
}
