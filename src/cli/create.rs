//! `create`, and what `run` has in common with it.

use super::idfile::IdFile;
use super::limits::{limits, shared_memory, ulimit};
use super::stop::seconds;
use super::words::Words;
use super::{Outcome, Output, dockerconf, platform};
use crate::container::monitor::launch::can_be_had;
use crate::container::network::{self, Publish};
use crate::container::record::{Host, Network, Settings};
use crate::container::volume::Mount;
use crate::container::{Containers, Record, Wish, signal};
use crate::store::document::Platform;
use crate::store::error::{Context, invalid, show};
use crate::store::{Error, Reference, Result, read_file};
use clap::ValueEnum;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// No file of variables is larger.
const MAX_FILE: u64 = 16 << 20;

/// Networks by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NetworkName {
    /// The machine's own
    Host,
    /// Loopback alone
    None,
    /// Its own, from which the machine's is reached
    #[value(alias = "bridge")]
    Private,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pull {
    /// Each time
    Always,
    /// If it is not there
    Missing,
    /// Not at all
    Never,
}

/// What a command finds, as `create` and `exec` take it.
#[derive(Debug, clap::Args)]
pub struct Around {
    /// Keep its standard input open, and hand ours on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Set a variable, or hand ours on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Set the variables of a file, a line each
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Where the command runs
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Who runs the command
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
}

impl Around {
    /// The settings of its files, and after them those that were given.
    ///
    /// # Errors
    /// For the first that is none, and a file that cannot be read.
    pub fn environment(&self) -> Result<Vec<String>> {
        let mut env = Vec::new();
        for path in &self.env_file {
            env.extend(env_file(path)?);
        }
        env.extend_from_slice(&self.env);
        match env.iter().find(|e| e.starts_with('=') || e.is_empty()) {
            None => Ok(env),
            Some(bad) => invalid(format!(
                "invalid environment variable: {}",
                show(bad.as_bytes())
            )),
        }
    }
}

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Create {
    /// A name for the container
    #[arg(long)]
    pub name: Option<String>,
    /// What the command finds.
    #[command(flatten)]
    pub around: Around,
    /// Mount a directory or file of the machine, or a new directory
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    pub volume: Vec<String>,
    /// The same in other words: type=bind|tmpfs|volume,source=,target=,readonly
    #[arg(long, value_name = "MOUNT")]
    pub mount: Vec<String>,
    /// Mount memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Reach a port of the container by one of the machine
    #[arg(short, long, value_name = "[IP:][HOST-PORT:]PORT[/PROTOCOL]")]
    pub publish: Vec<String>,
    /// Reach each port that the image names by a free one of the machine
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Name a port as the image does
    #[arg(long, value_name = "PORT[-PORT][/PROTOCOL]")]
    pub expose: Vec<String>,
    /// A name that the container finds an address for
    #[arg(long, value_name = "NAME:IP")]
    pub add_host: Vec<String>,
    /// Write the container's id to a new file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// In place of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// What its host is called
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// Its root cannot be written
    #[arg(long)]
    pub read_only: bool,
    /// The container's network [default: none, or private with -p]
    #[arg(long, alias = "net", value_enum)]
    pub network: Option<NetworkName>,
    /// How much memory it may use
    #[arg(short, long, value_name = "BYTES[b|k|m|g]")]
    pub memory: Option<String>,
    /// How many processors it may use, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// How many processes it may have; -1 for as many as it likes
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// How large its shared memory is
    #[arg(long, value_name = "BYTES[b|k|m|g]")]
    pub shm_size: Option<String>,
    /// What each of its processes may use
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Label it
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// The signal that asks its command to end
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// After how many seconds it is killed then, -1 for never
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub stop_timeout: Option<i64>,
    /// What the image is to run on [env: DOCKER_DEFAULT_PLATFORM]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// When the image is pulled
    #[arg(long, value_enum, default_value = "missing")]
    pub pull: Pull,
    /// Remove the container when its command has ended
    #[arg(long)]
    pub rm: bool,
    /// The image and the command.
    #[command(flatten)]
    pub words: Words,
}

/// Make a container and print its id.
///
/// # Errors
/// When it cannot be made.
pub fn create(containers: &Containers<'_>, args: Create, output: &mut Output<'_>) -> Outcome {
    let record = make(containers, args, false)?;
    writeln!(output.out, "{}", record.id)?;
    Ok(0)
}

/// Make a container; its image is pulled where that is asked for. Nothing is
/// made of what could not be started here anyway. `detached`: nobody is attached
/// when it is started, so its input does not end with the first who is.
///
/// # Errors
/// When it cannot be made.
pub fn make(containers: &Containers<'_>, args: Create, detached: bool) -> Result<Record> {
    let (pull, image) = (args.pull, args.words.image.clone());
    let platform = platform::wanted(args.platform.as_deref())?;
    let id = args.cidfile.as_deref().map(IdFile::new).transpose()?;
    let wish = wish(args, detached)?;
    can_be_had(&wish.settings, wish.network)?;
    if pull == Pull::Always {
        fetch(containers, &image, platform.as_ref())?;
    }
    let create = |wish: Wish| {
        if let Some(platform) = &platform {
            must_be_for(containers, &image, platform)?;
        }
        containers.create(wish)
    };
    let made = match create(wish.clone()) {
        Err(Error::NotFound(_)) if pull == Pull::Missing => {
            log_missing(&image);
            fetch(containers, &image, platform.as_ref())?;
            create(wish)
        }
        made => made,
    }?;
    if let Some(file) = id {
        file.write(&made.id)?;
    }
    Ok(made)
}

/// Refuse an image that does not run there.
fn must_be_for(containers: &Containers<'_>, image: &str, platform: &Platform) -> Result<()> {
    let store = containers.store();
    let (found, _) = store.find_image(image)?;
    let (config, _) = store.image_config(&found.id)?;
    match config.suits(platform) {
        true => Ok(()),
        false => Err(Error::NotFound(format!(
            "image with reference {} was found but its platform ({}) does not match the specified platform ({platform})",
            show(image.as_bytes()),
            config.platform()
        ))),
    }
}

fn log_missing(image: &str) {
    let shown = Reference::parse(image).map_or_else(|_| image.to_owned(), |r| r.familiar_tagged());
    let text = format!("Unable to find image '{}' locally", show(shown.as_bytes()));
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes());
}

/// `pull` in a process of its own, which is interrupted as such; what it says
/// is not the container's output.
pub(super) fn fetch(
    containers: &Containers<'_>,
    image: &str,
    platform: Option<&Platform>,
) -> Result<()> {
    let say = || format!("cannot pull {}", show(image.as_bytes()));
    let stderr = std::os::fd::AsFd::as_fd(&std::io::stderr())
        .try_clone_to_owned()
        .context(say)?;
    let status = Command::new("/proc/self/exe")
        .arg("--root")
        .arg(containers.store().root())
        .arg("pull")
        .args(platform.map(|p| format!("--platform={p}")))
        .args(["--", image])
        .stdin(Stdio::null())
        .stdout(stderr)
        .status()
        .context(say)?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::NotFound(say())),
    }
}

fn wish(args: Create, detached: bool) -> Result<Wish> {
    let mut settings = settings(&args, detached)?;
    let network = match args.network {
        Some(NetworkName::Host) => Network::Host,
        Some(NetworkName::None) => Network::None,
        Some(NetworkName::Private) => Network::Private,
        None if settings.ports.is_empty() && !args.publish_all => Network::None,
        None => Network::Private,
    };
    if network != Network::Private && !settings.ports.is_empty() {
        return invalid(
            "ports are published from a private network only: leave --network out, or -p",
        );
    }
    let mut env = args.around.environment()?;
    env.extend(dockerconf::proxies(&env));
    if network == Network::Host && settings.hostname.is_none() {
        settings.hostname = own_hostname();
    }
    Ok(Wish {
        image: args.words.image,
        name: set(args.name),
        args: args.words.args,
        entrypoint: args.entrypoint,
        env,
        user: args.around.user,
        working_dir: set(args.around.workdir),
        network,
        publish_all: args.publish_all && network == Network::Private,
        auto_remove: args.rm,
        settings,
    })
}

fn settings(args: &Create, detached: bool) -> Result<Settings> {
    let parsed = |texts: &[String], parse: fn(&str) -> Result<Mount>| -> Result<Vec<Mount>> {
        texts.iter().map(|t| parse(t)).collect()
    };
    let mut mounts = parsed(&args.volume, Mount::parse_volume)?;
    mounts.extend(parsed(&args.mount, Mount::parse_mount)?);
    mounts.extend(parsed(&args.tmpfs, Mount::parse_tmpfs)?);
    let mut ports = Vec::new();
    for text in &args.publish {
        ports.extend(Publish::parse(text)?);
    }
    if let Some(signal) = set(args.stop_signal.clone()) {
        signal::parse(&signal)?;
    }
    let hostname = set(args.hostname.clone());
    if let Some(name) = &hostname {
        check_hostname(name)?;
    }
    let labels = args.label.iter().map(|l| {
        let (key, value) = l.split_once('=').unwrap_or((l, ""));
        (key.to_owned(), value.to_owned())
    });
    Ok(Settings {
        tty: args.around.tty,
        stdin: args.around.interactive,
        stdin_once: args.around.interactive && !detached,
        hostname,
        read_only: args.read_only,
        mounts,
        ports,
        exposed: args
            .expose
            .iter()
            .map(|e| expose(e))
            .collect::<Result<_>>()?,
        hosts: args
            .add_host
            .iter()
            .map(|h| host(h))
            .collect::<Result<_>>()?,
        limits: limits(
            args.memory.as_deref(),
            args.cpus.as_deref(),
            args.pids_limit,
        )?,
        ulimits: args
            .ulimit
            .iter()
            .map(|u| ulimit(u))
            .collect::<Result<_>>()?,
        shared_memory: shared_memory(args.shm_size.as_deref())?,
        stop_signal: set(args.stop_signal.clone()),
        stop_timeout: args.stop_timeout.map(seconds),
        labels: labels.collect(),
    })
}

fn expose(text: &str) -> Result<String> {
    network::exposed(text).or_else(|_| {
        invalid(format!(
            "invalid range format for --expose: {}",
            show(text.as_bytes())
        ))
    })
}

/// `NAME:IP` or `NAME=IP` of one more host.
fn host(text: &str) -> Result<Host> {
    let bad = || {
        invalid(format!(
            "bad format for add-host: \"{}\": give NAME:IP",
            show(text.as_bytes())
        ))
    };
    let Some((name, ip)) = text.split_once(['=', ':']) else {
        return bad();
    };
    let plain = ip.strip_prefix('[').and_then(|i| i.strip_suffix(']'));
    match plain.unwrap_or(ip).parse() {
        Ok(ip) if check_hostname(name).is_ok() => Ok(Host {
            name: name.to_owned(),
            ip,
        }),
        _ => bad(),
    }
}

/// What was given; for docker an empty text is nothing, as scripts give it whose
/// variable is not set.
fn set(given: Option<String>) -> Option<String> {
    given.filter(|text| !text.is_empty())
}

/// What this machine is called, as what is in its network finds it; nothing where
/// a container cannot be called so.
fn own_hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim_end();
    check_hostname(name).is_ok().then(|| name.to_owned())
}

fn check_hostname(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    match !name.is_empty() && name.len() <= 63 && name.bytes().all(plain) {
        true => Ok(()),
        false => invalid(format!("invalid hostname: {}", show(name.as_bytes()))),
    }
}

/// The variables of a file: a line each, `#` begins a comment, a name alone
/// takes our value.
fn env_file(path: &std::path::Path) -> Result<Vec<String>> {
    let data = read_file(path, MAX_FILE)?;
    let Ok(text) = String::from_utf8(data) else {
        return invalid(format!("{} is not UTF-8", path.display()));
    };
    let mut out = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return invalid(format!(
                "{}: line {}: '{}' is no name of a variable",
                path.display(),
                n + 1,
                show(name.as_bytes())
            ));
        }
        out.push(line.to_owned());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_variables() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "# no\n\nA=1\n  B=x y\nHOME\n").unwrap();
        assert_eq!(env_file(&path).unwrap(), ["A=1", "B=x y", "HOME"]);
        std::fs::write(&path, "A=1\nB C=2\n").unwrap();
        let e = env_file(&path).unwrap_err().to_string();
        assert!(e.contains("line 2"), "{e}");
    }
}
