//! The OCI bundle from which a runtime runs a container.

use super::Containers;
use super::cgroup::{self, Limits};
use super::create::merge_env;
use super::network::DNS;
use super::record::{Network, Record, Ulimit};
use super::user::{self, Ids};
use super::volume::{self, Kind};
use super::workdir;
use crate::store::error::{Context, Error, Result, invalid};
use crate::sys::creds;
use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxNamespace,
    LinuxNamespaceType, LinuxPids, LinuxResources, Mount, PosixRlimit, PosixRlimitBuilder, Process,
    Root, Spec, User, get_default_maskedpaths, get_default_readonly_paths,
};
use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What a command may do as root in a container: docker's choice.
const CAPABILITIES: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Bytes of /dev/shm where nothing else was asked for: docker's choice.
const SHARED_MEMORY: i64 = 64 << 20;

impl Containers<'_> {
    /// Write the bundle of a mounted container, and return where it is.
    /// `network` is the file of a network that was made for it.
    ///
    /// # Errors
    /// When the user is unknown to the image, the working directory or a mount
    /// is not to be had, or the bundle cannot be written.
    pub fn write_bundle(
        &self,
        record: &Record,
        root: &Path,
        network: Option<PathBuf>,
    ) -> Result<PathBuf> {
        let bundle = self.dir(&record.id).join("bundle");
        let tree = File::open(root).context(|| format!("cannot open {}", root.display()))?;
        let ids = user::resolve(&tree, &record.user)?;
        workdir::check(&tree, &record.working_dir)?;
        let mut binds = write_etc(&bundle, record)?;
        for mount in &record.settings.mounts {
            let given = self.mount_of(mount)?;
            binds.retain(|own| own.destination() != given.destination());
            binds.push(given);
        }
        // What lies in another is mounted after it.
        binds.sort_by_key(|mount| mount.destination().components().count());
        let guarded = cgroup::devices_guarded()?;
        // runc drops `nodev` where it makes the root read-only. A user
        // namespace's mounts have no live device nodes in any case.
        if !guarded && record.settings.read_only && creds::in_first_user_namespace() {
            return invalid(
                "--read-only cannot be had: no control group guards devices here, and those of the image would work; leave it out, or run where there is one",
            );
        }
        let spec = spec(record, root, &ids, binds, network, guarded)?;
        let json = serde_json::to_vec(&spec)
            .map_err(|e| Error::Invalid(format!("cannot write the bundle: {e}")))?;
        let path = bundle.join("config.json");
        fs::write(&path, json).context(|| format!("cannot write {}", path.display()))?;
        Ok(bundle)
    }

    /// What the runtime is told of a mount.
    fn mount_of(&self, given: &volume::Mount) -> Result<Mount> {
        let mut options: Vec<&str> = given.options.iter().map(String::as_str).collect();
        if given.read_only {
            options.push("ro");
        }
        let source = match given.kind {
            Kind::Tmpfs => {
                let mut all = vec!["nosuid", "nodev", "noexec"];
                all.retain(|o| {
                    !options
                        .iter()
                        .any(|given| o.strip_prefix("no") == Some(given))
                });
                all.extend(options);
                return Ok(mount(&given.target, "tmpfs", Path::new("tmpfs"), &all));
            }
            Kind::Bind => PathBuf::from(&given.source),
            Kind::Volume => self.volume_data(&given.source),
        };
        if given.kind == Kind::Volume {
            options.push("nodev");
        }
        if given.make_source && fs::symlink_metadata(&source).is_err() {
            fs::create_dir_all(&source)
                .context(|| format!("cannot make {}, which is to be mounted", source.display()))?;
        }
        options.insert(0, "rbind");
        if options
            .iter()
            .all(|o| !o.ends_with("private") && !o.ends_with("shared") && !o.ends_with("slave"))
        {
            options.push("rprivate");
        }
        Ok(mount(&given.target, "bind", &source, &options))
    }
}

/// The files of `/etc` that belong to the container and not to the image.
fn write_etc(bundle: &Path, record: &Record) -> Result<Vec<Mount>> {
    let host = record.network == Network::Host;
    let from_host = |name: &str| fs::read(format!("/etc/{name}")).unwrap_or_default();
    let own_hosts = format!(
        "127.0.0.1\tlocalhost {0}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        record.hostname()
    );
    let more = record.settings.hosts.iter();
    let more: String = more.map(|h| format!("{}\t{}\n", h.ip, h.name)).collect();
    let hosts = match host {
        true => from_host("hosts"),
        false => own_hosts.into_bytes(),
    };
    let files = [
        ("hostname", format!("{}\n", record.hostname()).into_bytes()),
        ("hosts", [hosts, more.into_bytes()].concat()),
        (
            "resolv.conf",
            match record.network {
                Network::Host => from_host("resolv.conf"),
                Network::Private => resolv_conf(&from_host("resolv.conf")),
                Network::None => Vec::new(),
            },
        ),
    ];
    let mut binds = Vec::new();
    for (name, content) in files {
        let path = bundle.join(name);
        fs::write(&path, content).context(|| format!("cannot write {}", path.display()))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&path, mode).context(|| format!("cannot write {}", path.display()))?;
        binds.push(mount(
            &format!("/etc/{name}"),
            "bind",
            &path,
            &["rbind", "rprivate"],
        ));
    }
    Ok(binds)
}

/// The machine's, with the name server that its own network offers.
fn resolv_conf(host: &[u8]) -> Vec<u8> {
    let mut out = format!("nameserver {DNS}\n");
    for line in String::from_utf8_lossy(host).lines() {
        if ["search", "domain", "options"]
            .iter()
            .any(|w| line.starts_with(w))
        {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.into_bytes()
}

fn mount(at: &str, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(at.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    mount
}

fn spec(
    record: &Record,
    root: &Path,
    ids: &Ids,
    binds: Vec<Mount>,
    network: Option<PathBuf>,
    guarded: bool,
) -> Result<Spec> {
    let mut spec = Spec::default();
    let mut spec_root = Root::default();
    spec_root
        .set_path(root.to_owned())
        .set_readonly(Some(record.settings.read_only));
    let shared_memory = record.settings.shared_memory.unwrap_or(SHARED_MEMORY);
    let shared_memory = format!("size={shared_memory}");
    let mut mounts = vec![
        mount(
            "/proc",
            "proc",
            Path::new("proc"),
            &["nosuid", "noexec", "nodev"],
        ),
        mount(
            "/dev",
            "tmpfs",
            Path::new("tmpfs"),
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/dev/pts", "devpts", Path::new("devpts"), devpts_options()),
        mount(
            "/dev/shm",
            "tmpfs",
            Path::new("shm"),
            &["nosuid", "noexec", "nodev", "mode=1777", &shared_memory],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            Path::new("mqueue"),
            &["nosuid", "noexec", "nodev"],
        ),
    ];
    // sysfs shows a network namespace, and only its owner may mount it. What is
    // mounted in the machine's own (control groups) would come along writable,
    // so it is bound only where that is not ours to write.
    let own = record.network != Network::Host || creds::in_first_user_namespace();
    mounts.push(match own {
        true => mount(
            "/sys",
            "sysfs",
            Path::new("sysfs"),
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        false => mount(
            "/sys",
            "bind",
            Path::new("/sys"),
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"],
        ),
    });
    mounts.extend(binds);
    let mut namespaces: Vec<LinuxNamespace> = [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
    ]
    .into_iter()
    .map(namespace)
    .collect();
    if record.network != Network::Host {
        let mut own = namespace(LinuxNamespaceType::Network);
        own.set_path(network);
        namespaces.push(own);
    }
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces))
        .set_resources(Some(resources(&record.settings.limits, guarded)?))
        .set_masked_paths(Some(masked_paths()))
        .set_readonly_paths(Some(get_default_readonly_paths()));
    // Where groups cannot be made, runc does without only if none was named.
    if creds::effective_uid() == 0 && cgroup::usable()? {
        linux.set_cgroups_path(Some(cgroup::path(&record.id)));
    }
    spec.set_version("1.0.2".to_owned())
        .set_process(Some(process(record, ids, &Command::of(record), guarded)))
        .set_root(Some(spec_root))
        .set_hostname(Some(record.hostname().to_owned()))
        .set_mounts(Some(mounts))
        .set_linux(Some(linux));
    Ok(spec)
}

/// No device but those that the runtime always allows, and the limits.
fn resources(limits: &Limits, guarded: bool) -> Result<LinuxResources> {
    let mut deny = LinuxDeviceCgroup::default();
    deny.set_allow(false).set_access(Some("rwm".to_owned()));
    let mut resources = LinuxResources::default();
    resources.set_devices(guarded.then(|| vec![deny]));
    if let Some(bytes) = limits.memory {
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(bytes));
        // Docker's rule: as much again of swap.
        if cgroup::swap_counted()? {
            memory.set_swap(Some(bytes.saturating_mul(2)));
        }
        resources.set_memory(Some(memory));
    }
    if let Some(nanos) = limits.nano_cpus {
        let mut cpu = LinuxCpu::default();
        // So many microseconds of each tenth of a second.
        cpu.set_period(Some(100_000))
            .set_quota(Some(nanos / 10_000));
        resources.set_cpu(Some(cpu));
    }
    if let Some(count) = limits.pids {
        let mut pids = LinuxPids::default();
        pids.set_limit(count);
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

fn namespace(kind: LinuxNamespaceType) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespace
}

/// Terminals belong to the group tty, where it can be named.
fn devpts_options() -> &'static [&'static str] {
    let all = &[
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    match (creds::in_first_user_namespace(), all) {
        (true, all) => all,
        (false, [without @ .., _]) => without,
    }
}

/// The specification's, and what docker hides besides.
fn masked_paths() -> Vec<String> {
    let mut paths = get_default_maskedpaths();
    paths.push("/sys/devices/virtual/powercap".to_owned());
    paths
}

/// What is run in a container: its own command, or another.
#[derive(Clone, Debug)]
pub struct Command<'a> {
    /// Program and arguments.
    pub args: &'a [String],
    /// Over the container's environment.
    pub env: &'a [String],
    /// Where.
    pub working_dir: &'a str,
    /// On a terminal.
    pub tty: bool,
}

impl<'a> Command<'a> {
    fn of(record: &'a Record) -> Command<'a> {
        Command {
            args: &record.args,
            env: &[],
            working_dir: &record.working_dir,
            tty: record.settings.tty,
        }
    }
}

/// Limits as runtimes have them.
fn rlimits(limits: &[Ulimit]) -> Option<Vec<PosixRlimit>> {
    let one = |limit: &Ulimit| {
        let builder = PosixRlimitBuilder::default().typ(limit.kind()?);
        builder.soft(limit.soft).hard(limit.hard).build().ok()
    };
    (!limits.is_empty()).then(|| limits.iter().filter_map(one).collect())
}

/// What the runtime is told of a command. Where devices are not `guarded`, none
/// can be made.
pub fn process(record: &Record, ids: &Ids, command: &Command<'_>, guarded: bool) -> Process {
    let mut user = User::default();
    user.set_uid(ids.uid)
        .set_gid(ids.gid)
        .set_additional_gids(Some(ids.groups.clone()));
    let mut all: HashSet<Capability> = CAPABILITIES.into_iter().collect();
    if !guarded {
        all.remove(&Capability::Mknod);
    }
    let held = if ids.uid == 0 {
        all.clone()
    } else {
        HashSet::new()
    };
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(all))
        .set_effective(Some(held.clone()))
        .set_permitted(Some(held))
        .set_inheritable(Some(HashSet::new()))
        .set_ambient(Some(HashSet::new()));
    let mut env = merge_env(record.env.clone(), command.env.to_vec());
    let term = command.tty.then_some(("TERM", "xterm"));
    let own = [("HOSTNAME", record.hostname()), ("HOME", ids.home.as_str())];
    for (name, value) in own.into_iter().chain(term) {
        let prefix = format!("{name}=");
        if !env.iter().any(|e| e.starts_with(&prefix)) {
            env.push(prefix + value);
        }
    }
    let mut process = Process::default();
    process
        .set_terminal(Some(command.tty))
        .set_user(user)
        .set_args(Some(command.args.to_vec()))
        .set_env(Some(env))
        .set_cwd(command.working_dir.into())
        .set_capabilities(Some(capabilities))
        .set_rlimits(rlimits(&record.settings.ulimits))
        .set_no_new_privileges(Some(false));
    process
}
