//! From the command line to a mount that is served until it is gone.

use super::args::{Call, Typed, parse};
use super::attach::{Attached, Seat, attach};
use super::check::{Checked, check, connection};
use super::failure::Failure;
use super::log::{Sink, start};
use super::options::{Allow, MountSpec, interpret};
use super::table::help;
use crate::fuse;
use crate::sys::process::{self, Fork, NAME, Outcome, Report, Signals};
use crate::sys::{self, mount};
use crate::union::Union;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// How long a daemon that was asked to end serves those who still have files
/// open in the mount.
const GRACE: Duration = Duration::from_secs(5);

/// How many threads serve at most when nothing was said: as many as wait for the
/// disk at a time. Those that have nothing to do rest.
const THREADS: usize = 4;

/// How long the reader looks for the next request before it sleeps when nothing
/// was said: as long as a caller mostly takes to be woken and to ask again.
const BUSY_POLL: Duration = Duration::from_micros(50);

/// Where a caller has no other processor to run on, nothing comes meanwhile.
fn busy_poll() -> Duration {
    match std::thread::available_parallelism() {
        Ok(processors) if processors.get() == 1 => Duration::ZERO,
        _ => BUSY_POLL,
    }
}

/// The program `capasfs`; returns its exit code. It must be the process's
/// first doing: inherited descriptors are closed.
pub fn run(
    argv: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let done = match parse(argv) {
        Ok(Call::Help) => write_out(out, &help()),
        Ok(Call::Version) => {
            let text = format!("{NAME} {}\n", env!("CARGO_PKG_VERSION"));
            write_out(out, &text)
        }
        Ok(Call::Mount(typed)) => mount_and_serve(typed, err),
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => 0,
        Err(failure) => {
            say(err, &failure.text);
            failure.code
        }
    }
}

fn write_out(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::system(format!("standard output: {error}")))
}

/// Nobody is left to be told when this fails.
fn say(err: &mut dyn Write, text: &str) {
    let _ = writeln!(err, "{NAME}: {text}");
}

fn mount_and_serve(typed: Typed, err: &mut dyn Write) -> Result<(), Failure> {
    process::close_inherited(connection(Path::new(&typed.mountpoint)));
    let (spec, warnings) = interpret(typed)?;
    warnings.iter().for_each(|warning| say(err, warning));
    // Before another namespace is entered, which may have no such file.
    let device = mount::open_device();
    if let Some(namespace) = &spec.namespace {
        process::enter_mount_namespace(namespace).map_err(|error| {
            let namespace = namespace.display();
            Failure::mount(format!("cannot enter mount namespace {namespace}: {error}"))
        })?;
    }
    process::prepare_to_serve();
    if spec.fake {
        return open(&spec, err).map(drop);
    }
    if spec.foreground {
        return serve(&spec, device, err, None).map_err(|(failure, _)| failure);
    }
    // Nothing is opened before: a lock is known by the process that took it.
    match process::fork().map_err(|error| Failure::system(format!("cannot fork: {error}")))? {
        Fork::Parent(waiting) => match waiting.outcome() {
            Outcome::Ready => Ok(()),
            Outcome::Failed(code, text) => Err(Failure { code, text }),
            Outcome::Died(how) => Err(Failure::system(format!("the daemon did not start: {how}"))),
        },
        Fork::Child(report) => match serve(&spec, device, err, Some(report)) {
            Ok(()) => Ok(()),
            Err((failure, report)) => {
                // The parent says it, if it has not said "ready" already.
                if let Some(report) = report {
                    let _ = report.failed(failure.code, &failure.text);
                }
                process::exit_now(failure.code.into())
            }
        },
    }
}

/// Opens and checks all that the mount needs, and says what is odd about it.
fn open(spec: &MountSpec, err: &mut dyn Write) -> Result<(Checked, Sink), Failure> {
    let checked = check(spec)?;
    checked
        .warnings
        .iter()
        .for_each(|warning| say(err, warning));
    let sink = Sink::open(&spec.log)?;
    Ok((checked, sink))
}

/// A failure, and who is still to be told.
type Untold = (Failure, Option<Report>);

/// Mounts, says so, and serves until the mount is gone.
fn serve(
    spec: &MountSpec,
    device: sys::Result<OwnedFd>,
    err: &mut dyn Write,
    report: Option<Report>,
) -> Result<(), Untold> {
    let (running, seat, signals) = match begin(spec, device, err) {
        Ok(begun) => begun,
        Err(failure) => return Err((failure, report)),
    };
    if let Some(report) = report {
        // In this order: the caller may wait for the end of a pipe that we
        // would otherwise hold open.
        let told = process::detach_stdio()
            .map_err(Into::into)
            .and_then(|()| report.ready());
        if let Err(error) = told {
            // Whoever started us is gone and does not know of a mount.
            leave(seat.as_ref());
            return Err((Failure::system(error.to_string()), None));
        }
    }
    let watched = seat.clone();
    let watcher = std::thread::Builder::new().name("signals".into());
    let union = running.union();
    if let Err(error) = watcher.spawn(move || watch(&signals, watched.as_ref(), &union)) {
        log::warn!("signals will not be heard: {error}");
    }
    let served = running.run();
    if let Err(error) = served {
        log::error!("the connection to the kernel failed: {error}");
        leave(seat.as_ref());
        return Err((
            Failure::system(format!("connection to the kernel: {error}")),
            None,
        ));
    }
    Ok(())
}

fn begin(
    spec: &MountSpec,
    device: sys::Result<OwnedFd>,
    err: &mut dyn Write,
) -> Result<(fuse::Running, Option<Seat>, Signals), Failure> {
    let (checked, sink) = open(spec, err)?;
    if !spec.foreground {
        process::leave_session().map_err(|e| Failure::system(format!("setsid: {e}")))?;
    }
    // Before any thread is started, so that all of them have them blocked.
    let signals = Signals::block().map_err(|e| Failure::system(format!("signals: {e}")))?;
    start(sink, spec.level);
    let union = Union::open(checked.layers, &spec.options, spec.allowed)
        .map_err(|error| Failure::mount(error.to_string()))?;
    let Attached {
        device,
        allow,
        seat,
    } = attach(spec, checked.target, device)?;
    let settings = fuse::Settings {
        threads: spec.threads.unwrap_or(THREADS),
        busy_poll: spec.busy_poll.unwrap_or_else(busy_poll),
        allow: match allow {
            Some(Allow::RootAndOwner) => fuse::Allow::RootAndOwner,
            // Who else may come is then the kernel's decision: a mount
            // without allow_other is closed to others before we are asked.
            Some(Allow::All) | None => fuse::Allow::All,
        },
    };
    match fuse::serve(union, device, settings) {
        Ok(running) => Ok((running, seat, signals)),
        Err(error) => {
            leave(seat.as_ref());
            Err(Failure::mount(format!(
                "the kernel does not talk to us: {error}"
            )))
        }
    }
}

fn leave(seat: Option<&Seat>) {
    if let Some(seat) = seat {
        seat.leave();
    }
}

/// The first signal takes the mount out of the tree; if nobody uses it any
/// more, that ends the connection and with it the process. Otherwise a second
/// signal or the end of the grace does, and who still uses it gets `ENOTCONN`.
/// Copies under way are completed in any case.
fn watch(signals: &Signals, seat: Option<&Seat>, union: &Union) {
    let Ok(signal) = signals.wait() else { return };
    log::info!("signal {signal}: unmounting");
    leave(seat);
    let patience = if seat.is_some() {
        GRACE
    } else {
        Duration::ZERO
    };
    if !signals.again_within(patience) {
        log::warn!("ending while the mount is still in use");
    }
    union.settle();
    process::exit_now(0)
}
