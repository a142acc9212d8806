//! The command line: what was typed, in whichever calling form.
//!
//! | caller | form |
//! |---|---|
//! | containers/storage, by hand | `capasfs -o OPTS DIR`, `capasfs DIR -o OPTS` |
//! | mount.fuse3, containerd | `capasfs SRC DIR -o OPTS` |
//! | mount(8) | `mount.capasfs SRC DIR [-sfnv] [-N NS] [-t TYPE] -o OPTS` |
//!
//! `-f` means *foreground* to whoever starts a FUSE program and *fake* (do all
//! but mount) to mount(8). The name decides: called as `mount.ANYTHING`, which
//! only mount(8) does, it is fake.

use super::failure::Failure;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// A mount.
    Mount(Typed),
}

/// The pieces of a mount as typed, nothing interpreted yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// What is mounted, if named: a label without meaning to us.
    pub source: Option<OsString>,
    /// Where.
    pub mountpoint: OsString,
    /// Every `-o`, in order.
    pub options: Vec<OsString>,
    /// Stay in the foreground.
    pub foreground: bool,
    /// Log each request (and stay in the foreground).
    pub debug: bool,
    /// Check everything, mount nothing.
    pub fake: bool,
    /// Say nothing about unknown options.
    pub sloppy: bool,
    /// Log more.
    pub verbose: bool,
    /// The mount namespace to mount in: its file or a process id.
    pub namespace: Option<OsString>,
}

/// Reads `argv`, the program's name included.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Call, Failure> {
    let mut argv = argv.into_iter();
    let name = argv.next().unwrap_or_default();
    let is_helper = Path::new(&name)
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(b"mount."));
    let mut typed = Typed::default();
    let mut places = Vec::new();
    let mut only_places = false;
    while let Some(arg) = argv.next() {
        match arg.as_bytes() {
            _ if only_places => places.push(arg),
            b"--" => only_places = true,
            b"--help" => return Ok(Call::Help),
            b"--version" => return Ok(Call::Version),
            b"--debug" => typed.debug = true,
            [b'-', b'-', ..] => return Err(unknown_flag(&arg)),
            [b'-', letters @ ..] if !letters.is_empty() => {
                match short(&mut typed, letters, is_helper, &mut argv)? {
                    Some(call) => return Ok(call),
                    None => continue,
                }
            }
            _ => places.push(arg),
        }
    }
    let mut places = places.into_iter();
    (typed.source, typed.mountpoint) = match (places.next(), places.next(), places.next()) {
        (Some(dir), None, _) => (None, dir),
        (Some(source), Some(dir), None) => (Some(source), dir),
        (None, ..) => return Err(Failure::usage("no mountpoint given (see --help)")),
        (.., Some(more)) => {
            let text = format!("one argument too many: {} (see --help)", more.display());
            return Err(Failure::usage(text));
        }
    };
    Ok(Call::Mount(typed))
}

/// One argument of single letters, such as `-sn` or `-fo OPTS` or `-oOPTS`.
fn short(
    typed: &mut Typed,
    letters: &[u8],
    is_helper: bool,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<Option<Call>, Failure> {
    let mut letters = letters.iter();
    while let Some(letter) = letters.next() {
        match letter {
            b'h' => return Ok(Some(Call::Help)),
            b'V' => return Ok(Some(Call::Version)),
            b'f' if is_helper => typed.fake = true,
            b'f' => typed.foreground = true,
            b'd' => typed.debug = true,
            b's' => typed.sloppy = true,
            b'v' => typed.verbose = true,
            // There has been no mtab to leave alone for long.
            b'n' => {}
            b'o' | b'N' | b't' => {
                let attached = letters.as_slice();
                let value = match attached.is_empty() {
                    false => Some(OsStr::from_bytes(attached).to_owned()),
                    true => rest.next(),
                };
                let Some(value) = value else {
                    let text = format!("-{} needs a value (see --help)", char::from(*letter));
                    return Err(Failure::usage(text));
                };
                match letter {
                    b'o' => typed.options.push(value),
                    b'N' => typed.namespace = Some(value),
                    // The type by which mount(8) found us says nothing new.
                    _ => {}
                }
                return Ok(None);
            }
            other => {
                return Err(unknown_flag(&OsString::from_vec(vec![b'-', *other])));
            }
        }
    }
    Ok(None)
}

fn unknown_flag(flag: &OsStr) -> Failure {
    Failure::usage(format!("unknown flag {} (see --help)", flag.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> Result<Call, Failure> {
        parse(line.iter().map(OsString::from))
    }

    fn typed(source: Option<&str>, dir: &str, options: &[&str]) -> Typed {
        Typed {
            source: source.map(OsString::from),
            mountpoint: dir.into(),
            options: options.iter().map(OsString::from).collect(),
            ..Typed::default()
        }
    }

    #[test]
    fn every_calling_form() {
        let plain = typed(None, "/m", &["a,b"]);
        let sourced = |options: &[&str]| typed(Some("src"), "/m", options);
        let table: &[(&[&str], Typed)] = &[
            // containers/storage (contracts 2a): exactly three arguments.
            (&["capasfs", "-o", "a,b", "/m"], plain.clone()),
            (&["capasfs", "/m", "-o", "a,b"], plain.clone()),
            (&["/usr/bin/capasfs", "-oa,b", "/m"], plain.clone()),
            (
                &["capasfs", "-o", "a", "/m", "-o", "b"],
                typed(None, "/m", &["a", "b"]),
            ),
            (&["capasfs", "/m"], typed(None, "/m", &[])),
            (&["capasfs", "-o", "a,b", "--", "/m"], plain),
            (&["capasfs", "--", "-o"], typed(None, "-o", &[])),
            // A single dash is a name.
            (&["capasfs", "-", "/m"], typed(Some("-"), "/m", &[])),
            // mount.fuse3 and containerd, as recorded.
            (
                &[
                    "capasfs",
                    "src",
                    "/m",
                    "-o",
                    "ro,noatime,lowerdir=/a:/b,dev,suid",
                ],
                sourced(&["ro,noatime,lowerdir=/a:/b,dev,suid"]),
            ),
            // mount(8), as recorded with util-linux 2.38.
            (
                &["/sbin/mount.capasfs", "src", "/m", "-o", "rw"],
                sourced(&["rw"]),
            ),
            (
                &[
                    "/sbin/mount.capasfs",
                    "src",
                    "/m",
                    "-s",
                    "-f",
                    "-n",
                    "-v",
                    "-o",
                    "rw",
                ],
                Typed {
                    fake: true,
                    sloppy: true,
                    verbose: true,
                    ..sourced(&["rw"])
                },
            ),
            (
                &["/sbin/mount.fuse.capasfs", "src", "/m", "-sfnv", "-o", "rw"],
                Typed {
                    fake: true,
                    sloppy: true,
                    verbose: true,
                    ..sourced(&["rw"])
                },
            ),
            (
                &[
                    "/sbin/mount.capasfs",
                    "src",
                    "/m",
                    "-o",
                    "rw",
                    "-t",
                    "capasfs.sub",
                ],
                sourced(&["rw"]),
            ),
            (
                &[
                    "/sbin/mount.capasfs",
                    "src",
                    "/m",
                    "-o",
                    "rw",
                    "-N",
                    "/proc/8/fd/4",
                ],
                Typed {
                    namespace: Some("/proc/8/fd/4".into()),
                    ..sourced(&["rw"])
                },
            ),
            // By its own name -f is the foreground, as for every FUSE program.
            (
                &["capasfs", "src", "/m", "-sfnv", "-o", "rw"],
                Typed {
                    foreground: true,
                    sloppy: true,
                    verbose: true,
                    ..sourced(&["rw"])
                },
            ),
            (
                &["capasfs", "-fo", "rw", "-d", "src", "/m"],
                Typed {
                    foreground: true,
                    debug: true,
                    ..sourced(&["rw"])
                },
            ),
            (
                &["capasfs", "--debug", "/m"],
                Typed {
                    debug: true,
                    ..typed(None, "/m", &[])
                },
            ),
        ];
        for (line, want) in table {
            assert_eq!(read(line), Ok(Call::Mount(want.clone())), "{line:?}");
        }
    }

    #[test]
    fn help_and_version_win_over_everything_after_them() {
        for line in [
            &["capasfs", "--help"][..],
            &["capasfs", "-h", "-z"],
            &["x", "-fh"],
        ] {
            assert_eq!(read(line), Ok(Call::Help), "{line:?}");
        }
        for line in [&["capasfs", "--version"][..], &["capasfs", "-V"]] {
            assert_eq!(read(line), Ok(Call::Version), "{line:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error() {
        let table: &[(&[&str], &str)] = &[
            (&["capasfs"], "no mountpoint"),
            (&[], "no mountpoint"),
            (&["capasfs", "-o", "a"], "no mountpoint"),
            (&["capasfs", "a", "b", "c"], "too many: c"),
            (&["capasfs", "/m", "-o"], "-o needs a value"),
            (&["capasfs", "/m", "-N"], "-N needs a value"),
            (&["capasfs", "-x", "/m"], "unknown flag -x"),
            (&["capasfs", "--foo", "/m"], "unknown flag --foo"),
        ];
        for (line, want) in table {
            let failure = read(line).unwrap_err();
            assert_eq!(failure.code, 1, "{line:?}");
            assert!(failure.text.contains(want), "{line:?}: {}", failure.text);
        }
    }
}
