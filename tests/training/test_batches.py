import numpy as np
import pytest
import torch

from codelength.data.dataset import Split
from codelength.errors import UsageError
from codelength.training.batches import Batches, choose, data_mark, is_real, subset, take


def split(count=10, **fields):
    return Split(np.arange(count * 4, dtype=np.uint8).reshape(count, 1, 2, 2), **fields)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 25])
def test_every_epoch_has_each_datum_once(batch_size):
    batches = Batches(split(), batch_size, seed=0)
    steps = -(-40 // batch_size)
    order = np.concatenate([batches.indices(step) for step in range(1, steps + 1)])[:40].reshape(4, 10)
    assert (np.sort(order, axis=1) == np.arange(10)).all()
    assert not (order[0] == order[1]).all()


def test_a_step_is_a_function_of_seed_and_step():
    a, b = Batches(split(), 4, seed=0, flip=True), Batches(split(), 4, seed=0, flip=True)
    later = [a[step] for step in range(1, 9)][-1]
    assert torch.equal(later.x, b[8].x)
    assert not torch.equal(later.x, Batches(split(), 4, seed=1, flip=True)[8].x)


def test_flips_mirror_half_of_the_images_with_their_intensity():
    images = np.tile(np.array([[[0, 1], [2, 3]]], dtype=np.uint8), (2000, 1, 1, 1))
    batch = Batches(Split(images, intensity=images / 3), 2000, seed=0, flip=True)[1]
    mirrored = (batch.x == torch.tensor([[1, 0], [3, 2]])).flatten(1).all(1)
    assert ((batch.x == torch.tensor([[0, 1], [2, 3]])).flatten(1).all(1) | mirrored).all()
    assert abs(float(mirrored.float().mean()) - 0.5) < 5 * 0.5 / 2000**0.5
    assert torch.allclose(batch.intensity * 3, batch.x.float())


def test_only_the_conditions_the_model_takes_are_handed_out():
    data = split(conditions={"label": np.arange(10), "other": np.arange(10)})
    batch = Batches(data, 4, seed=0, conditioning=("label",))[1]
    assert list(batch.conditions) == ["label"]
    assert torch.equal(batch.conditions["label"] * 4, batch.x[:, 0, 0, 0])
    assert Batches(data, 4, seed=0)[1].conditions == {}
    with pytest.raises(UsageError, match=r"wants the condition 'text' but the data have label, other"):
        Batches(data, 4, seed=0, conditioning=("text",))
    with pytest.raises(UsageError, match="the data have none"):
        Batches(split(), 4, seed=0, conditioning=("label",))


def test_translations_move_images_and_repeat_the_border():
    images = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4).repeat(3000, axis=0)
    data = Split(images, intensity=images / 12)
    moved = Batches(data, 3000, seed=0, translate=1, steps=10**9)[1]
    padded = np.pad(images[0, 0], 1, mode="edge")
    wanted = {(r, c): torch.from_numpy(padded[1 - r : 4 - r, 1 - c : 5 - c]) for r in (-1, 0, 1) for c in (-1, 0, 1)}
    counts = {move: int((moved.x == image).flatten(1).all(1).sum()) for move, image in wanted.items()}
    assert sum(counts.values()) == 3000
    assert all(abs(n - 3000 / 9) < 5 * (3000 * 8 / 81) ** 0.5 for n in counts.values())
    assert torch.allclose(moved.intensity * 12, moved.x.float())


def test_translations_fade_out():
    images = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4).repeat(2000, axis=0)
    batches = Batches(Split(images), 2000, seed=0, translate=1, steps=4)
    still = [
        float((batches[step].x == torch.from_numpy(images)).flatten(1).all(1).float().mean()) for step in (1, 2, 3, 4)
    ]
    assert still == pytest.approx([1 / 3, 5 / 9, 7 / 9, 1], abs=0.06)
    assert still[3] == 1


@pytest.mark.parametrize("change", [{"flip": True}, {"translate": 1}])
def test_only_images_can_be_flipped_or_moved(change):
    with pytest.raises(UsageError, match="are no images"):
        Batches(Split(np.zeros((4, 3), dtype=np.int64)), 2, seed=0, **change)


def test_real_data_stay_real():
    data = Split(np.linspace(0, 1, 12).reshape(6, 2))
    assert is_real(data)
    assert not is_real(split())
    assert take(data, slice(None)).x.dtype == torch.float32
    assert Batches(split(), 2, seed=0)[1].x.dtype == torch.int64


def test_batches_move_in_the_memory_format_wanted():
    batch = Batches(Split(np.zeros((4, 3, 2, 2), dtype=np.uint8)), 2, seed=0)[1]
    moved = batch.to(torch.device("cpu"), torch.channels_last)
    assert moved.x.is_contiguous(memory_format=torch.channels_last)


def test_choice_is_seeded_sorted_and_none_for_all():
    chosen = choose(split(), 4, seed=0)
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) == 4
    assert (chosen == choose(split(), 4, seed=0)).all()
    assert any((choose(split(), 4, seed=s) != chosen).any() for s in (1, 2))
    assert choose(split(), None, 0) is choose(split(), 10, 0) is None


def test_subset_keeps_rows_together():
    data = split(clusters=np.arange(10), conditions={"label": np.arange(10)}, intensity=np.full((10, 1, 2, 2), 0.5))
    part = subset(data, np.array([3, 7]))
    assert part.clusters.tolist() == part.conditions["label"].tolist() == [3, 7]
    assert (part.x[:, 0, 0, 0] == [12, 28]).all()
    assert (part.intensity == data.intensity[[3, 7]]).all()


def test_the_mark_sees_other_data():
    assert data_mark(split()) == data_mark(split())
    changed = split()
    changed.x[9, 0, 1, 1] += 1
    assert len({data_mark(s) for s in (split(), split(9), changed)}) == 3
