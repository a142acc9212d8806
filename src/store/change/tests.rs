use super::*;

fn changed(config: &str, changes: &[&str]) -> String {
    let mut config: Config = serde_json::from_str(config).unwrap();
    let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
    apply(&mut config, &changes).unwrap();
    serde_json::to_string(&config).unwrap()
}

#[test]
fn instructions_as_docker_reads_them() {
    for (change, config) in [
        (r#"CMD ["a", "b c"]"#, r#"{"Cmd":["a","b c"]}"#),
        (
            "cmd echo  'x' $HOME",
            r#"{"Cmd":["/bin/sh","-c","echo  'x' $HOME"]}"#,
        ),
        ("CMD [a]", r#"{"Cmd":["/bin/sh","-c","[a]"]}"#),
        (r#"ENTRYPOINT ["/x"]"#, r#"{"Entrypoint":["/x"]}"#),
        ("ENTRYPOINT x y", r#"{"Entrypoint":["/bin/sh","-c","x y"]}"#),
        (
            r#"ENV A=1 B="2 3" C=4\ 5 D='$A'"#,
            r#"{"Env":["A=1","B=2 3","C=4 5","D=$A"]}"#,
        ),
        ("ENV A 1 2  3", r#"{"Env":["A=1 2  3"]}"#),
        (
            "ENV A=1\nENV B=$A-${A}x$C A=2",
            r#"{"Env":["A=2","B=1-1x"]}"#,
        ),
        (
            r#"ENV A=1 B=
ENV C=${A:-x}${B:-y}${B-z}${N-$A} D=${A:+p q}${B:+r}${B+s}${N+t} E=${N:-"${B:-u}}"}"#,
            r#"{"Env":["A=1","B=","C=1y1","D=p qs","E=u}"]}"#,
        ),
        (r#"ENV A=\$B'\'"\$\"\x""#, r#"{"Env":["A=$B\\$\"\\x"]}"#),
        (
            r#"SHELL ["/bin/ash", "-c"]
CMD x"#,
            r#"{"Cmd":["/bin/ash","-c","x"],"Shell":["/bin/ash","-c"]}"#,
        ),
        (
            "EXPOSE 80 53/UDP 8000-8001",
            r#"{"ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{}}}"#,
        ),
        (
            r#"LABEL a.b="c d" e=f"#,
            r#"{"Labels":{"a.b":"c d","e":"f"}}"#,
        ),
        ("LABEL a b c", r#"{"Labels":{"a":"b c"}}"#),
        ("STOPSIGNAL SIGRTMIN+3", r#"{"StopSignal":"SIGRTMIN+3"}"#),
        ("STOPSIGNAL 9", r#"{"StopSignal":"9"}"#),
        ("USER me:us", r#"{"User":"me:us"}"#),
        ("VOLUME /a /b", r#"{"Volumes":{"/a":{},"/b":{}}}"#),
        (r#"VOLUME ["/a b"]"#, r#"{"Volumes":{"/a b":{}}}"#),
        (
            "ENV D=/d\nVOLUME [\"$D/a\", \"${N:-/b}\"]",
            r#"{"Env":["D=/d"],"Volumes":{"/b":{},"/d/a":{}}}"#,
        ),
        ("STOPSIGNAL quit", r#"{"StopSignal":"quit"}"#),
        ("WORKDIR /a/../b/./c/", r#"{"WorkingDir":"/b/c"}"#),
        (
            "WORKDIR a\nWORKDIR b c\nWORKDIR ..",
            r#"{"WorkingDir":"/a"}"#,
        ),
        ("ONBUILD RUN  x", r#"{"OnBuild":["RUN  x"]}"#),
        ("HEALTHCHECK none", r#"{"Healthcheck":{"Test":["NONE"]}}"#),
        (
            "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=2 CMD curl x",
            r#"{"Healthcheck":{"Interval":90000000000,"Retries":2,"Test":["CMD-SHELL","curl x"],"Timeout":500000000}}"#,
        ),
        (
            r#"HEALTHCHECK CMD ["x"]"#,
            r#"{"Healthcheck":{"Test":["CMD","x"]}}"#,
        ),
        ("  # a comment\n\n USER x", r#"{"User":"x"}"#),
    ] {
        assert_eq!(changed("{}", &[change]), config, "{change}");
    }
}

#[test]
fn what_is_there_is_changed_and_nothing_else() {
    let before = r#"{"Cmd":["old"],"Env":["PATH=/bin","A=0"],"Labels":null,"Shell":["/bin/ash","-ec"],"X":1}"#;
    assert_eq!(
        changed(before, &["ENV A=1", "LABEL l=m", "CMD x"]),
        r#"{"Cmd":["/bin/ash","-ec","x"],"Env":["PATH=/bin","A=1"],"Labels":{"l":"m"},"Shell":["/bin/ash","-ec"],"X":1}"#
    );
    // Arguments of the entry point that was.
    assert_eq!(
        changed(r#"{"Cmd":["old"]}"#, &[r#"ENTRYPOINT ["e"]"#]),
        r#"{"Entrypoint":["e"]}"#
    );
    assert_eq!(
        changed(
            r#"{"Cmd":["old"]}"#,
            &[r#"CMD ["new"]"#, r#"ENTRYPOINT ["e"]"#]
        ),
        r#"{"Cmd":["new"],"Entrypoint":["e"]}"#
    );
}

#[test]
fn what_is_no_such_instruction_is_refused() {
    for (change, word) in [
        ("RUN x", "not one of"),
        ("FROM x", "not one of"),
        ("COPY a b", "not one of"),
        ("CMD", "needs an argument"),
        ("ENV A", "KEY=VALUE"),
        ("ENV A=1 B", "\"B\" is not KEY=VALUE"),
        ("ENV =1", "is not KEY=VALUE"),
        ("ENV A='1", "no end"),
        ("ENV A=${B", "are read here"),
        ("ENV A=${B:-c", "has no }"),
        ("ENV A=${B#c", "has no }"),
        ("ENV A=${B:}", "are read here"),
        ("ENV A=${B:?}", "B is not set"),
        ("ENV A=${B?give it}", "B: give it"),
        ("SHELL /bin/sh -c", "a JSON list"),
        ("SHELL []", "a JSON list"),
        ("EXPOSE 0", "no port"),
        ("EXPOSE 65536", "no port"),
        ("EXPOSE 9-8", "no port"),
        ("EXPOSE 80/icmp", "no port"),
        ("STOPSIGNAL SIGFOO", "SIGTERM"),
        ("STOPSIGNAL SIG", "SIGTERM"),
        ("STOPSIGNAL 65", "SIGTERM"),
        ("USER a b", "one argument"),
        ("VOLUME [\"\"]", "a path"),
        ("ONBUILD FROM x", "not be triggered"),
        ("HEALTHCHECK x", "NONE, or CMD"),
        ("HEALTHCHECK --interval=1x CMD x", "a duration"),
        ("HEALTHCHECK --interval=5 CMD x", "a duration"),
        ("HEALTHCHECK --what=5 CMD x", "not known"),
        ("\u{1b}[31mX y", "\\u{1b}"),
    ] {
        let mut config = Config::new();
        let e = apply(&mut config, &[change.to_owned()])
            .unwrap_err()
            .to_string();
        assert!(e.contains(word) && !e.contains('\n'), "{change}: {e}");
    }
}

#[test]
fn variables_in_words() {
    let words = Words {
        variables: ["A=1".to_owned(), "A=2".to_owned(), "B=b c".to_owned()].into(),
        escape: '`',
    };
    assert_eq!(words.split("$A`$A $B\\ x").unwrap(), ["1$A", "b c\\", "x"]);
    assert_eq!(words.expand("a  '$A' \"$A\"").unwrap(), "a  $A 1");
    assert_eq!(
        words.fill_in("it's \"$A\" `$A `x\n").unwrap(),
        "it's \"1\" $A `x\n"
    );
    let edits = Words {
        variables: vec!["P=linux/arm64".into(), "F=a.tar.gz".into(), "S=*x".into()],
        escape: '\\',
    };
    for (text, got) in [
        ("${P#linux/}-${P##*/}-${P%/*}", "arm64-arm64-linux"),
        ("${F%.gz} ${F%%.*} ${F#*.} ${F##*.}", "a.tar a tar.gz gz"),
        (
            "${F/./_} ${F//./_} ${F/.tar/} ${F//[.]/x}",
            "a_tar.gz a_tar_gz a.gz a.tar.gz",
        ),
        (
            r"${S#\*} ${S#*} ${S/\*/\}} ${P//\//:}",
            "x *x }x linux:arm64",
        ),
        ("${P%${N:-/arm64}} ${N%x} '${P#l}'", "linux  ${P#l}"),
        ("${P/linux/${F%%.*}}", "a/arm64"),
    ] {
        assert_eq!(edits.expand(text).unwrap(), got, "{text}");
    }
    for (bad, why) in [
        ("${P%x", "\"${P\" has no }"),
        ("${P/x}", "\"${P\" has no /"),
        ("${P:%x}", "are read here"),
    ] {
        let e = edits.expand(bad).unwrap_err().to_string();
        assert!(e.contains(why), "{bad}: {e}");
    }
    let deep = "${N:-".repeat(40) + &"}".repeat(40);
    let e = words.expand(&deep).unwrap_err().to_string();
    assert!(e.contains("too deeply"), "{e}");
    let long = Words {
        variables: vec![format!("A={}", "x".repeat(1 << 20))],
        escape: '`',
    };
    assert!(long.expand(&"$A".repeat(20)).is_err());
}
