"""What a frontend's process is told in its environment. Pure.

Spec: reference of the gateway, "Running a frontend image".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from torana.core.errors import UserError
from torana.core.oci.platform import Platform
from torana.core.records import dataclass
from torana.gateway.client.client import Worker

_OPTION: Final = "BUILDKIT_FRONTEND_OPT_"
_SESSION: Final = "BUILDKIT_SESSION_ID"
_WORKERS: Final = "BUILDKIT_WORKERS"
_PRODUCT: Final = "BUILDKIT_EXPORTEDPRODUCT"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendEnvironment:
    """Options, session and workers of a build."""

    options: Mapping[str, str]
    session_id: str
    workers: Sequence[Worker] = ()

    def encode(self) -> dict[str, str]:
        """Give the variables."""
        variables = {
            f"{_OPTION}{number}": f"{key}={value}"
            for number, (key, value) in enumerate(sorted(self.options.items()))
        }
        workers = [_worker_json(worker) for worker in self.workers]
        return variables | {
            _SESSION: self.session_id,
            _WORKERS: json.dumps(workers, separators=(",", ":")),
            _PRODUCT: "buildkit",
        }

    @classmethod
    def decode(cls, environment: Mapping[str, str]) -> FrontendEnvironment:
        """Read the variables.

        Raises:
            UserError: they are not those of a frontend's process.
        """
        if _SESSION not in environment:
            raise UserError(
                "not started as a frontend: no session in the environment",
                hint="an engine runs this, with a gateway on standard input and output",
            )
        options = {}
        for name, value in environment.items():
            if name.removeprefix(_OPTION).isdigit() and name.startswith(_OPTION):
                key, _, text = value.partition("=")
                options[key] = text
        try:
            entries = json.loads(environment.get(_WORKERS) or "[]")
            workers = [_worker_of(entry) for entry in entries]
        except (ValueError, TypeError, AttributeError, KeyError) as err:
            raise UserError(f"cannot read `{_WORKERS}`: {err}") from err
        return cls(options=options, session_id=environment[_SESSION], workers=workers)


def _worker_json(worker: Worker) -> dict[str, Any]:
    return {
        "id": worker.id,
        "labels": dict(worker.labels),
        "platforms": [platform.to_dict() for platform in worker.platforms],
        "gcPolicy": None,
        "buildkitVersion": {"package": "", "version": "", "revision": ""},
        "cdiDevices": None,
    }


def _worker_of(entry: Mapping[str, Any]) -> Worker:
    folded = {key.lower(): value for key, value in entry.items()}
    return Worker(
        id=str(folded["id"]),
        labels=dict(folded.get("labels") or {}),
        platforms=[Platform.from_dict(each) for each in folded.get("platforms") or ()],
    )
