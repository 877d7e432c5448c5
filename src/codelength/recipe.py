"""A recipe: data, model and training in one YAML file. Validated when read; written resolved into the run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from codelength.errors import UsageError, unknown_name


def _recipe_folder() -> Path:
    """`recipes/` inside the installed package, or at the root of a checkout."""
    package = Path(str(resources.files("codelength")))
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parents[1] / "recipes"


RECIPE_FOLDER = _recipe_folder()


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Strict):
    """Which data."""

    name: str = Field(description="Name of a data set, or path of a folder of images, .npy or .npz file.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the data set, such as a seed.")


class ModelConfig(_Strict):
    """Which model."""

    system: str = Field(description="Name of the system, such as pixelcnn_pp.")
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the system.")


class TrainingConfig(_Strict):
    """How to train."""

    steps: int = Field(1000, ge=1, description="Optimizer steps.")
    batch_size: int = Field(32, ge=1, description="Examples a step.")
    optimizer: Literal["adamw", "adamax", "muon"] = Field(
        "adamw", description="Optimizer; muon is for matrices, AdamW for the rest."
    )
    muon_learning_rate: float = Field(0.02, gt=0, description="Peak learning rate of Muon's matrices.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up.")
    decay: Literal["constant", "cosine", "linear", "exponential"] = Field("cosine", description="Decay after warm-up.")
    final_learning_rate: float = Field(0.0, ge=0, description="Learning rate at the last step.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay rates of the optimizer's moments.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    clip_norm: float | None = Field(None, gt=0, description="Largest norm of the gradient; none to leave it.")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Decay of the weight average a step; none for raw weights."
    )
    precision: Literal["float32", "bf16"] = Field("float32", description="Arithmetic of the forward pass in training.")
    channels_last: bool = Field(False, description="Keep images channels-last in memory.")
    horizontal_flip: bool = Field(False, description="Flip training images at random.")
    translate: int = Field(
        0,
        ge=0,
        description="Move training images by up to so many sites; the share of moved ones falls linearly from all to none.",
    )
    validate_every: int = Field(500, ge=1, description="Steps between validations.")
    validation_examples: int | None = Field(None, ge=1, description="Validation data used for selection; none for all.")
    checkpoint_every: int = Field(500, ge=1, description="Steps between checkpoints.")
    sample_every: int | None = Field(None, ge=1, description="Steps between sample grids; none for no samples.")
    start_from: str | None = Field(
        None, description="Run whose weights training starts from: a folder, or the name of one beside the run."
    )
    seed: int = Field(0, description="Seed of initialization, data order and noise.")

    @property
    def augmentation(self) -> str | None:
        """What is done to training images, as records name it; None for nothing."""
        done = ["horizontal_flip"] if self.horizontal_flip else []
        done += [f"translate {self.translate}"] if self.translate else []
        return ", ".join(done) or None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.decay == "exponential" and self.final_learning_rate == 0:
            raise ValueError("decay: exponential never reaches final_learning_rate 0; give one above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {self.betas}: wanted two numbers from 0 up to, not including, 1")
        return self


class EvaluationConfig(_Strict):
    """How to evaluate."""

    batch_size: int = Field(100, ge=1, description="Examples a batch; changes no number.")
    samples: int = Field(1, ge=1, description="Samples K of a bound.")
    seed: int = Field(0, description="Seed of the noise of a bound.")


class Recipe(_Strict):
    """Data, model, training and evaluation of one number."""

    name: str = Field(description="Name of the recipe.")
    description: str = Field("", description="What it is, with its source.")
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    published_parameters: float | None = Field(None, description="Parameter count of the paper, where it gives one.")

    def sha256(self) -> str:
        """Hash of the resolved recipe."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        """The resolved recipe as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that ship with the package."""
    return {path.stem: path for path in sorted(RECIPE_FOLDER.glob("*.yaml"))}


def load_recipe(name_or_path: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe.

    Args:
        name_or_path: Name of a shipped recipe, or path of a YAML file.
        overrides: Dotted key -> value, such as {"training.steps": 100, "model.options.filters": 16}.

    Raises:
        UsageError: Unknown recipe or key (the nearest is named), or a value out of range.
    """
    path = Path(name_or_path)
    if not path.is_file():
        shipped = shipped_recipes()
        if str(name_or_path) not in shipped:
            raise unknown_name("recipe", str(name_or_path), shipped)
        path = shipped[str(name_or_path)]
    try:
        fields = parse_yaml(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {path}: not valid YAML: {error}") from error
    if not isinstance(fields, dict):
        raise UsageError(f"recipe {path}: wanted a mapping with data, model and training")
    fields.setdefault("name", path.stem)
    for key, value in (overrides or {}).items():
        _set(fields, key, value)
    return parse_recipe(fields, str(path))


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number, as it is in YAML 1.2; PyYAML's 1.1 reads it as a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; raises yaml.YAMLError.

    >>> parse_yaml("[1e-3, 2, true, cosine]")
    [0.001, 2, True, 'cosine']
    """
    return yaml.load(text, Loader=_Loader)  # a SafeLoader: it builds plain values only


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Overrides from texts such as "training.steps=100"; values are YAML.

    Raises:
        UsageError: One is no key=value, or its value no YAML.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not all(key.split(".")):
            raise UsageError(f"--set {assignment!r}: wanted key=value, such as training.steps=100")
        try:
            overrides[key] = parse_yaml(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {key}: {value!r} is not valid YAML: {error}") from error
    return overrides


def first_difference(a: Recipe, b: Recipe) -> tuple[str, Any, Any] | None:
    """The first key in which two recipes differ, with both values; descriptions may differ.

    >>> fields = {"name": "a", "data": {"name": "digits"}, "model": {"system": "uniform"}}
    >>> first_difference(Recipe(**fields), Recipe(**fields, training={"steps": 7}))
    ('training.steps', 1000, 7)
    """
    left, right = _flatten(a.model_dump(mode="json")), _flatten(b.model_dump(mode="json"))
    for key in [*left, *(key for key in right if key not in left)]:
        if key != "description" and left.get(key) != right.get(key):
            return key, left.get(key), right.get(key)
    return None


def _flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def parse_recipe(fields: dict[str, Any], source: str = "recipe") -> Recipe:
    """Validate the fields of a recipe; raises UsageError that names the key."""
    try:
        return Recipe(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise unknown_name(f"key of {source}:", key, _known_keys(Recipe, first["loc"][:-1])) from None
        got = "" if first["type"] in ("missing", "value_error") else f" (got {first['input']!r})"
        raise UsageError(f"{source}: {key}: {first['msg'].removeprefix('Value error, ')}{got}") from None


def _set(fields: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if fields.get(parent) is None:
            fields[parent] = {}
        fields = fields[parent]
        if not isinstance(fields, dict):
            raise UsageError(f"--set {key}: {parent!r} is a value, not a group of keys")
    fields[last] = value


def _known_keys(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        model = annotation
    prefix = "".join(f"{part}." for part in location)
    return [prefix + name for name in model.model_fields]
