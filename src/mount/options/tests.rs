use super::*;
use crate::union::options::{IdRange, Lazy, Opening, XattrPermissions, Xino};
use std::time::Duration;

fn read(options: &[&str]) -> Result<(MountSpec, Vec<String>), Failure> {
    interpret(Typed {
        mountpoint: "/m".into(),
        options: options.iter().map(OsString::from).collect(),
        ..Typed::default()
    })
}

/// The spec of `lowerdir=/l,` and `options`, which must warn of nothing.
fn spec(options: &str) -> MountSpec {
    let (spec, warnings) = read(&["lowerdir=/l", options]).unwrap();
    assert_eq!(warnings, [""; 0], "{options}");
    spec
}

fn paths(list: &[&str]) -> Vec<PathBuf> {
    list.iter().map(PathBuf::from).collect()
}

#[test]
fn the_options_that_callers_really_send() {
    // containers/storage, read-write; the empty element is real.
    let (s, _) = read(&[
        "lowerdir=/g/overlay/l/AAA:/g/overlay/l/BBB,upperdir=/g/overlay/x/diff,\
         workdir=/g/overlay/x/work,,volatile,uidmapping=:0:100000:65536,gidmapping=:0:100000:65536",
    ])
    .unwrap();
    assert_eq!(s.lower, paths(&["/g/overlay/l/AAA", "/g/overlay/l/BBB"]));
    assert_eq!(s.upper, Some("/g/overlay/x/diff".into()));
    assert_eq!(s.work, Some("/g/overlay/x/work".into()));
    assert_eq!(s.options.fsync, Fsync::Volatile);
    let map = [IdRange {
        outside: 0,
        inside: 100_000,
        count: 65536,
    }];
    assert_eq!(
        (&*s.options.uid_map, &*s.options.gid_map),
        (&map[..], &map[..])
    );
    // Ends with a comma.
    let (s, w) = read(&["lowerdir=/a,upperdir=/u,workdir=/w,"]).unwrap();
    assert_eq!((s.work, w), (Some("/w".into()), vec![]));
    // A diff: read-only, relative to its home.
    let (s, _) = read(&["lowerdir=x/diff:x/empty"]).unwrap();
    assert_eq!(
        (s.lower, s.upper, s.work),
        (paths(&["x/diff", "x/empty"]), None, None)
    );
    // force_mask, one mapping, SELinux.
    let s = spec(
        "xattr_permissions=2,squash_to_uid=7,squash_to_gid=8,context=\"system_u:object_r:x_t:s0:c1,c2\"",
    );
    assert_eq!(s.options.xattr_permissions, XattrPermissions::Containers);
    assert_eq!(
        (s.options.squash_uid, s.options.squash_gid),
        (Some(7), Some(8))
    );
    assert_eq!(
        s.kernel.labels,
        [("context", "system_u:object_r:x_t:s0:c1,c2".into())]
    );
    // A volume of buildah's: colons escaped, private.
    let (s, w) = read(&[r"lowerdir=/src\:a,upperdir=/u,workdir=/w,private"]).unwrap();
    assert_eq!(
        (s.lower, s.kernel.private, w),
        (paths(&["/src:a"]), true, vec![])
    );
    // mount.fuse3 for `mount -t fuse.capasfs -o ro,noatime,user,x-foo=1,…`.
    let s = spec("ro,noatime,noexec,nosuid,nodev,allow_other,dev,suid");
    assert_eq!(
        s.kernel.flags,
        Flags::RDONLY | Flags::NOATIME | Flags::NOEXEC
    );
    assert_eq!(s.kernel.allow, Some(Allow::All));
    // containerd: workdir first, options one by one.
    let (s, _) = read(&[
        "workdir=/w",
        "upperdir=/u",
        "lowerdir=/a:/b",
        "uidmapping=0:1:2:3:4:5",
    ])
    .unwrap();
    assert_eq!((s.lower.len(), s.options.uid_map.len()), (2, 2));
}

#[test]
fn defaults() {
    let s = spec("");
    assert_eq!(s.options, Options::default());
    assert_eq!(
        (s.source, s.kernel.subtype),
        ("capasfs".into(), "capasfs".into())
    );
    assert_eq!((s.kernel.flags, s.kernel.allow), (Flags::RDONLY, None));
    assert_eq!((s.threads, s.allowed), (None, Features::all()));
    assert_eq!(
        (s.log, s.level, s.foreground),
        (LogTarget::Syslog, LevelFilter::Warn, false)
    );
}

#[test]
fn semantics() {
    type Change = fn(&mut Options);
    let table: &[(&str, Change)] = &[
        ("index=off", |o| o.index = false),
        ("xino=on", |o| o.xino = Xino::On),
        ("fsync=strict", |o| o.fsync = Fsync::Strict),
        ("fsync=0", |o| o.fsync = Fsync::Volatile),
        ("fsync=0,fsync=1", |_| ()),
        ("open=zero", |o| o.open = Opening::Zero),
        ("open=message", |o| o.open = Opening::Message),
        ("open=zero,open=auto", |_| ()),
        ("lazy_copy_up=on", |o| o.lazy = Some(Lazy::default())),
        ("lazy_copy_up=on,lazy_copy_up=off", |_| ()),
        ("lazy_copy_up=2m", |o| {
            o.lazy = Some(Lazy {
                from: 2 << 20,
                ..Lazy::default()
            })
        }),
        ("lazy_copy_up=1:4k", |o| {
            o.lazy = Some(Lazy {
                from: 1,
                chunk: 4096,
            })
        }),
        ("squash_to_root", |o| {
            (o.squash_uid, o.squash_gid) = (Some(0), Some(0))
        }),
        // The particular wins over the general, in either order.
        ("squash_to_uid=5,squash_to_root", |o| {
            (o.squash_uid, o.squash_gid) = (Some(5), Some(0))
        }),
        ("static_nlink,noacl", |o| {
            (o.static_nlink, o.acl) = (true, false)
        }),
        ("timeout=0", |o| o.timeout = Some(Duration::ZERO)),
        ("metacopy=off", |o| o.metacopy = false),
        ("redirect_dir=on,metacopy=on", |_| ()),
        // One said, the other follows (overlayfs.rst and params.c).
        ("redirect_dir=nofollow", |o| {
            (o.redirect_dir, o.metacopy) = (RedirectDir::NoFollow, false)
        }),
        ("redirect_dir=off", |o| {
            (o.redirect_dir, o.metacopy) = (RedirectDir::Follow, false)
        }),
        ("redirect_dir=follow,metacopy=off", |o| {
            (o.redirect_dir, o.metacopy) = (RedirectDir::Follow, false)
        }),
        ("userxattr", |o| {
            (o.userxattr, o.redirect_dir, o.metacopy) = (true, RedirectDir::NoFollow, false)
        }),
        ("userxattr,redirect_dir=on,metacopy=on", |o| {
            o.userxattr = true
        }),
        ("userxattr,metacopy=on", |o| o.userxattr = true),
    ];
    for (options, change) in table {
        let mut want = Options::default();
        change(&mut want);
        assert_eq!(spec(options).options, want, "{options}");
    }
}

#[test]
fn without_an_upper_the_kernel_writes_nothing() {
    for options in ["", "ro", "rw"] {
        assert_eq!(spec(options).kernel.flags, Flags::RDONLY, "{options}");
    }
}

#[test]
fn mount_flags_follow_their_order() {
    let table = [
        ("ro,rw", Flags::empty()),
        ("rw,ro", Flags::RDONLY),
        ("noatime,relatime", Flags::RELATIME),
        ("relatime,strictatime", Flags::STRICTATIME),
        ("strictatime,noatime", Flags::NOATIME),
        ("noatime,atime", Flags::empty()),
        (
            "nodiratime,lazytime,sync,dirsync",
            Flags::NODIRATIME | Flags::LAZYTIME | Flags::SYNCHRONOUS | Flags::DIRSYNC,
        ),
        ("nosuid,nodev,noexec,suid", Flags::NODEV | Flags::NOEXEC),
        ("sync,async,exec,nosymfollow", Flags::NOSYMFOLLOW),
    ];
    for (options, want) in table {
        let options = format!("upperdir=/u,workdir=/w,{options}");
        assert_eq!(spec(&options).kernel.flags, want, "{options}");
    }
}

#[test]
fn layers_in_every_spelling() {
    let table: &[(&[&str], &[&str])] = &[
        (&["lowerdir=/a"], &["/a"]),
        (
            &[r"lowerdir=/a\,b:/c\:d:/e\\f:g h"],
            &["/a,b", "/c:d", r"/e\f", "g h"],
        ),
        (&["lowerdir=\"/a,b:/c\",ro"], &["/a,b", "/c"]),
        (&["lowerdir=:/a:/b:"], &["/a", "/b"]),
        (&["lowerdir=/x", "lowerdir=/a:/b"], &["/a", "/b"]),
        (
            &["lowerdir=/a", "lowerdir+=/b:c,lowerdir+=/d"],
            &["/a", "/b:c", "/d"],
        ),
    ];
    for (options, want) in table {
        assert_eq!(read(options).unwrap().0.lower, paths(want), "{options:?}");
    }
    let bytes = OsString::from_vec(b"lowerdir=/\xff\xfe,fsname=\xff".to_vec());
    let typed = Typed {
        mountpoint: "/m".into(),
        options: vec![bytes],
        ..Typed::default()
    };
    let (s, _) = interpret(typed).unwrap();
    assert_eq!(
        s.lower,
        [PathBuf::from(OsString::from_vec(b"/\xff\xfe".to_vec()))]
    );
    assert_eq!(s.source, OsString::from_vec(b"\xff".to_vec()));
}

#[test]
fn two_thousand_layers_in_128_kib() {
    let layers: Vec<_> = (0..2000).map(|n| format!("/layers/{n:0>52}/d")).collect();
    let text = format!("lowerdir={},upperdir=/u,workdir=/w", layers.join(":"));
    assert!(text.len() > 120 << 10, "{}", text.len());
    let (s, _) = read(&[&text]).unwrap();
    assert_eq!(
        s.lower,
        layers.iter().map(PathBuf::from).collect::<Vec<_>>()
    );
}

#[test]
fn what_is_for_others_is_silent_and_the_rest_is_warned_about_once() {
    for words in [
        "defaults,auto,noauto,user,users,nofail,_netdev,comment=x,x-systemd.automount,X-mount.mkdir=0755",
        "threaded=0,fast_ino,noxattrs,writeback,max_write=131072,splice_move,kernel_cache,auto_cache",
        "big_writes,nonempty,auto_unmount,nfs_export=on,uuid=auto,verity=off,default_permissions",
    ] {
        assert_eq!(spec(words), spec(""), "{words}");
    }
    let (_, warnings) = read(&["lowerdir=/l,foo=1,bar,foo=2"]).unwrap();
    assert_eq!(
        warnings,
        ["unknown option ignored: foo", "unknown option ignored: bar"]
    );
    let (_, warnings) = read(&["lowerdir=/l,workdir=/w"]).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let typed = Typed {
        sloppy: true,
        options: vec!["lowerdir=/l,foo".into()],
        ..Typed::default()
    };
    assert_eq!(interpret(typed).unwrap().1, [""; 0]);
}

#[test]
fn our_own() {
    let s = spec(
        "fsname=n,subtype=t,allow_root,threads=4,busy_poll=7,log=/tmp/x,log_level=info,disable=passthrough+openat2",
    );
    assert_eq!((s.source, s.kernel.subtype), ("n".into(), "t".into()));
    assert_eq!(s.kernel.allow, Some(Allow::RootAndOwner));
    assert_eq!(
        (s.threads, s.log),
        (Some(4), LogTarget::File("/tmp/x".into()))
    );
    assert_eq!(s.busy_poll, Some(Duration::from_micros(7)));
    assert_eq!(s.level, LevelFilter::Info);
    let want = Features::all()
        .without(Features::PASSTHROUGH)
        .without(Features::OPENAT2);
    assert_eq!(s.allowed, want);
    let s = spec("debug");
    assert_eq!(
        (s.log, s.level, s.foreground),
        (LogTarget::Stderr, LevelFilter::Debug, true)
    );
}

#[test]
fn errors_and_their_exit_codes() {
    let table: &[(&str, u8, &str)] = &[
        ("upperdir=/u,workdir=/w", 1, "no lowerdir"),
        ("lowerdir=", 1, "no lowerdir"),
        ("lowerdir=/l,upperdir=/u", 1, "needs workdir"),
        (
            "lowerdir=/l,upperdir=,workdir=/w",
            1,
            "upperdir= needs a path",
        ),
        ("lowerdir", 1, "lowerdir needs a value"),
        ("lowerdir=/a::/b", 1, "data-only"),
        ("lowerdir=/a,datadir+=/b", 1, "datadir+ is not supported"),
        ("lowerdir=/a,verity=require", 1, "verity is not supported"),
        (
            "lowerdir=/a,redirect_dir=maybe",
            1,
            "redirect_dir=maybe: not on|follow",
        ),
        ("lowerdir=/a,metacopy=yes", 1, "metacopy=yes"),
        (
            "lowerdir=/a,uidmapping=1:2",
            1,
            "uidmapping=1:2: not STORED:SEEN:COUNT",
        ),
        ("lowerdir=/a,timeout=-1", 1, "timeout=-1"),
        ("lowerdir=/a,threads=0", 1, "threads=0"),
        (
            "lowerdir=/a,busy_poll=1ms",
            1,
            "busy_poll=1ms: not 0 to 1000",
        ),
        ("lowerdir=/a,disable=gravity", 1, "disable=gravity"),
        ("lowerdir=/a,log_level=loud", 1, "log_level=loud"),
        ("lowerdir=/a,log=stderr", 1, "foreground"),
        ("lowerdir=/a,metacopy=on,redirect_dir=off", 1, "contradict"),
        ("ro,remount,lowerdir=/a", 32, "umount it and mount it again"),
    ];
    for (options, code, want) in table {
        let failure = read(&[options]).unwrap_err();
        assert_eq!(failure.code, *code, "{options}");
        assert!(failure.text.contains(want), "{options}: {}", failure.text);
        assert!(!failure.text.contains('\n'), "{options}");
    }
}
