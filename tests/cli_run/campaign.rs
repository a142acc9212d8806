//! kill -9 at random moments of a container's life: of the one who asked, the
//! monitor, the driver, the command. After each, the next `capas` tells what is
//! true, everything can be removed, and nothing stays behind. A short run; how
//! many are in CAPAS_POINTS, the seed in CAPAS_SEED (`scripts/kills`).

use super::harness::{Cli, ready};
use capas::sys::tree::{SIGKILL, kill};
use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

fn number(name: &str, otherwise: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(otherwise, |text| text.parse().unwrap())
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

fn quiet(c: &Cli, args: &[&str]) -> Child {
    let mut command = c.command(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Kill what is meant, if it is there; was it.
fn hit(c: &Cli, target: &str, asker: &Child) -> bool {
    let pids = match target {
        "cli" => vec![asker.id()],
        "monitor" => c.processes(&["monitor", c.root()]),
        "driver" => c.processes(&["lowerdir=", "../containers/"]),
        _ => c.processes(&["runc", "--root", "/run/capas/runtime"]),
    };
    // Another test's driver has other paths in it.
    let ours = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        target == "cli"
            || line.contains(c.root())
            || containers(c).iter().any(|id| line.contains(id))
    };
    let mut any = false;
    for pid in pids.into_iter().filter(ours) {
        any |= kill(pid, SIGKILL).is_ok();
    }
    any
}

fn containers(c: &Cli) -> Vec<String> {
    let dir = std::fs::read_dir(c.bench.store.containers()).unwrap();
    dir.flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

const TARGETS: [&str; 4] = ["cli", "monitor", "driver", "runtime"];
const DURING: [&str; 4] = ["run", "exec", "commit", "build"];
/// As often a pair is tried again that has hit nothing, from its beginning.
const TRIES: u64 = 20;

#[test]
fn nothing_is_lost_or_leaked_whoever_is_killed() {
    let Some(c) = ready() else { return };
    let (points, seed) = (number("CAPAS_POINTS", 16), number("CAPAS_SEED", 1));
    let mut random = Random(seed);
    let context = context(&c);
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = |target: &str, during: &str, hit: bool| {
        let so_far = hits.entry(format!("{target} during {during}")).or_default();
        *so_far += u64::from(hit);
        *so_far
    };
    for point in 0..points {
        let target = TARGETS[usize::try_from(point % 4).unwrap()];
        let during = DURING[usize::try_from(point / 4 % 4).unwrap()];
        let wait = Duration::from_millis(random.below(700));
        count(target, during, one(&c, target, during, &context, wait));
    }
    for (target, during) in TARGETS.iter().flat_map(|t| DURING.map(|d| (*t, d))) {
        for _ in 0..TRIES {
            if count(target, during, false) > 0 {
                break;
            }
            let wait = Duration::from_millis(random.below(20));
            count(target, during, one(&c, target, during, &context, wait));
        }
        assert!(count(target, during, false) > 0, "{target} during {during}");
    }
    eprintln!("kills that hit something, seed {seed}: {hits:?}");
}

/// What a container has before something happens to it.
fn with_something_in_it(c: &Cli) {
    let script = "echo kept >/kept; echo kept >/data/kept; echo up; sleep 1000";
    let args = ["run", "-d", "--name", "box", "-v", "kept:/data", "box:1"];
    c.ok(&[&args[..], &["sh", "-c", script]].concat());
    c.until("it is up", || c.ok(&["logs", "box"]) == "up\n");
}

/// That is all still there.
fn nothing_is_lost(c: &Cli, when: &str) {
    assert_eq!(c.ok(&["logs", "box"]), "up\n", "{when}");
    let to = c.bench.dir.path().join("copied");
    for file in ["box:/kept", "box:/data/kept"] {
        c.run(&["cp", file, to.to_str().unwrap()]);
        let text = std::fs::read_to_string(&to).unwrap_or_default();
        assert_eq!(text, "kept\n", "{when}: {file}");
        std::fs::remove_file(&to).unwrap();
    }
}

/// Kill `target` while something is done, after a while, as soon as it is there;
/// was it.
fn one(c: &Cli, target: &str, during: &str, context: &str, wait: Duration) -> bool {
    let mut asker = match during {
        "run" => {
            let args = ["run", "--name", "box", "box:1", "sh", "-c"];
            quiet(c, &[&args[..], &["echo x >/f; sleep 0.4"]].concat())
        }
        "commit" => {
            with_something_in_it(c);
            let more = "dd if=/dev/urandom of=/f bs=1M count=32 2>/dev/null";
            c.ok(&["exec", "box", "sh", "-c", more]);
            quiet(c, &["commit", "box", "snap:1"])
        }
        "build" => quiet(c, &["build", "--no-cache", "-t", "snap:1", context]),
        _ => {
            with_something_in_it(c);
            quiet(c, &["exec", "box", "sh", "-c", "echo x >/f; sleep 0.4"])
        }
    };
    std::thread::sleep(wait);
    let mut any = false;
    while !any && asker.try_wait().unwrap().is_none() {
        any = hit(c, target, &asker);
    }
    let when = format!("{target} during {during} after {wait:?}");
    let begun = Instant::now();
    while asker.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{when}: hangs");
        std::thread::sleep(Duration::from_millis(20));
    }
    truthful(c, &when);
    if matches!(during, "exec" | "commit") {
        nothing_is_lost(c, &when);
    }
    if matches!(during, "commit" | "build") {
        c.ok(&["check"]);
        c.run(&["rmi", "snap:1"]);
    }
    c.run(&["rm", "-f", "box"]);
    // One that was made after its name was looked for.
    for id in c.ok(&["ps", "-aq"]).lines() {
        c.ok(&["rm", "-f", id]);
    }
    c.run(&["volume", "rm", "kept"]);
    c.ok(&["gc"]);
    c.assert_nothing_is_left();
    any
}

/// What is built: one file that takes its time to be copied, and a command.
fn context(c: &Cli) -> String {
    let dir = c.bench.dir.path().join("context");
    std::fs::create_dir(&dir).unwrap();
    let text = "FROM box:1\nRUN sleep 0.3\nCOPY big /\nRUN cat /big > /f; sleep 0.3\n";
    std::fs::write(dir.join("Dockerfile"), text).unwrap();
    std::fs::write(dir.join("big"), vec![7; 1 << 20]).unwrap();
    dir.to_str().unwrap().to_owned()
}

/// What `ps` says of a container is so: "Up" has a process, all else has none.
fn truthful(c: &Cli, when: &str) {
    // It may be just about to start or to be written down.
    let settled = || {
        let told = c.ok(&["ps", "-a", "--format", "{{.State}}"]);
        let running = told.trim() == "running";
        let pid = if told.is_empty() { 0 } else { c.pid("box") };
        running == (pid != 0 && std::path::Path::new(&format!("/proc/{pid}")).exists())
    };
    c.until(when, settled);
}
