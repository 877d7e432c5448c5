"""Run every `codelength` command of the README and of the site's pages in scratch folders: `make nightly`.

    python scripts/run_commands.py [PAGE...]

Commands run as they are printed, but for what would take hours: trainings are cut to a few steps, sweeps to two trials and benchmarks to tiny
sizes, and data sets whose official files are not here are replaced by a folder or file. A page's scratch folder holds what its commands speak of
(`prepare`). `codelength explore` is started, asked for its page and ended. What is left out is printed with the reason.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
from check_documents import shell_lines  # noqa: E402
from newcomer import make_images  # noqa: E402

STEPS = 4
SECONDS = 900
SMALL_GPT2 = ["--set", "model.options.layers=1", "--set", "model.options.width=32", "--set", "model.options.heads=2"]
RUNS = {
    "runs/made": ["demo-mnist5k-made"],
    "runs/a": ["demo-mnist5k-made"],
    "runs/b": ["demo-mnist5k-vae"],
    "runs/vae": ["demo-mnist5k-vae"],
    "runs/draw": ["mnist-static-draw", "--set", "data.name=mnist5k-static"],
    "runs/pixelcnn_pp": ["demo-mnist5k-pixelcnn_pp"],
    "runs/window": ["photos32-causal_window", "--set", "data.name=mine"],
    "runs/cifar10-causal_window": ["photos32-causal_window", "--set", "data.name=mine"],
    "runs/bytes": ["enwik8_4mb-gpt2", "--set", "data.name=book.txt", *SMALL_GPT2],
}
"""Runs that pages take for granted -> recipe and settings."""


def pages() -> list[Path]:
    """Pages whose commands are run."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path) -> list[list[str]]:
    """Words of the page's commands: `codelength`, also under torchrun, and scripts in benchmarks/."""
    found = [shlex.split(line, comments=True) for line in shell_lines(page.read_text())]
    return [words for words in found if words[:1] in (["codelength"], ["torchrun"], ["python"])]


def left_out(words: list[str]) -> str | None:
    """Why a command is not run, if it is not."""
    from codelength.data.official import is_here
    from codelength.data.registry import ENTRIES

    for word in words[2:]:
        entry = ENTRIES.get(word.removeprefix("data:").partition(":")[0])
        if entry is not None and entry.folder is not None and not is_here(entry.folder):
            return f"the official files of {word} are not here"
    return None


# --- how a command is run --------------------------------------------------------------------------------------------


def cut_short(words: list[str]) -> list[str]:
    """The command with less work."""
    recipe = words[words.index("train") + 1] if "train" in words else "--"
    if not recipe.startswith("--"):
        words = [*settings_but_steps(words), "--set", f"training.steps={STEPS}"]
        if (name := stand_in(recipe)) and not any(word.startswith("data.name=") for word in words):
            words += ["--set", f"data.name={name}"]
    elif words[1] == "sweep":
        if "--trials" in words:
            place = words.index("--trials")
            words = [*words[:place], *words[place + 2 :]]
        words = [*words, "--trials", "2", "--set", f"training.steps={STEPS}"]
    elif words[1] == "bench" and "--list" not in words:
        words = [*words, "--small"]
    return words


def settings_but_steps(words: list[str]) -> list[str]:
    """The words without `--set training.steps=...`."""
    steps = {i for i, word in enumerate(words) if word.startswith("training.steps=")}
    return [word for i, word in enumerate(words) if i not in steps and i + 1 not in steps]


def stand_in(recipe: str) -> str | None:
    """Data to train on in place of the recipe's, where its official files are not here."""
    from codelength.data.official import is_here
    from codelength.data.registry import ENTRIES
    from codelength.recipe import load_recipe

    entry = ENTRIES.get(load_recipe(recipe).data.name)
    if entry is None or entry.folder is None or is_here(entry.folder):
        return None
    return "book.txt" if entry.kind == "sequence" else "mine" if entry.shape[0] == 3 else "mnist5k"


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """One command in the folder."""
    if words[1] == "explore":
        return explore(words, folder)
    words = cut_short(words)
    if words[0] == "python":
        program = [sys.executable, *words[1:]]
    elif words[0] == "torchrun":
        program = [sys.executable, "-m", "torch.distributed.run", "--standalone", *words[1:]]
    else:
        program = [sys.executable, "-m", "codelength.cli.main", *words[1:]]
    options = {"cwd": folder, "capture_output": True, "text": True, "env": environment(), "timeout": SECONDS}
    try:
        return subprocess.run(program, **options)  # type: ignore[call-overload]
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(program, 124, "", f"it took more than {SECONDS} seconds")


def environment() -> dict[str, str]:
    """The environment, with this Python's scripts first."""
    return {**os.environ, "COLUMNS": "120", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def explore(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Start the page, ask for it, end it."""
    quiet = [] if "--no-browser" in words else ["--no-browser"]
    program = [sys.executable, "-u", "-m", "codelength.cli.main", *words[1:], *quiet]
    process = subprocess.Popen(
        program, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    problem = "" if address else "it printed no address"
    deadline = time.monotonic() + 120
    while address:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                problem = "" if answer.status == 200 else f"{address} answered {answer.status}"
            break
        except OSError as error:
            problem = f"{address}: {error}"
            if time.monotonic() > deadline or process.poll() is not None:
                break
            time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return subprocess.CompletedProcess(program, int(bool(problem)), out, err + problem)


# --- what pages speak of ---------------------------------------------------------------------------------------------


def digits(folder: Path) -> None:
    """28 x 28 digits as PNG files."""
    from PIL import Image

    from codelength.data import load_data

    folder.mkdir()
    for i, image in enumerate(load_data("mnist5k").split("test").x[:40, 0]):
        Image.fromarray(image).save(folder / f"{i:02}.png")


def shards(folder: Path) -> None:
    """Digits in Parquet files."""
    from codelength.data import load_data
    from codelength.data.sources import write_parquet

    folder.mkdir()
    x = load_data("mnist5k").split("test").x
    for name, start, stop in (("train", 0, 300), ("validation", 300, 400), ("test", 400, 500)):
        write_parquet(folder / f"{name}-0.parquet", [x[start:stop]])


def recordings(folder: Path) -> None:
    """Short noisy tones, 16-bit WAV files."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(12):
        tone = 3000 * np.sin(np.arange(6000) * (0.02 + 0.01 * i)) + generator.normal(0, 50, 6000)
        with wave.open(str(folder / f"{i}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(tone.astype("<i2").tobytes())


def slices(folder: Path) -> None:
    """16-bit grey slices."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("validation", 1), ("test", 1)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            smooth = np.add.outer(np.arange(32), np.arange(32)) * 10 + generator.integers(0, 60, (32, 32))
            Image.fromarray(smooth.astype(np.uint16)).save(folder / split / f"{i}.png")


def book(path: Path) -> None:
    """A text that every Python has."""
    from pydoc_data.topics import topics

    path.write_text("".join(topics[name] for name in sorted(topics))[:120_000])


def hugging_face(folder: Path) -> None:
    """A tiny causal language model over bytes, as `save_pretrained` writes it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: i for i, character in enumerate([*alphabet, "<|endoftext|>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = len(alphabet)
    config = GPT2Config(
        vocab_size=end + 1, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=end, eos_token_id=end
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)


def own_model(path: Path) -> None:
    """The model of docs/foreign-models.md, under both names that pages use."""
    text = (ROOT / "docs/foreign-models.md").read_text()
    code = next(block.split("```")[0] for block in text.split("```python\n")[1:] if "# mymodel.py" in block)
    path.write_text(code)


def histogram(path: Path) -> None:
    """A model of 28 x 28 digits."""
    path.write_text(
        "import math\n\nimport torch\n\n\nclass Flat:\n    shape, levels = (1, 28, 28), 256\n\n    def log_prob(self, x):\n"
        "        return torch.full((len(x),), -784 * math.log(256), dtype=torch.float64)\n\n\ndef model():\n    return Flat()\n"
    )


def digits_array(path: Path) -> None:
    """40 digits, (40, 1, 28, 28) uint8."""
    from codelength.data import load_data

    np.save(path, load_data("mnist5k").split("test").x[:40])


def photograph(path: Path) -> None:
    """One photograph."""
    from PIL import Image
    from skimage import data

    Image.fromarray(data.astronaut()[:96, :120]).save(path)


def notes(path: Path) -> None:
    """A text file."""
    path.write_text("notes\n" * 100)


def logs(folder: Path) -> None:
    """A folder with a text file."""
    folder.mkdir()
    (folder / "a.txt").write_text("line\n" * 50)


def benchmarks(folder: Path) -> None:
    """The benchmarks without their results."""
    shutil.copytree(ROOT / "benchmarks", folder, ignore=shutil.ignore_patterns("results"))
    (folder / "results").mkdir()


FILES: dict[str, Callable[[Path], None]] = {
    "mine": lambda path: make_images(path, side=32, count=30),
    "photos": lambda path: make_images(path, side=64, count=60),
    "holiday": lambda path: make_images(path, side=32, count=30),
    "digits/": digits,
    "digits.npy": digits_array,
    "shards": shards,
    "recordings": recordings,
    "slices": slices,
    "photo.png": photograph,
    "notes.txt": notes,
    "my.txt": book,
    "book.txt": book,
    "logs": logs,
    "path/to/hf_model": hugging_face,
    "mymodel.py": own_model,
    "mine.py": histogram,
    "benchmarks": benchmarks,
}
"""What pages speak of -> how it is made."""


def spoken_of(words: list[list[str]]) -> Iterator[str]:
    """Paths that the commands name."""
    for line in words:
        for word in line[1:]:
            for part in (word, *word.split("="), *word.split(":")):
                yield part.rstrip("/") if part != "digits/" else part


def prepare(folder: Path, wanted: list[list[str]], made_before: Path) -> None:
    """The files and runs that a page's commands speak of; runs are trained once and kept in `made_before`."""
    names, made = set(spoken_of(wanted)), {word for line in wanted for word in outputs(line)}
    for name, make in FILES.items():
        if (name in names or any(part.startswith(f"{name.rstrip('/')}/") for part in names)) and name not in made:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            make(folder / name)
    book(folder / "book.txt")
    if not (folder / "mine").exists():
        make_images(folder / "mine", side=32, count=30)
    for out, recipe in RUNS.items():
        if out not in names or out in made:
            continue
        if not (made_before / out).exists():
            for words in (["train", *recipe, "--out", out], ["evaluate", out, "--split", "test"]):
                done = run(["codelength", *words], folder)
                if done.returncode:
                    raise SystemExit(f"{shlex.join(words)}: {last_line(done)}")
            shutil.copytree(folder / out, made_before / out)
        elif not (folder / out).exists():
            shutil.copytree(made_before / out, folder / out)


def outputs(words: list[str]) -> list[str]:
    """Folders that a training or quantization makes."""
    making = {"train", "quantize", "sweep"} & set(words)
    if "--out" in words and making and words[1:3] != ["train", "--resume"]:
        return [words[words.index("--out") + 1]]
    return []


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """What it said last."""
    return (done.stderr.strip().splitlines() or ["no message"])[-1]


def main(arguments: list[str]) -> int:
    """Run them; 0 if all succeed."""
    with tempfile.TemporaryDirectory() as made_before:
        return run_pages(arguments, Path(made_before))


def run_pages(arguments: list[str], made_before: Path) -> int:
    """The commands of the pages, by default all; 0 if all succeed."""
    failures, count = 0, 0
    for page in [Path(argument).resolve() for argument in arguments] or pages():
        wanted = commands(page)
        if not wanted:
            continue
        print(f"# {page.relative_to(ROOT)}", flush=True)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, wanted, made_before)
            for words in wanted:
                if reason := left_out(words):
                    print(f"{'--':<7}{'':8}  {shlex.join(words)}: {reason}", flush=True)
                    continue
                start, done = time.perf_counter(), run(words, folder)
                count += 1
                print(
                    f"{'ok' if not done.returncode else 'FAILED':<7}{time.perf_counter() - start:6.1f} s  {shlex.join(words)}",
                    flush=True,
                )
                if done.returncode:
                    failures += 1
                    print(f"       {last_line(done)}", file=sys.stderr)
    print(f"{count} commands, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
