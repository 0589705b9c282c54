"""The kernels of recurrent layers."""

from ridgepoint.layers.sizes import Pass
from ridgepoint.ops import Op, causal_conv, gated_norm, recurrence


def recurrent(model, letter: str, p: Pass, count: int) -> list[Op]:
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
    one_per_head = {"rows": tokens * heads, "width": value_dim, "weights": value_dim}
    norm = {"rows": tokens, "width": values, "weights": values} if letter == "M" else one_per_head
    sizes = {"batch": p.batch, "q_len": p.q_len}
    return [
        *ops,
        causal_conv(name + "conv", channels=channels, taps=taps, bias=bias, **sizes, **number),
        recurrence(
            name + ("state_update" if p.one_query else "scan"),
            key_heads=key_heads,
            value_heads=heads,
            key_dim=key_dim,
            value_dim=value_dim,
            chunk=model.linear_chunk,
            delta_rule=letter != "M",
            state_elem_bytes=model.state_elem_bytes,
            decays=key_dim if letter == "K" else 1,
            weights=weights,
            **sizes,
            **number,
        ),
        gated_norm(name + "norm", **norm, **number),
        *p.projection("attention", name + "out_proj", values, hidden, count),
    ]
