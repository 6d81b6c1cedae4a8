"""What goes wrong with a step."""

from __future__ import annotations

from torana.core.errors import NotFoundError, ToranaError, UserError


class InvalidExecOpError(UserError):
    """An exec op asks for something that makes no sense."""

    code = "EXEC_INVALID"


class SecretNotFoundError(NotFoundError):
    """A required secret is not there; the message names its id, never a value."""

    code = "SECRET_NOT_FOUND"


class ExecError(ToranaError):
    """The process of a step ended with a code that means failure.

    `log` has the end of its output as written, both streams together.
    """

    code = "EXEC_FAILED"

    def __init__(
        self, message: str, *, exit_code: int, log: bytes = b"", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
        self.log = log
