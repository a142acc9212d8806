//! `diff`: docker's lines.

use super::commit::{odd_image, sh};
use super::harness::ready;

#[test]
fn what_was_added_changed_and_deleted() {
    let Some(c) = ready() else { return };
    odd_image(&c);
    c.ok(&["create", "--name", "one", "odd:1", "x"]);
    assert_eq!(c.ok(&["diff", "one"]), "");
    let point = c.ok(&["mount", "one"]);
    let changes = "echo 1 >plain; mkdir -p new/in; : >new/in/f; rm big; rm -r gone;
        rm -r swap; mkdir swap; echo 1 >swap/x; mv tree moved; chmod 700 old/sub;
        touch -r old/sub/deep t; : >old/sub/deep/f; rm old/sub/deep/f; touch -r t old/sub/deep; rm t
        mv data new/";
    sh(point.trim_end(), changes);
    let wanted = "D /big\nD /data\nD /gone\nA /moved\nA /moved/in\nA /moved/in/file\nA /moved/link\n\
        A /new\nA /new/data\nA /new/in\nA /new/in/f\nC /old\nC /old/sub\nC /plain\nC /swap\nC /swap/x\nD /swap/y\nD /tree\n";
    assert_eq!(c.ok(&["diff", "one"]), wanted);
    c.ok(&["umount", "one"]);
    assert_eq!(c.ok(&["container", "diff", "one"]), wanted);
    let table = c.ok(&["diff", "--format", "table", "one"]);
    assert!(
        table.starts_with("CHANGE TYPE   PATH\nD             /big\nD             /data\n"),
        "{table}"
    );
    assert_eq!(
        c.ok(&["diff", "--format", "{{.Type}} {{.Path}}", "one"]),
        wanted
    );
    let (code, _, err) = c.run(&["diff", "none"]);
    assert_eq!(
        (code, err.as_str()),
        (1, "Error: No such container: none\n")
    );
}

#[test]
fn what_is_made_to_mount_things_at_is_no_change() {
    let Some(c) = ready() else { return };
    c.ok(&[
        "run",
        "--name",
        "one",
        "-v",
        "/data",
        "box:1",
        "sh",
        "-c",
        "echo 1 >/data/f; echo 2 >/etc/new",
    ]);
    assert_eq!(c.ok(&["diff", "one"]), "A /data\nC /etc\nA /etc/new\n");
    c.ok(&["run", "--name", "two", "box:1", "true"]);
    assert_eq!(c.ok(&["diff", "two"]), "");
}
