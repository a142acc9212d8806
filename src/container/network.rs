//! Networks of a container's own, which another program connects: pasta.

use super::process::Process;
use super::rootfs::find_program;
use crate::store::error::{Context, Error, Result, invalid, show};
use crate::store::remove_if_there;
use crate::sys::child;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// At which address name servers are asked from inside.
pub const DNS: &str = "169.254.1.1";
/// Where it writes its number, in the container's directory.
const PID: &str = "network.pid";

/// How a port is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port of the container that is reached by one of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Only at this address of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// 0 until a free one is chosen.
    pub host: u16,
    /// In the container.
    pub container: u16,
    /// How it is spoken to.
    pub protocol: Protocol,
}

impl Publish {
    /// Where it is reached on the machine.
    pub fn address(&self) -> String {
        let host = self.host;
        match self.ip {
            None => format!("0.0.0.0:{host}"),
            Some(IpAddr::V4(ip)) => format!("{ip}:{host}"),
            Some(IpAddr::V6(ip)) => format!("[{ip}]:{host}"),
        }
    }

    /// `PORT/PROTOCOL` in the container.
    pub fn inside(&self) -> String {
        format!("{}/{}", self.container, self.protocol)
    }

    /// Read `[IP:][HOST-PORT:]PORT[/PROTOCOL]`, with ranges `FIRST-LAST`.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &str) -> Result<Vec<Publish>> {
        let bad = |why: &str| {
            Error::Invalid(format!(
                "invalid port '{}': {why}; give [IP:][HOST-PORT:]PORT[/tcp|/udp]",
                show(text.as_bytes())
            ))
        };
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(bad("the protocol is tcp or udp")),
        };
        let (rest, container) = match ports.rsplit_once(':') {
            Some((rest, container)) => (Some(rest), container),
            None => (None, ports),
        };
        let (ip, host) = match rest {
            None => (None, ""),
            Some(rest) => match rest.rsplit_once(':') {
                Some((ip, host)) => (Some(ip), host),
                None => (None, rest),
            },
        };
        let ip = match ip {
            None | Some("") => None,
            Some(ip) => {
                let plain = ip.strip_prefix('[').and_then(|i| i.strip_suffix(']'));
                let parsed = plain.unwrap_or(ip).parse();
                Some(parsed.map_err(|_| bad("the address is none"))?)
            }
        };
        let container = range(container).ok_or_else(|| bad("the container's port is none"))?;
        let host = match host {
            "" => None,
            host => Some(range(host).ok_or_else(|| bad("the machine's port is none"))?),
        };
        if host.as_ref().is_some_and(|h| h.len() != container.len()) {
            return Err(bad("the ranges differ in length"));
        }
        let hosts = host.into_iter().flatten().chain(std::iter::repeat(0));
        let pairs = hosts.zip(container);
        Ok(pairs
            .map(|(host, container)| Publish {
                ip,
                host,
                container,
                protocol,
            })
            .collect())
    }

    /// With a port of the machine that is free now, where none was given.
    ///
    /// # Errors
    /// When the one that was given is taken, or the address is not ours.
    pub fn settled(&self) -> Result<Publish> {
        let ip = self.ip.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let at = (ip, self.host);
        let bound = match self.protocol {
            Protocol::Tcp => TcpListener::bind(at).and_then(|s| s.local_addr()),
            Protocol::Udp => UdpSocket::bind(at).and_then(|s| s.local_addr()),
        };
        match bound {
            Ok(address) => Ok(Publish {
                host: address.port(),
                ..self.clone()
            }),
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => Err(Error::Conflict(format!(
                "Bind for {ip}:{} failed: port is already allocated",
                self.host
            ))),
            Err(e) => Err(Error::System(
                format!("cannot publish port {ip}:{}", self.host),
                e,
            )),
        }
    }

    /// As pasta is told.
    fn argument(&self) -> String {
        let ip = self.ip.map_or_else(String::new, |ip| format!("{ip}/"));
        format!("{ip}{}:{}", self.host, self.container)
    }
}

/// `0.0.0.0:8080->80/tcp`.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}", self.address(), self.inside())
    }
}

/// `80` or `80-90`; port 0 is none.
pub fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let port = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|p| digits && *p > 0)
    };
    match text.split_once('-') {
        None => port(text).map(|p| p..=p),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            (first <= last).then_some(first..=last)
        }
    }
}

/// A port that an image names, as `PORT[-PORT]/PROTOCOL`.
///
/// # Errors
/// For anything else.
pub fn exposed(text: &str) -> Result<String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    match range(ports) {
        Some(_) if ["tcp", "udp", "sctp"].contains(&protocol.as_str()) => {
            Ok(format!("{ports}/{protocol}"))
        }
        _ => invalid(format!(
            "the image exposes the port '{}', which is none: have it made again without",
            show(text.as_bytes())
        )),
    }
}

/// What connects a network.
///
/// # Errors
/// When it is not there.
pub fn program() -> Result<PathBuf> {
    match find_program(Path::new("pasta")) {
        Some(program) => Ok(program),
        None => invalid(
            "published ports and private networks need pasta, which is not here: install the package passt, or use --network host",
        ),
    }
}

/// A network that is being connected.
#[derive(Debug)]
pub struct Connecting {
    namespace: OwnedFd,
    helper: Child,
}

impl Connecting {
    /// Make a network and begin to connect it; `dir` is the container's.
    ///
    /// # Errors
    /// When it cannot be made, or the program is missing.
    pub fn begin(dir: &Path, ports: &[Publish]) -> Result<Connecting> {
        let program = program()?;
        // What an earlier one wrote is not this one's.
        remove_if_there(&dir.join(PID)).context(|| "cannot remove an old pid file".to_owned())?;
        let namespace =
            child::new_network().context(|| "cannot make a network namespace".to_owned())?;
        let say = || "cannot start pasta".to_owned();
        let mut command = Command::new(program);
        command
            .args(["--config-net", "--quiet", "--runas", "0:0"])
            // The monitor ends it; what it would watch here never goes away.
            .arg("--no-netns-quit")
            .args(["--dns-forward", DNS, "--no-map-gw"])
            .args(["-T", "none", "-U", "none"])
            .arg("-P")
            .arg(dir.join(PID));
        for (option, protocol) in [("-t", Protocol::Tcp), ("-u", Protocol::Udp)] {
            let mut none = true;
            for port in ports.iter().filter(|p| p.protocol == protocol) {
                command.arg(option).arg(port.argument());
                none = false;
            }
            if none {
                command.args([option, "none"]);
            }
        }
        // It gives up the right to look into other processes before it opens
        // the namespace, but its own standard input it may open.
        let namespace_for_it = namespace.try_clone().context(say)?;
        let helper = command
            .args(["--netns", "/proc/self/fd/0"])
            .stdin(Stdio::from(namespace_for_it))
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("network.log")).context(say)?)
            .spawn()
            .context(say)?;
        Ok(Connecting { namespace, helper })
    }

    /// Wait until it works.
    ///
    /// # Errors
    /// When it does not, with what the program said.
    pub fn finish(mut self, dir: &Path) -> Result<Connected> {
        let status = self
            .helper
            .wait()
            .context(|| "cannot wait for pasta".to_owned())?;
        if !status.success() {
            let said = fs::read(dir.join("network.log")).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let noise = |l: &&str| !l.is_empty() && !l.contains("to syslog") && !l.contains("root");
            let why = said.lines().rfind(noise).unwrap_or("it failed");
            return Err(Error::Conflict(format!(
                "pasta cannot connect the network: {}",
                show(why.as_bytes())
            )));
        }
        Ok(Connected {
            namespace: self.namespace,
            helper: helper(dir),
        })
    }
}

/// A network that works as long as its program runs.
#[derive(Debug)]
pub struct Connected {
    /// The network.
    pub namespace: OwnedFd,
    /// The program.
    pub helper: Option<Process>,
}

/// The program that connects a container's network, by what it wrote itself:
/// it may run before anybody else has written it down.
pub fn helper(dir: &Path) -> Option<Process> {
    super::process::from_pid_file(&dir.join(PID))
}

/// End the program of a network that nobody needs any more.
pub fn disconnect(helper: &Process) {
    if let Ok(handle) = helper.handle() {
        let _ = handle.signal(super::signal::KILL);
        let _ = handle.ends_within(std::time::Duration::from_secs(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_as_docker_reads_them() {
        let shown = |text: &str| -> Vec<String> {
            let all = Publish::parse(text).unwrap();
            all.iter().map(ToString::to_string).collect()
        };
        assert_eq!(shown("8080:80"), ["0.0.0.0:8080->80/tcp"]);
        assert_eq!(shown("127.0.0.1:53:53/udp"), ["127.0.0.1:53->53/udp"]);
        assert_eq!(shown("[::1]:1:2"), ["[::1]:1->2/tcp"]);
        assert_eq!(shown("80"), ["0.0.0.0:0->80/tcp"]);
        assert_eq!(shown("127.0.0.1::80"), ["127.0.0.1:0->80/tcp"]);
        assert_eq!(
            shown("8000-8001:80-81"),
            ["0.0.0.0:8000->80/tcp", "0.0.0.0:8001->81/tcp"]
        );
        for bad in [
            "",
            ":",
            "x",
            "80:",
            "0",
            "65536",
            "1-2:80",
            "90-80",
            "80/icmp",
            "300.1.1.1:1:1",
            "-1",
        ] {
            assert!(Publish::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_images_expose() {
        assert_eq!(exposed("80").unwrap(), "80/tcp");
        assert_eq!(exposed("53-54/UDP").unwrap(), "53-54/udp");
        for bad in [
            "",
            "/tcp",
            "80/",
            "80/tcp/x",
            "80/\u{1b}[2J",
            "0",
            "+80",
            "x",
        ] {
            assert!(exposed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_free_port_is_found_and_a_taken_one_is_told() {
        let at = |text: &str| Publish::parse(text).unwrap().remove(0);
        let free = at("127.0.0.1::80").settled().unwrap();
        assert_ne!(free.host, 0);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let e = at(&format!("127.0.0.1:{port}:80")).settled().unwrap_err();
        assert!(e.to_string().contains("port is already allocated"), "{e}");
    }
}
