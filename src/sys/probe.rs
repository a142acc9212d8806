//! What the kernel and the file systems below can do: probed, never assumed
//! by version, and every ability can be turned off for tests.

use super::{At, Errno, creds, fs, handle, xattr};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

macro_rules! features {
    ($($(#[$doc:meta])* $name:ident = $bit:expr, $text:literal;)*) => {
        /// A set of abilities.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct Features(u32);

        impl Features {
            $($(#[$doc])* pub const $name: Features = Features(1 << $bit);)*

            /// Every name that `disable=` takes, with its bit.
            pub const NAMES: &'static [(&'static str, Features)] =
                &[$(($text, Features::$name)),*];
        }
    };
}

features! {
    /// Reads and writes go past the daemon.
    PASSTHROUGH = 0, "passthrough";
    /// Set-id bits and capabilities are cleared by us, not by the kernel.
    KILLPRIV = 1, "killpriv";
    /// Opening a directory needs no message.
    NO_OPENDIR = 2, "no_opendir";
    /// openat2(2), by which the layers are opened once more.
    OPENAT2 = 3, "openat2";
    /// `O_TMPFILE` on the upper.
    TMPFILE = 4, "tmpfile";
    /// `RENAME_WHITEOUT` on the upper.
    WHITEOUT_RENAME = 5, "whiteout_rename";
    /// `RENAME_EXCHANGE` on the upper.
    EXCHANGE = 6, "exchange";
    /// `FICLONE` from the lowers to the upper.
    REFLINK = 7, "reflink";
    /// File handles.
    HANDLES = 8, "handles";
    /// Whiteouts as character devices 0:0.
    MKNOD = 9, "mknod";
    /// `trusted.*` attributes.
    TRUSTED = 10, "trusted";
    /// `user.*` attributes on the upper.
    XATTR = 11, "xattr";
    /// Opening files by handle.
    OPEN_HANDLES = 12, "open_handles";
}

impl Features {
    /// Everything.
    pub const fn all() -> Features {
        Features(u32::MAX)
    }
    /// Is all of `other` here.
    pub const fn has(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }
    /// Without those of `other`.
    #[must_use]
    pub const fn without(self, other: Features) -> Features {
        Features(self.0 & !other.0)
    }
    /// The ability of that name.
    pub fn named(name: &str) -> Option<Features> {
        Self::NAMES
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, f)| *f)
    }
}

/// `allowed` less what the process may not do or the upper's work directory
/// (an `O_PATH` descriptor) cannot. Leaves nothing behind.
pub fn probe(allowed: Features, work: Option<&OwnedFd>) -> Features {
    let mut have = allowed;
    if !creds::trusted() {
        have = have
            .without(Features::PASSTHROUGH)
            .without(Features::TRUSTED);
    }
    if !creds::has_capability(creds::cap::DAC_READ_SEARCH) || !creds::in_first_user_namespace() {
        have = have.without(Features::OPEN_HANDLES);
    }
    if let Some(work) = work {
        have = probe_upper(have, work);
    }
    have
}

/// As [`probe`] for a filesystem that is to hold layers and uppers: also what
/// is otherwise found out when it is first needed. `dir` is an `O_PATH`
/// descriptor of an empty directory there.
pub fn probe_store(allowed: Features, dir: &OwnedFd) -> Features {
    let mut have = probe(allowed, Some(dir));
    let names = [OsStr::new("#probe-a"), OsStr::new("#probe-b")];
    let made = names.map(|name| {
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
        fs::open(dir, name, flags, 0o600)
    });
    if let [Ok(from), Ok(to)] = &made {
        let _ = fs::write_at(from, &[1; 4096], 0);
        if rustix::fs::ioctl_ficlone(to, from).is_err() {
            have = have.without(Features::REFLINK);
        }
        if handle::encode(At::Fd(from.as_fd())).is_err() {
            have = have
                .without(Features::HANDLES)
                .without(Features::OPEN_HANDLES);
        }
    }
    for name in names {
        let _ = fs::unlink(dir, name, false);
    }
    have
}

fn probe_upper(mut have: Features, work: &OwnedFd) -> Features {
    let a = OsStr::new("#probe-a");
    let b = OsStr::new("#probe-b");
    let clean = || {
        for name in [a, b] {
            let _ = fs::unlink(work, name, false);
        }
    };
    let mut lose = |yes: bool, what: Features| {
        if !yes {
            have = have.without(what);
        }
    };
    clean();
    lose(fs::open_tmpfile(work).is_ok(), Features::TMPFILE);
    let whiteout = fs::mknod(work, a, libc::S_IFCHR, 0).is_ok();
    lose(whiteout, Features::MKNOD);
    clean();
    let made = |name| {
        fs::open(
            work,
            name,
            libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY,
            0o600,
        )
    };
    let file = made(a);
    if file.is_ok() && made(b).is_ok() {
        lose(
            fs::rename(work, a, work, b, fs::Replace::Exchange).is_ok(),
            Features::EXCHANGE,
        );
        let at = At::Name(work.as_fd(), a);
        lose(set(at, c"trusted.overlay.probe"), Features::TRUSTED);
        lose(set(at, c"user.overlay.probe"), Features::XATTR);
        lose(
            whiteout && fs::rename(work, a, work, b, fs::Replace::Whiteout).is_ok(),
            Features::WHITEOUT_RENAME,
        );
    }
    clean();
    have
}

fn set(at: At<'_>, name: &std::ffi::CStr) -> bool {
    match xattr::set(at, name, b"y", 0) {
        Ok(()) => true,
        Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => false,
        // No room and the like say nothing about the ability.
        Err(_) => true,
    }
}
