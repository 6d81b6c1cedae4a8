"""The command line: commands, exit codes, and how errors are shown.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys

import click

from torana import __version__
from torana.cli import failures
from torana.core.errors import ToranaError, UsageError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_COMMANDS = {
    "build": ("torana.cli.commands.build", "build"),
    "check": ("torana.cli.commands.check", "check"),
    "debug": ("torana.cli.commands.debug", "debug"),
    "dial-stdio": ("torana.cli.commands.dial", "dial_stdio"),
    "du": ("torana.cli.commands.store", "du"),
    "explain": ("torana.cli.commands.explain", "explain"),
    "frontend": ("torana.cli.commands.frontend", "frontend"),
    "image": ("torana.cli.commands.image", "image"),
    "llb": ("torana.cli.commands.llb", "llb"),
    "lock": ("torana.cli.commands.lock", "lock"),
    "prune": ("torana.cli.commands.store", "prune"),
    "replay": ("torana.cli.commands.replay", "replay"),
    "update": ("torana.cli.commands.lock", "update"),
}
_SUMMARIES = {
    "build": "Build from a Dockerfile or through any frontend.",
    "check": "Look for mistakes in build files, without an engine.",
    "debug": "Look into Torana's store and engine.",
    "du": "Show what the build cache holds.",
    "explain": "Say why steps ran or were cached.",
    "frontend": "List, check, make, lock and publish frontends.",
    "image": "List, push, save, load and remove images that Torana keeps.",
    "llb": "Print the LLB that a build file is translated to.",
    "lock": "Pin what a build file names, in a lock file beside it.",
    "prune": "Remove build cache.",
    "replay": "Run a frontend again against a recording.",
    "update": "Pin anew what a lock file pins.",
}


class _Lazy(click.Group):
    """Imports a command when it is used, not when help lists it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        import importlib

        module, name = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_SUMMARIES.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", "is_debug", is_flag=True, help="Show tracebacks of errors.")
@click.option("--addr", envvar="BUILDKIT_HOST", metavar="ADDRESS", help="Daemon to talk to.")
@click.version_option(__version__, prog_name="torana", message="%(prog)s %(version)s")
@click.pass_context
def torana(ctx: click.Context, is_debug: bool, addr: str | None) -> None:
    """A BuildKit for Python people: no daemon, no root, frontends as plugins."""
    ctx.obj = {"debug": is_debug, "addr": addr}


def run(argv: list[str]) -> int:
    """Run `argv` and give the exit code; whatever goes wrong is told on standard error."""
    is_debug = "--debug" in argv[:1]
    _end_as_by_ctrl_c()
    try:
        code = torana.main(argv, prog_name="torana", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except click.exceptions.NoArgsIsHelpError as err:
        click.echo(err.ctx.get_help() if err.ctx else str(err), err=True)
        return USAGE
    except click.ClickException as err:
        err.show(sys.stderr)
        return USAGE
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except ToranaError as err:
        if is_debug:
            raise
        click.echo(failures.describe(err), err=True)
        return USAGE if isinstance(err, UsageError) else FAILED
    except OSError as err:
        if is_debug:
            raise
        click.echo(failures.describe_os_error(err), err=True)
        return FAILED
    except Exception as err:
        if is_debug:
            raise
        click.echo(failures.describe_bug(err), err=True)
        return FAILED


def _end_as_by_ctrl_c() -> None:
    """Let a polite request to end, or a closed terminal, clean up as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)
        else:  # a shell's background job ignores it
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)
