"""What `volar compare` does once its plan is frozen: train, run episodes, add up the compute."""

import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from volar.cli.actors import JOURNAL, Acting, ActorMaker
from volar.cli.compare import Compare
from volar.cli.compare_plan import Plan
from volar.cli.entrants import Entrant, read_spending, scaled, train_member, typical_instruction
from volar.cli.evaluate import one_environment, other_instruction, square_cameras
from volar.cli.guides import THINKING
from volar.comparison.ledger import Ledger, ledger_of, write_ledgers
from volar.comparison.protocol import read_protocol
from volar.comparison.session import Session, planned_jobs, run_session
from volar.comparison.sources import control_arms, copy_film, take_over
from volar.core.atomic import FolderLock
from volar.core.fingerprint import fingerprint
from volar.core.robot import Episode
from volar.envs import instructions, make_env
from volar.envs.rollout import run_groups
from volar.envs.workers import Group
from volar.evaluation.records import read
from volar.evaluation.run import Arm, RunInfo

OF_A_POLICY = ("shuffled_instruction", "blank_images", *THINKING)  # controls that each arm has of its own


def train_members(plan: Plan, command: Compare) -> dict[str, str]:
    """Train what is missing. Returns member -> folder of its checkpoint or address of its server; records have none."""
    lock = FolderLock(command.out / "arms") if any(entrant.config for entrant in plan.entrants) else None
    try:
        return _train_members(plan, command)
    finally:
        if lock is not None:
            lock.release()


def _train_members(plan: Plan, command: Compare) -> dict[str, str]:
    policies: dict[str, str] = {}
    for entrant, matched in zip(plan.entrants, plan.matched, strict=True):
        if entrant.policy is not None:
            policies[entrant.name] = str(entrant.policy["folder"])
        if entrant.card is not None:
            policies[entrant.name] = entrant.source.where
        if entrant.config is None or command.data is None:
            continue
        for member, seed in zip(entrant.members(command.training_seeds), command.training_seeds, strict=True):
            config = replace(scaled(entrant.config, matched.steps), seed=seed)
            print(f"\nTraining {member}: {config.steps} steps ...", file=sys.stderr, flush=True)
            folder = command.out / "arms" / entrant.name / f"seed-{seed}"
            policies[member] = str(train_member(config, command.data, folder, device=command.device))
    return policies


def run_episodes(plan: Plan, command: Compare, policies: Mapping[str, str]) -> None:
    """The episodes that are missing, until the registered rule stops them."""
    protocol, acting = plan.protocol, _acting(plan, command, policies)
    info = _run_info(plan, acting, read_protocol(command.out).sha256)
    blocks = planned_jobs(
        protocol, {name: arm for name, arm in info.arms.items() if name in acting}, films=command.films,
        instruct=partial(other_instruction, protocol.tasks),
    )  # fmt: skip

    def run(groups: Sequence[Group]) -> Generator[Episode, None, None]:
        if not groups or plan.robot is None:
            return
        yield from run_groups(
            groups, make_env=partial(make_env, cameras=square_cameras(plan.robot)),
            make_actor=ActorMaker(acting, plan.robot, one_environment(protocol.tasks)),
            workers=command.workers, ray=command.ray, progress=True, ordered=True,
        )  # fmt: skip

    session = Session(records=0, environment=protocol.environment, code_version=protocol.code_version)
    run_session(command.out, info, blocks, session, run=run, imported=_taken_over(plan, command.out))


def keep_ledger(plan: Plan, command: Compare, policies: Mapping[str, str]) -> None:
    """Write ledger.json: what every policy of every arm cost, from its records, its training and itself. One that is
    newer than the records stays as it is."""
    path, source = command.out / "ledger.json", command.out / "episodes.jsonl"
    if path.exists() and path.stat().st_mtime_ns > source.stat().st_mtime_ns:
        return
    records = read(source)
    episodes = {member: [r.episode for r in records if r.key[0] == member] for member in plan.protocol.members}
    ledgers = {}
    for entrant, matched in zip(plan.entrants, plan.matched, strict=True):
        members = entrant.members(command.training_seeds)
        if entrant.foreign is not None or entrant.card is not None:
            ledgers[entrant.name] = {member: ledger_of(episodes[member]) for member in members}
        else:
            told = [instructions(task)[0] for task in plan.protocol.tasks]
            ledgers[entrant.name] = _own_ledgers(
                members, episodes, policies, matched.evaluations, typical_instruction(told)
            )
    write_ledgers(path, ledgers)


def _own_ledgers(
    members: Sequence[str], episodes: Mapping[str, Sequence[Episode]], policies: Mapping[str, str],
    evaluations: int | None, instruction: str,
) -> dict[str, Ledger]:  # fmt: skip
    """Counted and timed on the first member: the others differ in their numbers only. A composition's latencies are
    those of its records."""
    import torch

    from volar.core.model import UNLIMITED, Budget
    from volar.planning.composed import count_composed, load_composed
    from volar.planning.composition import is_composition
    from volar.policies.compute import count_policy, time_policy
    from volar.policies.language_folder import is_language
    from volar.policies.meter import hardware
    from volar.policies.vla import Policy

    if is_language(Path(policies[members[0]])):
        return {member: ledger_of(episodes[member], planner_steps=0) for member in members}
    if is_composition(Path(policies[members[0]])):
        composed = load_composed(Path(policies[members[0]]), execute=1)
        counts = count_composed(composed, instruction=instruction)
        return {member: ledger_of(episodes[member], counts=counts, planner_steps=0) for member in members}
    policy = Policy.load(Path(policies[members[0]]))
    budget = UNLIMITED if evaluations is None else Budget(evaluations=evaluations)
    counts = count_policy(policy, instruction=instruction, budget=budget)
    timing = time_policy(policy, instruction=instruction, budget=budget)
    return {
        member: ledger_of(
            episodes[member], counts=counts, timing=timing, training=read_spending(Path(policies[member])),
            planner_steps=0, hardware=hardware(torch.device("cpu")),
        )
        for member in members
    }  # fmt: skip


def _acting(plan: Plan, command: Compare, policies: Mapping[str, str]) -> dict[str, Acting]:
    """Every member and control that acts here."""
    arms: dict[str, Acting] = {}
    for entrant, matched in zip(plan.entrants, plan.matched, strict=True):
        if entrant.foreign is not None:
            continue
        members = entrant.members(command.training_seeds)
        for member in members:
            arms[member] = Acting(
                role="policy", policy=policies[member], execute=plan.protocol.execute[entrant.name],
                evaluations=matched.evaluations, token_variable=command.token_variable,
                journal=command.out / JOURNAL,
            )  # fmt: skip
        for control in command.controls:
            if control in OF_A_POLICY and entrant.allows(control):
                arms[f"{entrant.name}/{control}"] = replace(arms[members[0]], role=control)
    if arms:
        execute = next(iter(arms.values())).execute
        arms |= {name: Acting(role=name, execute=execute) for name in command.controls if name not in OF_A_POLICY}
    return arms


def _run_info(plan: Plan, acting: Mapping[str, Acting], sha256: str) -> RunInfo:
    protocol, arms = plan.protocol, {}
    for entrant, arm in zip(plan.entrants, protocol.arms, strict=True):
        arms |= {member: Arm(role="policy", description=arm.description) for member in arm.members}
        if entrant.foreign is not None:
            arms |= control_arms(arm.name, entrant.foreign)
    arms |= {name: Arm(role=each.role) for name, each in acting.items() if name not in arms}
    return RunInfo(
        title=protocol.question, tasks=protocol.tasks, seeds=tuple(protocol.seeds), arms=arms,
        success_semantics=protocol.success_semantics,
        settings={
            "max_steps": protocol.max_steps, "executed_per_chunk": dict(protocol.execute),
            "control_rate_hz": plan.robot.action.rate_hz if plan.robot else None,
            "kind": {each.name: kind for each in plan.entrants if (kind := _kind(each))},
            "protocol": sha256,
        },
        fingerprint=fingerprint(**plan.looks),
    )  # fmt: skip


def _kind(entrant: Entrant) -> str | None:
    facts = entrant.policy["card"] if entrant.policy else entrant.card or {}
    return facts.get("kind")


def _taken_over(plan: Plan, folder: Path) -> Iterator[tuple[Episode, str | None]]:
    for entrant in plan.entrants:
        if entrant.foreign is None:
            continue
        for record in take_over(entrant.foreign, entrant.name, plan.protocol.tasks):
            if record.episode.job.seed in plan.protocol.seeds:
                yield record.episode, copy_film(entrant.foreign, record, folder)
