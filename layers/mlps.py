"""The kernels of dense MLPs and mixtures of experts."""

from typing import TYPE_CHECKING

from ridgepoint.layers.sizes import Pass
from ridgepoint.ops import Layer, Op, activation, combine, grouped_linear, linear, residual_add, rms_norm, route, swiglu

if TYPE_CHECKING:
    from ridgepoint.model import Model


def mlp(
    model: "Model",
    p: Pass,
    count: int,
    *,
    d_in: int,
    width: int,
    names: tuple[str, str, str],
    bias: bool,
    part: str = "mlp",
) -> list[Op]:
    """Up (and gate), activation, down. `names` of the three."""
    up, act, down = names
    factor, function = (2, swiglu) if model.gated_mlp else (1, activation)
    return [
        *p.projection(part, up, d_in, factor * width, count, factor * width * bias),
        function(act, tokens=p.tokens, intermediate=width, **p.number(count)),
        *p.projection(part, down, width, d_in, count, d_in * bias),
    ]


def dense(model: "Model", letter: str, p: Pass, count: int) -> list[Op]:
    """The MLP of a dense layer: `intermediate` wide (D), or one of the other widths (a is the first)."""
    other = letter.islower()
    width = model.other_widths[ord(letter) - ord("a")] if other else model.intermediate
    end = f"_{width}" if other else ""
    up, act = ("gate_up_proj", "swiglu") if model.gated_mlp else ("up_proj", "activation")
    names = (up + end, act + end, "down_proj" + end)
    return mlp(model, p, count, d_in=model.hidden, width=width, names=names, bias=model.mlp_bias)


def mixture(model: "Model", letter: str, p: Pass, count: int) -> list[Op]:
    """Router, top-k, the chosen experts in two grouped GEMMs, their weighted sum; shared experts as a dense MLP.
    Letter H: experts chosen by the token, with no bias of the router.
    """
    hidden, experts, chosen, width = model.hidden, model.experts, model.experts_per_token, model.expert_intermediate
    tokens, number, inner = p.tokens, p.number(count), model.moe_latent or model.hidden
    factor, act, function = (2, "swiglu", swiglu) if model.gated_mlp else (1, "activation", activation)
    hashed = "hash_" if letter == "H" else ""
    bias = experts if model.router_bias and not hashed else 0
    per_expert_scale = experts if letter == "B" else 0
    up_bias, down_bias = (factor * width, inner) if model.expert_bias else (0, 0)

    def grouped(name: str, d_in: int, d_out: int, bias: int) -> Op:
        loads = {"experts": experts, "top_k": chosen, "width": width}
        layer = Layer(d_in=d_in, d_out=d_out, bias=bias, precision=p.formats("experts"), **number)
        return grouped_linear(name, tokens=tokens, imbalance=p.imbalance, **loads, **layer)

    ops = [
        linear(hashed + "router", tokens=tokens, d_in=hidden, d_out=experts, bias=bias, **number),
        route("route", tokens=tokens, experts=experts, top_k=chosen, weights=per_expert_scale, **number),
    ]
    if model.moe_latent:
        ops += p.projection("mlp", "latent_down", hidden, inner, count)
        if model.moe_latent_norm:
            ops.append(rms_norm("latent_norm", tokens=tokens, hidden=inner, **number))
    ops += [
        *p.narrowed("experts", "experts_up", tokens, inner, count),
        grouped("experts_up", inner, factor * width, up_bias),
        function("experts_" + act, tokens=tokens * chosen, intermediate=width, **number),
        *p.narrowed("experts", "experts_down", tokens * chosen, width, count),
        grouped("experts_down", width, inner, down_bias),
        combine("experts_combine", tokens=tokens, top_k=chosen, hidden=inner, **number),
    ]
    if model.moe_latent:
        ops += p.projection("mlp", "latent_up", inner, hidden, count)
    if model.shared_expert_intermediate:
        names = ("shared_up", "shared_" + act, "shared_down")
        shared = model.shared_expert_intermediate
        ops += mlp(model, p, count, d_in=hidden, width=shared, names=names, bias=False, part="shared")
        if model.shared_expert_gate:
            ops.append(linear("shared_gate", tokens=tokens, d_in=hidden, d_out=1, **number))
        ops.append(residual_add("shared_add", tokens=tokens, hidden=hidden, **number))
    return ops


def both(model: "Model", letter: str, p: Pass, count: int) -> list[Op]:
    """A dense MLP and a mixture beside it, each with norms of its own (Gemma 4)."""

    def norm(name: str) -> Op:
        return rms_norm(name, tokens=p.tokens, hidden=model.hidden, **p.number(count))

    return [
        *dense(model, letter, p, count),
        norm("mlp_inner_norm"),
        norm("router_norm"),
        norm("experts_norm"),
        *mixture(model, letter, p, count),
        norm("experts_post_norm"),
        residual_add("experts_add", tokens=p.tokens, hidden=model.hidden, **p.number(count)),
    ]
