//! `login` and `logout`: what they print, what they keep and where.

use crate::accounts::{ALICE, BOB, Done, Guarded, Person, done, finish, have, json};
use crate::stub::Stub;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

const INSECURE: &str = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n";

fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn stored(path: &std::path::Path) -> String {
    format!(
        "\nWARNING! Your credentials are stored unencrypted in '{}'.\n\
         Configure a credential helper to remove this warning. See\n\
         https://docs.docker.com/go/credential-store/\n\n",
        path.display()
    )
}

/// A registry that knows two people and has one image, and somebody who is not
/// known yet; if these programs are there.
fn guarded(programs: &[&str]) -> Option<(Guarded, Person)> {
    if !have(programs) {
        return None;
    }
    let (registry, person) = (Guarded::start(), Person::new());
    registry.fill(&person, "team/app");
    Some((registry, person))
}

/// `login` with the password on standard input.
fn login(person: &Person, host: &str, who: (&str, &str), more: &[&str]) -> Done {
    let mut args = vec!["login", "-u", who.0, "--password-stdin"];
    args.extend(more);
    args.push(host);
    person.run(&args, &format!("{}\r\n", who.1))
}

/// `search` in a registry that lets only its friends look.
fn look(person: &Person, host: &str, more: &[&str]) -> Done {
    let mut args = vec!["search"];
    args.extend(more);
    let term = format!("{host}/app");
    args.push(&term);
    person.run(&args, "")
}

fn refused(host: &str) -> Done {
    done(
        1,
        "",
        &format!(
            "Error: cannot list the repositories of {host}: unauthorized: authentication required\n"
        ),
    )
}

#[test]
fn a_login_is_checked_kept_used_and_forgotten() {
    let Some((registry, person)) = guarded(&["docker-registry", "skopeo"]) else {
        return;
    };
    let host = registry.host.as_str();
    let config = person.config();

    let wrong = login(&person, host, ("alice", "wrong"), &[]);
    assert_eq!(
        wrong,
        done(
            1,
            "",
            &format!("Error: login to {host} failed: unauthorized: authentication required\n")
        )
    );
    assert!(!config.exists());
    assert_eq!(look(&person, host, &[]).code, 1);

    assert_eq!(
        login(&person, host, ALICE, &[]),
        done(0, "Login Succeeded\n", &stored(&config))
    );
    assert_eq!(
        fs::read_to_string(&config).unwrap(),
        format!(
            "{{\n\t\"auths\": {{\n\t\t\"{host}\": {{\n\t\t\t\"auth\": \"{}\"\n\t\t}}\n\t}}\n}}\n",
            base64("alice:p:a ss")
        )
    );
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&config), 0o600);
    assert_eq!(mode(config.parent().unwrap()), 0o700);
    let found = look(&person, host, &[]);
    assert_eq!((found.code, found.err.as_str()), (0, ""));
    assert!(
        found.out.contains(&format!("\n{host}/team/app ")),
        "{found:?}"
    );

    // A second one in place of the first; the command line shows it to all.
    assert_eq!(
        person.run(&["login", "-u", BOB.0, "-p", BOB.1, host], ""),
        done(
            0,
            "Login Succeeded\n",
            &format!("{INSECURE}{}", stored(&config))
        )
    );
    assert_eq!(
        json(&config),
        json!({"auths": {host: {"auth": base64("bob:hunter2")}}})
    );

    // Nobody is asked if what is kept is good.
    let url = format!("http://{host}/v2/");
    assert_eq!(
        person.run(&["login", &url], ""),
        done(
            0,
            "Login Succeeded\n",
            "Authenticating with existing credentials... [Username: bob]\n\n\
             i Info → To login with a different account, run 'capas logout' followed by 'capas login'\n\n\n"
        )
    );

    // A failed login leaves what was there.
    assert_eq!(login(&person, host, ("bob", "wrong"), &[]).code, 1);
    assert_eq!(look(&person, host, &[]).code, 0);

    assert_eq!(
        person.run(&["logout", host], ""),
        done(0, &format!("Removing login credentials for {host}\n"), "")
    );
    assert_eq!(json(&config), json!({"auths": {}}));
    assert_eq!(
        person.run(&["logout", host], ""),
        done(0, &format!("Not logged in to {host}\n"), "")
    );
    assert_eq!(
        person.run(&["logout"], ""),
        done(0, "Not logged in to https://index.docker.io/v1/\n", "")
    );
    assert_eq!(look(&person, host, &[]).code, 1);
}

#[test]
fn what_makes_no_login() {
    let person = Person::new();
    for (args, err) in [
        (
            &["login", "h.example"][..],
            "cannot perform an interactive login from a non TTY device: give --username and --password-stdin",
        ),
        (
            &["login", "-u", "me"],
            "cannot perform an interactive login from a non TTY device: give --username and --password-stdin",
        ),
        (
            &["login", "--password-stdin", "h.example"],
            "the --password-stdin option requires --username to be set",
        ),
        (
            &["login", "-u", "me", "--password-stdin", "h.example"],
            "the password on standard input is empty",
        ),
        (
            &["login", "-u", "me:you", "-p", "x", "h.example"],
            "a user name has no colon in it",
        ),
        (
            &["login", "-u", "me", "--password-stdin", "a b"],
            "\"a b\" is no registry: give HOST or HOST:PORT",
        ),
    ] {
        let said = person.run(args, "\n");
        let end = format!("Error: {err}\n");
        let warning = if args.contains(&"-p") { INSECURE } else { "" };
        assert_eq!(said, done(1, "", &format!("{warning}{end}")), "{args:?}");
    }
    let both = &[
        "login",
        "-u",
        "me",
        "-p",
        "x",
        "--password-stdin",
        "h.example",
    ];
    assert_eq!(
        person.run(both, "x"),
        done(
            1,
            "",
            &format!("{INSECURE}Error: --password and --password-stdin are mutually exclusive\n")
        )
    );
    assert!(!person.config().exists());
    let config = person.write(".docker/config.json", "{\"auths\":");
    assert_eq!(
        person.run(&["logout", "h.example"], ""),
        done(
            1,
            "",
            &format!(
                "Error: {} is no file of credentials: EOF while parsing a value at line 1 column 9\n",
                config.display()
            )
        )
    );
}

#[test]
fn a_helper_keeps_the_login() {
    let Some((registry, person)) = guarded(&["docker-registry", "skopeo"]) else {
        return;
    };
    let host = registry.host.as_str();
    for helpers in [
        json!({"credsStore": "fake", "psFormat": "x"}),
        json!({"credHelpers": {host: "fake"}, "credsStore": "absent"}),
    ] {
        person.helper("fake");
        let config = person.write(".docker/config.json", &helpers.to_string());
        assert_eq!(
            login(&person, host, ALICE, &[]),
            done(0, "Login Succeeded\n", "")
        );
        let mut want = helpers.clone();
        want["auths"] = json!({host: {}});
        assert_eq!(json(&config), want);
        assert_eq!(look(&person, host, &[]).code, 0);
        assert_eq!(
            person.run(&["logout", host], ""),
            done(0, &format!("Removing login credentials for {host}\n"), "")
        );
        want["auths"] = json!({});
        assert_eq!(json(&config), want);
        assert_eq!(look(&person, host, &[]).code, 1);
        let asked = fs::read_to_string(person.path("asked")).unwrap();
        let store =
            format!(r#"store {{"ServerURL":"{host}","Username":"alice","Secret":"p:a ss"}}"#);
        let lines: Vec<&str> = asked.lines().collect();
        assert_eq!(lines[0], store);
        assert_eq!(lines[1], format!("get {host}"));
        assert!(lines.contains(&format!("erase {host}").as_str()), "{asked}");
        assert!(!person.path("kept").exists());
        fs::remove_file(person.path("asked")).unwrap();
    }
    // One that cannot list is told to erase all the same.
    person.write(".docker/config.json", r#"{"credsStore":"fake"}"#);
    assert_eq!(login(&person, host, ALICE, &[]).code, 0);
    person.write("no-list", "");
    assert_eq!(
        person.run(&["logout", host], ""),
        done(0, &format!("Removing login credentials for {host}\n"), "")
    );
    assert!(!person.path("kept").exists());
    // One that is not there is named, and what to do about it.
    person.write(".docker/config.json", r#"{"credsStore":"absent"}"#);
    let none = look(&person, host, &[]);
    assert_eq!(none.code, 1);
    assert_eq!(
        none.err,
        format!(
            "Error: docker-credential-absent, which {} asks for, is not in PATH: install it, or take it out of the file\n",
            person.config().display()
        )
    );
}

#[test]
fn a_login_mends_a_damaged_entry() {
    let Some((registry, person)) = guarded(&["docker-registry", "skopeo", "script"]) else {
        return;
    };
    let host = registry.host.as_str();
    let damaged = json!({"auths": {host: {"auth": "%"}}});
    let config = person.write(".docker/config.json", &damaged.to_string());
    let why = format!(
        "{}: the entry \"{host}\" is damaged: \"auth\" is no base64; log in again",
        config.display()
    );
    let told = format!("Error: cannot list the repositories of {host}: {why}\n");
    assert_eq!(look(&person, host, &[]), done(1, "", &told));
    let talk = [("Username: ", "bob\n"), ("Password: ", "hunter2\n")];
    let (code, shown) = at_a_terminal(&person, &format!("login {host}"), &talk);
    assert!(shown.starts_with(&format!("warning: {why}\r\n")), "{shown}");
    assert_eq!(code, 0, "{shown}");
    assert_eq!(look(&person, host, &[]).code, 0);
}

#[test]
fn of_two_accounts_the_first_file_s_is_used() {
    let Some((registry, person)) = guarded(&["docker-registry", "skopeo"]) else {
        return;
    };
    let host = registry.host.as_str();
    let entry = |auth: &str| json!({"auths": {host: {"auth": base64(auth)}}}).to_string();
    let (good, bad) = (entry("bob:hunter2"), entry("alice:wrong"));
    person.write(".docker/config.json", &good);
    assert_eq!(look(&person, host, &[]).code, 0);
    person.write(".config/containers/auth.json", &bad);
    assert_eq!(look(&person, host, &[]), refused(host));
    let first = person.write("run/containers/auth.json", &good);
    assert_eq!(look(&person, host, &[]).code, 0);
    // A file that somebody names stands alone.
    let named = person.write("named.json", &bad);
    let named = named.to_str().unwrap();
    assert_eq!(look(&person, host, &["--authfile", named]), refused(host));
    let mut command = person.capas();
    command.env("REGISTRY_AUTH_FILE", named);
    let found = finish(command.args(["search", &format!("{host}/app")]), "");
    assert_eq!(found, refused(host));
    // A new login goes where it is found again.
    assert_eq!(login(&person, host, ALICE, &[]).err, stored(&first));
    assert_eq!(look(&person, host, &[]).code, 0);
    assert_eq!(fs::read_to_string(person.config()).unwrap(), good);
    // And a logout leaves none.
    assert_eq!(person.run(&["logout", host], "").code, 0);
    assert_eq!(look(&person, host, &[]).code, 1);
}

#[test]
fn a_part_of_a_registry_may_have_an_account_of_its_own() {
    let Some((registry, person)) = guarded(&["docker-registry", "skopeo"]) else {
        return;
    };
    let host = registry.host.as_str();
    registry.fill(&person, "others/app");
    // One for the host that is no good, one for the part that is.
    let whole = json!({"auths": {host: {"auth": base64("alice:wrong")}}});
    let file = person.write(".config/containers/auth.json", &whole.to_string());
    let team = format!("{host}/team");
    let kept = login(&person, &team, BOB, &[]);
    assert_eq!(kept, done(0, "Login Succeeded\n", &stored(&file)));
    let keyring = capas::registry::credentials::Keyring::new(Some(&file));
    let config = capas::config::Config::default();
    let client = capas::registry::Registry::new(host, &config, false, keyring.keeper()).unwrap();
    assert_eq!(client.tags("team/app").unwrap(), ["1"]);
    let client_error = client.tags("others/app").unwrap_err().to_string();
    assert!(client_error.contains("unauthorized"), "{client_error}");
    assert_eq!(look(&person, host, &[]), refused(host));
    // Each is forgotten by its own name.
    let out = person.run(&["logout", &team], "").out;
    assert_eq!(out, format!("Removing login credentials for {team}\n"));
    assert_eq!(json(&file), whole);
}

#[test]
fn pull_and_push_use_what_is_kept() {
    let Some((registry, person)) = guarded(&["docker-registry", "skopeo", "podman"]) else {
        return;
    };
    let host = registry.host.as_str();
    let image = format!("{host}/team/app:1");
    let pull = ["pull", "-q", &image];
    assert_eq!(
        person.run(&pull, ""),
        done(
            1,
            "",
            &format!(
                "Error: cannot pull {image}: unauthorized: authentication required: try capas login {host}\n"
            )
        )
    );
    // Podman's own file, where podman puts it.
    fs::create_dir_all(person.path("run")).unwrap();
    let theirs = [
        "login",
        "--tls-verify=false",
        "-u",
        BOB.0,
        "--password-stdin",
        host,
    ];
    let out = person.podman(&theirs, BOB.1);
    assert_eq!(out.code, 0, "{out:?}");
    assert!(person.path("run/containers/auth.json").exists());
    assert_eq!(person.run(&pull, ""), done(0, &format!("{image}\n"), ""));
    assert_eq!(person.run(&["push", "-q", &image], "").code, 0);
    // Without it we are nobody again.
    assert_eq!(person.run(&["logout", host], "").code, 0);
    let push = person.run(&["push", "-q", &image], "");
    assert_eq!(push.code, 1, "{push:?}");
    assert!(push.err.contains("unauthorized"), "{push:?}");
    let kept = login(&person, host, ALICE, &[]);
    assert_eq!(kept.code, 0, "{kept:?}");
    assert_eq!(person.run(&["push", "-q", &image], "").code, 0);
}

#[test]
fn podman_and_skopeo_read_what_we_keep_and_the_reverse() {
    let Some((registry, person)) = guarded(&["docker-registry", "skopeo", "podman"]) else {
        return;
    };
    let host = registry.host.as_str();
    let file = person.path("auth.json");
    let file = file.to_str().unwrap();
    let theirs = [
        "login",
        "--tls-verify=false",
        "--authfile",
        file,
        "-u",
        BOB.0,
        "--password-stdin",
        host,
    ];
    let out = person.podman(&theirs, BOB.1);
    assert_eq!(
        (out.code, out.out.as_str()),
        (0, "Login Succeeded!\n"),
        "{out:?}"
    );
    assert_eq!(look(&person, host, &["--authfile", file]).code, 0);

    assert_eq!(login(&person, host, ALICE, &["--authfile", file]).code, 0);
    let out = person.podman(&["login", "--get-login", "--authfile", file, host], "");
    assert_eq!((out.code, out.out.as_str()), (0, "alice\n"), "{out:?}");
    let image = format!("docker://{host}/team/app:1");
    let inspect = ["inspect", "--tls-verify=false", "--authfile", file, &image];
    let out = finish(person.command("skopeo").args(inspect), "");
    assert_eq!(out.code, 0, "{out:?}");
    // Theirs forgets ours.
    let out = person.podman(&["logout", "--authfile", file, host], "");
    assert_eq!(out.code, 0, "{out:?}");
    assert_eq!(look(&person, host, &["--authfile", file]).code, 1);

    // Docker's own file is found by both without being named.
    assert_eq!(login(&person, host, ALICE, &[]).code, 0);
    let out = finish(
        person
            .command("skopeo")
            .args(["inspect", "--tls-verify=false", &image]),
        "",
    );
    assert_eq!(out.code, 0, "{out:?}");
}

#[test]
fn a_token_server_gives_a_token_to_keep() {
    let basic = format!("Basic {}", base64("alice:p:a ss"));
    let registry = Stub::start(move |host, asked| {
        let authorization = asked.authorization.as_deref().unwrap_or_default();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"stub\"");
        if asked.what.starts_with("GET /token?") && authorization == basic {
            let body = json!({"token": "short", "refresh_token": "lasting"});
            return (200, vec![], body.to_string());
        }
        if asked.what == "GET /v2/" && authorization == "Bearer short" {
            return (200, vec![], "{}".to_owned());
        }
        let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]});
        (401, vec![("www-authenticate", challenge)], body.to_string())
    });
    let host = registry.host.as_str();
    let person = Person::new();
    let wrong = login(&person, host, ("alice", "wrong"), &[]);
    assert_eq!(
        wrong,
        done(
            1,
            "",
            &format!("Error: login to {host} failed: unauthorized: who are you\n")
        )
    );
    assert!(!person.config().exists());
    assert_eq!(
        login(&person, host, ALICE, &[]),
        done(0, "Login Succeeded\n", "")
    );
    assert_eq!(
        json(&person.config()),
        json!({"auths": {host: {"auth": base64("alice:"), "identitytoken": "lasting"}}})
    );
}

/// What a terminal shows while somebody types these answers to these questions.
fn at_a_terminal(person: &Person, args: &str, talk: &[(&str, &str)]) -> (i32, String) {
    // Ctrl-C ends the program, not the shell.
    let command = format!("trap : INT; {} {args}", env!("CARGO_BIN_EXE_capas"));
    let mut script = person
        .command("script")
        .args(["--quiet", "--return", "--echo", "always", "--command"])
        .arg(command)
        .arg("/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    let mut screen = script.stdout.take().unwrap();
    let mut shown = Vec::new();
    let mut byte = [0];
    for (question, answer) in talk {
        while !shown.ends_with(question.as_bytes()) {
            assert_eq!(
                screen.read(&mut byte).unwrap(),
                1,
                "{}",
                String::from_utf8_lossy(&shown)
            );
            shown.push(byte[0]);
        }
        keys.write_all(answer.as_bytes()).unwrap();
    }
    screen.read_to_end(&mut shown).unwrap();
    drop(keys);
    let code = script.wait().unwrap().code().unwrap();
    (code, String::from_utf8(shown).unwrap())
}

#[test]
fn a_password_that_is_typed_is_not_shown() {
    if !have(&["docker-registry", "script"]) {
        return;
    }
    let registry = Guarded::start();
    let host = registry.host.as_str();
    let person = Person::new();
    let talk = [("Username: ", "alice\n"), ("Password: ", "p:a ss\n")];
    let (code, shown) = at_a_terminal(&person, &format!("login {host}"), &talk);
    let warning = stored(&person.config()).replace('\n', "\r\n");
    assert_eq!(
        (code, shown),
        (
            0,
            format!("Username: alice\r\nPassword: \r\n{warning}Login Succeeded\r\n")
        )
    );
    // Ctrl-C ends it, and the terminal shows again what is typed.
    let args = format!("login -u bob {host}; stty -a");
    let (_, shown) = at_a_terminal(&person, &args, &[("Password: ", "hun\u{3}")]);
    assert!(!shown.contains("hun"), "{shown}");
    assert!(
        ["echo", "isig"]
            .iter()
            .all(|mode| shown.split_whitespace().any(|word| word == *mode)),
        "{shown}"
    );
    assert_eq!(
        json(&person.config()),
        json!({"auths": {host: {"auth": base64("alice:p:a ss")}}})
    );
}
