"""Who may think in a policy's place in `volar evaluate` and `volar compare`: an oracle, its control, a person."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volar.core.errors import ConfigError, unknown_name
from volar.core.robot import Actor, PrivilegedActor
from volar.core.thoughts import Thought
from volar.evaluation.run import Role

if TYPE_CHECKING:
    from volar.policies.vla import Policy

THINKING: tuple[Role, ...] = ("oracle_thoughts", "shuffled_thoughts")  # controls of policies that reason
BY_HAND: Role = "by_hand"
GUIDED = (*THINKING, BY_HAND)


def reasoner_of(policy: Mapping[str, Any]) -> str | None:
    """policy: what `read_policy` gave."""
    return policy.get("policy", {}).get("reasoner")


def require_reasoner(name: str, policy: Mapping[str, Any], asked: Sequence[str]) -> None:
    """ConfigError where thoughts are to be replaced and the policy has none, or where nobody knows the true ones."""
    if not asked:
        return
    if reasoner_of(policy) is None:
        raise ConfigError(
            f"{name} does not reason, so {', '.join(asked)} would change nothing; leave it out, or train with a "
            f"reasoner (`volar list reasoners`)."
        )
    if set(asked) & set(THINKING) and not policy["facts"].get("labels"):
        raise ConfigError(
            f"{name} does not tell how the thoughts that it learned were labelled, so no oracle can say them. Train it "
            f"on what `volar data label` wrote."
        )


def read_by_hand(name: str, policy: Mapping[str, Any], *, primitives: Sequence[str], said: Sequence[str]) -> str:
    """What a person says at every stage, as JSON; empty where nobody says anything. name, policy: who is told it.
    ConfigError where it makes no sense, or the policy could follow nothing of it."""
    from volar.policies.guided import read_script
    from volar.policies.vla import Policy

    if not (primitives or said):
        return ""
    require_reasoner(name, policy, [*["--primitive"] * bool(primitives), *["--say"] * bool(said)])
    labelled = [each["camera"] for each in policy["facts"].get("labels", {}).get("cameras", ())]
    script = read_script(primitives, said, cameras=labelled or [each["name"] for each in policy["robot"]["cameras"]])
    _require_followed(Policy.load(policy["folder"], part=policy["part"]), script)
    return json.dumps([thought.to_json() for thought in script])


def _require_followed(policy: "Policy", script: Sequence[Thought]) -> None:
    """ConfigError for marks and segments that the policy does not think of, by its own account and by trying."""
    from volar.policies.compute import spec_batch

    assert policy.reasoner is not None
    seen = spec_batch(policy, rows=1, instruction="", seed=0)
    for thought in script:
        policy.reasoner.require(thought)
        (found,) = policy.consider(seen, recalls=[None], given=[thought]).thoughts
        for segment in thought.words:
            if not found.words:
                raise ConfigError(f"This policy thinks in marks, not in words, so {segment!r} would change nothing.")
            if segment not in found.words:
                raise unknown_name("segment of this policy's thoughts", segment, found.words)


def guided(role: Role, actor: Actor, *, folder: Path, expert: PrivilegedActor, said: str) -> Actor:
    """`actor` with somebody else's thoughts. folder: of its checkpoint, which tells how the true ones are labelled.
    said: what `read_by_hand` gave."""
    from volar.policies.actor import PolicyActor
    from volar.policies.guided import ByHand, GuidedActor
    from volar.policies.oracle import Oracle, Shuffled

    if not isinstance(actor, PolicyActor):
        raise ConfigError(f"Only a checkpoint can be told what to think, not {type(actor).__name__}.")
    if role == BY_HAND:
        return GuidedActor(actor, ByHand([Thought.from_json(thought) for thought in json.loads(said)]))
    policy = json.loads((folder / "config.json").read_text())
    require_reasoner(str(folder), policy, (role,))
    oracle = Oracle(expert, policy["facts"]["labels"])
    return GuidedActor(actor, oracle if role == THINKING[0] else Shuffled(oracle))
