//! The on-disk marks of an overlay: what they are called, which are believed
//! where, and how names that callers use are kept apart from them.
//!
//! Written: kernel overlayfs's, as `trusted.overlay.*`, or `user.overlay.*`
//! with `userxattr` and in user namespaces. Read in lowers besides: the other
//! family, and fuse-overlayfs's opaque attribute, because stores hold them.
//! In the upper only the mount's own family counts, since in the other one a
//! caller may have set attributes under kernel overlayfs.

use crate::sys::{At, Result, xattr};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Prefix of AUFS-style whiteout files.
pub const WH: &[u8] = b".wh.";
/// The AUFS-style mark of an opaque directory.
pub const WH_OPAQUE: &str = ".wh..wh..opq";

/// Which attribute namespace marks are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `trusted.overlay.`
    Trusted,
    /// `user.overlay.`
    User,
}

/// A mark that is an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// On a directory: `y` hides the lowers, `x` allows attribute whiteouts.
    Opaque,
    /// Where the lower part of a directory, or of a metacopy, is.
    Redirect,
    /// The data is in a lower layer.
    Metacopy,
    /// Handle of the lower inode that this was copied from.
    Origin,
    /// On a directory: entries may have an origin.
    Impure,
    /// Difference of the union's link count to the real one.
    Nlink,
    /// On an empty file in an `x` directory: a whiteout.
    Whiteout,
    /// On a file named `.wh.*`: not a whiteout but what it looks like. Ours.
    Plain,
}

impl Mark {
    /// The attribute's name.
    pub const fn name(self, family: Family) -> &'static CStr {
        match (family, self) {
            (Family::Trusted, Mark::Opaque) => c"trusted.overlay.opaque",
            (Family::Trusted, Mark::Redirect) => c"trusted.overlay.redirect",
            (Family::Trusted, Mark::Metacopy) => c"trusted.overlay.metacopy",
            (Family::Trusted, Mark::Origin) => c"trusted.overlay.origin",
            (Family::Trusted, Mark::Impure) => c"trusted.overlay.impure",
            (Family::Trusted, Mark::Nlink) => c"trusted.overlay.nlink",
            (Family::Trusted, Mark::Whiteout) => c"trusted.overlay.whiteout",
            (Family::Trusted, Mark::Plain) => c"trusted.overlay.capas.plain",
            (Family::User, Mark::Opaque) => c"user.overlay.opaque",
            (Family::User, Mark::Redirect) => c"user.overlay.redirect",
            (Family::User, Mark::Metacopy) => c"user.overlay.metacopy",
            (Family::User, Mark::Origin) => c"user.overlay.origin",
            (Family::User, Mark::Impure) => c"user.overlay.impure",
            (Family::User, Mark::Nlink) => c"user.overlay.nlink",
            (Family::User, Mark::Whiteout) => c"user.overlay.whiteout",
            (Family::User, Mark::Plain) => c"user.overlay.capas.plain",
        }
    }
}

/// fuse-overlayfs's own opaque attribute.
const FUSE_OVERLAYFS_OPAQUE: &CStr = c"user.fuseoverlayfs.opaque";

/// `overlay.opaque`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opaque {
    /// Lowers are merged.
    #[default]
    No,
    /// Lowers are hidden.
    Yes,
    /// Lowers are merged, and files here may be attribute whiteouts.
    Xwhiteouts,
}

/// Whose marks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belief {
    /// The mount's own family.
    pub own: Family,
    /// The other family and fuse-overlayfs's too: in lowers.
    pub foreign: bool,
}

/// The marks of one inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Opaque directory.
    pub opaque: Opaque,
    /// Redirect, verbatim.
    pub redirect: Option<OsString>,
    /// Data is below.
    pub metacopy: bool,
    /// Origin, verbatim.
    pub origin: Option<Vec<u8>>,
    /// Entries may have origins.
    pub impure: bool,
    /// Link count difference, verbatim.
    pub nlink: Option<Vec<u8>>,
    /// Attribute whiteout.
    pub whiteout: bool,
    /// A `.wh.*` file that is no whiteout.
    pub plain: bool,
    /// `system.posix_acl_default` or any ACL is there.
    pub acl: bool,
    /// `security.capability` is there.
    pub capability: bool,
}

/// Read the marks of `at`. `scratch` is a buffer to be used again.
///
/// # Errors
/// As listxattr(2) and getxattr(2).
pub fn read(at: At<'_>, belief: Belief, scratch: &mut Vec<u8>) -> Result<Marks> {
    let mut marks = Marks::default();
    xattr::list_into(at, scratch)?;
    for name in xattr::names(scratch) {
        match name.to_bytes() {
            b"security.capability" => marks.capability = true,
            b"system.posix_acl_access" | b"system.posix_acl_default" => marks.acl = true,
            _ => read_one(at, belief, name, &mut marks)?,
        }
    }
    Ok(marks)
}

fn read_one(at: At<'_>, belief: Belief, name: &CStr, marks: &mut Marks) -> Result<()> {
    if name == FUSE_OVERLAYFS_OPAQUE {
        if belief.foreign && xattr::get(at, name)?.as_deref() == Some(b"y") {
            marks.opaque = Opaque::Yes;
        }
        return Ok(());
    }
    let bytes = name.to_bytes();
    let (family, rest) = if let Some(rest) = bytes.strip_prefix(b"trusted.overlay.") {
        (Family::Trusted, rest)
    } else if let Some(rest) = bytes.strip_prefix(b"user.overlay.") {
        (Family::User, rest)
    } else {
        return Ok(());
    };
    if family != belief.own && !belief.foreign {
        return Ok(());
    }
    match rest {
        b"opaque" => match xattr::get(at, name)?.as_deref() {
            Some(b"y") => marks.opaque = Opaque::Yes,
            Some(b"x") if marks.opaque == Opaque::No => marks.opaque = Opaque::Xwhiteouts,
            _ => {}
        },
        b"redirect" => marks.redirect = xattr::get(at, name)?.map(OsString::from_vec),
        b"metacopy" => marks.metacopy = true,
        b"origin" => marks.origin = xattr::get(at, name)?,
        b"impure" => marks.impure = true,
        b"nlink" => marks.nlink = xattr::get(at, name)?,
        b"whiteout" => marks.whiteout = true,
        b"capas.plain" => marks.plain = true,
        _ => {}
    }
    Ok(())
}

/// Is this a name that only the union may give: `.wh.` and more.
pub fn is_wh(name: &OsStr) -> bool {
    name.as_bytes().starts_with(WH)
}

/// `.wh.NAME`; `None` where that is longer than a name can be.
pub fn wh_name(name: &OsStr) -> Option<OsString> {
    let mut out = WH.to_vec();
    out.extend_from_slice(name.as_bytes());
    (out.len() <= 255).then(|| OsString::from_vec(out))
}

/// What an attribute name that a caller uses is on disk.
#[derive(Debug, PartialEq, Eq)]
pub enum Stored {
    /// Itself.
    Same,
    /// Escaped, as kernel overlayfs does for nested overlays.
    Escaped(CString),
    /// Nobody may use it through the mount.
    Refused,
}

const ESCAPES: [(&[u8], &[u8]); 2] = [
    (b"trusted.overlay.", b"trusted.overlay.overlay."),
    (b"user.overlay.", b"user.overlay.overlay."),
];

/// Families that fuse-overlayfs and containers/storage believe. They have no
/// escaped form, so callers can neither see nor set them.
fn is_foreign_private(name: &[u8]) -> bool {
    name.starts_with(b"user.fuseoverlayfs.")
        || name.starts_with(b"security.fuseoverlayfs.")
        || name == b"user.containers.override_stat"
}

/// Translate a caller's attribute name.
pub fn to_stored(name: &OsStr) -> Stored {
    let name = name.as_bytes();
    if is_foreign_private(name) {
        return Stored::Refused;
    }
    for (plain, escaped) in ESCAPES {
        if let Some(rest) = name.strip_prefix(plain) {
            let full = [escaped, rest].concat();
            return match CString::new(full) {
                Ok(full) if full.count_bytes() <= 255 => Stored::Escaped(full),
                _ => Stored::Refused,
            };
        }
    }
    Stored::Same
}

/// Translate a stored attribute name for callers; `None` = hidden. In a mount
/// with marks of one family, names of the other are a caller's, as in kernel
/// overlayfs.
pub fn to_shown(name: &CStr, own: Family) -> Option<Vec<u8>> {
    let name = name.to_bytes();
    if is_foreign_private(name) {
        return None;
    }
    for (family, (plain, escaped)) in [Family::Trusted, Family::User].iter().zip(ESCAPES) {
        if let Some(rest) = name.strip_prefix(escaped) {
            return Some([plain, rest].concat());
        }
        if *family == own && name.starts_with(plain) {
            return None;
        }
    }
    Some(name.to_vec())
}

/// An origin as kernel overlayfs writes it: `struct ovl_fb` of
/// fs/overlayfs/overlayfs.h.
pub mod origin {
    use crate::sys::handle::Handle;

    const VERSION: u8 = 0;
    const MAGIC: u8 = 0xfb;
    const HEADER: usize = 5 + 16;
    #[cfg(target_endian = "little")]
    const FLAGS: u8 = 0;
    #[cfg(target_endian = "big")]
    const FLAGS: u8 = 1;

    /// Encode; `None` for a handle that the format cannot hold.
    pub fn encode(handle: &Handle, uuid: [u8; 16]) -> Option<Vec<u8>> {
        let len = u8::try_from(HEADER + handle.bytes.len()).ok()?;
        let kind = u8::try_from(handle.kind).ok()?;
        let mut out = vec![VERSION, MAGIC, len, FLAGS, kind];
        out.extend_from_slice(&uuid);
        out.extend_from_slice(&handle.bytes);
        Some(out)
    }

    /// Decode to the handle and the file system's UUID; `None` for what is no
    /// origin of this machine's kind.
    pub fn decode(value: &[u8]) -> Option<(Handle, [u8; 16])> {
        let (head, rest) = value.split_first_chunk::<5>()?;
        let [version, magic, len, flags, kind] = *head;
        let (uuid, bytes) = rest.split_first_chunk::<16>()?;
        if version != VERSION || magic != MAGIC || usize::from(len) != value.len() {
            return None;
        }
        // Bit 1 says that byte order does not matter, bit 2 that it is an upper.
        if flags & 1 != FLAGS && flags & 2 == 0 {
            return None;
        }
        Some((
            Handle {
                kind: kind.into(),
                bytes: bytes.to_vec(),
            },
            *uuid,
        ))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn round_trip_and_junk() {
            let handle = Handle {
                kind: 1,
                bytes: vec![1, 2, 3, 4, 5, 6, 7, 8],
            };
            let value = encode(&handle, [7; 16]).unwrap();
            assert_eq!(value.len(), 29);
            assert_eq!(decode(&value), Some((handle, [7; 16])));
            for junk in [&value[..28], &[][..], b"y"] {
                assert_eq!(decode(junk), None);
            }
        }
    }
}

/// `overlay.nlink`: `U+1` or `L-2`, relative to the upper's or the lower's
/// link count.
pub mod nlink {
    /// The difference and whether it is relative to the upper.
    pub fn decode(value: &[u8]) -> Option<(bool, i64)> {
        let (first, rest) = value.split_first()?;
        let upper = match first {
            b'U' => true,
            b'L' => false,
            _ => return None,
        };
        let text = std::str::from_utf8(rest).ok()?;
        Some((upper, text.trim_end_matches('\0').parse().ok()?))
    }

    /// Relative to the upper's count.
    pub fn upper(difference: i64) -> Vec<u8> {
        format!("U{difference:+}").into_bytes()
    }

    /// Relative to the lower's count.
    pub fn lower(difference: i64) -> Vec<u8> {
        format!("L{difference:+}").into_bytes()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn forms() {
            assert_eq!(decode(b"U+1"), Some((true, 1)));
            assert_eq!(decode(b"L-12"), Some((false, -12)));
            assert_eq!(decode(b"U+0"), Some((true, 0)));
            assert_eq!(upper(-1), b"U-1");
            assert_eq!(upper(0), b"U+0");
            for junk in [&b""[..], b"X+1", b"U", b"Uone"] {
                assert_eq!(decode(junk), None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_both_ways() {
        let name = OsStr::new("trusted.overlay.opaque");
        let Stored::Escaped(stored) = to_stored(name) else {
            panic!("not escaped");
        };
        assert_eq!(stored.as_c_str(), c"trusted.overlay.overlay.opaque");
        let shown = |name| to_shown(name, Family::Trusted);
        assert_eq!(shown(&stored).unwrap(), name.as_bytes());
        assert_eq!(shown(c"trusted.overlay.opaque"), None);
        let theirs = c"user.overlay.metacopy";
        assert_eq!(shown(theirs).unwrap(), theirs.to_bytes());
        assert_eq!(to_shown(theirs, Family::User), None);
        assert_eq!(to_stored(OsStr::new("user.overlayfs")), Stored::Same);
        assert_eq!(
            to_stored(OsStr::new("user.fuseoverlayfs.opaque")),
            Stored::Refused
        );
        assert_eq!(shown(c"user.containers.override_stat"), None);
        assert_eq!(shown(c"user.mime").unwrap(), b"user.mime");
    }

    #[test]
    fn whiteout_names() {
        assert!(is_wh(OsStr::new(".wh.x")));
        assert!(!is_wh(OsStr::new(".whx")));
        assert_eq!(wh_name(OsStr::new("x")).unwrap(), ".wh.x");
        assert_eq!(wh_name(OsStr::new(&"x".repeat(252))), None);
    }
}
