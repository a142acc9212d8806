//! capasfs behind mount(8), mount.fuse3, fstab, and for those who may not
//! mount by themselves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]
#![allow(clippy::print_stderr, clippy::print_stdout, dead_code)]

mod common;
mod mount_support;

use mount_support::{Tree, able_to_mount, ok, stderr};

/// A script in a mount namespace of its own in which `/usr/sbin` also has
/// mount.capasfs, and capasfs if PATH is not handed on.
fn with_links(tree: &Tree, script: &str) -> std::process::Output {
    let script = format!(
        "mkdir links; ln -s $capasfs links/mount.capasfs; ln -s $capasfs links/capasfs\n\
         mount -t overlay -o lowerdir=$PWD/links:/usr/sbin overlay /usr/sbin\n{script}"
    );
    std::fs::write(tree.path("script"), script).unwrap();
    tree.shell("exec unshare -m sh -ec '. ./script'")
}

#[test]
fn mount_t_fuse_capasfs() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    let out = with_links(
        &tree,
        "mount -t fuse.capasfs label m -o lowerdir=l1:l2,upperdir=u,workdir=w,noatime,nofail,_netdev,x-foo=1\n\
         ls m; grep -o 'm rw,noatime.* - fuse.capasfs label rw' /proc/self/mountinfo | wc -l\n\
         mount -o remount,ro m || echo code $?\n\
         grep -c 'fuse.capasfs label' /proc/self/mountinfo; umount m\n\
         mount -t fuse.capasfs label m -o lowerdir=/nonexistent || echo code $?\n",
    );
    let want = "one\ntwo\n1\ncode 32\n1\ncode 32\n";
    assert_eq!(ok(&out), want, "{}", stderr(&out));
    let said = stderr(&out);
    assert!(said.contains("umount it and mount it again"), "{said}");
    assert!(
        said.contains("lowerdir /nonexistent: no such directory"),
        "{said}"
    );
    tree.until_ended();
}

#[test]
fn mount_t_capasfs() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    let out = with_links(
        &tree,
        "o=lowerdir=l1:l2,upperdir=u,workdir=w\n\
         mount -f -t capasfs src m -o $o; echo fake: $(ls m)\n\
         mount -n -v -t capasfs src m -o $o >/dev/null; echo plain: $(ls m); umount m\n\
         mount -s -t capasfs src m -o $o,foo; echo sloppy: $(ls m); umount m\n\
         mount -r -t capasfs src m -o $o; grep -o ' /[^ ]*/m ro,' /proc/self/mountinfo | cut -d' ' -f3; umount m\n\
         mount -t capasfs.sub src m -o $o; echo subtype: $(ls m); umount m\n\
         mount -t capasfs src m -o $o,nosuch; umount m\n\
         mount -t capasfs src m -o lowerdir=none || echo code $?\n",
    );
    let want = "fake:\nplain: one two\nsloppy: one two\nro,\nsubtype: one two\ncode 32\n";
    assert_eq!(ok(&out), want, "{}", stderr(&out));
    let said = stderr(&out);
    assert_eq!(said.matches("unknown option ignored").count(), 1, "{said}");
    assert!(
        said.contains("nosuch") && said.contains("lowerdir none: no such directory"),
        "{said}"
    );
}

#[test]
fn fstab() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    std::fs::create_dir(tree.path("a b")).unwrap();
    std::fs::create_dir(tree.path("c,d")).unwrap();
    std::fs::write(tree.path("c,d/comma"), "").unwrap();
    let fstab = tree.text(
        "label @/m fuse.capasfs lowerdir=@/l1,lowerdir+=@/c\\,d,upperdir=@/u,workdir=@/w,\
         noauto,nofail,_netdev,x-systemd.automount,comment=x 0 0\n\
         label @/a\\040b capasfs lowerdir=@/l2,user,exec 0 0\n",
    );
    std::fs::write(tree.path("fstab"), fstab).unwrap();
    let out = with_links(
        &tree,
        "mount -T fstab $PWD/m; ls m; umount m\n\
         mount -T fstab \"$PWD/a b\"; ls 'a b'; grep -o 'nosuid,nodev' /proc/self/mountinfo | tail -1; umount 'a b'\n",
    );
    assert_eq!(
        ok(&out),
        "comma\none\ntwo\nnosuid,nodev\n",
        "{}",
        stderr(&out)
    );
}

/// Nothing leads up from the root of a bind mount.
#[test]
fn layers_that_overlap_behind_bind_mounts() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    let out = tree.shell(
        "cat >go <<'X'\n\
         mkdir -p a/sub/up a/sub/work a/sub/low 'b b'; mount --bind a/sub 'b b'\n\
         up=\"upperdir=b b/up,workdir=b b/work\"\n\
         $capasfs -o lowerdir=a,\"$up\" m; $capasfs -o lowerdir=a/sub/up,\"$up\" m\n\
         mkdir a/sub/up/in; $capasfs -o lowerdir=a/sub/up/in,\"$up\" m; rmdir a/sub/up/in\n\
         $capasfs -o lowerdir=a/sub/low:a/sub/up,\"$up\" m\n\
         $capasfs -o lowerdir=a/sub/low,\"$up\" m && umount m && echo fine\n\
         X\n\
         unshare -m sh go 2>&1 | sed \"s,$PWD/,,g\"",
    );
    let want = "capasfs: lowerdir a contains upperdir b b/up\n\
                capasfs: lowerdir a/sub/up is upperdir b b/up\n\
                capasfs: lowerdir a/sub/up/in is inside upperdir b b/up\n\
                capasfs: lowerdir a/sub/up is upperdir b b/up\n\
                fine\n";
    assert_eq!(ok(&out), want, "{}", stderr(&out));
}

/// Layers side by side are opened in one mount of their directory, but for what is
/// mounted or a symlink there.
#[test]
fn layers_side_by_side_that_are_mounts_and_symlinks() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    let out = tree.shell(
        "cat >go <<'X'\n\
         mkdir -p x/1 x/2 x/4 far other; ln -s ../far x/3\n\
         touch x/1/one x/2/hidden other/two far/three x/4/four; mount --bind other x/2\n\
         $capasfs -o lowerdir=x/1:x/2:x/3:x/4,upperdir=u,workdir=w m\n\
         ls m; touch m/two; ls u; umount m\n\
         X\n\
         unshare -m sh -e go 2>&1",
    );
    assert_eq!(ok(&out), "four\none\nthree\ntwo\ntwo\n", "{}", stderr(&out));
}

#[test]
fn another_mount_namespace() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    let out = with_links(
        &tree,
        "unshare -m sleep 60 & there=$!\n\
         while test $(readlink /proc/$there/ns/mnt) = $(readlink /proc/self/ns/mnt); do sleep 0.01; done\n\
         mount -N $there -t capasfs src $PWD/m -o lowerdir=$PWD/l1\n\
         echo here: $(ls m) there: $(nsenter -t $there -m ls $PWD/m)\n\
         nsenter -t $there -m umount $PWD/m; kill $there\n",
    );
    assert_eq!(ok(&out), "here: there: one\n", "{}", stderr(&out));
}

/// containerd runs it in this way for snapshots of type `fuse3.capasfs`.
#[test]
fn mount_fuse3_with_options_one_by_one() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    let options = tree.text("-o workdir=@/w -o upperdir=@/u -o lowerdir=@/l1:@/l2");
    ok(&tree.shell(&format!(
        "mount.fuse3 overlay {} {options} -t capasfs",
        tree.text("@/m")
    )));
    let line = tree.mounted("m").unwrap();
    assert!(line.contains(" - fuse.capasfs overlay rw"), "{line}");
    assert!(tree.path("m/one").exists() && tree.path("m/two").exists());
    ok(&tree.shell("fusermount3 -u m"));
}

/// mount.fuse3 mounts by itself and hands the connection over as /dev/fd/N.
#[test]
fn a_connection_that_is_mounted_already() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new();
    let options = tree.text("lowerdir=@/l1:@/l2,upperdir=@/u,workdir=@/w,drop_privileges");
    ok(&tree.shell(&format!("mount.fuse3 label m -o {options} -t capasfs")));
    assert!(tree.mounted("m").unwrap().contains(" - fuse"));
    assert_eq!(std::fs::read(tree.path("m/one")).unwrap(), b"one");
    ok(&tree.shell("umount m"));
}

/// Layers, a mountpoint and a node for nobody.
const FOR_NOBODY: &str =
    "mknod fuse c 10 229; chmod 666 fuse; chown -R 65534:65534 l1 l2 u w m; chmod 755 .";

/// A user in a user namespace mounts without help where /dev/fuse is open to
/// everybody, as it is on most systems.
#[test]
fn in_a_user_namespace() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new().prepared(FOR_NOBODY);
    let out = tree.shell(
        "cp $capasfs c; unshare -m sh -ec 'mount --bind fuse /dev/fuse\n\
         setpriv --reuid 65534 --regid 65534 --clear-groups unshare -Urm sh -ec \"\
         ./c -o lowerdir=l1:l2,upperdir=u,workdir=w m; ls m; echo new >m/new; cat u/new; umount m\"'",
    );
    assert_eq!(ok(&out), "one\ntwo\nnew\n", "{}", stderr(&out));
}

/// And without a namespace by fusermount3.
#[test]
fn a_user_with_fusermount3() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new().prepared(FOR_NOBODY);
    let out = tree.shell(
        "cp $capasfs c; unshare -m sh -ec 'mount --bind fuse /dev/fuse\n\
         as() { setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"; }\n\
         as ./c -o lowerdir=l1:l2,upperdir=u,workdir=w,noatime m; as ls m; as cat m/one m/two >c.out\n\
         grep -o \"nosuid,nodev,noatime\" /proc/self/mountinfo | tail -1\n\
         ls m 2>/dev/null || echo not for root; as fusermount3 -u m\n\
         ! as ./c -o lowerdir=l1,allow_other m'",
    );
    let want = "one\ntwo\nnosuid,nodev,noatime\nnot for root\n";
    assert_eq!(ok(&out), want, "{}", stderr(&out));
    assert!(
        stderr(&out).contains("user_allow_other"),
        "{}",
        stderr(&out)
    );
}

/// Files of users that have no number in the namespace are not copied up: the
/// copy would be somebody else's. Nobody's are.
#[test]
fn files_of_unmapped_owners_are_not_copied() {
    if !able_to_mount() {
        return;
    }
    let tree = Tree::new().prepared(
        "mknod fuse c 10 229; chmod 666 fuse; chmod 755 .; chown 100000:100000 u w m\n\
         chown 100000:100000 l1 l2; cd l1; for n in root group nobody; do echo $n >$n; done; mkdir dir; cd ..\n\
         chown 165534:165534 l1/nobody; chown 100000:0 l1/group; chmod 2755 l1/group; chmod 4755 l1/root",
    );
    let out = tree.shell(
        "cp $capasfs c; unshare -U sleep 60 & there=$!\n\
         until [ \"$(readlink /proc/$there/ns/user)\" != \"$(readlink /proc/self/ns/user)\" ]; do sleep 0.05; done\n\
         echo 0 100000 65536 >/proc/$there/uid_map; echo 0 100000 65536 >/proc/$there/gid_map\n\
         nsenter -t $there -U -S 0 -G 0 unshare -m sh -ec 'mount --bind fuse /dev/fuse\n\
         ./c -o lowerdir=l1:l2,upperdir=u,workdir=w m\n\
         for n in root group dir nobody; do chmod 700 m/$n || :; (echo more >>m/$n) || :; done; ls -n u; umount m' 2>&1\n\
         kill $there",
    );
    let text = ok(&out);
    for name in ["root", "group", "dir"] {
        let line = text.lines().find(|l| l.contains(&format!("m/{name}'")));
        let refused = line.is_some_and(|l| l.contains("Value too large"));
        assert!(refused, "{name}: {text}");
        assert!(
            !text.lines().any(|l| l.ends_with(&format!(" {name}"))),
            "{text}"
        );
    }
    let copied = text.lines().find(|l| l.ends_with(" nobody"));
    assert!(
        copied.is_some_and(|l| l.contains("-rwx------") && l.contains(" 65534 65534 ")),
        "{text}"
    );
}

/// What only a mount namespace of one's own can have.
#[test]
fn mounts_that_cannot_be_have_their_own_lines() {
    if !able_to_mount() {
        return;
    }
    for (prepare, options, code, want) in [
        (
            "mkdir w2; mount --bind w w2",
            "upperdir=u,workdir=w2",
            32,
            "upperdir u and workdir w2 are reached through different mounts",
        ),
        (
            "mount --bind . .; cd .; mount -o remount,bind,ro .",
            "upperdir=u,workdir=w",
            32,
            "upperdir u is on a read-only filesystem; leave it out or mount with ro",
        ),
        (
            "mount -t tmpfs none /dev",
            "upperdir=u,workdir=w",
            2,
            "cannot open /dev/fuse: No such file or directory (os error 2); \
             is FUSE in the kernel (modprobe fuse)?",
        ),
    ] {
        let tree = Tree::new();
        let out = tree.shell(&format!(
            "exec unshare -m sh -ec '{prepare}; cd $PWD; \
             $capasfs -o lowerdir=l1,{options} m 2>&1 || echo code $?'"
        ));
        assert_eq!(ok(&out), format!("capasfs: {want}\ncode {code}\n"));
        assert_eq!(tree.daemons("m").len(), 0);
    }
}
