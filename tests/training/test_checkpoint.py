import errno
import os

import pytest
import torch

from codelength.errors import CheckpointError
from codelength.training import checkpoint as module
from codelength.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def make(step, **fields):
    tensors = {"model": {"a": torch.arange(6.0).view(2, 3).t() + step, "n": torch.tensor(step)}, "optimizer": {}}
    return Checkpoint(step, tensors, {"best": 0.1 + 0.2, **fields})


def names(state):
    return sorted(path.name for path in state.iterdir())


def test_what_is_saved_is_loaded_and_older_ones_are_removed(tmp_path):
    for step in (5, 10):
        save_checkpoint(tmp_path, make(step))
    assert names(tmp_path) == ["step-00000010"]
    loaded, damages = load_checkpoint(tmp_path)
    assert (loaded.step, loaded.fields, damages) == (10, {"best": 0.1 + 0.2}, [])
    assert torch.equal(loaded.tensors["model"]["a"], make(10).tensors["model"]["a"])
    assert loaded.tensors["model"]["n"] == 10
    assert loaded.tensors["optimizer"] == {}


def test_nothing_there(tmp_path):
    assert load_checkpoint(tmp_path / "state") == (None, [])


def damage_bytes(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    "damage",
    [
        damage_bytes,
        cut,
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "state.json").unlink(),
        lambda folder: (folder / "state.json").write_text('{"step": 10'),
        lambda folder: (folder / "state.json").write_text('{"step": 10}'),
    ],
)
def test_a_damaged_checkpoint_is_ignored_and_named(tmp_path, damage):
    whole = save_checkpoint(tmp_path, make(5))
    os.rename(whole, tmp_path / "aside")
    newer = save_checkpoint(tmp_path, make(10))
    os.rename(tmp_path / "aside", whole)
    damage(newer)
    loaded, damages = load_checkpoint(tmp_path)
    assert loaded.step == 5
    assert len(damages) == 1
    assert "step-00000010 is damaged" in damages[0]
    save_checkpoint(tmp_path, make(10))  # written again in its place
    assert load_checkpoint(tmp_path)[0].step == 10


@pytest.mark.parametrize("call", [0, 1, 2])
def test_a_full_disk_keeps_the_previous_one(tmp_path, monkeypatch, call):
    save_checkpoint(tmp_path, make(5))
    write, calls = module._write, []

    def full(path, content):
        calls.append(path)
        if len(calls) > call:
            path.write_bytes(content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(
        CheckpointError, match=r"No space left on device; the previous one, .*step-00000005, is whole"
    ) as e:
        save_checkpoint(tmp_path, make(10))
    assert "\n" not in str(e.value)
    assert names(tmp_path) == ["step-00000005"]
    assert load_checkpoint(tmp_path)[0].step == 5


def test_a_full_disk_at_the_first_one(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(CheckpointError, match="there is no earlier one"):
        save_checkpoint(tmp_path / "state", make(10))


def test_rubbish_of_a_killed_process_is_removed(tmp_path):
    for pid in ("1", str(os.getpid())):
        (tmp_path / f".step-00000005.{pid}").mkdir()
        (tmp_path / f".step-00000005.{pid}" / "model.safetensors").write_bytes(b"half")
    assert load_checkpoint(tmp_path) == (None, [])
    save_checkpoint(tmp_path, make(5))
    assert names(tmp_path) == ["step-00000005"]
