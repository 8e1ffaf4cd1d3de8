"""`volar data curate PATH --score NAME`: score demonstrations, keep the best of every task, weigh the rest."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro

from volar.cli.output import Output


@dataclass(frozen=True, kw_only=True)
class Curate:
    """Score every episode, and write which ones to keep, with scores and weights, as plain JSON.

    `volar train RECIPE --episodes FILE` learns from the kept ones only, with `--episode-weights` in proportion to their
    weights. No score finds every defect, and several drop good demonstrations of a rarer way: look at the lowest before
    you drop them.
    """

    path: tyro.conf.Positional[str]
    """folder or URL of the data set"""
    score: tuple[str, ...]
    """names from `volar list scores`, or package.module:function; several are joined by an episode's mean rank"""
    keep: float = 0.8
    """fraction of every task's episodes that is kept"""
    temperature: float = 1.0
    """of the weights: how many standard deviations of the score make a factor of e"""
    out: Path | None = None
    """file to write; by default nothing is written"""
    dimensions: tuple[str, ...] = ()
    """numbers of proprioception that are the robot's motion, such as hand_x hand_y hand_z; by default all that vary"""
    policy: Path | None = None
    """a run trained on the data set, for the scores `held_out` and `influence`"""
    rollouts: str | None = None
    """episodes that such a policy ran, from `volar data rollouts`, for `rollout_success` and `influence`"""
    segment: int = 20
    """frames of a segment"""
    worst: int = 5
    """how many of the worst segments are shown"""
    seed: int = 0
    """of whatever a score draws"""


def curate(command: Curate) -> Output:
    """Raises ConfigError for an unknown score, or one that lacks its evidence."""
    from volar.data.curation.scores import Evidence
    from volar.data.curation.select import choice, worst_segments, write_choice
    from volar.data.formats import open_dataset
    from volar.train.curation import TABLE

    functions = {name: TABLE.load(name) for name in command.score}
    evidence = Evidence(
        seed=command.seed, dimensions=command.dimensions, policy=command.policy, progress=True,
        rollouts=open_dataset(command.rollouts) if command.rollouts else None,
    )  # fmt: skip
    dataset = open_dataset(command.path)
    scores = {name: score(dataset, evidence) for name, score in functions.items()}
    content = choice(dataset, scores, keep=command.keep, temperature=command.temperature)
    if command.out is not None:
        write_choice(command.out, content)
    segments = {
        name: [asdict(each) for each in worst_segments(dataset, found, length=command.segment, count=command.worst)]
        for name, found in scores.items() if found.frames is not None
    }  # fmt: skip
    data = {**content, "segments": segments, "out": str(command.out) if command.out else None}
    return Output(data, "\n".join(_text(data, len(dataset.episodes))))


def _text(data: dict, count: int) -> list[str]:
    dropped = sorted(set(range(count)) - set(data["episodes"]))
    lines = [f"{len(data['episodes'])} of {count} episodes kept. Dropped: {', '.join(map(str, dropped)) or 'none'}."]
    for name, values in data["scores"].items():
        low, middle, high = np.quantile(values, [0, 0.5, 1])
        lines += [f"{name}: lowest {low:.4g}, median {middle:.4g}, highest {high:.4g}"]
        lines += [f"  {data['notes'][name]}"] if name in data["notes"] else []
        worst = np.argsort(values, kind="stable")[:5].tolist()
        lines += [f"  lowest episodes: {', '.join(f'{index} ({values[index]:.4g})' for index in worst)}"]
        for segment in data["segments"].get(name, []):
            place = f"episode {segment['episode']}, frames {segment['start']} to {segment['stop'] - 1}"
            lines += [f"  worst segment: {place} ({segment['score']:.4g})"]
    return [*lines, f"Written: {data['out']}" if data["out"] else "Nothing written; --out FILE keeps the choice."]


def main(arguments: list[str]) -> Output:
    return curate(tyro.cli(Curate, prog="volar data curate", args=arguments))
