"""Copy what a published run needs into records/: `python scripts/publish_run.py RUN records/NAME [--half | --no-weights]`.

Recipe, space, learning curve, weights and records are copied; the records name the new folder. With `--half` the weights are
rounded to float16, so that twice as many fit into the 5 MB of a repository: then they are other weights, and the records
must be made with them (`codelength evaluate records/NAME`). With `--no-weights` they stay out: the recipe's training makes them
again. Write records/NAME/DATA.md (data, licence, how to rebuild) by hand, and check with `scripts/verify_records.py`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch

from codelength.errors import CodelengthError
from codelength.run import load_run, load_tensors, save_run_weights

FILES = ("recipe.yaml", "space.json", "metrics.jsonl", "tokenizer.json")
LIMIT = 5_000_000


def publish(source: Path, out: Path, *, half: bool = False, weights: bool = True) -> None:
    """See the module's docstring.

    Raises:
        ValueError: The weights are larger than the repository takes.
        CodelengthError: `source` is no run, or its weights are damaged.
    """
    run = load_run(source)
    run.load_model()  # whole and of this architecture
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (source / name).is_file():
            shutil.copy(source / name, out / name)
    if half:
        tensors = load_tensors(source / "model.safetensors")
        rounded = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
        if not all(torch.isfinite(t).all() for t in rounded.values() if t.is_floating_point()):
            raise ValueError(f"{source}: weights beyond 65,504 do not fit into float16; publish them without --half")
        save_run_weights(out, rounded, run.weights, run.step or 0)
    elif weights:
        shutil.copy(source / "model.safetensors", out)
        shutil.copy(source / "weights.json", out)
    size = (out / "model.safetensors").stat().st_size if weights else 0
    if size > LIMIT:
        (out / "model.safetensors").unlink()
        raise ValueError(f"{source}: {size:,} bytes of weights; wanted {LIMIT:,} at most: use --half or --no-weights")
    if not half and (source / "evaluation").is_dir():
        shutil.copytree(source / "evaluation", out / "evaluation", dirs_exist_ok=True)
        for path in out.glob("evaluation/**/*.json*"):
            path.write_text(path.read_text().replace(f'"{run.name}"', f'"{out.name}"'))


def main(arguments: list[str]) -> int:
    """Publish; 0 if it worked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--half", action="store_true", help="round the weights to float16; evaluate again")
    how.add_argument("--no-weights", action="store_true", help="leave the weights out")
    given = parser.parse_args(arguments)
    try:
        publish(given.run, given.out, half=given.half, weights=not given.no_weights)
    except (ValueError, CodelengthError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{given.out}: now write DATA.md" + (" and evaluate it" if given.half else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
