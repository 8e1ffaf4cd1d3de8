"""Reference: our search beside mctx (jax) on a bandit-size problem, one root with random rewards behind every action.

python bench/planning/mctx_reference.py [--out FILE]. Skips with a line where mctx is not installed.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from volar.core.progress import counting
from volar.planning.mcts import SearchConfig, Tree, search
from volar.planning.planner import Candidates, Limit, Request, Root, Simulated
from volar.planning.simulation import state_key


@dataclass(frozen=True, kw_only=True)
class Reference:
    """How often each finds the best of `actions` arms, and what a simulation costs."""

    out: Path | None = None
    """json file of the figures"""
    actions: int = 10
    simulations: tuple[int, ...] = (16, 64, 256)
    problems: int = 200
    """bandits, the same for both"""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Bandits:
    """Bandit i has an exact reward [n] per arm, and a prior [n] that knows a little of it."""

    rewards: np.ndarray
    priors: np.ndarray

    @classmethod
    def drawn(cls, command: Reference) -> "Bandits":
        random = np.random.default_rng(command.seed)
        rewards = random.uniform(size=(command.problems, command.actions))
        logits = rewards + 0.5 * random.normal(size=rewards.shape)
        priors = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return cls(rewards=rewards, priors=priors)


def ours(bandits: Bandits, simulations: int) -> dict[str, float]:
    """PUCT with mctx's constant. Unlike mctx it opens every arm before it tries one twice, and takes rewards as they
    are instead of between the siblings' extremes."""
    config, found = SearchConfig(exploration=1.25, depth=1), 0
    started = time.process_time()
    for rewards, prior in zip(bandits.rewards, bandits.priors, strict=True):

        def simulate(requests: Sequence[Request], expired: Any, rewards: np.ndarray = rewards) -> list[Simulated]:
            return [
                Simulated(
                    state=(state := request.actions.tobytes()), key=state_key(state), actions=request.actions,
                    reward=float(rewards[int(request.actions[0, 0])]), discount=0.0, value=0.0,
                )
                for request in requests if request.actions is not None
            ]  # fmt: skip

        candidates = Candidates(chunks=np.arange(len(prior), dtype=np.float32)[:, None, None], prior=prior)
        tree = Tree.at(Root(state=b"", key=state_key(b""), candidates=candidates, left=1))
        limit = Limit(simulations=simulations)
        search(tree, simulate, config=config, edge=1, left=1, limit=limit, seed=0)
        most = max(tree.root.edges, key=lambda number: tree.root.edges[number].visits)
        found += most == int(rewards.argmax())
    each = (time.process_time() - started) / simulations / len(bandits.rewards)
    return {"found_best": found / len(bandits.rewards), "microseconds": 1e6 * each}


def theirs(bandits: Bandits, simulations: int, *, together: bool) -> dict[str, float]:
    """mctx's MuZero search, compiled; timed without its compilation. together: all bandits as one batch, as it is
    meant to be used; else one by one."""
    import jax
    import jax.numpy as jnp
    import mctx

    def recurrent(rewards: Any, key: Any, action: Any, embedding: Any) -> Any:
        rows = jnp.arange(len(action))
        output = mctx.RecurrentFnOutput(
            reward=rewards[rows, action], discount=jnp.zeros(len(action)),
            prior_logits=jnp.zeros_like(rewards), value=jnp.zeros(len(action)),
        )  # fmt: skip
        return output, embedding

    @jax.jit
    def run(rewards: Any, logits: Any, key: Any) -> Any:
        root = mctx.RootFnOutput(prior_logits=logits, value=jnp.zeros(len(rewards)), embedding=jnp.zeros(len(rewards)))
        return mctx.muzero_policy(
            rewards, key, root, recurrent, num_simulations=simulations, dirichlet_fraction=0.0, temperature=0.0
        ).action_weights

    rewards, logits = jnp.asarray(bandits.rewards), jnp.log(jnp.asarray(bandits.priors))
    size = len(rewards) if together else 1
    parts = [(rewards[at : at + size], logits[at : at + size]) for at in range(0, len(rewards), size)]
    run(*parts[0], jax.random.PRNGKey(0)).block_until_ready()
    started = time.process_time()
    weights = np.concatenate([np.asarray(run(*part, jax.random.PRNGKey(0))) for part in parts])
    spent = time.process_time() - started
    found = (weights.argmax(1) == bandits.rewards.argmax(1)).mean()
    return {"found_best": float(found), "microseconds": 1e6 * spent / simulations / len(rewards)}


def main(command: Reference) -> None:
    try:
        import mctx  # noqa: F401
    except ImportError:
        print("mctx is not installed (pip install mctx); there is nothing to compare with.")
        return
    bandits, rows = Bandits.drawn(command), {}
    with counting("budgets", len(command.simulations), shown=True) as advance:
        for count in command.simulations:
            rows[str(count)] = {
                "volar": ours(bandits, count),
                "mctx, one by one": theirs(bandits, count, together=False),
                f"mctx, {command.problems} at once": theirs(bandits, count, together=True),
            }
            advance(1)
    text = json.dumps({"actions": command.actions, "problems": command.problems, "simulations": rows}, indent=1)
    print(text)
    if command.out is not None:
        command.out.write_text(text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Reference))
