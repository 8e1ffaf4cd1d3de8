"""A policy that thinks before it acts: an Actor that plans in a simulator and falls back on the policy.

Everything it uses that no robot has is named in `privileged` and counted with each decision.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from volar.core.errors import ConfigError
from volar.core.robot import Actor, Chunk, Env, Observation, PrivilegedActor, RestorableEnv, require_match
from volar.planning.planner import Limit, Plan, Planner, Root
from volar.planning.simulation import Propose, SimulationConfig, Simulator, Value, require_exact_restore, state_key
from volar.planning.workers import SimulatorPool

Follow = Literal["replan", "open_loop"]
STATE = "simulator state, saved and restored by a planner"
FLAG = "success flag of the simulator, read at every step that a planner simulates"
OWN, OTHER = "a planner's simulator with the true dynamics", "a planner's simulator with dynamics of its own"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is known of one decision. seed: of the episode. step: control steps before it. left: steps after it that
    the time-out allows. seconds: it took. plan: its outcome, tree included."""

    seed: int
    number: int
    step: int
    left: int
    seconds: float
    plan: Plan

    def to_json(self, *, tree: bool = False) -> dict[str, Any]:
        """Plain values; the chunks themselves are left out, and the tree unless asked for."""
        plan = self.plan
        content = {
            "seed": self.seed, "decision": self.number, "step": self.step, "seconds": self.seconds,
            **asdict(plan.spent), "visits": plan.visits.tolist(), "values": plan.values.tolist(),
            "value_spread": float(np.ptp(plan.values)) if len(plan.values) else None, "chosen": plan.chosen,
            "solution_steps": None if plan.solution is None else len(plan.solution), "fallback": plan.fallback,
            "nodes": None if plan.tree is None else len(plan.tree["nodes"]),
        }  # fmt: skip
        return {**content, "tree": plan.tree} if tree else content


class PlanningActor(PrivilegedActor):
    """Final. `policy` under `planner`, which may spend `limit` on every decision.

    max_steps: time-out of the episodes, beyond which no success is worth finding. follow: "open_loop" carries out a
    found solution to its end as it was simulated, "replan" its first edge only. make_simulator: another environment
    to plan in, whose dynamics may differ but whose states are the same; None plans in the very environment that it
    acts in. pool: simulates in worker processes, in which `make_simulator` has no say.
    journal: told every decision.

    Raises ConfigError at the first episode where the environment cannot be restored exactly.
    """

    def __init__(
        self, policy: Actor, planner: Planner, propose: Propose, *, config: SimulationConfig, limit: Limit,
        max_steps: int, follow: Follow = "replan", value: Value | None = None,
        make_simulator: Callable[[], RestorableEnv] | None = None, pool: SimulatorPool | None = None,
        journal: Callable[[Decision], None] | None = None,
    ) -> None:  # fmt: skip
        if max_steps < 1:
            raise ConfigError(f"max_steps must be at least 1 control step, got {max_steps}.")
        self.policy, self.planner, self.config, self.limit = policy, planner, config, limit
        self.max_steps, self.follow = max_steps, follow
        self.uses_images = policy.uses_images
        flags = (FLAG,) if config.oracle else ()
        self.privileged = (*policy.privileged, STATE, *flags, OWN if make_simulator is None else OTHER)
        self._propose, self._value, self._journal = propose, value, journal
        self._make_simulator, self._pool = make_simulator, pool
        self._own: RestorableEnv | None = None
        self._env: RestorableEnv | None = None
        self._simulator: Simulator | None = None

    def reset(self, seed: int) -> None:
        self.planner.reset()
        self._seed, self._step, self._number = seed, 0, 0
        self._random = np.random.default_rng([seed, 0x706C616E])  # not the numbers that placed the objects
        self._begun = False

    def bind(self, env: Env) -> None:
        if env is not self._env:
            if self._make_simulator is None:
                self._env = proved = require_exact_restore(env)
            else:
                proved = self._other(env)
            self._simulator = Simulator(
                proved, self.policy, self._propose, config=self.config, value=self._value
            )  # fmt: skip

    def _other(self, env: Env) -> RestorableEnv:
        """The planner's own environment, brought to the state of `env` and proved."""
        assert self._make_simulator is not None
        if not isinstance(env, RestorableEnv):
            require_exact_restore(env)
        assert isinstance(env, RestorableEnv)
        self._env = env
        if self._own is None:
            self._own = self._make_simulator()
            require_match(env.spec, self._own.spec, our_name="The robot", their_name="the planner's simulator")
        self._own.restore(env.save())
        return require_exact_restore(self._own)

    def act(self, observation: Observation) -> Chunk:
        started = time.perf_counter()
        assert self._env is not None and self._simulator is not None
        simulator, state = self._simulator, self._env.save()
        if not self._begun:
            simulator.begin(observation.instruction)
            self._begun = True
        evaluations = simulator.evaluations
        simulate = simulator if self._pool is None else partial(self._pool, instruction=observation.instruction)
        left = self.max_steps - self._step
        candidates = simulator.candidates(state, observation, seed=self._seed)
        looked = simulator.evaluations - evaluations
        root = Root(state=state, key=state_key(state), candidates=candidates, left=left, seed=self._seed)
        plan = self.planner.plan(root, simulate, edge=self.config.edge, limit=self.limit, random=self._random)
        self._env.restore(state)
        plan = replace(plan, spent=replace(plan.spent, evaluations=plan.spent.evaluations + looked))
        if plan.fallback:
            warnings.warn(f"The policy decided alone: {plan.fallback}.", stacklevel=2)
        followed = plan.solution if plan.solution is not None and self.follow == "open_loop" else plan.actions
        seconds = time.perf_counter() - started
        if self._journal is not None:
            self._journal(
                Decision(seed=self._seed, number=self._number, step=self._step, left=left, seconds=seconds, plan=plan)
            )
        self._step, self._number = self._step + len(followed), self._number + 1
        return Chunk(
            actions=followed, execute=len(followed), evaluations=plan.spent.evaluations, latency=seconds,
            simulator_steps=plan.spent.steps,
        )  # fmt: skip
