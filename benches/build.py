"""Building an image: capas beside buildah. Two stages: a compiler's and an empty
one. Interleaved rounds, medians."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import time

MAIN = r"""
#include <stdio.h>
#include <string.h>
#include "zstd.h"
int main(void) {
    char text[] = "built in one stage, run in another", packed[256], plain[256];
    size_t size = ZSTD_compress(packed, sizeof packed, text, sizeof text, 19);
    if (ZSTD_isError(size) || ZSTD_decompress(plain, sizeof plain, packed, size) != sizeof text)
        return 1;
    puts(plain);
    return strcmp(plain, text);
}
"""
COMPILE = """FROM localhost/gcc:1 AS build
WORKDIR /src
COPY lib lib
COPY main.c .
RUN gcc -O1 -static -DZSTD_DISABLE_ASM -Ilib -o /program main.c lib/common/*.c lib/compress/*.c lib/decompress/*.c
FROM scratch
COPY --from=build /program /program
CMD ["/program"]
"""
COMMANDS = "FROM localhost/gcc:1\n" + "".join(f"RUN test {n} = {n}\n" for n in range(10))


def run(command, **more):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)


def timed(command, **more):
    start = time.perf_counter()
    run(command, **more)
    return (time.perf_counter() - start) * 1000


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--sources", required=True)
    parser.add_argument("--buildah", required=True)
    parser.add_argument("--podman", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    args = parser.parse_args()
    os.environ["CAPAS_ROOT"] = os.path.join(args.scratch, "capas")
    podman, buildah = args.podman.split(), args.buildah.split()
    image = os.path.join(args.scratch, "gcc.oci.tar")
    run(["capas", "load", "-i", image])
    run([*podman, "load", "-i", image])
    context = os.path.join(args.scratch, "context")
    shutil.copytree(args.sources, os.path.join(context, "lib"), symlinks=True)
    for name, text in (("main.c", MAIN), ("compile", COMPILE), ("commands", COMMANDS)):
        with open(os.path.join(context, name), "w", encoding="utf-8") as file:
            file.write(text)

    def command(program, file, again):
        base = {
            "capas": ["capas", "build"],
            # As in a container, buildah's own way of isolation wants more rights.
            "buildah": [*buildah, "build", "--layers", "--isolation", "oci"],
        }[program]
        fresh = [] if again else ["--no-cache"]
        return [*base, *fresh, "-t", f"localhost/{file}:1", "-f", os.path.join(context, file), context]

    rows = {}
    for row, file, again in (
        ("compile", "compile", False),
        ("compile, again", "compile", True),
        ("ten commands", "commands", False),
        ("ten commands, again", "commands", True),
    ):
        times = {"capas": [], "buildah": []}
        for _ in range(args.rounds):
            for program, found in times.items():
                found.append(timed(command(program, file, again)))
        rows[row] = {program: statistics.median(found) for program, found in times.items()}
        ours, theirs = rows[row]["capas"], rows[row]["buildah"]
        print(f"{row}: capas {ours:.0f} ms, buildah {theirs:.0f} ms, {theirs / ours:.1f} times")
    archive = os.path.join(args.scratch, "program.tar")
    run(["capas", "save", "-o", archive, "localhost/compile:1"])
    run([*podman, "load", "-i", archive])
    said = run([*podman, "run", "--rm", "localhost/compile:1"]).stdout
    assert said == "built in one stage, run in another\n", said
    size = os.path.getsize(archive)
    print(f"podman runs it: {said.strip()} ({size // 1024} kB)")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


main()
