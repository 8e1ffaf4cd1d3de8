"""Failed episodes with what the rules say about them and what a person said: merged, counted, compared."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from volar.comparison.material import Material
from volar.comparison.result import Agreement, FailedEpisode, FailureCount, Failures, Region
from volar.core.errors import ConfigError
from volar.core.evidence import Failure
from volar.core.robot import Outcome
from volar.evaluation.plain import from_plain
from volar.evaluation.records import EpisodeRecord, Key
from volar.statistics.agreement import cohen_kappa

STAGES = ("reach", "grasp", "move", "place", "finish", "unknown")
CAUSES = (
    "never reached", "no contact", "missed grasp", "dropped", "wrong object", "wrong place", "wrong way", "collision",
    "time-out", "oscillation", "stuck", "policy refused", "value not separated at the root", "other",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Label:
    """What a person said about one failed episode. by: who."""

    stage: str
    cause: str
    by: str


def key_text(key: Key) -> str:
    """How labels.json names an episode."""
    return "|".join(map(str, key))


def read_labels(path: Path) -> dict[str, Label]:
    """`arm|task|seed` -> label, as the page exports it; none when the file is missing. ConfigError for damage."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}).") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: expected an object 'arm|task|seed' -> label, got {type(content).__name__}.")
    return {str(key): from_plain(Label, value, where=f"{path}, {key!r}") for key, value in content.items()}


def failures_of(material: Material, labels: Mapping[str, Label], regions: Sequence[Region]) -> Failures:
    """Every failed episode of a member; hand labels count before rules."""
    members = {member: plan.name for plan in material.protocol.arms for member in plan.members}
    episodes = tuple(
        _failed(record, members[record.key[0]], labels.get(key_text(record.key)))
        for record in material.records if record.key[0] in members and record.episode.success is False
    )  # fmt: skip
    told = [episode.hand or episode.rule for episode in episodes]
    counts = Counter((episode.arm, one.stage, one.cause) for episode, one in zip(episodes, told, strict=True))
    known = {key_text((episode.member, episode.task, episode.seed)) for episode in episodes}
    return Failures(
        stages=tuple(dict.fromkeys((*STAGES, *(one.stage for one in told)))),
        causes=tuple(dict.fromkeys((*CAUSES, *(one.cause for one in told)))),
        counts=tuple(
            FailureCount(arm=arm, stage=stage, cause=cause, count=count)
            for (arm, stage, cause), count in counts.most_common()
        ),
        episodes=episodes, agreement=_agreement(episodes, unknown=len(labels.keys() - known)), regions=tuple(regions),
    )  # fmt: skip


def _failed(record: EpisodeRecord, arm: str, label: Label | None) -> FailedEpisode:
    (member, task, seed), episode = record.key, record.episode
    return FailedEpisode(
        arm=arm, member=member, task=task, seed=seed, steps=episode.steps,
        rule=episode.failure or _by_outcome(record),
        hand=Failure(stage=label.stage, cause=label.cause) if label else None, by=label.by if label else "",
        film=record.film,
    )  # fmt: skip


def _by_outcome(record: EpisodeRecord) -> Failure:
    """What records without evidence tell: why the episode ended."""
    ended = {Outcome.TIME_OUT: "time-out", Outcome.TERMINATED: "terminated"}[record.episode.outcome]
    return Failure(stage="unknown", cause=ended, evidence=f"ended after {record.episode.steps} steps: {ended}")


def _agreement(episodes: Sequence[FailedEpisode], *, unknown: int) -> Agreement | None:
    both = [(episode.rule, episode.hand) for episode in episodes if episode.hand is not None]
    if not both and not unknown:
        return None
    rules, hands = (
        ([f"{one.stage}|{one.cause}" for one in side] for side in zip(*both, strict=True)) if both else ([], [])
    )
    same = sum(rule == hand for rule, hand in zip(rules, hands, strict=True))
    return Agreement(
        labelled=len(both), same=same / len(both) if both else 0.0, kappa=cohen_kappa(rules, hands), unknown=unknown
    )
