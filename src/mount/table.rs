//! Every mount option: its name, what it does, and its line in `--help`.

use crate::sys::mount::Flags;
use std::fmt::Write;

/// What an option does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `lowerdir=A:B:C`.
    Lower,
    /// `lowerdir+=A`.
    OneMoreLower,
    /// `catalog=FILE`.
    Catalog,
    /// `upperdir=A`.
    Upper,
    /// `workdir=A`.
    Work,
    /// `redirect_dir=`.
    RedirectDir,
    /// `metacopy=`.
    Metacopy,
    /// `index=`.
    Index,
    /// `xino=`.
    Xino,
    /// `userxattr`.
    UserXattr,
    /// `volatile`.
    Volatile,
    /// `fsync=`.
    Fsync,
    /// `open=`.
    Open,
    /// `lazy_copy_up=`.
    Lazy,
    /// `uidmapping=`.
    UidMap,
    /// `gidmapping=`.
    GidMap,
    /// `squash_to_root`.
    SquashRoot,
    /// `squash_to_uid=`.
    SquashUid,
    /// `squash_to_gid=`.
    SquashGid,
    /// `xattr_permissions=`.
    XattrPermissions,
    /// `static_nlink`.
    StaticNlink,
    /// `acl` and `noacl`.
    Acl(bool),
    /// `timeout=`.
    Timeout,
    /// `fsname=`.
    Source,
    /// `subtype=`.
    Subtype,
    /// `context=` and its kin: handed to the kernel.
    Label,
    /// Generic mount flags: set the first, clear the second.
    Flag(Flags, Flags),
    /// `allow_other`.
    AllowAll,
    /// `allow_root`.
    AllowRoot,
    /// `private`.
    Private,
    /// `threads=`.
    Threads,
    /// `busy_poll=`.
    BusyPoll,
    /// `log=`.
    Log,
    /// `log_level=`.
    LogLevel,
    /// `disable=`.
    Disable,
    /// `debug`.
    Debug,
    /// `remount`: never done.
    Remount,
    /// Would change what is read, and we cannot do it; with this value only
    /// it changes nothing.
    UnsupportedUnless(&'static str),
    /// Has no meaning here or is always so.
    Ignored,
}

/// An option that can stand in `-o`.
#[derive(Debug)]
pub struct Word {
    /// Its name.
    pub name: &'static str,
    /// What stands behind its `=` in the help, empty if it takes no value.
    pub value: &'static str,
    /// What it does.
    pub effect: Effect,
    /// What the help says.
    pub help: &'static str,
}

const fn word(name: &'static str, value: &'static str, effect: Effect, help: &'static str) -> Word {
    Word {
        name,
        value,
        effect,
        help,
    }
}

const NONE: Flags = Flags::empty();

const fn flag(name: &'static str, set: Flags, clear: Flags) -> Word {
    word(name, "", Effect::Flag(set, clear), "")
}

const fn ignored(name: &'static str) -> Word {
    word(name, "", Effect::Ignored, "")
}

#[rustfmt::skip]
/// The options that have a line of their own in the help.
pub const OWN: &[Word] = &[
    word("lowerdir", "DIR[:DIR...]", Effect::Lower, "the directories below, topmost first; needed"),
    word("lowerdir+", "DIR", Effect::OneMoreLower, "one more below the others; a colon is ordinary here"),
    word("catalog", "FILE", Effect::Catalog, "a file that says what the lower directories merge to; not used if it does not fit"),
    word("upperdir", "DIR", Effect::Upper, "where changes go; without it the mount is read-only"),
    word("workdir", "DIR", Effect::Work, "an empty directory beside upperdir; needed with it"),
    word("redirect_dir", "on|follow|nofollow|off", Effect::RedirectDir,
        "renames of lower directories: made and followed (default), followed only, neither; off is follow"),
    word("metacopy", "on|off", Effect::Metacopy, "copy no data when only metadata changes (default on)"),
    word("index", "on|off", Effect::Index, "keep hard links of lower files together (default on)"),
    word("xino", "on|auto|off", Effect::Xino, "inode numbers made unique over several file systems (default auto)"),
    word("userxattr", "", Effect::UserXattr, "marks are user.overlay.* xattrs; as in the kernel then no redirect_dir and metacopy unless given"),
    word("volatile", "", Effect::Volatile, "sync nothing; the upper is lost when the machine stops"),
    word("fsync", "auto|strict|volatile", Effect::Fsync, "what a copy-up syncs: data, everything, nothing (1 is auto, 0 is volatile)"),
    word("open", "auto|message|zero", Effect::Open,
        "does the kernel ask before it opens a file: where passthrough is to be had (default), always, never"),
    word("lazy_copy_up", "off|on|FROM[:CHUNK]", Effect::Lazy,
        "large files (on: from 8m) are copied up in the background, by chunks (default 1m), while they are in use"),
    word("uidmapping", "STORED:SEEN:COUNT[:...]", Effect::UidMap, "owners: STORED in the layers is SEEN in the mount"),
    word("gidmapping", "STORED:SEEN:COUNT[:...]", Effect::GidMap, "the same for groups"),
    word("squash_to_root", "", Effect::SquashRoot, "everything belongs to 0:0"),
    word("squash_to_uid", "UID", Effect::SquashUid, "everything belongs to this user"),
    word("squash_to_gid", "GID", Effect::SquashGid, "everything belongs to this group"),
    word("xattr_permissions", "0|1|2", Effect::XattrPermissions,
        "owner and mode are kept in the inode, in user.fuseoverlayfs.override_stat, in user.containers.override_stat"),
    word("static_nlink", "", Effect::StaticNlink, "directories have one link"),
    word("noacl", "", Effect::Acl(false), "no POSIX ACLs"),
    word("acl", "", Effect::Acl(true), "POSIX ACLs (default)"),
    word("timeout", "SECONDS", Effect::Timeout, "how long names and attributes are cached (default for ever)"),
    word("fsname", "NAME", Effect::Source, "source shown in /proc/mounts (default SRC or capasfs)"),
    word("subtype", "NAME", Effect::Subtype, "type shown there as fuse.NAME (default capasfs)"),
    word("context", "LABEL", Effect::Label, "SELinux label of everything; quote it if it has a comma, as for the next three"),
    word("fscontext", "LABEL", Effect::Label, "SELinux label of the file system"),
    word("defcontext", "LABEL", Effect::Label, "SELinux label of what has none"),
    word("rootcontext", "LABEL", Effect::Label, "SELinux label of the root directory"),
    word("allow_other", "", Effect::AllowAll, "everybody may use the mount (default where the mounter may say so)"),
    word("allow_root", "", Effect::AllowRoot, "only root and the mounter may use it"),
    word("private", "", Effect::Private, "mounts in it stay in this mount namespace"),
    word("threads", "N", Effect::Threads, "how many threads serve at most (4)"),
    word("busy_poll", "USEC", Effect::BusyPoll, "how long the next request is looked for before sleeping (50; 0 = never)"),
    word("log", "stderr|syslog|FILE", Effect::Log, "where messages go (default stderr in the foreground, else syslog)"),
    word("log_level", "off|error|warn|info|debug", Effect::LogLevel, "which messages (default warn)"),
    word("debug", "", Effect::Debug, "same as -d"),
    word("disable", "NAME[+NAME...]", Effect::Disable, "do without an ability of the kernel (for tests)"),
];

const ATIMES: Flags = Flags::NOATIME
    .union(Flags::RELATIME)
    .union(Flags::STRICTATIME);

/// What every file system takes.
pub const GENERIC: &[Word] = &[
    flag("ro", Flags::RDONLY, NONE),
    flag("rw", NONE, Flags::RDONLY),
    flag("nosuid", Flags::NOSUID, NONE),
    flag("suid", NONE, Flags::NOSUID),
    flag("nodev", Flags::NODEV, NONE),
    flag("dev", NONE, Flags::NODEV),
    flag("noexec", Flags::NOEXEC, NONE),
    flag("exec", NONE, Flags::NOEXEC),
    flag("noatime", Flags::NOATIME, ATIMES),
    flag("atime", NONE, Flags::NOATIME),
    flag("relatime", Flags::RELATIME, ATIMES),
    flag("norelatime", NONE, Flags::RELATIME),
    flag("strictatime", Flags::STRICTATIME, ATIMES),
    flag("nostrictatime", NONE, Flags::STRICTATIME),
    flag("nodiratime", Flags::NODIRATIME, NONE),
    flag("diratime", NONE, Flags::NODIRATIME),
    flag("lazytime", Flags::LAZYTIME, NONE),
    flag("nolazytime", NONE, Flags::LAZYTIME),
    flag("sync", Flags::SYNCHRONOUS, NONE),
    flag("async", NONE, Flags::SYNCHRONOUS),
    flag("dirsync", Flags::DIRSYNC, NONE),
    flag("nosymfollow", Flags::NOSYMFOLLOW, NONE),
    flag("symfollow", NONE, Flags::NOSYMFOLLOW),
    flag("silent", Flags::SILENT, NONE),
    flag("loud", NONE, Flags::SILENT),
];

/// What other programs understand, what is always so, and what fstab needs.
pub const SILENT: &[Word] = &[
    word("datadir+", "", Effect::UnsupportedUnless(""), ""),
    word("verity", "", Effect::UnsupportedUnless("off"), ""),
    word("remount", "", Effect::Remount, ""),
    ignored("default_permissions"),
    ignored("threaded"),
    ignored("fast_ino"),
    ignored("noxattrs"),
    ignored("writeback"),
    ignored("max_write"),
    ignored("max_read"),
    ignored("max_threads"),
    ignored("max_idle_threads"),
    ignored("clone_fd"),
    ignored("splice_read"),
    ignored("splice_write"),
    ignored("splice_move"),
    ignored("no_splice_read"),
    ignored("no_splice_write"),
    ignored("no_splice_move"),
    ignored("kernel_cache"),
    ignored("auto_cache"),
    ignored("noauto_cache"),
    ignored("big_writes"),
    ignored("nonempty"),
    ignored("auto_unmount"),
    ignored("blkdev"),
    ignored("nfs_export"),
    ignored("uuid"),
    ignored("plugins"),
    ignored("defaults"),
    ignored("auto"),
    ignored("noauto"),
    ignored("user"),
    ignored("nouser"),
    ignored("users"),
    ignored("owner"),
    ignored("group"),
    ignored("nofail"),
    ignored("_netdev"),
    ignored("comment"),
    ignored("helper"),
    ignored("uhelper"),
    ignored("mand"),
    ignored("nomand"),
    ignored("iversion"),
    ignored("noiversion"),
];

/// The option of that name.
pub fn find(name: &[u8]) -> Option<&'static Word> {
    [OWN, GENERIC, SILENT]
        .into_iter()
        .flatten()
        .find(|word| word.name.as_bytes() == name)
}

const USAGE: &str = "\
usage: capasfs [-fdv] [-o OPTION[,OPTION...]]... [SRC] DIR
       mount -t fuse.capasfs [-o OPTION[,OPTION...]] SRC DIR
       mount.capasfs SRC DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTION[,OPTION...]]
       capasfs --help | --version

Mounts directories merged over each other at DIR and returns when it is usable.
SRC is only a label. umount DIR ends it.

  -f             stay in the foreground (called as mount.*: check, do not mount)
  -d, --debug    log every request to standard error; implies -f
  -v             log more
  -s             be silent about unknown options
  -n, -t TYPE    accepted for mount(8), without effect
  -N NAMESPACE   mount in this mount namespace (a file or a process id)
  -h, --help     this text
  -V, --version  the version

A comma or colon in a path is written \\, or \\: and a backslash \\\\. A value may
stand in double quotes, between which a comma is ordinary. Unknown options are
warned about and ignored.

options:
";

/// The text of `--help`.
pub fn help() -> String {
    let mut text = USAGE.to_owned();
    let mut line = |left: &str, right: &str| {
        let gap = if left.len() < 16 {
            " ".repeat(16 - left.len())
        } else {
            format!("\n{:18}", "")
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {left}{gap}{right}");
    };
    for word in OWN {
        match word.value {
            "" => line(word.name, word.help),
            value => line(&format!("{}={value}", word.name), word.help),
        }
    }
    let names = |words: &[Word], effect: fn(&Effect) -> bool| {
        let names: Vec<_> = words
            .iter()
            .filter(|w| effect(&w.effect))
            .map(|w| w.name)
            .collect();
        names.join(", ")
    };
    let abilities: Vec<_> = crate::sys::probe::Features::NAMES
        .iter()
        .map(|(name, _)| *name)
        .collect();
    let _ = writeln!(text, "\nabilities for disable=: {}", abilities.join(", "));
    let _ = writeln!(
        text,
        "\nas for every file system: {}",
        names(GENERIC, |_| true)
    );
    let _ = writeln!(
        text,
        "\naccepted without effect: {}, x-*, X-*",
        names(SILENT, |e| *e == Effect::Ignored)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_twice_and_all_in_the_help() {
        let help = help();
        let mut names = std::collections::BTreeSet::new();
        for word in [OWN, GENERIC, SILENT].into_iter().flatten() {
            assert!(names.insert(word.name), "{} is there twice", word.name);
            let hidden = matches!(word.effect, Effect::Remount | Effect::UnsupportedUnless(_));
            assert!(
                hidden || help.contains(word.name),
                "{} has no help",
                word.name
            );
        }
        assert!(OWN.iter().all(|word| !word.help.is_empty()));
    }
}
