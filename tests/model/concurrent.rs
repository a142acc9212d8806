//! Several threads at once: each with a subtree of its own and a model of it,
//! all of them with names of their own in one shared directory, and two that
//! fight for the same names, where only the errnos and the end are known.

use super::generate::{Generator, Scope};
use super::op::{Op, Verb};
use super::pair::Pair;
use super::rng::Rng;
use super::run::{Config, Failure, Stats};
use super::setup::setup;
use super::trees::{Numbers, compare_trees};
use crate::common::live::Mounted;
use crate::common::tree::{self, DumpOptions, Mtime, escape};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::path::Path;
use std::sync::Mutex;

const OWN: [&str; 4] = ["/t0", "/t1", "/t2", "/t3"];

/// Runs it: `config.ops` operations shared out among the threads, with a
/// remount after every `config.remount_every` of each.
pub fn run(config: &Config) -> Result<Stats, Failure> {
    let bases = [OWN[0], OWN[1], OWN[2], OWN[3], "/shared", "/chaos"];
    let layers = Config::new(config.seed * 3, config.ops, config.target);
    let setup = setup(&layers, &bases);
    let fail = |what: String| Failure {
        what,
        log: Vec::new(),
    };
    let mut mounted = setup
        .fixture
        .try_mount(config.target, &layers.opts)
        .map_err(fail)?;
    let options = DumpOptions {
        mtime: Mtime::NowFrom(setup.start),
        hide_names: vec!["chaos"],
        ..DumpOptions::default()
    };
    let chaos = DumpOptions {
        mtime: Mtime::Exact,
        ..DumpOptions::default()
    };
    let mut numbers = Numbers::new(&layers);
    let mut workers: Vec<Worker> = OWN
        .iter()
        .enumerate()
        .map(|(n, base)| {
            let scope = Scope {
                base: base[1..].into(),
                shared: Some(b"shared".to_vec()),
                suffix: format!("-w{n}"),
                ..Scope::default()
            };
            Worker {
                pair: Pair::new(mounted.path(), &setup.reference, setup.start, config.target),
                generator: Generator::new(config.seed * 10 + n as u64, scope),
                log: Vec::new(),
                ok: 0,
            }
        })
        .collect();
    let mut stats = Stats::default();
    let rounds = (config.ops / OWN.len() / config.remount_every).max(1);
    for round in 0..rounds {
        round_of(config, round, &mounted, &setup.reference, &mut workers)?;
        stats.ops += config.remount_every * OWN.len();
        let mut same = |mounted: &Mounted, when: &str| {
            compare_trees(
                &setup.reference,
                mounted.path(),
                &options,
                &mut numbers,
                (config.target, config.target),
            )
            .map_err(|e| fail(format!("{when} round {round}: {e}")))
        };
        same(&mounted, "after")?;
        let live = tree::dump(&mounted.path().join("chaos"), &chaos);
        mounted.remount();
        stats.remounts += 1;
        same(&mounted, "remounted after")?;
        stats.checks += 2;
        let again = tree::dump(&mounted.path().join("chaos"), &chaos);
        if let Some(diff) = tree::compare(&live, &again) {
            let what = format!("/chaos is another after a remount (- live, + then):\n{diff}");
            return Err(fail(what));
        }
    }
    stats.ok = workers.iter().map(|w| w.ok).sum();
    mounted.unmount();
    match setup.fixture.lower_changes() {
        Some(c) => Err(fail(format!("lower layers changed:\n{c}"))),
        None => Ok(stats),
    }
}

struct Worker {
    pair: Pair,
    generator: Generator,
    log: Vec<Op>,
    ok: usize,
}

/// All threads at once, then everything closed.
fn round_of(
    config: &Config,
    round: usize,
    mounted: &Mounted,
    reference: &Path,
    workers: &mut [Worker],
) -> Result<(), Failure> {
    let failed: Mutex<Option<Failure>> = Mutex::new(None);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        for n in 0..2u64 {
            let (failed, over) = (&failed, &over);
            let seed = config.seed * 100 + round as u64 * 2 + n;
            s.spawn(move || {
                let dir = mounted.path().join("chaos");
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    if let Err(what) = fight(&mut Rng::new(seed), &dir, 200) {
                        let log = Vec::new();
                        failed.lock().unwrap().get_or_insert(Failure { what, log });
                        return;
                    }
                }
            });
        }
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|w| {
                let failed = &failed;
                s.spawn(move || {
                    if let Err(what) = w.work(config.remount_every, mounted, reference) {
                        let log = std::mem::take(&mut w.log);
                        failed.lock().unwrap().get_or_insert(Failure { what, log });
                    }
                })
            })
            .collect();
        for t in threads {
            if t.join().is_err() {
                let what = "a thread panicked".to_string();
                let log = Vec::new();
                failed.lock().unwrap().get_or_insert(Failure { what, log });
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    failed.into_inner().unwrap().map_or(Ok(()), Err)
}

impl Worker {
    fn work(&mut self, ops: usize, mounted: &Mounted, reference: &Path) -> Result<(), String> {
        self.generator.learn(reference);
        for _ in 0..ops {
            mounted.touch();
            let op = self.generator.next();
            // What other threads do in the shared directory shows there.
            if op.path == b"shared" && op.verb != Verb::Mkdir {
                continue;
            }
            self.log.push(op.clone());
            let outcome = self.pair.apply(&op)?;
            self.ok += usize::from(outcome.is_ok());
            self.generator.note(&op, &outcome);
        }
        self.pair.close_all();
        self.generator.closed_all();
        Ok(())
    }
}

/// Operations on few names that another thread works on too: none may fail
/// for a reason that a plain directory would not give.
fn fight(rng: &mut Rng, dir: &Path, ops: usize) -> Result<(), String> {
    for _ in 0..ops {
        let mut name = || {
            let n = rng.below(8);
            let inner = rng.below(3);
            if inner == 0 {
                dir.join(format!("n{n}"))
            } else {
                dir.join(format!("n{n}")).join(format!("n{inner}"))
            }
        };
        let (a, b) = (name(), name());
        let what = rng.below(9);
        let flags = rng.one(&[
            RenameFlags::empty(),
            RenameFlags::NOREPLACE,
            RenameFlags::EXCHANGE,
        ]);
        let result = match what {
            0 => rustix::fs::mkdirat(CWD, &a, Mode::from_raw_mode(0o755)),
            1 => rustix::fs::unlinkat(CWD, &a, AtFlags::REMOVEDIR),
            2 => rustix::fs::unlinkat(CWD, &a, AtFlags::empty()),
            3 | 4 => rustix::fs::renameat_with(CWD, &a, CWD, &b, flags),
            5 => rustix::fs::linkat(CWD, &a, CWD, &b, AtFlags::empty()),
            6 => rustix::fs::chmodat(CWD, &a, Mode::from_raw_mode(0o750), AtFlags::empty()),
            7 => crate::common::sys::list(&a).map(drop),
            _ => {
                let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::open(&a, flags, Mode::from_raw_mode(0o640))
                    .and_then(|fd| rustix::io::write(fd, b"text").map(drop))
            }
        };
        match result {
            Ok(())
            | Err(
                Errno::NOENT
                | Errno::EXIST
                | Errno::NOTDIR
                | Errno::ISDIR
                | Errno::NOTEMPTY
                | Errno::INVAL
                | Errno::NXIO
                | Errno::PERM
                | Errno::LOOP
                | Errno::BADF,
            ) => {}
            Err(e) => {
                let (a, b) = (a.as_os_str(), b.as_os_str());
                use std::os::unix::ffi::OsStrExt;
                return Err(format!(
                    "operation {what} on {} and {} beside another thread: {e}",
                    escape(a.as_bytes()),
                    escape(b.as_bytes())
                ));
            }
        }
    }
    Ok(())
}
