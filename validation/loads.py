"""How the benchmarks behind validate.py spread tokens over experts: the rows of each expert of the rank they time.

aiconfigurator's collectors either give all experts alike ("balanced") or draw each expert's share from a density that
falls with x ** -alpha: from 1 to 0.8 times the tokens, or from 0.01 to 2 where there are no more pairs of token and
expert than experts. Shares are scaled to the pairs and rounded; what rounding leaves over goes to or comes from
experts in an order that changed between versions. With expert parallelism, the busiest rank is timed.
"""

from functools import cache

import numpy as np

DRAWS = 5  # routings that a benchmark averages over


@cache
def drawn_loads(
    tokens: int, experts: int, top_k: int, ranks: int, alpha: float, remainder: str
) -> tuple[np.ndarray, ...]:
    """Rows of each expert of the timed rank, one array [experts / ranks] for each routing. alpha 0: balanced, one.
    remainder: who gets what rounding leaves: "largest" or "smallest" experts first, or the smallest of "each rank".
    """
    if not alpha:
        stride = -(-experts // top_k)
        every, choice = np.arange(min(tokens, 4 * experts))[:, None], np.arange(top_k)
        token: np.ndarray = every if tokens >= stride else every * stride / tokens
        rows = np.bincount(((token + choice * stride) % experts).astype(int).ravel(), minlength=experts)
        return (rows[: experts // ranks] * (tokens / token.shape[0]),)
    random = np.random.default_rng([tokens, experts, top_k, ranks, round(100 * alpha)])
    return tuple(_drawn(random, tokens, experts, top_k, ranks, alpha, remainder) for _ in range(DRAWS))


def _drawn(
    random: np.random.Generator, tokens: int, experts: int, top_k: int, ranks: int, alpha: float, remainder: str
) -> np.ndarray:
    low, high = (1.0, 0.8 * tokens) if tokens * top_k > experts else (0.01, 2.0)
    low, high = low ** (1 - alpha), high ** (1 - alpha)
    share = (low + (high - low) * random.random(experts)) ** (1 / (1 - alpha))
    rows = np.rint(share / share.sum() * tokens * top_k)
    if remainder != "largest":
        rows = np.minimum(rows, tokens)
    left = int(tokens * top_k - rows.sum())
    if remainder == "each rank":
        rows = rows.reshape(ranks, -1)
        for rank in range(ranks):
            units = abs(left) // ranks + (rank < abs(left) % ranks)
            rows[rank] = _levelled(rows[rank], units) if left > 0 else -_levelled(-rows[rank], units)
    else:
        order = np.argsort(-rows, kind="stable")
        if (remainder == "largest") != (left > 0):
            order = order[::-1]
        each, more = divmod(abs(left), experts)
        rows[order] += np.sign(left) * (each + (np.arange(experts) < more))
        for _ in range(4):  # an expert takes each token once: what is above goes to the smallest
            over = rows.sum() - np.clip(rows, 0, tokens).sum()
            rows = np.clip(rows, 0, tokens)
            each, more = divmod(max(int(over), 0), experts)
            rows[np.argsort(rows, kind="stable")] += each + (np.arange(experts) < more)
        rows = np.clip(rows, 0, tokens).reshape(ranks, -1)
    return rows[rows.sum(1).argmax()]


def _levelled(rows: np.ndarray, units: int) -> np.ndarray:
    """`rows`, sorted, after `units` were given away one at a time, each to the smallest."""
    rows = np.sort(rows)
    needed = np.arange(rows.size) * rows - (np.cumsum(rows) - rows)  # to lift all before to this one
    lifted = int(np.searchsorted(needed, units, side="right"))
    level, more = divmod(rows[:lifted].sum() + units, lifted)
    rows[:lifted] = level
    rows[: int(more)] += 1
    return rows
