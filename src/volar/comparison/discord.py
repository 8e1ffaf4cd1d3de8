"""Scenes that one arm solved and the other did not, with what is needed to watch both at the same moment."""

from collections.abc import Iterator, Sequence

from volar.comparison.labels import key_text
from volar.comparison.material import Material
from volar.comparison.protocol import ArmPlan
from volar.comparison.result import Discordant, FailedEpisode, Take
from volar.core.evidence import Failure
from volar.core.robot import Episode
from volar.evaluation.films import shown_frames
from volar.evaluation.records import EpisodeRecord


def discordant_scenes(material: Material, failed: Sequence[FailedEpisode]) -> tuple[Discordant, ...]:
    """For every pair with the first arm, the scenes on which members of the same place in both arms differed; those
    with films of both sides first."""
    records = {record.key: record for record in material.records}
    told = {key_text((one.member, one.task, one.seed)): one.hand or one.rule for one in failed}
    reference, *others = material.protocol.arms
    found = [scene for other in others for scene in _between(material, reference, other, records, told)]
    return tuple(sorted(found, key=lambda scene: not (scene.reference.film and scene.other.film)))


def _between(
    material: Material, reference: ArmPlan, other: ArmPlan, records: dict[tuple[str, str, int], EpisodeRecord],
    told: dict[str, Failure],
) -> Iterator[Discordant]:  # fmt: skip
    for task in material.protocol.tasks:
        for one, two in zip(reference.members, other.members, strict=False):
            for seed in material.protocol.seeds:
                left, right = records.get((one, task, seed)), records.get((two, task, seed))
                if left is None or right is None or {left.episode.success, right.episode.success} != {True, False}:
                    continue
                if left.episode.first_observation != right.episode.first_observation:
                    continue
                takes = (_take(left, told), _take(right, told))
                yield Discordant(
                    pair=other.name, task=task, seed=seed, instruction=left.episode.instruction, reference=takes[0],
                    other=takes[1], winner=(reference if left.episode.success else other).name,
                )  # fmt: skip


def _take(record: EpisodeRecord, told: dict[str, Failure]) -> Take:
    episode = record.episode
    return Take(
        member=record.key[0], success=bool(episode.success), steps=episode.steps, film=record.film,
        frame_steps=frame_steps(episode) if record.film else (), failure=told.get(key_text(record.key)),
    )  # fmt: skip


def frame_steps(episode: Episode) -> tuple[int, ...]:
    """The control step of each picture in an episode's film strip: evenly spaced looks and the last moment."""
    moments = [min(k * episode.executed_per_chunk, episode.steps) for k in range(len(episode.latencies))]
    moments.append(episode.steps)
    return tuple(moments[k] for k in shown_frames(len(moments)))
