//! Directory trees as text, one line per name:
//!
//! ```text
//! /            dir     0755 0:0
//! /a           dir     1777 1000:1000 mtime=-1.5 opaque
//! /a/f         file    4755 0:0 data="hello\x0a" user.k="v"
//! /a/big       file    0644 0:0 size=300000 data=@7
//! /a/sparse    file    size=10485760 at=8388608:"x"
//! /a/second    link    /a/f
//! /a/sym       symlink -> target
//! /dev/null    char    0666 dev=1:3
//! /b           block   0600 dev=7:0
//! /p           fifo
//! /s           sock
//! /a/gone      whiteout
//! /acl         file    acl=u::rwx,u:1000:r--,g::r-x,m::rwx,o::--- cap=0x0100000200000000...
//! /d           dir     default=u::rwx,g::r-x,o::r-x
//! ```
//!
//! Mode and owner may be left out (0755 or 0644, 0:0), parents that are not
//! listed are made. A token `name="value"` or `name=0xhex` with a dot in its name is an xattr;
//! bytes that are not printable, blanks, quotes and backslashes are `\xNN`.
//! `data=@N` is pattern N to the file's size. A dump writes every attribute
//! that a comparison can rely on, contents longer than 40 bytes as `data=#HASH`.

mod build;
mod dump;

pub use build::{build, parse_acl};
pub use dump::{Dump, DumpOptions, Identity, Mtime, compare, dump};

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes as one word without blanks or quotes.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &b in bytes {
        if b.is_ascii_graphic() && b != b'\\' && b != b'"' {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

/// The bytes of an escaped word.
pub fn unescape(word: &str) -> Vec<u8> {
    let b = word.as_bytes();
    let mut out = Vec::with_capacity(b.len());
    let mut i = 0;
    while i < b.len() {
        if b[i] == b'\\' && b.get(i + 1) == Some(&b'x') {
            out.push(u8::from_str_radix(&word[i + 2..i + 4], 16).unwrap());
            i += 4;
        } else {
            out.push(b[i]);
            i += 1;
        }
    }
    out
}

/// `root` with the escaped absolute path `word` below it.
pub fn below(root: &Path, word: &str) -> std::path::PathBuf {
    let bytes = unescape(word.trim_start_matches('/'));
    if bytes.is_empty() {
        root.to_path_buf()
    } else {
        root.join(OsStr::from_bytes(&bytes))
    }
}

/// Panics with a line by line difference unless the tree at `root` is what `spec` says.
pub fn assert_tree(root: &Path, spec: &str, options: &DumpOptions) {
    let want = tempfile::tempdir().unwrap();
    let dir = want.path().join("want");
    std::fs::create_dir(&dir).unwrap();
    build(&dir, spec);
    if let Some(diff) = compare(&dump(&dir, options), &dump(root, options)) {
        panic!("the tree differs (- expected, + got):\n{diff}");
    }
}
