"""The command line: commands, exit codes, and how errors are shown.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from torana import __version__
from torana.cli.lazygroup import Lazy, LazyGroup, OptionEverywhere

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def _lazy(module: str, attribute: str, summary: str = "") -> Lazy:
    return Lazy(f"torana.cli.commands.{module}", attribute, summary)


_COMMANDS = {
    "build": _lazy("build", "build", "Build from a Dockerfile or through any frontend."),
    "check": _lazy("check", "check", "Look for mistakes in build files, without an engine."),
    "debug": _lazy("debug", "debug", "Look into Torana's store and engine."),
    "dial-stdio": _lazy("dial", "dial_stdio"),
    "du": _lazy("store", "du", "Show what the build cache holds."),
    "explain": _lazy("explain", "explain", "Say why steps ran or were cached."),
    "frontend": _lazy("frontend", "frontend", "List, check, make, lock and publish frontends."),
    "image": _lazy("image", "image", "List, push, save, load and remove images that Torana keeps."),
    "llb": _lazy("llb", "llb", "Print the LLB that a build file is translated to."),
    "lock": _lazy("lock", "lock", "Pin what a build file names, in a lock file beside it."),
    "prune": _lazy("store", "prune", "Remove build cache."),
    "replay": _lazy("replay", "replay", "Run a frontend again against a recording."),
    "update": _lazy("lock", "update", "Pin anew what a lock file pins."),
}


def _keep_debug(ctx: click.Context, option: click.Parameter, is_debug: bool) -> None:
    ctx.obj["debug"] |= is_debug


@click.command(
    cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--debug",
    cls=OptionEverywhere,
    is_flag=True,
    expose_value=False,
    callback=_keep_debug,
    help="Show tracebacks of errors; may stand behind the command, too.",
)
@click.option("--addr", envvar="BUILDKIT_HOST", metavar="ADDRESS", help="Daemon to talk to.")
@click.version_option(__version__, prog_name="torana", message="%(prog)s %(version)s")
@click.pass_context
def torana(ctx: click.Context, addr: str | None) -> None:
    """A BuildKit for Python people: no daemon, no root, frontends as plugins."""
    ctx.obj["addr"] = addr


def run(argv: list[str]) -> int:
    """Run `argv` and give the exit code; whatever goes wrong is told on standard error."""
    wishes: dict[str, Any] = {"debug": False, "addr": None}
    _end_as_by_ctrl_c()
    try:
        code = torana.main(argv, prog_name="torana", standalone_mode=False, obj=wishes)
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
    except Exception as err:
        if wishes["debug"]:
            raise
        from torana.cli import failures  # only who needs it waits for it
        from torana.core.errors import UsageError

        click.echo(failures.told(err), err=True)
        return USAGE if isinstance(err, UsageError) else FAILED


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
