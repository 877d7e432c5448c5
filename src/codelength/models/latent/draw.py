"""DRAW: an image is drawn in T steps onto a canvas, each by a patch that attention puts in its place.

    for t = 1 .. T:
        x̂_t = x − σ(c_{t−1})                                            what the canvas lacks (inference only)
        r_t = read(x, x̂_t, h_dec_{t−1})
        h_enc_t = LSTM_enc(h_enc_{t−1}, [r_t, h_dec_{t−1}])
        z_t ~ q(z_t | h_enc_t)                                           generation: z_t ~ N(0, I)
        h_dec_t = LSTM_dec(h_dec_{t−1}, z_t)
        c_t = c_{t−1} + write(h_dec_t)
    x ~ P(x | c_T)

The canvas holds the parameters of the pixel likelihood at every site: one logit for a binary channel (per-channel emission,
the paper's decoder for colour, is that on data NAME-dynamic), or those of a mixture of discretized logistics. What the canvas
lacks is told by its own mean image, σ(c) for Bernoulli channels.

Layers are z1 .. zT, N(0, I) each. Reference: Gregor et al., arXiv:1502.04623, eqs. (3)-(10), (14)-(29).
Departures: log std bounded to ±5; a canvas of likelihood parameters; without attention (size 0) read and write are linear,
eqs. (17), (18).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codelength import randomness
from codelength.models.base import LogWeights
from codelength.models.latent.base import (
    Choose,
    Gaussian,
    Inference,
    LatentModel,
    bounded,
    latent_terms,
    standard_normal,
)
from codelength.nn.attention_window import PARAMETERS, attention_window
from codelength.pixels import PixelDistribution, pixel_likelihood
from codelength.randomness import Noise
from codelength.space import Space

State = tuple[Tensor, Tensor]


class DRAW(LatentModel):
    """Recurrent drawing with attention.

    Args:
        space: Images.
        steps: T.
        latents: Latents of a step.
        hidden: Units of each LSTM.
        read, write: Filters a side of the two windows, 2 or more; 0 for no attention.
        pixels, components: The pixel likelihood, as for `VAE`.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        steps: int = 16,
        latents: int = 10,
        hidden: int = 256,
        read: int = 2,
        write: int = 5,
        pixels: str | None = None,
        components: int | None = None,
    ) -> None:
        super().__init__(space)
        if steps < 1 or latents < 1 or hidden < 1 or 1 in (read, write) or min(read, write) < 0:
            raise ValueError(
                f"DRAW: steps={steps}, latents={latents}, hidden={hidden}, read={read}, write={write}; wanted 1 or more, "
                "and windows of 2 or more filters a side, or 0 for none"
            )
        self.likelihood = pixel_likelihood(space, pixels, components)
        channels, height, width = space.sizes
        outputs = self.likelihood.num_parameters
        self.hidden, self.read_size, self.write_size = hidden, read, write
        self.layers = {f"z{t + 1}": (latents,) for t in range(steps)}
        patch = 2 * channels * (read**2 if read else height * width)
        self.encoder = nn.LSTMCell(patch + hidden, hidden)
        self.decoder = nn.LSTMCell(latents, hidden)
        self.posterior = nn.Linear(hidden, 2 * latents)
        self.patch = nn.Linear(hidden, outputs * (write**2 if write else height * width))
        self.read_window = nn.Linear(hidden, PARAMETERS) if read else None
        self.write_window = nn.Linear(hidden, PARAMETERS) if write else None
        self.canvas = nn.Parameter(self.likelihood.initial().view(-1, 1, 1).expand(outputs, height, width).clone())
        with torch.no_grad():
            for layer in (self.patch, self.read_window, self.write_window):
                if layer is not None:
                    layer.weight.mul_(0.1)
                    layer.bias.zero_()
            for cell in (self.encoder, self.decoder):
                cell.bias_ih[hidden : 2 * hidden] = 1.0  # remember at first

    def _start(self, n: int) -> tuple[Tensor, State]:
        zero = torch.zeros(n, self.hidden, device=self.device, dtype=self.dtype)
        return self.canvas.expand(n, -1, -1, -1), (zero, zero)

    def _write(self, canvas: Tensor, h: Tensor) -> Tensor:
        """c_t of c_{t−1}, (n, parameters, H, W), and h_dec_t."""
        height, width = canvas.shape[2:]
        patch = self.patch(h).to(self.dtype)
        if self.write_window is None:
            return canvas + patch.view_as(canvas)
        size = self.write_size
        window = attention_window(self.write_window(h).to(self.dtype), size, height, width)
        return canvas + window.write(patch.view(len(h), -1, size, size))

    def _read(self, x: Tensor, canvas: Tensor, h: Tensor) -> Tensor:
        """r_t, (n, 2 C N²), of images on [−1, 1] and what the canvas lacks of them."""
        both = torch.cat([x, x - self._mean_image(canvas)], dim=1)
        if self.read_window is None:
            return both.flatten(1)
        window = attention_window(self.read_window(h).to(self.dtype), self.read_size, *x.shape[2:])
        return window.read(both).flatten(1)

    def _mean_image(self, canvas: Tensor) -> Tensor:
        """The image that the canvas shows, on [−1, 1], (n, C, H, W): for the encoder, so any guess will do."""
        channels, name = self.space.sizes[0], self.likelihood.name
        if name in ("bernoulli", "emission"):
            return torch.tanh(canvas / 2)
        if name == "categorical":
            levels = torch.linspace(-1, 1, self.space.levels, device=canvas.device, dtype=canvas.dtype)
            return torch.einsum("nclhw,l->nchw", canvas.unflatten(1, (channels, -1)).softmax(2), levels)
        # (1 + 2 C + coupling) numbers a component: a logit each, then for each component its means.
        size = self._components
        share = canvas[:, :size].softmax(1).unsqueeze(2)
        means = canvas[:, size:].unflatten(1, (size, -1))[:, :, :channels]
        return (share * means).sum(1).clamp(-1, 1)

    @property
    def _components(self) -> int:
        channels = self.space.sizes[0]
        return self.likelihood.num_parameters // (1 + 2 * channels + channels * (channels - 1) // 2)

    def canvases(self, n: int, choose: Choose) -> list[Tensor]:
        """c_0 .. c_T, (n, parameters, H, W) each, of n data whose latents are chosen step by step."""
        canvas, state = self._start(n)
        out = [canvas]
        for layer, shape in self.layers.items():
            z = choose(layer, standard_normal(self, n, shape))
            state = self._decode(z, state)
            canvas = self._write(canvas, state[0])
            out.append(canvas)
        return out

    def _decode(self, z: Tensor, state: State) -> State:
        h, c = self.decoder(z, state)
        return h.to(self.dtype), c.to(self.dtype)

    def generate(self, n: int, choose: Choose) -> PixelDistribution:
        return self.likelihood(self.canvases(n, choose)[-1])

    def choose_posterior(self, x: Tensor, choose: Choose) -> None:
        self._draw(self.space.validate(x) - self.space.offset, choose)

    def _draw(self, levels: Tensor, choose: Choose) -> Tensor:
        """c_T of levels from 0, (n, C, H, W), each step's latents chosen given their posterior."""
        image = levels.to(self.dtype) * (2 / (self.space.levels - 1)) - 1
        canvas, decoder = self._start(len(levels))
        encoder = decoder
        for layer in self.layers:
            read = self._read(image, canvas, decoder[0])
            h, c = self.encoder(torch.cat([read, decoder[0]], dim=1), encoder)
            encoder = h.to(self.dtype), c.to(self.dtype)
            mean, raw = self.posterior(h).to(self.dtype).chunk(2, dim=1)
            decoder = self._decode(choose(layer, Gaussian(mean, bounded(raw))), decoder)
            canvas = self._write(canvas, decoder[0])
        return canvas

    def infer(self, x: Tensor, k: int, generator: Noise) -> Inference:
        levels = self.space.validate(x) - self.space.offset
        batch = len(x)
        many = levels.repeat(k, 1, 1, 1)  # (k B, C, H, W): what is read depends on the draws before
        latents: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}

        def draw(layer: str, posterior: Gaussian) -> Tensor:
            shape = (k, batch, *self.layers[layer])
            noise = randomness.normal(shape, generator, device=self.device, dtype=self.dtype).flatten(0, 1)
            z = posterior.draw(noise)
            zero = torch.zeros_like(z)
            parts = Gaussian(zero, zero).log_prob(z), Gaussian(zero, zero).log_prob(noise) - posterior.log_std
            log_prior, log_q = (part.unflatten(0, (k, batch)) for part in parts)
            latents[layer] = z.unflatten(0, (k, batch))
            terms.update(latent_terms(layer, self.layers, log_prior, log_q))
            return z

        canvas = self._draw(many, draw)
        log_likelihood = self.likelihood(canvas).log_prob(many).unflatten(0, (k, batch))
        return Inference(latents, LogWeights({"log_likelihood": log_likelihood, **terms}))
