//! `search`: an index where there is one, else the list of repositories.

use crate::accounts::{Person, done};
use crate::stub::{Answer, Asked, Stub};
use serde_json::json;

fn index(_: &str, asked: &Asked) -> Answer {
    let body = json!({"num_results": 3, "query": "x", "results": [
        {"name": "deb/one", "description": "short", "star_count": 7, "is_official": false},
        {"name": "two", "description": "A description that is much longer than forty-five characters", "star_count": 1234, "is_official": true},
        {"name": "three\u{1b}[31m", "description": null, "is_automated": true}
    ]});
    match asked.what.starts_with("GET /v1/search?") {
        true => (200, vec![], body.to_string()),
        false => (404, vec![], String::new()),
    }
}

#[test]
fn an_index_is_asked() {
    let stub = Stub::start(index);
    let host = stub.host.as_str();
    let person = Person::new();
    let term = format!("{host}/a term/&");
    let wide = |name: &str| {
        format!(
            "{:width$}",
            format!("{host}/{name}"),
            width = host.len() + 14
        )
    };
    let heading = format!(
        "{:width$}DESCRIPTION                                     STARS     OFFICIAL\n",
        "NAME",
        width = host.len() + 14
    );
    let one = format!(
        "{}short                                           7         \n",
        wide("deb/one")
    );
    let two = format!(
        "{}A description that is much longer than forty…   1234      [OK]\n",
        wide("two")
    );
    let three = format!(
        "{}                                                0         \n",
        wide("three [31m")
    );
    assert_eq!(
        person.run(&["search", &term], ""),
        done(0, &format!("{heading}{one}{two}{three}"), "")
    );
    assert_eq!(stub.asked()[0].what, "GET /v1/search?q=a%20term%2F%26&n=25");
    let official = person.run(
        &[
            "search",
            "-f",
            "is-official=true",
            "--no-trunc",
            "--limit",
            "100",
            &term,
        ],
        "",
    );
    let name = format!("{host}/two");
    assert_eq!(
        official.out,
        format!(
            "{:width$}   DESCRIPTION                                                    STARS     OFFICIAL\n\
             {name}   A description that is much longer than forty-five characters   1234      [OK]\n",
            "NAME",
            width = name.len()
        )
    );
    assert!(stub.asked()[1].what.ends_with("&n=100"));
    let some = person.run(
        &["search", "-f", "stars=7", "-f", "is-official=0", &term],
        "",
    );
    assert_eq!(some.out.lines().count(), 2, "{}", some.out);
    let names = person.run(
        &["search", "--format", "{{.Name}}:{{.IsOfficial}}", &term],
        "",
    );
    assert_eq!(
        names.out,
        format!("{host}/deb/one:\n{host}/two:[OK]\n{host}/three [31m:\n")
    );
    let all = person.run(&["search", "--format", "json", "-f", "stars=8", &term], "");
    assert_eq!(
        all.out,
        format!(
            "{{\"Description\":\"A description that is much longer than forty…\",\"IsAutomated\":\"false\",\"IsOfficial\":\"true\",\"Name\":\"{host}/two\",\"StarCount\":\"1234\"}}\n"
        )
    );
    // What nothing has any more is found nowhere.
    let warning = "WARNING: the \"is-automated\" filter is deprecated, and searching for \
                   \"is-automated=true\" will not yield any results in future.\n";
    let heading = "NAME      DESCRIPTION   STARS     OFFICIAL\n";
    assert_eq!(
        person.run(&["search", "-f", "is-automated=true", &term], ""),
        done(0, heading, warning)
    );
    assert_eq!(stub.asked().len(), 5);
    let others = person.run(&["search", "-f", "is-automated=false", &term], "");
    assert_eq!(
        (others.out.lines().count(), others.err.as_str()),
        (4, warning)
    );
    for (args, err) in [
        (
            &["--limit", "0"],
            "limit 0 is outside the range of [1, 100]",
        ),
        (
            &["--limit", "101"],
            "limit 101 is outside the range of [1, 100]",
        ),
        (&["-f", "stars=x"], "invalid filter 'stars=x'"),
        (&["-f", "is-automated=x"], "invalid filter 'is-automated=x'"),
        (
            &["-f", "x"],
            "bad format of filter \"x\" (expected name=value)",
        ),
    ] {
        let args = ["search", args[0], args[1], &term];
        let want = done(1, "", &format!("Error: {err}\n"));
        assert_eq!(person.run(&args, ""), want);
    }
    assert_eq!(stub.asked().len(), 6);
}

#[test]
fn a_catalogue_is_looked_through_in_all_its_parts() {
    let stub = Stub::start(|_, asked| match asked.what.as_str() {
        "GET /v2/_catalog" => {
            let body = json!({"repositories": ["app", "base/Db", "my/apple"]});
            let next = "</v2/_catalog?last=my%2Fapple&n=3>; rel=\"next\"".to_owned();
            (200, vec![("link", next)], body.to_string())
        }
        "GET /v2/_catalog?last=my%2Fapple&n=3" => (
            200,
            vec![],
            json!({"repositories": ["pineapp", "z"]}).to_string(),
        ),
        // Some send a page for people instead of a 404.
        "GET /v1/search?q=APP&n=25" => (200, vec![], "<html>".to_owned()),
        _ => (404, vec![], String::new()),
    });
    let host = stub.host.as_str();
    let person = Person::new();
    let row = |name: &str| {
        format!(
            "{:width$}                 0         \n",
            format!("{host}/{name}"),
            width = host.len() + 9
        )
    };
    let heading = format!(
        "{:width$}   DESCRIPTION   STARS     OFFICIAL\n",
        "NAME",
        width = host.len() + 9
    );
    let all = [row("app"), row("my/apple"), row("pineapp")].concat();
    assert_eq!(
        person.run(&["search", &format!("{host}/APP")], ""),
        done(0, &format!("{heading}{all}"), "")
    );
    let two = person.run(&["search", "--limit", "2", &format!("{host}/app")], "");
    assert_eq!(two.out.lines().count(), 3, "{}", two.out);
    let none = person.run(&["search", &format!("{host}/nothing")], "");
    assert_eq!(
        none,
        done(0, "NAME      DESCRIPTION   STARS     OFFICIAL\n", "")
    );
}

#[test]
fn a_helper_is_asked_once() {
    let stub = Stub::start(|_, asked| {
        let known = asked.authorization.as_deref() == Some("Basic YWxpY2U6cHc=");
        let next = |page: u8| vec![("link", format!("</v2/_catalog?last={page}>; rel=\"next\""))];
        let page = json!({"repositories": ["app"]}).to_string();
        match asked.what.as_str() {
            "GET /v2/_catalog" if known => (200, next(1), page),
            "GET /v2/_catalog?last=1" if known => (200, next(2), page),
            "GET /v2/_catalog?last=2" if known => (200, vec![], page),
            "GET /v1/search?q=app&n=25" => (404, vec![], String::new()),
            _ => (
                401,
                vec![("www-authenticate", "Basic realm=\"x\"".to_owned())],
                String::new(),
            ),
        }
    });
    let host = stub.host.as_str();
    let person = Person::new();
    person.helper("fake");
    person.write(".docker/config.json", r#"{"credsStore":"fake"}"#);
    let kept = json!({"ServerURL": host, "Username": "alice", "Secret": "pw"});
    person.write("kept", &kept.to_string());
    let found = person.run(&["search", &format!("{host}/app")], "");
    assert_eq!(found.out.lines().count(), 4, "{found:?}");
    let asked = std::fs::read_to_string(person.path("asked")).unwrap();
    assert_eq!(asked, format!("get {host}\n"));
    // Nobody is sent a name and a secret before he has asked.
    assert!(stub.asked()[0].authorization.is_none());
    assert!(stub.asked()[1].authorization.is_none());
    let none = person.path("none.json");
    let none = none.to_str().unwrap();
    assert_eq!(
        person.run(&["search", "--authfile", none, &format!("{host}/app")], ""),
        done(
            1,
            "",
            &format!(
                "Error: there are no credentials: {none} is not there; capas login --authfile makes it\n"
            )
        )
    );
}

#[test]
fn who_has_neither_is_told_so() {
    let stub = Stub::start(|_, _| (404, vec![], String::new()));
    let host = stub.host.as_str();
    let person = Person::new();
    assert_eq!(
        person.run(&["search", &format!("{host}/app")], ""),
        done(
            1,
            "",
            &format!(
                "Error: cannot list the repositories of {host}: the server answers 404 Not Found\n"
            )
        )
    );
}
