"""Where two arms differ most: task by task, and by thirds of what was measured at the beginning of each scene.

Looking at many parts finds differences by chance; intervals and p-values are corrected for all that were looked at.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.stats import norm

from volar.comparison.duels import Duel
from volar.comparison.material import Material
from volar.comparison.outcomes import paired_draws
from volar.comparison.result import Region
from volar.evaluation.wording import task_labels
from volar.statistics.multiple import holm

FEWEST = 12  # scenes of a part
PARTS = ("the lowest third of", "the middle third of", "the highest third of")
SHOWN = 8


def regions_of(material: Material, duels: Sequence[Duel]) -> tuple[Region, ...]:
    """The registered pairs' parts, the least likely chance first, at most SHOWN. Each interval is at Bonferroni's level
    over all parts of all pairs; the p-values are Holm's."""
    parts = [
        (duel, name, values)
        for duel in duels if duel.registered and duel.scenes.total
        for name, values in _parts(material, duel) if len(values) >= FEWEST
    ]  # fmt: skip
    if not parts:
        return ()
    found, raw = [], []
    confidence = 1 - material.protocol.alpha / len(parts)
    for duel, name, values in parts:
        draws = paired_draws([values])
        assert draws is not None
        raw.append(float(2 * norm.sf(abs(draws.z()))))
        found.append((duel, name, len(values), draws.interval(confidence)))
    regions = [
        Region(reference=duel.reference.name, other=duel.other.name, region=name, scenes=scenes, interval=interval,
               adjusted_p=float(p))
        for (duel, name, scenes, interval), p in zip(found, holm(raw), strict=True)
    ]  # fmt: skip
    return tuple(sorted(regions, key=lambda region: (region.adjusted_p, -abs(region.interval.estimate)))[:SHOWN])


def _parts(material: Material, duel: Duel) -> Iterator[tuple[str, np.ndarray]]:
    names = task_labels(material.protocol.tasks)
    for task, values in duel.scenes.values.items():
        if len(duel.scenes.values) > 1:
            yield f"{names[task]}", np.array(list(values.values()))
        for measure, begun in _beginnings(material, duel.reference.members[0], task).items():
            seeds = [seed for seed in values if seed in begun]
            if len(seeds) < 3 * FEWEST:
                continue
            at = np.array([begun[seed] for seed in seeds])
            limits = np.quantile(at, [1 / 3, 2 / 3])
            if limits[0] == at.min() or limits[1] == at.max():  # the same in most scenes
                continue
            third = np.searchsorted(limits, at)
            for place, part in enumerate(PARTS):
                chosen = [values[seed] for seed, where in zip(seeds, third, strict=True) if where == place]
                between = f"{at[third == place].min():.3g} to {at[third == place].max():.3g}"
                yield f"{names[task]}, {part} {measure} at the start ({between})", np.array(chosen)


def _beginnings(material: Material, member: str, task: str) -> Mapping[str, Mapping[int, float]]:
    """measure -> seed -> its value before the first step, which is the same for every arm."""
    begun: dict[str, dict[int, float]] = {}
    for seed, episode in material.outcomes.episodes(member, task).items():
        for measure, track in episode.tracks.items():
            begun.setdefault(measure, {})[seed] = track.first
    return begun
