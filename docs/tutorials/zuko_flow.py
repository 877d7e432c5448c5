"""A zuko flow on the protocol: dequantized, trained, measured with K samples, compared pair by pair with a table."""

import torch
import zuko

from codelength import build_model, compare, evaluate, load_data
from codelength.adapters import from_zuko

data = load_data("digits")  # 8x8, 17 levels
train = data.split("train").batch(slice(None))
torch.manual_seed(0)
flow = zuko.flows.NSF(features=data.space.num_dims, transforms=2, hidden_features=(64,))
model = from_zuko(flow, data.space, preprocessing="logit")

optimizer = torch.optim.Adam(flow.parameters(), lr=3e-3)
generator = torch.Generator().manual_seed(0)
for _ in range(150):
    x = train[torch.randint(len(train), (128,), generator=generator)]
    loss = -model.log_weights(x, 1, generator).total.mean()  # the bound of one sample
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model.eval()

ours = evaluate(model, data, "test", model_name="zuko NSF", family="flows", samples=16)
table = build_model("context_table", data.space)
table.fit(train)
theirs = evaluate(table, data, "test", model_name="context table", family="baselines")
for evaluation in (ours, theirs):
    r = evaluation.record
    print(
        f"{r.model}: {r.kind}, K = {r.num_samples}: {r.bits_per_dim:.3f} ± {r.standard_error_bits_per_dim:.3f} bits/dim"
    )
print(compare([ours, theirs]).pairs[0].sentence())
