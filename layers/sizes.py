"""The sizes of one pass, as the builders of layers ask for them."""

from dataclasses import dataclass

import numpy as np

from ridgepoint.layers.formats import Precision
from ridgepoint.ops import Cached, Number, Op, Tail, few_queries, linear, quantize


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """The sizes of one pass: `batch` sequences, each with `q_len` new tokens that end a context of `kv_len`.

    precision: the formats of the layers' linear layers and of the cache; None: `dtype` throughout. Routers, an
    indexer's projections, absorbed ones, norms, embedding and LM head stay in `dtype`, as checkpoints and engines keep
    them; an indexer's keys and scores are fp8 where anything is.
    imbalance: as in ops.expert_groups. absorb: latent attention always runs on the latents themselves.
    """

    batch: Number
    q_len: Number
    kv_len: Number
    dtype: str
    elem_bytes: int
    naive: bool = False
    precision: Precision | None = None
    imbalance: float = 0.0
    absorb: bool = False

    @property
    def tokens(self) -> Number:
        return self.batch * self.q_len

    @property
    def one_query(self) -> bool:
        return np.ndim(self.q_len) == 0 and self.q_len == 1

    @property
    def absorbed(self) -> bool:
        """Does latent attention run on the latents themselves?"""
        return self.absorb or self.few

    @property
    def few(self) -> bool:
        """Few new tokens after a long context: decode's kernels."""
        return few_queries(self.q_len, self.kv_len)

    def number(self, count: int) -> Tail:
        return {"dtype": self.dtype, "elem_bytes": self.elem_bytes, "count": count}

    def cached(self, width: int, count: int) -> Cached:
        """`number`, with what an element of the cache takes, whose scales each span `width` elements."""
        held = self.elem_bytes if self.precision is None else self.precision.kv_cache.element_bytes(width)
        return {**self.number(count), "kv_elem_bytes": held}

    def indexed(self, dim: int, count: int) -> Cached:
        """`cached` for the keys of an indexer, with what they are multiplied in."""
        if self.precision is None or not self.precision.floats_8_bit:
            return {**self.number(count), "kv_elem_bytes": self.elem_bytes}
        held = self.precision.index_key_bytes(dim, self.elem_bytes)
        return {"dtype": "fp8", "elem_bytes": 1, "count": count, "kv_elem_bytes": held}

    def formats(self, part: str) -> Precision | None:
        """Of the linear layers of one of formats.PARTS."""
        return None if self.precision is None else self.precision.of(part)

    def narrowed(self, part: str, name: str, rows: Number, width: int, count: int) -> list[Op]:
        """The kernel that narrows the input [rows, width] of the product `name`, if there is one."""
        formats = self.formats(part)
        if formats is None or not formats.quantized_activations:
            return []
        return [quantize(f"{name}_quant", tokens=rows, width=width, form=formats.activations, **self.number(count))]

    def projection(
        self, part: str, name: str, d_in: int, d_out: int, count: int, bias: int = 0, rows: Number | None = None
    ) -> list[Op]:
        """A linear layer of a layer on `rows` (default: the pass's tokens), with what narrows its input."""
        rows, formats = self.tokens if rows is None else rows, self.formats(part)
        op = linear(name, tokens=rows, d_in=d_in, d_out=d_out, bias=bias, precision=formats, **self.number(count))
        return [*self.narrowed(part, name, rows, d_in, count), op]
