use super::*;
use crate::mount::args::Typed;
use crate::mount::claim::PATIENCE;
use crate::mount::options::interpret;
use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// `l1 l2/in u w m file link->l1` in a directory of their own.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["l1", "l2/in/deep", "u/in", "u/in2", "w/in", "m/in", "x/u"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("file"), "").unwrap();
    symlink("l1", dir.path().join("link")).unwrap();
    dir
}

/// The spec of options and a mountpoint in which `@` is the tree.
fn spec(tree: &TempDir, options: &str, mountpoint: &str) -> MountSpec {
    let here = tree.path().to_str().unwrap();
    let typed = Typed {
        mountpoint: mountpoint.replace('@', here).into(),
        options: vec![OsString::from(options.replace('@', here))],
        ..Typed::default()
    };
    interpret(typed).unwrap().0
}

const FULL: &str = "lowerdir=@/l1:@/l2,upperdir=@/u,workdir=@/w";

#[test]
fn what_is_right_is_opened() {
    let tree = tree();
    let checked = check(&spec(&tree, FULL, "@/m")).unwrap();
    assert_eq!(checked.warnings, [""; 0]);
    assert!(!checked.layers.locks.is_empty());
    let id = |name: &str| place::look(place::open(&tree.path().join(name)).unwrap()).unwrap();
    let lower: Vec<_> = checked
        .layers
        .lower
        .iter()
        .map(|dir| place::look(&dir.fd).unwrap())
        .collect();
    assert_eq!(lower[0].identity, id("l1").identity);
    assert_eq!(lower[1].identity, id("l2").identity);
    assert_eq!(
        place::look(checked.layers.upper.unwrap().fd).unwrap(),
        id("u")
    );
    assert_eq!(
        place::look(checked.layers.work.unwrap().fd).unwrap(),
        id("w")
    );
    let Target::Directory(fd, path) = checked.target else {
        panic!("no directory")
    };
    assert_eq!(
        (place::look(fd).unwrap(), path),
        (id("m"), tree.path().join("m"))
    );
}

#[test]
fn each_mistake_has_its_own_line() {
    let tree = tree();
    let table = [
        (
            "lowerdir=@/none",
            "@/m",
            "lowerdir @/none: no such directory",
        ),
        (
            "lowerdir=@/l1:@/file",
            "@/m",
            "lowerdir @/file: not a directory",
        ),
        (
            "lowerdir=@/l1,upperdir=@/none,workdir=@/w",
            "@/m",
            "upperdir @/none: no such directory",
        ),
        (
            "lowerdir=@/l1,upperdir=@/u,workdir=@/file",
            "@/m",
            "workdir @/file: not a directory",
        ),
        (
            "lowerdir=@/l1",
            "@/none",
            "mountpoint @/none: no such directory",
        ),
        (
            "lowerdir=@/l1",
            "@/file",
            "mountpoint @/file: not a directory",
        ),
        (
            "lowerdir=@/l1,upperdir=@/u,workdir=@/u",
            "@/m",
            "upperdir @/u and workdir @/u are the same directory",
        ),
        (
            "lowerdir=@/l1,upperdir=@/u,workdir=@/u/in",
            "@/m",
            "workdir @/u/in is inside upperdir @/u",
        ),
        (
            "lowerdir=@/l1,upperdir=@/w/in,workdir=@/w",
            "@/m",
            "upperdir @/w/in is inside workdir @/w",
        ),
        (
            "lowerdir=@/l1,upperdir=@/u,workdir=/proc/self",
            "@/m",
            "upperdir @/u and workdir /proc/self are on different filesystems",
        ),
        (
            FULL,
            "@/u",
            "mountpoint and upperdir @/u are the same directory",
        ),
        (
            FULL,
            "@/w",
            "mountpoint and workdir @/w are the same directory",
        ),
        (FULL, "@/u/in", "mountpoint @/u/in is inside upperdir @/u"),
        (FULL, "@/w/in", "mountpoint @/w/in is inside workdir @/w"),
        (
            "lowerdir=@/l1,upperdir=@/m/in,workdir=@/w",
            "@/m",
            "upperdir @/m/in is inside mountpoint @/m",
        ),
        (
            "lowerdir=@/l1,upperdir=@/u,workdir=@/m/in",
            "@/m",
            "workdir @/m/in is inside mountpoint @/m",
        ),
        (
            "lowerdir=@/l1:@/u,upperdir=@/u,workdir=@/w",
            "@/m",
            "lowerdir @/u is upperdir @/u",
        ),
        (
            "lowerdir=@/x,upperdir=@/x/u,workdir=@/w",
            "@/m",
            "lowerdir @/x contains upperdir @/x/u",
        ),
        (
            "lowerdir=@/u/in,upperdir=@/u,workdir=@/w",
            "@/m",
            "lowerdir @/u/in is inside upperdir @/u",
        ),
        (
            "lowerdir=@/l1:@/u/in:@/u/in2,upperdir=@/u,workdir=@/w",
            "@/m",
            "lowerdir @/u/in is inside upperdir @/u",
        ),
        (
            "lowerdir=@/l1:@/w/in,upperdir=@/u,workdir=@/w",
            "@/m",
            "lowerdir @/w/in is inside workdir @/w",
        ),
        (
            "lowerdir=@/w,upperdir=@/u,workdir=@/w/in",
            "@/m",
            "lowerdir @/w contains workdir @/w/in",
        ),
        (
            "lowerdir=@/l1",
            "/dev/fd/987",
            "mountpoint /dev/fd/987: Bad file descriptor (os error 9)",
        ),
    ];
    for (options, mountpoint, want) in table {
        let failure = check(&spec(&tree, options, mountpoint)).unwrap_err();
        let want = want.replace('@', tree.path().to_str().unwrap());
        assert_eq!((failure.code, failure.text), (32, want), "{options}");
    }
}

#[test]
fn names_do_not_deceive() {
    let tree = tree();
    symlink("u", tree.path().join("u2")).unwrap();
    let failure = check(&spec(
        &tree,
        "lowerdir=@/u2,upperdir=@/u,workdir=@/w",
        "@/m",
    ))
    .unwrap_err();
    assert!(failure.text.contains("u2 is upperdir"), "{failure}");
    let failure = check(&spec(&tree, FULL, "@/l1/../u2")).unwrap_err();
    assert!(failure.text.contains("same directory"), "{failure}");
    // A link to a layer is as good as the layer; so is naming one twice.
    check(&spec(
        &tree,
        "lowerdir=@/link:@/l1:@/l2/in:@/l2,upperdir=@/u,workdir=@/w",
        "@/m",
    ))
    .unwrap();
}

#[test]
fn the_mountpoint_may_be_a_lower() {
    let tree = tree();
    check(&spec(&tree, FULL, "@/l1")).unwrap();
}

#[test]
fn an_upper_in_use_is_refused_until_it_is_free() {
    let tree = tree();
    let held = check(&spec(&tree, FULL, "@/m")).unwrap();
    for (options, want) in [
        (
            "lowerdir=@/l1,upperdir=@/u,workdir=@/x",
            "upperdir @/u is in use by another live mount",
        ),
        (
            "lowerdir=@/l1,upperdir=@/x,workdir=@/w",
            "workdir @/w is in use by another live mount",
        ),
        (
            "lowerdir=@/l1,upperdir=@/x,workdir=@/u",
            "workdir @/u is in use by another live mount",
        ),
    ] {
        let failure = check(&spec(&tree, options, "@/m")).unwrap_err();
        assert_eq!(
            failure.text,
            want.replace('@', tree.path().to_str().unwrap())
        );
    }
    // Reading what another mount writes is allowed: a running container is
    // compared with its image that way.
    check(&spec(&tree, "lowerdir=@/u:@/l1", "@/m")).unwrap();
    // Released while the next one waits: no error.
    let released = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(held);
    });
    check(&spec(&tree, FULL, "@/m")).unwrap();
    released.join().unwrap();
}

#[test]
fn a_failed_check_holds_nothing() {
    let tree = tree();
    check(&spec(&tree, "lowerdir=@/u,upperdir=@/u,workdir=@/w", "@/m")).unwrap_err();
    let start = Instant::now();
    check(&spec(&tree, FULL, "@/m")).unwrap();
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_thousand_layers_are_quickly_opened() {
    let tree = tree();
    process::raise_descriptor_limit();
    for (more, under) in [("", "/diff"), (",disable=openat2", "/diff"), ("", "")] {
        let layers: Vec<_> = (0..1000).map(|n| format!("@/layers/{n}{under}")).collect();
        for layer in &layers {
            std::fs::create_dir_all(layer.replace('@', tree.path().to_str().unwrap())).unwrap();
        }
        let lower = layers.join(":");
        let options = format!("lowerdir={lower},upperdir=@/u,workdir=@/w{more}");
        let spec = spec(&tree, &options, "@/m");
        let start = Instant::now();
        let checked = check(&spec).unwrap();
        let opened = start.elapsed();
        assert_eq!(checked.layers.lower.len(), 1000);
        drop(checked);
        let closed = start.elapsed() - opened;
        // Far above what it takes (15 ms, measured), far below one mount a layer.
        assert!(
            opened + closed < Duration::from_millis(500),
            "{opened:?} {closed:?}{more}{under}"
        );
        eprintln!("1000 layers{under}: opened in {opened:?}, closed in {closed:?}{more}");
    }
}

#[test]
fn lowers_cannot_be_written_through_their_descriptors() {
    use crate::sys::creds::{cap, has_capability};
    let tree = tree();
    for more in ["", ",disable=openat2"] {
        let checked = check(&spec(&tree, &(FULL.to_owned() + more), "@/m")).unwrap();
        assert_eq!(checked.sealed, has_capability(cap::SYS_ADMIN), "{more}");
        if !checked.sealed {
            eprintln!("SKIPPED: making detached mounts needs CAP_SYS_ADMIN");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "must run in CI");
            return;
        }
        std::fs::write(tree.path().join("l1/f"), "x").unwrap();
        for OpenDir { fd, path, .. } in &checked.layers.lower {
            let made = crate::sys::fs::mkdir(fd, "new".as_ref(), 0o700);
            assert_eq!(made, Err(Errno::ROFS), "{}{more}", path.display());
        }
        // Nor is there a way up and out of the layers' directory with rights.
        let up = place::parent(&checked.layers.lower[0].fd).unwrap();
        assert_eq!(
            crate::sys::fs::mkdir(&up, "new".as_ref(), 0o700),
            Err(Errno::ROFS)
        );
    }
}
