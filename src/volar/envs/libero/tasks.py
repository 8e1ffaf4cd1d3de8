"""The tasks of LIBERO (arXiv 2306.03310) and LIBERO-PRO (arXiv 2510.03827): names, instructions, time limits. Needs no
simulator.

A task is written `<suite>/<number>-<file name>`, number and file name as published, for example
`goal/7-turn_on_the_stove`.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from volar.core.errors import ConfigError, unknown_name

VARIANTS = ("lan", "object", "swap", "task")  # of LIBERO-PRO; its `env` variant was released without its resources
INITIAL_STATES = 50  # published, per task
FIRST_EVALUATION_SEED = 1000  # that of `volar evaluate`: from here on episodes begin at published states
# Control steps until time-out, from openvla/openvla `run_libero_eval.py`: a little above the longest demonstration.
HORIZONS = {"spatial": 220, "object": 280, "goal": 300, "10": 520, "90": 400}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of one suite. slug: its file's name without ending, which holds the instruction for the five suites."""

    suite: str
    number: int
    slug: str

    @property
    def name(self) -> str:
        return f"{self.suite}/{self.number}-{self.slug}"

    @property
    def folder(self) -> str:
        """Where the package keeps the files of this suite."""
        return "libero_" + self.suite.replace("-", "_")

    @property
    def horizon(self) -> int:
        return HORIZONS[self.suite.partition("-")[0]]

    @property
    def instruction(self) -> str:
        """What evaluations tell the policy: the file's name in words. For the variants that reword or replace the task
        it is the text inside the file: by name they would be the unperturbed task (LIBERO-PRO issues 14 and 27)."""
        inside = _content()["instructions"].get(self.suite)
        if inside is not None:
            return inside[self.number]
        return re.sub(r"^[A-Z_]+SCENE\d+_", "", self.slug).replace("_", " ")


def suite_names() -> tuple[str, ...]:
    """The five suites, then four LIBERO-PRO variants of each of the suites of ten tasks."""
    published = tuple(_content()["tasks"])
    return published + tuple(f"{suite}-{variant}" for suite in published if suite != "90" for variant in VARIANTS)


def tasks_of(suite: str) -> tuple[Task, ...]:
    """The tasks of a suite in the published order. Raises ConfigError for an unknown suite."""
    if suite not in suite_names():
        raise unknown_name("LIBERO suite", suite, suite_names())
    slugs = _content()["tasks"][suite.partition("-")[0]]
    return tuple(Task(suite=suite, number=number, slug=slug) for number, slug in enumerate(slugs))


def find_task(name: str) -> Task:
    """The task of that name. Raises ConfigError for an unknown one, naming the nearest."""
    suite, _, rest = name.partition("/")
    known = tasks_of(suite)
    for task in known:
        if task.name == name:
            return task
    number = re.match(r"\d+", rest)
    if number and int(number[0]) < len(known):
        raise ConfigError(f"No LIBERO task named {name!r}. Did you mean {known[int(number[0])].name!r}?")
    raise unknown_name("LIBERO task", name, (task.name for task in known))


@cache
def _content() -> dict[str, Any]:
    return json.loads(files("volar.envs.libero").joinpath("tasks.json").read_text(encoding="utf-8"))
