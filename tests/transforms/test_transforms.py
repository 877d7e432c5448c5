"""Every bijection: inverse both ways, log-determinant against autodiff, nothing written while evaluating."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from codelength.errors import UsageError
from codelength.models.flows.flow_pp import mixture_couplings
from codelength.models.flows.glow import glow_step
from codelength.transforms import (
    ActNorm,
    Additive,
    AdditiveCoupling,
    Affine,
    AffineCoupling,
    Checkerboard,
    ClassAffine,
    Compose,
    Flatten,
    Inverse,
    InverseAutoregressive,
    InvertibleConv,
    LogisticMixture,
    Logit,
    MarginalLogit,
    MaskedAutoregressive,
    MultiScale,
    RationalQuadraticSpline,
    Rescale,
    SplitCoupling,
    Squeeze,
    Transform,
    channel_mask,
    checkerboard_mask,
)

SHAPE = (2, 4, 4)


def conv(channels: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, outputs, 3, padding=1))


def two_scales() -> MultiScale:
    first = Compose([ActNorm(2), AffineCoupling(checkerboard_mask(SHAPE, 0), conv(2, 4)), Squeeze()])
    second = AffineCoupling(channel_mask((4, 2, 2), 1), conv(4, 8))
    return MultiScale([first, second], SHAPE)


TRANSFORMS: dict[str, Callable[[], Transform]] = {
    "affine, checkerboard 0": lambda: AffineCoupling(checkerboard_mask(SHAPE, 0), conv(2, 4)),
    "affine, checkerboard 1": lambda: AffineCoupling(checkerboard_mask(SHAPE, 1), conv(2, 4)),
    "affine, channel": lambda: AffineCoupling(channel_mask(SHAPE, 0), conv(2, 4)),
    "additive, checkerboard": lambda: AdditiveCoupling(checkerboard_mask(SHAPE, 0), conv(2, 2)),
    "additive, channel": lambda: AdditiveCoupling(channel_mask(SHAPE, 1), conv(2, 2)),
    "split, additive": lambda: SplitCoupling(Additive(), conv(1, 1)),
    "split, sigmoid": lambda: SplitCoupling(Affine("sigmoid"), conv(1, 2)),
    "split, swapped tanh": lambda: SplitCoupling(Affine("tanh"), conv(1, 2), swap=True),
    "invertible conv": lambda: InvertibleConv(2),
    "invertible conv near identity": lambda: InvertibleConv(2, noise=0.001),
    "glow step": lambda: Compose(glow_step(2, 5, Affine())),
    "split, mixture": lambda: SplitCoupling(LogisticMixture(3), conv(1, 11)),
    "flow++ couplings": lambda: Compose(mixture_couplings(SHAPE, 2, components=2, filters=4, blocks=1, heads=2)),
    "split, spline": lambda: SplitCoupling(RationalQuadraticSpline(3, bound=2.0), conv(1, 8)),
    "masked autoregressive": lambda: MaskedAutoregressive(Affine("tanh"), 32, [9, 9]),
    # Few hidden units: a chain of 32 steep random splines would amplify any rounding.
    "masked autoregressive, backwards": lambda: MaskedAutoregressive(
        RationalQuadraticSpline(4), 32, [3], backwards=True
    ),
    "inverse autoregressive": lambda: InverseAutoregressive(Affine(), 32, [8, 8], residual=True),
    "flatten": lambda: Flatten(SHAPE),
    "checkerboard": Checkerboard,
    "checkerboard undone": lambda: Inverse(Checkerboard()),
    "inverse of a coupling": lambda: Inverse(SplitCoupling(Affine("tanh"), conv(1, 2))),
    "squeeze": Squeeze,
    "act norm": lambda: ActNorm(2),
    "rescale": lambda: Rescale(17, -3),
    "logit": Logit,
    "rescale and logit": lambda: Compose([Rescale(4, 0), Logit(0.01)]),
    "marginal": lambda: Compose([Rescale(1, -1), MarginalLogit(2, 3)]),
    "two scales": two_scales,
}

WITH_VOLUME = [
    "split, spline",
    "masked autoregressive",
    "inverse autoregressive",
    "split, mixture",
    "flow++ couplings",
    "affine, channel",
    "act norm",
    "rescale",
    "logit",
    "marginal",
    "two scales",
    "split, sigmoid",
    "invertible conv",
]

cases = pytest.mark.parametrize("name", TRANSFORMS)


def data(batch: int = 3) -> Tensor:
    """Inside (0, 1), the domain of the logit and of a histogram's bin."""
    return torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def build(randomize: Callable[..., nn.Module]) -> Callable[[str], nn.Module]:
    return lambda name: randomize(TRANSFORMS[name]()).double()


@cases
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_inverse_undoes_forward_and_back(build, name: str, dtype: torch.dtype, tolerance: float) -> None:
    transform, x = build(name).to(dtype), data().to(dtype)
    z, log_det = transform(x)
    back, inverse_log_det = transform.inverse(z)
    again, _ = transform(back)
    torch.testing.assert_close(back, x, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(again, z, atol=10 * tolerance, rtol=10 * tolerance)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=30 * tolerance, rtol=tolerance)
    assert log_det.shape == (3,)


@cases
def test_log_det_is_that_of_the_jacobian(build, log_det_by_autodiff, name: str) -> None:
    transform, x = build(name), data()
    z, log_det = transform(x)
    torch.testing.assert_close(log_det, log_det_by_autodiff(lambda v: transform(v)[0], x), atol=1e-9, rtol=1e-9)
    inverse_log_det = transform.inverse(z)[1]
    expected = log_det_by_autodiff(lambda v: transform.inverse(v)[0], z)
    torch.testing.assert_close(inverse_log_det, expected, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("name", WITH_VOLUME)
def test_a_log_det_wrong_by_a_factor_would_be_seen(build, log_det_by_autodiff, name: str) -> None:
    transform, x = build(name), data()
    truth = log_det_by_autodiff(lambda v: transform(v)[0], x)
    for factor in (0.5, 2.0, 16 / 15):
        assert not torch.allclose(factor * transform(x)[1], truth, atol=1e-3, rtol=1e-3)


@cases
def test_evaluation_writes_nothing(build, name: str) -> None:
    transform = build(name)
    before = {key: value.clone() for key, value in transform.state_dict().items()}
    for mode in (True, False):
        transform.train(mode)
        transform.inverse(transform(data())[0])
    after = transform.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@cases
def test_output_shape_is_announced(build, name: str) -> None:
    transform = build(name)
    assert tuple(transform(data())[0].shape[1:]) == transform.output_shape(SHAPE)


@cases
def test_initialize_returns_the_latents(build, name: str) -> None:
    transform, x = build(name), data()
    torch.testing.assert_close(transform.initialize(x), transform(x)[0])


def test_act_norm_is_initialized_once_and_says_so_in_its_state() -> None:
    layer, x = ActNorm(2).double(), 3 + 2 * data(50)
    assert torch.equal(layer(x)[0], x), "before initialize it is the identity"
    z = layer.initialize(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(z.var((0, 2, 3), correction=0), torch.ones(2, dtype=torch.float64))
    state = {key: value.clone() for key, value in layer.state_dict().items()}
    assert state["initialized"]
    other = ActNorm(2).double()
    other.load_state_dict(state)
    other.initialize(100 * x)
    assert all(torch.equal(state[key], value) for key, value in other.state_dict().items())


def test_act_norm_survives_a_constant_channel_and_refuses_nan() -> None:
    layer = ActNorm(2)
    assert layer.initialize(torch.ones(4, 2, 3, 3)).isfinite().all()
    with pytest.raises(ValueError, match="NaN or infinity"):
        ActNorm(2).initialize(torch.full((4, 2, 3, 3), torch.nan))


def histogram(levels: int = 5, offset: int = -2) -> tuple[MarginalLogit, Tensor]:
    """Initialized on skewed data, (40, 2, 4, 4): channel 0 mostly level 0, channel 1 mostly the last."""
    layer = MarginalLogit(2, levels, offset).double()
    x = (levels * torch.rand(40, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 4).floor()
    x[:, 1] = levels - 1 - x[:, 1]
    layer.initialize(x + offset + 0.5)
    return layer, x.long() + offset


def test_the_marginal_alone_is_the_histogram_model() -> None:
    """Under a logistic z the density is the smoothed relative frequency of each level, wherever in its bin y is."""
    layer, x = histogram()
    counts = torch.stack([torch.bincount(x[:, c].flatten() + 2, minlength=5) + 1 for c in range(2)]).double()
    log_probs = (counts / counts.sum(1, keepdim=True)).log()
    expected = sum(log_probs[c][x[:, c] + 2].flatten(1).sum(1) for c in range(2))
    for seed in range(3):
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        z, log_det = layer(x + noise)
        log_logistic = (nn.functional.logsigmoid(z) + nn.functional.logsigmoid(-z)).flatten(1).sum(1)
        torch.testing.assert_close(log_logistic + log_det, expected)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    layer.initialize(x + 0.5)
    layer.initialize(torch.zeros(1, 2, 4, 4))
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())


def test_the_marginal_is_finite_at_both_ends_and_inverts_every_level() -> None:
    layer, _ = histogram()
    ends = torch.tensor([-2.0, 3.0 - 2.0**-21]).reshape(2, 1, 1, 1).expand(2, 2, 4, 4)
    z, log_det = layer(ends)
    assert z.isfinite().all()
    assert log_det.isfinite().all()
    levels = torch.arange(-2, 3).reshape(5, 1, 1, 1).expand(5, 2, 4, 4)
    for dtype in (torch.float32, torch.float64):
        for inside in (0.01, 0.5, 0.99):
            y = (levels + inside).to(dtype)
            assert torch.equal(layer.to(dtype).inverse(layer.to(dtype)(y)[0])[0].floor(), levels.to(dtype))
    far = layer.inverse(torch.tensor([-40.0, 40.0], dtype=torch.float64).reshape(2, 1, 1, 1).expand(2, 2, 4, 4))[0]
    assert far.min() >= -2
    assert far.max() <= 3


def test_the_masked_half_stays_and_the_free_half_sees_it_alone(build) -> None:
    transform, x = build("affine, checkerboard 0"), data(1)
    mask = checkerboard_mask(SHAPE, 0).bool()
    z = transform(x)[0][0]
    assert torch.equal(z[mask], x[0][mask])
    assert not torch.isclose(z[~mask], x[0][~mask]).any()
    jacobian = torch.autograd.functional.jacobian(lambda v: transform(v)[0][0][~mask], x)[:, 0]
    free = jacobian[:, ~mask]
    assert torch.equal(free, torch.diag(free.diagonal())), "no free value sees another free value"
    assert (jacobian[:, mask] != 0).any(1).all(), "every free value sees the masked ones"


def test_scales_are_bounded(randomize: Callable[..., nn.Module]) -> None:
    transform = randomize(TRANSFORMS["affine, channel"](), scale=1.0)
    with torch.no_grad():
        transform.scale.fill_(2.0)
        log_det = transform(1e6 * data().float())[1]
    assert (log_det.abs() <= 2 * 16).all()


def test_the_multi_scale_latent_keeps_every_number() -> None:
    transform = MultiScale([Squeeze(), Squeeze(), Compose([])], (1, 4, 4))
    assert transform.latent_sizes == [8, 4, 4]
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert sorted(transform(x)[0][0].tolist()) == list(range(16))


def test_impossible_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="no multiple of 2"):
        Squeeze().output_shape((1, 3, 4))
    with pytest.raises(ValueError, match="cannot be split"):
        channel_mask((1, 4, 4), 0)
    with pytest.raises(ValueError, match="cannot be halved"):
        MultiScale([Compose([]), Compose([])], (3, 4, 4))
    with pytest.raises(ValueError, match="alpha=0"):
        Logit(0.0)


def test_the_preprocessing_owns_the_constant() -> None:
    """A uniform density on [0, 1]^D in the rescaled space is one on the levels: D log(levels) nats, no more, no less."""
    log_det = Rescale(256)(torch.zeros(2, 3, 4, 4, dtype=torch.float64))[1]
    torch.testing.assert_close(-log_det, torch.full((2,), 48.0, dtype=torch.float64) * torch.log(torch.tensor(256.0)))


def test_affine_coupling_agrees_with_nflows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step with copied weights. nflows works on vectors, marks with 1 what it changes and squashes by a sigmoid."""
    nflows = pytest.importorskip("nflows.transforms.coupling")
    ours = AffineCoupling(torch.tensor([1.0, 1.0, 0.0, 0.0]), nn.Linear(4, 8), scale=0.7).double()

    class Network(nn.Module):
        def forward(self, identity: Tensor, context: Tensor | None) -> Tensor:
            raw, shift = ours.network(torch.cat([identity, torch.zeros_like(identity)], dim=1)).chunk(2, dim=1)
            return torch.cat([shift[:, 2:], raw[:, 2:]], dim=1)

    def squash_as_ours(parameters: Tensor) -> tuple[Tensor, Tensor]:
        return torch.exp(0.7 * torch.tanh(parameters[:, 2:])), parameters[:, :2]

    theirs = nflows.AffineCouplingTransform([0, 0, 1, 1], lambda features, outputs: Network())
    monkeypatch.setattr(theirs, "_scale_and_shift", squash_as_ours)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for got, expected in zip(ours(x), theirs(x), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-7, rtol=1e-7)  # 0.7 is a float32 parameter


def test_the_invertible_convolution_starts_as_a_rotation_or_near_the_identity() -> None:
    weight = InvertibleConv(6).double().weight()
    torch.testing.assert_close(weight @ weight.T, torch.eye(6, dtype=torch.float64), atol=1e-6, rtol=0)
    near = InvertibleConv(6, noise=0.001).weight()
    assert 0 < (near - torch.eye(6)).abs().max() < 0.01


def test_the_affine_of_a_class_is_inverted_and_counted(randomize, log_det_by_autodiff) -> None:
    layer, x = randomize(ClassAffine(2, 3)).double(), data()
    label = torch.tensor([2, 0, 2])
    z, log_det = layer(x, label=label)
    back, inverse_log_det = layer.inverse(z, label=label)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(inverse_log_det, -log_det)
    torch.testing.assert_close(log_det[:1], log_det_by_autodiff(lambda v: layer(v, label=label[:1])[0], x[:1]))
    assert log_det[0] == log_det[2] != log_det[1]


@pytest.mark.parametrize(("kind", "largest"), [(Affine("sigmoid"), math.log(1000)), (Affine("tanh", limit=2.0), 2.0)])
def test_the_scales_of_a_split_coupling_are_bounded(kind: Affine, largest: float) -> None:
    raw = torch.tensor([-1e4, 0.0, 1e4]).reshape(3, 1, 1).expand(3, 2, 1)
    assert kind.forward(torch.zeros(3, 1), raw)[1].abs().max() <= largest + 1e-5


def test_the_scale_of_glow_without_a_floor_is_a_logarithm_that_does_not_underflow() -> None:
    x, raw = torch.zeros(1, 1), torch.full((1, 2, 1), -200.0)
    assert Affine(floor=0).forward(x, raw)[1].item() == -198
    with pytest.raises(UsageError, match="did you mean 'tanh'"):
        Affine("tan")


def test_the_colours_of_a_checkerboard_become_halves_of_the_channels() -> None:
    x = checkerboard_mask((1, 4, 6), 0)[None]
    z = Checkerboard()(x)[0]
    assert torch.equal(z, torch.cat([torch.ones(1, 1, 4, 3), torch.zeros(1, 1, 4, 3)], dim=1))
    with pytest.raises(ValueError, match="even width"):
        Checkerboard().output_shape((1, 4, 3))


def test_the_mixture_inverts_where_it_is_flat_or_steep_and_far_outside() -> None:
    """Narrow components far apart, between which F does not move: bisection must take over from Newton's method."""
    parameters = torch.tensor([0.3, -0.2, 0.0, 0.0, -2.0, -8.0, 8.0, 0.5, -6.0, -6.0, 1.0], dtype=torch.float64)
    x = torch.cat([torch.linspace(-12, 12, 97), torch.tensor([-1e4, -300.0, 300.0, 1e4])]).double()
    kind, theta = LogisticMixture(3), parameters.reshape(1, 11, 1).expand(len(x), 11, 1)
    z, log_slope = kind.forward(x[:, None], theta)
    back, inverse_log_slope = kind.inverse(z, theta)
    torch.testing.assert_close(kind.forward(back, theta)[0], z, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(back, x[:, None], atol=1e-10, rtol=1e-12)
    torch.testing.assert_close(inverse_log_slope, -log_slope, atol=1e-6, rtol=1e-6)
    for extreme in (-1e30, 1e30):
        assert kind.inverse(torch.full((1, 1), extreme), theta[:1].float())[0].isfinite().all()


def test_one_component_is_affine() -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    theta = torch.tensor([0.0, 0.5, 9.0, 1.0, 0.2], dtype=torch.float64).reshape(1, 5, 1).expand(7, 5, 1)
    z, log_slope = LogisticMixture(1).forward(x, theta)
    torch.testing.assert_close(z, (x - 1) * math.exp(-0.2) + 0.5)
    torch.testing.assert_close(log_slope, torch.full_like(x, -0.2))


@pytest.mark.parametrize("backwards", [False, True])
def test_autoregressive_jacobians_are_triangular(randomize, backwards: bool) -> None:
    transform = randomize(MaskedAutoregressive(Affine("tanh"), 6, [20], backwards=backwards)).double()
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: transform(v)[0][0], x)[:, 0]
    jacobian = jacobian.flip(0, 1) if backwards else jacobian
    assert torch.equal(jacobian, jacobian.tril()), "nothing sees what comes later"
    assert (jacobian.tril(-1) != 0).sum() >= 14, "and nearly everything what came before"


def spline_parameters(n: int, bins: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = 3 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return x, torch.randn(n, 3 * bins - 1, 2, generator=generator, dtype=torch.float64)


def test_the_spline_agrees_with_nflows_and_zuko() -> None:
    """nflows has our constraints, but for what is added to the slopes; zuko's knots are made from ours."""
    nflows = pytest.importorskip("nflows.transforms.splines.rational_quadratic")
    transforms = pytest.importorskip("zuko.transforms")
    x, theta = spline_parameters(50)
    spline = RationalQuadraticSpline(5, bound=4.0)
    z, log_slope = spline.forward(x, theta)
    widths, heights, slopes = theta.movedim(1, -1).split([5, 5, 4], dim=-1)
    one = math.log(math.expm1(1 - 1e-3))
    theirs = nflows.unconstrained_rational_quadratic_spline(
        x, widths, heights, slopes + one, tails="linear", tail_bound=4.0
    )
    torch.testing.assert_close(z, theirs[0], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(log_slope, theirs[1], atol=1e-8, rtol=1e-8)
    other = transforms.MonotonicRQSTransform(widths, heights, slopes, bound=4.0)
    table = spline._table(theta)
    other.horizontal, other.vertical, other.derivatives = table
    values, log_slopes = other.call_and_ladj(x)
    torch.testing.assert_close(z, values, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(log_slope, log_slopes, atol=1e-8, rtol=1e-8)
    assert (spline.forward(x, theta.roll(1, dims=1))[0] - values).abs().max() > 0.01, "another layout would be seen"


def test_the_spline_starts_as_the_identity_and_keeps_its_ends() -> None:
    x = torch.tensor([[-9.0], [-5.0], [-1.0], [0.0], [4.999], [5.0], [7.0]], dtype=torch.float64)
    for kind in (RationalQuadraticSpline(1), RationalQuadraticSpline(8)):
        z, log_slope = kind.forward(x, torch.zeros(7, kind.num_parameters, 1, dtype=torch.float64))
        torch.testing.assert_close(z, x)
        torch.testing.assert_close(log_slope, torch.zeros_like(x), atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="bins=1000"):
        RationalQuadraticSpline(1000)


class Softplus(Additive):
    """The map of nflows' MAF: z = (softplus(raw) + 0.001) x + t."""

    num_parameters = 2

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        scale = torch.nn.functional.softplus(parameters[:, 0]) + 1e-3
        return scale * x + parameters[:, 1], scale.log()


def test_the_masked_autoregressive_transform_agrees_with_nflows(randomize) -> None:
    """With as many hidden units as degrees the two libraries' masks are the same, and weights can be copied."""
    nflows = pytest.importorskip("nflows.transforms.autoregressive")
    theirs = randomize(
        nflows.MaskedAffineAutoregressiveTransform(5, 4, num_blocks=1, use_residual_blocks=False)
    ).double()
    ours = MaskedAutoregressive(Softplus(), 5, [4, 4]).double()
    made = theirs.autoregressive_net
    with torch.no_grad():
        pairs = [(ours.network.input, made.initial_layer), (ours.network.hidden[0], made.blocks[0].linear)]
        for layer, source in pairs:
            layer.weight.copy_(source.weight)
            layer.bias.copy_(source.bias)
        # nflows lays the two outputs of a site side by side.
        ours.network.output.weight.copy_(made.final_layer.weight.unflatten(0, (5, 2)).transpose(0, 1).flatten(0, 1))
        ours.network.output.bias.copy_(made.final_layer.bias.reshape(5, 2).T.flatten())
        x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        for got, wanted in zip(ours(x), theirs(x), strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-10, rtol=1e-10)
        ours.network.output.bias[0] += 0.1
        assert (ours(x)[1] - theirs(x)[1]).abs().max() > 1e-3
