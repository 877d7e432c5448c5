"""One part of the demo, in a process of its own: train, evaluate on test data, code and decode the test data.

What is finished is kept: a part that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable

from codelength.data import load_data
from codelength.data.dataset import DataSet
from codelength.demo.plan import SYSTEMS, Part
from codelength.errors import CodelengthError
from codelength.evaluation import EvaluationRecord, attach_coded, evaluate_run, load_record
from codelength.models.base import can
from codelength.report.collect import coding_path, read_evaluations
from codelength.run import Run, write_atomically

Say = Callable[[str], None]
SPLIT = "test"


def do_part(part: Part, say: Say) -> None:
    """Do what is left of a part; `say` gets one line for each thing that happens.

    Raises:
        CodelengthError: It fails; what was finished is kept.
    """
    from codelength.training import train

    recipe = part.load_recipe()
    data = load_data(recipe.data.name, **recipe.data.options)
    say(f"training {recipe.training.steps} steps: {SYSTEMS[part.system][0]}")
    start = time.perf_counter()
    run = train(recipe, part.folder, resume=True, progress=False, data=data)
    say(f"trained{_ago(start)}{_selected(run)}")
    record = measure(run, data)
    say(_describe(record))
    model = run.build()
    if can(model, "log_prob") and model.measure == "mass":
        code(run, data, record, say)


def _selected(run: Run) -> str:
    values = [line["bits_per_dim"] for line in run.metrics() if line["split"] == "validation"]
    return f", validation {min(values):.3f} bits/dim" if values and None not in values else ""


def _ago(start: float) -> str:
    seconds = time.perf_counter() - start
    return f" in {seconds:.0f} s" if seconds >= 1 else " before"


def find_record(run: Run, data: DataSet) -> EvaluationRecord | None:
    """The record of the run's present weights on the test data with the recipe's K and seed, if it is there."""
    config = run.recipe.evaluation
    for evaluation in read_evaluations(run):
        record = evaluation.record
        samples = 1 if record.kind == "exact" else config.samples
        found = (record.data, record.split, record.seed, record.num_samples)
        if found == (data.name, SPLIT, config.seed, samples):
            return record
    return None


def measure(run: Run, data: DataSet) -> EvaluationRecord:
    """Evaluate the run on the test data, with as many training data for the gap, unless that is done."""
    record = find_record(run, data)
    if record is None:
        record = evaluate_run(run, data=data, split=SPLIT, gap_examples=len(data.split(SPLIT))).record
    return record


def _describe(record: EvaluationRecord) -> str:
    error = record.standard_error_bits_per_dim
    value = f"{record.bits_per_dim:.3f}" + ("" if error is None else f" ± {error:.3f}")
    if record.kind == "exact":
        return f"test {value} bits/dim, exact"
    return f"test ≤ {value} bits/dim, an upper bound with K = {record.num_samples} samples; the truth is at most that"


def code(run: Run, data: DataSet, record: EvaluationRecord, say: Say) -> None:
    """Compress the test data with the run, decode them in a fresh process, compare, and keep the result."""
    from codelength.coding import measure_coding

    path = coding_path(run, data.name, SPLIT)
    if not _is_coded(run, data):
        result = measure_coding(run, data, SPLIT, folder=path.parent)
        fields = {**result.to_json(), "model_sha256": run.model_sha256}
        write_atomically(path, json.dumps(fields, indent=1).encode())
    fields = json.loads(path.read_text())
    folder = run.path / "evaluation" / record.folder_name()
    if load_record(folder).coded_total_bytes != fields["coded_total_bytes"]:
        attach_coded(folder, fields["coded_total_bytes"])
    say(
        f"{fields['num_examples']} test images in {fields['coded_total_bytes']:,} bytes, "
        f"{100 * fields['overhead_ratio']:+.2f} % of −log2 P; a fresh process decoded them, every byte equal"
    )


def _is_coded(run: Run, data: DataSet) -> bool:
    path = coding_path(run, data.name, SPLIT)
    if not path.is_file():
        return False
    fields = json.loads(path.read_text())
    ours = (run.model_sha256, data.split(SPLIT).fingerprint())
    return (fields.get("model_sha256"), fields["data_sha256"]) == ours and (path.parent / _file_name(fields)).is_file()


def _file_name(fields: dict[str, str]) -> str:
    return os.path.basename(fields["file"])


def end_with(parent: int) -> None:
    """End this process when its parent has ended: a killed demo leaves nobody writing into its folder."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main(arguments: list[str]) -> int:
    """The process: arguments are a part as JSON and its number of threads. Errors are one line on stderr."""
    import torch

    part, threads = Part.from_json(arguments[0]), int(arguments[1])
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(threads)

    def say(line: str) -> None:
        print(f"{part.name}: {line}", file=sys.stderr, flush=True)

    try:
        do_part(part, say)
    except (CodelengthError, OSError) as error:
        say(f"error: {' '.join(str(error).split())}")
        return error.exit_code if isinstance(error, CodelengthError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
