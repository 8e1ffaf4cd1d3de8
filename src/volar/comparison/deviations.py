"""Where a comparison departed from what it had promised, in sentences for the reader. Judges no arm."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence

from volar.comparison.material import Material
from volar.comparison.protocol import Protocol
from volar.comparison.session import LOOKS, SESSIONS, Look, Session, read_looks, read_sessions
from volar.core.robot import Episode, Outcome
from volar.evaluation.run import differences


def deviations(material: Material) -> tuple[str, ...]:
    """None found: an empty tuple. Raises ConfigError when looks.jsonl or sessions.jsonl is damaged."""
    looks = read_looks(material.folder)
    return (
        *_of_files(material, looks),
        *_of_surroundings(material.protocol, read_sessions(material.folder)),
        *_of_looks(material.protocol, looks),
        *_of_episodes(material),
        *_of_controls(material, looks),
        *(f"Agreed beforehand: the arms may differ in {name}." for name in material.protocol.allowed),
    )


def _of_files(material: Material, looks: Sequence[Look]) -> Iterator[str]:
    registration = material.registration
    if not registration.intact:
        yield "protocol.json was changed after it was frozen."
    claimed = {str(material.run.settings.get("protocol", registration.sha256)), *(look.protocol for look in looks)}
    if claimed - {registration.sha256}:
        yield "The episodes were run under another protocol than the one in protocol.json."
    content = (material.folder / "episodes.jsonl").read_bytes()
    for look in looks:
        size = look.records["bytes"]
        if len(content) < size or hashlib.sha256(content[:size]).hexdigest() != look.records["sha256"]:
            yield f"episodes.jsonl was changed after the look at {look.scenes} scenes: it is not what {LOOKS} is about."
            break


def _of_surroundings(protocol: Protocol, sessions: Sequence[Session]) -> Iterator[str]:
    if not sessions:
        yield f"{SESSIONS} is missing, so it is not known with which versions the episodes were run."
    frozen = json.loads(json.dumps(dict(protocol.environment)))
    told: dict[str, int] = {}
    for session in sessions:
        found = list(differences(frozen, dict(session.environment)))
        if session.code_version != protocol.code_version:
            found.append(f"code: {protocol.code_version} registered, {session.code_version} run")
        for line in found:
            told.setdefault(line, session.records)
    for line, records in told.items():
        yield f"From episode {records + 1} on, it ran with something else than registered: {_reworded(line)}."


def _reworded(line: str) -> str:
    return line.replace(" there, ", " registered, ").replace(" asked for now", " run")


def _of_looks(protocol: Protocol, looks: Sequence[Look]) -> Iterator[str]:
    taken = [look.scenes for look in looks]
    if taken != list(protocol.looks[: len(taken)]):
        yield f"The test was evaluated at {taken} scenes per task, registered were {list(protocol.looks)}."
    stops = [look.scenes for look in looks if look.stop]
    if not stops:
        reached = taken[-1] if taken else 0
        yield (
            f"The comparison is not finished: {reached} of at most {protocol.max_episodes} scenes per task are "
            f"complete and the stopping rule has not been met."
        )
    elif stops[0] != taken[-1]:
        yield f"It went on after the stopping rule had been met at {stops[0]} scenes per task."


def _of_episodes(material: Material) -> Iterator[str]:
    protocol, known = material.protocol, set(material.protocol.members)
    beyond = Counter(
        sentence for record in material.records for sentence in _of_episode(protocol, record.episode, known)
    )
    for sentence, count in beyond.items():
        yield f"{sentence} ({count} episode{'s' * (count > 1)})."


def _of_episode(protocol: Protocol, episode: Episode, members: set[str]) -> Iterator[str]:
    job = episode.job
    if job.seed not in protocol.seeds:
        yield f"Scenes outside the registered seeds {protocol.first_seed} to {protocol.seeds[-1]} were met"
    if job.max_steps != protocol.max_steps and "max-steps" not in protocol.allowed:
        yield f"{job.arm} had {job.max_steps} steps instead of the registered {protocol.max_steps}"
    if job.arm not in members or episode.outcome is Outcome.ERROR:
        return
    wanted = protocol.execute.get(protocol.arm_of(job.arm).name)
    if wanted is not None and episode.executed_per_chunk != wanted:
        yield f"{job.arm} carried out {episode.executed_per_chunk} actions per look instead of the registered {wanted}"


def _of_controls(material: Material, looks: Sequence[Look]) -> Iterator[str]:
    protocol = material.protocol
    scenes = min(protocol.control_scenes, looks[-1].scenes if looks else 0)
    met = Counter(record.key[0] for record in material.records)
    for name, arm in material.run.arms.items():
        expected = scenes * len(protocol.tasks)
        if arm.role in protocol.controls and met[name] < expected:
            yield f"The control {name} met {met[name]} of {expected} registered scenes."
    for role in protocol.controls:
        if role not in {arm.role for arm in material.run.arms.values()}:
            yield f"The registered control {role} was not run."
