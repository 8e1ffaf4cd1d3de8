"""Several trained policies that act as one, by what a `Composition` says (GPC, arXiv 2510.01068).

Each member sees its own part of the observation only. Fields and token distributions are mixed while a chunk comes to
be; votes and switches choose among whole chunks, which may come from any decoders.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from volar.core.compute import Counts
from volar.core.errors import ConfigError, EpisodeError
from volar.core.model import UNLIMITED, Batch, Budget, FieldDecoder, LogitDecoder, Sample
from volar.core.robot import BatchActor, Chunk, Observation
from volar.planning.composable import require_composable
from volar.planning.compose import by_strangeness, mixed_predictor, read_weights, shared, solve_combined, vote
from volar.planning.composition import Composition, is_composition, read_composition, union_robot
from volar.policies.actor import PolicyActor
from volar.policies.compute import INSTRUCTION, count_policy
from volar.policies.vla import Policy


class ComposedActor(BatchActor):
    """Final. execute: actions per look. budget: of a chunk, all members together.

    Observations are those of `robot`, the union of the members'. A member that weighs nothing is not asked and costs
    nothing, so that with weights of 1 and 0 the first acts alone, bit for bit, in the same world as all others. Among
    those that are asked, the heaviest one's decoder solves. ConfigError for policies that cannot act as one.
    """

    def __init__(
        self, policies: Sequence[Policy], composition: Composition, *, names: Sequence[str], execute: int,
        budget: Budget = UNLIMITED,
    ) -> None:  # fmt: skip
        require_composable(policies, composition, names)
        self.composition, self.execute, self.budget = composition, execute, budget
        self.robot = union_robot([policy.robot for policy in policies], names)
        weights = read_weights(composition.weights_of(len(policies)))
        heavy = weights.reshape(len(weights), -1).sum(1)
        asked = heavy.nonzero()[:, 0].tolist()
        self.weights = weights[asked]
        self.members = tuple(PolicyActor(policies[index], execute=execute) for index in asked)
        self.solver = policies[int(heavy.argmax())].decoder
        shared(budget, composition.draws * len(asked))
        if budget.limited and composition.how in ("mixture", "product"):
            raise ConfigError("A mixture of token distributions speaks until the chunk is whole; it takes no budget.")
        self.uses_images = any(member.policy.robot.cameras for member in self.members)
        column = {name: place for place, name in enumerate(self.robot.proprioception)}
        self._columns = [[column[name] for name in member.policy.robot.proprioception] for member in self.members]
        self._generator = torch.Generator(self.members[0].device)

    def another(self) -> "ComposedActor":
        """With the same weights in memory and episodes of its own."""
        twin = copy.copy(self)
        twin._generator = torch.Generator(self.members[0].device)
        return twin

    def reset(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def act_many(self, rows: Sequence[int], observations: Sequence[Observation]) -> list[Chunk]:
        """Every chunk's latency is that of the whole batch."""
        started = time.perf_counter()
        with torch.inference_mode():
            batches = self.batches(observations)
            if self.composition.how in ("vote", "switch"):
                chunks = self._chosen(batches)
            else:
                chunks = self._chunks(self._solved(batches), self.members[0])
        latency = time.perf_counter() - started
        return [replace(chunk, latency=latency) for chunk in chunks]

    def batches(self, observations: Sequence[Observation]) -> list[Batch]:
        """What each member that is asked sees of them. EpisodeError where the environment shows other numbers."""
        for each in observations:
            if len(each.proprioception) != len(self.robot.proprioception):
                raise EpisodeError(
                    f"The members find their proprioceptive numbers by their places among "
                    f"{len(self.robot.proprioception)}, and the environment shows {len(each.proprioception)}."
                )
        return [
            member.batch([replace(each, proprioception=each.proprioception[columns]) for each in observations])
            for member, columns in zip(self.members, self._columns, strict=True)
        ]

    def _solved(self, batches: Sequence[Batch]) -> Sample:
        """One chunk per row, which all members shape while it comes to be."""
        policies, how = [member.policy for member in self.members], self.composition.how
        contexts = [policy.backbone.encode(batch) for policy, batch in zip(policies, batches, strict=True)]
        given = {"rows": len(contexts[0].tokens), "device": contexts[0].tokens.device, "generator": self._generator}
        pairs = list(zip((policy.decoder for policy in policies), contexts, strict=True))
        if isinstance(self.solver, FieldDecoder):
            fields = [partial(each.field, context) for each, context in pairs if isinstance(each, FieldDecoder)]
            return solve_combined(
                self.solver, fields, self.weights, **given, budget=self.budget, energies=how == "conjunction"
            )
        assert isinstance(self.solver, LogitDecoder)
        predictors = [each.predictor(context) for each, context in pairs if isinstance(each, LogitDecoder)]
        predictor = mixed_predictor(predictors, self.weights, geometric=how == "product")
        sample = self.solver.speak(predictor, **given)
        return replace(sample, evaluations=sample.evaluations * len(predictors))

    def _chosen(self, batches: Sequence[Batch]) -> list[Chunk]:
        """One whole chunk of one member per row; all draws of all members were paid for."""
        draws = self.composition.draws
        budget = shared(self.budget, draws * len(self.members))
        drawn = [
            self._chunks(member.policy.predict(batch, generator=self._generator, budget=budget), member)
            for member, batch in zip(self.members, batches, strict=True) for _ in range(draws)
        ]  # fmt: skip
        weights = self.weights.repeat_interleave(draws).tolist()
        taken = []
        for chunks in zip(*drawn, strict=True):
            if self.composition.how == "vote":
                best = vote(np.stack([chunk.actions for chunk in chunks]), weights)
            else:
                best = by_strangeness(chunks)
            taken.append(replace(chunks[best], evaluations=sum(chunk.evaluations for chunk in chunks)))
        return taken

    def _chunks(self, sample: Sample, member: PolicyActor) -> list[Chunk]:
        actions = member.normalizers.action.denormalize(sample.actions.cpu().numpy()).astype(np.float32)
        strange = [None] * len(actions) if sample.strangeness is None else sample.strangeness.tolist()
        return [
            Chunk(actions=chunk, execute=self.execute, evaluations=evaluations, strangeness=strangeness)
            for chunk, evaluations, strangeness in zip(actions, sample.evaluations.tolist(), strange, strict=True)
        ]


def load_composed(folder: Path, *, execute: int, device: str = "cpu", budget: Budget = UNLIMITED) -> ComposedActor:
    """The composition in `folder`, ready to act. Raises ConfigError."""
    stored = read_composition(folder)
    policies = [Policy.load(member, device=device) for member in stored.members]
    names = [str(member) for member in stored.members]
    return ComposedActor(policies, stored.composition, names=names, execute=execute, budget=budget)


def load_acting(
    folder: Path, *, execute: int, device: str = "cpu", part: str | None = None
) -> Callable[[], BatchActor]:  # fmt: skip
    """What makes actors of the checkpoint or composition in `folder`, which share its weights. part: see
    `Policy.load`."""
    if not is_composition(folder):
        policy = Policy.load(folder, device=device, part=part)
        return lambda: PolicyActor(policy, execute=execute)
    first = load_composed(folder, execute=execute, device=device)
    return first.another


def count_composed(actor: ComposedActor, *, instruction: str = INSTRUCTION) -> Counts:
    """What a decision of all members that are asked costs together; one evaluation more is one of one member, hence
    the mean of theirs. Training is that of all of them."""
    counts = [count_policy(member.policy, instruction=instruction) for member in actor.members]
    draws = actor.composition.draws
    return Counts(
        parameters=sum(each.parameters for each in counts),
        trainable_parameters=sum(each.trainable_parameters for each in counts),
        frozen_parameters=sum(each.frozen_parameters for each in counts),
        training_flops=sum(each.training_flops for each in counts),
        stored_training_flops=None, feature_flops=None,
        encode_flops=draws * sum(each.encode_flops for each in counts),
        decode_flops=draws * sum(each.decode_flops for each in counts),
        instruction_flops=sum(each.instruction_flops for each in counts),
        evaluations=draws * sum(each.evaluations for each in counts),
        evaluation_flops=sum(each.evaluation_flops for each in counts) / len(counts),
        anytime=all(each.anytime for each in counts),
        uncounted=tuple(sorted({name for each in counts for name in each.uncounted})),
    )  # fmt: skip
