//! The OCI bundle from which a runtime runs a container.

use super::record::{Network, Record};
use super::user::{self, Ids};
use super::{Containers, rootfs};
use crate::store::error::{Context, Error, Result};
use crate::sys::creds;
use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, Mount, Process, Root,
    Spec, User, get_default_maskedpaths, get_default_readonly_paths,
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

impl Containers<'_> {
    /// Write the bundle of a mounted container, and return where it is.
    ///
    /// # Errors
    /// When the user is unknown to the image, or the bundle cannot be written.
    pub fn write_bundle(&self, record: &Record, root: &Path) -> Result<PathBuf> {
        let bundle = self.dir(&record.id).join("bundle");
        let tree = File::open(root).context(|| format!("cannot open {}", root.display()))?;
        let ids = user::resolve(&tree, &record.user)?;
        let binds = write_etc(&bundle, record)?;
        let spec = spec(record, root, &ids, binds)?;
        let json = serde_json::to_vec(&spec)
            .map_err(|e| Error::Invalid(format!("cannot write the bundle: {e}")))?;
        let path = bundle.join("config.json");
        fs::write(&path, json).context(|| format!("cannot write {}", path.display()))?;
        Ok(bundle)
    }
}

/// The files of `/etc` that belong to the container and not to the image.
fn write_etc(bundle: &Path, record: &Record) -> Result<Vec<Mount>> {
    let host = record.network == Network::Host;
    let from_host = |name: &str| fs::read(format!("/etc/{name}")).unwrap_or_default();
    let own_hosts = format!(
        "127.0.0.1\tlocalhost {0}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        record.short()
    );
    let files = [
        ("hostname", format!("{}\n", record.short()).into_bytes()),
        (
            "hosts",
            if host {
                from_host("hosts")
            } else {
                own_hosts.into_bytes()
            },
        ),
        (
            "resolv.conf",
            if host {
                from_host("resolv.conf")
            } else {
                Vec::new()
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

fn mount(at: &str, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(at.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    mount
}

fn spec(record: &Record, root: &Path, ids: &Ids, binds: Vec<Mount>) -> Result<Spec> {
    let mut spec = Spec::default();
    let mut spec_root = Root::default();
    spec_root
        .set_path(root.to_owned())
        .set_readonly(Some(false));
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
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            Path::new("mqueue"),
            &["nosuid", "noexec", "nodev"],
        ),
    ];
    // sysfs shows a network namespace, and only its owner may mount it.
    mounts.push(match record.network {
        Network::None => mount(
            "/sys",
            "sysfs",
            Path::new("sysfs"),
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        Network::Host => mount(
            "/sys",
            "bind",
            Path::new("/sys"),
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"],
        ),
    });
    mounts.extend(binds);
    let mut namespaces = vec![
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
    ];
    if record.network == Network::None {
        namespaces.push(LinuxNamespaceType::Network);
    }
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces.into_iter().map(namespace).collect()))
        .set_resources(None)
        .set_masked_paths(Some(masked_paths()))
        .set_readonly_paths(Some(get_default_readonly_paths()));
    if creds::effective_uid() == 0 {
        linux.set_cgroups_path(Some(format!("/capas/{}", record.id).into()));
    }
    spec.set_version("1.0.2".to_owned())
        .set_process(Some(process(record, ids)?))
        .set_root(Some(spec_root))
        .set_hostname(Some(record.short().to_owned()))
        .set_mounts(Some(mounts))
        .set_linux(Some(linux));
    Ok(spec)
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

fn process(record: &Record, ids: &Ids) -> Result<Process> {
    let mut user = User::default();
    user.set_uid(ids.uid)
        .set_gid(ids.gid)
        .set_additional_gids(Some(ids.groups.clone()));
    let all: HashSet<Capability> = CAPABILITIES.into_iter().collect();
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
    let mut env = record.env.clone();
    for (name, value) in [("HOSTNAME", record.short()), ("HOME", ids.home.as_str())] {
        let prefix = format!("{name}=");
        if !env.iter().any(|e| e.starts_with(&prefix)) {
            env.push(prefix + value);
        }
    }
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_user(user)
        .set_args(Some(record.args.clone()))
        .set_env(Some(env))
        .set_cwd(record.working_dir.clone().into())
        .set_capabilities(Some(capabilities))
        .set_rlimits(None)
        .set_no_new_privileges(Some(false));
    Ok(process)
}

/// The OCI runtime: the one that was chosen, or else the first that is found.
///
/// # Errors
/// When there is none.
pub fn find_runtime(chosen: Option<&Path>) -> Result<PathBuf> {
    let names: &[&Path] = match chosen {
        Some(name) => &[name],
        None => &[Path::new("runc"), Path::new("crun")],
    };
    names
        .iter()
        .find_map(|name| rootfs::find_program(name))
        .ok_or_else(|| {
            Error::NotFound(match chosen {
                Some(name) => format!("the runtime {} is not there", name.display()),
                None => "no OCI runtime is there: install runc or crun, or name one with --runtime"
                    .to_owned(),
            })
        })
}
