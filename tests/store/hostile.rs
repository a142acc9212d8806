//! Archives whose members want to be somewhere or something else.
//!
//! What is known to be tried with images, and where it is held. Each attempt
//! ends in one clear line and leaves nothing in the store but what was there,
//! unless it is harmless here; nothing around the store changes either way.
//! `fuzz/` tries the same on the parsers with what nobody has thought of.
//!
//! | pattern | held by |
//! |---|---|
//! | `..`, absolute names, writing through symlinks | [`names_that_lead_out`], [`absolute_names_lie_in_the_layer`], [`symlinks_lead_nowhere_outside`]; fuzz `unpack` |
//! | the link in one layer, the writing in the next | [`links_of_a_lower_layer_lead_nowhere_outside`] |
//! | the root itself as something else | [`the_root_is_a_directory`] |
//! | several entries of one name | [`of_several_entries_the_last_wins_but_keeps_nothing_secret`] |
//! | hard links out of the tree, to directories, forwards | [`hard_links_lead_nowhere_outside`] |
//! | whiteouts of nothing, through symlinks, out of order | [`whiteouts_of_nothing`], `attributes::{whiteouts_hide_lower_layers_only_in_any_order, whiteouts_may_be_hard_links_of_one}` |
//! | devices 0:0 and private attributes in a layer | [`whiteouts_of_nothing`], `attributes::private_attributes_are_left_out` |
//! | redirects that lead out of a layer | `redirects_do_not_lead_out_of_their_layer` in `tests/semantics.rs`; fuzz `lookup` |
//! | set-id programs and devices in reach of the host's users | [`layers_cannot_be_reached_from_outside`] |
//! | owner and mode through a link | [`attributes_do_not_pass_through_links`] |
//! | what two programs read differently: PAX sizes, sparse files, texts, documents of two kinds | [`archives_that_programs_read_differently`], [`sparse_maps_that_lie`], `attributes::sparse_files_of_both_kinds_are_whole`, `corrupt::documents_of_two_kinds`; fuzz `layer`, `pax`, `documents` |
//! | bombs: ratio, entries, PAX records, attributes, depth, documents of many megabytes | [`names_that_lead_out`], `corrupt::{bombs, bombs_of_attributes_holes_and_members, counts_have_limits, ratios_have_limits}`; of a registry `faults::manifests_are_bounded_and_what_they_are_called` |
//! | streams that end early, are corrupt, or no archive | `corrupt::{truncated_and_corrupt_streams, any_change_of_a_header_is_an_error_or_another_layer}`; `faults::a_cut_download_goes_on_where_it_stopped` |
//! | programs in PATH or in the image | [`no_other_program_unpacks`] |
//! | `/etc/passwd` of an image as a link or a FIFO | `container::user` in the crate; fuzz `container` |
//! | wrong sizes and digests, digests that are none | `corrupt::digests_and_sizes_are_checked`, `faults::{blobs_are_what_their_descriptors_say, manifests_are_bounded_and_what_they_are_called}` |
//! | members and links that an archive's manifest names | `corrupt::names_in_manifests_are_names_of_members` |
//! | tokens and passwords for other hosts, or without TLS | `faults::{credentials_stay_with_the_host_they_are_for, nothing_secret_goes_without_tls, mirrors_are_asked_first_and_not_believed, layers_are_not_fetched_from_where_a_manifest_says}`; fuzz `registry` |
//! | redirects without end | `faults::redirects_have_an_end` |
//! | certificates of others, and TLS that goes on without | `tls::{a_certificate_for_another_host_is_refused, what_began_with_tls_is_not_continued_without}` |
//! | who changes the tree while it is unpacked | `display::who_swaps_a_tree_while_it_is_unpacked_gains_nothing` |
//! | a mount's target or `/dev` that the image made a link; a working directory or a volume that its configuration says | `bad_input::{mounts_through_links_stay_in_the_container, what_an_image_says_of_itself_stays_in_the_container}` in `tests/cli_run`, `container::workdir` and `container::volume` in the crate |
//! | a store that was changed behind our back | `check` |
//!
//! `corrupt`, `attributes` and `check` are beside this; `display`, `faults` and `tls` are
//! in `tests/registry`.

use super::support::*;
use std::fs;

#[test]
fn names_that_lead_out() {
    let b = Bench::new();
    let out = |name: &str| Tar::new().file(name, "x").end();
    b.layer_refused(&out("../outside/new"), "..");
    b.layer_refused(&out("a/../../outside/new"), "..");
    b.layer_refused(&out("a/b/.."), "..");
    let pax = |path: &[u8]| Tar::new().pax(&[("path", path)]).file("fine", "x").end();
    b.layer_refused(&pax(b"../outside/pax"), "..");
    b.layer_refused(&pax(b"a\0b"), "NUL");
    b.layer_refused(&pax("n".repeat(256).as_bytes()), "too long");
    b.layer_refused(&pax("d/".repeat(3000).as_bytes()), "path exceeds limit");
    b.layer_refused(&pax("d/".repeat(300).as_bytes()), "deep");
}

#[test]
fn absolute_names_lie_in_the_layer() {
    let b = Bench::new();
    let target = b.dir.path().join("outside/new");
    let layer = Tar::new().file(target.to_str().unwrap(), "x").end();
    b.image(&[layer]).unwrap();
    assert!(b.tree(0).join(target.strip_prefix("/").unwrap()).exists());
    b.untouched();
}

#[test]
fn symlinks_lead_nowhere_outside() {
    let b = Bench::new();
    let outside = b.dir.path().join("outside");
    let outside = outside.to_str().unwrap();
    let through = |target: &str| Tar::new().symlink("l", target).file("l/new", "x").end();
    // In the layer there is no such directory.
    b.layer_refused(&through(outside), "symlink");
    b.layer_refused(&through("../../../../outside"), "symlink");
    b.layer_refused(&through("l"), "symlink");
    let file = Tar::new()
        .file("f", "")
        .symlink("l", "f")
        .file("l/new", "x")
        .end();
    b.layer_refused(&file, "not a directory");
    b.layer_refused(&through("/proc/self/cwd"), "symlink");
    // A file through a symlink replaces the symlink, not what it leads to.
    let canary = format!("{outside}/canary");
    let layer = Tar::new().symlink("c", &canary).file("c", "mine").end();
    b.image(&[layer]).unwrap();
    assert_eq!(fs::read(b.tree(0).join("c")).unwrap(), b"mine");
    b.untouched();
    // Within the layer symlinks are followed as in a chroot.
    let layer = Tar::new()
        .dir("usr/lib/")
        .symlink("lib", "/usr/lib")
        .file("lib/x", "in")
        .end();
    b.image(&[layer]).unwrap();
    assert_eq!(fs::read(b.tree(0).join("usr/lib/x")).unwrap(), b"in");
}

#[test]
fn hard_links_lead_nowhere_outside() {
    let b = Bench::new();
    let canary = b.dir.path().join("outside/canary");
    let link = |target: &str| Tar::new().dir("d/").hardlink("h", target).end();
    b.layer_refused(&link(canary.to_str().unwrap()), "not in the image");
    b.layer_refused(&link("../outside/canary"), "..");
    b.layer_refused(&link("d"), "directory");
    b.layer_refused(&link("h"), "itself");
    b.layer_refused(&link("."), "root");
    b.layer_refused(&link("later"), "not in the image");
    let whiteout = Tar::new().file(".wh.w", "").hardlink("h", "w").end();
    b.layer_refused(&whiteout, "whiteout");
    b.layer_refused(&link("d/.wh.x"), "whiteout");
    // To a symlink: the symlink gets a second name; it is not followed.
    let layer = Tar::new()
        .symlink("s", canary.to_str().unwrap())
        .hardlink("h", "s")
        .file("h", "mine")
        .end();
    b.image(&[layer]).unwrap();
    b.untouched();
    // Through a symlink to a directory outside.
    let layer = Tar::new()
        .symlink("s", canary.parent().unwrap().to_str().unwrap())
        .hardlink("h", "s/canary")
        .end();
    b.layer_refused(&layer, "not in the image");
}

/// One archive makes the link, another one writes through it (CVE-2025-45582).
#[test]
fn links_of_a_lower_layer_lead_nowhere_outside() {
    let b = Bench::new();
    let outside = b.dir.path().join("outside");
    let canary = outside.join("canary");
    let base = Tar::new()
        .symlink("l", outside.to_str().unwrap())
        .symlink("c", canary.to_str().unwrap())
        .end();
    let on_base = |top: Vec<u8>| {
        let layers = [base.clone(), top];
        docker_archive(&layers, &diffs(&layers), &["x:1"])
    };
    let top = Tar::new()
        .file("l/new", "mine")
        .file("c", "mine")
        .hardlink("h", "c")
        .end();
    b.load(&on_base(top)).unwrap();
    let tree = b.tree(1);
    assert!(fs::symlink_metadata(tree.join("l")).unwrap().is_dir());
    assert_eq!(fs::read(tree.join("l/new")).unwrap(), b"mine");
    assert_eq!(fs::read(tree.join("h")).unwrap(), b"mine");
    b.untouched();
    let link = Tar::new().hardlink("h", "c").end();
    b.refused(&on_base(link), "that is no file");
    let through = Tar::new().hardlink("h", "l/canary").end();
    b.refused(&on_base(through), "not in the image");
    b.untouched();
}

/// What is found in PATH, or in an image, is not run (CVE-2019-14271,
/// CVE-2026-41567).
#[test]
fn no_other_program_unpacks() {
    let b = Bench::new();
    let (bin, ran) = (b.dir.path().join("bin"), b.dir.path().join("ran"));
    fs::create_dir(&bin).unwrap();
    for name in ["tar", "gzip", "unpigz", "igzip", "zstd", "xz", "bzip2"] {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n: >{}\n", ran.display())).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, mode).unwrap();
    }
    let layer = Tar::new().file("f", "x").end();
    for wrap in [gzip as fn(&[u8]) -> Vec<u8>, zstd] {
        let layers = std::slice::from_ref(&layer);
        let archive = docker_archive(&[wrap(&layer)], &diffs(layers), &["x:1"]);
        let path = b.write("program.tar.gz", &gzip(&archive));
        let load = std::process::Command::new(env!("CARGO_BIN_EXE_capas"))
            .arg("--root")
            .arg(b.store.root())
            .args(["load", "-q", "-i"])
            .arg(path)
            .env("PATH", &bin)
            .status();
        assert!(load.unwrap().success());
    }
    assert!(!ran.exists());
}

#[test]
fn the_root_is_a_directory() {
    let b = Bench::new();
    for name in [".", "./", "/", "./."] {
        let layer = Tar::new().symlink(name, "/").file("etc/x", "x").end();
        b.layer_refused(&layer, "root");
    }
    b.layer_refused(&Tar::new().file("./", "x").end(), "root");
    b.layer_refused(&Tar::new().hardlink(".", "x").end(), "root");
    let empty = Tar::new().pax(&[("path", b"")]).symlink("x", "/").end();
    b.layer_refused(&empty, "root");
    let later = Tar::new().dir("./").file("f", "").symlink("./", "/").end();
    b.layer_refused(&later, "root");
    // Attributes it may have; of several entries the last one's.
    let root = |mode| Entry {
        mode,
        ..entry("./", b'5')
    };
    let mut tar = Tar::new();
    tar.add(&root(0o700), b"").add(&root(0o755), b"");
    b.image(&[tar.end()]).unwrap();
}

/// The entry with attributes that nothing outside may get.
fn taken(e: Entry<'_>) -> Entry<'_> {
    Entry {
        mode: 0o4777,
        uid: 1,
        gid: 1,
        mtime: 7,
        ..e
    }
}

#[test]
fn attributes_do_not_pass_through_links() {
    let b = Bench::new();
    let canary = b.dir.path().join("outside/canary");
    let outside = b.dir.path().join("outside");
    let before = b.snapshot();
    let mut tar = Tar::new();
    for (name, target) in [("s", &canary), ("d", &outside)] {
        let link = Entry {
            link: target.to_str().unwrap().as_bytes(),
            ..entry(name, b'2')
        };
        tar.add(&taken(link), b"");
        // Another name of the symlink, with attributes of its own.
        let link = Entry {
            link: name.as_bytes(),
            ..entry(if name == "s" { "h" } else { "g" }, b'1')
        };
        tar.add(&taken(link), b"");
    }
    // A directory of the name of a symlink, which takes its place.
    tar.add(&taken(entry("d", b'5')), b"").file("d/new", "x");
    b.image(&[tar.end()]).unwrap();
    assert!(b.tree(0).join("d/new").exists());
    let outside = outside.to_str().unwrap();
    let of = |all: Vec<String>| -> Vec<String> {
        all.into_iter().filter(|l| l.starts_with(outside)).collect()
    };
    assert_eq!(of(b.snapshot()), of(before));
}

#[test]
fn layers_cannot_be_reached_from_outside() {
    let b = Bench::new();
    let mut tar = Tar::new();
    let program = Entry {
        mode: 0o4755,
        ..entry("su", b'0')
    };
    b.image(&[tar.add(&program, b"x").end()]).unwrap();
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions())
    };
    assert_eq!(mode(&b.tree(0).join("su")) & 0o7777, 0o4755);
    for dir in ["", "layers", "blobs", "tmp", "containers"] {
        assert_eq!(mode(&b.store.root().join(dir)) & 0o777, 0o700, "{dir}");
    }
}

#[test]
fn of_several_entries_the_last_wins_but_keeps_nothing_secret() {
    let b = Bench::new();
    let layer = Tar::new()
        .file("f", "first")
        .file("f", "last")
        .symlink("d", "/")
        .dir("d/")
        .file("d/in", "x")
        .dir("e/")
        .file("e", "file")
        .end();
    b.image(&[layer]).unwrap();
    assert_eq!(fs::read(b.tree(0).join("f")).unwrap(), b"last");
    assert!(b.tree(0).join("d/in").exists());
    assert!(fs::metadata(b.tree(0).join("e")).unwrap().is_file());
    let swap = Tar::new()
        .dir("d/")
        .file("d/f", "")
        .symlink("d", "/")
        .file("d/g", "")
        .end();
    b.layer_refused(&swap, "replace a directory");
}

#[test]
fn whiteouts_of_nothing() {
    let b = Bench::new();
    for name in [
        ".wh.",
        "d/.wh.",
        ".wh..",
        ".wh...",
        ".wh..wh.x",
        ".wh..wh..wh.",
        ".wh..wh.plnk",
    ] {
        b.layer_refused(&Tar::new().file(name, "").end(), "whiteout");
    }
    b.layer_refused(&Tar::new().dir(".wh.d/").end(), "whiteout");
    b.layer_refused(&Tar::new().file(".wh.f", "content").end(), "whiteout");
    b.layer_refused(&Tar::new().file(".wh.d/f", "").end(), "reserved");
    let link = |target: &str| {
        let mut tar = Tar::new();
        tar.file("f", "x").hardlink(".wh.w", target).end()
    };
    for target in ["f", "./f", "w", ".wh.d/f", "../outside/canary", "."] {
        b.layer_refused(&link(target), "whiteout");
    }
    let through = Tar::new()
        .dir("real/")
        .symlink("l", "real")
        .file("l/.wh.x", "")
        .end();
    b.layer_refused(&through, "symlink");
    let opaque = Tar::new()
        .dir("real/")
        .symlink("l", "real")
        .file("l/.wh..wh..opq", "")
        .end();
    b.layer_refused(&opaque, "symlink");
    let device = Tar::new().add(&entry("w", b'3'), b"").end();
    b.layer_refused(&device, "0:0");
}

#[test]
fn archives_that_programs_read_differently() {
    let b = Bench::new();
    // The size of the header against that of the PAX record: the record counts,
    // and what it hides from others is content here.
    let hidden = Tar::new().file("hidden", "evil").end();
    let mut tar = Tar::new();
    tar.pax(&[("size", hidden.len().to_string().as_bytes())]);
    tar.add(
        &Entry {
            size: Some(0),
            ..entry("outer", b'0')
        },
        &hidden,
    );
    b.image(&[tar.end()]).unwrap();
    assert!(!b.tree(0).join("hidden").exists());
    assert_eq!(fs::read(b.tree(0).join("outer")).unwrap(), hidden);

    let pax = |records: &[(&str, &[u8])]| Tar::new().pax(records).file("f", "x").end();
    for bad in ["-1", "x", "", "1 ", "99999999999999999999999"] {
        b.layer_refused(&pax(&[("size", bad.as_bytes())]), "bad PAX size");
        b.layer_refused(&pax(&[("uid", bad.as_bytes())]), "bad PAX uid");
    }
    b.layer_refused(&pax(&[("mtime", b"soon")]), "bad PAX time");
    b.layer_refused(&pax(&[("uid", b"4294967296")]), "too large");
    let raw = |data: &[u8]| {
        let mut tar = Tar::new();
        tar.add(&entry("pax", b'x'), data);
        tar.file("f", "x").end()
    };
    for data in [
        &b"nonsense"[..],
        b"99 path=short\n",
        b"11 path=a\n\n\n",
        b"9 path=a\n\0\0\0",
    ] {
        b.layer_refused(&raw(data), "PAX");
    }
    let mut global = Tar::new();
    global.add(&entry("g", b'g'), b"16 path=../evil\n");
    b.layer_refused(&global.file("f", "x").end(), "global");
    // Members without content that claim some.
    for kind in [b'1', b'2', b'5', b'6'] {
        let e = Entry {
            link: b"x",
            size: Some(512),
            ..entry("m", kind)
        };
        b.layer_refused(
            &Tar::new().file("x", "").add(&e, &[0; 512]).end(),
            "without content",
        );
    }
    let mut after = Tar::new().file("f", "x").end();
    after.extend_from_slice(&Tar::new().file("hidden", "evil").end());
    b.layer_refused(&after, "after the end");
    b.layer_refused(
        &Tar::new().add(&entry("v", b'V'), b"").end(),
        "not supported",
    );
}

#[test]
fn sparse_maps_that_lie() {
    let b = Bench::new();
    let sparse = |map: &str, size: &str, data: &str| {
        Tar::new()
            .pax(&[
                ("GNU.sparse.size", size.as_bytes()),
                ("GNU.sparse.map", map.as_bytes()),
            ])
            .file("s", data)
            .end()
    };
    b.layer_refused(&sparse("0,3", "2", "abc"), "leaves the file");
    b.layer_refused(&sparse("5,3,4,1", "100", "abcd"), "overlaps");
    b.layer_refused(&sparse("0,3", "100", "abcd"), "does not fit");
    b.layer_refused(
        &sparse("18446744073709551615,3", "100", "abc"),
        "leaves the file",
    );
    b.layer_refused(
        &sparse("0,3", "18446744073709551615", "abc"),
        "does not fit",
    );
    b.layer_refused(&sparse("0,3,9", "100", "abc"), "odd number");
    let many: Vec<String> = (0..20_001).map(|n| format!("{n},1")).collect();
    b.layer_refused(
        &sparse(&many.join(","), "90000", &"x".repeat(20_001)),
        "too many sparse",
    );
    // In the form 1.0 the map is the beginning of the content.
    let sparse = |name: &str, map: &str, size: &str, data: &str| {
        let mut content = map.as_bytes().to_vec();
        content.resize(content.len().next_multiple_of(512), 0);
        content.extend_from_slice(data.as_bytes());
        Tar::new()
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", name.as_bytes()),
                ("GNU.sparse.realsize", size.as_bytes()),
            ])
            .add(&entry("GNUSparseFile.1/s", b'0'), &content)
            .end()
    };
    let lie = |map, size, data, word| b.layer_refused(&sparse("s", map, size, data), word);
    lie("1\n0\n3\n", "2", "abc", "leaves the file");
    lie("2\n5\n3\n4\n1\n", "100", "abcd", "overlaps");
    lie("1\n0\n3\n", "100", "abcd", "does not fit");
    lie("2\n0\n3\n", "100", "abc", "bad tar archive");
    lie("x\n0\n3\n", "100", "abc", "bad tar archive");
    lie("1\n-1\n3\n", "100", "abc", "bad tar archive");
    lie(
        "1\n0\n18446744073709551616\n",
        "100",
        "abc",
        "bad tar archive",
    );
    lie(
        "1\n18446744073709551615\n3\n",
        "100",
        "abc",
        "leaves the file",
    );
    lie("99999999999\n", "100", "", "bad tar archive");
    lie("1\n0\n3", "100", "abc", "bad tar archive");
    lie(&"0\n".repeat(1 << 20), "100", "", "does not fit");
    b.layer_refused(&sparse("../outside/new", "1\n0\n3\n", "3", "abc"), "..");
}
