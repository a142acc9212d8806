use super::browse::{Browser, Key, Pane, Sort};
use super::draw::draw;
use crate::layers::analysis::{Change, Layer, Node, Waste};
use crate::layers::view::Scope;
use crate::layers::{Analysis, Kind, ROOT, Status};
use crate::store::Digest;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// Nodes: 1 `etc`, 2 `etc/a`, 3 `etc/big`, 4 `usr`, 5 `usr/x`.
fn sample() -> Analysis {
    let node = |parent, name: &str, children: &[u32]| Node {
        parent,
        name: name.as_bytes().into(),
        children: children.to_vec(),
    };
    let change = |node, status, kind, size| Change {
        node,
        status,
        kind,
        size,
    };
    let layer = |command: &str, changes: Vec<Change>| Layer {
        diff_id: Digest::of(command.as_bytes()),
        command: command.to_owned(),
        size: 1100,
        wastes: 0,
        changes,
    };
    Analysis {
        nodes: vec![
            node(ROOT, "", &[1, 4]),
            node(ROOT, "etc", &[2, 3]),
            node(1, "a", &[]),
            node(1, "big", &[]),
            node(ROOT, "usr", &[5]),
            node(4, "x\x1b", &[]),
        ],
        layers: vec![
            layer(
                "ADD all",
                vec![
                    change(1, Status::Added, Kind::Dir, 0),
                    change(2, Status::Added, Kind::File, 100),
                    change(3, Status::Added, Kind::File, 1000),
                    change(4, Status::Added, Kind::Dir, 0),
                ],
            ),
            layer(
                "RUN rm",
                vec![
                    change(2, Status::Changed, Kind::File, 70),
                    change(3, Status::Removed, Kind::File, 1000),
                    change(5, Status::Added, Kind::Symlink, 0),
                ],
            ),
        ],
        total: 2200,
        wasted: 1100,
        waste: vec![Waste {
            node: 3,
            bytes: 1000,
            times: 1,
        }],
        duplicated: 0,
    }
}

fn names(b: &Browser<'_>) -> Vec<String> {
    let name = |n: u32| String::from_utf8(b.analysis.path(n)).unwrap();
    b.rows.iter().map(|r| name(r.node)).collect()
}

fn press(b: &mut Browser<'_>, keys: &str) {
    keys.chars().for_each(|c| b.press(Key::Char(c)));
}

#[test]
fn moving_opening_and_closing() {
    let analysis = sample();
    let mut b = Browser::new(&analysis);
    assert_eq!(names(&b), ["etc", "usr"]);
    b.press(Key::Right);
    assert_eq!(b.pane, Pane::Tree);
    b.press(Key::Enter);
    assert_eq!(names(&b), ["etc", "etc/a", "etc/big", "usr"]);
    press(&mut b, "jj");
    assert_eq!(b.cursor, 2);
    b.press(Key::Right);
    assert_eq!(b.cursor, 2);
    // To the directory, closed, and out.
    b.press(Key::Left);
    assert_eq!(b.cursor, 0);
    b.press(Key::Left);
    assert_eq!(names(&b), ["etc", "usr"]);
    b.press(Key::Left);
    assert_eq!(b.pane, Pane::Layers);
    b.press(Key::End);
    assert_eq!(b.layer, 1);
    b.press(Key::Down);
    assert_eq!(b.layer, 1);
    b.press(Key::Home);
    assert_eq!(b.layer, 0);
    b.press(Key::Enter);
    b.press(Key::PageDown);
    assert_eq!(b.cursor, 1);
    b.press(Key::Up);
    b.press(Key::Up);
    assert_eq!(b.cursor, 0);
    press(&mut b, "e");
    assert_eq!(b.rows.len(), 4);
    press(&mut b, "c");
    assert_eq!(b.rows.len(), 2);
    assert!(!b.done);
    press(&mut b, "q");
    assert!(b.done);
}

#[test]
fn scopes_and_sizes() {
    let analysis = sample();
    let mut b = Browser::new(&analysis);
    b.press(Key::Down);
    press(&mut b, "e");
    assert_eq!(names(&b), ["etc", "etc/a", "etc/big", "usr", "usr/x\x1b"]);
    let sizes = |b: &Browser<'_>| b.rows.iter().map(|r| r.shown.size).collect::<Vec<_>>();
    // What is removed is no part of what the directory has.
    assert_eq!(sizes(&b), [70, 70, 1000, 0, 0]);
    press(&mut b, "s");
    assert_eq!(b.sort, Sort::Size);
    assert_eq!(names(&b), ["etc", "etc/big", "etc/a", "usr", "usr/x\x1b"]);
    b.press(Key::Up);
    b.press(Key::Tab);
    assert_eq!(b.scope, Scope::Merged);
    assert_eq!(sizes(&b), [1100, 1000, 100, 0]);
    b.press(Key::Down);
    let status = |b: &Browser<'_>| b.rows.iter().map(|r| r.shown.status).collect::<Vec<_>>();
    assert_eq!(
        status(&b),
        [
            None,
            Some(Status::Removed),
            Some(Status::Changed),
            None,
            Some(Status::Added)
        ]
    );
}

#[test]
fn filters() {
    let analysis = sample();
    let mut b = Browser::new(&analysis);
    press(&mut b, "/BI");
    assert!(b.typing);
    assert_eq!(names(&b), ["etc", "etc/big"]);
    // Keys are letters now.
    press(&mut b, "q");
    assert!(b.rows.is_empty() && !b.done);
    b.press(Key::Enter);
    b.press(Key::Enter);
    b.press(Key::Left);
    b.press(Key::Esc);
    assert_eq!(names(&b), ["etc", "usr"]);
    press(&mut b, "/etc");
    b.press(Key::Backspace);
    assert_eq!(b.filter, "et");
    b.press(Key::Esc);
    assert!(b.filter.is_empty() && !b.typing);
    // A directory that fits, without what is in it.
    press(&mut b, "/usr");
    b.press(Key::Interrupt);
    assert_eq!(names(&b), ["usr"]);
    assert!(b.done);
}

#[test]
fn help_goes_with_any_key() {
    let analysis = sample();
    let mut b = Browser::new(&analysis);
    press(&mut b, "?q");
    assert!(!b.help && !b.done);
}

fn screen(b: &Browser<'_>, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|f| draw(f, b, "x:1")).unwrap();
    terminal.backend().to_string()
}

#[test]
fn the_screen() {
    let analysis = sample();
    let mut b = Browser::new(&analysis);
    b.press(Key::Down);
    b.press(Key::Right);
    press(&mut b, "e");
    assert_eq!(screen(&b, 90, 16), SCREEN);
    press(&mut b, "?");
    assert!(screen(&b, 90, 16).contains("A added (green)"));
    // Any size draws, the smallest too.
    for (width, height) in [(1, 1), (5, 2), (20, 5), (300, 100)] {
        screen(&b, width, height);
    }
    b.help = false;
    let mut terminal = Terminal::new(TestBackend::new(90, 16)).unwrap();
    terminal.draw(|f| draw(f, &b, "x:1")).unwrap();
    let buffer = terminal.backend().buffer();
    let colour = |y: u16| buffer[(37, y)].fg;
    use ratatui::style::Color;
    assert_eq!(
        [colour(2), colour(3), colour(5)],
        [Color::Yellow, Color::Red, Color::Green]
    );
}

#[test]
fn nothing_to_show_is_shown() {
    let mut analysis = sample();
    analysis.layers.clear();
    let mut b = Browser::new(&analysis);
    for key in [
        Key::Down,
        Key::Right,
        Key::Enter,
        Key::Left,
        Key::Tab,
        Key::End,
    ] {
        b.press(key);
        screen(&b, 80, 20);
    }
}

const SCREEN: &str = r#""┌x:1───────────────────────────────┐┌What the layer does, by name────────────────────────┐"
"│  1   1.1kB  ADD all              ││      70B ▾ etc/                                    │"
"│  2   1.1kB  RUN rm               ││C     70B     a                                     │"
"│                                  ││D     1kB     big                                   │"
"│                                  ││       0B ▾ usr/                                    │"
"└──────────────────────────────────┘│A      0B     x\u{1b}@                              │"
"┌Layer─────────────────────────────┐│                                                    │"
"│31c907bc4773  +1 ~1 -1            ││                                                    │"
"│wastes 0B below                   ││                                                    │"
"│image 2.2kB, wasted 1.1kB,        ││                                                    │"
"│duplicated 0B                     ││                                                    │"
"│efficiency 0.5000                 ││                                                    │"
"│RUN rm                            ││                                                    │"
"│                                  ││                                                    │"
"└──────────────────────────────────┘└────────────────────────────────────────────────────┘"
"? help   Tab layer/merged   / filter   s sort   q leave                                   "
"#;
