//! The commands, one file each. A command gets the parsed arguments and where
//! to write; everything it knows it asks the store and the containers.

pub mod args;
pub mod attach;
pub mod build;
pub mod check;
pub mod commit;
pub mod completion;
pub mod containers;
pub mod cp;
pub mod create;
pub mod df;
pub mod diff;
mod dockerconf;
pub mod doctor;
pub mod exec;
pub mod export;
pub mod filter;
mod flags;
pub mod format;
pub mod gc;
pub mod groups;
pub mod history;
mod idfile;
pub mod image_prune;
pub mod images;
pub mod import;
pub mod info;
pub mod inspect;
pub mod interrupt;
pub mod kill;
pub mod layers;
mod limits;
pub mod load;
pub mod login;
pub mod logout;
pub mod logs;
pub mod man;
pub mod outfile;
mod platform;
pub mod port;
pub mod progress;
pub mod prune;
pub mod ps;
pub mod ps_filter;
pub mod pull;
pub mod push;
pub mod rename;
pub mod rmi;
pub mod run;
pub mod save;
pub mod search;
pub mod start;
pub mod stop;
pub mod sweep;
pub mod table;
pub mod tag;
pub mod template;
mod typed;
pub mod units;
pub mod version;
pub mod volume;
pub mod wait;
pub mod words;

use crate::config::Config;
use crate::container::{Containers, exec as keeper, monitor};
use crate::store::{Error, Store};
use crate::sys::creds;
use args::{Cli, Command};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

/// Where a command writes.
pub struct Output<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Complaints.
    pub err: &'a mut dyn Write,
}

/// How a command failed.
#[derive(Debug)]
pub enum Failure {
    /// What it was asked to do did not work.
    Error(Error),
    /// The result could not be written.
    Output(std::io::Error),
    /// It has said so itself; the exit code.
    Said(u8),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Error(e)
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Failure::Output(e)
    }
}

/// What commands return: an exit code.
pub type Outcome = Result<u8, Failure>;

/// Run the program with these arguments; returns its exit code.
pub fn main(args: impl Iterator<Item = OsString>, output: &mut Output<'_>) -> u8 {
    let args: Vec<OsString> = args.collect();
    if let [_, command, rest @ ..] = args.as_slice()
        && command == monitor::COMMAND
    {
        return monitor::main(rest);
    }
    if let [_, command, _] = args.as_slice()
        && command == keeper::KEEP_TERMINAL
    {
        return keeper::keep_terminal();
    }
    let cli = match flags::parse(&args) {
        Ok(cli) => Cli {
            command: cli.command.short(),
            ..cli
        },
        Err(e) => return usage(&e, &args, output),
    };
    let runs = matches!(cli.command, Command::Run(_));
    let only_shows = cli.command.only_shows();
    match dispatch(cli, output).and_then(|code| {
        output.out.flush()?;
        Ok(code)
    }) {
        Ok(code) => code,
        // Whoever read our output has seen enough. Of what was to be done, though,
        // it is not known whether all was.
        Err(Failure::Output(e)) if only_shows && e.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(failure) => {
            let (code, text) = match failure {
                Failure::Said(code) => return code,
                Failure::Output(e) => (1, format!("cannot write the result: {e}")),
                Failure::Error(e @ Error::Start { code, .. }) if code != 125 => {
                    (code, e.to_string())
                }
                // Our own failures must be told from the command's.
                Failure::Error(e) => (if runs { 125 } else { 1 }, e.to_string()),
            };
            // What was done before is to be seen before.
            let _ = output.out.flush();
            let _ = writeln!(output.err, "Error: {text}");
            code
        }
    }
}

fn usage(e: &clap::Error, args: &[OsString], output: &mut Output<'_>) -> u8 {
    let to = if e.use_stderr() {
        &mut output.err
    } else {
        &mut output.out
    };
    let _ = write!(to, "{}", e.render());
    match (e.use_stderr(), args.iter().any(|a| a == "run")) {
        (false, _) => 0,
        (true, true) => 125,
        (true, false) => 1,
    }
}

fn dispatch(cli: Cli, output: &mut Output<'_>) -> Outcome {
    // These need no store.
    match &cli.command {
        Command::Completion(args) => return completion::completion(args, output),
        Command::Man(args) => return man::man(args),
        Command::Version(args) => return version::version(args, output),
        _ => {}
    }
    let config = Config::load()?;
    match &cli.command {
        Command::Login(args) => return login::login(&config, args, output),
        Command::Logout(args) => return logout::logout(args, output),
        Command::Search(args) => return search::search(&config, args, output),
        _ => {}
    }
    let root = cli.root.map_or_else(|| default_root(&config), Ok)?;
    let store = Store::open(&root)?;
    let runtime = cli.runtime.as_deref().or(config.runtime.as_deref());
    let containers = Containers::new(&store);
    match cli.command {
        Command::Check(args) => check::check(&containers, &args, output),
        Command::ContainerPrune(args) => sweep::containers(&containers, &args, output),
        Command::Doctor => doctor::doctor(&containers, runtime, output),
        Command::Gc(args) => gc::gc(&containers, &args, output),
        Command::SystemDf(args) => df::df(&containers, &args, output),
        Command::BuilderPrune(args) => sweep::builder(&containers, &args, output),
        Command::SystemPrune(args) => sweep::system(&containers, &args, output),
        Command::Info(args) => info::info(&containers, &args, runtime, output),
        Command::Load(args) => load::load(&store, &args, output),
        Command::Build(args) => build::build(&containers, &args, runtime, output),
        Command::Import(args) => import::import(&store, &args, output),
        Command::History(args) => history::history(&store, &args, output),
        Command::ImagePrune(args) => image_prune::prune(&containers, &args, output),
        Command::Images(args) => images::images(&store, &args, output),
        Command::Layers(args) => layers::layers(&store, &args, output),
        Command::Rmi(args) => rmi::rmi(&containers, &args, output),
        Command::Inspect(args) => inspect::inspect(&containers, &args, output),
        Command::Attach(args) => attach::attach(&containers, &args, output),
        Command::Commit(args) => commit::commit(&containers, args, output),
        Command::Cp(args) => cp::cp(&containers, &args, output),
        Command::Create(args) => create::create(&containers, args, output),
        Command::Diff(args) => diff::diff(&containers, &args, output),
        Command::Exec(args) => exec::exec(&containers, args, output),
        Command::Export(args) => export::export(&containers, &args, output),
        Command::Kill(args) => kill::kill(&containers, &args, output),
        Command::Logs(args) => logs::logs(&containers, &args, output),
        Command::Port(args) => port::port(&containers, &args, output),
        Command::Rename(args) => rename::rename(&containers, &args, output),
        Command::Restart(args) => stop::restart(&containers, &args, runtime, output),
        Command::Start(args) => start::start(&containers, &args, runtime, output),
        Command::Stop(args) => stop::stop(&containers, &args, output),
        Command::Volume { command } => volume::volume(&containers, &command, output),
        Command::Wait(args) => wait::wait(&containers, &args, output),
        Command::Mount(args) => containers::mount(&containers, &args, output),
        Command::Umount(args) => containers::umount(&containers, &args, output),
        Command::Rm(args) => containers::rm(&containers, &args, output),
        Command::Run(args) => run::run(&containers, args, runtime, output),
        Command::Ps(args) => ps::ps(&containers, &args, output),
        Command::Pull(args) => pull::pull(&store, &config, &args, output),
        Command::Push(args) => push::push(&store, &config, &args, output),
        Command::Prune(args) => prune::prune(&store, &args, output),
        Command::Tag(args) => tag::tag(&store, &args, output),
        Command::Save(args) => save::save(&store, &args, output),
        Command::Completion(_)
        | Command::Container { .. }
        | Command::Image { .. }
        | Command::Login(_)
        | Command::Logout(_)
        | Command::Man(_)
        | Command::Search(_)
        | Command::Builder { .. }
        | Command::System { .. }
        | Command::Version(_) => Ok(0),
    }
}

/// `CAPAS_ROOT`, or what the configuration says, or the system's store for
/// root, or the user's own.
fn default_root(config: &Config) -> Result<PathBuf, Error> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    if let Some(root) = set("CAPAS_ROOT") {
        return Ok(root.into());
    }
    if let Some(root) = &config.root {
        return Ok(root.clone());
    }
    if creds::effective_uid() == 0 && creds::in_first_user_namespace() {
        return Ok(PathBuf::from("/var/lib/capas"));
    }
    match (set("XDG_DATA_HOME"), set("HOME")) {
        (Some(data), _) => Ok(PathBuf::from(data).join("capas")),
        (None, Some(home)) => Ok(PathBuf::from(home).join(".local/share/capas")),
        (None, None) => Err(Error::Invalid(
            "no place for the store: give --root, or set CAPAS_ROOT or HOME".to_owned(),
        )),
    }
}
