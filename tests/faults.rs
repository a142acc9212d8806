//! Every mutating operation, with each call that changes a file system, or that
//! opens, looks or reads, failing in turn, and with the process dying there.
//! Afterwards the tree must be the old one or the new one: live, after a
//! remount, and for whoever tries again; and the error is that of the call.
//!
//! Without arguments, some errors and the kill; `--all`: every error, once and
//! from then on, also with strict syncs and without each ability; a word
//! chooses the operations that contain it. Then the same in a user namespace,
//! where marks are `user.overlay.*`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]
#![allow(missing_docs)]

#[path = "faults/bed.rs"]
mod bed;
mod common;
mod direct;

use bed::{Bed, Op, all_ops, bed, before, view};
use capas::sys::Errno;
use capas::sys::fail::{self, Action};
use capas::union::options::Fsync;
use common::sys::in_user_namespace;
use common::tree::{Dump, compare};
use direct::{Rig, ops, variant::Variant};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

#[derive(Default, Clone)]
struct Count {
    errors: usize,
    kills: usize,
    /// The error was reported and all was done.
    done: usize,
    /// Times or counts differed.
    about: usize,
    calls: u64,
}

/// What the operation makes of the tree.
struct Expected {
    old: Dump,
    new: Dump,
    /// Calls that change something, and those that only read.
    calls: u64,
    reads: u64,
    index: usize,
    result: Result<(), Errno>,
    parts: bool,
}

type Look = fn(&Expected, &Dump) -> Result<bool, String>;

fn expect(op: &Op, variant: &Variant) -> Expected {
    let Bed { dir: _dir, rig } = bed(variant);
    before(&rig, op);
    let old = view(&rig);
    let index = rig.index().len();
    fail::arm(0, Action::Count);
    let result = rig.op(op.last());
    let calls = fail::disarm();
    let new = view(&rig);
    rig.remount();
    let again = view(&rig);
    if let Some(diff) = compare(&new, &again) {
        panic!("{}: without a fault, after a remount:\n{diff}", op.name());
    }
    let reads = {
        let Bed { dir: _dir, rig } = bed(variant);
        before(&rig, op);
        fail::arm_reads(0, Action::Count);
        let _ = rig.op(op.last());
        fail::disarm()
    };
    Expected {
        old,
        new,
        calls,
        reads,
        index: index.max(rig.index().len()),
        result,
        parts: op.parts,
    }
}

/// Old (false) or new (true), or what the mix is.
fn which(e: &Expected, got: &Dump) -> Result<bool, String> {
    let Some(from_new) = compare(&e.new, got) else {
        return Ok(true);
    };
    let Some(from_old) = compare(&e.old, got) else {
        return Ok(false);
    };
    Err(format!(
        "a mix: from old (-) to it (+)\n{from_old}from new (-) to it (+)\n{from_new}"
    ))
}

/// The same, but for what a fault that lasts, or death, may leave otherwise:
/// the modification time of a metacopy that was getting its data, and the
/// count of links while a temporary one cannot be removed.
fn about(e: &Expected, got: &Dump) -> Result<bool, String> {
    which(e, got).or_else(|mix| {
        let lax = |dump: &Dump| {
            let mut dump = dump.clone();
            for line in dump.lines.values_mut() {
                let (text, _) = line.split_once(" nlink is ").unwrap_or((line, ""));
                let words = text.split(' ');
                let kept = words.enumerate().filter(|(i, w)| {
                    let owner = e.parts && (*i == 1 || *i == 2 || w.starts_with("security."));
                    !owner && !w.starts_with("mtime=") && !w.starts_with("nlink=")
                });
                *line = kept.map(|(_, w)| w).collect::<Vec<_>>().join(" ");
            }
            dump
        };
        let (old, new, now) = (lax(&e.old), lax(&e.new), lax(got));
        let state = match (compare(&new, &now), compare(&old, &now)) {
            (None, _) => true,
            (_, None) => false,
            _ => return Err(mix),
        };
        ABOUT.fetch_add(1, SeqCst);
        Ok(state)
    })
}

static ABOUT: AtomicUsize = AtomicUsize::new(0);

/// After a fault: everything that must hold of the directories.
fn aftermath(
    e: &Expected,
    op: &Op,
    rig: &Rig,
    live: Option<bool>,
    look: Look,
) -> Result<bool, String> {
    rig.remount();
    let state = look(e, &view(rig)).map_err(|m| format!("after a remount: {m}"))?;
    if live.is_some_and(|l| l != state) && compare(&e.old, &e.new).is_some() {
        return Err(format!("new live: {live:?}, after a remount: {state}"));
    }
    if rig.index().len() > e.index {
        return Err(format!("index: {:?}", rig.index()));
    }
    if !state {
        let again = rig.op(op.last());
        if again.map_err(ops::name_of) != e.result.map_err(ops::name_of) {
            return Err(format!("tried again: {again:?}"));
        }
        match look(e, &view(rig)) {
            Ok(true) => {}
            other => return Err(format!("tried again: {other:?}")),
        }
    }
    rig.close();
    if !rig.leftovers().is_empty() {
        return Err(format!("in the work directory: {:?}", rig.leftovers()));
    }
    match rig.lowers_changed() {
        Some(diff) => Err(format!("a lower was changed:\n{diff}")),
        None => Ok(state),
    }
}

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    Changing,
    Reading,
}

/// One error at one point.
fn error_at(
    e: &Expected,
    op: &Op,
    variant: &Variant,
    (calls, n): (Calls, u64),
    action: Action,
) -> Result<bool, String> {
    let Bed { dir: _dir, rig } = bed(variant);
    before(&rig, op);
    match calls {
        Calls::Changing => fail::arm(n, action),
        Calls::Reading => fail::arm_reads(n, action),
    }
    let result = rig.op(op.last());
    fail::disarm();
    let (Action::Error(injected) | Action::ErrorFrom(injected)) = action else {
        return Err("no error".into());
    };
    if let Err(got) = result
        && got != injected
        && e.result != Err(got)
        && op.last() != "remount"
    {
        return Err(format!("gave {got:?}"));
    }
    if !rig.is_open() {
        // The mount failed, and is tried again.
        rig.open()?;
    }
    let single = matches!(action, Action::Error(_));
    // In the fixture these are metacopies.
    let meta = op.name().contains("/merged/meta") || op.name().contains("/k");
    // Nothing brings back the data that is cut off in the copy.
    let cut = op.parts && op.last().contains("trunc /low");
    let look: Look = if single && !meta && !cut {
        which
    } else {
        about
    };
    let live = look(e, &view(&rig)).map_err(|m| format!("gave {result:?}, live: {m}"))?;
    if result.is_ok() && e.result.is_ok() && !live {
        return Err("reported success, but nothing is done".into());
    }
    if op.last() != "remount" && single && !live && compare(&e.old, &e.new).is_some() {
        // The same caller may try again at once.
        let again = rig.op(op.last());
        if again.is_err() && e.result.is_ok() {
            return Err(format!("live, tried again: {again:?}"));
        }
        look(e, &view(&rig))
            .and_then(|new| new.then_some(()).ok_or("still old".into()))
            .map_err(|m| format!("live, tried again: {m}"))?;
        rig.remount();
        return look(e, &view(&rig))
            .and_then(|new| new.then_some(false).ok_or("old".into()))
            .map_err(|m| format!("tried again, after a remount: {m}"))
            .and_then(|_| {
                rig.close();
                match (rig.lowers_changed(), rig.leftovers().as_slice()) {
                    (None, []) => Ok(false),
                    other => Err(format!("{other:?}")),
                }
            });
    }
    aftermath(e, op, &rig, Some(live), look).map(|_| live && result.is_err())
}

/// Death at one point. False if the operation ended before.
fn kill_at(e: &Expected, op: &Op, variant: &Variant, n: u64) -> Result<bool, String> {
    let Bed { dir, rig } = bed(variant);
    let status = Command::new(std::env::current_exe().unwrap())
        .env("CAPAS_FAULT_DIR", dir.path())
        .env("CAPAS_FAULT_OP", op.name())
        .env("CAPAS_FAULT_VARIANT", &variant.name)
        .env("CAPAS_FAIL", format!("{n}:kill"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    if status.success() {
        return Ok(false);
    }
    assert_eq!(status.code(), None, "killed, not failed");
    rig.open()?;
    aftermath(e, op, &rig, None, about).map(|_| true)
}

/// The process that dies.
fn child(dir: &Path) {
    let name = std::env::var("CAPAS_FAULT_OP").unwrap();
    let variant = variant(&std::env::var("CAPAS_FAULT_VARIANT").unwrap());
    let op = all_ops().into_iter().find(|o| o.name() == name).unwrap();
    let rig = Rig::new(dir, variant.options.clone(), variant.features);
    before(&rig, &op);
    fail::arm_from_env();
    // Its error is not what is looked at.
    let _ = rig.op(op.last());
    fail::disarm();
}

fn variant(name: &str) -> Variant {
    let mut v = Variant::named(name);
    if v.options.fsync == Fsync::Volatile {
        v.options.fsync = Fsync::Auto;
    }
    v
}

/// All points of one operation, in this process: the counter is global.
fn errors_of(op: &Op, variant: &Variant, actions: Actions) -> (Count, Vec<String>) {
    let e = expect(op, variant);
    let mut count = Count {
        calls: e.calls,
        ..Count::default()
    };
    let mut wrong = Vec::new();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let open = descriptors();
    let ends = |a: &Action| matches!(a, Action::Error(_)) || in_one_call(&variant.name, op);
    let changing = (1..=e.calls).flat_map(|n| {
        let these = actions.of(n).into_iter().filter(ends);
        these.map(move |action| (Calls::Changing, n, action))
    });
    let reading = (1..=e.reads).flat_map(|n| {
        let these = actions.of_reading(n).into_iter();
        these.map(move |action| (Calls::Reading, n, action))
    });
    for (calls, n, action) in changing.chain(reading) {
        count.errors += 1;
        match error_at(&e, op, variant, (calls, n), action) {
            Ok(done) => count.done += usize::from(done),
            Err(text) => wrong.push(format!(
                "{} [{}], {action:?} at {calls:?} call {n} of {} and {}: {text}",
                op.name(),
                variant.name,
                e.calls,
                e.reads
            )),
        }
    }
    if descriptors() != open {
        let text = format!("{}: {} descriptors, then {open}", op.name(), descriptors());
        wrong.push(text);
    }
    (count, wrong)
}

fn kills_of(op: &Op, variant: &Variant) -> (Count, Vec<String>) {
    let e = expect(op, variant);
    let mut count = Count::default();
    let mut wrong = Vec::new();
    for n in 1.. {
        match kill_at(&e, op, variant, n) {
            Ok(false) => break,
            Ok(true) => {}
            Err(text) => wrong.push(format!(
                "{} [{}], killed at call {n} of {}: {text}",
                op.name(),
                variant.name,
                e.calls
            )),
        }
        count.kills += 1;
    }
    (count, wrong)
}

const ERRORS: [Errno; 6] = [
    Errno::IO,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::ROFS,
    Errno::NOMEM,
    Errno::MFILE,
];

/// Which errors each call meets: all of them, or a few that take turns.
#[derive(Clone, Copy)]
struct Actions {
    all: bool,
}

impl Actions {
    /// Of call number `n` of those that change something.
    fn of(self, n: u64) -> Vec<Action> {
        if self.all {
            let from = ERRORS.into_iter().map(Action::ErrorFrom);
            return ERRORS.into_iter().map(Action::Error).chain(from).collect();
        }
        if in_user_namespace() {
            // Whose marks are of another family; all else is as it is for root.
            return vec![Action::Error(Errno::IO)];
        }
        let turn = match n % 3 {
            0 => Action::Error(Errno::DQUOT),
            1 => Action::ErrorFrom(Errno::ROFS),
            _ => Action::Error(Errno::MFILE),
        };
        vec![
            Action::Error(Errno::IO),
            Action::ErrorFrom(Errno::NOSPC),
            turn,
        ]
    }

    /// Of those that only read.
    fn of_reading(self, n: u64) -> Vec<Action> {
        let both = [Errno::IO, Errno::MFILE].map(Action::Error);
        match (self.all, n % 2) {
            (true, _) => both.to_vec(),
            (false, turn) => both.into_iter().skip(turn as usize).take(1).collect(),
        }
    }
}

const VARIANTS: &[&str] = &[
    "tmpfile",
    "whiteout_rename",
    "exchange",
    "mknod",
    "metacopy=off",
    "index=off",
    "redirect_dir=off",
    "userxattr",
];

/// Without these abilities a rename is several calls, between which nobody may
/// die and errors must end, so that its steps can be taken back.
fn in_one_call(variant: &str, op: &Op) -> bool {
    !["exchange", "whiteout_rename", "mknod"].contains(&variant) || !op.last().starts_with("rename")
}

fn main() -> ExitCode {
    if let Some(dir) = std::env::var_os("CAPAS_FAULT_DIR") {
        child(Path::new(&dir));
        return ExitCode::SUCCESS;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    if !direct::able() {
        return ExitCode::SUCCESS;
    }
    let all = args.iter().any(|a| a == "--all");
    let part = args.iter().find_map(|a| a.strip_prefix("--errors-of="));
    let only = args.iter().find(|a| !a.starts_with("--"));
    let ops = all_ops();
    if let Some(part) = part {
        // A process of its own for the global counter.
        let (index, name) = part.split_once(':').unwrap();
        let op = &ops[index.parse::<usize>().unwrap()];
        let (count, wrong) = errors_of(op, &variant(name), Actions { all });
        eprintln!("{}", wrong.join("\n"));
        let about = ABOUT.load(SeqCst);
        let Count {
            errors,
            done,
            calls,
            ..
        } = count;
        println!("{errors} {done} {calls} {about}");
        return ExitCode::from(u8::from(!wrong.is_empty()));
    }
    let mut variants = vec!["default"];
    if !in_user_namespace() {
        variants.extend(["lazy", "fsync=strict"]);
    }
    if all && !in_user_namespace() {
        variants.extend(VARIANTS);
    }
    let jobs: Vec<(usize, &str, bool)> = variants
        .iter()
        .flat_map(|v| (0..ops.len()).flat_map(move |i| [(i, *v, true), (i, *v, false)]))
        .filter(|(i, v, errors)| *errors || in_one_call(v, &ops[*i]))
        // Which are other ways for copies only.
        .filter(|(i, v, _)| *v == "default" || all || ops[*i].name().contains("write /"))
        // What was written before death is lost there while the copy lasts
        // (tests/lazy.rs).
        .filter(|(i, v, errors)| *v != "lazy" || *errors || !ops[*i].name().contains(" ; "))
        .filter(|(i, ..)| only.is_none_or(|o| ops[*i].name().contains(o.as_str())))
        .collect();
    let next = AtomicUsize::new(0);
    let total = Mutex::new((Count::default(), Vec::<String>::new()));
    let worker = || {
        while let Some((i, v, errors)) = jobs.get(next.fetch_add(1, SeqCst)) {
            let (count, wrong) = if *errors {
                errors_apart(*i, v, all)
            } else {
                kills_of(&ops[*i], &variant(v))
            };
            let mut total = total.lock().unwrap();
            total.0.errors += count.errors;
            total.0.done += count.done;
            total.0.kills += count.kills;
            total.0.calls += count.calls;
            total.0.about += count.about;
            for text in wrong {
                eprintln!("{text}\n");
                total.1.push(text);
            }
        }
    };
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(worker);
        }
    });
    let (count, wrong) = total.into_inner().unwrap();
    eprintln!(
        "{} operations, {} variants: {} calls, {} error points ({} reported though done), {} kill points ({} with a time or count of its own), {} mixed or wrong",
        ops.len(),
        variants.len(),
        count.calls,
        count.errors,
        count.done,
        count.kills,
        count.about + ABOUT.load(SeqCst),
        wrong.len()
    );
    if !wrong.is_empty() {
        return ExitCode::FAILURE;
    }
    if !in_user_namespace() && common::able_to_mount() {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        eprint!("{}", common::namespace::succeeds(&args, &[]));
    }
    ExitCode::SUCCESS
}

fn errors_apart(index: usize, variant: &str, all: bool) -> (Count, Vec<String>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(format!("--errors-of={index}:{variant}"));
    if all {
        command.arg("--all");
    }
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let mut numbers = text.split_whitespace().map(|n| n.parse::<usize>().unwrap());
    let mut next = || numbers.next().unwrap_or_default();
    let count = Count {
        errors: next(),
        done: next(),
        calls: next() as u64,
        about: next(),
        kills: 0,
    };
    let wrong = if out.status.success() {
        Vec::new()
    } else {
        vec![String::from_utf8_lossy(&out.stderr).into_owned()]
    };
    (count, wrong)
}
