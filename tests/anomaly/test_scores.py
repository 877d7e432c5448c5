"""Scores, p-values and AUROC: against definitions, other libraries and known cases."""

import numpy as np
import pytest
import torch

from codelength.anomaly import (
    Lengths,
    auroc,
    calibrate,
    conformal_p_values,
    false_positive_interval,
    fit_scorer,
    latent_regret,
    measure_lengths,
    score_items,
)
from codelength.anomaly.conformal import check_rate
from codelength.anomaly.lengths import fit_background
from codelength.coding.baselines import codec_baselines, image_sizes
from codelength.data import load_data
from codelength.data.dataset import Split
from codelength.errors import UsageError
from codelength.models.registry import build_model


def test_auroc_agrees_with_scikit_learn_and_counts_pairs():
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    clean, odd = generator.normal(0, 1, 80).round(1), generator.normal(1, 1, 60).round(1)  # rounded: ties
    found = auroc(clean, odd)
    assert found.value == pytest.approx(roc_auc_score([0] * 80 + [1] * 60, np.concatenate([clean, odd])), rel=1e-12)
    pairs = (odd[:, None] > clean).mean() + 0.5 * (odd[:, None] == clean).mean()
    assert found.value == pytest.approx(pairs, rel=1e-12)
    assert found.low < found.value < found.high
    assert auroc(odd, clean).value == pytest.approx(1 - found.value)


def test_auroc_interval_covers():
    generator = np.random.default_rng(1)
    truth = 0.7602499389065233  # Φ(1 / √2)
    hits = [
        f.low <= truth <= f.high
        for f in (auroc(generator.normal(0, 1, 60), generator.normal(1, 1, 60)) for _ in range(400))
    ]
    assert 0.91 <= np.mean(hits) <= 0.985


def test_perfect_auroc_keeps_an_interval():
    found = auroc(np.arange(50.0), np.arange(100.0, 150.0))
    assert found.value == found.high == 1.0
    assert 0.5 < found.low < 1.0
    with pytest.raises(UsageError):
        auroc(np.array([np.nan, 1.0]), np.arange(3.0))


def test_conformal_p_values_hold_their_level_and_rank():
    generator = np.random.default_rng(2)
    below = [
        float((conformal_p_values(generator.gamma(0.3, size=99), generator.gamma(0.3, size=1)) <= 0.1).mean())
        for _ in range(3000)
    ]
    assert np.mean(below) == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 3000))
    assert conformal_p_values(np.arange(4.0), np.array([10.0, -1.0])).tolist() == [0.2, 1.0]


def test_false_positive_interval_is_that_of_simulated_calibrations():
    generator = np.random.default_rng(3)
    shares = [(conformal_p_values(generator.random(100), generator.random(200)) <= 0.1).mean() for _ in range(2000)]
    low, high = false_positive_interval(0.1, 100, 200)
    assert np.mean((np.array(shares) >= low) & (np.array(shares) <= high)) == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize(("rate", "count"), [(0.0, 10), (1.0, 10), (0.01, 50)])
def test_rates_that_cannot_be_had_are_refused(rate, count):
    with pytest.raises(UsageError, match="rate"):
        check_rate(rate, count)


def lengths(count=400, seed=0):
    generator = np.random.default_rng(seed)
    base = np.exp(generator.normal(5, 0.3, count))
    names = ("model", "png", "webp", "jpegxl", "background")
    return Lengths({name: base * np.exp(generator.normal(0.1 * i, 0.02, count)) for i, name in enumerate(names)})


def test_scores_are_what_they_say():
    clean, new = lengths(), lengths(seed=1)
    scorer, nats = fit_scorer(clean), new.nats
    np.testing.assert_array_equal(scorer.score(new, "likelihood"), nats["model"])
    np.testing.assert_allclose(scorer.score(new, "typicality"), np.abs(nats["model"] - clean.nats["model"].mean()))
    np.testing.assert_allclose(scorer.score(new, "ratio"), nats["model"] - nats["background"])
    least = np.minimum(np.minimum(nats["png"], nats["webp"]), nats["jpegxl"])
    np.testing.assert_allclose(scorer.score(new, "complexity"), nats["model"] - least)
    np.testing.assert_allclose(scorer.score(new, "complexity_webp"), nats["model"] - nats["webp"])
    from scipy.spatial.distance import mahalanobis

    columns = [np.log1p(np.column_stack([d.nats[c] for c in ("model", "png", "webp", "jpegxl")])) for d in (clean, new)]
    wanted = mahalanobis(columns[1][3], columns[0].mean(0), np.linalg.inv(np.cov(columns[0].T))) ** 2
    assert scorer.score(new)[3] == pytest.approx(wanted, rel=1e-4)
    with pytest.raises(UsageError, match="did you mean 'typicality'"):
        scorer.score(new, "tipicality")
    with pytest.raises(UsageError, match="wanted 40"):
        fit_scorer(lengths(20))


def test_joint_score_finds_what_single_scores_miss():
    scorer, clean = fit_scorer(lengths()), lengths(seed=1)
    odd = Lengths(dict(lengths(seed=2).nats))
    odd.nats["webp"] = odd.nats["webp"] * 1.2  # only the relation of two codes is odd
    assert auroc(scorer.score(clean), scorer.score(odd)).value > 0.95
    for name in ("likelihood", "typicality", "ratio"):
        assert abs(auroc(scorer.score(clean, name), scorer.score(odd, name)).value - 0.5) < 0.1


def test_image_sizes_are_those_of_the_codec_baselines():
    x = load_data("digits").split("test").x[:5].astype(np.uint8)
    sizes = image_sizes(x, ["PNG IDAT", "WebP", "JPEG XL e7"])
    totals = {result.name: result.total_bytes for result in codec_baselines(x)}
    for name, bits in sizes.items():
        assert bits.shape == (5,)
        assert int(bits.sum()) == 8 * totals[name]
    assert "WebP" not in image_sizes(x.astype(np.uint16), ["PNG IDAT", "WebP"])
    with pytest.raises(UsageError, match="codec"):
        image_sizes(x, ["JPEG"])


@pytest.fixture(scope="module")
def fitted():
    """A context table of digits, its data and a cheap background."""
    data = load_data("digits")
    model = build_model("context_table", data.space)
    model.fit(data.split("train").batch(slice(None)))
    background = build_model("histogram", data.space)
    background.fit(data.split("train").batch(slice(None)))
    return model, background, data


def test_scoring_finds_noise_and_constant_images_where_likelihood_does_not(fitted):
    model, background, data = fitted
    calibration = calibrate(model, data.split("validation"), background=background, count=240)
    assert len(calibration) == 120
    generator = np.random.default_rng(4)
    clean = data.split("test").x[:100]
    noise = generator.integers(0, 17, clean.shape).astype(clean.dtype)
    flat = np.zeros_like(clean)
    scored = score_items(
        model, Split(np.concatenate([clean, noise, flat])), calibration, background=background, rate=0.05
    )
    parts = {name: np.split(values, 3) for name, values in scored.scores.items()}
    assert auroc(parts["joint"][0], parts["joint"][1]).value > 0.95
    assert auroc(parts["joint"][0], parts["joint"][2]).value > 0.95
    assert auroc(parts["likelihood"][0], parts["likelihood"][2]).value < 0.2  # blank images are cheap
    low, high = false_positive_interval(0.05, 120, 100, 0.999)
    assert low <= scored.flagged[:100].mean() <= high
    assert scored.flagged[100:].mean() > 0.9
    assert next(iter(scored.scores)) == "joint"
    written = scored.to_json()
    assert written["num_flagged"] == scored.flagged.sum()
    assert written["flagged_if_clean_interval"] == false_positive_interval(0.05, 120, 300)
    assert [item["p_value"] for item in written["items"]] == sorted(item["p_value"] for item in written["items"])
    with pytest.raises(UsageError, match="Known"):
        score_items(model, Split(clean), calibration, by="regret")


def test_calibration_is_kept_and_taken_from_the_cache(fitted, tmp_path, monkeypatch):
    model, background, data = fitted
    monkeypatch.setattr("codelength.anomaly.calibration.cache_folder", lambda: tmp_path)
    first = calibrate(model, data.split("validation"), background=background, identity="one", count=100)
    second = calibrate(model, data.split("validation"), background=background, identity="one", count=100)
    assert first.seconds > 0 == second.seconds
    np.testing.assert_array_equal(first.clean_scores("joint"), second.clean_scores("joint"))
    assert calibrate(model, data.split("validation"), identity="two", count=100).seconds > 0
    assert len(list((tmp_path / "score").iterdir())) == 2


def test_data_that_are_no_images_are_scored_by_their_code_length(fitted):
    class Line(torch.nn.Module):
        """Independent numbers of a vector."""

        measure, conditioning = "mass", ()

        def __init__(self):
            super().__init__()
            from codelength.space import Space

            self.space, self.device = Space("vector", (6,), 4), torch.device("cpu")

        def log_prob(self, x):
            return torch.tensor([0.4, 0.3, 0.2, 0.1]).log()[x].sum(1)

    generator = np.random.default_rng(5)
    clean = Split(generator.choice(4, (300, 6), p=[0.4, 0.3, 0.2, 0.1]))
    found = measure_lengths(Line(), clean)
    assert list(found.nats) == ["model"]
    calibration = calibrate(Line(), clean, count=200)
    scored = score_items(Line(), Split(np.full((3, 6), 3)), calibration, rate=0.02)
    assert scored.flagged.all()
    with pytest.raises(UsageError, match="background"):
        fit_background(Line(), clean)


def test_latent_regret_is_large_for_data_that_the_encoder_never_saw():
    data = load_data("digits")
    model = build_model("vae", data.space, latents=4, filters=8, blocks=1, components=2)
    x = data.split("train").batch(slice(0, 256))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for _ in range(60):
        loss = -model.log_weights(x, 1, generator).total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    clean = data.split("test").batch(slice(0, 24))
    odd = torch.randint(0, 17, clean.shape, generator=generator)
    of_clean, of_odd = latent_regret(model, clean), latent_regret(model, odd)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    assert of_clean.mean() > 0
    assert of_odd.mean() > of_clean.mean()
    assert auroc(of_clean, of_odd).value > 0.7
    # No batch size changes anything but round-off.
    np.testing.assert_allclose(latent_regret(model, clean[:6], batch_size=6), of_clean[:6], atol=0.05)
    with pytest.raises(UsageError, match="latent model"):
        latent_regret(build_model("made", data.space), clean)
