"""Make the generated modules from the `.proto` files: `python -m torana.gateway.protocol.generate`.

Needs `grpcio-tools` and `mypy-protobuf` (extra `dev`, pinned: other versions give other bytes, and
a test compares). Files with a service get a `_pb2_grpc` module too; all get typed stubs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from torana.core.errors import ToranaError

PACKAGE = "torana.gateway.protocol"
FOLDER = Path(*PACKAGE.split("."))


def sources() -> Sequence[Path]:
    """Give the `.proto` files, sorted."""
    return sorted(Path(str(files(PACKAGE))).glob("*.proto"))


def generate(out: Path) -> None:
    """Write all generated modules to `out`/torana/gateway/protocol.

    Raises:
        ToranaError: the compiler refused a file; its message went to standard error.
    """
    from grpc_tools import protoc

    protos = sources()
    root = protos[0].parents[len(FOLDER.parts)]  # protoc wants names relative to it
    names = {str(FOLDER / proto.name): "\nservice " in proto.read_text() for proto in protos}
    include = str(files("grpc_tools").joinpath("_proto"))
    common = ["protoc", f"-I{root}", f"-I{include}"]
    messages = [f"--python_out={out}", f"--mypy_out=quiet:{out}"]
    services = [f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"]
    with_service = [name for name, has_service in names.items() if has_service]
    out.mkdir(parents=True, exist_ok=True)
    for arguments in ([*messages, *names], [*services, *with_service]):
        if protoc.main([*common, *arguments]) != 0:
            raise ToranaError("protoc failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="folder that holds torana/ (src in a checkout)")
    generate(parser.parse_args().out)


if __name__ == "__main__":
    main()
