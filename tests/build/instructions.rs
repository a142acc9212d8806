//! Every instruction does what it says.

use super::fixture::{ground, mode};
use serde_json::json;
use std::process::Command;

#[test]
fn commands_change_the_image_and_see_their_environment() {
    let Some(g) = ground() else { return };
    let said = g.build(
        "t:1",
        "ARG BASE=box\nFROM ${BASE}:1\nARG WHO=world\nARG GIVEN\nENV GREETING=\"hi ${WHO}\"\nWORKDIR /srv/app\nRUN echo \"$GREETING $GIVEN\" > out && id -u && pwd && rm /etc/motd\nRUN [\"sh\", \"-c\", \"echo exec form $0 > exec\", \"x y\"]\nUSER web\nRUN id -u > /tmp/who; echo $HOME >> /tmp/who\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo a; \\\n # a comment between\n echo b > /tmp/b\n",
        &["--build-arg", "GIVEN=there"],
    );
    assert!(said.contains("[6/11] RUN echo"), "{said}");
    assert!(said.contains("0\n/srv/app\n => "), "{said}");
    let see = |command: &str| g.see("t:1", command);
    assert_eq!(see("cat /srv/app/out"), "hi world there\n");
    assert_eq!(see("cat /srv/app/exec"), "exec form x y\n");
    assert_eq!(see("cat /tmp/who"), "33\n/var/www\n");
    assert_eq!(
        see("cat /tmp/b; ls /etc/motd 2>/dev/null; ls -d /etc/group"),
        "b\n/etc/group\n"
    );
    assert_eq!(
        see("id -u; pwd; echo $GREETING $WHO"),
        "33\n/srv/app\nhi world\n"
    );
    // The runtime's own mount points are no part of it.
    assert_eq!(g.see("t:1", "true"), "");
    let layers = g.told("t:1", "/RootFS/Layers");
    assert_eq!(layers.as_array().unwrap().len(), 2 + 5, "{layers}");
    g.assert_nothing_is_left();
}

#[test]
fn the_configuration_is_what_the_instructions_say() {
    let Some(g) = ground() else { return };
    g.build(
        "t:1",
        "FROM box:1\nARG PORT=80\nLABEL a=b \"c d\"='e $PORT'\nEXPOSE $PORT 53/udp\nVOLUME /data\nSTOPSIGNAL SIGINT\nENTRYPOINT [\"/bin/echo\"]\nCMD [\"x\"]\nHEALTHCHECK --interval=5s CMD true\nUSER web:extra\nWORKDIR /a\nWORKDIR b\nMAINTAINER me\n",
        &["--label", "from=outside"],
    );
    let config = g.told("t:1", "/Config");
    assert_eq!(
        config["Labels"],
        json!({"a": "b", "c d": "e $PORT", "from": "outside"})
    );
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}, "53/udp": {}}));
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(config["Entrypoint"], json!(["/bin/echo"]));
    assert_eq!(config["Cmd"], json!(["x"]));
    assert_eq!(config["WorkingDir"], "/a/b");
    assert_eq!(config["User"], "web:extra");
    let check = json!({"Interval": 5_000_000_000_u64, "Test": ["CMD-SHELL", "true"]});
    assert_eq!(config["Healthcheck"], check);
    assert_eq!(g.told("t:1", "/Author"), "me");
    assert_eq!(g.cli.ok(&["run", "--rm", "t:1"]), "x\n");
    // Directories of WORKDIR belong to the user.
    assert_eq!(
        g.see("t:1", "stat -c '%u:%g %a' /a /a/b"),
        "33:44 755\n33:44 755\n"
    );
    // Where the base says nothing of it, what is searched is known all the same.
    let text = "FROM scratch\nCOPY --from=box:1 / /\nENV PATH=/own:$PATH\nRUN cat /etc/motd\n";
    g.build("t:3", text, &[]);
    let path = "PATH=/own:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(g.told("t:3", "/Config/Env"), json!([path]));
    // Of our own variables that which is named, and for another machine.
    let text = "FROM scratch\nARG HOME\nARG USER=none\nLABEL of=$HOME-$USER\n";
    let args = ["--platform", "linux/arm64/v8", "--build-arg", "HOME"];
    g.build("t:2", text, &args);
    let home = std::env::var("HOME").unwrap();
    assert_eq!(g.told("t:2", "/Config/Labels/of"), format!("{home}-none"));
    for (field, value) in [
        ("Architecture", "arm64"),
        ("Variant", "v8"),
        ("Os", "linux"),
    ] {
        assert_eq!(g.told("t:2", &format!("/{field}")), value);
    }
    let history = g.cli.ok(&[
        "history",
        "--no-trunc",
        "--format",
        "{{.CreatedBy}}|{{.Size}}",
        "t:1",
    ]);
    assert!(
        history.starts_with("MAINTAINER me|0B\nWORKDIR b|0B\n"),
        "{history}"
    );
}

#[test]
fn files_are_copied_as_docker_does() {
    let Some(g) = ground() else { return };
    g.file("a.txt", "a\n")
        .file("d/b", "b\n")
        .file("d/e/c.go", "c\n")
        .file("d/e/c.rs", "");
    g.file("run.sh", "#!/bin/sh\n");
    mode(&g.at("run.sh"), 0o755);
    std::os::unix::fs::symlink("b", g.at("d/link")).unwrap();
    std::os::unix::fs::symlink("d/b", g.at("way")).unwrap();
    std::fs::hard_link(g.at("a.txt"), g.at("d/again")).unwrap();
    mode(&g.at("d/e"), 0o750);
    Command::new("chown")
        .args(["7:7", g.at("a.txt").to_str().unwrap()])
        .status()
        .unwrap();
    g.build(
        "t:1",
        "FROM box:1\nWORKDIR /w\nCOPY a.txt one\nCOPY a.txt run.sh dir/\nCOPY d /d\nCOPY [\"d/b\", \"/with blank/\"]\nCOPY d/e/*.go a* /glob/\nCOPY way /real\nCOPY --chown=web:extra --chmod=600 d/e /owned/x/\nCOPY --chown=5 a.txt /five\nCOPY --exclude=e/*.rs --exclude=link d /some\nCOPY d/e /etc\nRUN ln -s /d/e /to && mkdir /tmp/t\nCOPY a.txt /to/\nCOPY --link a.txt /tmp/t\nCOPY <<one.txt <<'two' /docs/\nin $HOME's \"place\"\none.txt\n$HOME\ntwo\nENV HOME=/h\nCOPY <<F /docs/three\nat $HOME \\$HOME\nF\n",
        &[],
    );
    let see = |command: &str| g.see("t:1", command);
    assert_eq!(see("cat one; ls dir"), "a\na.txt\nrun.sh\n");
    assert_eq!(
        see("stat -c '%a %u:%g' one dir/run.sh dir"),
        "644 0:0\n755 0:0\n755 0:0\n"
    );
    assert_eq!(
        see("ls /d /d/e; cat /d/link; readlink /d/link"),
        "/d:\nagain\nb\ne\nlink\n\n/d/e:\na.txt\nc.go\nc.rs\nb\nb\n"
    );
    assert_eq!(
        see("cat '/with blank/b'; ls /glob; cat /real"),
        "b\na.txt\nc.go\nb\n"
    );
    assert_eq!(
        see("stat -c '%a %u:%g %n' /owned /owned/x /owned/x/c.go /d/e"),
        "755 33:44 /owned\n600 33:44 /owned/x\n600 33:44 /owned/x/c.go\n750 0:0 /d/e\n"
    );
    assert_eq!(
        see("stat -c '%u:%g' /five; ls /some /some/e"),
        "5:5\n/some:\nagain\nb\ne\n\n/some/e:\nc.go\n"
    );
    // What was there keeps its attributes, and its other files.
    assert_eq!(
        see("cd /etc; ls c.go c.rs motd; stat -c %a /etc /tmp"),
        "c.go\nc.rs\nmotd\n755\n1777\n"
    );
    assert_eq!(see("cat /d/e/a.txt /tmp/t/a.txt"), "a\na\n");
    assert_eq!(
        see("cat /docs/one.txt /docs/two /docs/three"),
        "in 's \"place\"\n$HOME\nat /h $HOME\n"
    );
    g.assert_nothing_is_left();
}

#[test]
fn patterns_may_fit_nothing_and_names_may_look_like_one() {
    let Some(g) = ground() else { return };
    g.file("package.json", "{}")
        .file("p/[id].js", "id")
        .file("p/i.js", "i");
    g.build(
        "t:1",
        "FROM box:1\nCOPY package.json yarn.lock* none/*.x /app/\nCOPY p/* /p/\nCOPY p/[[]id].js /q/\nADD p/[i]* /r/\nCOPY p /s\nRUN --mount=target=/m,source=p/[id].js cat /m > /t\n",
        &[],
    );
    assert_eq!(
        g.see("t:1", "ls /app /p /q /r /s; cat /t"),
        "/app:\npackage.json\n\n/p:\n[id].js\ni.js\n\n/q:\n[id].js\n\n/r:\ni.js\n\n/s:\n[id].js\ni.js\nid"
    );
}

#[test]
fn documents_are_commands() {
    let Some(g) = ground() else { return };
    g.build(
        "t:1",
        "FROM box:1\nRUN <<EOF\necho one > /1\nfoo=x\necho $foo > /2\nEOF\nRUN <<-'P'\n\t#!/bin/cat\n\tme\n\tP\nRUN cat <<A > /3 && cat <<B > /4\nthird $((1+1))\nA\nfourth\nB\nRUN <<P\n#!/bin/sh\necho $0 > /5\nP\n",
        &[],
    );
    assert_eq!(
        g.see("t:1", "cat /1 /2 /3 /4 /5"),
        "one\nx\nthird 2\nfourth\n/dev/pipes/P\n"
    );
    g.assert_nothing_is_left();
}

#[test]
fn archives_are_added_unpacked_and_copied_whole() {
    let Some(g) = ground() else { return };
    g.file("x/f", "f\n").file("x/g", "g\n");
    mode(&g.at("x/f"), 0o4711);
    let tar = |options: &str, name: &str| {
        let to = g.at(name);
        let done = Command::new("tar")
            .args(["-C", g.at("x").to_str().unwrap(), "--owner=9", "--group=8"])
            .args([options, to.to_str().unwrap(), "."])
            .status();
        assert!(done.unwrap().success());
    };
    tar("-czf", "a.tgz");
    tar("-cf", "b.tar");
    g.file("no.gz", "no archive");
    g.build(
        "t:1",
        "FROM box:1\nADD a.tgz /a\nADD b.tar no.gz /b/\nCOPY b.tar /c\nADD --chown=web x /d\n",
        &[],
    );
    assert_eq!(
        g.see("t:1", "stat -c '%a %u:%g' /a/f; cat /a/g"),
        "4711 9:8\ng\n"
    );
    assert_eq!(
        g.see("t:1", "ls /b; cat /b/no.gz; ls -d /c; stat -c '%u:%g' /d/f"),
        "f\ng\nno.gz\nno archive/c\n33:33\n"
    );
    g.assert_nothing_is_left();
}

#[test]
fn stages_are_built_when_they_are_needed() {
    let Some(g) = ground() else { return };
    g.file("tool.c", "int main;\n");
    let text = "FROM box:1 AS never\nRUN false\nFROM box:1 AS Builder\nRUN mkdir /out && echo made > /out/tool && chmod 4755 /out/tool && ln -s tool /out/link && echo 9 > /out/n && rm /etc/group\nFROM builder AS more\nRUN echo more >> /out/tool\nFROM scratch AS final\nCOPY --from=more /out /bin\nCOPY --from=box:1 /bin/busybox /etc/g* /b/\nCOPY --from=1 --chown=3:4 /out/n /n\nCMD [\"/b/busybox\", \"cat\", \"/bin/tool\"]\n";
    let said = g.build("t:1", text, &[]);
    assert!(said.contains("[builder 1/2] FROM box:1\n"), "{said}");
    assert!(said.contains("[final 4/5] COPY --from=1"), "{said}");
    assert!(!said.contains("never"), "{said}");
    assert_eq!(g.cli.ok(&["run", "--rm", "t:1"]), "made\nmore\n");
    let stat = g.cli.ok(&[
        "run",
        "--rm",
        "t:1",
        "/b/busybox",
        "stat",
        "-c",
        "%a %u:%g",
        "/bin/tool",
        "/n",
        "/b/group",
    ]);
    assert_eq!(stat, "4755 0:0\n644 3:4\n644 0:0\n");
    // A whiteout of the stage is seen by who copies from it.
    let (code, _, err) = g.try_build(
        "FROM box:1 AS a\nRUN rm /etc/group\nFROM scratch\nCOPY --from=a /etc/group /\n",
        &[],
    );
    assert!(
        code == 1 && err.contains("Dockerfile:4: /etc/group is not in the image"),
        "{err}"
    );
    g.build("t:2", text, &["--target", "BUILDER"]);
    assert_eq!(g.see("t:2", "cat /out/tool"), "made\n");
    // A stage knows the variables of the one that it begins with.
    let text = "FROM box:1 AS a\nARG A=1\nARG B=2\nENV C=3\nARG C=4\nFROM a AS b\nARG B\nARG A=5\nFROM b\nRUN echo $A $B $C > /v\nLABEL v=$A$B$C\n";
    g.build("t:4", text, &["--build-arg", "B=6"]);
    assert_eq!(g.see("t:4", "cat /v"), "5 6 3\n");
    assert_eq!(g.told("t:4", "/Config/Labels/v"), "563");
    // FROM an image by its id or digest.
    let id = g.id("t:2");
    g.build("t:3", &format!("FROM {id}\nCMD id\n"), &[]);
    assert_eq!(g.see("t:3", "cat /out/n"), "9\n");
    g.assert_nothing_is_left();
}

#[test]
fn mounts_of_commands_are_no_part_of_the_image() {
    let Some(g) = ground() else { return };
    g.file("src/a", "from the context\n")
        .file("src/b", "")
        .file(".dockerignore", "src/b\n");
    let text = "FROM box:1 AS other\nRUN echo of a stage > /x\nFROM box:1\nRUN --mount=type=cache,target=/root/.cache/pip,id=pip echo run >> /root/.cache/pip/log && cat /root/.cache/pip/log > /log\nRUN --mount=type=bind,source=src,target=/mnt/src --mount=from=other,source=/x,target=/x --mount=type=tmpfs,target=/t ls /mnt/src > /seen && cat /mnt/src/a /x >> /seen && touch /t/y && ! touch /mnt/src/z\nRUN --mount=target=/ctx,rw touch /ctx/new && ls /ctx > /written\n";
    g.build("t:1", text, &[]);
    assert_eq!(
        g.see("t:1", "cat /seen"),
        "a\nfrom the context\nof a stage\n"
    );
    assert_eq!(g.see("t:1", "cat /written"), "Dockerfile\nnew\nsrc\n");
    assert!(!g.at("new").exists());
    assert_eq!(
        g.see(
            "t:1",
            "cat /log; ls -d /root /mnt /x /t /ctx 2>/dev/null; true"
        ),
        "run\n"
    );
    g.build("t:1", text, &["--no-cache"]);
    assert_eq!(g.see("t:1", "cat /log"), "run\nrun\n");
    // Another owner or mode is another cache, as whoever else could not write it.
    let text = "FROM box:1\nUSER web\nRUN --mount=type=cache,target=/root/.cache/pip,id=pip,uid=33,mode=0700 cd /root/.cache/pip && echo web >> log && stat -c '%u %a' . > /tmp/log && cat log >> /tmp/log\n";
    g.build("t:2", text, &[]);
    assert_eq!(g.see("t:2", "cat /tmp/log"), "33 700\nweb\n");
    g.assert_nothing_is_left();
}

#[test]
fn triggers_run_in_the_images_built_on_it() {
    let Some(g) = ground() else { return };
    g.file("app", "the app\n");
    g.build("base:1", "FROM box:1\nONBUILD COPY app /app\nONBUILD RUN <<E\ncat /app > /copied\nE\nONBUILD ENV T=1\n", &[]);
    assert_eq!(g.see("base:1", "ls -d /app 2>/dev/null; true"), "");
    let said = g.build("t:1", "FROM base:1\nRUN echo $T\n", &[]);
    assert!(said.contains("[2/5] COPY app /app"), "{said}");
    assert_eq!(g.see("t:1", "cat /copied; echo $T"), "the app\n1\n");
    assert_eq!(g.told("t:1", "/Config/OnBuild"), json!(null));
}

#[test]
fn what_is_ignored_is_not_there() {
    let Some(g) = ground() else { return };
    g.file("a", "")
        .file("b.log", "")
        .file("keep/x.log", "")
        .file("keep/no", "")
        .file("d/deep/z", "");
    g.file(
        ".dockerignore",
        "**/*.log\n!keep/x.log\n/d\n!d/deep/z\nDockerfile\n",
    );
    g.build("t:1", "FROM box:1\nCOPY . /c\n", &[]);
    assert_eq!(
        g.see("t:1", "cd /c; ls -a; ls keep d/deep"),
        ".\n..\n.dockerignore\na\nd\nkeep\nd/deep:\nz\n\nkeep:\nno\nx.log\n"
    );
    let (code, _, err) = g.try_build("FROM box:1\nCOPY b.log /c\n", &[]);
    assert!(
        code == 1 && err.contains("b.log of the build context is left out by .dockerignore"),
        "{err}"
    );
    // A file of the Dockerfile's own goes before it.
    g.file("other.dockerignore", "a\n")
        .file("other", "FROM box:1\nCOPY . /c\n");
    let file = g.at("other");
    g.cli.run(&[
        "build",
        "-t",
        "t:2",
        "-f",
        file.to_str().unwrap(),
        g.context.to_str().unwrap(),
    ]);
    assert_eq!(
        g.see("t:2", "ls /c/b.log; ls /c/a 2>/dev/null; true"),
        "/c/b.log\n"
    );
}
