"""Suites of LIBERO (arXiv 2306.03310) and LIBERO-PRO (arXiv 2510.03827): protocol, how to read a number, reference
values. Needs no simulator."""

from collections.abc import Mapping

from volar.envs.libero.tasks import FIRST_EVALUATION_SEED, INITIAL_STATES, suite_names, tasks_of
from volar.envs.suites import Published, Suite

READING = (
    "Most published values lie above 95 %: 147 listed until April 2026 have a median of 95.5 %, and a network of 0.09 "
    "billion weights that reads no instruction reaches 97.6 % over the four suites (arXiv 2606.04233). A high value "
    "shows that everything is connected rightly, not that instructions are understood.",
    "500 episodes tell 99 % and 98 % apart at no level of significance.",
    "Compare pictures, time limit and executed actions per look before comparing values: each moves them by points.",
    "MuJoCo 3.4 and later spoil one task of the spatial suite; values taken there are too low by up to 10 points.",
)
ONE_OF_FIVE = "LIBERO in papers is the mean over spatial, object, goal and 10, weighed the same, without the 90."
SOON = (
    "Task 6 (mug and pudding) counts as solved while the pudding still hangs above its place: LIBERO's goal for a "
    "region asks for no contact.",
)
PERTURBED = (
    "Read it beside the unperturbed suite, never as a mean over the variants: pi0.5 is listed with 92 to 98 % under "
    "rewording and new objects, 8 to 38 % where objects change places, 0 to 1 % where the task is another.",
    "The usual evaluation programs (openpi, openvla-oft, lerobot) take the instruction from the file's name, which "
    "makes `lan` no perturbation and asks for the old task in `task`; here it comes from inside the file (LIBERO-PRO "
    "issues 14 and 27). Values taken with those programs are not comparable.",
)
NOTES = "paper notes"
# Values in the order of ORDER; none of the notes says over how many episodes.
FOUR: Mapping[tuple[str, str], tuple[float, float, float, float]] = {
    ("SmolVLA 0.45B", "arXiv 2506.01844"): (0.90, 0.96, 0.92, 0.71),
    ("CoT-VLA", "arXiv 2503.22020"): (0.875, 0.916, 0.876, 0.690),
    ("WorldVLA, 512 px", "arXiv 2506.21539"): (0.876, 0.962, 0.834, 0.600),
    ("FLOWER", "arXiv 2509.04996"): (0.972, 0.993, 0.969, 0.945),
    ("Cosmos Policy", "arXiv 2601.16163"): (0.981, 1.0, 0.982, 0.976),
    ("SRPO", "arXiv 2511.15605"): (0.988, 1.0, 0.994, 0.986),
}
NINETY = (Published(method="FLOWER", value=0.934, episodes=None, source="arXiv 2509.04996, by way of paper notes"),)
ORDER = ("spatial", "object", "goal", "10")


def suites() -> tuple[Suite, ...]:
    """The five suites, then LIBERO-PRO's variants of four of them: `libero-10`, `libero-10-swap`."""
    return tuple(_suite(name) for name in suite_names())


def _suite(name: str) -> Suite:
    tasks, variant = tasks_of(name), name.partition("-")[2]
    reading = (*READING, ONE_OF_FIVE, *(SOON if name == "10" else ()), *(PERTURBED if variant else ()))
    return Suite(
        name=f"libero-{name}", tasks=tuple(f"libero/{task.name}" for task in tasks), episodes=INITIAL_STATES,
        max_steps=tasks[0].horizon, first_seed=FIRST_EVALUATION_SEED,
        initial_states=f"the {INITIAL_STATES} published ones of each task, then 10 steps without moving; where "
        "fixtures stand is drawn from the seed",
        success="the task file's goal at any step", reading=reading, published=_published(name),
    )  # fmt: skip


def _published(name: str) -> tuple[Published, ...]:
    if name == "90":
        return NINETY
    if name not in ORDER:
        return ()
    return tuple(
        Published(method=method, value=values[ORDER.index(name)], episodes=None, source=f"{source}, by way of {NOTES}")
        for (method, source), values in FOUR.items()
    )
