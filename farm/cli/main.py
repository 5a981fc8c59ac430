"""The `farm` command's frame: commands loaded when they are called, errors in one line, exit codes.

Exit codes: 0 done; 1 a job failed or the farm is unhealthy; 2 bad usage or bad input; 3 Redis cannot be
reached or no coordinator is there; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from farm import __version__
from farm.cli.context import Farm, redis_option
from farm.cli.extras import missing_extra
from farm.domain.errors import BadInput, FarmError, StageFailed, Unreachable
from farm.domain.text import one_line

#: Every command with its one-line help, by section; `farm --help` loads none of their modules.
SECTIONS: dict[str, dict[str, str]] = {
    "Campaigns": {
        "submit": "Submit models as a campaign; prints its id.",
        "status": "Show a campaign's stages, the cards and the time left.",
        "results": "Print a campaign's results.",
        "jobs": "List a campaign's jobs, or one job's history.",
        "campaigns": "List the campaigns.",
        "logs": "Print the log of a job's stage.",
        "wait": "Wait until a campaign has ended.",
        "cancel": "Cancel campaigns or jobs.",
        "retry": "Run campaigns or jobs again.",
        "catalog": "List the models and the configuration each objective resolves to.",
    },
    "Farm": {
        "up": "Start a farm on this machine and keep it running.",
        "down": "Stop this machine's farm; nothing is lost.",
        "prune": "Show what the farm's files take, and free what nobody needs.",
        "devices": "List the cards; take one out of work, or put it back.",
        "adopt": "Go on with records that came back empty or older.",
        "doctor": "Check this host, the SDK, Redis and the farm: what is wrong, or was.",
        "worker": "Be one worker, in the foreground.",
        "coordinator": "Be the coordinator, in the foreground.",
    },
    "Without a farm": {
        "run": "Run one job in this process: no Redis, no farm.",
        "export": "Export a model to ONNX.",
        "emulator": "Write an emulated SDK root.",
    },
}
COMMANDS = {name: text for section in SECTIONS.values() for name, text in section.items()}


class FarmGroup(click.Group):
    """A group whose commands live in `farm.cli.<name>` as `command`, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, its module imported now."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"farm.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click, with the nearest command named when there is none of that name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else "farm --help lists the commands"
            raise click.UsageError(f"no command {args[0]!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by section, without importing them."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, turn every foreseen error into one line on stderr, and exit."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.ClickException as error:
            _complain(_usage(error))
            code = BadInput.exit_code
        except FarmError as error:
            _complain(_with_log(error))
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            _complain("interrupted")
            code = 130
        except BrokenPipeError:
            # The reader of our output has seen enough; keep the interpreter from flushing into it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        except ModuleNotFoundError as error:
            told = missing_extra(error)
            if told is None:
                raise
            _complain(told)
            code = BadInput.exit_code
        except Exception as error:
            if not _is_redis(error):
                raise
            _complain(f"Redis: {error}")
            code = Unreachable.exit_code
        sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> None:
    click.echo(f"farm: {one_line(' '.join(message.split()))}", err=True)


def _is_redis(error: Exception) -> bool:
    """Whether Redis went away or refused, told without importing its client."""
    redis = sys.modules.get("redis")
    return redis is not None and isinstance(error, redis.RedisError)


def _with_log(error: FarmError) -> str:
    if isinstance(error, StageFailed) and error.log:
        return f"{error} (log: {error.log})"
    return str(error)


def _usage(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} (see {context.command_path} --help)" if context else message


@click.group(
    cls=FarmGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="farm", message="%(prog)s %(version)s")
@redis_option
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A distributed benchmarking farm for Qualcomm Cloud AI 100 cards.

    \b
    farm up --emulate --detach              a farm of emulated cards on this machine
    farm submit -m bert-base-cased --wait   export, compile and run one model
    farm results                            what came out

    Settings: FARM_REDIS_URL, FARM_BROKER_URL, FARM_HOME (state), FARM_SDK_ROOT (default /opt/qti-aic),
    FARM_SDK_PYTHON. Exit codes: 0 done, 1 a job failed or the farm is unhealthy, 2 bad usage or bad input,
    3 Redis cannot be reached or no coordinator.
    """


def main() -> None:
    """The entry point of the `farm` script."""
    cli(prog_name="farm", obj=Farm(argv=tuple(sys.argv[1:])))
