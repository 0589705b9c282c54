"""How tokens spread over the experts of a mixture: expectations in closed form. No hardware, no time.

Each token chooses top_k different experts. Uniform routing (imbalance 0) chooses among all alike; otherwise the load
of the r-th busiest expert goes with r ** -imbalance. Sizes may be arrays where they say Number; they broadcast.
"""

from functools import lru_cache

import numpy as np

Number = int | float | np.ndarray

GROUPS = 32  # of experts with like loads, finer towards the busiest, so that a sweep stays cheap


@lru_cache(maxsize=256)
def expert_groups(experts: int, top_k: int, imbalance: float) -> tuple[np.ndarray, np.ndarray]:
    """(experts in each group, the chance that a token chooses one of them), busiest first.
    The chances of all experts add up to top_k and none is above 1: what the busiest can't take goes to the others, in
    proportion.
    >>> count, chance = expert_groups(3, 1, 1.0)  # loads as 1 : 1/2 : 1/3
    >>> [round(float(x), 4) for x in chance]
    [0.5455, 0.2727, 0.1818]
    """
    load = np.arange(1, experts + 1, dtype=float) ** -imbalance
    full = 0  # experts that every token chooses
    while full < top_k and (top_k - full) * load[full] > load[full:].sum():
        full += 1
    chance = np.ones(experts)
    chance[full:] = np.minimum((top_k - full) * load[full:] / load[full:].sum(), 1.0)
    edges = np.unique(np.round(np.geomspace(1, experts + 1, GROUPS + 1))).astype(int) - 1
    count = np.diff(edges).astype(float)
    return count, np.add.reduceat(chance, edges[:-1]) / count


def distinct_experts(tokens: Number, experts: int, top_k: int, imbalance: float = 0.0) -> Number:
    """Expected number of experts that at least one of `tokens` chooses: the sum over experts of
    1 - (1 - chance) ** tokens; with uniform routing the chance is top_k / experts.
    >>> distinct_experts(1, 8, 2)
    2.0
    """
    if not imbalance:
        return experts * (1 - (1 - top_k / experts) ** tokens)
    count, chance = expert_groups(experts, top_k, imbalance)
    return (count * (1 - (1 - chance) ** np.asarray(tokens, dtype=float)[..., None])).sum(-1)


def expert_tiles(tokens: Number, experts: int, top_k: int, rows: int, imbalance: float = 0.0) -> Number:
    """Expected sum over experts of ceil(its tokens / rows), the tiles that hold them.
    An expert with `mean` tokens on average, chosen at all with chance `used`, fills mean / rows tiles, and its last
    tile is on average a half, less half a row, too long: mean / rows + used * (rows - 1) / (2 * rows), but never less
    than the one tile of an expert that is used. Exact for one row, for few tokens and for many.
    >>> float(expert_tiles(10, 4, 2, 1))  # one row a tile: as many tiles as tokens * top_k
    20.0
    >>> float(expert_tiles(1, 8, 2, 64))  # one token: a tile for each of its experts
    2.0
    """
    tokens = np.asarray(tokens, dtype=float)[..., None]
    count, chance = (
        expert_groups(experts, top_k, imbalance)
        if imbalance
        else (np.array([float(experts)]), np.array([top_k / experts]))
    )
    used, mean = 1 - (1 - chance) ** tokens, tokens * chance
    return (count * np.maximum(used, mean / rows + used * (rows - 1) / (2 * rows))).sum(-1)
