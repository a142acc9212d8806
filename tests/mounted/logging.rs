//! What the daemon writes down of requests.

use super::{Mounted, Target, sh};
use crate::common::fixture::Fixture;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

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
