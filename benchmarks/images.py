"""Compare moving images with other builders, side by side in one run.

* pull: an image of five layers, some 400 MB unpacked, from a registry on the loopback into an empty
  store, and all its files put in place.
* export: an image with one file of 1 GiB, built before, to an archive.
* memory: the most that Torana takes while it pushes and pulls an image of 4 GiB (`--memory`).

Needs root and docker-registry; dockerd (Debian's docker.io) and buildah are left out where they are
missing. Prints medians of wall-clock seconds of whole processes. `TORANA_BENCH_ROUNDS`,
`TORANA_BENCH_EXPORT_MB` and `TORANA_BENCH_MEMORY_MB` change the numbers.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peers import TORANA, buildah, command, docker

ROUNDS = int(os.environ.get("TORANA_BENCH_ROUNDS", "3"))
EXPORT_MB = int(os.environ.get("TORANA_BENCH_EXPORT_MB", "1024"))
MEMORY_MB = int(os.environ.get("TORANA_BENCH_MEMORY_MB", "4096"))
LAYERS = 5
LAYER_MB = 80
FILE_KB = 64
WORDS = [f"{number:x}{'etaoinshrdlu'[number % 12] * (number % 5)} " for number in range(4096)]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A builder: `prepare` comes before each run, and is not timed."""

    run: Callable[[], None]
    prepare: Callable[[], None]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as text:
        folder = Path(text)
        with registry(folder) as host:
            if "--memory" in sys.argv:
                measure_memory(folder, host)
                return
            with docker(folder) as client:
                peer = buildah(folder)
                name = make_image(folder, host)
                report("pull and unpack", measure(pulls(folder, name, client, peer)))
                report(f"export {EXPORT_MB} MiB", measure(exports(folder, client, peer)))


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run a private registry while entered; gives its host and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "registry.yml").write_text(json.dumps(config))
    serve = ["docker-registry", "serve", str(folder / "registry.yml")]
    server = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"localhost:{port}"
    finally:
        server.terminate()
        server.wait()


# Pull


def make_image(folder: Path, host: str) -> str:
    """Push an image of five layers of files that shrink by half, as programs do."""
    context = folder / "image"
    context.mkdir()
    lines = ["FROM scratch"]
    words = random.Random(7)
    for number in range(LAYERS):
        for file in range(LAYER_MB * 1024 // FILE_KB):
            path = context / f"layer{number}/folder{file // 100:02}/file{file:04}"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = words.randbytes(FILE_KB * 300)
            text = "".join(words.choices(WORDS, k=FILE_KB * 180)).encode()
            path.write_bytes((noise + text)[: FILE_KB * 1024])
        lines.append(f"COPY layer{number} /layer{number}/")
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    name = f"{host}/bench/image:1"
    store = {"TORANA_ROOT": str(folder / "maker")}
    command([TORANA, "build", "-t", name, "--push", str(context)], store)()
    shutil.rmtree(folder / "maker")
    shutil.rmtree(context)
    return name


def pulls(
    folder: Path, name: str, client: list[str] | None, peer: list[str] | None
) -> dict[str, Contestant]:
    context = folder / "pull"
    context.mkdir()
    # A file in the last layer, removed: that needs the files of all of them.
    (context / "Dockerfile").write_text(f"FROM {name}\nCOPY --from={name} /layer4/folder00 /x/\n")
    store = folder / "puller"
    found = {
        "torana": Contestant(
            command([TORANA, "build", str(context)], {"TORANA_ROOT": str(store)}),
            lambda: shutil.rmtree(store, ignore_errors=True),
        )
    }
    if client is not None:
        forget = command([*client, "system", "prune", "-a", "-f"], {})
        found["docker pull"] = Contestant(command([*client, "pull", name], {}), forget)
    if peer is not None:
        found["buildah pull"] = Contestant(
            command([*peer, "pull", "--tls-verify=false", name], {}),
            command([*peer, "rmi", "-a", "-f"], {}),
        )
    return found


# Export


def exports(
    folder: Path, client: list[str] | None, peer: list[str] | None
) -> dict[str, Contestant]:
    context = folder / "export"
    context.mkdir()
    with open(context / "big", "wb") as file:
        for _ in range(EXPORT_MB):
            file.write(os.urandom(1 << 20))
    (context / "Dockerfile").write_text("FROM scratch\nCOPY big /big\n")
    store, target = folder / "exporter", folder / "out.tar"

    def remove() -> None:
        target.unlink(missing_ok=True)

    def begin(*commands: list[str]) -> Callable[[], None]:
        def prepare() -> None:
            remove()
            shutil.rmtree(store, ignore_errors=True)
            for each in commands:
                command(each, {"DOCKER_BUILDKIT": "1"})()

        return prepare

    root = {"TORANA_ROOT": str(store)}
    archive = f"type=oci,dest={target}"
    found = {
        "torana build + export": Contestant(
            command([TORANA, "build", "-o", archive, str(context)], root), begin()
        )
    }
    if client is not None:
        build = [*client, "build", "-q", "-t", "bench", str(context)]
        save = [*client, "save", "-o", str(target), "bench"]

        def docker_run() -> None:
            command(build, {"DOCKER_BUILDKIT": "1"})()
            command(save, {})()

        prune = [*client, "system", "prune", "-a", "-f"]
        found["docker build + save"] = Contestant(docker_run, begin(prune))
    if peer is not None:
        bud = [*peer, "bud", "--isolation", "chroot", "-q", "-t", "bench", str(context)]
        push = [*peer, "push", "-q", "bench", f"oci-archive:{target}"]

        def buildah_run() -> None:
            command(bud, {})()
            command(push, {})()

        found["buildah bud + push"] = Contestant(buildah_run, begin([*peer, "rmi", "-a", "-f"]))
    return found


def measure(contestants: dict[str, Contestant]) -> dict[str, list[float]]:
    """Run all in turn, so that a busy machine is fair to everyone."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, each in contestants.items():
            each.prepare()
            os.sync()
            started = time.perf_counter()
            each.run()
            times[name].append(time.perf_counter() - started)
    return times


def report(title: str, times: dict[str, list[float]]) -> None:
    print(f"{title}: medians of {ROUNDS}, seconds")
    medians = {name: statistics.median(values) for name, values in times.items()}
    peers = [median for name, median in medians.items() if not name.startswith("torana")]
    for name, median in medians.items():
        ratio = f"   {median / min(peers):5.2f} x the better peer" if peers else ""
        low, high = min(times[name]), max(times[name])
        print(f"  {name:<24}{median:8.2f}   ({low:.2f} to {high:.2f}){ratio}")


# Memory


def measure_memory(folder: Path, host: str) -> None:
    context = folder / "memory"
    context.mkdir()
    quarter = MEMORY_MB // 4
    for number in range(4):
        with open(context / f"big{number}", "wb") as file:
            for _ in range(quarter):
                file.write(os.urandom(1 << 20))
    lines = ["FROM scratch", *(f"COPY big{number} /" for number in range(4))]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    name = f"{host}/bench/memory:1"
    print(f"{MEMORY_MB} MiB in four layers: most resident memory of a process, MiB")
    push = [TORANA, "build", "--push", "-t", name, str(context)]
    print(f"  build and push {peak_mb(push, folder / 'maker'):8.0f}")
    shutil.rmtree(folder / "maker")
    for path in context.glob("big*"):
        path.unlink()
    (context / "Dockerfile").write_text(f"FROM {name}\nCOPY --from={name} /big0 /x\n")
    print(f"  pull and copy  {peak_mb([TORANA, 'build', str(context)], folder / 'puller'):8.0f}")


def peak_mb(arguments: list[str], store: Path) -> float:
    """Run in a process of its own, whose children's peak is that of this command alone."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        command(arguments, {"TORANA_ROOT": str(store)})()
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        os.write(writer, str(peak).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    if status:
        raise SystemExit(f"failed: {' '.join(arguments)}")
    return int(said) / 1024


if __name__ == "__main__":
    main()
