//! The values of options: text to meaning, `None` where there is none.

use crate::union::options::{Fsync, IdRange, Lazy, Opening, RedirectDir, XattrPermissions, Xino};
use std::time::Duration;

/// `on` or `off`.
pub fn switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// `redirect_dir=`. In the kernel `off` means that none are made, and that
/// they are followed if `redirect_always_follow` is set, as it is by default;
/// an upper written with redirects so stays readable. `nofollow` is for layers
/// that are not trusted.
pub fn redirect_dir(text: &str) -> Option<RedirectDir> {
    match text {
        "on" => Some(RedirectDir::On),
        "follow" | "off" => Some(RedirectDir::Follow),
        "nofollow" => Some(RedirectDir::NoFollow),
        _ => None,
    }
}

/// `xino=`.
pub fn xino(text: &str) -> Option<Xino> {
    match text {
        "on" => Some(Xino::On),
        "auto" => Some(Xino::Auto),
        "off" => Some(Xino::Off),
        _ => None,
    }
}

/// `fsync=`; the numbers are fuse-overlayfs's.
pub fn fsync(text: &str) -> Option<Fsync> {
    match text {
        "auto" | "1" => Some(Fsync::Auto),
        "strict" => Some(Fsync::Strict),
        "volatile" | "0" => Some(Fsync::Volatile),
        _ => None,
    }
}

/// `open=`.
pub fn opening(text: &str) -> Option<Opening> {
    match text {
        "auto" => Some(Opening::Auto),
        "message" => Some(Opening::Message),
        "zero" => Some(Opening::Zero),
        _ => None,
    }
}

/// `lazy_copy_up=`.
pub fn lazy(text: &str) -> Option<Option<Lazy>> {
    match switch(text) {
        Some(on) => Some(on.then(Lazy::default)),
        None => {
            let (from, chunk) = match text.split_once(':') {
                Some((from, chunk)) => (from, Some(chunk)),
                None => (text, None),
            };
            let chunk = chunk.map_or(Some(Lazy::default().chunk), bytes)?;
            let from = bytes(from)?;
            (chunk > 0).then_some(Some(Lazy { from, chunk }))
        }
    }
}

/// A number of bytes, KiB (`k`), MiB (`m`) or GiB (`g`).
fn bytes(text: &str) -> Option<u64> {
    let split = text.len() - usize::from(text.ends_with(['k', 'm', 'g']));
    let (number, unit) = text.split_at_checked(split)?;
    let unit = match unit {
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => 1_u64,
    };
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.then(|| number.parse().ok()).flatten()?;
    number.checked_mul(unit)
}

/// `xattr_permissions=`.
pub fn xattr_permissions(text: &str) -> Option<XattrPermissions> {
    match text {
        "0" => Some(XattrPermissions::Off),
        "1" => Some(XattrPermissions::Private),
        "2" => Some(XattrPermissions::Containers),
        _ => None,
    }
}

/// A user or group id; the highest number means "none" to the kernel.
pub fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// Seconds, with a fraction if need be.
pub fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// A number of threads.
pub fn threads(text: &str) -> Option<usize> {
    text.parse().ok().filter(|n| (1..=256).contains(n))
}

/// Microseconds, a thousand at most.
pub fn microseconds(text: &str) -> Option<Duration> {
    let number = text.parse().ok().filter(|n| *n <= 1000)?;
    Some(Duration::from_micros(number))
}

/// `STORED:SEEN:COUNT[:STORED:SEEN:COUNT…]`; empty parts are left out, since
/// containers/storage begins with a colon.
///
/// The order is fuse-overlayfs's: the id in the layers comes first. There
/// containers/storage writes the id inside the container and second the host's:
/// images are stored with container ids, and the mount has to show host ids.
pub fn id_map(text: &str) -> Result<Vec<IdRange>, String> {
    let wanted = "STORED:SEEN:COUNT";
    let numbers: Vec<u32> = text
        .split([':', ','])
        .filter(|part| !part.is_empty())
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| wanted.to_owned())?;
    let (triples, rest) = numbers.as_chunks::<3>();
    if triples.is_empty() || !rest.is_empty() {
        return Err(wanted.to_owned());
    }
    let map: Vec<IdRange> = triples
        .iter()
        .map(|&[outside, inside, count]| IdRange {
            inside,
            outside,
            count,
        })
        .collect();
    for of in [
        |range: &IdRange| range.inside,
        |range: &IdRange| range.outside,
    ] {
        let mut sides: Vec<(u32, u32)> = map.iter().map(|range| (of(range), range.count)).collect();
        sides.sort_unstable();
        let mut free = 0;
        for (start, count) in sides {
            if start < free {
                return Err("ranges that do not overlap".to_owned());
            }
            free = match (count, start.checked_add(count)) {
                (0, _) => return Err("ranges of one id or more".to_owned()),
                (_, Some(end)) => end,
                (_, None) => return Err("ids below 4294967295".to_owned()),
            };
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(outside: u32, inside: u32, count: u32) -> IdRange {
        IdRange {
            inside,
            outside,
            count,
        }
    }

    /// Tried with fuse-overlayfs 1.10: a lower file that is stored as 5:6 and
    /// mounted with `uidmapping=0:100000:65536` (and the same for groups) is
    /// seen as 100005:100006, and a file given to 100007 is stored as 7.
    #[test]
    fn id_maps_have_the_stored_id_first() {
        let table: &[(&str, &[IdRange])] = &[
            (":0:100000:65536", &[range(0, 100_000, 65536)]),
            ("0:100000:65536", &[range(0, 100_000, 65536)]),
            (
                "0:1000:1:1:110000:65536",
                &[range(0, 1000, 1), range(1, 110_000, 65536)],
            ),
            (
                "0:1000:1,1:110000:65536",
                &[range(0, 1000, 1), range(1, 110_000, 65536)],
            ),
            ("0:0:4294967295", &[range(0, 0, u32::MAX)]),
        ];
        for (text, want) in table {
            assert_eq!(id_map(text).as_deref(), Ok(*want), "{text}");
        }
    }

    #[test]
    fn id_maps_that_say_nothing_or_two_things() {
        for text in [
            "",
            ":",
            "0",
            "0:1",
            "0:1:2:3",
            "a:b:c",
            "-1:0:1",
            "0:0:4294967296",
            "0:0:0",
            "1:0:4294967295",
            "0:0:10:9:100:10",
            "0:0:10:100:9:10",
        ] {
            assert!(id_map(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(seconds("0"), Some(Duration::ZERO));
        assert_eq!(seconds("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(
            seconds("1000000000"),
            Some(Duration::from_secs(1_000_000_000))
        );
        for text in ["", "-1", "x", "inf", "NaN", "1e300"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(id("4294967294"), Some(4_294_967_294));
        for text in ["", "4294967295", "-1", "root"] {
            assert_eq!(id(text), None, "{text}");
        }
        assert_eq!((threads("1"), threads("256")), (Some(1), Some(256)));
        assert_eq!(
            (threads("0"), threads("257"), threads("x")),
            (None, None, None)
        );
        assert_eq!(microseconds("0"), Some(Duration::ZERO));
        assert_eq!(microseconds("1000"), Some(Duration::from_millis(1)));
        for text in ["", "-1", "1001", "0.5", "x"] {
            assert_eq!(microseconds(text), None, "{text}");
        }
    }
}
