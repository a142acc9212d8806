//! What is not as it must be is one clear line, and leaves nothing behind.

use super::fixture::ground;
use std::io::Write;
use std::process::Stdio;

#[test]
fn bad_dockerfiles_and_contexts() {
    let Some(g) = ground() else { return };
    g.file("a", "a\n").file("d/b", "b\n");
    std::os::unix::fs::symlink("/etc/passwd", g.at("outside")).unwrap();
    std::os::unix::fs::symlink("../..", g.at("up")).unwrap();
    let name = g.at("Dockerfile");
    let name = name.display();
    for (text, line, why) in [
        (
            "FROM box:1\nCOPY ../secret /\n",
            2,
            "../secret leads out of the build context",
        ),
        (
            "FROM box:1\nCOPY outside /\n",
            2,
            "outside leads out of the build context",
        ),
        (
            "FROM box:1\nCOPY up/x /\n",
            2,
            "up/x leads out of the build context",
        ),
        (
            "FROM box:1\nCOPY none /\n",
            2,
            "none is not in the build context",
        ),
        (
            "FROM box:1\nCOPY a /etc/.wh.passwd\n",
            2,
            "/etc/.wh.passwd: names that begin with .wh. mean something else in images",
        ),
        (
            "FROM box:1 AS one\nFROM box:1\nARG from=one\nCOPY --from=$from /a /\n",
            4,
            "the stage one is not built: write its name without variables and quotes",
        ),
        (
            "FROM box:1\nCOPY *.none /\n",
            2,
            "*.none is not in the build context",
        ),
        (
            "FROM box:1\nCOPY a d /x\n",
            2,
            "several sources need a directory as their target: end /x with a /",
        ),
        (
            "FROM box:1\nCOPY a /etc/passwd/x\n",
            2,
            "/etc/passwd is not a directory in the image",
        ),
        (
            "FROM box:1\nCOPY d /etc/passwd\n",
            2,
            "/etc/passwd is not a directory in the image",
        ),
        (
            "FROM box:1\nCOPY --chown=nobody a /\n",
            2,
            "unable to find user nobody: no matching entries in passwd file",
        ),
        (
            "FROM box:1\nCOPY --chmod=u+y a /\n",
            2,
            "--chmod=u+y: give octal digits, such as 755, or changes, such as u+x,go-w",
        ),
        (
            "FROM box:1\nCOPY --what=1 a /\n",
            2,
            "COPY has no option --what",
        ),
        (
            "FROM box:1\nUSER nobody\nRUN id\n",
            3,
            "unable to find user nobody: no matching entries in passwd file",
        ),
        (
            "FROM box:1\nRUN exit 7\n",
            2,
            "the command '/bin/sh -c exit 7' returned a non-zero code: 7",
        ),
        (
            "FROM box:1\n\nWORKDIR /proc/self/fd/7\n",
            3,
            "the working directory '/proc/self/fd/7' leads into /proc: name another",
        ),
        (
            "FROM box:1\nRUN --mount=type=x,target=/y id\n",
            2,
            "--mount=type=x,target=/y: x is no kind of mount",
        ),
        (
            "FROM box:1\nRUN --network=what id\n",
            2,
            "RUN --network=what: it is default, none or host",
        ),
        ("FROM box:1\nENV A\n", 2, "it takes KEY=VALUE"),
        ("FROM box:1\n\nLABEL a=${A:?not given}\n", 3, "A: not given"),
        (
            "FROM ${NONE}\n",
            1,
            "FROM needs a name: a variable in it is empty",
        ),
        ("FROM box:1\nFRUM x\n", 2, "unknown instruction 'FRUM'"),
    ] {
        let (code, out, err) = g.try_build(text, &["-t", "t:1"]);
        let last = err.lines().last().unwrap_or_default();
        assert!(
            last.starts_with(&format!("Error: {name}:{line}: {why}")),
            "{text}: {err}"
        );
        assert_eq!((code, out.as_str()), (1, ""), "{text}");
    }
    // A program that is not there.
    let (code, _, err) = g.try_build("FROM box:1\nRUN [\"/no/such\"]\n", &[]);
    assert!(
        code == 1 && err.contains(&format!("Error: {name}:2: ")) && err.contains("/no/such"),
        "{err}"
    );
    let (code, _, err) = g.try_build("FROM box:1 AS a\nFROM a\n", &["--target", "b"]);
    assert_eq!(
        (code, err.as_str()),
        (
            1,
            "Error: target stage \"b\" could not be found: there are a\n"
        )
    );
    let (_, _, err) = g.try_build("", &[]);
    assert_eq!(
        err,
        format!("Error: {name}: the file is empty: it needs at least one FROM\n")
    );
    let (_, _, err) = g.try_build("FROM box:1\n", &["-t", "Bad Name"]);
    assert_eq!(err.lines().count(), 1, "{err}");
    std::fs::remove_file(g.at("Dockerfile")).unwrap();
    let context = g.context.to_str().unwrap();
    let (code, _, err) = g.cli.run(&["build", context]);
    assert_eq!(
        (code, err),
        (
            1,
            format!("Error: there is no Dockerfile {context}/Dockerfile: name it with -f\n")
        )
    );
    // In small letters it is found, too.
    g.file("dockerfile", "FROM box:1\nFRUM x\n");
    let (code, _, err) = g.cli.run(&["build", context]);
    let said = format!("Error: {context}/dockerfile:2: unknown instruction 'FRUM'\n");
    assert_eq!((code, err), (1, said));
    std::fs::remove_file(g.at("dockerfile")).unwrap();
    // A link to one elsewhere is followed, but not that of an archive.
    let elsewhere = g.cli.bench.write("common", b"FROM box:1\nFRUM y\n");
    std::os::unix::fs::symlink(&elsewhere, g.at("Dockerfile")).unwrap();
    let (code, _, err) = g.cli.run(&["build", context]);
    let said = format!("Error: {context}/Dockerfile:2: unknown instruction 'FRUM'\n");
    assert_eq!((code, err), (1, said));
    let script = format!(
        "tar -C {context} -c . | {} build -",
        env!("CARGO_BIN_EXE_capas")
    );
    let out = std::process::Command::new("sh")
        .args(["-c", &script])
        .env("CAPAS_ROOT", g.cli.root())
        .output()
        .unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    assert_eq!(
        err,
        "Error: there is no Dockerfile Dockerfile: name it with -f\n"
    );
    std::fs::remove_file(g.at("Dockerfile")).unwrap();
    let (code, _, err) = g.cli.run(&["build", "/no/such/dir"]);
    assert_eq!(
        (code, err.as_str()),
        (
            1,
            "Error: cannot open the build context /no/such/dir: No such file or directory (os error 2)\n"
        )
    );
    let file = g.at("a");
    let (code, _, err) = g.cli.run(&["build", file.to_str().unwrap()]);
    assert_eq!(
        (code, err),
        (
            1,
            format!(
                "Error: the build context {} is not a directory\n",
                file.display()
            )
        )
    );
    let (code, _, err) = g.cli.run(&["build", "https://example.com/x.git"]);
    assert!(
        code == 1 && err.contains("a build context is a directory"),
        "{err}"
    );
    // Nothing of all that became an image, and nothing is left.
    assert_eq!(g.cli.ok(&["images", "-q"]).lines().count(), 1);
    g.assert_nothing_is_left();
}

#[test]
fn dockerfiles_and_contexts_come_on_standard_input() {
    let Some(g) = ground() else { return };
    g.file("a", "in the context\n");
    let feed = |args: &[&str], input: &[u8]| {
        let mut child = g
            .cli
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{out:?}");
    };
    let context = g.context.to_str().unwrap();
    feed(
        &["build", "-t", "t:1", "-f", "-", context],
        b"FROM box:1\nCOPY a /a\n",
    );
    assert_eq!(g.see("t:1", "cat /a"), "in the context\n");
    feed(
        &["build", "-t", "t:2", "-"],
        b"FROM box:1\nRUN echo 2 > /a\n",
    );
    assert_eq!(g.see("t:2", "cat /a"), "2\n");
    g.file("sub/Dockerfile", "FROM box:1\nCOPY a /b\n");
    let tar = std::process::Command::new("tar")
        .args(["-C", context, "-cz", "."])
        .output()
        .unwrap();
    feed(
        &["build", "-t", "t:3", "-f", "sub/Dockerfile", "-"],
        &tar.stdout,
    );
    assert_eq!(g.see("t:3", "cat /b"), "in the context\n");
    g.assert_nothing_is_left();
}
