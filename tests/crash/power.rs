//! Power cuts: the filesystem under the store is shut down by FS_IOC_SHUTDOWN,
//! so that nothing more reaches the disk, and mounted again.
//!
//! The store lives through all cuts of a campaign. What a command reported as
//! done must be there after the cut that follows, to the byte.

use super::*;
use std::fs::{self, File};
use std::time::{Duration, Instant};

/// A filesystem in a file.
struct Disk {
    image: PathBuf,
    point: PathBuf,
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", text(&out));
}

impl Disk {
    fn new(dir: &Path, kind: &str) -> Disk {
        let disk = Disk {
            image: dir.join("image"),
            point: dir.join("disk"),
        };
        File::create(&disk.image)
            .unwrap()
            .set_len(400 << 20)
            .unwrap();
        fs::create_dir(&disk.point).unwrap();
        let image = disk.image.to_str().unwrap();
        match kind {
            "xfs" => run("mkfs.xfs", &["-q", image]),
            _ => run("mkfs.ext4", &["-q", "-F", image]),
        }
        disk.mount();
        disk
    }

    fn mount(&self) {
        let (image, point) = (self.image.to_str().unwrap(), self.point.to_str().unwrap());
        run("mount", &["-o", "loop", image, point]);
    }

    fn cut(&self, flags: u32) {
        common::sys::shut_down(File::open(&self.point).unwrap(), flags).unwrap();
    }

    /// Whoever looks through /proc may hold what is in it for a moment, and so may
    /// somebody's new mount namespace. Mounted again
    /// meanwhile it would be the same filesystem, still shut down.
    fn umount(&self) {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let out = Command::new("umount").arg(&self.point).output().unwrap();
            if out.status.success() {
                break;
            }
            assert!(Instant::now() < end, "{}", text(&out));
            eprintln!("{}", text(&out).trim());
            std::thread::sleep(Duration::from_millis(20));
        }
        while !common::sys::loop_devices_of(&self.image).is_empty() {
            assert!(Instant::now() < end, "it stays mounted somewhere");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.point).output();
    }
}

/// Without a flush of the log, and with one.
const FLAGS: [u32; 2] = [common::sys::NO_LOG_FLUSH, common::sys::LOG_FLUSH];

fn campaign(kind: &str) {
    if !support::root() {
        return;
    }
    let dir = scratch();
    let disk = Disk::new(dir.path(), kind);
    let root = disk.point.join("store");
    let archives = dir.path().join("archives");
    fs::create_dir(&archives).unwrap();
    let mut random = Random::new(kind);
    let mut must: BTreeSet<String> = BTreeSet::new();
    let (mut during, mut lost) = (0, 0);
    // How long a load takes here, in microseconds.
    let mut usual = 50_000;
    for n in 0..points() {
        let name = format!("image{n}");
        // Some share their lower layer with the one before.
        let path = archive(&archives, &name, n / 2 * 1000, 5 + random.below(60));
        let path = path.to_str().unwrap();
        // A file that nobody syncs shows that the cut is one.
        let control = disk.point.join(format!("control{n}"));
        let mut may = BTreeSet::new();
        let flags = FLAGS[random.below(2) as usize];
        let after = n % 2 == 0;
        let mut when = format!("{kind}, state {n}, flags {flags}");
        if after {
            let begun = Instant::now();
            capas(&root, &["load", "-i", path]);
            usual = begun.elapsed().as_micros() as u64;
            must.insert(name.clone());
            fs::write(&control, "x".repeat(10_000)).unwrap();
            disk.cut(flags);
            when.push_str(", after load");
        } else {
            let victim = must
                .iter()
                .nth(random.below(must.len() as u64) as usize)
                .cloned();
            let remove = victim.filter(|_| must.len() > 4);
            let args = match &remove {
                Some(name) => vec!["rmi".to_owned(), format!("{name}:1")],
                None => vec!["load".to_owned(), "-i".to_owned(), path.to_owned()],
            };
            fs::write(&control, "x".repeat(10_000)).unwrap();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let mut child = command(&root, &args);
            let call =
                (n % 4 == 1).then(|| 1 + random.below(if remove.is_some() { 30 } else { 100 }));
            child.envs(call.map(|call| ("CAPAS_FAIL", format!("{call}:kill"))));
            let child = child
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            let mut child = child.spawn().unwrap();
            let done = match call {
                // It is killed at that call, and the power goes with it.
                Some(_) => {
                    let done = child.wait().unwrap().success();
                    disk.cut(flags);
                    done
                }
                None => {
                    std::thread::sleep(Duration::from_micros(random.below(usual)));
                    disk.cut(flags);
                    child.wait().unwrap().success()
                }
            };
            during += u64::from(!done);
            match (&remove, done) {
                (None, true) => drop(must.insert(name.clone())),
                (None, false) => drop(may.insert(name.clone())),
                (Some(gone), true) => drop(must.remove(gone)),
                (Some(gone), false) => {
                    must.remove(gone);
                    may.insert(gone.clone());
                }
            }
            when.push_str(&format!(
                ", during {}, call {call:?} (done: {done})",
                args[0]
            ));
        }
        disk.umount();
        disk.mount();
        lost += u64::from(
            fs::read(&control).is_ok_and(|d| d.len() != 10_000 || d[9_999] != b'x')
                || !control.exists(),
        );
        sound(&root, &when);
        let now = listed(&root);
        assert!(
            now.is_superset(&must),
            "{when}: {now:?}, not all of {must:?}"
        );
        for name in now.difference(&must) {
            assert!(may.contains(name), "{when}: {name} is back");
        }
        must = now;
        // The interrupted command works now.
        capas(&root, &["load", "-q", "-i", path]);
        fs::remove_file(path).unwrap();
        let _ = fs::remove_file(&control);
        must.insert(name);
        capas(&root, &["gc"]);
        let said = sound(&root, &when);
        assert!(said.contains(" 0 unused"), "{when}: {said}");
        while must.len() > 8 {
            let first = must.pop_first().unwrap();
            capas(&root, &["rmi", &format!("{first}:1")]);
        }
    }
    eprintln!(
        "{kind}: {} states, {during} in the midst of a command; {lost} files that nobody synced were lost",
        points()
    );
    assert!(lost > 0, "the power was never cut");
}

#[test]
fn ext4() {
    campaign("ext4");
}

#[test]
fn xfs() {
    campaign("xfs");
}
