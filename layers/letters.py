"""The kernels of one layer's parts, as engines launch them: a mixer (attention or a recurrence) or an MLP.

`MIXERS` and `MLPS` say which function builds a letter of `Model.mixers` and `Model.mlps`. Reads the `Model` record.
Kernels that differ between kinds of layers have different names, so that those of one name are alike.
"""

from typing import TYPE_CHECKING

from ridgepoint.layers.attention import attention_mixer
from ridgepoint.layers.mlps import both, dense, mixture
from ridgepoint.layers.recurrent import recurrent
from ridgepoint.layers.sizes import Pass
from ridgepoint.ops import Op, add_rms_norm, linear, residual_add, rms_norm

if TYPE_CHECKING:
    from ridgepoint.model import Model


def after(model: "Model", part: str, p: Pass, count: int) -> list[Op]:
    """What follows a part: its output joins the residual stream, which is normed for the next part."""
    number, tokens, hidden = p.number(count), p.tokens, model.hidden
    if model.parallel_block and part == "attn":  # one norm for both parts; their sum joins with the MLP
        return []
    ops = [rms_norm(part + "_post_norm", tokens=tokens, hidden=hidden, **number)] if model.sandwich_norms else []
    if model.layer_scalar and part == "mlp":
        ops.append(residual_add("layer_scale", tokens=tokens, hidden=hidden, weights=1, **number))
    streams = model.residual_streams
    if streams == 1:
        return [*ops, add_rms_norm(part + "_add_norm", tokens=tokens, hidden=hidden, **number)]
    maps = 2 * streams + streams**2  # into the part, out of it, among the streams (hyper-connections)
    return [
        *ops,
        linear("stream_proj", tokens=tokens, d_in=streams * hidden, d_out=maps, bias=maps + 3, **number),
        residual_add("stream_mix", tokens=tokens, hidden=streams * hidden, **number),
        rms_norm(part + "_norm", tokens=tokens, hidden=hidden, **number),
    ]


MIXERS = dict.fromkeys("FSCITAH", attention_mixer) | dict.fromkeys("MGK", recurrent)
MLPS = dict.fromkeys("Dabcdefghijkl", dense) | {"E": mixture, "H": mixture, "B": both}
NONE = "-"  # of either: the layer has no such part
