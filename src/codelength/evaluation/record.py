"""The evaluation record: a number with everything one must know to trust or repeat it.

A record is validated when written and when read; `record.schema.json` beside this file is its JSON Schema. An
`Evaluation` is a record with its per-datum arrays, kept in one folder without pickle:

record.json       the record
per_example.npy   code lengths in nats, in data order, float64
elbo.npy, ess.npy, k_hat.npy, curve.json     of bounds
elbo_terms.npy    terms of the bound at K = 1, a row each, in the order of the record's elbo_terms
examples.npy      where only a sample of the split was scored: which data
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codelength import distributed
from codelength.errors import EvaluationError
from codelength.run import write_atomically

SCHEMA_FILE = Path(__file__).with_name("record.schema.json")
ARRAYS = ("elbo", "ess", "k_hat", "examples", "elbo_terms")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DequantizerBound(_Strict):
    """The bound of a dequantized density with one dequantizer."""

    nats_per_example: float = Field(description="Mean code length, nats a datum.")
    bits_per_dim: float = Field(description="The same in bits/dim.")
    standard_error_bits_per_dim: float | None = Field(description="Standard error of the mean, bits/dim.")
    elbo_bits_per_dim: float | None = Field(description="Bound at K = 1, bits/dim; none where it is infinite.")
    ess_median: float = Field(description="Median effective sample size of a datum.")
    ess_min: float = Field(description="Smallest effective sample size of a datum.")
    k_hat_max: float | None = Field(description="Largest Pareto k-hat of a datum; none below 25 samples.")
    converged: bool = Field(description="Whether the bound stopped moving with K.")


class EvaluationRecord(_Strict):
    """One number: what was measured, on what, how, and how well."""

    model: str = Field(description="Name of the model or run.")
    family: str = Field(description="Family of the model, such as autoregressive.")
    measure: Literal["mass", "density"] = Field(description="Probability of integers, or density of reals.")
    conditioning: list[str] = Field(description="Conditions given to the model for free, such as label.")
    condition_bits: float | None = Field(
        None, description="Bits a datum that these cost with all classes equally likely; none where there are none."
    )
    conditions_charged: list[str] = Field(
        default_factory=list, description="Conditions whose bits were added for a comparison; in no stored record."
    )
    data: str = Field(description="Name of the data set, binarization included.")
    split: str = Field(description="Split that was scored.")
    data_sha256: str = Field(description="SHA-256 of the exact numbers scored, shape and order included.")
    num_examples: int = Field(ge=1, description="Data scored: all of the split.")
    sampled_from: int | None = Field(
        None, description="Data of the split, where a seeded sample of them was scored; examples.npy lists it."
    )
    num_dims: int = Field(ge=1, description="Numbers a datum, channels included.")
    levels: int = Field(ge=2, description="Number of values a dim can take.")
    binarization: Literal["static", "dynamic", "threshold"] | None = Field(
        None, description="How grey data became two levels, where they did."
    )
    expected_over_binarizations: bool = Field(
        False, description="The value is the closed-form expectation over dynamic binarizations."
    )
    augmentation: str | None = Field(None, description="Augmentation of the training data; none where there was none.")
    kind: Literal["exact", "bound", "estimate"] = Field(description="What the number is: exact, a bound, an estimate.")
    num_samples: int = Field(ge=1, description="Samples K of a bound; 1 where exact.")
    dequantizer: str | None = Field(None, description="Dequantizer of the headline, where the model is a density.")
    dequantizer_bounds: dict[str, DequantizerBound] = Field(
        default_factory=dict, description="The bound with the model's own dequantizer and with U(0, 1)."
    )
    nats_per_example: float = Field(description="Mean code length, nats a datum; of a bound, an upper bound of it.")
    bits_per_dim: float = Field(description="The same in bits/dim.")
    standard_error_bits_per_dim: float | None = Field(
        description="Standard error of the mean, over clusters where data come in clusters; none for one datum."
    )
    num_clusters: int | None = Field(None, description="Number of clusters, where data come in clusters.")
    converged: bool = Field(description="False where more samples would still tighten the bound.")
    weights: Literal["ema", "raw"] = Field("raw", description="Which weights were evaluated.")
    dtype: str = Field(description="Floating-point type of the evaluation.")
    float64_difference: float | None = Field(
        None, description="Mean |difference| to float64 on a seeded sample, bits/dim; none where it cannot run so."
    )
    seed: int = Field(description="Seed of the noise of a bound and of the samples of data.")
    seconds: float = Field(ge=0, description="Wall-clock seconds.")
    model_sha256: str | None = Field(None, description="SHA-256 of the weights' file.")
    recipe_sha256: str | None = Field(None, description="SHA-256 of the resolved recipe.")
    commit: str | None = Field(None, description="Git commit of the code, -dirty where edited; none if installed.")
    library_versions: dict[str, str] = Field(description="Versions of codelength, torch, numpy, Python.")
    test_evaluations: int | None = Field(
        None, description="How often this run was evaluated on test data, this time included; none if not counted."
    )
    train_bits_per_dim: float | None = Field(None, description="Bits/dim of a seeded sample of training data.")
    train_minus_test_bits_per_dim: float | None = Field(
        None, description="Training minus this split's bits/dim: negative where the model overfits."
    )
    train_minus_test_standard_error: float | None = Field(None, description="Standard error of that gap, bits/dim.")
    memorization_floor_bits: float | None = Field(
        None, description="log2 of the number of training data: the bits a datum that naming it would cost."
    )
    elbo_bits_per_dim: float | None = Field(None, description="Bound at K = 1, bits/dim; none where exact or infinite.")
    elbo_terms: dict[str, float | None] = Field(
        default_factory=dict,
        description="Terms of the bound at K = 1, mean nats a datum, higher is better: log likelihood, and of each layer of "
        "latents log prior and minus log q, whose sum is minus its KL; none where infinite.",
    )
    annealing_steps: int | None = Field(
        None, description="Temperatures of annealed importance sampling, whose chains num_samples counts."
    )
    ess_median: float | None = Field(None, description="Median effective sample size of a datum.")
    ess_min: float | None = Field(None, description="Smallest effective sample size of a datum.")
    k_hat_max: float | None = Field(None, description="Largest Pareto k-hat of a datum.")
    coded_bits_per_dim: float | None = Field(None, description="Bits/dim of the coded split, decoded and compared.")
    coded_total_bytes: int | None = Field(None, ge=0, description="Bytes of the coded split, header included.")
    total_nats: float | None = Field(None, description="Text: code length of all of it, nats.")
    bits_per_byte: float | None = Field(None, description="Text: bits a byte of the original text.")
    perplexity_per_token: float | None = Field(None, description="Text: exp of the nats a token.")
    perplexity_per_word: float | None = Field(None, description="Text: exp of the nats a word.")
    perplexity_per_byte: float | None = Field(None, description="Text: exp of the nats a byte.")
    tokens: int | None = Field(None, description="Text: tokens scored.")
    words: int | None = Field(None, description="Text: words scored.")
    bytes: int | None = Field(None, description="Text: bytes scored, of the original UTF-8.")
    documents: int | None = Field(
        None, description="Text: documents; where there are several their ends are scored as tokens."
    )
    context: int | None = Field(None, description="Text: longest context.")
    stride: int | None = Field(None, description="Text: stride of the windows.")
    min_context: int | None = Field(None, description="Text: shortest context after the first window.")
    bos: bool | None = Field(None, description="Text: whether a window starts with a start token.")
    adapts_on_test: bool | None = Field(None, description="Whether the model adapts to the data it is scored on.")

    def folder_name(self) -> str:
        """`<data>-<split>-<estimator>-K<k>`, and what else it depends on: the folder a run keeps this record in."""
        data = re.sub(r"[^\w.-]+", "_", self.data).strip("_") or "data"
        sample = "" if self.sampled_from is None else f"-N{self.num_examples}"
        annealed = "" if self.annealing_steps is None else f"-AIS{self.annealing_steps}"
        windows = "" if self.context is None else f"-C{self.context}-S{self.stride}"
        return f"{data}-{self.split}-{self.kind}-K{self.num_samples}{annealed}{windows}{sample}"

    def to_json(self) -> str:
        """The record as indented JSON."""
        return self.model_dump_json(indent=1)


@dataclass(frozen=True)
class Evaluation:
    """A record with its per-datum arrays, in data order.

    Args:
        record: The record.
        per_example: Code length of each datum, nats, (N,) float64: the cost, lower is better.
        clusters: Cluster of each datum, (N,) integers, where data come in clusters.
        elbo: Code length at K = 1 (mean over the K log weights), nats, (N,).
        ess: Effective sample size, (N,).
        k_hat: Pareto k-hat, (N,); NaN below 25 samples.
        examples: Index in the split of each datum, (N,), where a sample of it was scored.
        elbo_terms: Terms of the bound at K = 1, nats, (terms, N), in the order of the record's `elbo_terms`.
        curve: K -> mean code length at K samples, nats.
    """

    record: EvaluationRecord
    per_example: np.ndarray
    clusters: np.ndarray | None = None
    elbo: np.ndarray | None = None
    ess: np.ndarray | None = None
    k_hat: np.ndarray | None = None
    examples: np.ndarray | None = None
    elbo_terms: np.ndarray | None = None
    curve: dict[int, float] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write the arrays, then the record, in place of what was there: a folder with a record is complete.

        Returns the folder. Of several processes the first one writes.
        """
        folder = Path(folder)
        if not distributed.is_first():
            return folder
        for name in ("record.json", "curve.json", "clusters.npy", *(f"{name}.npy" for name in ARRAYS)):
            (folder / name).unlink(missing_ok=True)
        arrays = {"per_example": self.per_example, "clusters": self.clusters}
        arrays |= {name: getattr(self, name) for name in ARRAYS}
        for name, array in arrays.items():
            if array is not None:
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                write_atomically(folder / f"{name}.npy", buffer.getvalue())
        if self.curve:
            write_atomically(folder / "curve.json", json.dumps(self.curve).encode())
        write_atomically(folder / "record.json", self.record.to_json().encode())
        return folder

    @staticmethod
    def load(folder: str | Path) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            EvaluationError: It is missing, damaged, or arrays and record disagree.
        """
        folder = Path(folder)
        record = load_record(folder)
        arrays = {name: _load_array(folder / f"{name}.npy") for name in ("clusters", *ARRAYS)}
        per_example = _load_array(folder / "per_example.npy")
        if per_example is None or per_example.shape != (record.num_examples,):
            raise EvaluationError(
                f"{folder}: record of {record.num_examples} examples, but per_example.npy "
                f"{'is missing' if per_example is None else f'has shape {per_example.shape}'}; evaluate again"
            )
        path = folder / "curve.json"
        curve = {int(k): float(v) for k, v in json.loads(path.read_text()).items()} if path.is_file() else {}
        return Evaluation(record, per_example, curve=curve, **arrays)


def load_record(folder: str | Path) -> EvaluationRecord:
    """Read `record.json` of a folder.

    Raises:
        EvaluationError: It is missing or not a valid record.
    """
    path = Path(folder) / "record.json"
    try:
        return EvaluationRecord.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise EvaluationError(f"{path} is missing; run `codelength evaluate` first") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "JSON"
        raise EvaluationError(f"{path} is no valid record ({key}: {first['msg']}); evaluate again") from error


def attach_coded(folder: str | Path, coded_total_bytes: int, bits: float | None = None) -> EvaluationRecord:
    """Add to a stored record what its split occupied when coded, decoded and compared.

    Args:
        folder: Folder of the record.
        coded_total_bytes: Size of the whole file, header included.
        bits: Bits that count for `coded_bits_per_dim`; all of the file if not given.
    """
    record = load_record(folder)
    bits = 8.0 * coded_total_bytes if bits is None else float(bits)
    update: dict[str, Any] = {
        "coded_total_bytes": int(coded_total_bytes),
        "coded_bits_per_dim": bits / (record.num_examples * record.num_dims),
    }
    record = EvaluationRecord.model_validate(record.model_dump() | update)
    write_atomically(Path(folder) / "record.json", record.to_json().encode())
    return record


def schema_json() -> str:
    """The JSON Schema of a record: the content of `record.schema.json`."""
    return json.dumps(EvaluationRecord.model_json_schema(), indent=1) + "\n"


def _load_array(path: Path) -> np.ndarray | None:
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, OSError) as error:
        raise EvaluationError(f"{path} is damaged ({error}); evaluate again") from error
    return array


def write_schema() -> None:
    """Write `record.schema.json`, after a change of the record's fields."""
    SCHEMA_FILE.write_text(schema_json())
