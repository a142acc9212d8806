//! The commands that need no mount: what they print, column by column, and
//! their exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    missing_docs
)]

#[path = "cli/layers.rs"]
mod layers;
#[path = "store/program.rs"]
mod program;
#[path = "store/support.rs"]
mod support;

use program::Cli;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn load_and_images() {
    let c = Cli::new();
    assert_eq!(
        c.ok(&["images"]),
        "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
    );
    let out = c.load(&"x".repeat(72_900), &["debian:12", "h.example/long/name:t"]);
    assert_eq!(
        out,
        "Loaded image: debian:12\nLoaded image: h.example/long/name:t\n"
    );
    let id = c.id(&"x".repeat(72_900));
    assert_eq!(
        c.load("none", &[]),
        format!("Loaded image ID: sha256:{}\n", c.id("none"))
    );
    let out = c.ok(&["images"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        "REPOSITORY            TAG       IMAGE ID       CREATED       SIZE"
    );
    let short = &id[..12];
    let ago = capas::cli::units::ago(capas::store::time::parse("2024-05-01T10:00:00Z").unwrap());
    assert!(
        lines.contains(
            &format!("debian                12        {short}   {ago}   72.9kB").as_str()
        ),
        "{out}"
    );
    assert!(
        lines.contains(
            &format!("h.example/long/name   t         {short}   {ago}   72.9kB").as_str()
        ),
        "{out}"
    );
    assert!(
        lines.contains(
            &format!(
                "<none>                <none>    {}   {ago}   4B",
                &c.id("none")[..12]
            )
            .as_str()
        ),
        "{out}"
    );
    assert_eq!(lines.len(), 4);
    assert_eq!(c.ok(&["images", "-q", "debian"]), format!("{short}\n"));
    assert_eq!(
        c.ok(&["images", "-q", "--no-trunc", "debian:12"]),
        format!("sha256:{id}\n")
    );
    assert_eq!(c.ok(&["images", "-q", "debian:13"]), "");
    assert_eq!(c.ok(&["images", "--digests", "debian"]).lines().count(), 2);
}

#[test]
fn a_name_moves_to_the_newer_image() {
    let c = Cli::new();
    c.load("one", &["x:1"]);
    assert_eq!(
        c.load("two", &["x:1"]),
        format!(
            "The image x:1 already exists, renaming the old one with ID sha256:{} to empty string\nLoaded image: x:1\n",
            c.id("one")
        )
    );
    assert_eq!(c.ok(&["images"]).lines().count(), 3);
}

#[test]
fn load_reads_standard_input() {
    let c = Cli::new();
    let path = c.archive("x", &["in:1"]);
    let out = Command::new(env!("CARGO_BIN_EXE_capas"))
        .args(["--root", c.bench.store.root().to_str().unwrap(), "load"])
        .stdin(std::fs::File::open(path).unwrap())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(out.stdout).unwrap(),
        "Loaded image: in:1\n"
    );
}

#[test]
fn errors_are_one_line() {
    let c = Cli::new();
    c.fails(
        &["load", "-i", "/nowhere"],
        1,
        "Error: cannot open /nowhere: No such file or directory (os error 2)\n",
    );
    c.fails(&["rmi", "none"], 1, "Error: No such image: none\n");
    c.fails(&["rmi", "-f", "none"], 0, "Error: No such image: none\n");
    c.fails(&["rm", "none"], 1, "Error: No such container: none\n");
    assert_eq!(
        c.fails(&["inspect", "none"], 1, "Error: No such object: none\n"),
        "[]\n"
    );
    c.fails(
        &["create", "--pull", "never", "none"],
        1,
        "Error: No such image: none\n",
    );
    c.fails(
        &["run", "--pull=never", "none"],
        125,
        "Error: No such image: none\n",
    );
    assert_eq!(c.run(&["run"]).code, 125);
    assert_eq!(c.run(&["lod"]).code, 1);
    assert!(c.run(&["lod"]).err.contains("'load'"));
    assert!(c.ok(&["version"]).starts_with("capas version "));
    let foreign = c.bench.dir.path().join("outside");
    let done = c.run(&["--root", foreign.to_str().unwrap(), "images"]);
    assert!(
        done.code == 1 && done.err.contains("not an image store"),
        "{}",
        done.err
    );
}

#[test]
fn containers_from_create_to_rm() {
    let c = Cli::new();
    c.load(&"x".repeat(1234), &["x:1"]);
    let image = c.id(&"x".repeat(1234));
    let id = c.ok(&[
        "create",
        "--name",
        "one",
        "x:1",
        "/bin/a-long-command",
        "with",
        "words",
    ]);
    let id = id.trim_end();
    assert_eq!(id.len(), 64);
    let short = &id[..12];
    assert_eq!(c.ok(&["ps"]).lines().count(), 1);
    // A second may have passed.
    let out = c
        .ok(&["ps", "-a", "-s"])
        .replace("CREATED        STATUS", "CREATED                  STATUS")
        .replace("1 second ago   ", "Less than a second ago   ");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        "CONTAINER ID   IMAGE     COMMAND                  CREATED                  STATUS    PORTS     NAMES     SIZE"
    );
    assert_eq!(
        lines[1],
        format!(
            "{short}   x:1       \"/bin/a-long-command…\"   Less than a second ago   Created             one       0B (virtual 1.23kB)"
        )
    );
    // What is written shows, in the size of the files.
    let upper = c.bench.store.containers().join(id).join("upper");
    std::fs::write(upper.join("file.txt"), "00000000000000000\n").unwrap();
    assert!(
        c.ok(&["ps", "-as"])
            .lines()
            .nth(1)
            .unwrap()
            .ends_with("   18B (virtual 1.25kB)")
    );
    assert_eq!(c.ok(&["ps", "-aq", "--no-trunc"]), format!("{id}\n"));

    c.fails(
        &["create", "--name", "one", "x:1"],
        1,
        &format!(
            "Error: Conflict. The container name \"/one\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name.\n"
        ),
    );
    c.fails(
        &["create", "--name", "_x", "x:1"],
        1,
        "Error: Invalid container name (_x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed\n",
    );
    c.fails(
        &["create", "-w", "rel", "x:1"],
        1,
        "Error: the working directory 'rel' is invalid, it needs to be an absolute path\n",
    );
    let refused = format!(
        "Error: conflict: unable to remove repository reference \"x:1\" (must force) - container {short} is using its referenced image {}\n",
        &image[..12]
    );
    c.fails(&["rmi", "x:1"], 1, &refused);
    c.fails(
        &["rmi", &image[..12]],
        1,
        &format!(
            "Error: conflict: unable to delete {} (must be forced) - image is being used by stopped container {short}\n",
            &image[..12]
        ),
    );
    // By force the image goes, but not the layers of the container, and what
    // they merge to.
    assert_eq!(
        c.ok(&["rmi", "-f", "x:1"]),
        format!("Untagged: x:1\nDeleted: sha256:{image}\n")
    );
    let layers = || std::fs::read_dir(c.bench.store.layers()).unwrap().count();
    assert_eq!(layers(), 3);
    assert_eq!(c.ok(&["rm", short]), format!("{short}\n"));
    assert_eq!(layers(), 0);
    assert_eq!(c.bench.contents(), Vec::<String>::new());
}

#[test]
fn rmi_by_name_and_id() {
    let c = Cli::new();
    c.load("x", &["x:1", "x:2", "y:1"]);
    let id = c.id("x");
    assert_eq!(c.ok(&["rmi", "x:1"]), "Untagged: x:1\n");
    c.fails(
        &["rmi", &id],
        1,
        &format!(
            "Error: conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories\n",
            &id[..12]
        ),
    );
    assert_eq!(
        c.ok(&["rmi", "-f", &id]),
        format!("Untagged: x:2\nUntagged: y:1\nDeleted: sha256:{id}\n")
    );
    assert_eq!(c.bench.contents(), Vec::<String>::new());
    // Several tags of one repository are several too.
    c.load("x", &["x:1", "x:2"]);
    c.fails(
        &["rmi", &id],
        1,
        &format!(
            "Error: conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories\n",
            &id[..12]
        ),
    );
    assert_eq!(c.ok(&["rmi", "x:2"]), "Untagged: x:2\n");
    assert_eq!(
        c.ok(&["rmi", &id]),
        format!("Untagged: x:1\nDeleted: sha256:{id}\n")
    );
}

#[test]
fn inspect_has_dockers_shape() {
    let c = Cli::new();
    c.load("x", &["x:1"]);
    let id = c.ok(&[
        "create", "--name", "one", "-e", "A=b", "-u", "web", "x:1", "-c", "true",
    ]);
    let text = c.ok(&["inspect", "one", "x:1"]);
    assert!(text.starts_with("[\n    {\n        \""), "{text}");
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (container, image) = (&all[0], &all[1]);
    assert_eq!(container["Id"], id.trim_end());
    assert_eq!(container["Name"], "/one");
    assert_eq!(container["State"]["Status"], "created");
    assert_eq!(container["Config"]["User"], "web");
    assert_eq!(
        container["Config"]["Env"],
        serde_json::json!(["PATH=/bin", "A=b"])
    );
    assert_eq!(container["Args"], serde_json::json!(["true"]));
    assert_eq!(container["Image"], image["Id"]);
    let upper = container["GraphDriver"]["Data"]["UpperDir"]
        .as_str()
        .unwrap();
    assert!(std::path::Path::new(upper).is_dir());
    let lower = container["GraphDriver"]["Data"]["LowerDir"]
        .as_str()
        .unwrap();
    assert!(std::path::Path::new(lower).join("file").is_file());
    assert_eq!(image["Id"], format!("sha256:{}", c.id("x")));
    assert_eq!(image["RepoTags"], serde_json::json!(["x:1"]));
    assert_eq!(image["Architecture"], "amd64");
    assert_eq!(image["Config"]["Cmd"], serde_json::json!(["/bin/sh"]));
    assert_eq!(image["GraphDriver"]["Name"], "capasfs");
    assert_eq!(image["RootFS"]["Type"], "layers");
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(image["Size"], 1);
}

#[test]
fn a_crashed_run_is_seen_as_ended() {
    let c = Cli::new();
    c.load("x", &["x:1"]);
    let id = c.ok(&["create", "--name", "one", "x:1"]);
    let path = c
        .bench
        .store
        .containers()
        .join(id.trim_end())
        .join("state.json");
    std::fs::write(&path, r#"{"status":"running","started":1}"#).unwrap();
    assert_eq!(c.ok(&["ps"]).lines().count(), 1);
    assert!(c.ok(&["ps", "-a"]).contains("Exited (255)"));
    let all: serde_json::Value = serde_json::from_str(&c.ok(&["inspect", "one"])).unwrap();
    assert_eq!(all[0]["State"]["Running"], false);
    // Nor does a state that was lost with the power hide the container.
    std::fs::write(&path, "").unwrap();
    assert!(c.ok(&["ps", "-a"]).contains("Exited (255)"));
    assert_eq!(c.ok(&["rm", "one"]), "one\n");
}

#[test]
fn concurrent_loads_and_removals_keep_the_store_whole() {
    let c = Cli::new();
    let paths: Vec<PathBuf> = (0..4)
        .map(|n| c.archive(&format!("content {}", n % 2), &[&format!("x:{n}")]))
        .collect();
    std::thread::scope(|scope| {
        for (n, path) in paths.iter().enumerate() {
            let c = &c;
            scope.spawn(move || {
                for _ in 0..5 {
                    assert!(c.load_path(path).contains(&format!("x:{n}")));
                    let id = c.ok(&["create", &format!("x:{n}")]);
                    c.ok(&["ps", "-a"]);
                    c.ok(&["images"]);
                    c.ok(&["rm", id.trim_end()]);
                    c.ok(&["rmi", &format!("x:{n}")]);
                }
            });
        }
    });
    assert_eq!(c.ok(&["images"]).lines().count(), 1);
    let left = c.bench.contents();
    c.load("last", &["last:1"]);
    c.ok(&["rmi", "last:1"]);
    assert_eq!(c.bench.contents(), Vec::<String>::new(), "before: {left:?}");
}
