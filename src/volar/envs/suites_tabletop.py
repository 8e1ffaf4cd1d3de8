"""Suites of `tabletop`, our own benchmark: its families, held-out combinations apart, and its robustness curves."""

from collections.abc import Iterable, Mapping

from volar.envs.suites import ROBUSTNESS, SEEDED, Suite, graded
from volar.envs.tabletop.tasks import attribute, chores, compose, drawer, horizon, memory, obstacle, sort

EPISODES = 50
FIRST_SEED = 100_000  # far from the seeds of demonstrations
SUCCESS = "the task's own condition at any step"
READING = ("A suite of one laboratory, with no published values: compare with the oracle and the control arms, and "
           "with policies you ran yourself.",)  # fmt: skip
STEPS = 150  # experts need 21 to 97 control steps of 50 ms in every family but memory and horizon
BASIC = ("fork", "precise", "push", "pick-place-red")
SPLIT = ("Trained on tabletop-compose-train only: every word of a held-out command occurs there, the combination "
         "does not.",)  # fmt: skip


def suites() -> tuple[Suite, ...]:
    """One suite per family; `compose` and `sort` have one for training, and others for what is held out."""
    waits = {task: STEPS + 20 * _number(task) for task in memory.TASKS}
    chains = {task: 40 + 110 * _number(task) for task in (*horizon.TASKS, *chores.TASKS)}
    return (
        _suite("compose-train", compose.TRAINED, STEPS),
        _suite("compose-heldout", compose.HELD_OUT, STEPS, *SPLIT),
        _suite("compose-heldout-things", compose.HELD_OUT_THINGS, STEPS, *SPLIT,
               "Here the thing itself is new: its colour and its shape occur in training, never together."),
        _suite("sort-train", sort.TRAINED, STEPS),
        _suite("sort-heldout", sort.HELD_OUT, STEPS,
               "Trained on tabletop-sort-train only: each cube and each region occurs there, the pair does not."),
        _suite("attribute", attribute.TASKS, STEPS),
        _suite("drawer", drawer.TASKS, STEPS),
        _suite("obstacle", obstacle.TASKS, STEPS),
        _suite("memory", memory.TASKS, waits,
               "memory-0 shows the cue all the time: what is lost from there to memory-20 is lost by forgetting. "
               "Without memory half of the episodes succeed by chance."),
        *(_suite(name, tasks, {task: chains[task] for task in tasks},
                 "Success needs every link of the chain: a policy that does a link with chance p does n with about p "
                 "to the n. Read it beside the recorded number of links done.")
          for name, tasks in (("horizon", horizon.TASKS), ("chores", chores.TASKS))),
        Suite(
            name="tabletop-robustness", tasks=graded(f"tabletop/{task}" for task in BASIC), episodes=20,
            max_steps=STEPS, first_seed=FIRST_SEED, initial_states=SEEDED, success=SUCCESS,
            reading=(*READING, *ROBUSTNESS),
        ),
    )  # fmt: skip


def _suite(name: str, tasks: Iterable[str], max_steps: int | Mapping[str, int], *reading: str) -> Suite:
    steps = max_steps if isinstance(max_steps, int) else {f"tabletop/{task}": most for task, most in max_steps.items()}
    return Suite(
        name=f"tabletop-{name}", tasks=tuple(f"tabletop/{task}" for task in tasks), episodes=EPISODES,
        max_steps=steps, first_seed=FIRST_SEED, initial_states=SEEDED, success=SUCCESS, reading=(*READING, *reading),
    )  # fmt: skip


def _number(task: str) -> int:
    """Of `memory-20` the seconds, of `horizon-5-knocked` and `horizon-plan-5` the links."""
    return next(int(word) for word in task.split("-") if word.isdecimal())
