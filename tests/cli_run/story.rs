//! The story that courses tell of images and containers, command by command.

use super::harness::{Cli, pasta, ready};
use super::terminal::Typed;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// A registry on this machine, which ends with the test.
struct Registry {
    child: Child,
    host: String,
}

impl Registry {
    fn start(c: &Cli) -> Option<Registry> {
        let program = "/usr/bin/docker-registry";
        if !std::path::Path::new(program).exists() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "this test needs docker-registry"
            );
            eprintln!("SKIPPED: this test needs docker-registry");
            return None;
        }
        // Free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let host = address.unwrap().to_string();
        let files = c.bench.dir.path().join("registry");
        let config = c.bench.write(
            "registry.yml",
            format!(
                "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
                files.display()
            )
            .as_bytes(),
        );
        let child = Command::new(program)
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Registry { child, host };
        c.until("the registry listens", || {
            std::net::TcpStream::connect(&registry.host).is_ok()
        });
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The columns of a table's only row, by what parts them: three blanks or more.
fn columns(table: &str) -> Vec<String> {
    let row = table.lines().nth(1).unwrap();
    let parts = row.split("   ").map(str::trim);
    parts.filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

#[test]
fn images_and_containers_as_courses_tell() {
    let Some(c) = ready() else { return };
    let Some(registry) = Registry::start(&c) else {
        return;
    };
    // Somebody has pushed the image.
    let remote = format!("{}/library/ubuntu:latest", registry.host);
    c.ok(&["tag", "box:1", &remote]);
    let pushed = c.ok(&["push", &remote]);
    assert!(pushed.contains("latest: digest: sha256:"), "{pushed}");
    c.ok(&["rmi", "box:1", &remote]);

    let name = format!("{}/library/ubuntu", registry.host);

    // What is not there is pulled, unless that is not wanted.
    let hello = |pull: &[&str]| {
        let args = [&["run", "--rm"][..], pull, &[&name, "echo", "hello"]].concat();
        c.run(&args)
    };
    let (code, out, err) = hello(&["--pull", "never"]);
    assert_eq!((code, out.as_str()), (125, ""), "{err}");
    assert!(err.contains("No such image"), "{err}");
    let (code, out, err) = hello(&[]);
    assert_eq!((code, out.as_str()), (0, "hello\n"), "{err}");
    let unable = format!("Unable to find image '{name}:latest' locally\n");
    assert!(err.starts_with(&unable), "{err}");
    assert!(err.contains("Status: Downloaded newer image for"), "{err}");
    assert_eq!(hello(&[]), (0, "hello\n".into(), String::new()));
    let (code, out, err) = hello(&["--pull", "always"]);
    assert_eq!((code, out.as_str()), (0, "hello\n"), "{err}");
    assert!(err.contains("Status: Image is up to date for"), "{err}");
    c.ok(&["rmi", &name]);
    let pulled = c.ok(&["pull", &name]);
    assert!(
        pulled.starts_with("Using default tag: latest\n"),
        "{pulled}"
    );
    assert!(
        pulled.contains("Status: Downloaded newer image for"),
        "{pulled}"
    );
    c.ok(&["tag", &name, "ubuntu"]);
    c.ok(&["rmi", &name]);
    let images = c.ok(&["images"]);
    let image = columns(&images);
    assert!(
        images.starts_with("REPOSITORY   TAG       IMAGE ID       CREATED"),
        "{images}"
    );
    assert_eq!((image[0].as_str(), image[1].as_str()), ("ubuntu", "latest"));
    let size = image.last().unwrap();

    // An interactive container takes nothing.
    let mut shell = Typed::new(
        &c,
        &["run", "-it", "--name", "contenedor1", "ubuntu", "/bin/sh"],
    );
    shell.sees("# ");
    shell.type_("exit 130\n");
    assert_eq!(shell.ends(), 130);
    let row = columns(&c.ok(&["ps", "-a", "-s"]));
    assert_eq!(row[1..3], ["ubuntu", "\"/bin/sh\""]);
    assert!(row[4].starts_with("Exited (130) "), "{row:?}");
    assert_eq!(row[5..], ["contenedor1", &format!("0B (virtual {size})")]);

    // Started again and written in, it takes what was written.
    assert_eq!(c.ok(&["start", "contenedor1"]), "contenedor1\n");
    let mut shell = Typed::new(&c, &["attach", "contenedor1"]);
    shell.type_("echo \"00000000000000000\">file.txt\n");
    shell.type_("exit\n");
    assert_eq!(shell.ends(), 0);
    let row = columns(&c.ok(&["ps", "-a", "-s"]));
    assert!(row[4].starts_with("Exited (0) "), "{row:?}");
    assert!(row[6].starts_with("18B (virtual "), "{row:?}");

    // The image cannot go while the container is there.
    let (code, _, err) = c.run(&["rmi", "ubuntu"]);
    let refused =
        "conflict: unable to remove repository reference \"ubuntu\" (must force) - container";
    assert!(code == 1 && err.contains(refused), "{err}");

    // What it is made of.
    let layers = c.told("ubuntu:latest", "/RootFS/Layers");
    assert_eq!(layers.as_array().unwrap().len(), 2);
    assert_eq!(c.told("ubuntu:latest", "/RootFS/Type"), "layers");
    assert!(c.ok(&["history", "ubuntu"]).starts_with("IMAGE"));

    // One more name, under which it goes to its user's repository.
    let own = format!("{}/usuario/ubuntu:platzi", registry.host);
    c.ok(&["tag", "ubuntu", &own]);
    assert!(c.ok(&["push", &own]).contains("platzi: digest: sha256:"));

    // An image from a recipe: a plain layer with what is in a directory.
    let context = c.bench.dir.path().join("site");
    std::fs::create_dir(&context).unwrap();
    let recipe = "FROM scratch\nCOPY [\".\", \"/usr/src/\"]\nWORKDIR /usr/src\nEXPOSE 3000\nCMD [\"./busybox\", \"cat\", \"index.js\"]\n";
    std::fs::write(context.join("Dockerfile"), recipe).unwrap();
    std::fs::write(context.join("index.js"), "console.log(1)\n").unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox = busybox
        .iter()
        .find(|p| std::path::Path::new(p).exists())
        .unwrap();
    std::fs::copy(busybox, context.join("busybox")).unwrap();
    let (code, built, _) = c.run(&["build", "-t", "platziapp", context.to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(
        built.ends_with("\nSuccessfully tagged platziapp:latest\n"),
        "{built}"
    );
    assert_eq!(c.ok(&["run", "--rm", "platziapp"]), "console.log(1)\n");
    let history = c.ok(&[
        "history",
        "--format",
        "{{.CreatedBy}} {{.Size}}",
        "platziapp",
    ]);
    let steps: Vec<&str> = history.lines().collect();
    assert_eq!(steps[0], "CMD [\"./busybox\", \"cat\", \"index.js\"] 0B");
    assert_eq!(steps[1..3], ["EXPOSE 3000 0B", "WORKDIR /usr/src 0B"]);
    assert!(
        steps[3].starts_with("COPY [\".\", \"/usr/src/\"] "),
        "{history}"
    );
    assert_eq!(
        c.told("platziapp", "/RootFS/Layers")
            .as_array()
            .unwrap()
            .len(),
        1
    );
    c.ok(&["rmi", "platziapp"]);

    serves_a_site(&c);

    // A command in place of a shell.
    let hello = c.ok(&["run", "--rm", "ubuntu", "/bin/echo", "Hello world"]);
    assert_eq!(hello, "Hello world\n");
    c.ok(&["rm", "contenedor1"]);
    c.ok(&["rmi", "ubuntu", &own]);
    c.assert_nothing_is_left();
}

/// A web server of an image of one's own, asked through a port of the machine.
fn serves_a_site(c: &Cli) {
    if !pasta() {
        return;
    }
    let context = c.bench.dir.path().join("web");
    std::fs::create_dir(&context).unwrap();
    let recipe = "FROM ubuntu\nCOPY index.html /usr/share/html/\nEXPOSE 80\n\
                  CMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/usr/share/html\"]\n";
    std::fs::write(context.join("Dockerfile"), recipe).unwrap();
    std::fs::write(context.join("index.html"), "bienvenido\n").unwrap();
    c.ok(&["build", "-q", "-t", "web", context.to_str().unwrap()]);
    // Free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let publish = format!("{port}:80");
    let id = c.ok(&["run", "-d", "-p", &publish, "--name", "proxy", "web"]);
    assert_eq!(id.trim_end().len(), 64);
    let row = columns(&c.ok(&["ps"]));
    assert_eq!(row[5], format!("0.0.0.0:{port}->80/tcp"), "{row:?}");
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        std::io::Result::Ok(text)
    };
    c.until("it answers", || {
        ask().is_ok_and(|text| text.ends_with("\r\n\r\nbienvenido\n"))
    });
    assert_eq!(c.ok(&["rm", "-f", "proxy"]), "proxy\n");
    c.ok(&["rmi", "web"]);
}
