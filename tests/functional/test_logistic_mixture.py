"""The mixture's log mass: the compiled kernel, and the chunks without it, against autodiff of the formula in float64."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from codelength import native
from codelength.functional import MixtureLayout, logistic_mixture_log_mass, unpack_mixture
from codelength.functional import logistic_mixture as module

LAYOUTS = [
    MixtureLayout(3, 10, 256, True),
    MixtureLayout(3, 2, 256, False),
    MixtureLayout(1, 1, 2, False),
    MixtureLayout(4, 3, 17, True),
    MixtureLayout(3, 4, 65_536, True),
]
kernels = pytest.mark.skipif(native.missing() is not None, reason=str(native.missing()))


def _case(layout: MixtureLayout, sites=(5, 15), batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Outputs in float32, values with both edges among them, and a weight for every site."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(batch, layout.num_parameters, *sites, generator=generator)
    # Scales from a narrow to a wide logistic, some below the floor.
    rows = torch.arange(layout.num_parameters - layout.components) % (2 * layout.channels + layout.num_coefficients)
    is_scale = (rows >= layout.channels) & (rows < 2 * layout.channels)
    outputs[:, layout.components :][:, is_scale] = outputs[:, layout.components :][:, is_scale] * 3 + layout.floor + 3
    value = torch.randint(layout.levels, (batch, layout.channels, *sites), generator=generator)
    value[0, 0, 0], value[-1, -1, -1] = 0, layout.levels - 1
    return outputs, value, torch.rand(batch, *sites, generator=generator)


def _formula(outputs, value, layout, weight, span=None):
    """Log masses and the gradient of their weighted sum, by autodiff in float64."""
    wide = outputs.double().requires_grad_()
    log_mass = unpack_mixture(wide, layout, span).log_mass(value)
    return log_mass.detach(), torch.autograd.grad((log_mass * weight).sum(), wide)[0]


def _fused(outputs, value, layout, weight, span=None):
    leaf = outputs.detach().requires_grad_()
    log_mass = logistic_mixture_log_mass(leaf, value, layout, span)
    return log_mass.detach(), torch.autograd.grad((log_mass * weight).sum(), leaf)[0]


def _distance(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, relative to numbers above 1."""
    assert got.shape == wanted.shape
    return float(((got.double() - wanted).abs() / (1 + wanted.abs())).max())


@kernels
def test_gradients_of_usual_outputs_are_exact_to_a_ten_thousandth():
    layout = LAYOUTS[0]
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(4, layout.num_parameters, 16, 16, generator=generator)
    value = torch.randint(256, (4, 3, 16, 16), generator=generator)
    weight = torch.rand(4, 16, 16, generator=generator)
    (_, gradient), (_, wanted) = (f(outputs, value, layout, weight) for f in (_fused, _formula))
    assert float((gradient - wanted).abs().max() / wanted.abs().max()) < 1e-5


@kernels
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_kernel_has_the_values_and_gradients_of_the_formula(layout, channels_last):
    outputs, value, weight = _case(layout)
    if channels_last:
        outputs = outputs.contiguous(memory_format=torch.channels_last)
    log_mass, gradient = _fused(outputs, value, layout, weight)
    wanted, wanted_gradient = _formula(outputs, value, layout, weight)
    # Where a bin's edge is |a| scales away, round-off moves a, and the log mass, by a few 2^-24 |a|.
    assert _distance(log_mass, wanted) < 1e-5
    # As near as the formula itself in float32: narrow scales far from the value, of which there are many, are hard.
    leaf = outputs.detach().requires_grad_()
    (short,) = torch.autograd.grad((unpack_mixture(leaf, layout).log_mass(value) * weight).sum(), leaf)
    assert _distance(gradient, wanted_gradient) < 1e-5 + 3 * _distance(short, wanted_gradient)
    assert gradient.stride() == outputs.stride()


def test_control_another_layout_gives_other_numbers():
    coupled, apart = MixtureLayout(3, 2, 256, True), MixtureLayout(3, 2, 256, False)
    outputs, value, weight = _case(coupled)
    wanted = _formula(outputs, value, coupled, weight)[0]
    assert _distance(_fused(outputs[:, : apart.num_parameters], value, apart, weight)[0], wanted) > 0.1
    assert _distance(_fused(outputs, value.clamp(min=1), coupled, weight)[0], wanted) > 1e-3


@kernels
def test_kernel_on_a_part_of_the_range():
    layout, span = MixtureLayout(3, 3, 4096, True), torch.tensor([-0.4, 0.05])
    outputs, _, weight = _case(layout)
    value = torch.randint(1000, 1500, (3, 3, 5, 15), generator=torch.Generator().manual_seed(1))
    (log_mass, gradient), wanted = (
        _fused(outputs, value, layout, weight, span),
        _formula(outputs, value, layout, weight, span),
    )
    assert _distance(log_mass, wanted[0]) < 1e-4
    assert _distance(gradient, wanted[1]) < 1e-3


@kernels
def test_kernel_reads_bfloat16_and_scores_in_float32():
    layout = LAYOUTS[0]
    outputs, value, weight = _case(layout)
    outputs = outputs.bfloat16()
    log_mass, gradient = _fused(outputs, value, layout, weight)
    wanted, wanted_gradient = _formula(outputs, value, layout, weight)
    assert log_mass.dtype == torch.float32
    assert _distance(log_mass, wanted) < 1e-5
    assert gradient.dtype == torch.bfloat16
    assert _distance(gradient, wanted_gradient) < 2**-8


@kernels
def test_threads_do_not_change_a_bit(monkeypatch):
    layout = LAYOUTS[0]
    outputs, value, weight = _case(layout, sites=(16, 17), batch=4)
    one = _fused(outputs, value, layout, weight)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert all(torch.equal(a, b) for a, b in zip(one, _fused(outputs, value, layout, weight), strict=True))


@pytest.mark.parametrize("layout", LAYOUTS[:4])
def test_without_kernels_chunks_have_the_gradient_of_the_whole(layout, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 40 * layout.num_parameters)
    monkeypatch.setattr(module, "_compiled", lambda outputs: False)
    outputs, value, weight = _case(layout)
    for x in (outputs.double(), outputs.double()[:, :, :2, :10]):  # data longer, and shorter, than a chunk
        sites = x.shape[2:]
        v, w = value[:, :, : sites[0], : sites[1]], weight[:, : sites[0], : sites[1]]
        got, wanted = _fused(x, v, layout, w), _formula(x, v, layout, w)
        assert _distance(got[0], wanted[0]) < 1e-12
        assert _distance(got[1], wanted[1]) < 1e-12


@kernels
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(bad):
    """Training finds a broken network by its loss."""
    layout = LAYOUTS[0]
    for row in (0, layout.components, layout.components + layout.channels):
        outputs, value, _ = _case(layout)
        outputs[1, row, 2, 3] = bad
        log_mass = logistic_mixture_log_mass(outputs, value, layout)
        reference = unpack_mixture(outputs, layout).log_mass(value)
        broken = ~reference.isfinite()
        assert torch.equal(~log_mass.isfinite(), broken)
        assert int(broken.sum()) <= 1


def test_only_outputs_and_values_are_kept_for_the_backward_pass():
    def kept(call) -> int:
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel() * t.itemsize) or t, lambda t: t):
            call()
        return sum(saved)

    for components in (2, 10):
        layout = MixtureLayout(3, components, 256, True)
        outputs, value, _ = _case(layout, sites=(16, 16))
        outputs.requires_grad_()
        fused = kept(lambda o=outputs, v=value, at=layout: logistic_mixture_log_mass(o, v, at))
        assert fused <= 4 * outputs.numel() + 8 * value.numel()
        assert kept(lambda o=outputs, v=value, at=layout: unpack_mixture(o, at).log_mass(v)) > 2 * fused


def test_one_datum_or_its_outputs_serve_a_batch():
    layout = LAYOUTS[0]
    outputs, value, weight = _case(layout)
    for o, v in ((outputs[:1], value), (outputs, value[:1])):
        got, wanted = _fused(o, v, layout, weight), _formula(o, v, layout, weight)
        assert _distance(got[0], wanted[0]) < 1e-5
        assert _distance(got[1], wanted[1]) < 1e-4


def test_shapes_that_differ_are_refused():
    layout = MixtureLayout(3, 2, 256, True)
    with pytest.raises(ValueError, match="wanted"):
        logistic_mixture_log_mass(torch.zeros(2, 7, 4), torch.zeros(2, 3, 4, dtype=torch.long), layout)
    outputs = torch.zeros(2, layout.num_parameters, 4)
    with pytest.raises(ValueError, match="wanted"):
        logistic_mixture_log_mass(outputs, torch.zeros(2, 3, 5, dtype=torch.long), layout)


def test_kernels_can_be_turned_off_and_say_why():
    code = "from codelength import native; assert native.library() is None; print(native.missing())"
    environment = {"CODELENGTH_NATIVE": "0", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "CODELENGTH_NATIVE=0" in done.stdout
