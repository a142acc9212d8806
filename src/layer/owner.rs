//! Owner, mode and type kept in an attribute (`xattr_permissions=`), for
//! layers on file systems where nobody may chown: `UID:GID:MODE[:TYPE]`, MODE
//! in octal, TYPE one of `file`, `dir`, `symlink`, `pipe`, `socket`,
//! `block-MAJOR-MINOR`, `char-MAJOR-MINOR` (containers/storage, idtools).

use crate::sys::fs::Stat;

/// What such an attribute says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// `S_IFMT` bits and device number, where it is not the inode's own type.
    pub node: Option<(u32, u64)>,
}

impl Owner {
    /// What `stat` says, as an attribute would.
    pub fn of(stat: &Stat) -> Owner {
        let own = matches!(stat.kind(), libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK);
        Owner {
            uid: stat.uid,
            gid: stat.gid,
            mode: stat.mode & 0o7777,
            node: (!own).then_some((stat.kind(), stat.rdev)),
        }
    }

    /// Parse; `None` for anything malformed.
    pub fn parse(value: &[u8]) -> Option<Owner> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.trim_end_matches('\0').splitn(4, ':');
        Some(Owner {
            uid: parts.next()?.parse().ok()?,
            gid: parts.next()?.parse().ok()?,
            mode: u32::from_str_radix(parts.next()?, 8).ok()? & 0o7777,
            node: match parts.next() {
                None | Some("file" | "dir" | "symlink") => None,
                Some(kind) => Some(parse_node(kind)?),
            },
        })
    }

    /// The attribute's value.
    pub fn format(&self) -> String {
        let Owner { uid, gid, mode, .. } = self;
        let mut out = format!("{uid}:{gid}:{mode:04o}");
        if let Some((kind, rdev)) = self.node {
            let device = format!("{}-{}", libc::major(rdev), libc::minor(rdev));
            out.push_str(&match kind {
                libc::S_IFIFO => ":pipe".into(),
                libc::S_IFSOCK => ":socket".into(),
                libc::S_IFBLK => format!(":block-{device}"),
                _ => format!(":char-{device}"),
            });
        }
        out
    }

    /// Put it in the place of what the inode says.
    pub fn apply(&self, stat: &mut Stat) {
        stat.uid = self.uid;
        stat.gid = self.gid;
        stat.mode = stat.kind() | self.mode;
        // Only an empty regular file stands for something else, and never for
        // a whiteout.
        if let Some((kind, rdev)) = self.node
            && stat.is_file()
            && !(kind == libc::S_IFCHR && rdev == 0)
        {
            stat.mode = kind | self.mode;
            stat.rdev = rdev;
        }
    }
}

fn parse_node(kind: &str) -> Option<(u32, u64)> {
    let mut parts = kind.splitn(3, '-');
    let kind = match parts.next()? {
        "pipe" => return Some((libc::S_IFIFO, 0)),
        "socket" => return Some((libc::S_IFSOCK, 0)),
        "block" => libc::S_IFBLK,
        "char" => libc::S_IFCHR,
        _ => return None,
    };
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((kind, libc::makedev(major, minor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let plain = Owner::parse(b"1000:100:0755").unwrap();
        assert_eq!((plain.uid, plain.gid, plain.mode), (1000, 100, 0o755));
        assert_eq!(plain.format(), "1000:100:0755");
        for text in ["0:0:4755", "1:2:0600:pipe", "1:2:0600:char-1-3"] {
            assert_eq!(Owner::parse(text.as_bytes()).unwrap().format(), text);
        }
        assert_eq!(Owner::parse(b"0:0:0644:file").unwrap().node, None);
        for junk in ["", "1:2", "a:b:c", "1:2:0999", "1:2:0644:char-1"] {
            assert_eq!(Owner::parse(junk.as_bytes()), None, "{junk}");
        }
    }

    #[test]
    fn never_a_whiteout() {
        let mut stat = Stat {
            mode: libc::S_IFREG | 0o600,
            ..Stat::default()
        };
        Owner::parse(b"0:0:0644:char-0-0").unwrap().apply(&mut stat);
        assert!(stat.is_file());
    }
}
