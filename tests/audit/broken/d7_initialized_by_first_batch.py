"""D7: ActNorm's flag is no buffer, so a loaded model sets its scales from the first batch it scores."""

import torch
from torch import nn

PROBE = "P4"


class ActNorm(nn.Module):
    def __init__(self, flag_is_saved):
        super().__init__()
        self.loc, self.log_scale = nn.Parameter(torch.zeros(9)), nn.Parameter(torch.zeros(9))
        if flag_is_saved:
            self.register_buffer("initialized", torch.tensor(False))
        else:
            self.initialized = torch.tensor(False)

    def forward(self, y):
        if not self.initialized:
            with torch.no_grad():
                self.loc.copy_(y.mean(0))
                self.log_scale.copy_((y.std(0) + 1e-3).log())
            self.initialized.fill_(True)
        return (y - self.loc) * torch.exp(-self.log_scale), -self.log_scale.sum()


class Flow(nn.Module):
    shape, levels = (1, 3, 3), 16

    def __init__(self, flag_is_saved):
        super().__init__()
        self.layer = ActNorm(flag_is_saved)

    def density_log_prob(self, y):
        z, log_det = self.layer(y.flatten(1))
        return (-z - 2 * nn.functional.softplus(-z)).sum(1) + log_det


def loaded(flag_is_saved):
    trained = Flow(flag_is_saved)
    trained.density_log_prob(16 * torch.rand(64, 1, 3, 3, generator=torch.Generator().manual_seed(18)))
    model = Flow(flag_is_saved)
    model.load_state_dict(trained.state_dict())
    return model.eval()


def broken():
    return loaded(flag_is_saved=False)


def twin():
    return loaded(flag_is_saved=True)
