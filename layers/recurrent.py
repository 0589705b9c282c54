"""The kernels of recurrent layers."""

from typing import TYPE_CHECKING

from ridgepoint.layers.sizes import Pass
from ridgepoint.ops import Op, causal_conv, gated_norm, recurrence

if TYPE_CHECKING:
    from ridgepoint.model import Model


def recurrent(model: "Model", letter: str, p: Pass, count: int) -> list[Op]:
    """Mamba-2 (M), gated delta net (G), Kimi delta attention (K): projections, a short convolution over q, k and v (B,
    C and x), the recurrence, a gated norm.
    """
    key_heads, heads, key_dim, value_dim = model.recurrent_shape
    keys, values, hidden = key_heads * key_dim, heads * value_dim, model.hidden
    name = {"M": "mamba_", "G": "delta_", "K": "kda_"}[letter]
    number, tokens, channels = p.number(count), p.tokens, 2 * keys + values
    # beside q, k, v and the output gate: what decides decay and step size
    extra, weights = {"M": (heads, 3 * heads), "G": (2 * heads, 2 * heads), "K": (key_dim + heads, keys + heads)}[
        letter
    ]
    gate = key_dim if model.linear_gate_low_rank else values
    ops = p.projection("attention", name + "in_proj", hidden, channels + gate + extra, count)
    if model.linear_gate_low_rank:
        ops += p.projection("attention", name + "gate_proj", key_dim, values, count)
    if letter == "K":
        ops += p.projection("attention", name + "decay_proj", key_dim, keys, count)
    bias, taps = channels if model.conv_bias else 0, model.linear_conv_width
    norms, norm_width = (1, values) if letter == "M" else (heads, value_dim)
    return [
        *ops,
        causal_conv(name + "conv", batch=p.batch, q_len=p.q_len, channels=channels, taps=taps, bias=bias, **number),
        recurrence(
            name + ("state_update" if p.one_query else "scan"),
            batch=p.batch,
            q_len=p.q_len,
            key_heads=key_heads,
            value_heads=heads,
            key_dim=key_dim,
            value_dim=value_dim,
            chunk=model.linear_chunk,
            delta_rule=letter != "M",
            state_elem_bytes=model.state_elem_bytes,
            decays=key_dim if letter == "K" else 1,
            weights=weights,
            **number,
        ),
        gated_norm(name + "norm", rows=tokens * norms, width=norm_width, weights=norm_width, **number),
        *p.projection("attention", name + "out_proj", values, hidden, count),
    ]
