//! What `ADD` and `COPY` take besides files and directories as they are.

use super::fixture::{Ground, ground, mode};
use super::packed::{bzip2, xz};
use capas::store::Digest;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

fn archive(g: &Ground, name: &str, data: Vec<u8>) -> Vec<u8> {
    std::fs::write(g.at(name), &data).unwrap();
    data
}

/// A server of files that says when they were changed; the address.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|l| l.is_ok_and(|l| !l.is_empty())) {}
            let asked = first.split(' ').nth(1).unwrap();
            let found = files.iter().find(|(path, _)| *path == asked);
            let (status, body) = match found {
                Some((_, body)) => ("200 OK", body.clone()),
                None => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\
                 Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    address
}

#[test]
fn archives_are_unpacked_however_they_are_compressed() {
    let Some(g) = ground() else { return };
    archive(&g, "a.tar.xz", xz());
    archive(&g, "b.tbz2", bzip2());
    g.build(
        "t:1",
        "FROM box:1\nADD a.tar.xz /a\nADD b.tbz2 /b/\nADD --unpack=false b.tbz2 /c/\nCOPY a.tar.xz /d/\n",
        &[],
    );
    assert_eq!(
        g.see(
            "t:1",
            "cat /a/f /b/f; stat -c '%u:%g %Y' /a/f /b/f; ls /c /d"
        ),
        "in xz\nin xz\n5:6 1000000000\n5:6 1000000000\n/c:\nb.tbz2\n\n/d:\na.tar.xz\n"
    );
    // A whole build context may be so too.
    std::fs::write(g.at("x"), "").unwrap();
    let context = g.cli.bench.dir.path().join("context.tar.xz");
    archive(&g, context.to_str().unwrap(), xz());
    let mut command = g.cli.command(&["build", "-t", "t:2", "-f", "f", "-"]);
    command.stdin(std::fs::File::open(&context).unwrap());
    let err = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(err.contains("f:1: unknown instruction"), "{err}");
    // One that is cut off is an error, not half of it.
    let whole = archive(&g, "a.tar.xz", xz());
    std::fs::write(g.at("a.tar.xz"), &whole[..whole.len() - 8]).unwrap();
    let (code, _, err) = g.try_build("FROM box:1\nADD a.tar.xz /a\n", &[]);
    assert!(
        code == 1 && err.contains("Error: ") && err.contains("a.tar.xz"),
        "{err}"
    );
    g.assert_nothing_is_left();
}

#[test]
fn files_come_from_urls() {
    let Some(g) = ground() else { return };
    let packed = archive(&g, "a.tar.xz", xz());
    let right = Digest::of(b"of a server\n");
    let address = serve(vec![
        ("/d/file.txt?v=1", b"of a server\n".to_vec()),
        ("/a.tar.xz", packed),
    ]);
    let url = format!("http://{address}/d/file.txt?v=1");
    let text = format!(
        "FROM box:1\nADD {url} /in/\nADD --checksum={right} --chmod=644 {url} /as\n\
         ADD http://{address}/a.tar.xz /packed/\nADD --unpack=true http://{address}/a.tar.xz /unpacked/\n"
    );
    g.build("t:1", &text, &[]);
    let see = "cat /in/file.txt /unpacked/f; stat -c '%n %a %u %Y' /in/file.txt /as; ls /packed";
    assert_eq!(
        g.see("t:1", see),
        "of a server\nin xz\n/in/file.txt 600 0 1000000000\n/as 644 0 1000000000\na.tar.xz\n"
    );
    // It is known by its content.
    let said = g.build("t:1", &text, &[]);
    assert_eq!(said.matches(" => CACHED").count(), 4, "{said}");
    let name = g.at("Dockerfile").display().to_string();
    let wrong = Digest::of(b"another");
    for (add, why) in [
        (
            format!("--checksum={wrong} {url} /x"),
            format!("{url}: its digest is {right}, and should be {wrong}"),
        ),
        (
            format!("http://{address}/none.txt /x"),
            format!("cannot get a file of {address}: "),
        ),
        (
            format!("http://{address}/ /x/"),
            format!("http://{address}/: a URL must end with the name of a file"),
        ),
        (
            format!("--checksum={right} a.tar.xz /x"),
            "--checksum is that of a URL, which a.tar.xz is not".to_owned(),
        ),
        (
            "https://h.example/r.git /x".to_owned(),
            "ADD of a git repository is not done here".to_owned(),
        ),
        (
            "--unpack=maybe a.tar.xz /x".to_owned(),
            "--unpack=maybe: it is true or false".to_owned(),
        ),
    ] {
        let (code, _, err) = g.try_build(&format!("FROM box:1\nADD {add}\n"), &[]);
        let last = err.lines().last().unwrap();
        assert!(
            code == 1 && last.starts_with(&format!("Error: {name}:2: {why}")),
            "{add}: {err}"
        );
    }
    g.assert_nothing_is_left();
}

#[test]
fn sources_keep_their_parents() {
    let Some(g) = ground() else { return };
    g.file("x/a.txt", "xa\n")
        .file("y/a.txt", "ya\n")
        .file("y/b.txt", "yb\n")
        .file("y/deep/c/d", "d\n");
    mode(&g.at("y/deep"), 0o711);
    let look = "ls -R1 | busybox grep -v '^$'";
    for (copy, want) in [
        (
            "x/a.txt y/a.txt /to",
            ".:\nx\ny\n./x:\na.txt\n./y:\na.txt\n",
        ),
        ("./x/./a.txt y/./*.txt /to/", ".:\na.txt\nb.txt\n"),
        ("*/a.txt /to/", ".:\nx\ny\n./x:\na.txt\n./y:\na.txt\n"),
        (
            "y/deep/c /to/",
            ".:\ny\n./y:\ndeep\n./y/deep:\nc\n./y/deep/c:\nd\n",
        ),
        ("./y/./deep/ /to/", ".:\ndeep\n./deep:\nc\n./deep/c:\nd\n"),
    ] {
        let text = format!("FROM box:1\nCOPY --parents {copy}\n");
        g.build("t:1", &text, &[]);
        let seen = g.see("t:1", &format!("cd /to; {look}"));
        assert_eq!(seen, want, "{copy}");
    }
    // Directories come with what they are.
    g.build("t:1", "FROM box:1\nCOPY --parents y/deep/c/d /to/\n", &[]);
    assert_eq!(g.see("t:1", "stat -c %a /to/y/deep"), "711\n");
    let text = "FROM box:1\nCOPY --parents x/../y/a.txt /to/\n";
    let (code, _, err) = g.try_build(text, &[]);
    assert!(
        code == 1 && err.contains("--parents: write x/../y/a.txt without .."),
        "{err}"
    );
    g.assert_nothing_is_left();
}

#[test]
fn modes_are_changed_as_chmod_does() {
    let Some(g) = ground() else { return };
    g.file("d/run", "").file("d/read", "");
    mode(&g.at("d/run"), 0o750);
    mode(&g.at("d/read"), 0o640);
    g.build(
        "t:1",
        "FROM box:1\nCOPY --chmod=u+x,go-w d/read /a\nCOPY --chmod=a=rX d /d\nADD --chmod=0711 d/read /b\n",
        &[],
    );
    assert_eq!(
        g.see("t:1", "stat -c '%n %a' /a /d /d/run /d/read /b"),
        "/a 740\n/d 555\n/d/run 555\n/d/read 444\n/b 711\n"
    );
}
