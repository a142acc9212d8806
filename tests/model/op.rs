//! One operation of a random run, with a text form to log and to replay.

use crate::common::tree::{escape, unescape};
use std::fmt;

macro_rules! verbs {
    ($($name:ident = $text:literal,)*) => {
        /// What an operation does; see `exec` for the arguments of each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Verb { $($name,)* }

        impl Verb {
            /// Its name in the text form.
            pub fn text(self) -> &'static str {
                match self { $(Verb::$name => $text,)* }
            }

            fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Verb::$name),)* _ => None }
            }
        }
    };
}

verbs! {
    Open = "open", Close = "close", Pread = "pread", Pwrite = "pwrite", Write = "write",
    Truncate = "truncate", Ftruncate = "ftruncate", Fallocate = "fallocate", Fsync = "fsync",
    CopyRange = "copyrange", WriteFile = "writefile",
    Mkdir = "mkdir", Rmdir = "rmdir", Unlink = "unlink", Rename = "rename", Link = "link",
    LinkFd = "linkfd", Symlink = "symlink", Readlink = "readlink", Mknod = "mknod", RmTree = "rmtree",
    Chmod = "chmod", Fchmod = "fchmod", Chown = "chown", Fchown = "fchown",
    Utimens = "utimens", Futimens = "futimens",
    Setxattr = "setxattr", Getxattr = "getxattr", Removexattr = "removexattr",
    Listxattr = "listxattr", Fsetxattr = "fsetxattr", Flistxattr = "flistxattr", SetAcl = "setacl",
    Map = "map", MapRead = "mapread", MapWrite = "mapwrite", Unmap = "unmap",
    Stat = "stat", Fstat = "fstat", Readdir = "readdir", ReaddirUnder = "readdirunder",
    Check = "check", Remount = "remount", Cross = "cross",
}

/// An operation with all its arguments, so that it means the same in any sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What to do.
    pub verb: Verb,
    /// On which path below the root, without a leading slash.
    pub path: Vec<u8>,
    /// The second path, or a symlink's target.
    pub other: Vec<u8>,
    /// On which held descriptor or mapping.
    pub slot: usize,
    /// Flags, mode or offset.
    pub a: i64,
    /// Length, group or nanoseconds.
    pub b: i64,
    /// A name, a value, or names with `,` between.
    pub text: String,
}

impl Op {
    /// An operation without arguments.
    pub fn new(verb: Verb) -> Self {
        Op {
            verb,
            path: Vec::new(),
            other: Vec::new(),
            slot: 0,
            a: 0,
            b: 0,
            text: String::new(),
        }
    }

    /// Reads the text form.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let mut op = Op::new(Verb::parse(words.next()?)?);
        for w in words {
            let (k, v) = w.split_once('=')?;
            match k {
                "p" => op.path = unescape(v),
                "q" => op.other = unescape(v),
                "s" => op.slot = v.parse().ok()?,
                "a" => op.a = v.parse().ok()?,
                "b" => op.b = v.parse().ok()?,
                "t" => op.text = v.to_string(),
                _ => return None,
            }
        }
        Some(op)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verb.text())?;
        if !self.path.is_empty() {
            write!(f, " p={}", escape(&self.path))?;
        }
        if !self.other.is_empty() {
            write!(f, " q={}", escape(&self.other))?;
        }
        for (k, v) in [("s", self.slot as i64), ("a", self.a), ("b", self.b)] {
            if v != 0 {
                write!(f, " {k}={v}")?;
            }
        }
        if !self.text.is_empty() {
            write!(f, " t={}", self.text)?;
        }
        Ok(())
    }
}
