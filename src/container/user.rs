//! `USER` of an image or `-u`: names are those of the image's own passwd and
//! group files, which are read beneath the container's root and only if they
//! are ordinary files there.

use crate::store::error::{Context, Result, invalid, show};
use crate::sys::Errno;
use crate::sys::tree::{self, Links};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;

/// No passwd or group file is larger.
pub const MAX_FILE: u64 = 16 << 20;

/// No user or group has a larger number.
const MAX_ID: u32 = i32::MAX as u32;

/// Who runs the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// Find who `user` is in the tree at `root`.
///
/// # Errors
/// For names that the image does not know.
pub fn resolve(root: &File, user: &str) -> Result<Ids> {
    let passwd = read(root, "etc/passwd")?;
    let group = read(root, "etc/group")?;
    find(user, &passwd, &group)
}

fn read(root: &File, path: &str) -> Result<String> {
    let file = match tree::open_file_beneath(root, OsStr::new(path), Links::InRoot) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(String::new()),
        Err(Errno::INVAL) => return invalid(format!("/{path} of the image is no regular file")),
        Err(e) => return Err(e).context(|| format!("cannot read /{path} of the image")),
    };
    let mut data = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut data)
        .context(|| format!("cannot read /{path} of the image"))?;
    if data.len() as u64 > MAX_FILE {
        return invalid(format!("/{path} of the image is too large"));
    }
    Ok(String::from_utf8_lossy(&data).into_owned())
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [name, _, uid, gid, _, home, ..] => Some(User {
                name,
                uid: number(uid).ok()??,
                gid: number(gid).ok()??,
                home,
            }),
            _ => None,
        }
    })
}

/// Name, number and members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [name, _, gid, members, ..] => Some((*name, number(gid).ok()??, *members)),
            _ => None,
        }
    })
}

/// A number of a user or group, if the text is one.
fn number(text: &str) -> Result<Option<u32>> {
    let Ok(number) = text.parse::<i64>() else {
        return Ok(None);
    };
    match u32::try_from(number) {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => invalid(format!("uids and gids must be in range 0-{MAX_ID}")),
    }
}

/// Find who `text` is by these two files.
///
/// # Errors
/// For names that they do not have.
pub fn find(text: &str, passwd: &str, group: &str) -> Result<Ids> {
    let (user, wanted) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let by_name = users(passwd).find(|u| u.name == user);
    let known = match (by_name, number(user)?) {
        (Some(u), _) => Ok(u),
        (None, Some(uid)) => users(passwd).find(|u| u.uid == uid).ok_or(Some(uid)),
        (None, None) => Err(None),
    };
    let mut ids = Ids {
        home: "/".to_owned(),
        ..Ids::default()
    };
    match known {
        Ok(u) => {
            ids.uid = u.uid;
            ids.gid = u.gid;
            if !u.home.is_empty() {
                u.home.clone_into(&mut ids.home);
            }
            if wanted.is_none() {
                ids.groups = groups(group)
                    .filter(|(_, _, members)| members.split(',').any(|m| m == u.name))
                    .map(|(_, gid, _)| gid)
                    .collect();
            }
        }
        Err(Some(uid)) => ids.uid = uid,
        Err(None) => {
            return invalid(format!(
                "unable to find user {}: no matching entries in passwd file",
                show(user.as_bytes())
            ));
        }
    }
    if let Some(wanted) = wanted.filter(|w| !w.is_empty()) {
        let named = groups(group).find(|(name, _, _)| *name == wanted);
        ids.gid = match (named, number(wanted)?) {
            (Some((_, gid, _)), _) | (None, Some(gid)) => gid,
            (None, None) => {
                return invalid(format!(
                    "unable to find group {}: no matching entries in group file",
                    show(wanted.as_bytes())
                ));
            }
        };
    }
    // Without the primary group among these, a file that denies the group could
    // be read by giving it up (CVE-2022-36109).
    ids.groups.retain(|g| *g != ids.gid);
    ids.groups.insert(0, ids.gid);
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbad line\nweb:x:33:34:w:/var/www:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\naudio:x:29:root,web\n";

    fn ids(text: &str) -> (u32, u32, Vec<u32>, String) {
        let i = find(text, PASSWD, GROUP).unwrap();
        (i.uid, i.gid, i.groups, i.home)
    }

    #[test]
    fn users_as_docker_finds_them() {
        assert_eq!(ids(""), (0, 0, vec![0, 29], "/root".into()));
        assert_eq!(ids("web"), (33, 34, vec![34, 29], "/var/www".into()));
        assert_eq!(ids("33"), (33, 34, vec![34, 29], "/var/www".into()));
        assert_eq!(ids("web:audio"), (33, 29, vec![29], "/var/www".into()));
        assert_eq!(ids("1000"), (1000, 0, vec![0], "/".into()));
        assert_eq!(ids("1000:5"), (1000, 5, vec![5], "/".into()));
        assert_eq!(ids("2147483647:2147483647").0, 2_147_483_647);
        for bad in ["2147483648", "-1", "4294967295", "0:2147483648", "0:-1"] {
            let e = find(bad, PASSWD, GROUP).unwrap_err().to_string();
            assert_eq!(e, "uids and gids must be in range 0-2147483647", "{bad}");
        }
        let odd = "bad:x:4294967295:0::/:\nworse:x:1:-1::/:\n";
        assert!(find("bad", odd, GROUP).is_err() && find("worse", odd, GROUP).is_err());
        assert!(find("nobody", PASSWD, GROUP).is_err());
        assert!(find("web:none", PASSWD, GROUP).is_err());
    }

    #[test]
    fn nothing_but_a_file_in_the_image_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        assert_eq!(resolve(&root, "").unwrap().uid, 0);
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = dir.path().join("etc/passwd");
        let outside = dir.path().join("../outside-passwd");
        std::os::unix::fs::symlink(&outside, &passwd).unwrap();
        assert!(resolve(&root, "web").is_err());
        std::fs::remove_file(&passwd).unwrap();
        tree::make_node(
            File::open(dir.path().join("etc")).unwrap(),
            OsStr::new("passwd"),
            tree::Node::Fifo,
            0o600,
        )
        .unwrap();
        let e = resolve(&root, "web").unwrap_err().to_string();
        assert!(e.contains("no regular file"), "{e}");
    }
}
