//! Containers with a terminal.
#![allow(unsafe_code)]

use super::harness::{Cli, PATIENCE, ready};
use capas::sys::terminal::{set_size, size};
use rustix::termios::{Termios, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A terminal, and `capas` at it.
pub struct Typed {
    master: File,
    slave: OwnedFd,
    before: Termios,
    child: Child,
    shown: Receiver<Vec<u8>>,
    text: String,
}

impl Typed {
    pub fn new(c: &Cli, args: &[&str]) -> Typed {
        Typed::at(c.command(args))
    }

    pub fn at(mut command: Command) -> Typed {
        let (mut master, mut slave) = (-1, -1);
        let null = std::ptr::null_mut();
        // SAFETY: both numbers are written by the call; the rest is left out.
        let made = unsafe {
            libc::openpty(
                &raw mut master,
                &raw mut slave,
                null,
                null.cast(),
                null.cast(),
            )
        };
        assert_eq!(made, 0);
        // SAFETY: just opened, and nobody else's.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        set_size(&slave, (33, 77)).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let stream = || slave.try_clone().unwrap();
        let child = command
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .unwrap();
        let mut reader = master.try_clone().unwrap();
        let (send, shown) = channel();
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n) = reader.read(&mut buf) {
                if send.send(buf[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Typed {
            master,
            slave,
            before,
            child,
            shown,
            text: String::new(),
        }
    }

    pub fn type_(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Wait for what is shown.
    pub fn sees(&mut self, wanted: &str) {
        let begun = Instant::now();
        while !self.text.contains(wanted) {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            match self.shown.recv_timeout(left) {
                Ok(more) => self.text.push_str(&String::from_utf8_lossy(&more)),
                Err(_) => panic!("{wanted:?} is not in {:?}", self.text),
            }
        }
        self.text.clear();
    }

    /// Type something again and again until it has the wanted answer.
    fn says_until(&mut self, typed: &str, wanted: &str) {
        let begun = Instant::now();
        while !self.text.contains(wanted) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{wanted:?} is not in {:?}",
                self.text
            );
            self.type_(typed);
            std::thread::sleep(Duration::from_millis(300));
            for more in self.shown.try_iter() {
                self.text.push_str(&String::from_utf8_lossy(&more));
            }
        }
        self.text.clear();
    }

    /// Its exit code, and the terminal must be as it was.
    pub fn ends(&mut self) -> i32 {
        let code = self.child.wait().unwrap().code().unwrap();
        let after = tcgetattr(&self.slave).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        code
    }
}

#[test]
fn a_shell_at_a_terminal() {
    let Some(c) = ready() else { return };
    let mut t = Typed::new(&c, &["run", "-it", "--name", "tt", "box:1", "sh"]);
    t.sees("# ");
    t.type_("tty; stty size; echo $TERM $((40 + 2))\n");
    t.sees("/dev/pts/0\r\n33 77\r\nxterm 42\r\n");
    // Another size is told on.
    set_size(&t.slave, (40, 100)).unwrap();
    assert_eq!(size(&t.slave).unwrap(), (40, 100));
    capas::sys::tree::kill(t.child.id(), 28).unwrap();
    t.says_until("stty size\n", "40 100\r\n");
    // Ctrl-C is the container's, and not ours.
    t.type_("sleep 1000\n");
    t.sees("sleep 1000\r\n");
    std::thread::sleep(Duration::from_millis(300));
    t.type_("\x03");
    t.sees("# ");
    t.type_("exit 130\n");
    assert_eq!(t.ends(), 130);
    assert!(c.ok(&["ps", "-a"]).contains("Exited (130)"));
    assert!(c.ok(&["logs", "tt"]).contains("xterm 42"));
    c.ok(&["rm", "tt"]);
    c.assert_nothing_is_left();
}

#[test]
fn the_keys_that_leave_it_running() {
    let Some(c) = ready() else { return };
    let mut t = Typed::new(&c, &["run", "-it", "--name", "tt", "box:1", "sh"]);
    t.sees("# ");
    // Also what was typed right before is not lost.
    t.type_("x=kept\n\x10\x11");
    assert_eq!(t.ends(), 0);
    assert!(c.ok(&["ps"]).contains("Up "));
    let mut t = Typed::new(&c, &["attach", "--detach-keys", "ctrl-a,d", "tt"]);
    t.type_("echo is $x\n");
    t.sees("is kept\r\n");
    t.type_("\x01d");
    assert_eq!(t.ends(), 0);
    // Those that somebody has chosen for docker.
    let config = c
        .bench
        .write("config.json", br#"{"detachKeys":"ctrl-b,x"}"#);
    let mut attach = c.command(&["attach", "tt"]);
    attach.env("DOCKER_CONFIG", config.parent().unwrap());
    let mut t = Typed::at(attach);
    t.type_("echo is $x\n");
    t.sees("is kept\r\n");
    t.type_("\x02x");
    assert_eq!(t.ends(), 0);
    let mut t = Typed::new(&c, &["attach", "tt"]);
    t.type_("exit 7\n");
    assert_eq!(t.ends(), 7);
    let mut t = Typed::new(&c, &["start", "-ai", "tt"]);
    t.sees("# ");
    t.type_("exit 9\n");
    assert_eq!(t.ends(), 9);
    c.ok(&["rm", "tt"]);
    c.assert_nothing_is_left();
}

#[test]
fn the_terminal_is_restored_whoever_ends() {
    let Some(c) = ready() else { return };
    // The one who looks is asked to end: the container goes on.
    let mut t = Typed::new(&c, &["run", "-it", "--name", "tt", "box:1", "sh"]);
    t.sees("# ");
    capas::sys::tree::kill(t.child.id(), 15).unwrap();
    assert_eq!(t.ends(), 128 + 15);
    assert!(c.ok(&["ps"]).contains("Up "));
    // The monitor dies.
    let mut t = Typed::new(&c, &["attach", "tt"]);
    t.type_("echo $((1 + 1))\n");
    t.sees("2\r\n");
    capas::sys::tree::kill(c.monitor("tt"), 9).unwrap();
    t.sees("monitor ended unexpectedly");
    assert_eq!(t.ends(), 1);
    // A terminal goes with its monitor, and so does who sits at it.
    c.until("it has ended", || c.ok(&["ps", "-q"]).is_empty());
    assert!(c.ok(&["ps", "-a"]).contains("Exited (255)"));
    c.ok(&["rm", "tt"]);
    // The command cannot be started.
    let mut t = Typed::new(&c, &["run", "--rm", "-it", "box:1", "nosuch"]);
    t.sees("executable file not found");
    assert_eq!(t.ends(), 127);
    c.assert_nothing_is_left();
}

#[test]
fn a_command_beside_it_at_a_terminal() {
    let Some(c) = ready() else { return };
    c.ok(&["run", "-d", "--name", "box", "box:1", "sleep", "1000"]);
    // Also one that nothing is typed to has a size.
    let mut t = Typed::new(&c, &["exec", "-t", "box", "sh", "-c", "sleep 1; stty size"]);
    t.sees("33 77\r");
    assert_eq!(t.ends(), 0);
    let mut t = Typed::new(&c, &["exec", "-it", "box", "sh"]);
    t.sees("# ");
    t.type_("stty size; exit 3\n");
    t.sees("33 77\r\n");
    assert_eq!(t.ends(), 3);
    // Who is killed at it leaves no process behind.
    let mut t = Typed::new(&c, &["exec", "-it", "box", "sh"]);
    t.sees("# ");
    capas::sys::tree::kill(t.child.id(), 9).unwrap();
    t.child.wait().unwrap();
    c.until("its shell is gone", || {
        !c.ok(&["exec", "box", "ps"]).contains(" sh\n")
    });
    c.ok(&["rm", "-f", "box"]);
    c.assert_nothing_is_left();
}
