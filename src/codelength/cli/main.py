"""`codelength`: the front door. Commands are imported when they are called, so that --help is quick."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click

from codelength.errors import CodelengthError

# command -> one-line help. The command lives in `codelength.cli.<name>` as `command`.
COMMANDS: dict[str, str] = {
    "demo": "Train, measure, compress and compare models of several families on real images.",
    "data": "List, describe and fetch data sets.",
    "train": "Train a model from a recipe.",
    "sweep": "Train many settings over the devices at hand, and compare them.",
    "evaluate": "Measure a model's code length on a data set.",
    "compare": "Compare runs pair by pair on the same data.",
    "audit": "Probe whether a model's number is honest.",
    "quantize": "Turn a trained model into integers, so that what it compresses decodes anywhere.",
    "sample": "Draw samples from a model.",
    "latents": "Show what the latents of a model do: reconstruct, interpolate, intervene.",
    "compress": "Compress data with a model into a file.",
    "decompress": "Restore the data of a compressed file.",
    "info": "Describe a compressed file.",
    "score": "Rank data by how surprising they are to a model, with p-values.",
    "report": "Write a self-contained HTML report on runs.",
    "explore": "Open a local page on a run: code lengths of images, samples, completions.",
    "figures": "Draw the figures of the guide.",
    "teach": "Run an experiment of the tutorial and draw it.",
    "bench": "Time our models and coders beside others' libraries.",
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"codelength.cli.{name}")
        command: click.Command = module.command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from codelength.errors import unknown_name

            raise unknown_name("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="codelength")
def codelength(debug: bool) -> None:
    """Likelihood models, measured on one protocol and proved by compressing.

    −log P(x) is a code length: train models, compare them in bits/dim, and store data in that many bits.
    """
    from codelength.memory import keep_freed_memory

    keep_freed_memory()


# Commands that several processes, started by torchrun, run together.
TOGETHER = ("train", "evaluate", "sample", "compress")


@contextmanager
def _job(arguments: list[str]) -> Iterator[None]:
    """Where torchrun started this process: join the others; the first one alone prints on stdout."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    from codelength import distributed
    from codelength.errors import UsageError

    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    if name in COMMANDS and name not in TOGETHER and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"{name} runs in one process; start it without torchrun, which serves {', '.join(TOGETHER)}")
    with distributed.job():
        if distributed.is_first():
            yield
            return
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            yield


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 for failures, 2 for usage errors."""
    given = sys.argv[1:] if arguments is None else arguments
    debug, arguments = "--debug" in given, [argument for argument in given if argument != "--debug"]
    try:
        with _job(arguments):
            result = codelength.main(args=arguments, prog_name="codelength", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        print("error: interrupted", file=sys.stderr)
        return 130
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.ClickException as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        return 2
    except (CodelengthError, OSError) as error:
        if debug:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code if isinstance(error, CodelengthError) else 1


if __name__ == "__main__":
    sys.exit(main())
