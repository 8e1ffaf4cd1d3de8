"""What a policy costs: the counted numbers that training, comparison and report share. Counting is in policies/."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Floating-point operations (1 multiply-add = 2) and parameters of one policy; docs/compute.md says how.

    parameters: all of it, of which `trainable_parameters` are learned and `frozen_parameters` only run forward.
    training_flops: forward and backward of one sample, pictures included. stored_training_flops: the same from stored
    features; then each frame costs `feature_flops` once. Both None where the backbone stores none.
    encode_flops, decode_flops: one decision, in backbone and decoder, with `evaluations` of the decoder's network.
    evaluation_flops: one evaluation more or less. instruction_flops: reading an instruction for the first time.
    thinking_flops, thinking_evaluations, thinking_tokens: of a reasoner, per decision in the mean of an episode's first
    looks; what it encodes once more is part of it.
    anytime: the number of evaluations can be chosen when acting, up to `most_evaluations` (None: no end was met).
    uncounted: operations that were met and have no formula; the numbers are then too low.
    """

    parameters: int
    trainable_parameters: int
    frozen_parameters: int
    training_flops: int
    stored_training_flops: int | None
    feature_flops: int | None
    encode_flops: int
    decode_flops: int
    instruction_flops: int
    evaluations: float
    evaluation_flops: float
    anytime: bool
    most_evaluations: int | None = None
    thinking_flops: float = 0.0
    thinking_evaluations: float = 0.0
    thinking_tokens: float = 0.0
    uncounted: tuple[str, ...] = ()

    def decision_flops(self, evaluations: int | float | None = None) -> float:
        """One decision with a known instruction. evaluations: of decoder and reasoner together, as episodes record
        them; None takes their own number."""
        more = 0.0 if evaluations is None else evaluations - self.evaluations - self.thinking_evaluations
        return self.encode_flops + self.thinking_flops + self.decode_flops + more * self.evaluation_flops


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Wall time of one decision in seconds, and what else the machine told; None where it does not tell.

    first: with a new instruction and nothing warmed up. evaluation: of one evaluation more; 0 where their number
    cannot be chosen. evaluations: of decoder and reasoner together. peak_memory_bytes: of the process (of the GPU where
    the policy is there). energy_joules: of one decision, the whole machine's.
    """

    first: float
    median: float
    p95: float
    evaluation: float
    evaluations: float
    peak_memory_bytes: int | None
    energy_joules: float | None
