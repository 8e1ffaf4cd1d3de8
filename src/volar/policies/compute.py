"""What a policy costs: counted on a stand-in that shares its weights, so that the policy itself is left as it was.

FLOPs do not depend on the machine (nn/flops.py); times, memory and energy do. What is counted: docs/compute.md.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from volar.core.compute import Counts, Timing
from volar.core.model import UNLIMITED, AnytimeDecoder, Batch, Budget, Context, FrozenVision, TokenDecoder
from volar.core.robot import Observation
from volar.core.thoughts import Recall, Thought
from volar.nn.flops import Tally, counting
from volar.policies.actor import PolicyActor
from volar.policies.meter import EnergyMeter, peak_memory, reset_peak_memory
from volar.policies.vla import Policy

INSTRUCTION = "pick up the red block and put it on the plate"
# Budgets between which the price of one evaluation is read off; MANY is even, for solvers of two a step.
FEW, MANY = 1, 6
LOOKS = 8  # over which thinking is averaged: most reasoners keep a part of what they thought from look to look


def count_policy(
    policy: Policy, *, instruction: str = INSTRUCTION, seed: int = 0, rows: int = 2, budget: Budget = UNLIMITED,
    labels: Sequence[Thought] = (),
) -> Counts:  # fmt: skip
    """Count one decision and one training step, on made-up observations that fit the policy's robot.

    rows: samples of the training step. labels: what a reasoner learns on them, as many; without any, what it thinks
    itself. Tokenizer and reasoner must be fitted; where the number of their tokens varies, so does the cost: count
    trained ones, and training by `training_flops`.
    """
    parameters = list(policy.parameters())
    trainable = sum(each.numel() for each in parameters if each.requires_grad)
    with _undisturbed(policy, training=False) as twin:
        decision = _count_decision(twin, instruction, seed, budget)
        seen = _labelled(twin, spec_batch(twin, rows=rows, instruction=instruction, seed=seed), labels)
    uncounted, stored, feature = set(decision.uncounted), None, None
    whole = training_flops(policy, seen, seed=seed)
    uncounted |= set(whole.uncounted)
    if isinstance(policy.backbone, FrozenVision):
        feature = feature_flops(policy)
        stored = training_flops(policy, _stored(policy, seen), seed=seed).flops // rows
    return Counts(
        parameters=sum(each.numel() for each in parameters),
        trainable_parameters=trainable,
        frozen_parameters=sum(each.numel() for each in parameters) - trainable,
        training_flops=whole.flops // rows,
        stored_training_flops=stored,
        feature_flops=feature,
        encode_flops=decision.encode,
        decode_flops=decision.decode,
        instruction_flops=decision.instruction,
        evaluations=decision.evaluations,
        evaluation_flops=decision.per_evaluation,
        anytime=isinstance(policy.decoder, AnytimeDecoder),
        most_evaluations=decision.most,
        thinking_flops=decision.thinking.flops,
        thinking_evaluations=decision.thinking.evaluations,
        thinking_tokens=decision.thinking.tokens,
        uncounted=tuple(sorted(uncounted)),
    )


def training_flops(policy: Policy, batch: Batch, *, seed: int = 0) -> Tally:
    """One step on `batch`, forward and backward; what the policy remembers from step to step is not computed again.
    The optimiser's work is elementwise and not counted."""
    with _undisturbed(policy, training=True) as twin:
        generator = _generator(policy, seed)
        with torch.no_grad():
            twin.loss(batch, generator=generator)
        with counting() as spent:
            _learn(twin, batch, generator)
    return spent


def feature_flops(policy: Policy) -> int:
    """What storing the frozen part's output of one frame, all cameras, takes; 0 where the backbone stores none."""
    if not isinstance(policy.backbone, FrozenVision):
        return 0
    seen = spec_batch(policy, rows=1, instruction=INSTRUCTION, seed=0)
    with torch.no_grad(), counting() as spent:
        for images in seen.images.values():
            policy.backbone.features(images)
    return spent.flops


def time_policy(
    policy: Policy, *, instruction: str = INSTRUCTION, seed: int = 0, repeats: int = 20, budget: Budget = UNLIMITED
) -> Timing:
    """Time decisions as an episode would see them, from observation to actions in the robot's units."""
    device = next(policy.parameters()).device
    with _undisturbed(policy, training=False) as twin:
        seen = _observation(twin, instruction, seed)
        reset_peak_memory(device)
        first = _seconds(twin, seen, budget, repeats=1)
        meter = EnergyMeter()
        warm = _seconds(twin, seen, budget, repeats=repeats)
        spent = meter.joules()
        per_evaluation = 0.0
        if isinstance(twin.decoder, AnytimeDecoder):
            few, many = (_seconds(twin, seen, Budget(evaluations=n), repeats=repeats) for n in (FEW, MANY))
            more = many.evaluations - few.evaluations
            per_evaluation = max(0.0, many.median - few.median) / more if more else 0.0
    return Timing(
        first=first.median,
        median=warm.median,
        p95=warm.p95,
        evaluation=per_evaluation,
        evaluations=warm.evaluations,
        peak_memory_bytes=peak_memory(device),
        energy_joules=None if spent is None else spent / repeats,
    )


def time_training_step(
    policy: Policy, *, rows: int, stored: bool, seed: int = 0, repeats: int = 5, labels: Sequence[Thought] = ()
) -> float:
    """Median seconds of forward and backward on `rows` made-up samples; the optimiser's share is left out.

    stored: from stored features, where the backbone has such. labels: as of `count_policy`.
    """
    with _undisturbed(policy, training=False) as twin:
        seen = _labelled(twin, spec_batch(twin, rows=rows, instruction=INSTRUCTION, seed=seed), labels)
    if stored:
        seen = _stored(policy, seen)
    seconds = []
    with _undisturbed(policy, training=True) as twin:
        generator = _generator(policy, seed)
        for _ in range(1 + repeats):
            started = time.perf_counter()
            _learn(twin, seen, generator)
            if generator.device.type == "cuda":
                torch.cuda.synchronize(generator.device)
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:]))


def _learn(policy: Policy, batch: Batch, generator: torch.Generator) -> None:
    loss = policy.loss(batch, generator=generator).mean()
    trainable = [each for each in policy.parameters() if each.requires_grad]
    torch.autograd.grad(loss, trainable, allow_unused=True)  # unlike backward(), touches nobody's .grad


@torch.no_grad()
def _stored(policy: Policy, batch: Batch) -> Batch:
    """The batch as it comes from the feature cache, where the backbone has one."""
    if not isinstance(policy.backbone, FrozenVision):
        return batch
    features = {name: policy.backbone.features(each) for name, each in batch.images.items()}
    needed = policy.reasoner is not None and policy.reasoner.uses_images
    return replace(batch, images=batch.images if needed else {}, features=features)


def _labelled(policy: Policy, batch: Batch, labels: Sequence[Thought]) -> Batch:
    if policy.reasoner is None:
        return batch
    nothing = [None] * len(batch.instructions)
    return replace(batch, thoughts=tuple(labels) or policy.consider(batch, recalls=nothing, given=nothing).thoughts)


def spec_batch(policy: Policy, *, rows: int, instruction: str, seed: int) -> Batch:
    """Noise in the shapes that the policy reads and says, actions included."""
    noise = np.random.default_rng(seed)
    device, widths = next(policy.parameters()).device, policy.widths

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    images = {
        camera.name: tensor(noise.integers(0, 256, (rows, camera.height, camera.width, 3), dtype=np.uint8))
        for camera in policy.robot.cameras
    }
    shape = (rows, policy.config.horizon, widths.action)
    return Batch(
        images=images,
        instructions=(instruction,) * rows,
        proprioception=tensor(noise.standard_normal((rows, widths.proprioception), dtype=np.float32)),
        actions=tensor(noise.uniform(-1, 1, shape).astype(np.float32)),
        valid=torch.ones(shape[:2], dtype=torch.bool, device=device),
    )


@dataclass(frozen=True)
class _Decision:
    encode: int
    decode: int
    instruction: int
    evaluations: float
    per_evaluation: float
    most: int | None
    thinking: "_Thinking"
    uncounted: tuple[str, ...]


def _count_decision(policy: Policy, instruction: str, seed: int, budget: Budget) -> _Decision:
    batch = replace(spec_batch(policy, rows=1, instruction=instruction, seed=seed), actions=None, valid=None)
    with counting() as cold:
        policy.backbone.encode(batch)
    with counting() as warm:
        policy.backbone.encode(batch)
    thinking = _count_thinking(policy, batch, seed, encode=warm.flops)
    considered = policy.consider(batch, recalls=[None], given=[None], generator=_generator(policy, seed))
    own = _count_sample(policy, considered.context, seed, budget)
    per_evaluation, most = own.flops / own.evaluations, None
    if isinstance(policy.decoder, AnytimeDecoder):
        few, many = (_count_sample(policy, considered.context, seed, Budget(evaluations=n)) for n in (FEW, MANY))
        if many.evaluations > few.evaluations:
            per_evaluation = (many.flops - few.flops) / (many.evaluations - few.evaluations)
        if many.evaluations < MANY:
            most = max(int(many.evaluations), int(own.evaluations))
    return _Decision(
        encode=warm.flops,
        decode=own.flops,
        instruction=cold.flops - warm.flops,
        evaluations=own.evaluations,
        per_evaluation=per_evaluation,
        most=most,
        thinking=thinking,
        uncounted=(*cold.uncounted, *thinking.uncounted, *own.uncounted),
    )


@dataclass(frozen=True)
class _Drawn:
    flops: int
    evaluations: float
    uncounted: tuple[str, ...]


def _count_sample(policy: Policy, context: Context, seed: int, budget: Budget) -> _Drawn:
    with counting() as spent:
        sample = policy.decode(context, generator=_generator(policy, seed), budget=budget)
    return _Drawn(spent.flops, sample.evaluations.float().mean().item(), spent.uncounted)


@dataclass(frozen=True)
class _Thinking:
    """Per look."""

    flops: float = 0.0
    evaluations: float = 0.0
    tokens: float = 0.0
    uncounted: tuple[str, ...] = ()


def _count_thinking(policy: Policy, batch: Batch, seed: int, encode: int) -> _Thinking:
    """On the first looks of an episode in which nothing happens. encode: what seeing alone costs."""
    if policy.reasoner is None:
        return _Thinking()
    generator, recall = _generator(policy, seed), None
    evaluations = tokens = 0
    with counting() as spent:
        for _ in range(LOOKS):
            considered = policy.consider(batch, recalls=[recall], given=[None], generator=generator)
            recall = Recall(thought=considered.thoughts[0], event=False)
            evaluations += int(considered.evaluations.item())
            tokens += recall.thought.tokens
    return _Thinking(spent.flops / LOOKS - encode, evaluations / LOOKS, tokens / LOOKS, spent.uncounted)


@dataclass(frozen=True)
class _Seconds:
    median: float
    p95: float
    evaluations: float


def _seconds(policy: Policy, seen: Observation, budget: Budget, *, repeats: int) -> _Seconds:
    actor = PolicyActor(policy, execute=1, budget=budget)
    actor.reset(0)
    chunks = [actor.act(seen) for _ in range(repeats)]
    latencies = [chunk.latency for chunk in chunks]
    return _Seconds(
        median=float(np.median(latencies)),
        p95=float(np.quantile(latencies, 0.95)),
        evaluations=float(np.mean([chunk.evaluations for chunk in chunks])),
    )


def _observation(policy: Policy, instruction: str, seed: int) -> Observation:
    noise = np.random.default_rng(seed)
    return Observation(
        images={
            camera.name: noise.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
            for camera in policy.robot.cameras
        },
        proprioception=noise.standard_normal(len(policy.robot.proprioception)).astype(np.float32),
        instruction=instruction,
        time=0.0,
    )


def _generator(policy: Policy, seed: int) -> torch.Generator:
    return torch.Generator(next(policy.parameters()).device).manual_seed(seed)


@contextmanager
def _undisturbed(policy: Policy, *, training: bool) -> Iterator[Policy]:
    """A copy of everything but the parameters, so that memories, counters, buffers and mode of the policy stay as they
    are, and so does the global generator (dropout draws from it)."""
    shared: dict[int, object] = {id(each): each for each in policy.parameters()}
    if isinstance(policy.decoder, TokenDecoder):
        tokenizer = policy.decoder.tokenizer
        shared[id(tokenizer)] = copy.copy(tokenizer)  # counters of its own; what it learned may not be copyable
    twin = copy.deepcopy(policy, shared).train(training)
    devices = [each.device for each in policy.parameters() if each.device.type == "cuda"][:1]
    with torch.random.fork_rng(devices), torch.set_grad_enabled(training):
        yield twin
