"""Run what a comparison still lacks, look at the registered numbers of scenes, and stop when every pair is decided.

Every episode is kept the moment it ends. What a look says depends only on the records of its scenes, so an interrupted
comparison goes on to the same end. Judging itself is in decide.py.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from volar.comparison.decide import standings
from volar.comparison.duels import fight
from volar.comparison.material import Material
from volar.comparison.outcomes import Outcomes
from volar.comparison.protocol import FILE, Protocol, read_protocol
from volar.comparison.result import Standing
from volar.core.atomic import write_files
from volar.core.errors import ConfigError, RobotFault
from volar.core.robot import Episode, Job
from volar.envs.rollout import groups
from volar.envs.workers import Group
from volar.evaluation.episodes import LOOKING, keep_film
from volar.evaluation.plain import from_plain
from volar.evaluation.records import EpisodeRecord, RecordFile, key_of, unpaired
from volar.evaluation.run import Arm, RunInfo, begin, read_run

LOOKS, SESSIONS = "looks.jsonl", "sessions.jsonl"
BESIDE = (FILE, "arms", SESSIONS, "films")  # may lie in the folder before its run.json does
Line = TypeVar("Line")
RunGroups = Callable[[Sequence[Group]], Generator[Episode, None, None]]


@dataclass(frozen=True, kw_only=True)
class PairLook:
    """A registered pair at one look, other minus reference. pairs: scenes compared over all tasks; left_out: scenes
    that differed, broke or were met by one arm only. e_value: of the anytime design, else None."""

    reference: str
    other: str
    pairs: int
    left_out: int
    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    equivalence_p: float | None
    e_value: float | None
    decision: Standing


@dataclass(frozen=True, kw_only=True)
class Look:
    """One line of looks.jsonl. scenes: per task. protocol: its hash. records: number of lines and bytes of
    episodes.jsonl at that moment and the SHA-256 of these bytes, so that a later change shows."""

    scenes: int
    protocol: str
    records: Mapping[str, Any]
    pairs: tuple[PairLook, ...]
    stop: bool


@dataclass(frozen=True, kw_only=True)
class Session:
    """One start of the command: how many records there were, and with what it ran."""

    records: int
    environment: Mapping[str, Any]
    code_version: str


def planned_jobs(
    protocol: Protocol, arms: Mapping[str, Arm], *, films: int, instruct: Callable[[str, int], str]
) -> list[list[Job]]:
    """What has to be run before each look, in the order of looks; inside, all jobs of a task and an arm in a row.

    arms: members and controls that act here (records bring their own). films: scenes per task whose episodes are
    filmed. instruct(task, seed): what a shuffled instruction says.
    """
    blocks = []
    for start, stop in zip((0, *protocol.looks), protocol.looks, strict=False):
        jobs = []
        for task in protocol.tasks:
            for name, arm in arms.items():
                last = stop if name in protocol.members else min(stop, protocol.control_scenes)
                for scene in range(start, last):
                    seed = protocol.first_seed + scene
                    jobs.append(
                        Job(
                            task=task, seed=seed, arm=name, max_steps=protocol.max_steps,
                            instruction=instruct(task, seed) if arm.role == "shuffled_instruction" else None,
                            frames="looks" if arm.role in LOOKING and scene < films else "none",
                        )
                    )  # fmt: skip
        blocks.append(jobs)
    return blocks


def run_session(
    folder: Path, info: RunInfo, blocks: Sequence[Sequence[Job]], session: Session, *,
    run: RunGroups, imported: Iterable[tuple[Episode, str | None]] = (),
) -> tuple[Look, ...]:  # fmt: skip
    """Returns all looks. The folder holds a frozen protocol; run.json, episodes.jsonl, films/, looks.jsonl and
    sessions.jsonl are written beside it.

    blocks: what `planned_jobs` gave. run: runs groups of jobs,
    such as `partial(run_groups, make_env=..., make_actor=..., workers=...)`. imported: episodes of other records,
    re-keyed, with their films. Raises RobotFault when arms did not meet the same scene although the protocol says so.
    """
    registration = read_protocol(folder)
    if (folder / "run.json").exists():  # another session may have other versions; sessions.jsonl says so
        info = replace(info, fingerprint=read_run(folder).fingerprint)
    begin(folder, info, beside=BESIDE)
    looks = read_looks(folder)
    if looks and looks[-1].stop:
        return looks
    with RecordFile(folder / "episodes.jsonl") as records:
        _append(folder / SESSIONS, {**asdict(session), "records": len(records.known)})
        for episode, film in imported:
            if key_of(episode.job) not in records.known:
                records.append(episode, film=film)
        watch = _Watch(folder, registration.protocol, registration.sha256, info, blocks, records, looks)
        if watch.look():
            return watch.looks
        due = [group for block in blocks for group in groups(block, 1) if key_of(group[0]) not in records.known]
        running = run(due)
        try:
            for episode in running:
                records.append(episode, film=keep_film(folder, episode))
                if watch.look():
                    break
        finally:
            running.close()
        return watch.looks


class _Watch:
    """Looks as soon as everything that a look needs is recorded."""

    def __init__(
        self, folder: Path, protocol: Protocol, sha256: str, info: RunInfo, blocks: Sequence[Sequence[Job]],
        records: RecordFile, looks: tuple[Look, ...],
    ) -> None:  # fmt: skip
        self.folder, self.protocol, self.sha256, self.info = folder, protocol, sha256, info
        self.records, self.looks = records, looks
        self._missing = [{key_of(job) for job in block} for block in blocks]

    def look(self) -> bool:
        """Take every look that is due; True when the comparison is at its end."""
        while len(self.looks) < len(self.protocol.looks):
            missing = self._missing[len(self.looks)]
            missing.difference_update(self.records.known)
            if missing:
                return False
            found = self._take(self.protocol.looks[len(self.looks)])
            self.looks = (*self.looks, found)
            _append(self.folder / LOOKS, asdict(found))
            if found.stop:
                return True
        return True

    def _take(self, scenes: int) -> Look:
        records = [record for record in self.records.known.values() if _scene(record, self.protocol) < scenes]
        if self.protocol.pairing == "paired" and (different := unpaired(records)):
            raise RobotFault(
                f"{different[0].task}, seed {different[0].seed} did not begin the same for all arms (and "
                f"{len(different) - 1} more scenes): {dict(different[0].digests)}. They cannot be compared in pairs; "
                f"the environment is not deterministic, or records come from another one (--unpaired treats them so)."
            )
        pairs = judge_pairs(self.folder, self.protocol, self.info, records)
        done = scenes == self.protocol.max_episodes or all(
            pair.decision in ("better", "worse", "equivalent") for pair in pairs
        )
        content = self.records.path.read_bytes()
        written = {
            "count": len(self.records.known), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()
        }  # fmt: skip
        return Look(scenes=scenes, protocol=self.sha256, records=written, pairs=pairs, stop=done)


def judge_pairs(
    folder: Path, protocol: Protocol, info: RunInfo, records: Sequence[EpisodeRecord]
) -> tuple[PairLook, ...]:
    """The registered test of every registered pair on these records."""
    material = Material(
        folder=folder, registration=read_protocol(folder), run=info, records=records, outcomes=Outcomes(records),
        ledger={}, notes=(),
    )  # fmt: skip
    duels = [duel for duel in fight(material) if duel.registered]
    decisions = standings([duel.judged for duel in duels], protocol)
    return tuple(
        PairLook(
            reference=duel.reference.name, other=duel.other.name,
            pairs=duel.scenes.total, left_out=duel.scenes.left_out.total,
            estimate=duel.judged.interval.estimate if duel.judged else None,
            low=duel.judged.interval.low if duel.judged else None,
            high=duel.judged.interval.high if duel.judged else None,
            p=duel.judged.p if duel.judged else None,
            equivalence_p=duel.judged.equivalence_p if duel.judged else None,
            e_value=1 / max(duel.judged.p, 1e-300) if duel.judged and protocol.design == "anytime" else None,
            decision=decision,
        )
        for duel, decision in zip(duels, decisions, strict=True)
    )  # fmt: skip


def read_looks(folder: Path) -> tuple[Look, ...]:
    """Raises ConfigError for a damaged file."""
    return _read_lines(Look, folder / LOOKS)


def read_sessions(folder: Path) -> tuple[Session, ...]:
    """Raises ConfigError for a damaged file."""
    return _read_lines(Session, folder / SESSIONS)


def _read_lines(cls: type[Line], path: Path) -> tuple[Line, ...]:
    found = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), start=1):
        where = f"{path}, line {number}"
        try:
            content = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{where} is not JSON ({error}); restore the file.") from error
        found.append(from_plain(cls, content, where=where))
    return tuple(found)


def _scene(record: EpisodeRecord, protocol: Protocol) -> int:
    return record.episode.job.seed - protocol.first_seed


def _append(path: Path, line: Mapping[str, Any]) -> None:
    """The file is rewritten as a whole, so it never holds half a line."""
    before = path.read_bytes() if path.exists() else b""
    write_files({path: before + json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"})
