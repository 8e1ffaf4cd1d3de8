"""Movement primitives: few numbers that stand for a smooth motion. Batched, differentiable, ignorant of robots."""
