"""What a comparison says, as one frozen value that is also result.json. No arithmetic, no wording, no drawing.

docs/compare_schema.md describes the JSON. Differences are always the other arm minus the reference.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from volar.comparison.ledger import Ledger
from volar.comparison.protocol import Registration
from volar.core.evidence import Failure
from volar.evaluation.run import RunInfo
from volar.evaluation.summary import Broken, Rate
from volar.evaluation.verdict import Check
from volar.statistics.bootstrap import SeedSpread
from volar.statistics.intervals import Interval

SCHEMA = "volar.comparison/1"

Standing = Literal["better", "worse", "equivalent", "undecided", "not compared"]
DECIDED = ("better", "worse", "equivalent")


@dataclass(frozen=True, kw_only=True)
class Member:
    """One trained policy of an arm. training_seed: None where it is not known."""

    name: str
    training_seed: int | None
    tasks: Mapping[str, Rate]
    overall: Interval | None


@dataclass(frozen=True, kw_only=True)
class ArmOutcome:
    """One arm, all its members together; an interval covers the chance in the scenes, for these trained policies.

    tasks: task -> interval of the success rate, None without scored episodes. overall: mean over tasks, None if one
    is missing. letters: arms that share one are not separated; "" when letters were not made. strength: Bradley-Terry
    log-strength, None with fewer than three arms. spread: between trainings, None for a single one. axes: name of a
    compute axis (`axes` of the Result) -> mean over members, None when unknown. ledger: member -> what ledger.json
    says. saturated: solves more than 95 % here, so that nothing can be shown to be better. broken: episodes that
    could not be judged.
    """

    name: str
    source: str
    where: str
    description: str
    members: tuple[Member, ...]
    tasks: Mapping[str, Interval | None]
    overall: Interval | None
    successes: int
    scored: int
    broken: int
    letters: str
    strength: Interval | None
    spread: SeedSpread | None
    axes: Mapping[str, float | None]
    ledger: Mapping[str, Ledger]
    executed_per_chunk: tuple[int, ...]
    privileged: tuple[str, ...]
    saturated: bool


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Scenes that a pair could not use: met by some members only, broken in one, or different although of one seed."""

    missing: int
    broken: int
    different: int

    @property
    def total(self) -> int:
        return self.missing + self.broken + self.different


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """The confidence sequence of the difference while scenes came in: one value per point, thinned for drawing.

    scenes: scenes per task so far. estimate: running mean. e_value: evidence against "no difference". stopped: scenes
    per task at which the registered rule had its decision, None when it never had.
    """

    scenes: tuple[int, ...]
    estimate: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    e_value: tuple[float, ...]
    stopped: int | None


@dataclass(frozen=True, kw_only=True)
class PairOutcome:
    """other minus reference. registered: one of the pairs that the question is about (the first arm is in it).

    interval: what the registered design allows at `confidence`; fixed: the score interval as if the number of scenes
    had been fixed in advance, tasks: the same per task. p: of "no difference" under the registered design, adjusted_p:
    after Holm over the registered pairs (None for the others). recipes: the difference if both arms were trained anew,
    None without several training seeds. paired: False when no scene was the same, so that the arms are compared as
    independent samples. scenes: (task, seed) used; wins, losses: of them, better in the other arm and in the reference.
    equal: compute axes on which both are equal within 5 %; ratios: axis -> other over reference.
    """

    reference: str
    other: str
    registered: bool
    paired: bool
    standing: Standing
    sentence: str
    interval: Interval | None
    confidence: float
    fixed: Interval | None
    tasks: Mapping[str, Interval | None]
    p: float | None
    adjusted_p: float | None
    recipes: Interval | None
    scenes: int
    wins: int
    losses: int
    left_out: LeftOut
    equal: tuple[str, ...]
    ratios: Mapping[str, float | None]
    monitor: Monitor | None


@dataclass(frozen=True, kw_only=True)
class Control:
    """A control arm: the same member with the instruction of another task, with blank images, or random actions, or
    an expert. member: whom it controls, None for those that belong to no arm. check: what it answers, if anything."""

    name: str
    role: str
    member: str | None
    tasks: Mapping[str, Rate]
    overall: Interval | None
    difference: Interval | None
    check: Check | None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A kind of compute: a field of the ledger. Less is cheaper."""

    name: str
    label: str
    unit: Literal["count", "flops", "seconds", "bytes", "joules"]


@dataclass(frozen=True, kw_only=True)
class FailedEpisode:
    """A failed episode of an arm (controls are left out). rule: what the rules say; hand: what a person said, by whom.
    film: path relative to the run's folder."""

    arm: str
    member: str
    task: str
    seed: int
    steps: int
    rule: Failure
    hand: Failure | None
    by: str
    film: str | None


@dataclass(frozen=True, kw_only=True)
class FailureCount:
    """How many failed episodes of an arm had this stage and cause; hand labels count before rules."""

    arm: str
    stage: str
    cause: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Rules against hand labels, on `labelled` episodes: share of equal (stage, cause), and Cohen's kappa, which is
    None when both always said the same one thing. unknown: labels for episodes that are not failures here."""

    labelled: int
    same: float
    kappa: float | None
    unknown: int


@dataclass(frozen=True, kw_only=True)
class Failures:
    """stages, causes: every word that occurs or may be chosen by hand."""

    stages: tuple[str, ...]
    causes: tuple[str, ...]
    counts: tuple[FailureCount, ...]
    episodes: tuple[FailedEpisode, ...]
    agreement: Agreement | None
    regions: tuple["Region", ...]


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of the scenes (a task, a perturbation, a range of initial states) where a pair was compared alone.
    interval: at a level corrected for the number of parts looked at."""

    reference: str
    other: str
    region: str
    scenes: int
    interval: Interval
    adjusted_p: float


@dataclass(frozen=True, kw_only=True)
class Take:
    """One side of a discordant scene. frames, frame_steps: how many pictures the film has and the control step of
    each, so that two films can be shown at the same moment; empty when that is not known."""

    member: str
    success: bool
    steps: int
    film: str | None
    frame_steps: tuple[int, ...]
    failure: Failure | None


@dataclass(frozen=True, kw_only=True)
class Discordant:
    """A scene that one arm solved and the other did not. pair: name of the other arm; winner: of the arm that solved
    it. The two takes are by members of the same place in both arms."""

    pair: str
    task: str
    seed: int
    instruction: str
    reference: Take
    other: Take
    winner: str


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """Where success is so common that arms cannot be told apart. tasks: solved by every arm above 95 %.
    harder: tasks of the same environment that are known to be harder."""

    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    harder: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """All that a comparison says. deviations: how the run differed from what was registered, in sentences. looks:
    looks.jsonl as it stands. warnings: what a reader must know before believing a number. axes: the compute axes."""

    schema: str
    registration: Registration
    deviations: tuple[str, ...]
    verdict: tuple[str, ...]
    warnings: tuple[str, ...]
    run: RunInfo
    arms: tuple[ArmOutcome, ...]
    pairs: tuple[PairOutcome, ...]
    controls: tuple[Control, ...]
    saturation: Saturation
    axes: tuple[Axis, ...]
    looks: tuple[Mapping[str, Any], ...]
    failures: Failures
    discordant: tuple[Discordant, ...]
    broken: tuple[Broken, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
