"""Ways to run a case that change which passes there are: a cached prefix, chunked prefill, speculative decoding.

Each is a list of passes for `model.forward`; the estimator times them. Every assumption is in its docstring.
"""

from dataclasses import dataclass

import numpy as np

from ridgepoint.inputs import InputError
from ridgepoint.ops import Floats, Number

MAX_CHUNKS = 2**17  # of one prompt


@dataclass(frozen=True)
class Passes:
    """`times` passes over `batch` sequences, each with `q_len` new tokens that end a context of `kv_len`. In chunked
    prefill kv_len may be an array: as many passes for each of its elements.
    """

    batch: Number
    q_len: Number
    kv_len: Number
    times: int = 1


def prefill_passes(batch: Number, prompt: Number, prefix: int, chunk: int | None) -> list[Passes]:
    """The passes that bring every prompt into the KV cache.

    prefix: tokens at the start of every prompt that are in the cache already (a system prompt): they are attended to,
    not computed. chunk: at most so many tokens in a pass; a pass takes as many whole prompts as fit, or else a part of
    one, so that TTFT is the time until the last sequence has its first token. Raises InputError if nothing is left.
    """
    if np.any(np.asarray(prompt) <= prefix):
        raise InputError(f"prefix-tokens ({prefix}) must be below input-tokens: the last token is always computed")
    new = prompt - prefix
    if chunk is None:
        return [Passes(batch, new, prompt)]
    if np.ndim(batch) or np.ndim(prompt):
        raise InputError("chunked-prefill takes single sizes, not arrays")
    batch, new, prompt = int(batch), int(new), int(prompt)
    if chunk >= new:
        together = min(batch, chunk // new)
        whole, rest = divmod(batch, together)
        passes = [Passes(together, new, prompt, whole)]
        return passes + ([Passes(rest, new, prompt)] if rest else [])
    chunks = -(-new // chunk)
    if chunks > MAX_CHUNKS:
        raise InputError(f"chunked-prefill {chunk} cuts {new:,} tokens into more than {MAX_CHUNKS:,} chunks")
    last = (chunks - 1) * chunk  # tokens before the last chunk
    passes = [Passes(1, chunk, prefix + chunk, batch)]
    if chunks > 2:  # apart from the first, which has no context, and so other kernels where a chunk is short
        passes.append(Passes(1, chunk, prefix + np.arange(2.0 * chunk, last + 1, chunk), batch))
    return [*passes, Passes(1, new - last, prefix + new, batch)]


def expected_tokens(draft_tokens: int, acceptance: float) -> float:
    """Tokens that a speculative step yields on average: the accepted run of the draft's guesses and one of the model's
    own, (1 - a**(k+1)) / (1 - a), each guess being accepted independently with probability a.
    Source: Leviathan, Kalman, Matias, arXiv:2211.17192, equation 1.
    >>> expected_tokens(3, 0.5)  # 1 + 1/2 + 1/4 + 1/8
    1.875
    """
    if acceptance == 1.0:
        return draft_tokens + 1.0
    return (1 - acceptance ** (draft_tokens + 1)) / (1 - acceptance)


def speculative_contexts(prompt: int, output: int, draft_tokens: int, acceptance: float) -> Floats:
    """Context lengths of the verification passes (draft_tokens + 1 new tokens each) that yield output - 1 tokens."""
    each = expected_tokens(draft_tokens, acceptance)
    steps = int(np.ceil((output - 1) / each)) if output > 1 else 0
    yielded: Floats = np.floor(each * np.arange(steps))
    return prompt + yielded + draft_tokens + 1.0
