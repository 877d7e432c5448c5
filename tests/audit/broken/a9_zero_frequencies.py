"""A9: the code table rounds small probabilities to frequency 0, so that rare symbols decode to others, silently."""

import numpy as np
import torch

PROBE = "P7"
TOTAL = 1 << 16


class Coder:
    """Independent symbols, coded as one big mixed-radix integer of cumulative frequencies (an exact range coder)."""

    shape, levels = (24,), 32

    def __init__(self, at_least_one):
        logits = 3 * torch.randn(32, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        p = torch.softmax(logits, 0).numpy()
        if at_least_one:
            frequency = np.floor(p * (TOTAL - 32)).astype(int) + 1
            frequency[frequency.argmax()] += TOTAL - frequency.sum()
        else:
            frequency = np.diff(np.round(np.concatenate([[0], np.cumsum(p)]) * TOTAL).astype(int))
        self.frequency = frequency.tolist()
        self.start = np.concatenate([[0], np.cumsum(frequency)]).tolist()
        self.log_p = torch.log(torch.tensor(np.maximum(frequency, 1e-9) / TOTAL) if at_least_one else torch.tensor(p))

    def log_prob(self, x):
        return self.log_p[x].sum(1)

    def encode(self, x):
        state = 1
        for symbol in reversed(x.flatten().tolist()):
            frequency = max(1, self.frequency[symbol])
            state = (state // frequency) * TOTAL + self.start[symbol] + state % frequency
        return state.to_bytes((state.bit_length() + 7) // 8, "little")

    def decode(self, blob, n):
        state, out = int.from_bytes(blob, "little"), []
        for _ in range(n * 24):
            slot = state % TOTAL
            symbol = int(np.searchsorted(self.start, slot, side="right")) - 1
            state = max(1, self.frequency[symbol]) * (state // TOTAL) + slot - self.start[symbol]
            out.append(symbol)
        return torch.tensor(out).reshape(n, 24)


def broken():
    return Coder(at_least_one=False)


def twin():
    return Coder(at_least_one=True)
