//! What can be asked for besides the command.

use super::harness::{pasta, ready};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::Path;

#[test]
fn environment_host_and_root() {
    let Some(c) = ready() else { return };
    let file = c.bench.dir.path().join("env");
    std::fs::write(&file, "# none\nA=file\nB=file\n").unwrap();
    let file = file.to_str().unwrap();
    let script = "echo $A $B $HOSTNAME; hostname; cat /etc/hostname; touch /x || echo no";
    let (code, out, _) = c.run(&[
        "run",
        "--rm",
        // Of none of them any.
        "-m",
        "0",
        "--cpus",
        "0",
        "--stop-timeout",
        "-1",
        "--env-file",
        file,
        "-e",
        "A=given",
        "-h",
        "tower",
        "--read-only",
        "box:1",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(
        (code, out.as_str()),
        (0, "given file tower\ntower\ntower\nno\n")
    );
    c.assert_nothing_is_left();
}

#[test]
fn mounts() {
    let Some(c) = ready() else { return };
    let dir = c.bench.dir.path().join("shared");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("f"), "from outside\n").unwrap();
    let new = c.bench.dir.path().join("new");
    let shown = dir.to_str().unwrap();
    let script = "cat /a/f /b/f; echo x >/a/made; echo x >/b/no || echo no; echo y >/c/z; \
                  echo t >/t/f && stat -c %a /t; echo v >/v/f; cat /v/f";
    let (code, out, err) = c.run(&[
        "run",
        "--name",
        "mm",
        "-v",
        &format!("{shown}:/a"),
        "-v",
        &format!("{shown}:/b:ro"),
        "--mount",
        &format!("type=bind,source={shown},target=/c/deep"),
        "-v",
        &format!("{}:/c", new.display()),
        "--tmpfs",
        "/t:mode=700,size=1m",
        "-v",
        "/v",
        "box:1",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(
        (code, out.as_str()),
        (0, "from outside\nfrom outside\nno\n700\nv\n"),
        "{err}"
    );
    assert!(dir.join("made").exists() && !dir.join("no").exists());
    assert_eq!(std::fs::read(new.join("z")).unwrap(), b"y\n");
    // Nothing of it is in the container's layer.
    assert!(
        c.ok(&["ps", "-as"]).contains("0B (virtual"),
        "{}",
        c.ok(&["ps", "-as"])
    );
    let mounts = c.told("mm", "/Mounts");
    assert_eq!(mounts.as_array().unwrap().len(), 6);
    // Bound ones have no name.
    let names = "{{range .Mounts}}{{if eq .Type \"bind\"}}<{{.Name}}{{.Driver}}>{{end}}{{end}}";
    assert_eq!(c.ok(&["inspect", "-f", names, "mm"]), "<><><><>\n");
    c.ok(&["rm", "mm"]);
    assert!(dir.join("f").exists());
    c.assert_nothing_is_left();
}

#[test]
fn what_the_image_says() {
    let Some(c) = ready() else { return };
    c.image(
        "told:1",
        &[
            "VOLUME /var/www",
            "EXPOSE 80",
            "STOPSIGNAL SIGUSR1",
            "LABEL a=b",
            "USER web",
            "WORKDIR /var/www",
            "ENV X=y",
            "ENTRYPOINT [\"sh\", \"-c\"]",
            "CMD [\"echo $X; pwd; id -u\"]",
        ],
    );
    assert_eq!(c.ok(&["run", "--rm", "told:1"]), "y\n/var/www\n33\n");
    // Its arguments are its entry point's, and no other's.
    let echo = ["run", "--rm", "--entrypoint", "echo", "told:1"];
    assert_eq!(c.ok(&echo), "\n");
    let script = "trap 'exit 8' USR1; echo up; while :; do sleep 0.1; done";
    c.ok(&["run", "-d", "--name", "told", "told:1", script]);
    c.until("it is up", || c.ok(&["logs", "told"]) == "up\n");
    assert!(c.ok(&["ps"]).contains("80/tcp"));
    assert_eq!(c.ok(&["ps", "-q", "--filter", "label=a=b"]).len(), 13);
    c.ok(&[
        "exec",
        "-u",
        "0",
        "told",
        "sh",
        "-c",
        "echo kept > /var/www/page",
    ]);
    c.ok(&["stop", "told"]);
    assert_eq!(c.ok(&["wait", "told"]), "8\n");
    let volume = c.told("told", "/Mounts/0/Source");
    assert!(Path::new(volume.as_str().unwrap()).join("page").exists());
    assert!(c.ok(&["ps", "-as"]).contains("0B (virtual"));
    c.ok(&["rm", "told"]);
    c.assert_nothing_is_left();
}

#[test]
fn limits_are_kept_or_refused() {
    let Some(c) = ready() else { return };
    let (code, _, err) = c.run(&[
        "run",
        "-d",
        "--name",
        "small",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "20",
        "box:1",
        "sleep",
        "1000",
    ]);
    if code != 0 {
        assert!(code == 125 && err.contains("cannot be had"), "{err}");
        c.assert_nothing_is_left();
        return;
    }
    // Where they can be had, they are there.
    let pid = c.pid("small");
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let limit = |controller: &str, file: &str| {
        let mine = groups.lines().find_map(|l| {
            let (name, path) = l.split_once(':')?.1.split_once(':')?;
            let ours = name.split(',').any(|n| n == controller) || name.is_empty();
            ours.then_some((name, path))
        });
        let (name, path) = mine.unwrap();
        let base = format!("/sys/fs/cgroup/{name}{path}");
        let text = std::fs::read_to_string(format!("{base}/{file}"));
        text.ok().map(|text| text.trim().to_owned())
    };
    let either = |controller: &str, one: &str, two: &str| {
        limit(controller, one).or_else(|| limit(controller, two))
    };
    let is = |text: &str| Some(text.to_owned());
    assert_eq!(limit("pids", "pids.max"), is("20"));
    let memory = either("memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, is("67108864"));
    match limit("memory", "memory.memsw.limit_in_bytes") {
        Some(both) => assert_eq!(both, "134217728"),
        None => {
            let swap = limit("memory", "memory.swap.max");
            assert!(swap.is_none() || swap == is("67108864"), "{swap:?}");
        }
    }
    match limit("cpu", "cpu.cfs_quota_us") {
        Some(quota) => {
            assert_eq!(quota, "50000");
            assert_eq!(limit("cpu", "cpu.cfs_period_us"), is("100000"));
        }
        None => assert_eq!(limit("cpu", "cpu.max"), is("50000 100000")),
    }
    assert_eq!(c.told("small", "/State/OOMKilled"), false);
    c.ok(&["rm", "-f", "small"]);
    // Who takes more is killed, and that is told.
    let take = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"];
    let args = [&["run", "--name", "greedy", "-m", "8m", "box:1"][..], &take].concat();
    assert_eq!(c.run(&args).0, 137);
    assert_eq!(c.told("greedy", "/State/OOMKilled"), true);
    c.ok(&["rm", "greedy"]);
    c.assert_nothing_is_left();
}

#[test]
fn a_private_network_without_ports_and_udp() {
    let Some(c) = ready() else { return };
    if !pasta() {
        return;
    }
    let script = "cat /proc/net/dev /etc/resolv.conf";
    let out = c.ok(&[
        "run",
        "--rm",
        "--network",
        "bridge",
        "box:1",
        "sh",
        "-c",
        script,
    ]);
    assert!(out.contains("nameserver 169.254.1.1\n"), "{out}");
    let devices = out.lines().filter(|l| l.contains(':')).count();
    assert!(out.contains("lo:") && devices > 1, "{out}");
    // Old versions of pasta answer only where both ports are the same.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let publish = format!("127.0.0.1:{port}:{port}/udp");
    let args = ["run", "-d", "--name", "echo", "-p", &publish, "box:1"];
    let (code, _, err) = c.run(&[&args[..], &["sleep", "1000"]].concat());
    assert_eq!(code, 0, "{err}");
    // What comes is answered by the same text, by somebody in its network.
    let inside = std::fs::File::open(format!("/proc/{}/ns/net", c.pid("echo"))).unwrap();
    std::thread::spawn(move || {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        move_into_link_name_space(inside.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let socket = std::net::UdpSocket::bind(("0.0.0.0", port)).unwrap();
        drop(inside);
        let mut got = [0; 16];
        while let Ok((n, from)) = socket.recv_from(&mut got) {
            socket.send_to(&got[..n], from).unwrap();
            if &got[..n] == b"end" {
                return;
            }
        }
    });
    let address = format!("127.0.0.1:{port}");
    assert!(c.ok(&["ps"]).contains(&format!("{address}->{port}/udp")));
    for (network, found) in [("private", 1), ("bridge", 1), ("none", 0)] {
        let filter = format!("network={network}");
        assert_eq!(c.ok(&["ps", "-q", "-f", &filter]).lines().count(), found);
    }
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(std::time::Duration::from_millis(300)))
        .unwrap();
    let mut got = [0; 16];
    c.until("it answers", || {
        let _ = socket.send_to(b"ping", &address);
        matches!(socket.recv(&mut got), Ok(4)) && &got[..4] == b"ping"
    });
    socket.send_to(b"end", &address).unwrap();
    c.ok(&["rm", "-f", "echo"]);
    c.assert_nothing_is_left();
}

#[test]
fn a_published_port_is_answered() {
    let Some(c) = ready() else { return };
    if !pasta() {
        return;
    }
    let script = "mkdir /www; echo page > /www/index.html; httpd -f -p 80 -h /www";
    let (code, _, err) = c.run(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "127.0.0.1::80",
        "box:1",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(code, 0, "{err}");
    let port = c.told("web", "/NetworkSettings/Ports/80~1tcp/0/HostPort");
    let address = format!("127.0.0.1:{}", port.as_str().unwrap());
    assert!(c.ok(&["ps"]).contains(&format!("{address}->80/tcp")));
    assert_eq!(c.ok(&["port", "web"]), format!("80/tcp -> {address}\n"));
    for asked in ["80", "80/tcp"] {
        assert_eq!(c.ok(&["port", "web", asked]), format!("{address}\n"));
    }
    for (asked, why) in [
        ("80/udp", "no public port '80/udp' published for web"),
        ("81", "no public port '81/tcp' published for web"),
        ("80/x", "invalid protocol 'x': it is tcp or udp"),
    ] {
        let refused = (1, String::new(), format!("Error: {why}\n"));
        assert_eq!(c.run(&["port", "web", asked]), refused);
    }
    let ask = || {
        let mut stream = TcpStream::connect(&address)?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        std::io::Result::Ok(text)
    };
    c.until("it answers", || {
        ask().is_ok_and(|text| text.ends_with("page\n"))
    });
    // The port is taken, and who asks for it too is told.
    let taken = format!("{address}:80");
    let (code, _, err) = c.run(&["run", "--rm", "-p", &taken, "box:1", "true"]);
    assert!(
        code == 125 && err.contains("port is already allocated"),
        "{err}"
    );
    c.ok(&["rm", "-f", "web"]);
    assert!(TcpStream::connect(&address).is_err());
    c.assert_nothing_is_left();
}

#[test]
fn all_ports_more_hosts_and_a_file_for_the_id() {
    let Some(c) = ready() else { return };
    let file = c.bench.dir.path().join("id");
    let shown = file.to_str().unwrap();
    let hosts = ["--add-host", "db:10.0.0.7", "--add-host", "six=[::7]"];
    let more = [&hosts[..], &["--cidfile", shown, "--expose", "8080"]].concat();
    let args = [
        &["create", "--name", "box"],
        &more[..],
        &["box:1", "cat", "/etc/hosts"],
    ]
    .concat();
    let id = c.ok(&args);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id.trim_end());
    let out = c.run(&["start", "-a", "box"]).1;
    assert!(out.ends_with("10.0.0.7\tdb\n::7\tsix\n"), "{out}");
    assert_eq!(
        c.told("box", "/Config/ExposedPorts/8080~1tcp"),
        serde_json::json!({})
    );
    let (code, _, err) = c.run(&["run", "--rm", "--cidfile", shown, "box:1", "true"]);
    assert!(
        code == 125 && err.contains("container ID file found"),
        "{err}"
    );
    std::fs::remove_file(&file).unwrap();
    for bad in [
        &["--add-host", "db"][..],
        &["--add-host", "db:host"],
        &["--add-host", ":10.0.0.7"],
        &["--expose", "x"],
        &["--pull", "never", "none:1"],
    ] {
        let args = [
            &["run", "--rm", "--cidfile", shown],
            bad,
            &["box:1", "true"],
        ]
        .concat();
        let (code, _, err) = c.run(&args);
        assert!(code == 125 && err.lines().count() == 1, "{bad:?}: {err}");
        assert!(!file.exists(), "{bad:?}");
    }
    c.ok(&["rm", "box"]);
    if !pasta() {
        return;
    }
    c.image("ports:1", &["EXPOSE 80 53/udp"]);
    let args = [
        "run",
        "-d",
        "-P",
        "--name",
        "web",
        "-p",
        "127.0.0.1::80",
        "ports:1",
    ];
    let (code, _, err) = c.run(&[&args[..], &["sleep", "1000"]].concat());
    assert_eq!(code, 0, "{err}");
    let ports = c.ok(&["port", "web"]);
    assert!(
        ports.contains("80/tcp -> 127.0.0.1:") && ports.contains("53/udp -> 0.0.0.0:"),
        "{ports}"
    );
    assert_eq!(ports.lines().count(), 2);
    c.ok(&["rm", "-f", "web"]);
    c.assert_nothing_is_left();
}

#[test]
fn processes_and_shared_memory_have_their_limits() {
    let Some(c) = ready() else { return };
    let limits = [
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=0",
        "--shm-size",
        "1m",
    ];
    let script = "ulimit -Sn; ulimit -Hn; ulimit -c; stat -fc %b /dev/shm; sleep 1000";
    c.ok(&[
        &["run", "-d", "--name", "box"],
        &limits[..],
        &["box:1", "sh", "-c", script],
    ]
    .concat());
    c.until("it has told", || {
        c.ok(&["logs", "box"]) == "100\n200\n0\n256\n"
    });
    // Those of commands beside it are the same.
    assert_eq!(c.ok(&["exec", "box", "sh", "-c", "ulimit -Sn"]), "100\n");
    assert_eq!(c.told("box", "/HostConfig/ShmSize"), 1 << 20);
    assert_eq!(c.told("box", "/HostConfig/Ulimits/0/Hard"), 200);
    c.ok(&["rm", "-f", "box"]);
    for bad in [
        ["--ulimit", "odd=1"],
        ["--ulimit", "nofile=2:1"],
        ["--shm-size", "x"],
    ] {
        let (code, _, err) = c.run(&[&["run", "--rm"][..], &bad, &["box:1", "true"]].concat());
        assert!(
            code == 125 && err.starts_with("Error: invalid ") && err.lines().count() == 1,
            "{err}"
        );
    }
    c.assert_nothing_is_left();
}

/// Scripts give an empty text where they have nothing to give.
#[test]
fn an_empty_option_is_none() {
    let Some(c) = ready() else { return };
    let empty = [
        "--name",
        "",
        "-w",
        "",
        "-h",
        "",
        "--stop-signal",
        "",
        "--platform",
        "",
    ];
    let out = c.ok(&[&["run", "--rm"][..], &empty, &["box:1", "pwd"]].concat());
    assert_eq!(out, "/\n");
}

#[test]
fn an_image_is_for_a_platform() {
    let Some(c) = ready() else { return };
    let own = c.told("box:1", "/Architecture");
    let own = own.as_str().unwrap();
    let run = |platform: &str| {
        let args = [
            "run",
            "--rm",
            "--pull",
            "never",
            "--platform",
            platform,
            "box:1",
            "pwd",
        ];
        c.run(&args)
    };
    for platform in [own, "linux", &format!("linux/{own}")] {
        assert_eq!(
            run(platform),
            (0, "/\n".into(), String::new()),
            "{platform}"
        );
    }
    let (code, out, err) = run("linux/s390x");
    let why = format!(
        "Error: image with reference box:1 was found but its platform (linux/{own}) does not match the specified platform (linux/s390x)\n"
    );
    assert_eq!((code, out.as_str(), err), (125, "", why));
    let (code, _, err) = run("box");
    assert!(
        code == 125 && err.contains("\"box\" is no platform"),
        "{err}"
    );
    // Docker's variable stands for the option.
    let mut by_variable = c.command(&["create", "--pull", "never", "box:1"]);
    by_variable.env("DOCKER_DEFAULT_PLATFORM", "linux/s390x");
    let out = by_variable.output().unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    assert!(
        out.status.code() == Some(1) && err.contains("platform (linux/s390x)"),
        "{err}"
    );
    // Another one is looked for in its registry.
    let other = [
        "run",
        "--rm",
        "--platform",
        "s390x",
        "localhost:1/box:1",
        "pwd",
    ];
    c.ok(&["tag", "box:1", "localhost:1/box:1"]);
    let (code, _, err) = c.run(&other);
    assert!(
        code == 125 && err.contains("cannot reach localhost:1"),
        "{err}"
    );
    c.assert_nothing_is_left();
}

/// Nor what is mounted in it: the control groups.
#[test]
fn the_machines_sys_is_not_written() {
    let Some(c) = ready() else { return };
    for network in ["host", "none"] {
        let shown = c.ok(&[
            "run",
            "--rm",
            "--network",
            network,
            "box:1",
            "cat",
            "/proc/self/mountinfo",
        ]);
        let field = |line: &str, n: usize| line.split(' ').nth(n).unwrap().to_owned();
        let sys: Vec<&str> = shown
            .lines()
            .filter(|line| field(line, 4).starts_with("/sys"))
            .collect();
        assert!(!sys.is_empty(), "{shown}");
        for line in sys {
            assert!(field(line, 5).starts_with("ro"), "{network}: {line}");
        }
    }
    c.assert_nothing_is_left();
}

#[test]
fn a_source_that_went_is_told_and_not_made() {
    let Some(c) = ready() else { return };
    let dir = c.bench.dir.path().join("bound");
    std::fs::create_dir(&dir).unwrap();
    let given = format!("type=bind,source={},target=/b", dir.display());
    c.ok(&["create", "--name", "bb", "--mount", &given, "box:1", "true"]);
    std::fs::remove_dir(&dir).unwrap();
    let (code, _, err) = c.run(&["start", "-a", "bb"]);
    assert!(code == 1 && err.contains("bound"), "{code}: {err}");
    assert!(!dir.exists());
    c.ok(&["rm", "bb"]);
    c.assert_nothing_is_left();
}

/// Also for those who come later, from another directory.
#[test]
fn a_runtime_with_a_relative_path() {
    let Some(c) = ready() else { return };
    let dir = c.bench.dir.path().join("bin");
    std::fs::create_dir(&dir).unwrap();
    let runc = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"];
    let runc = runc.iter().find(|p| Path::new(p).exists()).unwrap();
    std::os::unix::fs::symlink(runc, dir.join("runc")).unwrap();
    let args = [
        "--runtime",
        "./runc",
        "run",
        "-d",
        "--name",
        "rr",
        "box:1",
        "sleep",
        "1000",
    ];
    let out = c.command(&args).current_dir(&dir).output().unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    c.ok(&["rm", "-f", "rr"]);
    c.assert_nothing_is_left();
}
