//! Who may do what: every user, mode, ACL and operation as on a plain directory,
//! on lower files and again on what was copied up.

use super::{Target, mounted};
use crate::common::sys::as_user;
use crate::common::tree::{DumpOptions, build, compare, dump};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags};
use std::path::Path;

const USERS: [(u32, u32); 4] = [(0, 0), (1000, 1000), (1001, 1000), (1001, 1001)];
const OWNERS: [&str; 3] = ["0:0", "1000:1000", "0:1000"];
const MODES: [&str; 7] = ["0644", "0600", "0000", "6755", "2644", "0666", "0707"];
const ACLS: [&str; 3] = [
    "",
    "acl=u::rw-,u:1000:---,g::r--,m::r--,o::r--",
    "acl=u::rw-,u:1001:rw-,g::---,g:1000:rwx,m::rw-,o::---",
];
const OPS: [&str; 15] = [
    "read", "write", "append", "trunc", "truncate", "chmod", "setid", "chown", "chgrp", "utimes",
    "now", "xattr", "unlink", "rename", "link",
];

/// One directory per operation with a file of every owner, mode and ACL.
fn spec() -> String {
    let mut out = String::new();
    for op in OPS {
        // The directory's own rights matter to the last three.
        out.push_str(&format!(
            "/{op} dir 0777\n/{op}/sticky dir 1777\n/{op}/shut dir 0755\n"
        ));
        for (n, owner) in OWNERS.iter().enumerate() {
            for mode in MODES {
                for (a, acl) in ACLS.iter().enumerate() {
                    for dir in ["", "sticky/", "shut/"] {
                        // ACLs meet three modes, other directories one.
                        let tried = match (dir.is_empty(), a) {
                            (true, 0) => true,
                            (true, _) => ["0644", "0600", "6755"].contains(&mode),
                            (false, _) => mode == "0666" && a == 0,
                        };
                        if !tried {
                            continue;
                        }
                        out.push_str(&format!(
                            "/{op}/{dir}f{n}-{mode}-{a} file {mode} {owner} data=\"content\" {acl}\n"
                        ));
                    }
                }
            }
        }
    }
    out
}

fn act(op: &str, path: &Path) -> Result<(), rustix::io::Errno> {
    let none = AtFlags::empty();
    let open = |flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    let times = |t| Timestamps {
        last_access: t,
        last_modification: t,
    };
    match op {
        "read" => {
            let mut buf = [0; 16];
            rustix::io::read(open(OFlags::RDONLY)?, &mut buf).map(drop)
        }
        "write" => rustix::io::pwrite(open(OFlags::RDWR)?, b"X", 1).map(drop),
        "append" => rustix::io::write(open(OFlags::WRONLY | OFlags::APPEND)?, b"X").map(drop),
        "trunc" => open(OFlags::WRONLY | OFlags::TRUNC).map(drop),
        "truncate" => rustix::fs::ftruncate(open(OFlags::WRONLY)?, 3),
        "chmod" => rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(0o640), none),
        "setid" => rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(0o6755), none),
        "chown" => {
            let uid = rustix::fs::Uid::from_raw(1001);
            rustix::fs::chownat(CWD, path, Some(uid), None, none)
        }
        "chgrp" => {
            let gid = rustix::fs::Gid::from_raw(1000);
            rustix::fs::chownat(CWD, path, None, Some(gid), none)
        }
        "utimes" => {
            let t = Timespec {
                tv_sec: 5,
                tv_nsec: 6,
            };
            rustix::fs::utimensat(CWD, path, &times(t), none)
        }
        "now" => {
            let t = Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_NOW,
            };
            rustix::fs::utimensat(CWD, path, &times(t), none)
        }
        "xattr" => rustix::fs::setxattr(path, "user.k", b"v", XattrFlags::empty()),
        "unlink" => rustix::fs::unlinkat(CWD, path, none),
        "rename" => {
            let to = path.with_extension("new");
            rustix::fs::renameat_with(CWD, path, CWD, to, RenameFlags::NOREPLACE)
        }
        _ => {
            let to = path.with_extension("link");
            rustix::fs::linkat(CWD, path, CWD, to, none)
        }
    }
}

#[test]
fn every_user_mode_and_operation_as_on_a_plain_directory() {
    let spec = spec();
    let why = "wrong in many cells (reliability.md)";
    let not = [(Target::FuseOverlayfs, why)];
    for user in USERS {
        let Some((fx, mut m)) = mounted(&[&spec], &not) else {
            return;
        };
        let plain = fx.path().join("model");
        std::fs::create_dir(&plain).unwrap();
        build(&plain, &spec);
        let files: Vec<&str> = spec
            .lines()
            .filter(|l| l.contains(" file "))
            .filter_map(|l| l.split_whitespace().next())
            .collect();
        // The second time most files lie in the upper already.
        for round in 0..2 {
            let all = |root: &Path| {
                as_user(user.0, user.1, || -> Vec<_> {
                    let op = |f: &&str| act(f[1..].split('/').next().unwrap(), &root.join(&f[1..]));
                    files.iter().map(op).collect()
                })
            };
            let (want, got) = (all(&plain), all(m.path()));
            m.touch();
            for (file, (want, got)) in files.iter().zip(want.iter().zip(&got)) {
                assert_eq!(want, got, "{file} by {user:?}, round {round}");
            }
            let options = DumpOptions::default();
            for when in ["live", "remounted"] {
                let diff = compare(&dump(&plain, &options), &dump(m.path(), &options));
                assert!(
                    diff.is_none(),
                    "{when} after round {round} by {user:?} (- plain, + mount):\n{}",
                    diff.unwrap_or_default()
                );
                m.remount();
            }
        }
    }
}
