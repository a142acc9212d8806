//! What the daemon writes down of requests.

use super::{Mounted, Target, sh};
use crate::common::fixture::Fixture;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirEntryExt, MetadataExt};

/// A mount that logs, unless the target is none of ours.
fn logged(fx: &Fixture, options: &str) -> Option<Mounted> {
    let ours = crate::common::able_to_mount() && Target::from_env() == Target::Capasfs;
    ours.then(|| fx.mount(Target::Capasfs, options))
}

fn log(fx: &Fixture) -> Vec<String> {
    let text = fs::read_to_string(fx.path().join("daemon.log")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn at_debug_every_request_has_its_result() {
    let fx = Fixture::new().lower("/d/f file 0644 data=\"text\"\n/d/l symlink -> f\n/d/g file");
    let Some(mut m) = logged(&fx, "log_level=debug") else {
        return;
    };
    sh(
        &m,
        r#"cd "$1"; cat d/f; readlink d/l; ls -l d; ! cat d/none 2>&1; ! mkdir d 2>&1
        echo more >>d/f; echo new >d/new; sync d/new; sync d; chmod 600 d/f; mkdir e; mv d/f e/f
        ln e/f e/h; rm e/h; ln -s x e/s; mkfifo e/p; rmdir d/none 2>/dev/null || rm -r e
        setfattr -n user.a -v b d/g; getfattr -n user.a d/g; getfattr -d d/g; setfattr -x user.a d/g
        fallocate -l 8192 d/new; stat -f d; lsattr d/new"#,
    )
    .unwrap();
    m.unmount();
    let (mut asked, mut answered) = (BTreeMap::new(), BTreeMap::new());
    for line in log(&fx) {
        let text = line.split_once(" debug: ").map_or("", |(_, text)| text);
        let words: Vec<&str> = text.split_whitespace().collect();
        let request = text.starts_with("FUSE(").then(|| {
            let name = words.iter().skip_while(|w| **w != "ino").nth(2);
            name.unwrap_or(&"?")
                .to_lowercase()
                .replace("rename2", "rename")
        });
        if let Some(name) = request {
            *asked.entry(name).or_insert(0) += 1;
        } else if let Some(call) = text.strip_prefix("[Not Implemented] ") {
            let name = call.split('(').next().unwrap();
            *answered.entry(name.to_owned()).or_insert(0) += 1;
        } else if words.get(1).is_some_and(|w| w.starts_with("0x")) && text.contains(": ") {
            *answered.entry(words[0].to_owned()).or_insert(0) += 1;
        }
    }
    // Many nodes are forgotten by one request.
    for name in ["forget", "batchforget", "batch_forget", "init", "destroy"] {
        asked.remove(name);
        answered.remove(name);
    }
    assert_eq!(asked, answered);
    assert!(asked.len() > 20, "{asked:?}");
    let all = log(&fx).join("\n");
    assert!(all.contains("lookup 0x1 \"d\": ok"), "{all}");
    assert!(
        all.contains("\"none\": No such file or directory (os error 2)"),
        "{all}"
    );
}

#[test]
fn a_failure_that_is_not_the_callers_is_one_warning_with_its_path() {
    let fx = Fixture::new()
        .lower("/d/big file 0644 size=4000000 data=@3\n/d/small file data=\"x\"")
        .small_upper("1m");
    let Some(mut m) = logged(&fx, "") else {
        return;
    };
    let errno = |r: std::io::Result<()>| r.unwrap_err().raw_os_error();
    // The caller's own mistakes.
    assert_eq!(errno(fs::create_dir(m.at("d"))), Some(libc::EEXIST));
    assert_eq!(errno(fs::remove_dir(m.at("d"))), Some(libc::ENOTEMPTY));
    assert_eq!(errno(fs::remove_file(m.at("d/none"))), Some(libc::ENOENT));
    // And one that is none.
    let opened = fs::OpenOptions::new().append(true).open(m.at("d/big"));
    let told = if opened.is_ok() { "write" } else { "open" };
    let written = opened.and_then(|mut file| file.write_all(b"x"));
    assert_eq!(errno(written), Some(libc::ENOSPC));
    m.unmount();
    let warnings: Vec<String> = log(&fx)
        .into_iter()
        .filter(|l| l.contains(" warn: "))
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let line = &warnings[0];
    let want = format!(" warn: {told} /d/big: No space left on device (os error 28)");
    assert!(line.ends_with(&want), "{line}");
}

/// One process looks at what it lists, as `ls -l` of several directories does:
/// from the second on attributes come with the listing.
#[test]
fn who_looks_at_what_it_lists_needs_no_lookups() {
    let files: String = (0..60)
        .flat_map(|i| ["a", "b", "c"].map(|d| format!("/{d}/f{i} file 0640 data=\"{i}\"\n")))
        .collect();
    let more = "/b/l symlink -> f1\n/b/p fifo\n/b/s/x file\n/b/new file data=\"new\"\n";
    let fx = Fixture::new()
        .lower(&(files + more))
        .lower("/b/f0 file data=\"top\"\n/b/f1 whiteout");
    let Some(mut m) = logged(&fx, "log_level=debug") else {
        return;
    };
    let look = |dir: &str| -> Vec<_> {
        let all = fs::read_dir(m.at(dir)).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            assert_eq!(meta.ino(), entry.ino());
            (entry.file_name(), meta.len(), meta.mode(), meta.nlink())
        });
        all.collect()
    };
    assert_eq!(look("a").len(), 60);
    let listed = look("b");
    assert_eq!(listed.len(), 63);
    for (name, len, mode, nlink) in listed {
        let meta = fs::symlink_metadata(m.at("b").join(&name)).unwrap();
        assert_eq!(
            (len, mode, nlink),
            (meta.len(), meta.mode(), meta.nlink()),
            "{name:?}"
        );
    }
    assert_eq!(fs::read(m.at("b/f0")).unwrap(), b"top");
    assert!(!m.at("b/f1").exists());
    // Who only lists is given no attributes.
    let names = std::thread::spawn({
        let dir = m.at("c");
        move || fs::read_dir(dir).unwrap().count()
    });
    assert_eq!(names.join().unwrap(), 60);
    fs::remove_file(m.at("b/new")).unwrap();
    assert_eq!(look("b").len(), 62);
    assert_eq!(fs::read(m.at("c/f5")).unwrap(), b"5");
    let numbers = ["a", "b", "c"].map(|dir| fs::metadata(m.at(dir)).unwrap().ino());
    m.unmount();
    let all = log(&fx).join("\n");
    let [a, b, c] = numbers.map(|dir| all.matches(&format!("lookup {dir:#x} \"f")).count());
    assert!((1..60).contains(&a), "{a} lookups in the first directory");
    assert_eq!(
        (b, c),
        (1, 1),
        "of the name that is not there; of the one read"
    );
    assert_eq!(all.matches("not sent").count(), 0);
}

/// What is wrong with the layer stands in the line of the request.
#[test]
fn a_damaged_layer_is_one_line() {
    let spec = "/d/m file size=9 trusted.overlay.metacopy=\"\"\n\
                /d/r file size=9 trusted.overlay.metacopy=\"\" trusted.overlay.redirect=\"/../x\"";
    let fx = Fixture::new().lower(spec);
    let Some(mut m) = logged(&fx, "") else {
        return;
    };
    for (name, why) in [
        ("m", "(the metacopy \"m\" has no data below)"),
        ("r", "(a layer has a bad redirect: \"/../x\")"),
    ] {
        let before = log(&fx).len();
        let error = fs::metadata(m.at("d").join(name)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        let said = log(&fx).split_off(before);
        let want = format!("warn: lookup /d/{name}: Input/output error (os error 5) {why}");
        assert!(said.len() == 1 && said[0].ends_with(&want), "{said:?}");
    }
    m.unmount();
}

/// A small lower file's content is there with its first open; who writes it then,
/// or had it open before, sees what is written.
#[test]
fn small_lower_files_are_read_without_a_request() {
    let text = "text".repeat(2000);
    let fx = Fixture::new().lower(&format!(
        "/small file data=\"{text}\"\n/empty file\n/large file size=40000 data=@1\n/w file data=\"old\"\n"
    ));
    let Some(mut m) = logged(&fx, "log_level=debug") else {
        return;
    };
    for _ in 0..2 {
        assert_eq!(fs::read_to_string(m.at("small")).unwrap(), text);
        assert_eq!(fs::read(m.at("empty")).unwrap(), b"");
    }
    assert_eq!(fs::read(m.at("large")).unwrap().len(), 40_000);
    let before = fs::File::open(m.at("w")).unwrap();
    fs::write(m.at("w"), "newer").unwrap();
    assert_eq!(std::io::read_to_string(before).unwrap(), "newer");
    assert_eq!(fs::read_to_string(m.at("w")).unwrap(), "newer");
    let [small, large] = ["small", "large"].map(|name| fs::metadata(m.at(name)).unwrap().ino());
    m.unmount();
    let all = log(&fx).join("\n");
    let count = |what: &str, ino: u64| all.matches(&format!(" {what} {ino:#x}: ok")).count();
    if count("open", small) == 0 {
        return eprintln!("SKIPPED: the kernel opens files without asking");
    }
    let [small, large] = [small, large].map(|ino| count("read", ino));
    assert!(small == 0 && large > 0, "{small} and {large} reads");
    assert_eq!(all.matches("does not take content").count(), 0);
}

/// Many at once open, read and write small files that nobody has opened before.
#[test]
fn first_opens_beside_writes() {
    let spec: String = (0..200)
        .map(|n| format!("/f{n} file data=\"old\"\n"))
        .collect();
    let fx = Fixture::new().lower(&spec);
    let Some(m) = logged(&fx, "threads=4") else {
        return;
    };
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for n in 0..200 {
                    let text = fs::read_to_string(m.at(&format!("f{n}"))).unwrap();
                    assert!(text == "old" || text == "new", "{text:?}");
                }
            });
        }
        s.spawn(|| {
            for n in 0..200 {
                let file = fs::OpenOptions::new()
                    .write(true)
                    .open(m.at(&format!("f{n}")));
                file.unwrap().write_all(b"new").unwrap();
                assert_eq!(fs::read_to_string(m.at(&format!("f{n}"))).unwrap(), "new");
            }
        });
    });
    for n in 0..200 {
        assert_eq!(fs::read_to_string(m.at(&format!("f{n}"))).unwrap(), "new");
    }
}
