"""Parameters and FLOPs against torch's own count of a plain Llama on the meta device: equal, exactly."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ridgepoint.model import LLAMA3_8B, Model, forward

TINY = Model(
    name="tiny",
    title="tiny",
    layers=3,
    hidden=96,
    heads=6,
    kv_heads=2,
    head_dim=32,
    intermediate=224,
    vocab=1000,
    max_positions=512,
)


class Block(nn.Module):
    """A Llama decoder layer: separate projections and the full score matrix, as in the paper."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model
        self.q = nn.Linear(model.hidden, model.heads * model.head_dim, bias=False)
        self.k = nn.Linear(model.hidden, model.kv_heads * model.head_dim, bias=False)
        self.v = nn.Linear(model.hidden, model.kv_heads * model.head_dim, bias=False)
        self.o = nn.Linear(model.heads * model.head_dim, model.hidden, bias=False)
        self.gate = nn.Linear(model.hidden, model.intermediate, bias=False)
        self.up = nn.Linear(model.hidden, model.intermediate, bias=False)
        self.down = nn.Linear(model.intermediate, model.hidden, bias=False)
        self.norm1, self.norm2 = nn.RMSNorm(model.hidden), nn.RMSNorm(model.hidden)

    def forward(self, x, cached):
        batch, q_len, _ = x.shape

        def split(y):
            return y.view(batch, q_len, -1, self.model.head_dim).transpose(1, 2)

        y = self.norm1(x)
        past = torch.empty(batch, self.model.kv_heads, cached, self.model.head_dim, device=x.device)
        k, v = torch.cat([past, split(self.k(y))], 2), torch.cat([past, split(self.v(y))], 2)
        group = self.model.heads // self.model.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = functional.softmax(split(self.q(y)) @ k.transpose(2, 3), dim=-1)
        x = x + self.o((scores @ v).transpose(1, 2).reshape(batch, q_len, -1))
        y = self.norm2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    def __init__(self, model: Model):
        super().__init__()
        self.embedding = nn.Embedding(model.vocab, model.hidden)
        self.blocks = nn.ModuleList(Block(model) for _ in range(model.layers))
        self.norm = nn.RMSNorm(model.hidden)
        self.head = nn.Linear(model.hidden, model.vocab, bias=False)

    def forward(self, ids, cached):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, cached)
        return self.head(self.norm(x)[:, -1])


@pytest.mark.parametrize("model", [TINY, LLAMA3_8B], ids=lambda m: m.name)
@pytest.mark.parametrize(("batch", "q_len", "kv_len"), [(2, 64, 64), (3, 1, 77), (1, 16, 40)])
def test_counts_equal_torch(model, batch, q_len, kv_len):
    with torch.device("meta"):
        network = Llama(model)
        ids = torch.empty(batch, q_len, dtype=torch.long)
        counter = FlopCounterMode(display=False)
        with counter:
            network(ids, cached=kv_len - q_len)
    assert sum(p.numel() for p in network.parameters()) == model.parameters

    by_kind = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()}
    gemm_flops, attention_flops = by_kind.pop("aten.mm"), by_kind.pop("aten.bmm")
    assert not by_kind  # nothing else was counted
    ops = forward(model, batch=batch, q_len=q_len, kv_len=kv_len)
    assert sum(op.count * op.flops for op in ops if op.kind == "gemm") == gemm_flops
    naive = forward(model, batch=batch, q_len=q_len, kv_len=kv_len, attention_kernel="naive")
    unfused = sum(op.count * op.flops for op in naive if op.name in ("qk_scores", "pv"))
    assert unfused == attention_flops
    # torch computed the whole q x kv square; the causal part of it is what flash attention does
    square = q_len * kv_len
    visible = sum(kv_len - q_len + i + 1 for i in range(q_len))
    flash = sum(op.count * op.flops for op in ops if op.kind == "attention")
    assert flash * square == attention_flops * visible
