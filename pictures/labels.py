"""Labels beside the kernels of a picture, where they hide least."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.transforms import Bbox

LABEL_SHARE = 0.01  # of a phase's time, below which a kernel stays unlabelled
DEGREES = (-30, -60, -90, 0, -120, 30, 60, 90, 150, 180, -150, 120, *range(-165, 180, 30))  # to labels, the best first
ROUNDS = 3  # of placing labels


@dataclass(frozen=True)
class Point:
    """A kernel in the picture."""

    colour: str
    label: str
    share: float  # of its phase's time
    x: float  # FLOP per byte
    y: float  # FLOP/s

    @property
    def area(self) -> float:  # of the marker, in square points
        return 20 + 2500 * self.share


def neighbours(kernels: list[Point]) -> list[list[Point]]:
    """The labelled kernels in groups of one colour that touch; each group gets one label."""
    groups: list[list[Point]] = []
    for point in sorted(kernels, key=lambda p: (p.colour, p.x)):
        last = groups[-1][-1] if groups else None
        if last and point.colour == last.colour and max(point.x / last.x, point.y / last.y, last.y / point.y) < 1.6:
            groups[-1].append(point)
        else:
            groups.append([point])
    return [sorted(group, key=lambda p: -p.share) for group in groups]


def place_labels(axes: plt.Axes, kernels: list[Point], curves: list[np.ndarray], others: list) -> None:
    """A label for each group of kernels, with a leader, where it hides as little as can be of labels, markers, leaders,
    roofs and the `others`.
    """
    groups = sorted(neighbours([p for p in kernels if p.share >= LABEL_SHARE]), key=lambda group: -group[0].share)
    if not groups:
        return
    how = {"transform": None, "zorder": 4, "fontsize": 9, "parse_math": False}
    labels = [axes.text(0, 0, "\n".join(p.label for p in group), color=group[0].colour, **how) for group in groups]
    targets = axes.transData.transform([(group[0].x, group[0].y) for group in groups])
    inside = axes.get_window_extent().padded(-4)
    sizes = [np.array(label.get_window_extent().size) for label in labels]
    places = [
        [box for box in around(target, size, axes.figure.dpi) if all(inside.contains(*p) for p in box.get_points())]
        for target, size in zip(targets, sizes, strict=True)
    ]
    taken = [artist.get_window_extent().padded(4) for artist in others]
    markers = [Bbox.from_extents(*centre - radius, *centre + radius) for centre, radius in discs(axes, kernels)]
    boxes = arrange(places, targets, axes.transData.transform(np.concatenate(curves)), ends(markers), ends(taken))
    for label, target, box in zip(labels, targets, boxes, strict=True):
        label.set_transform(axes.transData)  # from pixels to data: the file may have other pixels
        label.set_position(axes.transData.inverted().transform(box.min))
        line = axes.transData.inverted().transform(leader(target, box))
        axes.plot(*line.T, color="#888888", lw=0.7, zorder=2)


def ends(boxes: list[Bbox]) -> np.ndarray:
    """[n, 2, 2]: lower left and upper right corners."""
    return np.array([box.get_points() for box in boxes]).reshape(-1, 2, 2)


def arrange(places, targets: np.ndarray, curves: np.ndarray, markers: np.ndarray, taken: np.ndarray) -> list[Bbox]:
    """The best of the `places` of each label: first beside those chosen before it, then, a few times, beside all."""
    best: dict[int, Bbox] = {}
    for _ in range(ROUNDS):
        for index, (boxes, target) in enumerate(zip(places, targets, strict=True)):
            rest = {other: box for other, box in best.items() if other != index}
            lines = np.array([leader(targets[other], box) for other, box in rest.items()]).reshape(-1, 30, 2)
            hides = partial(hidden, target, curves, lines, markers, np.concatenate([taken, ends(list(rest.values()))]))
            best[index] = min(boxes, key=hides)
    return [best[index] for index in range(len(best))]


def around(target: np.ndarray, size: np.ndarray, dpi: float) -> Iterator[Bbox]:
    """Places for a label of that size, the nearest first."""
    for distance in (0.6, 1.0, 1.5, 2.2, 3.0, 4.0, 5.5, 7.0, 9.0):
        for degrees in DEGREES:
            turn = np.radians(degrees)
            way = np.array([np.cos(turn), np.sin(turn)])
            centre = target + way * (distance * 40 * dpi / 100 + np.abs(way) @ size / 2)
            yield Bbox([centre - size / 2, centre + size / 2])


def leader(target: np.ndarray, box: Bbox) -> np.ndarray:
    """Points [30, 2] along the line from a marker to its label."""
    return np.linspace(target, np.clip(target, box.min, box.max), 30)


def hidden(
    target: np.ndarray, curves: np.ndarray, lines: np.ndarray, markers: np.ndarray, taken: np.ndarray, box: Bbox
) -> int:
    """How much a label in `box` and its leader would hide or cross: points of curves, markers, and most of all other
    labels and their leaders, `lines`.
    """
    (low, high), own = box.padded(3).get_points(), leader(target, box)

    def crossed(others: np.ndarray) -> int:
        return int(np.any(np.all((own > others[:, :1]) & (own < others[:, 1:]), axis=2), axis=1).sum())

    def under(others: np.ndarray) -> int:
        return ((others[:, 1] > low) & (others[:, 0] < high)).all(axis=1).sum()

    points = ((curves > low) & (curves < high)).all(axis=1).sum()
    crossing = crossed(taken) + ((lines > low) & (lines < high)).all(axis=2).any(axis=1).sum()
    return points + 10 * crossed(markers) + 50 * under(markers) + 500 * crossing + 1000 * under(taken)


def discs(axes: plt.Axes, kernels: list[Point]) -> list[tuple[np.ndarray, float]]:
    """(centre, radius) of the markers, in pixels."""
    centres = axes.transData.transform([(p.x, p.y) for p in kernels])
    radii = (np.sqrt(p.area / np.pi) * axes.figure.dpi / 72 for p in kernels)
    return list(zip(centres, radii, strict=True))
