//! Images whose configuration asks for what is not theirs.

use super::harness::ready;

#[test]
fn an_images_volume_takes_nothing_of_the_machine() {
    let Some(c) = ready() else { return };
    let outside = c.bench.dir.path().join("machine");
    std::fs::create_dir(&outside).unwrap();
    let shown = outside.to_str().unwrap();
    c.foreign_image(
        "odd:1",
        &format!(r#"{{"Volumes":{{"{shown}:/host":{{}}}}}}"#),
    );
    let script = format!("ls -d /host; echo x > '{shown}:/host/x' && echo written");
    let args = ["run", "--name", "odd", "odd:1", "/bin/sh", "-c", &script];
    let (code, out, err) = c.run(&args);
    assert_eq!((code, out.as_str()), (0, "written\n"), "{err}");
    assert!(err.contains("/host: No such file"), "{err}");
    assert_eq!(c.told("odd", "/Mounts/0/Type"), "volume");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    c.ok(&["rm", "-f", "odd"]);
}

#[test]
fn an_image_does_not_read_our_environment() {
    let Some(c) = ready() else { return };
    c.foreign_image("odd:1", r#"{"Env":["PATH=/bin","SECRET","TOLD"]}"#);
    let args = ["run", "--rm", "-e", "TOLD", "-e", "OWN", "odd:1", "env"];
    let mut command = c.command(&args);
    command.env("SECRET", "s3cret").env("TOLD", "told");
    let output = command.env("OWN", "own").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let has = |line: &str| out.lines().any(|l| l == line);
    assert!(has("TOLD=told") && has("OWN=own"), "{out}");
    assert!(!out.contains("SECRET"), "{out}");
}

#[test]
fn what_an_image_exposes_is_a_port() {
    let Some(c) = ready() else { return };
    c.foreign_image("odd:1", r#"{"ExposedPorts":{"80\u001b[2J/tcp":{}}}"#);
    let (code, out, err) = c.run(&["create", "odd:1", "true"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains(r"exposes the port '80\u{1b}[2J/tcp'") && err.lines().count() == 1,
        "{err}"
    );
    c.assert_nothing_is_left();
}

#[test]
fn an_empty_user_is_the_images() {
    let Some(c) = ready() else { return };
    c.foreign_image("odd:1", r#"{"Env":["PATH=/bin"],"User":"web"}"#);
    let id = |more: &[&str]| {
        let args = [&["run", "--rm"][..], more, &["odd:1", "id", "-u"]].concat();
        c.run(&args)
    };
    assert_eq!(id(&[]).1, "33\n");
    assert_eq!(id(&["-u", ""]).1, "33\n");
    assert_eq!(id(&["-u", "0"]).1, "0\n");
    let (code, _, err) = id(&["-u", "4294967295"]);
    assert_eq!(code, 125);
    assert_eq!(err, "Error: uids and gids must be in range 0-2147483647\n");
}
