"""`codelength quantize`: the integer form of a trained model, whose codes decode on any machine."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("quantize")
@click.argument("run")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the quantized run.")
@click.option("--activations", type=click.IntRange(8, 12), default=10, show_default=True, help="Bits of activations.")
@click.option(
    "--calibration", type=click.IntRange(1), default=512, show_default=True, help="Training data to calibrate on."
)
@click.option("--finetune", type=click.IntRange(0), default=0, show_default=True, help="Steps of fine-tuning.")
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), default=3e-5, show_default=True, help="Of fine-tuning."
)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Data a step of fine-tuning.")
def command(
    run: str, out: Path, activations: int, calibration: int, finetune: int, learning_rate: float, batch_size: int
) -> None:
    """Quantize RUN to integers: 8-bit weights, activations of 8 to 12 bits, tables for everything else.

    The quantized run is a run like any other: `codelength evaluate` measures it, and what it compresses decodes on any machine. Its
    folder is printed on stdout.
    """
    from codelength.data import load_data
    from codelength.quantization import quantize_run
    from codelength.quantization.finetune import FineTuning
    from codelength.run import load_run

    opened = load_run(run)
    config = opened.recipe.data
    tuning = FineTuning(
        finetune, batch_size=batch_size, learning_rate=learning_rate, flip=opened.recipe.training.horizontal_flip
    )
    quantize_run(
        opened,
        out,
        split=load_data(config.name, **config.options).split("train"),
        bits=activations,
        calibration=calibration,
        tuning=tuning if finetune else None,
        say=lambda text: click.echo(text, err=True),
    )
    click.echo(str(out))
