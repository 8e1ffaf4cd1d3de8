"""Suites of Meta-World (arXiv 1910.10897): MT10, MT50 and the train/test splits of ML10 and ML45, read from the package
itself. ML asks whether tasks that were never trained on can be done; volar adapts nothing at test time."""

from collections.abc import Iterable

from volar.envs.metaworld import ALL_V3_ENVIRONMENTS, ML10_V3, ML45_V3, MT10_V3
from volar.envs.suites import ROBUSTNESS, SEEDED, Published, Suite, graded

EPISODES = 50  # the package draws 50 goals per task (`_N_GOALS`)
MAX_STEPS = 500  # the package's own limit, max_path_length
FIRST_SEED = 100_000  # far from the seeds of demonstrations
SUCCESS = "the simulator's momentary flag at any step"
READING = (
    "The mean weighs every task the same; the tasks differ so much in difficulty that the per-task rates say more.",
    "Goals and objects are drawn from the episode's seed here; the package would draw 50 fixed goals. Same ranges, "
    "other draws: compare with published values as between two samples, not scene by scene.",
    "Success is the flag at any step. On 15 of 50 tasks it goes off again, so papers that look at the last step only "
    "report less.",
    "Pictures: camera corner4. Reach, push and pick-place show their goal as a sphere and do not name it.",
)
BASIC = ("faucet-open", "drawer-open", "button-press-topdown", "push")
SPLIT = (
    "Test tasks were not trained on. ML's own protocol lets the learner adapt with a few episodes of the test task; "
    "volar does not, so values of meta-learning papers are not comparable.",
)
PUBLISHED = (
    Published(method="SmolVLA", value=0.573, episodes=None, source="arXiv 2506.01844, by way of paper notes"),
    Published(method="pi0, supervised", value=0.508, episodes=None, source="RLinf documentation"),
    Published(method="pi0.5, supervised", value=0.438, episodes=None, source="RLinf documentation"),
    Published(
        method="pi0 after reinforcement learning",
        value=0.858,
        episodes=None,
        source="arXiv 2510.25889, RLinf documentation",
    ),
    Published(
        method="pi0.5 after reinforcement learning",
        value=0.707,
        episodes=None,
        source="arXiv 2510.25889, RLinf documentation",
    ),
)


def suites() -> tuple[Suite, ...]:
    """MT10, MT50, ML10 and ML45 as the installed package defines them."""
    return (
        _suite("metaworld-mt10", MT10_V3),
        _suite("metaworld-mt50", ALL_V3_ENVIRONMENTS, published=PUBLISHED),
        _suite("metaworld-ml10-train", ML10_V3["train"]),
        _suite("metaworld-ml10-test", ML10_V3["test"], reading=SPLIT),
        _suite("metaworld-ml45-train", ML45_V3["train"]),
        _suite("metaworld-ml45-test", ML45_V3["test"], reading=SPLIT),
        Suite(
            name="metaworld-robustness", tasks=graded(f"metaworld/{task}" for task in BASIC), episodes=20,
            max_steps=MAX_STEPS, first_seed=FIRST_SEED, initial_states=SEEDED, success=SUCCESS, reading=ROBUSTNESS,
        ),
    )  # fmt: skip


def _suite(
    name: str, names: Iterable[str], *, reading: tuple[str, ...] = (), published: tuple[Published, ...] = (),
) -> Suite:  # fmt: skip
    return Suite(
        name=name, tasks=tuple(f"metaworld/{each.removesuffix('-v3')}" for each in names), episodes=EPISODES,
        max_steps=MAX_STEPS, first_seed=FIRST_SEED, initial_states=SEEDED,
        success=SUCCESS, reading=(*READING, *reading), published=published,
    )  # fmt: skip
