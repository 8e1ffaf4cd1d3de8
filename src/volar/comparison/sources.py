"""What may take part in a comparison: recipes, checkpoints, policy servers, and records of evaluations run elsewhere.

Records are taken over under new names, with every difference between the evaluations named first. Free of torch.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from volar.comparison.protocol import Kind
from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import Outcome
from volar.evaluation.episodes import film_path
from volar.evaluation.records import EpisodeRecord, read
from volar.evaluation.run import Arm, Role, RunInfo, read_run

NAMED = re.compile(r"([A-Za-z][\w.-]*)=(.+)", re.DOTALL)
CONTROLS = (
    "shuffled_instruction", "blank_images", "oracle_thoughts", "shuffled_thoughts", "random_actions", "expert",
)  # fmt: skip
# what --allow takes -> what it lets arms differ in
ALLOWANCES = {
    "success-semantics": "when an episode counts as a success",
    "simulator": "simulator, its version or its settings",
    "max-steps": "steps until time-out",
    "execute": "actions carried out per look",
    "tasks": "tasks; those that all have are compared",
    "provenance": "whether it is known how they were evaluated",
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One arm as it was named on the command line. where: path or address, for records with `#arm` where several."""

    name: str
    kind: Kind
    where: str


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """Records of one policy, and of its control arms, from an evaluation that was run elsewhere. arm: its name there.
    info: None where no run.json lies beside the records."""

    folder: Path
    arm: str
    sha256: str
    records: tuple[EpisodeRecord, ...]
    controls: Mapping[Role, tuple[EpisodeRecord, ...]]
    info: RunInfo | None

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(record.key[1] for record in self.records))

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({record.key[2] for record in self.records}))

    def facts(self) -> "Facts":
        """Raises nothing: what is not known is None."""
        judged = [each.episode for each in self.records if each.episode.outcome is not Outcome.ERROR]
        environment = self.info.fingerprint.get("environment") if self.info else None
        return Facts(
            tasks=frozenset(self.tasks),
            max_steps=frozenset(record.episode.job.max_steps for record in self.records),
            execute=frozenset(episode.executed_per_chunk for episode in judged),
            success_semantics=self.info.success_semantics if self.info else None,
            simulator=environment if isinstance(environment, Mapping) else None,
        )


@dataclass(frozen=True, kw_only=True)
class Facts:
    """How an arm is or was evaluated, as far as it is known: what arms have to share."""

    tasks: frozenset[str]
    max_steps: frozenset[int]
    execute: frozenset[int]
    success_semantics: str | None
    simulator: Mapping[str, Any] | None


def read_sources(words: Sequence[str]) -> tuple[Source, ...]:
    """`name=where` or `where`; equal names get numbers. ConfigError for what is nothing of the four kinds."""
    if len(words) < 2:
        raise ConfigError(
            f"A comparison needs two arms or more, got {len(words)}; an arm is a recipe, a checkpoint, a policy server "
            f"or a record file."
        )
    sources = []
    for word in words:
        match = NAMED.fullmatch(word)
        name, where = (match[1], match[2]) if match else ("", word)
        sources.append(Source(name=name or _name_of(where), kind=kind_of(where), where=where))
    names = [source.name for source in sources]
    given = [name for word, name in zip(words, names, strict=True) if NAMED.fullmatch(word)]
    if len(set(given)) < len(given):
        raise ConfigError(f"Each arm needs a name of its own, got {', '.join(given)}.")
    return tuple(
        replace(source, name=f"{source.name}-{i + 1}") if names.count(source.name) > 1 else source
        for i, source in enumerate(sources)
    )


def kind_of(where: str) -> Kind:
    """Decided by what lies there; ConfigError when nothing does."""
    if where.startswith(("ws://", "wss://")):
        return "served"
    path = Path(where.partition("#")[0])
    if path.suffix == ".py":
        return "recipe"
    if path.suffix == ".jsonl" or (path / "episodes.jsonl").is_file():
        return "records"
    if any((path / name).exists() for name in ("config.json", "composition.json", "language.json", "checkpoints")):
        return "checkpoint"
    raise ConfigError(
        f"{where} is nothing that can be compared: neither a recipe (.py), nor a checkpoint or training run, nor an "
        f"evaluation (episodes.jsonl, or a folder with it), nor the address of a policy server (ws://host:port)."
    )


def read_foreign(where: str) -> Foreign:
    """Records at `path` or `path#arm`. ConfigError for a damaged file, no episode, or when the arm is not clear."""
    place, _, wanted = where.partition("#")
    path = Path(place) if Path(place).suffix == ".jsonl" else Path(place) / "episodes.jsonl"
    records = read(path)
    if not records:
        raise ConfigError(f"{path} holds no finished episode; there is nothing to compare.")
    info = read_run(path.parent) if (path.parent / "run.json").is_file() else None
    roles: dict[str, Role] = {record.key[0]: _role(info, record.key[0]) for record in records}
    arm = _choose(path, wanted, [name for name, role in roles.items() if role in ("policy", "other")], roles)
    return Foreign(
        folder=path.parent, arm=arm, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), info=info,
        records=tuple(record for record in records if record.key[0] == arm),
        controls={
            role: tuple(record for record in records if record.key[0] == name)
            for name, role in roles.items() if role in CONTROLS and name in (role, f"{arm}/{role}")
        },
    )  # fmt: skip


def require_alike(arms: Mapping[str, Facts], allowed: Sequence[str]) -> None:
    """Raise one ConfigError that lists every difference between arms which `allowed` does not name."""
    for name in allowed:
        if name not in ALLOWANCES:
            raise unknown_name("allowance", name, ALLOWANCES)
    problems = []
    unknown = [name for name, facts in arms.items() if facts.success_semantics is None or facts.simulator is None]
    if unknown and "provenance" not in allowed:
        problems.append(
            f"it is not known how {', '.join(unknown)} was evaluated: run.json with success semantics and simulator is "
            f"missing (--allow provenance)"
        )
    told = {
        "success-semantics": {n: facts.success_semantics for n, facts in arms.items() if facts.success_semantics},
        "simulator": {name: facts.simulator for name, facts in arms.items() if facts.simulator is not None},
        "max-steps": {name: sorted(facts.max_steps) for name, facts in arms.items()},
        "execute": {name: sorted(facts.execute) for name, facts in arms.items() if facts.execute},
        "tasks": {name: sorted(facts.tasks) for name, facts in arms.items()},
    }
    for key, values in told.items():
        if key not in allowed and _differ(key, values):
            shown = "; ".join(f"{name}: {_short(value)}" for name, value in values.items())
            problems.append(f"{ALLOWANCES[key].partition(';')[0]}: {shown} (--allow {key})")
    if problems:
        raise ConfigError("The arms were not evaluated alike:\n  " + "\n  ".join(problems))


def take_over(foreign: Foreign, name: str, tasks: Sequence[str]) -> Iterator[EpisodeRecord]:
    """The records under the name that the arm has here, on the compared tasks; `film` still leads to the old folder."""
    named = {name: foreign.records, **{f"{name}/{role}": some for role, some in foreign.controls.items()}}
    for arm, records in named.items():
        for record in records:
            if record.key[1] in tasks:
                episode = replace(record.episode, job=replace(record.episode.job, arm=arm))
                yield replace(record, episode=episode)


def copy_film(foreign: Foreign, record: EpisodeRecord, folder: Path) -> str | None:
    """Copy the film of a record that was taken over into `folder`; None where there is none (any more)."""
    if record.film is None or not (foreign.folder / record.film).is_file():
        return None
    path = film_path(record.episode.job).with_suffix(Path(record.film).suffix)
    (folder / path.parent).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(foreign.folder / record.film, folder / path)
    return str(path)


def control_arms(name: str, foreign: Foreign) -> dict[str, Arm]:
    """What run.json says about the controls that come with the records."""
    return {f"{name}/{role}": Arm(role=role, description="from the same records") for role in foreign.controls}


def _differ(key: str, values: Mapping[str, Any]) -> bool:
    several = key in ("max-steps", "execute") and any(len(value) > 1 for value in values.values())
    return several or len({json.dumps(value, sort_keys=True) for value in values.values()}) > 1


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else text[:297] + "..."


def _choose(path: Path, wanted: str, policies: Sequence[str], arms: Mapping[str, Role]) -> str:
    if wanted:
        if wanted not in arms:
            raise unknown_name(f"arm in {path}", wanted, arms)
        return wanted
    if len(policies) == 1:
        return policies[0]
    choices = ", ".join(f"{path.parent}#{name}" for name in policies or arms)
    raise ConfigError(f"{path} holds {len(policies)} policies; say which one: {choices}.")


def _role(info: RunInfo | None, arm: str) -> Role:
    if info is not None and arm in info.arms:
        return info.arms[arm].role
    for role in CONTROLS:
        if arm in (role, f"policy/{role}"):
            return role
    return "policy"


def _name_of(where: str) -> str:
    place, _, arm = where.partition("#")
    if where.startswith(("ws://", "wss://")):
        return "served"
    path = Path(place).resolve()
    if path.suffix == ".jsonl":
        path = path.parent
    name = re.sub(r"[^\w.-]", "-", arm or (path.stem if path.suffix == ".py" else path.name))
    return name if name[:1].isalpha() else f"arm-{name}"
