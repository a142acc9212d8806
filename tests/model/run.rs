//! Runs a sequence on a mount and on a plain directory beside it, and compares.

use super::exec::Outcome;
use super::generate::{Generator, Scope};
use super::op::{Op, Verb};
use super::pair::Pair;
use super::setup::{Setup, setup};
use super::trees::{Numbers, compare_trees};
use crate::common::flatten::copy_tree;
use crate::common::live::{Mounted, Target};
use crate::common::tree::{DumpOptions, Mtime};

/// A random run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Determines the layers and the operations.
    pub seed: u64,
    /// How many operations.
    pub ops: usize,
    /// Who serves the mount.
    pub target: Target,
    /// Further mount options.
    pub opts: String,
    /// Compare the whole trees after so many operations.
    pub check_every: usize,
    /// Mount again after so many.
    pub remount_every: usize,
    /// At every remount, let kernel overlayfs serve the layers in between.
    pub cross: bool,
    /// Only what kernel overlayfs can keep with `userxattr`: no hard links, and
    /// renames of lower directories may be refused.
    pub userxattr: bool,
}

/// Abilities that runs do without, in turn: of a simple upper, whiteout devices,
/// ways to find files again, trusted marks.
const WITHOUT: [&str; 4] = [
    "disable=tmpfile+whiteout_rename+exchange+reflink",
    "disable=mknod",
    "disable=open_handles+openat2",
    "disable=trusted+mknod",
];

/// The options of a seed: of every six, two have all abilities. Only the layers of
/// every third seed (`setup`) have no trusted marks.
fn options(seed: u64, target: Target) -> &'static str {
    let turn = (seed / 3 % 6) as usize;
    match (target, seed % 3, turn) {
        (Target::Capasfs, 0 | 2, 3) => "",
        (Target::Capasfs, ..) => WITHOUT.get(turn).copied().unwrap_or_default(),
        _ => "",
    }
}

impl Config {
    /// The usual distances.
    pub fn new(seed: u64, ops: usize, target: Target) -> Self {
        Config {
            seed,
            ops,
            target,
            opts: options(seed, target).to_string(),
            check_every: 250,
            remount_every: 900,
            cross: false,
            userxattr: false,
        }
    }
}

/// What went wrong, and after what.
#[derive(Debug)]
pub struct Failure {
    /// Of the difference.
    pub what: String,
    /// All operations up to it, with what came of each on both sides.
    pub log: Vec<Op>,
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Operations.
    pub ops: usize,
    /// Those that succeeded.
    pub ok: usize,
    /// Whole-tree comparisons.
    pub checks: usize,
    /// Mounts after the first.
    pub remounts: usize,
    /// Comparisons with kernel overlayfs on the same layers.
    pub crosses: usize,
    /// Operations that the target may refuse and did.
    pub declined: usize,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, o: Stats) {
        self.ops += o.ops;
        self.ok += o.ok;
        self.checks += o.checks;
        self.remounts += o.remounts;
        self.crosses += o.crosses;
        self.declined += o.declined;
    }
}

/// Where the operations come from.
pub enum Source<'a> {
    /// The configuration's seed.
    Seed,
    /// A list.
    List(&'a [Op]),
}

/// The state of one run.
struct Run<'a> {
    config: &'a Config,
    setup: &'a Setup,
    mounted: Mounted,
    pair: Pair,
    numbers: Numbers,
    options: DumpOptions,
    stats: Stats,
    log: Vec<Op>,
}

/// Runs it on new layers.
pub fn run(config: &Config, source: &Source) -> Result<Stats, Failure> {
    let setup = setup(config, &[""]);
    let fail = |what| Failure {
        what,
        log: Vec::new(),
    };
    let mounted = match config.target {
        Target::Plain => {
            // The plain target is a copy of the reference, made by other means than flatten's.
            let plain = setup.fixture.path().join("plain");
            std::fs::create_dir(&plain).map_err(|e| fail(e.to_string()))?;
            copy_tree(&setup.reference, &plain, true);
            setup.fixture.try_mount(config.target, "").map_err(fail)?
        }
        t => setup.fixture.try_mount(t, &config.opts).map_err(fail)?,
    };
    let mut pair = Pair::new(mounted.path(), &setup.reference, setup.start, config.target);
    pair.redirects &= !config.userxattr;
    let mut run = Run {
        config,
        setup: &setup,
        mounted,
        pair,
        numbers: Numbers::new(config),
        options: DumpOptions {
            mtime: Mtime::NowFrom(setup.start),
            ..DumpOptions::default()
        },
        stats: Stats::default(),
        log: Vec::new(),
    };
    let result = match source {
        Source::Seed => run.generate(),
        Source::List(ops) => run.replay(ops),
    };
    run.stats.declined = run.pair.declined;
    let (stats, log) = (run.stats, std::mem::take(&mut run.log));
    run.pair.close_all();
    drop(run);
    match result {
        Ok(()) => match setup.fixture.lower_changes() {
            Some(c) => Err(Failure {
                what: format!("lower layers changed:\n{c}"),
                log,
            }),
            None => Ok(stats),
        },
        Err(what) => {
            let said = setup.fixture.daemon_log();
            let what = format!("{what}\n{said}");
            Err(Failure { what, log })
        }
    }
}

impl Run<'_> {
    fn generate(&mut self) -> Result<(), String> {
        let scope = Scope {
            no_user_marks: self.config.cross && self.config.target == Target::Overlay,
            no_links: self.config.userxattr,
            ..Scope::default()
        };
        let mut generator = Generator::new(self.config.seed, scope);
        self.event(Verb::Check)?;
        generator.learn(&self.setup.reference);
        for n in 1..=self.config.ops {
            let op = generator.next();
            let outcome = self.step(&op)?;
            generator.note(&op, &outcome);
            if n % self.config.remount_every == 0 {
                self.event(self.anew())?;
                generator.closed_all();
            } else if n % self.config.check_every == 0 {
                self.event(Verb::Check)?;
                generator.learn(&self.setup.reference);
            }
        }
        self.finish()
    }

    fn replay(&mut self, ops: &[Op]) -> Result<(), String> {
        for op in ops {
            if matches!(op.verb, Verb::Check | Verb::Remount | Verb::Cross) {
                self.event(op.verb)?;
            } else {
                let _outcome = self.step(op)?;
            }
        }
        self.finish()
    }

    fn anew(&self) -> Verb {
        if self.config.cross {
            Verb::Cross
        } else {
            Verb::Remount
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        self.event(Verb::Check)?;
        self.event(self.anew())?;
        self.pair.close_all();
        self.mounted.unmount();
        self.work_is_empty()
    }

    fn step(&mut self, op: &Op) -> Result<Outcome, String> {
        self.mounted.touch();
        self.log.push(op.clone());
        self.stats.ops += 1;
        let outcome = self.pair.apply(op)?;
        self.stats.ok += usize::from(outcome.is_ok());
        Ok(outcome)
    }

    /// A comparison or a new mount.
    fn event(&mut self, verb: Verb) -> Result<(), String> {
        self.mounted.touch();
        self.log.push(Op::new(verb));
        match verb {
            Verb::Check => self.check(),
            Verb::Cross => self.cross(),
            _ => {
                self.pair.close_all();
                self.mounted.unmount();
                self.work_is_empty()?;
                self.mounted.start()?;
                self.stats.remounts += 1;
                self.check().map_err(|e| format!("after remount: {e}"))
            }
        }
    }

    fn check(&mut self) -> Result<(), String> {
        self.stats.checks += 1;
        compare_trees(
            &self.setup.reference,
            self.mounted.path(),
            &self.options,
            &mut self.numbers,
            (self.config.target, self.config.target),
        )
    }

    /// Kernel overlayfs shows the same on the same layers; then the target again.
    fn cross(&mut self) -> Result<(), String> {
        self.pair.close_all();
        self.mounted.unmount();
        self.work_is_empty()?;
        let own = self.config.target;
        let other = match own {
            Target::Overlay => Target::Capasfs,
            _ => Target::Overlay,
        };
        self.mounted.remount_as(other);
        self.stats.crosses += 1;
        // Each keeps its own inode numbers.
        compare_trees(
            &self.setup.reference,
            self.mounted.path(),
            &self.options,
            &mut Numbers::new(self.config),
            (other, own),
        )
        .map_err(|e| format!("mounted by {other:?}: {e}"))?;
        self.mounted.remount_as(own);
        self.stats.remounts += 1;
        if self.config.userxattr && own == Target::Overlay {
            // It finds no lower file again in a user namespace.
            self.numbers = Numbers::new(self.config);
        }
        self.check().map_err(|e| format!("after {other:?}: {e}"))
    }

    fn work_is_empty(&self) -> Result<(), String> {
        if self.config.target != Target::Capasfs {
            return Ok(());
        }
        let dir = self.setup.fixture.work().join("work");
        match std::fs::read_dir(&dir) {
            Ok(entries) => {
                let left: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
                if left.is_empty() {
                    return Ok(());
                }
                Err(format!("left in workdir/work: {left:?}"))
            }
            Err(_) => Ok(()),
        }
    }
}

/// The shortest list that still fails, as far as `budget` reaches, with its failure.
pub fn shrink(config: &Config, ops: Vec<Op>, budget: std::time::Duration) -> (Vec<Op>, String) {
    let end = std::time::Instant::now() + budget;
    let fails = |list: &[Op]| run(config, &Source::List(list)).err().map(|f| f.what);
    let mut best = ops;
    let mut what = match fails(&best) {
        Some(w) => w,
        None => return (best, "does not fail when replayed".to_string()),
    };
    let mut part = best.len().div_ceil(2);
    while part > 0 && std::time::Instant::now() < end {
        let mut shrunk = false;
        let mut at = 0;
        while at < best.len() && std::time::Instant::now() < end {
            let mut list = best.clone();
            list.drain(at..(at + part).min(list.len()));
            if let Some(w) = fails(&list) {
                (best, what, shrunk) = (list, w, true);
            } else {
                at += part;
            }
        }
        if part == 1 && !shrunk {
            break;
        }
        part = if part == 1 { 1 } else { part.div_ceil(2) };
    }
    (best, what)
}
