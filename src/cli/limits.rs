//! Limits of a container as they are given.

use super::units;
use crate::container::cgroup::Limits;
use crate::container::record::Ulimit;
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

/// What `--shm-size` asks for; nothing for docker's own size.
///
/// # Errors
/// For what is no size.
pub fn shared_memory(text: Option<&str>) -> Result<Option<i64>> {
    let text = text.filter(|text| !matches!(*text, "" | "0"));
    text.map(size).transpose()
}

/// `NAME=SOFT[:HARD]` of `--ulimit`; -1 is no limit.
///
/// # Errors
/// For anything else, and a soft limit above the hard one.
pub fn ulimit(text: &str) -> Result<Ulimit> {
    let bad = |why: &str| {
        invalid(format!(
            "invalid ulimit argument: {}: {why}",
            show(text.as_bytes())
        ))
    };
    let Some((name, values)) = text.split_once('=') else {
        return bad("give NAME=SOFT[:HARD]");
    };
    let number = |text: &str| match text {
        "-1" => Some(u64::MAX),
        text => text.parse::<u64>().ok(),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (Some(soft), Some(hard)) = (number(soft), number(hard)) else {
        return bad("limits are numbers");
    };
    let limit = Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    };
    match limit.kind() {
        None => bad("there is no such limit"),
        Some(_) if soft > hard => bad("the soft limit is above the hard one"),
        Some(_) => Ok(limit),
    }
}

/// Bytes of `512m` that a container can live with.
fn bytes(text: &str) -> Result<i64> {
    match size(text)? {
        size if size >= 6 << 20 => Ok(size),
        _ => invalid("Minimum memory limit allowed is 6MB"),
    }
}

/// Bytes of `512m`, whose units are binary.
fn size(text: &str) -> Result<i64> {
    let binary = match text.trim_end_matches(['b', 'B']) {
        plain if plain.ends_with(|c: char| c.is_ascii_alphabetic() && !"iI".contains(c)) => {
            format!("{plain}iB")
        }
        plain => plain.to_owned(),
    };
    match units::parse_size(&binary).and_then(|n| i64::try_from(n).ok()) {
        Some(size) => Ok(size),
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
    fn limits_of_processes() {
        let read = |text: &str| ulimit(text).map(|u| (u.name, u.soft, u.hard));
        assert_eq!(
            read("nofile=1024:2048").unwrap(),
            ("nofile".to_owned(), 1024, 2048)
        );
        assert_eq!(read("core=0").unwrap(), ("core".to_owned(), 0, 0));
        assert_eq!(read("memlock=-1:-1").unwrap().1, u64::MAX);
        for bad in [
            "",
            "nofile",
            "odd=1",
            "nofile=x",
            "nofile=2:1",
            "nofile=1:2:3",
            "=1",
        ] {
            let e = ulimit(bad).unwrap_err().to_string();
            assert!(
                e.starts_with(&format!("invalid ulimit argument: {bad}: ")),
                "{e}"
            );
        }
        assert_eq!(shared_memory(Some("1m")).unwrap(), Some(1 << 20));
        assert_eq!(shared_memory(Some("0")).unwrap(), None);
        assert!(shared_memory(Some("x")).is_err());
    }

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
