//! Option strings to a [`MountSpec`]: the whole of what is to be mounted.

use super::args::Typed;
use super::failure::Failure;
use super::split::{Element, elements, parts, unescaped, unquoted};
use super::table::{Effect, Word, find};
use super::values;
use crate::sys::mount::Flags;
use crate::sys::probe::Features;
use crate::union::options::{Fsync, Options, RedirectDir};
use log::LevelFilter;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

/// Who may use the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Everybody, within the files' permissions.
    All,
    /// Root and who mounted it.
    RootAndOwner,
}

/// Where log records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error; only in the foreground.
    Stderr,
    /// The system's log.
    Syslog,
    /// A file, appended to.
    File(PathBuf),
}

/// What the kernel is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelOptions {
    /// Generic mount flags.
    pub flags: Flags,
    /// Who may use the mount; `None`: all, if the mounter may say so.
    pub allow: Option<Allow>,
    /// The type is shown as `fuse.` and this.
    pub subtype: OsString,
    /// SELinux: option name and label.
    pub labels: Vec<(&'static str, OsString)>,
    /// Cut off from the propagation of mounts.
    pub private: bool,
}

/// All that is to be known about a mount before anything is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// The label in the first column of /proc/mounts.
    pub source: OsString,
    /// Where; `/dev/fd/N` is a connection that somebody mounted already.
    pub mountpoint: PathBuf,
    /// Lower directories, topmost first; never empty.
    pub lower: Vec<PathBuf>,
    /// What the lower directories merge to, where that is written down.
    pub catalog: Option<PathBuf>,
    /// Upper directory; `None`: read-only.
    pub upper: Option<PathBuf>,
    /// Work directory; there if and only if there is an upper.
    pub work: Option<PathBuf>,
    /// Overlay semantics.
    pub options: Options,
    /// What the kernel is asked for.
    pub kernel: KernelOptions,
    /// How many threads serve; `None`: our choice.
    pub threads: Option<usize>,
    /// How long their reader looks for the next request before it sleeps; `None`:
    /// our choice.
    pub busy_poll: Option<Duration>,
    /// Where log records go.
    pub log: LogTarget,
    /// Which log records.
    pub level: LevelFilter,
    /// Stay in the foreground.
    pub foreground: bool,
    /// Check everything, mount nothing.
    pub fake: bool,
    /// Abilities that may be used if they are there.
    pub allowed: Features,
    /// The mount namespace to mount in.
    pub namespace: Option<PathBuf>,
}

/// Interprets what was typed. The second value are warnings, one line each.
pub fn interpret(typed: Typed) -> Result<(MountSpec, Vec<String>), Failure> {
    let mut draft = Draft {
        sloppy: typed.sloppy,
        ..Draft::default()
    };
    for text in &typed.options {
        for element in elements(text.as_encoded_bytes()) {
            draft.take(element)?;
        }
    }
    draft.finish(typed)
}

/// The options so far; `None` is "not said".
#[derive(Default)]
struct Draft {
    sloppy: bool,
    lower: Vec<PathBuf>,
    catalog: Option<PathBuf>,
    upper: Option<PathBuf>,
    work: Option<PathBuf>,
    options: Options,
    redirect_dir: Option<RedirectDir>,
    metacopy: Option<bool>,
    squash_root: bool,
    flags: Option<Flags>,
    allow: Option<Allow>,
    source: Option<OsString>,
    subtype: Option<OsString>,
    labels: Vec<(&'static str, OsString)>,
    private: bool,
    threads: Option<usize>,
    busy_poll: Option<Duration>,
    log: Option<LogTarget>,
    level: Option<LevelFilter>,
    debug: bool,
    disabled: Vec<Features>,
    unknown: BTreeSet<String>,
    warnings: Vec<String>,
}

impl Draft {
    fn take(&mut self, element: Element<'_>) -> Result<(), Failure> {
        let Some(word) = find(element.name) else {
            self.unknown(element.name);
            return Ok(());
        };
        let raw = unquoted(element.value.unwrap_or_default());
        let plain = || OsString::from_vec(unescaped(&raw));
        let path = || match raw.is_empty() {
            true => Err(Failure::usage(format!("{}= needs a path", word.name))),
            false => Ok(PathBuf::from(plain())),
        };
        let bad = |wanted: &str| bad_value(word, &plain(), wanted);
        let text = String::from_utf8(unescaped(&raw)).unwrap_or_default();
        if !word.value.is_empty() && element.value.is_none() {
            let text = format!("{0} needs a value: {0}={1}", word.name, word.value);
            return Err(Failure::usage(text));
        }
        match word.effect {
            Effect::Lower => self.lower = lowers(&raw)?,
            Effect::OneMoreLower => self.lower.push(path()?),
            Effect::Catalog => self.catalog = Some(path()?),
            Effect::Upper => self.upper = Some(path()?),
            Effect::Work => self.work = Some(path()?),
            Effect::RedirectDir => {
                self.redirect_dir =
                    Some(values::redirect_dir(&text).ok_or_else(|| bad(word.value))?);
            }
            Effect::Metacopy => {
                self.metacopy = Some(values::switch(&text).ok_or_else(|| bad(word.value))?)
            }
            Effect::Index => {
                self.options.index = values::switch(&text).ok_or_else(|| bad(word.value))?
            }
            Effect::Xino => {
                self.options.xino = values::xino(&text).ok_or_else(|| bad(word.value))?
            }
            Effect::UserXattr => self.options.userxattr = true,
            Effect::Volatile => self.options.fsync = Fsync::Volatile,
            Effect::Fsync => {
                self.options.fsync = values::fsync(&text).ok_or_else(|| bad(word.value))?
            }
            Effect::Open => {
                self.options.open = values::opening(&text).ok_or_else(|| bad(word.value))?
            }
            Effect::Lazy => {
                self.options.lazy = values::lazy(&text).ok_or_else(|| bad(word.value))?
            }
            Effect::UidMap => {
                self.options.uid_map = values::id_map(&text).map_err(|why| bad(&why))?
            }
            Effect::GidMap => {
                self.options.gid_map = values::id_map(&text).map_err(|why| bad(&why))?
            }
            Effect::SquashRoot => self.squash_root = true,
            Effect::SquashUid => {
                self.options.squash_uid = Some(values::id(&text).ok_or_else(|| bad("a user id"))?)
            }
            Effect::SquashGid => {
                self.options.squash_gid = Some(values::id(&text).ok_or_else(|| bad("a group id"))?)
            }
            Effect::XattrPermissions => {
                self.options.xattr_permissions =
                    values::xattr_permissions(&text).ok_or_else(|| bad(word.value))?;
            }
            Effect::StaticNlink => self.options.static_nlink = true,
            Effect::Acl(on) => self.options.acl = on,
            Effect::Timeout => {
                self.options.timeout = Some(values::seconds(&text).ok_or_else(|| bad("seconds"))?);
            }
            Effect::Source => self.source = Some(plain()),
            Effect::Subtype => self.subtype = Some(plain()),
            Effect::Label => {
                self.labels.retain(|(name, _)| *name != word.name);
                self.labels.push((word.name, plain()));
            }
            Effect::Flag(set, clear) => {
                let flags = self.flags.unwrap_or(Flags::empty());
                self.flags = Some(flags.difference(clear).union(set));
            }
            Effect::AllowAll => self.allow = Some(Allow::All),
            Effect::AllowRoot => self.allow = Some(Allow::RootAndOwner),
            Effect::Private => self.private = true,
            Effect::Threads => {
                self.threads = Some(values::threads(&text).ok_or_else(|| bad("1 to 256"))?);
            }
            Effect::BusyPoll => {
                let moment = values::microseconds(&text).ok_or_else(|| bad("0 to 1000"))?;
                self.busy_poll = Some(moment);
            }
            Effect::Log => {
                self.log = Some(match text.as_str() {
                    "stderr" => LogTarget::Stderr,
                    "syslog" => LogTarget::Syslog,
                    _ => LogTarget::File(path()?),
                });
            }
            Effect::LogLevel => self.level = Some(text.parse().map_err(|_| bad(word.value))?),
            Effect::Debug => self.debug = true,
            Effect::Disable => {
                for name in text.split('+').filter(|name| !name.is_empty()) {
                    self.disabled
                        .push(Features::named(name).ok_or_else(|| bad("abilities (see --help)"))?);
                }
            }
            Effect::Remount => {
                return Err(Failure::mount(
                    "remount is not possible: umount it and mount it again with the new options",
                ));
            }
            Effect::UnsupportedUnless(harmless) if text == harmless && !harmless.is_empty() => {}
            Effect::UnsupportedUnless(_) => {
                let text = format!("{} is not supported", word.name);
                return Err(Failure::usage(text));
            }
            Effect::Ignored => {}
        }
        Ok(())
    }

    /// Warned about once each, unless it is meant for other programs.
    fn unknown(&mut self, name: &[u8]) {
        let name = String::from_utf8_lossy(name).into_owned();
        let for_others = name.starts_with("x-") || name.starts_with("X-");
        if !for_others && !self.sloppy && self.unknown.insert(name.clone()) {
            self.warnings
                .push(format!("unknown option ignored: {name}"));
        }
    }

    fn finish(mut self, typed: Typed) -> Result<(MountSpec, Vec<String>), Failure> {
        self.resolve()?;
        if self.lower.is_empty() {
            return Err(Failure::usage(
                "no lowerdir= given: there is nothing to mount",
            ));
        }
        match (&self.upper, &self.work) {
            (Some(_), None) => {
                return Err(Failure::usage(
                    "upperdir= needs workdir=, a directory beside it",
                ));
            }
            (None, Some(_)) => {
                self.work = None;
                self.warnings
                    .push("workdir= without upperdir= has no use and is ignored".into());
            }
            _ => {}
        }
        let debug = self.debug || typed.debug;
        let foreground = typed.foreground || debug;
        let log = match self.log {
            Some(LogTarget::Stderr) if !foreground => {
                return Err(Failure::usage("log=stderr needs the foreground (-f)"));
            }
            Some(log) => log,
            None if foreground => LogTarget::Stderr,
            None => LogTarget::Syslog,
        };
        let level = match (self.level, debug, typed.verbose) {
            (Some(level), ..) => level,
            (None, true, _) => LevelFilter::Debug,
            (None, false, true) => LevelFilter::Info,
            (None, false, false) => LevelFilter::Warn,
        };
        let allowed = self
            .disabled
            .iter()
            .fold(Features::all(), |all, one| all.without(*one));
        // The kernel then refuses to open a file for writing by itself.
        let forced = match self.upper {
            Some(_) => Flags::empty(),
            None => Flags::RDONLY,
        };
        let spec = MountSpec {
            source: self
                .source
                .or(typed.source)
                .unwrap_or_else(|| "capasfs".into()),
            mountpoint: typed.mountpoint.into(),
            lower: self.lower,
            catalog: self.catalog,
            upper: self.upper,
            work: self.work,
            options: self.options,
            kernel: KernelOptions {
                flags: self.flags.unwrap_or(Flags::empty()).union(forced),
                allow: self.allow,
                subtype: self.subtype.unwrap_or_else(|| "capasfs".into()),
                labels: self.labels,
                private: self.private,
            },
            threads: self.threads,
            busy_poll: self.busy_poll,
            log,
            level,
            foreground,
            fake: typed.fake,
            allowed,
            namespace: typed.namespace.map(PathBuf::from),
        };
        Ok((spec, self.warnings))
    }

    /// Options that depend on each other, by the kernel's rules: a metacopy is
    /// found again after a rename only through its redirect, so the one needs
    /// the other; what was said wins over what was not; both said is an error.
    /// With `userxattr` the kernel reads neither, so neither is written unless
    /// asked for.
    fn resolve(&mut self) -> Result<(), Failure> {
        let made = |redirect: RedirectDir| redirect == RedirectDir::On;
        let default = !self.options.userxattr;
        (self.options.redirect_dir, self.options.metacopy) =
            match (self.redirect_dir, self.metacopy) {
                (Some(redirect), Some(true)) if !made(redirect) => {
                    return Err(Failure::usage(
                        "metacopy=on needs redirect_dir=on: the two options contradict each other",
                    ));
                }
                (Some(redirect), Some(metacopy)) => (redirect, metacopy),
                (Some(redirect), None) => (redirect, default && made(redirect)),
                (None, Some(true)) => (RedirectDir::On, true),
                (None, metacopy) if default => (RedirectDir::On, metacopy.unwrap_or(true)),
                (None, _) => (RedirectDir::NoFollow, false),
            };
        if self.squash_root {
            self.options.squash_uid.get_or_insert(0);
            self.options.squash_gid.get_or_insert(0);
        }
        Ok(())
    }
}

fn bad_value(word: &Word, value: &std::ffi::OsStr, wanted: &str) -> Failure {
    let value = value.display();
    Failure::usage(format!("{}={value}: not {wanted}", word.name))
}

/// The directories of `lowerdir=`. Two colons announce layers of data only in
/// kernel overlayfs; taking those for ordinary ones would show wrong names.
fn lowers(value: &[u8]) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = parts(value, b':');
    if paths.last().is_some_and(Vec::is_empty) {
        paths.pop();
    }
    if paths.first().is_some_and(Vec::is_empty) {
        paths.remove(0);
    }
    if paths.iter().any(Vec::is_empty) {
        return Err(Failure::usage(
            "lowerdir= with :: (data-only layers) is not supported",
        ));
    }
    Ok(paths
        .into_iter()
        .map(OsString::from_vec)
        .map(PathBuf::from)
        .collect())
}

#[cfg(test)]
mod tests;
