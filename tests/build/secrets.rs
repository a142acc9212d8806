//! What commands see and nobody else.

use super::fixture::ground;

#[test]
fn secrets_are_seen_by_their_command_alone() {
    let Some(g) = ground() else { return };
    g.file("Dockerfile", "").file("key", "of the file\n");
    let text = "FROM box:1\n\
        RUN --mount=type=secret,id=key cat /run/secrets/key > /a && stat -c '%a %u' /run/secrets/key >> /a && ! touch /run/secrets/key\n\
        RUN --mount=type=secret,id=token,env=TOKEN echo $TOKEN > /b; ls -d /run/secrets >> /b 2>/dev/null; true\n\
        RUN --mount=type=secret,id=token,target=/etc/token,mode=0444,uid=33 stat -c '%a %u %s' /etc/token > /c\n\
        RUN --mount=type=secret,id=none ls /run/secrets 2>/dev/null; echo none > /d\n";
    let key = format!("id=key,src={}", g.at("key").display());
    let args = ["--secret", &key, "--secret", "id=token,env=GIVEN"];
    let build = |args: &[&str]| {
        g.file("Dockerfile", text);
        let all = [
            &["build", "-t", "t:1"],
            args,
            &[g.context.to_str().unwrap()],
        ]
        .concat();
        let out = g
            .cli
            .command(&all)
            .env("GIVEN", "s3cr3t-value")
            .output()
            .unwrap();
        let err = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.success(), "{err}");
        err
    };
    build(&args);
    assert_eq!(
        g.see("t:1", "cat /a /b /c /d"),
        "of the file\n400 0\ns3cr3t-value\n444 33 12\nnone\n"
    );
    assert_eq!(g.see("t:1", "ls -d /run /etc/token 2>/dev/null; true"), "");
    // Nothing but what the commands have written holds it.
    let told = g.cli.ok(&["inspect", "t:1"]) + &g.cli.ok(&["history", "--no-trunc", "t:1"]);
    assert!(
        !told.contains("s3cr3t") && !told.contains("of the file"),
        "{told}"
    );
    // Another value is no other step.
    g.file("key", "another\n");
    let said = build(&args);
    assert_eq!(said.matches(" => CACHED").count(), 4, "{said}");
    g.assert_nothing_is_left();
}

#[test]
fn secrets_that_are_not_there_are_told() {
    let Some(g) = ground() else { return };
    let text = "FROM box:1\nRUN --mount=type=secret,id=k,required=true cat /run/secrets/k\n";
    let name = g.at("Dockerfile").display().to_string();
    let (code, _, err) = g.try_build(text, &[]);
    let why = format!("Error: {name}:2: secret k: not found: give it with --secret\n");
    assert!(code == 1 && err.ends_with(&why), "{err}");
    for (secret, why) in [
        ("id=k,src=/no/such", "/no/such is not there"),
        (
            "id=k,env=NO_SUCH_VARIABLE",
            "the variable NO_SUCH_VARIABLE is not set",
        ),
        ("src=/x", "it needs id=ID"),
        ("id=k,src=/x,env=Y", "give src or env, not both"),
        ("id=k,what=x", "what=x is not known"),
    ] {
        let (code, _, err) = g.try_build(text, &["--secret", secret]);
        assert!(
            code == 1 && err.contains(why) && err.lines().count() == 1,
            "{secret}: {err}"
        );
    }
    g.assert_nothing_is_left();
}
