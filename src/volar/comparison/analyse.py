"""From the folder of a comparison to everything that it says. The decision is made in decide.py, the words in
words.py; nothing is left out in silence."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from volar.comparison.arms import SATURATED, arm_outcomes
from volar.comparison.axes import AXES
from volar.comparison.deviations import deviations
from volar.comparison.discord import discordant_scenes
from volar.comparison.duels import fight, pair_outcomes
from volar.comparison.labels import failures_of, read_labels
from volar.comparison.material import Material, read_material
from volar.comparison.regions import regions_of
from volar.comparison.result import DECIDED, SCHEMA, ArmOutcome, Control, PairOutcome, Result, Saturation
from volar.comparison.session import Look, read_looks
from volar.comparison.words import recipe_sentence, warning_sentences
from volar.envs.difficulty import harder_tasks
from volar.evaluation.summary import Broken, arm_result, difference
from volar.evaluation.verdict import QUESTIONS, control_check
from volar.evaluation.wording import label, task_labels


def analyse(folder: Path) -> Result:
    """Raises ConfigError when there is no comparison in `folder`, no episode in it, or one of its files is damaged."""
    material = read_material(folder)
    protocol = material.protocol
    duels = fight(material)
    arms = arm_outcomes(material, duels)
    looks = read_looks(folder)
    pairs = pair_outcomes(material, duels, arms, stopped=_stopped(looks))
    failures = failures_of(material, read_labels(folder / "labels.json"), regions_of(material, duels))
    return Result(
        schema=SCHEMA, registration=material.registration, run=material.run,
        deviations=deviations(material),
        verdict=tuple(
            " ".join(filter(None, (pair.sentence, recipe_sentence(pair)))) for pair in pairs if pair.registered
        ),
        warnings=(*material.notes, *_contradictions(looks, pairs), *warning_sentences(arms, pairs, protocol)),
        arms=arms, pairs=pairs, controls=_controls(material), saturation=_saturation(arms, protocol.tasks),
        axes=AXES,
        looks=tuple(asdict(look) for look in looks), failures=failures,
        discordant=discordant_scenes(material, failures.episodes),
        broken=tuple(
            Broken(arm=record.key[0], task=record.key[1], seed=record.key[2], error=record.episode.error or "unknown")
            for record in material.records if record.episode.success is None
        ),
    )  # fmt: skip


def _stopped(looks: Sequence[Look]) -> dict[str, int]:
    """Other arm -> scenes per task at the first look that decided its pair."""
    found: dict[str, int] = {}
    for look in looks:
        for pair in look.pairs:
            if pair.decision in DECIDED:
                found.setdefault(pair.other, look.scenes)
    return found


def _contradictions(looks: Sequence[Look], pairs: Sequence[PairOutcome]) -> list[str]:
    """What was decided while it ran must follow from the records still."""
    now = {pair.other: pair for pair in pairs if pair.registered}
    return [
        f"At {looks[-1].scenes} scenes per task {label(pair.other)} was judged {pair.decision}, the records now say "
        f"{now[pair.other].standing}: they were changed, or judged by another version of volar."
        for pair in (looks[-1].pairs if looks else ())
        if pair.other in now and pair.decision != now[pair.other].standing
    ]


def _controls(material: Material) -> tuple[Control, ...]:
    """Every arm of the run that is not a member; `arm/kind` controls the first member of that arm."""
    firsts = {plan.name: plan.members[0] for plan in material.protocol.arms}
    return tuple(
        _control(material, name, firsts.get(name.rpartition("/")[0]))
        for name in material.run.arms if name not in material.protocol.members
    )  # fmt: skip


def _control(material: Material, name: str, member: str | None) -> Control:
    """The member is looked at on the control's scenes only, so that both rates are about the same."""
    tasks, role = material.protocol.tasks, material.run.arms[name].role
    met = {record.key[1:] for record in material.records if record.key[0] == name}
    records = [record for record in material.records if record.key[0] in (name, member) and record.key[1:] in met]
    found = arm_result(material.run, name, tasks, records)
    gap = check = None
    if member is not None:
        gap = difference(member, name, tasks, records)
        if role in QUESTIONS and gap.overall is not None:
            check = control_check(arm_result(material.run, member, tasks, records), found, gap, task_labels(tasks))
    return Control(
        name=name, role=role, member=member, tasks=found.tasks, overall=found.overall,
        difference=gap.overall if gap else None, check=check,
    )  # fmt: skip


def _saturation(arms: Sequence[ArmOutcome], tasks: Sequence[str]) -> Saturation:
    easy: list[str] = []
    for task in tasks:
        rates = [arm.tasks[task] for arm in arms]
        if all(rate is not None and rate.estimate > SATURATED for rate in rates):
            easy.append(task)
    saturated = tuple(arm.name for arm in arms if arm.saturated)
    harder = harder_tasks(tasks if saturated else easy)
    return Saturation(arms=saturated, tasks=tuple(easy), harder=tuple(task for task in harder if task not in tasks))
