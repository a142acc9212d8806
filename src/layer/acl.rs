//! Inheritance of POSIX default ACLs, for what is staged outside its parent.
//!
//! The format is that of the `system.posix_acl_*` attributes: a 4-byte version
//! (2) and 8-byte entries {tag u16, permissions u16, id u32}, little-endian
//! (include/uapi/linux/posix_acl_xattr.h). The rules are those of
//! posix_acl_create(3) in the kernel: the mode limits the entries of owner,
//! mask (or group) and others, and the umask plays no part.

const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// What a new inode gets from its parent's default ACL.
#[derive(Debug, PartialEq, Eq)]
pub struct Inherited {
    /// Permission bits to create it with.
    pub mode: u32,
    /// Its `system.posix_acl_access`; none where the mode says it all.
    pub access: Option<Vec<u8>>,
}

struct Entry {
    tag: u16,
    perm: u16,
    at: usize,
}

fn entries(acl: &[u8]) -> Option<Vec<Entry>> {
    let (version, rest) = acl.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || rest.len() % 8 != 0 {
        return None;
    }
    let mut out = Vec::new();
    for (i, e) in rest.chunks_exact(8).enumerate() {
        let (tag, e) = e.split_first_chunk::<2>()?;
        let (perm, _) = e.split_first_chunk::<2>()?;
        out.push(Entry {
            tag: u16::from_le_bytes(*tag),
            perm: u16::from_le_bytes(*perm),
            at: 4 + i * 8 + 2,
        });
    }
    Some(out)
}

/// Apply the default ACL of the parent to a creation with `mode`. `None` for a
/// value that is no ACL.
pub fn inherit(default_acl: &[u8], mode: u32) -> Option<Inherited> {
    let mut acl = default_acl.to_vec();
    let entries = entries(&acl)?;
    let find = |tag| entries.iter().find(|e| e.tag == tag);
    let mut bits = mode;
    let mut limit = |e: &Entry, shift: u32| {
        let perm = e.perm & ((bits >> shift) & 7) as u16;
        bits = (bits & !(7 << shift)) | (u32::from(perm) << shift);
        if let Some(slot) = acl.get_mut(e.at..e.at + 2) {
            slot.copy_from_slice(&perm.to_le_bytes());
        }
    };
    limit(find(USER_OBJ)?, 6);
    limit(find(MASK).or_else(|| find(GROUP_OBJ))?, 3);
    limit(find(OTHER)?, 0);
    let more = entries
        .iter()
        .any(|e| !matches!(e.tag, USER_OBJ | GROUP_OBJ | OTHER));
    Some(Inherited {
        mode: bits,
        access: more.then_some(acl),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(list: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut out = 2u32.to_le_bytes().to_vec();
        for (tag, perm, id) in list {
            out.extend(tag.to_le_bytes());
            out.extend(perm.to_le_bytes());
            out.extend(id.to_le_bytes());
        }
        out
    }

    #[test]
    fn minimal_acl_is_only_a_mode() {
        let a = acl(&[(1, 7, !0), (4, 5, !0), (0x20, 0, !0)]);
        let got = inherit(&a, 0o666).unwrap();
        assert_eq!((got.mode, got.access), (0o640, None));
    }

    #[test]
    fn mask_is_limited_not_the_group() {
        let a = acl(&[
            (1, 7, !0),
            (2, 7, 1000),
            (4, 7, !0),
            (0x10, 7, !0),
            (0x20, 5, !0),
        ]);
        let got = inherit(&a, 0o600).unwrap();
        assert_eq!(got.mode, 0o600);
        let want = acl(&[
            (1, 6, !0),
            (2, 7, 1000),
            (4, 7, !0),
            (0x10, 0, !0),
            (0x20, 0, !0),
        ]);
        assert_eq!(got.access, Some(want));
    }

    #[test]
    fn junk_is_refused() {
        for junk in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01"] {
            assert_eq!(inherit(junk, 0o666), None);
        }
    }
}
