//! What is in use between kernel and daemon: on by default, off by `disable=`.
//! A silent fall back would change nothing that the other tests can see.

use super::ours;
use crate::common::fixture::Fixture;
use std::fs;
use std::os::unix::fs::FileExt;

/// What the daemon was asked and said while the same work was done.
struct Seen {
    agreed: String,
    log: String,
}

impl Seen {
    fn count(&self, what: &str) -> usize {
        let lines = self.log.lines().filter_map(|l| l.split_once(" debug: "));
        lines.filter(|(_, text)| text.starts_with(what)).count()
    }
}

/// Reads and writes large files, small ones and listings, three times each.
fn seen(options: &str) -> Option<Seen> {
    let spec = "/d/big file 0644 size=400000 data=@1\n/d/run file 0755 size=300000 data=@2";
    let options = format!("log_level=debug{options}");
    let (fx, mut m) = ours(|| Fixture::new().lower(spec), &options)?;
    fs::write(m.at("up"), vec![7; 200_000]).unwrap();
    for round in 0..3 {
        assert_eq!(fs::read(m.at("d/big")).unwrap().len(), 400_000);
        assert_eq!(fs::read(m.at("up")).unwrap().len(), 200_000);
        let f = fs::OpenOptions::new().write(true).open(m.at("up")).unwrap();
        f.write_all_at(b"again", round * 1000).unwrap();
        assert_eq!(fs::read_dir(m.at("d")).unwrap().count(), 2);
    }
    m.unmount();
    let log = fs::read_to_string(fx.path().join("daemon.log")).unwrap();
    let agreed = log.lines().find(|l| l.contains("agreed with the kernel"));
    let agreed = agreed.unwrap_or_else(|| panic!("{log}")).to_owned();
    Some(Seen { agreed, log })
}

const ABILITIES: [(&str, &str); 3] = [
    ("passthrough", "FUSE_PASSTHROUGH"),
    ("killpriv", "FUSE_HANDLE_KILLPRIV_V2"),
    ("no_opendir", "FUSE_NO_OPENDIR_SUPPORT"),
];

#[test]
fn all_is_in_use_by_default() {
    let Some(seen) = seen("") else { return };
    for (_, flag) in ABILITIES {
        assert!(seen.agreed.contains(flag), "{flag}: {}", seen.agreed);
    }
    assert_eq!(seen.count("read 0x"), 0, "{}", seen.log);
    assert_eq!(seen.count("write 0x"), 0, "{}", seen.log);
    // The first is how the kernel learns that no more are needed.
    assert!(seen.count("opendir 0x") <= 1, "{}", seen.log);
    assert_eq!(seen.count("releasedir 0x"), 0, "{}", seen.log);
    // Two files, opened seven times: each is registered once.
    assert!(seen.count("open 0x") >= 6, "{}", seen.log);
    assert_eq!(seen.count("passthrough for 0x"), 2, "{}", seen.log);
}

#[test]
fn each_is_off_when_disabled() {
    for (off, flag) in ABILITIES {
        let Some(seen) = seen(&format!(",disable={off}")) else {
            return;
        };
        for (name, other) in ABILITIES {
            let is_on = seen.agreed.contains(other);
            assert_eq!(is_on, name != off, "without {off}: {}", seen.agreed);
        }
        let past = off != "passthrough";
        assert_eq!(seen.count("read 0x") == 0, past, "{flag}: {}", seen.log);
        assert_eq!(seen.count("write 0x") == 0, past, "{flag}: {}", seen.log);
        let registered = seen.count("passthrough for 0x");
        assert_eq!(registered, if past { 2 } else { 0 }, "{flag}");
        let asks = off == "no_opendir";
        assert_eq!(seen.count("opendir 0x") >= 3, asks, "{flag}: {}", seen.log);
        assert_eq!(
            seen.count("releasedir 0x") > 0,
            asks,
            "{flag}: {}",
            seen.log
        );
    }
}

#[test]
fn as_many_threads_as_are_wanted() {
    let mut threads = Vec::new();
    for count in [1, 4] {
        let options = format!("threads={count}");
        let lower = || Fixture::new().lower("/d/f file data=\"x\"");
        let Some((_fx, mut m)) = ours(lower, &options) else {
            return;
        };
        std::thread::scope(|s| {
            for n in 0..8 {
                let dir = m.at(&format!("d{n}"));
                s.spawn(move || {
                    fs::create_dir(&dir).unwrap();
                    for i in 0..50 {
                        fs::write(dir.join(i.to_string()), "x").unwrap();
                    }
                });
            }
        });
        threads.push(m.daemon_status("Threads:"));
        m.remount();
        for n in 0..8 {
            assert_eq!(super::names(&m.at(&format!("d{n}"))).len(), 50);
        }
    }
    assert_eq!(threads[0] + 3, threads[1], "{threads:?}");
}
