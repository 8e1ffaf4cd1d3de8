"""From the words of `volar compare` to a protocol: everything that can be wrong is found here, before anything runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from volar.cli.compare import Compare
from volar.cli.entrants import Entrant, arm_plan, data_hash, enter, match_entrants, read_recipes
from volar.cli.evaluate import first_looks, one_environment, other_instruction
from volar.cli.guides import THINKING, require_reasoner
from volar.cli.settings import apply_settings
from volar.comparison.matching import Matched
from volar.comparison.protocol import FILE, Protocol, read_protocol
from volar.comparison.sources import Facts, read_sources, require_alike, take_over
from volar.core.errors import ConfigError, unknown_name
from volar.core.fingerprint import git_commit, package_versions
from volar.core.robot import Outcome, RobotSpec, require_match
from volar.envs import instructions
from volar.envs.task_names import parse_task
from volar.evaluation.records import unpaired
from volar.planning.composition import require_unsearched

EPISODES, FIRST_SEED, MAX_STEPS = 100, 1000, 150
LOOKS = {"anytime": 20, "group": 5, "fixed": 1}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """robot: of the arms that act, None when all arms are records. looks: what `first_looks` gave for them."""

    protocol: Protocol
    entrants: tuple[Entrant, ...]
    matched: tuple[Matched, ...]
    robot: RobotSpec | None
    looks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def acting(self) -> tuple[Entrant, ...]:
        return tuple(entrant for entrant in self.entrants if entrant.foreign is None)


@dataclass(frozen=True, kw_only=True)
class _Scenes:
    tasks: tuple[str, ...]
    first_seed: int
    episodes: int
    max_steps: int


def make_plan(command: Compare) -> Plan:
    """Raises ConfigError that says what does not fit."""
    sources = read_sources(command.sources)
    configs = apply_settings(read_recipes(sources), command.set)
    entrants = tuple(
        enter(source, data=command.data, configs=configs, token_variable=command.token_variable) for source in sources
    )
    scenes, robot = _scenes(command, entrants), _one_robot(entrants)
    for each in entrants:
        require_unsearched(
            each.policy or {}, scenes.tasks, range(scenes.first_seed, scenes.first_seed + scenes.episodes)
        )
    execute = read_execute(command.execute, entrants)
    looks = {} if robot is None else first_looks(scenes.tasks, robot, scenes.first_seed)
    asked = ("execute",) if any("=" in word for word in command.execute) and len({*execute.values()}) > 1 else ()
    allowed = tuple(dict.fromkeys((*command.allow, *asked)))
    require_alike({each.name: _facts(each, scenes, execute, looks) for each in entrants}, allowed)
    if not command.unpaired:
        _require_paired(entrants, scenes, looks)
    if command.data is not None:
        _require_unseen(command.data, scenes)
    _require_thoughts(command, entrants)
    if robot is not None and "shuffled_instruction" in command.controls:
        for task in scenes.tasks:
            other_instruction(scenes.tasks, task, scenes.first_seed)
    matched = _frozen_match(command, entrants) or match_entrants(
        entrants, execute, axis=_axis(command, entrants), budget=command.budget, data=command.data,
        instructions=[instructions(task)[0] for task in scenes.tasks] if robot is not None else (),
    )  # fmt: skip
    protocol = _protocol(command, entrants, matched, scenes, execute, looks, allowed)
    return Plan(protocol=protocol, entrants=entrants, matched=matched, robot=robot, looks=looks)


def _protocol(
    command: Compare, entrants: Sequence[Entrant], matched: Sequence[Matched], scenes: _Scenes,
    execute: Mapping[str, int], looks: Mapping[str, Any], allowed: tuple[str, ...],
) -> Protocol:  # fmt: skip
    acting, axis = any(each.foreign is None for each in entrants), _axis(command, entrants)
    design = command.design if command.design != "auto" else "anytime" if acting and not command.unpaired else "fixed"
    if command.unpaired and design != "fixed":
        raise ConfigError("Samples that are not paired are tested once, at the end: --design fixed.")
    if not command.training_seeds or len(set(command.training_seeds)) < len(command.training_seeds):
        raise ConfigError(
            f"--training-seeds names each seed once and at least one, got {list(command.training_seeds)}."
        )
    facts = [_facts(each, scenes, execute, looks) for each in entrants]
    return Protocol(
        question=command.question or _question([each.name for each in entrants], len(scenes.tasks)),
        primary="success",
        arms=tuple(arm_plan(e, m, command.training_seeds) for e, m in zip(entrants, matched, strict=True)),
        tasks=scenes.tasks, first_seed=scenes.first_seed, max_episodes=scenes.episodes, max_steps=scenes.max_steps,
        execute=execute, alpha=command.alpha, margin=command.margin, design=design,
        looks=command.looks or default_looks(design, scenes.episodes),
        match=None if axis == "none" else axis, budget=command.budget,
        controls=command.controls if acting else (),
        control_scenes=min(max(command.control_scenes, 0), scenes.episodes) if acting and command.controls else 0,
        pairing="unpaired" if command.unpaired else "paired", allowed=allowed,
        success_semantics=next((each.success_semantics for each in facts if each.success_semantics), "not known"),
        data=data_hash(command.data),
        environment={
            "versions": package_versions(), "simulator": next((dict(f.simulator) for f in facts if f.simulator), {})
        },
        code_version=git_commit() or package_versions()["volar"],
    )  # fmt: skip


def default_looks(design: str, episodes: int) -> tuple[int, ...]:
    """Evenly spread over the scenes, the last at all of them."""
    every = math.ceil(episodes / LOOKS[design])
    return (*range(every, episodes, every), episodes)


def read_execute(words: Sequence[str], entrants: Sequence[Entrant]) -> dict[str, int]:
    """Arm -> actions carried out per look. What servers and records say stands; the others follow it, or get half of
    the shortest horizon, where `words` (N, or ARM=N) do not say otherwise."""
    given: dict[str, int] = {}
    for word in words:
        arm, equals, number = word.rpartition("=")
        if equals and arm not in {each.name for each in entrants}:
            raise unknown_name("arm", arm, [each.name for each in entrants])
        if not number.isdecimal():
            raise ConfigError(f"--execute takes a number of actions, or ARM=N; got {word!r}.")
        given |= (
            {arm: int(number)} if equals else {each.name: int(number) for each in entrants if each.name not in given}
        )
    fixed = {each.name: count for each in entrants if (count := _own_execute(each)) is not None}
    horizons = [each.horizon for each in entrants if each.horizon is not None]
    default = next(iter(fixed.values()), max(1, min(horizons) // 2) if horizons else 1)
    found = {
        each.name: fixed.get(each.name, given.get(each.name, default)) for each in entrants
        if each.foreign is None or each.name in fixed
    }  # fmt: skip
    for each in entrants:
        if each.horizon is not None and not 1 <= found[each.name] <= each.horizon:
            raise ConfigError(
                f"execute must be 1 to {each.horizon}, the horizon of {each.name}; got {found[each.name]}."
            )
    return found


def _own_execute(entrant: Entrant) -> int | None:
    if entrant.card is not None:
        return int(entrant.card["execute"])
    values = entrant.foreign.facts().execute if entrant.foreign else frozenset()
    return next(iter(values)) if len(values) == 1 else None


def _scenes(command: Compare, entrants: Sequence[Entrant]) -> _Scenes:
    foreign = [each.foreign for each in entrants if each.foreign is not None]
    tasks = command.tasks or (foreign[0].tasks if foreign else ())
    if "tasks" in command.allow:
        tasks = tuple(task for task in tasks if all(task in each.tasks for each in foreign))
    if not tasks:
        raise ConfigError("Name the tasks: --tasks metaworld/push ...; `volar list tasks` shows them.")
    one_environment(tasks)
    seeds = [seed for each in foreign for seed in each.seeds]
    first = command.first_seed if command.first_seed is not None else min(seeds, default=FIRST_SEED)
    episodes = command.episodes if command.episodes is not None else max(seeds) - first + 1 if seeds else EPISODES
    if episodes < 1:
        raise ConfigError(f"No scene is left: episodes must be at least 1, got {episodes}.")
    steps = [step for each in foreign for step in each.facts().max_steps]
    max_steps = command.max_steps if command.max_steps is not None else max(steps, default=MAX_STEPS)
    return _Scenes(tasks=tasks, first_seed=first, episodes=episodes, max_steps=max_steps)


def _require_thoughts(command: Compare, entrants: Sequence[Entrant]) -> None:
    """Where thoughts are to be replaced, somebody has some, and everybody who has tells how they are labelled."""
    asked = [control for control in command.controls if control in THINKING]
    thinking = [each for each in entrants if asked and each.foreign is None and each.allows(asked[0])]
    if asked and not thinking:
        raise ConfigError(f"No arm reasons, so {', '.join(asked)} would change nothing; leave it out.")
    for each in thinking:
        if each.policy is not None:
            require_reasoner(each.name, each.policy, asked)


def _one_robot(entrants: Sequence[Entrant]) -> RobotSpec | None:
    first, *others = [each for each in entrants if each.robot is not None] or [None]
    for other in others:
        assert first is not None and first.robot is not None and other is not None and other.robot is not None
        require_match(first.robot, other.robot, our_name=first.name, their_name=other.name)
    return first.robot if first is not None else None


def _facts(entrant: Entrant, scenes: _Scenes, execute: Mapping[str, int], looks: Mapping[str, Any]) -> Facts:
    if entrant.foreign is not None:
        facts = entrant.foreign.facts()
        return replace(facts, tasks=facts.tasks & set(scenes.tasks))
    environment = looks["environment"]
    return Facts(
        tasks=frozenset(scenes.tasks), max_steps=frozenset({scenes.max_steps}),
        execute=frozenset({execute[entrant.name]}),
        success_semantics=str(environment.get("success", "as the environment says")), simulator=environment,
    )  # fmt: skip


def _require_paired(entrants: Sequence[Entrant], scenes: _Scenes, looks: Mapping[str, Any]) -> None:
    """Records that began otherwise than others of the same task and seed, or than the environment here."""
    taken = [
        record for each in entrants if each.foreign is not None
        for record in take_over(each.foreign, each.name, scenes.tasks) if "/" not in record.key[0]
    ]  # fmt: skip
    different = [(found.task, found.seed, dict(found.digests)) for found in unpaired(taken)]
    states = looks.get("first_states", {})
    for record in taken:
        arm, task, seed = record.key
        here = states.get(task) if seed == scenes.first_seed else None
        if (
            here is not None
            and record.episode.outcome is not Outcome.ERROR
            and record.episode.first_observation != here
        ):
            different.append((task, seed, {arm: record.episode.first_observation, "here": here}))
    if different:
        task, seed, digests = different[0]
        raise ConfigError(
            f"{len(different)} scenes of equal task and seed did not begin the same, such as {task}, seed {seed}: "
            f"{digests}. They are not paired; --unpaired compares them as independent samples."
        )


def _require_unseen(data: str, scenes: _Scenes) -> None:
    """A scene that was demonstrated must not be an examination question."""
    from volar.data.formats import open_dataset

    seeds = range(scenes.first_seed, scenes.first_seed + scenes.episodes)
    asked = {parse_task(task).base for task in scenes.tasks}  # a perturbed scene is a seen one underneath
    sources = [episode.source for episode in open_dataset(data).episodes]
    seen = [
        source for source in sources
        if source.get("seed") in seeds and str(source.get("task", "")).partition("@")[0] in asked
    ]  # fmt: skip
    if seen:
        last = max(int(source["seed"]) for source in seen)
        raise ConfigError(
            f"{len(seen)} of the scenes were demonstrated in {data}, such as {seen[0]['task']} seed {seen[0]['seed']}; "
            f"policies must be judged on new ones: --first-seed {last + 1} or higher."
        )


def _frozen_match(command: Compare, entrants: Sequence[Entrant]) -> tuple[Matched, ...] | None:
    """What was matched when the comparison in this folder began: times would come out a little differently today."""
    if not (command.out / FILE).is_file():
        return None
    frozen = read_protocol(command.out).protocol
    plans = {arm.name: arm.overrides for arm in frozen.arms}
    if (frozen.match or "none") != _axis(command, entrants) or plans.keys() != {each.name for each in entrants}:
        return None  # freeze will tell the difference
    return tuple(Matched(name=each.name, **plans[each.name]) for each in entrants)


def _axis(command: Compare, entrants: Sequence[Entrant]) -> str:
    if command.match != "auto":
        return command.match
    return "train-flops" if all(each.config is not None for each in entrants) else "none"


def _question(names: Sequence[str], tasks: int) -> str:
    reference, *others = names
    return f"{' or '.join(others)} against {reference}: who succeeds more often on {tasks} task{'s' * (tasks > 1)}?"
