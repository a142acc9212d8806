"""Loading (or pulling) one image into an empty store with capas and with podman:
wall time, and CPU time of the process and all its children. Started by
scripts/bench-load."""

import argparse
import hashlib
import io
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

from harness import say

PROGRAMS = ["capas", "podman"]
OCI = "application/vnd.oci.image"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def digest(path):
    with open(path, "rb") as data:
        return "sha256:" + hashlib.file_digest(data, "sha256").hexdigest()


def config(diff_id):
    return json.dumps({"architecture": ARCH, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
                       "rootfs": {"type": "layers", "diff_ids": [diff_id]}}).encode()  # fmt: skip


def archive(path, members):
    """A tar of (name, bytes or path)."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as out:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, bytes):
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))
            else:
                info.size = os.path.getsize(data)
                with open(data, "rb") as content:
                    out.addfile(info, content)
    return path


def docker_archive(path, layer):
    manifest = [{"Config": "config.json", "RepoTags": ["localhost/bench:docker"], "Layers": ["layer.tar"]}]
    members = [("layer.tar", layer), ("config.json", config(digest(layer))), ("manifest.json", json.dumps(manifest).encode())]
    return archive(path, members)


def oci_archive(path, layer, encoding, command):
    packed = f"{path}.layer"
    with open(packed, "wb") as out:
        subprocess.run([*command, layer], stdout=out, check=True)

    def descriptor(kind, data):
        if isinstance(data, bytes):
            return {"mediaType": f"{OCI}.{kind}", "digest": "sha256:" + hashlib.sha256(data).hexdigest(), "size": len(data)}
        return {"mediaType": f"{OCI}.{kind}", "digest": digest(data), "size": os.path.getsize(data)}

    said = config(digest(layer))
    layers = [descriptor(f"layer.v1.tar+{encoding}", packed)]
    manifest = json.dumps({"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json",
                           "config": descriptor("config.v1+json", said), "layers": layers}).encode()  # fmt: skip
    top = descriptor("manifest.v1+json", manifest)
    top["annotations"] = {"org.opencontainers.image.ref.name": f"localhost/bench:{encoding}"}
    blobs = [(said, said), (manifest, manifest)]
    members = [("blobs/sha256/" + hashlib.sha256(key).hexdigest(), data) for key, data in blobs]
    members.append(("blobs/sha256/" + layers[0]["digest"][7:], packed))
    members.append(("index.json", json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()))
    members.append(("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'))
    archive(path, members)
    os.unlink(packed)
    return path


def measured(command, env, log):
    """Seconds of wall time and of CPU time, children included."""
    os.sync()
    before = time.perf_counter()
    with open(log, "wb") as out:
        child = subprocess.Popen(command, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - before
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        with open(log, encoding="utf-8", errors="replace") as out:
            sys.exit(f"{' '.join(command)}: {out.read()}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime}


class Registry:
    """docker-registry on a port of loopback that the kernel chooses."""

    def __init__(self, scratch):
        path = os.path.join(scratch, "registry.yml")
        with open(path, "w", encoding="ascii") as out:
            out.write(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {scratch}/registry}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n")
        self.log = os.path.join(scratch, "registry.log")
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(["docker-registry", "serve", path], stdout=out, stderr=out)

    def host(self):
        for _ in range(300):
            with open(self.log, encoding="utf-8") as log:
                if found := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read()):
                    return found[1]
            time.sleep(0.1)
        sys.exit("docker-registry does not start")

    def end(self):
        self.process.terminate()
        self.process.wait()


def table(figures):
    lines = ["medians in seconds; the ratio is capas to podman", "", "| image | time | capas | podman | ratio |", "|---|---|---|---|---|"]
    for name, kinds in figures.items():
        for time_of in ("wall", "cpu"):
            cells = [kinds[p][time_of]["median"] for p in PROGRAMS]
            lines.append(f"| {name} | {time_of} | {cells[0]:.3f} | {cells[1]:.3f} | {kinds['ratio'][time_of]:.3f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", required=True, help="a root filesystem as a tar")
    parser.add_argument("--podman-env", required=True, help="scripts/podman-env")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="docker,gzip,zstd", help="images, comma separated")
    parser.add_argument("--pull", action="store_true", help="from a registry on loopback")
    parser.add_argument("--check", type=float, metavar="RATIO", help="fail where a ratio is larger")
    parser.add_argument("--dir", help="where the stores are made (a directory on the disk to measure)")
    parser.add_argument("--json", help="write the figures here")
    args = parser.parse_args()
    makers = {
        "docker": lambda path: docker_archive(path, args.archive),
        "gzip": lambda path: oci_archive(path, args.archive, "gzip", ["gzip", "-6nc"]),
        "zstd": lambda path: oci_archive(path, args.archive, "zstd", ["zstd", "-3qc"]),
    }
    images = [name for name in args.only.split(",") if name]
    if unknown := set(images) - set(makers):
        sys.exit(f"unknown image: {', '.join(unknown)}")
    scratch = tempfile.mkdtemp(prefix="capas-bench.", dir=args.dir or "/var/tmp")
    registry = None
    values = {}
    try:
        files = {name: makers[name](os.path.join(scratch, f"{name}.tar")) for name in images}
        if args.pull:
            registry = Registry(scratch)
            host = registry.host()
            for name, file in files.items():
                kind = "docker-archive" if name == "docker" else "oci-archive"
                subprocess.run(["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false",
                                f"{kind}:{file}", f"docker://{host}/bench:{name}"], check=True)  # fmt: skip
        store = os.path.join(scratch, "store")
        # Kernel overlayfs for podman: the driver has no part in a load.
        os.environ["MOUNT_PROGRAM"] = "none"

        def environment(program):
            """Of podman, what leads it to a store of its own, made on the way."""
            if program == "capas":
                return os.environ
            out = subprocess.run([args.podman_env, store, "env", "-0"], capture_output=True, text=True, check=True).stdout
            return dict(line.split("=", 1) for line in out.split("\0") if line)

        def command(program, name):
            own = ["capas", "--root", store] if program == "capas" else ["podman"]
            if not args.pull:
                return [*own, "load", "-q", "-i", files[name]]
            plain = [] if program == "capas" else ["--tls-verify=false"]
            return [*own, "pull", "-q", *plain, f"{host}/bench:{name}"]

        for turn in range(args.rounds):
            for number, name in enumerate(images):
                order = PROGRAMS if (turn + number) % 2 == 0 else PROGRAMS[::-1]
                for program in order:
                    took = measured(command(program, name), environment(program), os.path.join(scratch, "log"))
                    for key, value in took.items():
                        values.setdefault(name, {}).setdefault(program, {}).setdefault(key, []).append(value)
                    subprocess.run(["rm", "-rf", "--one-file-system", store], check=True)
            say(f"round {turn + 1} of {args.rounds} done")
    finally:
        if registry:
            registry.end()
        shutil.rmtree(scratch, ignore_errors=True)
    figures = {}
    for name, programs in values.items():
        figures[name] = {p: {k: {"values": v, "median": statistics.median(v)} for k, v in times.items()} for p, times in programs.items()}
        figures[name]["ratio"] = {k: figures[name]["capas"][k]["median"] / figures[name]["podman"][k]["median"] for k in ("wall", "cpu")}
    print(table(figures))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump({"pull": args.pull, "rounds": args.rounds, "bytes": os.path.getsize(args.archive), "rows": figures}, out, indent=1)
            out.write("\n")
    if args.check is not None:
        slow = [f"{name} {k}" for name, kinds in figures.items() for k, ratio in kinds["ratio"].items() if ratio > args.check]
        if slow:
            sys.exit(f"more than {args.check} of podman's time: {', '.join(slow)}")


main()
