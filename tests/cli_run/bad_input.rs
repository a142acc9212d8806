//! Each is one clear line, and leaves nothing.

use super::harness::ready;

#[test]
fn bad_options_are_told_and_nothing_is_made() {
    let Some(c) = ready() else { return };
    for (options, part) in [
        (&["--name", "_x"][..], "Invalid container name"),
        (&["-w", "relative"], "needs to be an absolute path"),
        (
            &["-v", "not@name:/x"],
            "includes invalid characters for a local volume name",
        ),
        (&["-v", "/tmp:relative"], "must be absolute"),
        (&["-v", "/tmp:/"], "destination can't be '/'"),
        (&["-v", "/tmp:/x:odd"], "option odd is not known"),
        (
            &["-v", "/tmp:/x", "-v", "/var:/x"],
            "Duplicate mount point: /x",
        ),
        (
            &["--mount", "type=bind,source=/no/such,target=/x"],
            "bind source path does not exist: /no/such",
        ),
        (&["--mount", "type=odd,target=/x"], "type=odd is not known"),
        (&["--tmpfs", "/x:lowerdir=/"], "lowerdir=/ is not known"),
        (&["-p", "x"], "invalid port 'x'"),
        (&["-p", "80", "--network", "host"], "private network only"),
        (&["-m", "x"], "invalid size"),
        (&["-m", "1m"], "Minimum memory limit"),
        (&["--cpus", "x"], "invalid number of processors"),
        (&["--stop-signal", "ODD"], "invalid signal: ODD"),
        (&["--hostname", "a b"], "invalid hostname"),
        (&["-e", "=x"], "invalid environment variable"),
        (&["--env-file", "/no/such"], "/no/such is not there"),
        (&["--detach-keys", "odd"], "invalid detach keys"),
        (&["-it"], "the input device is not a TTY"),
        (&["-u", "nobody"], "unable to find user nobody"),
        (&["-u", "web:nogroup"], "unable to find group nogroup"),
        (&["-w", "/proc/self/fd/8"], "leads into /proc"),
        (&["--pull", "never"], "No such image: none"),
    ] {
        let image = if options.contains(&"never") {
            "none"
        } else {
            "box:1"
        };
        let all = [&["run", "--rm"][..], options, &[image, "true"]].concat();
        let (code, out, err) = c.run(&all);
        assert_eq!((code, out.as_str()), (125, ""), "{options:?}: {err}");
        assert!(
            err.starts_with("Error: ") && err.contains(part),
            "{options:?}: {err}"
        );
        assert_eq!(err.lines().count(), 1, "{options:?}: {err}");
        c.assert_nothing_is_left();
    }
}

#[test]
fn mounts_through_links_stay_in_the_container() {
    let Some(c) = ready() else { return };
    let outside = c.bench.dir.path().join("elsewhere");
    std::fs::create_dir(&outside).unwrap();
    let shared = c.bench.dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("f"), "shared\n").unwrap();
    // An image whose /data leads out of it, were it followed as on the machine.
    let up = format!("../../../..{}", outside.display());
    for target in [outside.to_str().unwrap(), &up] {
        c.ok(&[
            "run",
            "--name",
            "links",
            "box:1",
            "sh",
            "-c",
            &format!("ln -s {target} /data"),
        ]);
        let root = c.ok(&["mount", "links"]);
        assert!(std::fs::symlink_metadata(format!("{}/data", root.trim_end())).is_ok());
        c.ok(&["umount", "links"]);
        let bind = format!("{}:/data/in", shared.display());
        c.ok(&["rm", "links"]);
        c.ok(&[
            "create",
            "--name",
            "links",
            "-v",
            &bind,
            "box:1",
            "cat",
            "/data/in/f",
        ]);
        let root = c.ok(&["mount", "links"]);
        std::os::unix::fs::symlink(target, format!("{}/data", root.trim_end())).unwrap();
        c.ok(&["umount", "links"]);
        assert_eq!(c.run(&["start", "-a", "links"]).1, "shared\n");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{target}");
        c.ok(&["rm", "links"]);
    }
    c.assert_nothing_is_left();
}

#[test]
fn what_an_image_says_of_itself_stays_in_the_container() {
    let Some(c) = ready() else { return };
    let outside = c.bench.dir.path().join("elsewhere");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("f"), "outside\n").unwrap();
    // Where its volume and its directory are, there are links out of it.
    let up = format!("../../../..{}", outside.display());
    let script = format!("ln -s {up} /data; ln -s {up} /work; ln -s /proc/self/fd /descriptors");
    c.ok(&["run", "--name", "links", "box:1", "sh", "-c", &script]);
    let commit = |change: &str, name: &str| c.ok(&["commit", "-c", change, "links", name]);
    commit("VOLUME /data", "volume:1");
    commit("WORKDIR /work", "inside:1");
    commit("WORKDIR /descriptors/8", "descriptors:1");
    commit(
        "LABEL io.capas.image.id=sha256:0 io.capas.image.damaged=yes",
        "labels:1",
    );
    c.ok(&["rm", "links"]);
    let text = c.ok(&[
        "run",
        "--rm",
        "volume:1",
        "sh",
        "-c",
        "echo in >/data/g; ls /data",
    ]);
    assert_eq!(text, "g\n");
    // There is nothing in the container where the link leads.
    for (name, why) in [("inside:1", "/work"), ("descriptors:1", "leads into /proc")] {
        let (code, out, err) = c.run(&["run", "--rm", name, "ls"]);
        assert!(
            (code, out.as_str()) == (125, "") && err.contains(why),
            "{name}: {err}"
        );
    }
    assert_eq!(c.ok(&["run", "--rm", "labels:1", "echo", "fine"]), "fine\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    c.assert_nothing_is_left();
}

#[test]
fn what_cannot_start_stays_as_it_was_made() {
    let Some(c) = ready() else { return };
    let (code, _, err) = c.run(&["run", "--name", "bad", "box:1", "nosuch"]);
    assert!(code == 127 && err.starts_with("Error: "), "{err}");
    assert!(c.ok(&["ps", "-a"]).contains("Created"));
    assert_eq!(c.told("bad", "/State/ExitCode"), 127);
    assert!(
        c.told("bad", "/State/Error")
            .as_str()
            .unwrap()
            .contains("nosuch")
    );
    assert_eq!(c.mounts(), 0);
    assert_eq!(c.run(&["start", "bad"]).0, 1);
    c.ok(&["rm", "bad"]);
    c.assert_nothing_is_left();
}
