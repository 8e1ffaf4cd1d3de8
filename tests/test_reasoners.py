"""Conformance of every reasoner, on the tiny backbone: what a newcomer gets for one line in the table."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from volar.core.errors import ConfigError
from volar.core.model import Batch
from volar.core.thoughts import Mark, Recall, Thought
from volar.data.normalize import exact_statistics
from volar.envs import make_env
from volar.policies.actor import PolicyActor
from volar.policies.config import PolicyConfig
from volar.policies.vla import ACTION, PROPRIOCEPTION, Policy
from volar.reasoning import TABLE

TOY = make_env("toy/reach-red").spec
CAMERA = TOY.cameras[0]
ROWS, HORIZON = 3, 4


def thought(row: int) -> Thought:
    """Everything that a label can hold."""
    place = 0.2 + 0.2 * row
    marks = (
        Mark(camera=CAMERA.name, centre=(place, 0.5)),
        Mark(camera=CAMERA.name, centre=(place, 0.5), size=(0.1, 0.1), role="source", order=1),
        Mark(camera=CAMERA.name, centre=(0.5, place), size=(0.2, 0.2), role="destination", order=2),
    )
    words = {
        "task": "reach the target",
        "plan": "reach, then grasp",
        "objects": f"target [{row}, 2, 3, 4]",
        "subtask": ("reach", "grasp", "lift")[row],
        "move": ("move left", "move right", "stop")[row],
        "gripper": f"[{row}, 1]",
        "motion": f"left {row} cm",
    }
    return Thought(words=words, marks=marks)


def new_policy(name: str, **changes: str) -> Policy:
    torch.manual_seed(0)
    config = PolicyConfig(
        backbone="tiny", decoder="regression", horizon=HORIZON, normalise_action="min_max",
        normalise_proprioception="mean_std", reasoner=name,
    )  # fmt: skip
    sizes = {ACTION: TOY.action.dim, PROPRIOCEPTION: len(TOY.proprioception)}
    statistics = {key: exact_statistics(np.stack([-np.ones(d), np.ones(d)])) for key, d in sizes.items()}
    policy = Policy(replace(config, **changes), robot=TOY, statistics=statistics)
    policy.fit_reasoner([thought(row) for row in range(ROWS)])
    return policy


def new_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    shape = (ROWS, CAMERA.height, CAMERA.width, 3)
    return Batch(
        images={CAMERA.name: torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)},
        instructions=("reach the red target", "reach the blue target", "reach"),
        proprioception=torch.randn(ROWS, len(TOY.proprioception), generator=generator),
        actions=torch.rand(ROWS, HORIZON, TOY.action.dim, generator=generator) * 2 - 1,
        valid=torch.ones(ROWS, HORIZON, dtype=torch.bool),
        thoughts=tuple(thought(row) for row in range(ROWS)),
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", TABLE)
class TestEveryReasoner:
    def test_one_loss_per_sample_reaches_backbone_and_reasoner(self, name):
        policy = new_policy(name)
        losses = policy.loss(new_batch(), generator=seeded())
        assert losses.shape == (ROWS,) and torch.isfinite(losses).all()
        losses.mean().backward()
        for part in (policy.backbone, policy.reasoner):
            assert sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None) > 0

    def test_learns_what_it_is_shown(self, name):
        policy, batch = new_policy(name), new_batch()
        optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
        losses = []
        for step in range(60):
            loss = policy.loss(batch, generator=seeded(step)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])

    def test_same_seed_same_thoughts_and_actions(self, name):
        policy, batch = new_policy(name).eval(), new_batch()
        nothing = [None] * ROWS
        first, second = (
            policy.consider(batch, recalls=nothing, given=nothing, generator=seeded()) for _ in range(2)
        )  # fmt: skip
        assert first.thoughts == second.thoughts and len(first.thoughts) == ROWS
        assert first.evaluations.shape == (ROWS,)
        torch.testing.assert_close(first.context.tokens, second.context.tokens, rtol=0, atol=0)

    def test_a_row_thinks_alone(self, name):
        """What one row thinks does not depend on whom it stands in a batch with."""
        policy, batch = new_policy(name).eval(), new_batch()
        alone = replace(
            batch, images={key: value[:1] for key, value in batch.images.items()}, instructions=batch.instructions[:1],
            proprioception=batch.proprioception[:1], actions=None, valid=None, thoughts=(),
        )  # fmt: skip
        together = policy.consider(batch, recalls=[None] * ROWS, given=[None] * ROWS, generator=seeded())
        single = policy.consider(alone, recalls=[None], given=[None], generator=seeded())
        assert single.thoughts[0].words == together.thoughts[0].words
        for one, other in zip(single.thoughts[0].marks, together.thoughts[0].marks, strict=True):
            assert one.role == other.role and np.allclose(one.centre, other.centre, atol=1e-4)

    def test_needs_labels_to_learn(self, name):
        with pytest.raises(ConfigError):
            new_policy(name).loss(replace(new_batch(), thoughts=()), generator=seeded())
        fresh = TABLE.load(name)
        with pytest.raises(ConfigError):
            fresh(fresh.Config(), width=64, cameras=TOY.cameras).fit([])

    def test_what_is_given_takes_the_place_of_its_own(self, name):
        policy, batch = new_policy(name).eval(), new_batch()
        nothing = [None] * ROWS
        own = policy.consider(batch, recalls=nothing, given=nothing, generator=seeded())
        said = policy.consider(batch, recalls=nothing, given=list(batch.thoughts), generator=seeded())
        for row, (mine, given) in enumerate(zip(own.thoughts, said.thoughts, strict=True)):
            assert all(given.words[key] == batch.thoughts[row].words[key] for key in given.words)
            assert mine.words.keys() == given.words.keys()
            assert all(mark in batch.thoughts[row].marks for mark in given.marks)
        assert (own.context.tokens.shape != said.context.tokens.shape) or not torch.allclose(
            own.context.tokens, said.context.tokens
        )

    def test_the_last_look_can_be_gone_on_from(self, name):
        policy, batch = new_policy(name).eval(), new_batch()
        nothing = [None] * ROWS
        first = policy.consider(batch, recalls=nothing, given=nothing, generator=seeded())
        for event in (False, True):
            recalls = [Recall(thought=each, event=event) for each in first.thoughts]
            later = policy.consider(batch, recalls=recalls, given=nothing, generator=seeded())
            assert all(age >= 0 for each in later.thoughts for age in each.ages.values())

    def test_survives_its_checkpoint(self, name, tmp_path):
        policy, batch = new_policy(name).eval(), new_batch()
        policy.save(tmp_path / "saved", facts={})
        again = Policy.load(tmp_path / "saved")
        torch.testing.assert_close(
            again.predict(batch, generator=seeded()).actions, policy.predict(batch, generator=seeded()).actions
        )

    def test_its_thoughts_reach_the_chunk(self, name):
        env = make_env("toy/reach-red")
        env.reset(0)
        actor = PolicyActor(new_policy(name), execute=2)
        actor.reset(0)
        chunk = actor.act(env.observe())
        assert chunk.thought is not None and chunk.thought == actor.recalls[0].thought
        assert Thought.from_json(chunk.thought.to_json()) == chunk.thought


def test_without_a_reasoner_nothing_can_be_said():
    policy = new_policy("visual").eval()
    config = replace(policy.config, reasoner=None)
    plain = Policy(config, robot=TOY, statistics=policy.statistics)
    with pytest.raises(ConfigError, match="no reasoner"):
        plain.consider(new_batch(), recalls=[None] * ROWS, given=[thought(0)] * ROWS)


def test_options_need_a_reasoner():
    policy = new_policy("visual")
    with pytest.raises(ConfigError, match="reasoner_options"):
        Policy(
            replace(policy.config, reasoner=None, reasoner_options={"weight": 1.0}),
            robot=TOY,
            statistics=policy.statistics,
        )


def test_marks_lie_on_the_picture():
    with pytest.raises(ConfigError, match=r"0 to 1"):
        Mark(camera="front", centre=(1.2, 0.5))
