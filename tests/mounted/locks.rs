//! flock and POSIX locks.

use super::mounted;
use std::fs;
use std::process::Command;

/// What another process gets when it asks for an exclusive lock of that kind.
fn other_process_gets(kind: &str, path: &std::path::Path) -> bool {
    let call = match kind {
        "flock" => "fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        _ => "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)",
    };
    let script = format!("import fcntl,sys\nf=open(sys.argv[1],'r+')\n{call}\n");
    let status = Command::new("python3")
        .args(["-c", &script])
        .arg(path)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    status.success()
}

#[test]
fn flock_conflicts_also_over_a_copy_up() {
    let Some((_fx, m)) = mounted(
        &["/small file 0666 data=\"x\"\n/large file 0666 size=300000 data=@1"],
        &[],
    ) else {
        return;
    };
    for name in ["small", "large"] {
        let path = m.at(name);
        let holder = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        holder.try_lock().unwrap();
        assert!(!other_process_gets("flock", &path), "{name}");
        fs::write(&path, "changed").unwrap();
        assert!(!other_process_gets("flock", &path), "{name} after a write");
        holder.unlock().unwrap();
        assert!(
            other_process_gets("flock", &path),
            "{name} after the unlock"
        );
    }
}

#[test]
fn a_lock_on_a_read_only_descriptor_holds_over_a_copy_up() {
    let Some((_fx, m)) = mounted(&["/small file 0666 data=\"x\""], &[]) else {
        return;
    };
    let path = m.at("small");
    let holder = fs::File::open(&path).unwrap();
    holder.try_lock().unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap();
    assert!(!other_process_gets("flock", &path));
    drop(holder);
    assert!(other_process_gets("flock", &path));
}

#[test]
fn posix_locks_conflict_and_end_with_the_descriptor() {
    let Some((_fx, m)) = mounted(&["/f file 0666 data=\"x\""], &[]) else {
        return;
    };
    let path = m.at("f");
    let holder = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    rustix::fs::fcntl_lock(&holder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(!other_process_gets("posix", &path));
    drop(holder);
    assert!(other_process_gets("posix", &path));
}
