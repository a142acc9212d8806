//! Nothing that is done through the mount changes how the next mount reads it.

use super::{Target, mounted, names, ours};
use crate::common::fixture::Fixture;
use crate::common::sys::{xattr, xattr_names};
use crate::common::tree::{DumpOptions, Mtime, compare, dump};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

#[test]
fn private_xattrs_set_by_a_caller_are_plain_attributes_or_refused() {
    let spec = "/d/low file data=\"x\"\n/e/low file data=\"y\"\n/f file size=5000 data=@1\n/other file data=\"other\"";
    let Some((_fx, mut m)) = mounted(&[spec], &[]) else {
        return;
    };
    fs::write(m.at("d/up"), "up").unwrap();
    fs::write(m.at("new"), "12345").unwrap();
    fs::create_dir(m.at("newdir")).unwrap();
    let values: &[&[u8]] = &[
        b"y",
        b"x",
        b"/other",
        b"../other",
        b"",
        b"1000:1000:4755:file",
    ];
    let keys = [
        "opaque",
        "redirect",
        "metacopy",
        "origin",
        "impure",
        "whiteout",
        "upper",
        "nlink",
        "protattr",
        "uuid",
        "overlay.opaque",
    ];
    let families = [
        "trusted.overlay.",
        "user.overlay.",
        "user.fuseoverlayfs.",
        "security.fuseoverlayfs.",
    ];
    for target in ["d", "e", "f", "new", "newdir", ""] {
        for family in families {
            for (n, key) in keys.iter().enumerate() {
                let name = format!("{family}{key}");
                let _ = lsetxattr(
                    m.at(target),
                    name.as_str(),
                    values[n % values.len()],
                    XattrFlags::empty(),
                );
            }
        }
        for name in [
            "user.containers.override_stat",
            "user.fuseoverlayfs.override_stat",
        ] {
            let _ = lsetxattr(
                m.at(target),
                name,
                b"1000:1000:4755:file",
                XattrFlags::empty(),
            );
        }
    }
    let exact = DumpOptions {
        mtime: Mtime::Exact,
        ..DumpOptions::default()
    };
    let live = dump(m.path(), &exact);
    for _ in 0..2 {
        m.remount();
        let diff = compare(&live, &dump(m.path(), &exact));
        assert!(
            diff.is_none(),
            "after remount (- live, + then):\n{}",
            diff.unwrap_or_default()
        );
    }
    assert_eq!(names(&m.at("d")), ["low", "up"]);
    assert_eq!(names(&m.at("e")), ["low"]);
    assert_eq!(fs::read_to_string(m.at("new")).unwrap(), "12345");
    let st = fs::metadata(m.at("new")).unwrap();
    assert_eq!((st.uid(), st.gid(), st.mode() & 0o7777), (0, 0, 0o644));
}

/// Kernel overlayfs takes the mark away where it cannot find lower files again (in a
/// user namespace): numbers in a listing are then others than those of the files.
#[test]
fn a_directory_that_lost_its_impure_mark() {
    let files: String = (0..20)
        .map(|i| format!("/a/f{i} file data=\"{i}\"\n/b/f{i} file data=\"{i}\"\n"))
        .collect();
    let Some((fx, mut m)) = ours(|| Fixture::new().lower(&files), "") else {
        return;
    };
    fs::create_dir(m.at("n")).unwrap();
    for i in 0..20 {
        fs::rename(m.at(&format!("b/f{i}")), m.at(&format!("n/f{i}"))).unwrap();
    }
    m.unmount();
    // One of them, or none where nothing is found again.
    for mark in ["user.overlay.impure", "trusted.overlay.impure"] {
        let _ = rustix::fs::removexattr(fx.upper().join("n"), mark);
    }
    m.start().unwrap();
    // From the second directory on attributes come with the listing.
    for dir in ["a", "n"] {
        for entry in fs::read_dir(m.at(dir)).unwrap() {
            let entry = entry.unwrap();
            let number = entry.metadata().unwrap().ino();
            let mut file = fs::File::open(entry.path()).unwrap();
            assert_eq!(file.metadata().unwrap().ino(), number);
            let mut data = String::new();
            file.read_to_string(&mut data).unwrap();
            assert_eq!(format!("f{data}").as_str(), entry.file_name());
        }
    }
}

#[test]
fn private_xattrs_of_the_layers_are_not_shown() {
    let spec =
        "/d dir opaque user.overlay.x=\"1\" trusted.overlay.origin=0x00\n/d/f file user.k=\"v\"";
    let Some((_fx, m)) = mounted(
        &["/d/hidden file", spec],
        &[(Target::FuseOverlayfs, "shows user.overlay")],
    ) else {
        return;
    };
    assert_eq!(names(&m.at("d")), ["f"]);
    fs::write(m.at("d/f"), "x").unwrap();
    fs::rename(m.at("d/f"), m.at("d/g")).unwrap();
    let shown = xattr_names(&m.at("d")).unwrap();
    assert!(
        !shown.iter().any(|n| n.starts_with(b"trusted.overlay.")),
        "{shown:?}"
    );
    assert_eq!(xattr_names(&m.at("d/g")).unwrap(), [b"user.k".to_vec()]);
    assert!(xattr(&m.at("d"), b"trusted.overlay.opaque").is_err());
}

#[test]
fn names_like_marks_never_become_marks() {
    let spec = "/d/a file data=\"a\"\n/d/b file data=\"b\"\n/e/c file data=\"c\"";
    let Some((_fx, mut m)) = mounted(&[spec], &[]) else {
        return;
    };
    fs::write(m.at("d/up"), "up").unwrap();
    let mut made = Vec::new();
    for name in [
        "d/.wh.a",
        "d/.wh..wh..opq",
        "e/.wh..wh..opq",
        "e/.wh..opq",
        ".wh.d",
        ".wh.",
        "d/.wh..wh.plnk",
    ] {
        // Either refused or an ordinary file.
        if fs::write(m.at(name), "plain").is_ok() {
            made.push(name);
        }
    }
    if fs::create_dir(m.at("e/.wh.c")).is_ok() {
        made.push("e/.wh.c");
    }
    let _ = fs::hard_link(m.at("d/up"), m.at("d/.wh.b"));
    let _ = fs::rename(m.at("d/up"), m.at("d/.wh.up"));
    let _ = std::os::unix::fs::symlink("x", m.at("e/.wh.d"));
    let exact = DumpOptions {
        mtime: Mtime::Exact,
        ..DumpOptions::default()
    };
    let live = dump(m.path(), &exact);
    for _ in 0..2 {
        for (file, text) in [("d/a", "a"), ("d/b", "b"), ("e/c", "c")] {
            assert_eq!(fs::read_to_string(m.at(file)).unwrap(), text);
        }
        for name in &made {
            assert!(m.at(name).exists(), "{name} was made and is gone");
        }
        m.remount();
        let diff = compare(&live, &dump(m.path(), &exact));
        assert!(
            diff.is_none(),
            "after remount:\n{}",
            diff.unwrap_or_default()
        );
    }
}

#[test]
fn a_char_device_0_0_is_refused_or_an_ordinary_device() {
    let Some((_fx, mut m)) = mounted(&["/d/a file data=\"a\""], &[]) else {
        return;
    };
    let kind = FileType::CharacterDevice;
    for name in ["new", "d/b", "d/a"] {
        let _ = rustix::fs::mknodat(CWD, m.at(name), kind, Mode::from_raw_mode(0o644), 0);
    }
    let live = dump(m.path(), &DumpOptions::default());
    m.remount();
    let diff = compare(&live, &dump(m.path(), &DumpOptions::default()));
    assert!(diff.is_none(), "{}", diff.unwrap_or_default());
    assert_eq!(fs::read_to_string(m.at("d/a")).unwrap(), "a");
}

#[test]
fn an_overlay_in_an_overlay_keeps_its_own_marks() {
    // A caller's escaped attributes, whiteout style, read back as the caller set them.
    let Some((_fx, mut m)) = mounted(&["/d dir"], &[(Target::FuseOverlayfs, "EPERM")]) else {
        return;
    };
    let none = XattrFlags::empty();
    for (name, value) in [
        ("trusted.overlay.opaque", "y"),
        ("trusted.overlay.overlay.opaque", "y"),
        ("trusted.overlay.redirect", "/x"),
    ] {
        lsetxattr(m.at("d"), name, value.as_bytes(), none)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    m.remount();
    assert_eq!(xattr(&m.at("d"), b"trusted.overlay.opaque").unwrap(), b"y");
    assert_eq!(
        xattr(&m.at("d"), b"trusted.overlay.overlay.opaque").unwrap(),
        b"y"
    );
    assert_eq!(
        xattr(&m.at("d"), b"trusted.overlay.redirect").unwrap(),
        b"/x"
    );
    rustix::fs::lremovexattr(m.at("d"), "trusted.overlay.opaque").unwrap();
    m.remount();
    assert!(xattr(&m.at("d"), b"trusted.overlay.opaque").is_err());
}

#[test]
fn marks_of_image_tools_hide_what_they_name() {
    let low = "/d/a file\n/d/b file\n/e/x file\n/e/y/z file\n/f file";
    let up = "/d/.wh.a file\n/e dir\n/e/.wh..wh..opq file\n/e/new file\n/.wh.f file";
    let not = "kernel overlayfs does not know these marks";
    let Some((_fx, mut m)) = mounted(
        &[low, up],
        &[(Target::Overlay, not), (Target::OverlayBare, not)],
    ) else {
        return;
    };
    for _ in 0..2 {
        assert_eq!(names(m.path()), ["d", "e"]);
        assert_eq!(names(&m.at("d")), ["b"]);
        assert_eq!(names(&m.at("e")), ["new"]);
        assert!(!m.at("f").exists() && !m.at("e/x").exists());
        m.remount();
    }
    fs::write(m.at("d/a"), "back").unwrap();
    fs::create_dir(m.at("f")).unwrap();
    m.remount();
    assert_eq!(fs::read_to_string(m.at("d/a")).unwrap(), "back");
    assert!(names(&m.at("f")).is_empty());
}

#[test]
fn layers_that_kernel_overlayfs_wrote_are_read() {
    if !crate::common::able_to_mount() {
        return;
    }
    let spec = "/d/a file size=200000 data=@1\n/d/sub/b file data=\"b\"\n/f file data=\"f\"\n/h1 file data=\"h\"\n/h2 link /h1\n/gone file";
    let fx = crate::common::fixture::Fixture::new()
        .lower(spec)
        .lower("/d/c file data=\"c\"");
    let exact = DumpOptions {
        mtime: Mtime::Exact,
        ..DumpOptions::default()
    };
    let mut m = fx.mount(Target::Overlay, "");
    fs::rename(m.at("d"), m.at("moved")).unwrap();
    fs::rename(m.at("moved/sub"), m.at("sub")).unwrap();
    fs::set_permissions(
        m.at("moved/a"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    fs::rename(m.at("moved/a"), m.at("a")).unwrap();
    fs::write(m.at("h1"), "changed").unwrap();
    fs::remove_file(m.at("gone")).unwrap();
    fs::create_dir(m.at("d")).unwrap();
    let want = dump(m.path(), &exact);
    m.remount_as(Target::from_env());
    let diff = compare(&want, &dump(m.path(), &exact));
    assert!(
        diff.is_none(),
        "kernel's upper (- kernel, + target):\n{}",
        diff.unwrap_or_default()
    );
    // And on it goes from here.
    fs::write(m.at("h2"), "both").unwrap();
    fs::rename(m.at("sub"), m.at("d/sub")).unwrap();
    assert_eq!(fs::read_to_string(m.at("h1")).unwrap(), "both");
    let want = dump(m.path(), &exact);
    m.remount_as(Target::Overlay);
    let diff = compare(&want, &dump(m.path(), &exact));
    assert!(
        diff.is_none(),
        "back in the kernel (- target, + kernel):\n{}",
        diff.unwrap_or_default()
    );
}

/// With `userxattr`, in either order: what one has made the other shows.
#[test]
fn with_userxattr_kernel_overlayfs_reads_ours_and_we_read_its() {
    if !crate::common::able_to_mount() || Target::from_env() != Target::Capasfs {
        return;
    }
    let lower = "/d/f file data=\"f\"\n/d/g file data=\"g\"\n/opq/old file\n/gone/x file\n\
                 /h1 file 0644 data=\"h\"\n/h2 link /h1\n/big file size=300000 data=@1\n\
                 /dir/sub/x file\n/e/meta file 0644 data=\"meta\" user.k=\"v\"\n/l symlink -> d";
    let change = r#"cd "$1"; echo more >>d/f; rm d/g; rm -r opq; mkdir opq; echo new >opq/new
        rm -r gone; echo h >>h1; ln h2 h3; echo b >>big; chmod 600 e/meta; mv e/meta e/moved
        mkdir up; mv up up2; mknod pipe p; ln -s x s
        setfattr -n user.overlay.opaque -v y d; ! mv -T dir dir2 2>/dev/null || mv -T dir2 dir"#;
    let options = DumpOptions {
        mtime: Mtime::Exact,
        ..DumpOptions::default()
    };
    for (first, second) in [
        (Target::Capasfs, Target::Overlay),
        (Target::Overlay, Target::Capasfs),
    ] {
        let fx = super::Fixture::new().lower(lower);
        let mut m = fx.mount(first, "userxattr");
        super::sh(&m, change).unwrap();
        let made = dump(m.path(), &options);
        for target in [second, first, second] {
            m.remount_as(target);
            let diff = compare(&made, &dump(m.path(), &options));
            let diff = diff.unwrap_or_default();
            assert!(
                diff.is_empty(),
                "made by {first:?}, seen by {target:?}:\n{diff}"
            );
        }
        // And goes on from there.
        super::sh(
            &m,
            r#"cd "$1"; rm opq/new d/f; rm -r dir; mkdir dir; echo x >>h3; mv big d/g"#,
        )
        .unwrap();
        let made = dump(m.path(), &options);
        m.remount_as(first);
        let diff = compare(&made, &dump(m.path(), &options)).unwrap_or_default();
        assert!(
            diff.is_empty(),
            "made by {second:?}, seen by {first:?}:\n{diff}"
        );
        for mark in ["opq", "dir"] {
            let marks = xattr_names(&fx.upper().join(mark)).unwrap();
            assert!(
                marks.contains(&b"user.overlay.opaque".to_vec()),
                "{mark}: {marks:?}"
            );
            assert!(
                !marks.iter().any(|n| n.starts_with(b"trusted.")),
                "{marks:?}"
            );
        }
    }
}
