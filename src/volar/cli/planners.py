"""Policies under planners, made in the processes that run episodes, and what is written down of their decisions."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from volar.cli.actors import ActorMaker
from volar.core.atomic import write_files
from volar.core.errors import ConfigError
from volar.core.registry import build_config
from volar.core.robot import ActionSpec, Actor, RestorableEnv
from volar.envs import make_env
from volar.planning import TABLE
from volar.planning.actor import Decision, Follow, PlanningActor
from volar.planning.drawing import most_visited, tree_svg
from volar.planning.library import ChunkLibrary, fit_library
from volar.planning.mismatch import DynamicsError, with_error
from volar.planning.planner import Limit, Way
from volar.planning.proposals import around_policy, from_library, from_policy
from volar.planning.simulation import Propose, SimulationConfig, Value

Proposals = Literal["around", "policy", "library"]
PARTS, WHOLE = "decisions", "decisions.jsonl"
PICTURES = 16  # nodes of a drawn tree that get a film strip
FRAMES = 3  # of such a strip, from the state before an edge to that behind it


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The planner of an arm and what it may spend on a decision."""

    planner: str
    options: Mapping[str, Any]
    limit: Limit


@dataclass(frozen=True, kw_only=True)
class LearnedFrom:
    """A learned value: its folder and what stands for it in records, the folder of the policy it belongs to, and the
    standard deviations of its members that are added to their mean."""

    folder: Path
    hash: str
    policy: Path
    spread: float

    def load(self, actor: Actor) -> Value:
        from volar.planning.value_head import load_value
        from volar.policies.actor import PolicyActor

        assert isinstance(actor, PolicyActor)
        return load_value(self.folder, actor, policy=self.policy, weight=self.spread)


@dataclass(frozen=True, kw_only=True)
class PlannerMaker:
    """Makes the actor of an arm inside a worker process. Arms that are no planner's are those of `policies`.
    drawn: (seed, number) of the decision whose tree is drawn. error: of the dynamics of the planner's simulator."""

    policies: ActorMaker
    arms: Mapping[str, Chosen]
    simulation: SimulationConfig
    task: str
    cameras: Mapping[str, int]
    folder: Path
    max_steps: int
    follow: Follow
    proposals: Proposals
    num: int
    library: ChunkLibrary | None
    drawn: tuple[int, int] | None
    error: DynamicsError
    value: LearnedFrom | None = None

    def __call__(self, arm: str) -> Actor:
        if arm not in self.arms:
            return self.policies(arm)
        chosen, spec = self.arms[arm], self.policies.robot.action
        (name,) = self.policies.arms
        cls = TABLE.load(chosen.planner)
        policy = self.policies(name)
        return PlanningActor(
            policy,
            cls(build_config(cls, chosen.options), spec=spec),
            proposer(self.proposals, spec, self.num, self.library),
            config=self.simulation,
            limit=chosen.limit,
            max_steps=self.max_steps,
            follow=self.follow,
            value=None if self.value is None else self.value.load(policy),
            make_simulator=None if self.error.none else self.simulator,
            journal=partial(self._note, arm),
        )

    def _note(self, arm: str, decision: Decision) -> None:
        note_decision(self.folder, arm, self.task, decision)
        if (decision.seed, decision.number) == self.drawn and decision.plan.tree is not None:
            self._draw(arm, decision)

    def simulator(self) -> RestorableEnv:
        """The planner's own, its dynamics wrong as asked for. ConfigError where that cannot be."""
        env = make_env(self.task, cameras=self.cameras)
        if not isinstance(env, RestorableEnv):
            raise ConfigError(f"{self.task} cannot save and restore its state, so nobody can plan in it.")
        return with_error(env, self.error)

    def _draw(self, arm: str, decision: Decision) -> None:
        tree = decision.plan.tree
        assert tree is not None
        env = self.simulator()
        try:
            shown = most_visited(tree, PICTURES) if self.cameras else set()
            pictures = {key: _strip(env, decision.plan.ways[key]) for key in sorted(shown)}
        finally:
            env.close()
        title = f"{arm}, {self.task}, seed {decision.seed}, decision {decision.number + 1}"
        drawing = tree_svg(tree, title=title, chosen=decision.plan.chosen, pictures=pictures)
        folder = self.folder / "trees"
        write_files({folder / f"{arm}-{decision.seed}-{decision.number}.svg": drawing.encode()})


def _strip(env: RestorableEnv, way: Way) -> str:
    """The first camera's film of that way, as a data URI."""
    from volar.evaluation.films import film_strip, shown_frames

    env.restore(way.state)
    moments = shown_frames(len(way.actions) + 1, count=FRAMES)
    frames = []
    for number in range(len(way.actions) + 1):
        if number > 0:
            env.step(env.spec.action.clip(way.actions[number - 1]))
        if number in moments:
            frames.append(next(iter(env.observe().images.values())))
    return f"data:image/jpeg;base64,{base64.b64encode(film_strip(np.stack(frames), count=FRAMES)).decode()}"


def note_decision(folder: Path, arm: str, task: str, decision: Decision) -> None:
    """One file per episode, begun anew when the episode is, so that an interrupted run leaves nothing twice."""
    path = folder / PARTS / f"{arm}-{decision.seed}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w" if decision.number == 0 else "a") as stream:
        stream.write(json.dumps({"arm": arm, "task": task, **decision.to_json()}, allow_nan=False) + "\n")


def proposer(proposals: Proposals, spec: ActionSpec, num: int, library: ChunkLibrary | None) -> Propose:
    """The `propose` of a Simulator. library: for the proposals of that name."""
    if proposals == "library":
        assert library is not None
        return partial(from_library, library=library, num=num)
    return partial(from_policy, num=num) if proposals == "policy" else partial(around_policy, spec=spec, num=num)


def planner_options(cls: type, name: str, settings: Sequence[str]) -> dict[str, Any]:
    """The options that `name.key=value` settings give this planner, proved against its Config. Raises ConfigError."""
    options = {}
    for setting in settings:
        key, equals, text = setting.removeprefix(f"{name}.").partition("=")
        if not equals:
            raise ConfigError(f"An option is written planner.key=value, such as tree_search.depth=20; got {setting!r}.")
        if setting.startswith(f"{name}."):
            try:
                options[key] = json.loads(text)
            except ValueError:
                options[key] = text
    build_config(cls, options)
    return options


def value_from(
    folder: Path | None, spread: float, *, policy: Path, arms: Mapping[str, Chosen]
) -> LearnedFrom | None:  # fmt: skip
    """The value in `folder`, proved to be that of `policy`. Raises ConfigError where no planner would weigh it, or one
    would and there is none."""
    weighed = any(chosen.options.get("value_weight") for chosen in arms.values())
    if weighed != (folder is not None):
        raise ConfigError("--value DIR and --set tree_search.value_weight=1 go together.")
    if folder is None:
        return None

    from volar.planning.value_head import checkpoint_hash, read_value

    read_value(folder, policy)
    return LearnedFrom(folder=folder, hash=checkpoint_hash(folder), policy=policy, spread=spread)


def library_from(path: Path | None, proposals: str, *, horizon: int, size: int) -> ChunkLibrary | None:
    """The library at `path`: a file of one, or a data set from whose episodes it is made. None where none is wanted."""
    if proposals not in get_args(Proposals):
        raise ConfigError(f"proposals must be one of {', '.join(get_args(Proposals))}; got {proposals!r}.")
    if (path is None) != (proposals != "library"):
        raise ConfigError("--proposals library and --library PATH go together.")
    if path is None or path.is_file():
        return None if path is None else ChunkLibrary.load(path)

    from volar.data.formats import open_dataset
    from volar.data.layout import ACTION

    dataset = open_dataset(path)
    actions = np.asarray(dataset.arrays[ACTION], dtype=np.float32)
    starts = [
        row for episode in dataset.episodes for row in range(episode.start, episode.stop - horizon + 1, horizon)
    ]  # fmt: skip
    if not starts:
        raise ConfigError(f"{path} has no episode of at least {horizon} steps, the policy's horizon.")
    return fit_library(np.stack([actions[row : row + horizon] for row in starts]), size=size, seed=0)


def kept_decisions(folder: Path) -> list[dict[str, Any]]:
    """All decisions of a run, by arm and seed; written to decisions.jsonl as well."""
    parts = sorted((folder / PARTS).glob("*.jsonl"))
    rows = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    rows.sort(key=lambda row: (row["arm"], row["seed"], row["decision"]))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_files({folder / WHOLE: text.encode()})
    return rows
