"""Tiny models for the tests of training; `conftest.py` registers them as systems."""

import torch
from torch import nn

from codelength.models.base import LikelihoodModel, LogWeights
from codelength.randomness import normal, uniform


class ToyVAE(LikelihoodModel):
    """Everything a resumed run must get right: dropout, noise, buffers that move, data-dependent initialization."""

    def __init__(self, space, *, latent=4, dropout=0.2):
        super().__init__(space)
        self.encoder = nn.Linear(space.num_dims, 8)
        self.norm, self.dropout = nn.BatchNorm1d(8), nn.Dropout(dropout)
        self.posterior, self.decoder = nn.Linear(8, 2 * latent), nn.Linear(latent, space.num_dims * space.levels)
        self.register_buffer("initialized", torch.tensor(False))

    def initialize(self, x, generator):
        assert not self.initialized
        counts = nn.functional.one_hot(x.flatten(1), self.space.levels).float().mean(0) + 0.05
        self.decoder.bias.copy_(counts.log().flatten() + 1e-3 * torch.randn(counts.numel(), generator=generator))
        self.initialized.fill_(True)

    def log_weights(self, x, k, generator):
        assert self.initialized
        hidden = self.dropout(self.norm(self.encoder(x.flatten(1).float() / self.space.levels)).relu())
        mean, log_scale = self.posterior(hidden).chunk(2, dim=1)
        noise = normal((k, *mean.shape), generator)
        z = mean + log_scale.exp() * noise
        logits = self.decoder(z).unflatten(-1, (self.space.num_dims, self.space.levels))
        picked = logits.log_softmax(-1).gather(-1, x.flatten(1).expand(k, -1, -1).unsqueeze(-1)).squeeze(-1)
        prior = (-z.square() / 2).sum(-1)
        entropy = (noise.square() / 2 + log_scale).sum(-1)
        return LogWeights({"log p(x|z)": picked.sum(-1), "log p(z) - log q(z|x)": prior + entropy})


class ToyTable(LikelihoodModel):
    """A free probability for every datum of a two-level space: it can memorize."""

    def __init__(self, space):
        super().__init__(space)
        self.logits = nn.Parameter(torch.zeros(space.levels**space.num_dims))

    def log_prob(self, x):
        place = self.space.levels ** torch.arange(self.space.num_dims)
        return self.logits.log_softmax(0)[(x.flatten(1) * place).sum(1)]


class ToyLogistic(LikelihoodModel):
    """Independent two-level dims of an image through a convolution, with a label; it counts what it is asked."""

    def __init__(self, space, *, conditional=False, fail_at=None, fail="output"):
        super().__init__(space, conditioning=("label",) if conditional else ())
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.middle = Fail(fail_at, fail)
        self.head = nn.Conv2d(4, 1, 3, padding=1)
        self.label = nn.Embedding(3, 1) if conditional else None

    def log_prob(self, x, label=None):
        logits = self.head(self.middle(self.stem(torch.zeros_like(x).float() + 0.5)))
        if self.label is not None:
            logits = logits + self.label(label)[:, :, None, None]
        return nn.functional.logsigmoid(torch.where(x == 1, logits, -logits)).float().flatten(1).sum(1)

    def sample(self, n, generator, label=None):
        return (uniform((n, *self.space.sizes), generator) < 0.5).long()


class Fail(nn.Module):
    """Passes its input on, until call number `at`."""

    def __init__(self, at, how):
        super().__init__()
        self.at, self.how, self.calls = at, how, 0

    def forward(self, x):
        self.calls += 1
        if self.at is None or self.calls < self.at:
            return x
        if self.how == "output":
            return x / 0
        return x + (x * 0).sqrt()  # finite; its derivative is not


class ToyFitted(LikelihoodModel):
    """A histogram: estimated at once."""

    def __init__(self, space):
        super().__init__(space)
        self.register_buffer("log_probs", torch.zeros(space.levels))

    def fit(self, x):
        counts = torch.bincount(x.flatten(), minlength=self.space.levels).float()
        self.log_probs.copy_((counts / counts.sum()).log())

    def log_prob(self, x):
        return self.log_probs[x].flatten(1).sum(1)


class ToyNormal(LikelihoodModel):
    """A density over real vectors."""

    def __init__(self, space):
        super().__init__(space, measure="density")
        self.mean = nn.Parameter(torch.zeros(space.num_dims))

    def log_prob(self, x):
        return torch.distributions.Normal(self.mean, 1.0).log_prob(x.to(self.mean.dtype)).sum(1)


SYSTEMS = {
    "toy_vae": "ToyVAE",
    "toy_table": "ToyTable",
    "toy_logistic": "ToyLogistic",
    "toy_fitted": "ToyFitted",
    "toy_normal": "ToyNormal",
}


def register(systems, module):
    """Add the toys to the registry of systems."""
    systems.update({name: ("baselines", f"{module}:{builder}") for name, builder in SYSTEMS.items()})
