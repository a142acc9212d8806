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

#[test]
fn nothing_is_leaked_whoever_is_killed() {
    let Some(c) = ready() else { return };
    let (points, seed) = (number("CAPAS_POINTS", 16), number("CAPAS_SEED", 1));
    let mut random = Random(seed);
    let context = context(&c);
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    for point in 0..points {
        let target = ["cli", "monitor", "driver", "runtime"][usize::try_from(point % 4).unwrap()];
        let during = ["run", "exec", "commit", "build"][usize::try_from(point / 4 % 4).unwrap()];
        let wait = Duration::from_millis(random.below(700));
        let mut asker = match during {
            "run" => quiet(
                &c,
                &[
                    "run",
                    "--name",
                    "box",
                    "box:1",
                    "sh",
                    "-c",
                    "echo x >/f; sleep 0.4",
                ],
            ),
            "commit" => {
                let script =
                    "dd if=/dev/urandom of=/f bs=1M count=32 2>/dev/null; echo up; sleep 1000";
                c.ok(&["run", "-d", "--name", "box", "box:1", "sh", "-c", script]);
                c.until("it is up", || c.ok(&["logs", "box"]) == "up\n");
                quiet(&c, &["commit", "box", "snap:1"])
            }
            "build" => quiet(&c, &["build", "--no-cache", "-t", "snap:1", &context]),
            _ => {
                c.ok(&["run", "-d", "--name", "box", "box:1", "sleep", "1000"]);
                quiet(&c, &["exec", "box", "sh", "-c", "echo x >/f; sleep 0.4"])
            }
        };
        std::thread::sleep(wait);
        if hit(&c, target, &asker) {
            *hits.entry(format!("{target} during {during}")).or_default() += 1;
        }
        let begun = Instant::now();
        while asker.try_wait().unwrap().is_none() {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "{target} {during} {wait:?}: it hangs"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        truthful(
            &c,
            &format!("{point}: {target} during {during} after {wait:?}"),
        );
        if matches!(during, "commit" | "build") {
            c.ok(&["check"]);
            c.run(&["rmi", "snap:1"]);
        }
        c.run(&["rm", "-f", "box"]);
        // One that was made after its name was looked for.
        for id in c.ok(&["ps", "-aq"]).lines() {
            c.ok(&["rm", "-f", id]);
        }
        c.ok(&["gc"]);
        c.assert_nothing_is_left();
    }
    eprintln!("kills that hit something, seed {seed}: {hits:?}");
    assert!(!hits.is_empty());
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
