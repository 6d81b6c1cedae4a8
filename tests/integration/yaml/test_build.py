"""The three examples of the format on real engines: the embedded one, and a Docker daemon's."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.integration.conftest import Docker

pytestmark = pytest.mark.needs("root", "busybox")

DATA = Path(__file__).parents[2] / "data" / "yaml"
ENGINES = ["embedded", pytest.param("docker", marks=pytest.mark.needs("dockerd"))]
# Programs that the examples call, as scripts for the shell of a busybox.
PROGRAMS = {
    "pip": """echo 'mkdir -p .venv/bin; echo uv >.venv/bin/uvicorn' >/bin/uv; chmod 755 /bin/uv""",
    "npm": """
        case $1 in
        ci) grep -q token /root/.npmrc && mkdir -p node_modules ;;
        run) mkdir -p dist; echo "<p>$APP_VERSION" >dist/index.html ;;
        esac""",
    "git": 'echo "git $*" >/etc/gitconfig',
    "go": """
        case $1 in
        mod) grep -q module /src/go.mod ;;
        test) echo "tested $*" ;;
        build)
            ls /src/cmd/api >/dev/null
            mkdir -p /out
            printf '#!/bin/sh\\necho %s\\n' "$VERSION $GOOS/$GOARCH" >/out/api
            chmod 755 /out/api ;;
        esac""",
    "apt-get": 'echo "apt-get $*" >>/etc/packages',
    "update-ca-certificates": "cat /usr/local/share/ca-certificates/*.crt >/etc/ca.pem",
    "useradd": """
        echo "dev:x:10001:10001::/home/dev:/bin/sh" >>/etc/passwd
        mkdir -p /home/dev
        busybox chown 10001 /home/dev""",
}


@pytest.fixture(scope="module")
def base(busybox_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that stands for every base image."""
    root = tmp_path_factory.mktemp("base") / "root"
    shutil.copytree(busybox_tree, root, symlinks=True)
    for name, script in PROGRAMS.items():
        (root / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (root / "bin" / name).chmod(0o755)
    for name in ("tee", "cp"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "busybox").mkdir()
    shutil.copy(root / "bin/busybox", root / "busybox/sh")
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nnonroot:x:65532:65532::/:/bin/sh\n"
    )
    return root


class Project:
    def __init__(self, folder: Path, engine: str, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self.context = folder / "context"
        self.engine = engine
        self.address = ""
        self.network: list[str] = []
        self.docker: Docker | None = None
        if engine == "docker":
            docker: Docker = request.getfixturevalue("docker")
            self.docker, self.address = docker, docker.address
            self.network = ["--network", "none"]  # the daemon has no bridge

    def adapt(self, replacements: Mapping[str, str]) -> None:
        """Replace what the BuildKit of a Docker daemon from 2020 cannot do."""
        if self.engine == "docker":
            file = self.context / "build.yaml"
            text = file.read_text()
            for before, after in replacements.items():
                assert before in text
                text = text.replace(before, after)
            file.write_text(text)

    def build(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TORANA_")}
        own = {"TORANA_ROOT": str(self.folder / "store"), **(env or {})}
        if self.address:
            own["BUILDKIT_HOST"] = self.address
        return subprocess.run(
            [sys.executable, "-m", "torana", "build", ".", "--progress", "plain",
             *self.network, *arguments],
            cwd=self.context, env={**kept, **own}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    def tree(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Path:
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        done = self.build("-o", f"type=local,dest={out}", *arguments, env=env)
        assert done.returncode == 0, done.stderr[-4000:]
        return out


@pytest.fixture(params=ENGINES)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    return Project(tmp_path, request.param, request)


def images(base: Path, *names: str) -> list[str]:
    """Let the tree stand for images."""
    return [word for name in names for word in ("--build-context", f"{name}={base}")]


def files(folder: Path, entries: Mapping[str, str]) -> None:
    for name, text in entries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_small_example(project: Project, base: Path) -> None:
    shutil.copytree(DATA / "small", project.context)
    files(project.context, {"pyproject.toml": "", "uv.lock": "", "src/shop/main.py": "app = 1\n"})
    out = project.tree(*images(base, "python:3.12-slim"))
    assert (out / "app/src/shop/main.py").read_text() == "app = 1\n"
    assert (out / "app/.venv/bin/uvicorn").read_text() == "uv\n"
    assert config_of(project, images(base, "python:3.12-slim")) == {
        "Cmd": ["uvicorn", "shop.main:app", "--host", "0.0.0.0"],
        "User": "1000:1000",
        "ExposedPorts": {"8000/tcp": {}},
        "Env": ["PATH=/app/.venv/bin:/usr/local/bin:/usr/bin:/bin"],
    }


def config_of(project: Project, arguments: list[str]) -> dict[str, object]:
    """Build an image; gives those members of its config that the example sets."""
    keys = ("Cmd", "User", "ExposedPorts", "Env")
    if project.docker is not None:
        done = project.build("-t", "small:1", *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(project.docker.run("image", "inspect", "small:1"))[0]["Config"]
        return {key: found[key] for key in keys}
    image = project.folder / "image.tar"
    done = project.build("-o", f"type=docker,dest={image}", "-t", "small", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    with tarfile.open(image) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]  # a file
        config = json.load(tar.extractfile(manifest[0]["Config"]))  # type: ignore[arg-type]  # a file
    return {key: config["config"][key] for key in keys}


SERVICE = (
    "node:22-alpine", "golang:1.23", "golang:1.22",
    "distroless/static:nonroot", "distroless/static:debug",
)  # fmt: skip


def service(project: Project, base: Path) -> list[str]:
    shutil.copytree(DATA / "service", project.context)
    project.adapt({"env: SENTRY_TOKEN": "target: /sentry"})
    files(
        project.context,
        {
            "web/package.json": "{}", "web/package-lock.json": "{}", "go.mod": "module x\n",
            "go.sum": "", "cmd/api/main.go": "", ".git/never": "", "../npmrc": "token\n",
        },
    )  # fmt: skip
    return [
        *images(base, *SERVICE), "--secret", f"id=npmrc,src={project.folder}/npmrc",
        "--build-arg", "VERSION=1.2.3", "--platform", "linux/amd64",
    ]  # fmt: skip


def test_service_example(project: Project, base: Path) -> None:
    arguments = service(project, base)
    out = project.tree(*arguments, "--build-arg", "DEBUG=true")
    assert (out / "bin/api").read_text() == "#!/bin/sh\necho 1.2.3 linux/amd64\n"
    assert (out / "srv/www/index.html").read_text() == "<p>1.2.3\n"
    assert not (out / "root/.npmrc").exists()
    # Tests leave nothing: no folder of theirs, nothing in /dev.
    assert not list(out.glob("dev/*torana*"))
    done = project.build(
        "-o", f"type=local,dest={project.folder}/x", *arguments[:-4], "--platform", "linux/amd64"
    )
    assert done.returncode == 1
    assert "argument `VERSION` must be given" in done.stderr


def test_a_failing_test_gates_the_result(project: Project, base: Path) -> None:
    arguments = service(project, base)
    file = project.context / "build.yaml"
    file.write_text(file.read_text().replace("stdout: ${{ args.VERSION }}", "stdout: 9.9"))
    out = project.folder / "out"
    done = project.build("-o", f"type=local,dest={out}", *arguments, "--build-arg", "DEBUG=true")
    assert done.returncode == 1
    assert "standard output does not contain `9.9`" in done.stderr
    assert "it printed: 1.2.3" in done.stderr
    assert not out.exists()


def test_variants_of_a_matrix_lie_side_by_side(project: Project, base: Path) -> None:
    arguments = service(project, base)
    out = project.tree("--target", "unit", *arguments)
    assert sorted(path.name for path in out.iterdir()) == [
        "unit-1.22",
        "unit-1.23",
        "unit-1.23-race",
    ]
    assert (out / "unit-1.23-race/report.txt").read_text() == "tested test -race ./...\n"


@pytest.fixture
def downloads() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A server of files on this machine."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, data in (("linux-amd64/helm", b"helm\n"), ("linux-amd64/README", b"no\n")):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    served = {"/kubectl": b"kubectl\n", "/helm.tar.gz": archive.getvalue(), "/kustomize": b"kust\n"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = served.get(self.path)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data or b"")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", served
        server.shutdown()
        thread.join()


def test_toolbox_example(
    project: Project, base: Path, downloads: tuple[str, dict[str, bytes]]
) -> None:
    address, served = downloads
    shutil.copytree(DATA / "toolbox", project.context)
    project.adapt({'{strip: 1, only: ["*/helm"]}': "{strip: 1}"})
    file = project.context / "build.yaml"
    text = file.read_text().replace("http://downloads", address)
    for name in ("kubectl", "kustomize"):
        text = text.replace(f"SHA256-{name}", hashlib.sha256(served[f"/{name}"]).hexdigest())
    file.write_text(text)
    files(project.folder, {"certs/company.crt": "certificate\n"})
    # A distribution with steps, as pip would install it.
    site = project.folder / "site"
    info = "acme_build_steps-1.0.dist-info"
    files(
        site,
        {
            "acme_steps/steps.yaml": (DATA / "acme/steps.yaml").read_text(),
            "acme_steps/__init__.py": "raise RuntimeError('not to be imported')\n",
            f"{info}/METADATA": "Metadata-Version: 2.1\nName: acme-build-steps\nVersion: 1.0\n",
            f"{info}/entry_points.txt": "[torana.steps]\nacme-build-steps = acme_steps\n",
        },
    )
    env = {"PYTHONPATH": str(site)}
    out = project.tree(
        *images(base, "debian:12-slim"), "--build-context", f"certs={project.folder}/certs", env=env
    )
    assert (out / "usr/local/bin/kubectl").read_bytes() == b"kubectl\n"
    assert (out / "usr/local/bin/helm").read_bytes() == b"helm\n"
    if project.engine != "docker":
        assert not (out / "usr/local/bin/README").exists()
    assert (out / "usr/local/bin/kustomize").stat().st_mode & 0o777 == 0o755
    assert (out / "etc/ca.pem").read_text() == "certificate\n"
    assert (
        "install -q -y --no-install-recommends ca-certificates git=1:2.39 tini"
        in (out / "etc/packages").read_text()
    )
    assert (out / "home/dev/venv").read_text() == "3.12: ansible-core kubernetes\n"
    assert (out / "home/dev/registered").read_text() == "dev\n"
