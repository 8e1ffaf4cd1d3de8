"""Looks for what is wrong with a data set. A newcomer's check is one function and one line of `CHECKS`.

Never changes anything, and says nothing of a data set that is in order.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from volar.core.errors import ConfigError
from volar.core.progress import counting
from volar.data.dataset import Dataset
from volar.data.findings import Finding, error, worst_first
from volar.data.formats import open_dataset
from volar.data.inspection import cameras, clock, copies, endings, grippers, instructions, motion, scales, stored
from volar.data.inspection.looks import look
from volar.data.inspection.refused import refused_episodes
from volar.data.inspection.subject import Subject

Check = Callable[[Subject], Iterator[Finding]]
Pictures = Literal["sampled", "every", "none"]

CHECKS: Final[tuple[Check, ...]] = (
    stored.stored_statistics,
    stored.episode_statistics,
    clock.uneven_times,
    scales.constant_dimensions,
    scales.declared_limits,
    scales.declared_units,
    scales.state_against_action,
    scales.episode_on_another_scale,
    scales.spikes,
    motion.idle,
    motion.action_copies_state,
    motion.lag,
    grippers.inverted_gripper,
    grippers.gripper_coding,
    copies.repeated_episodes,
    copies.near_copies,
    endings.odd_lengths,
    endings.cut_endings,
    cameras.unreadable_pictures,
    cameras.frozen_camera,
    cameras.blank_pictures,
    cameras.swapped_cameras,
    instructions.bad_instructions,
    instructions.unused_tasks,
    instructions.instruction_variants,
)


def check_path(root: str | Path, *, pictures: Pictures = "sampled", progress: bool = False) -> tuple[Finding, ...]:
    """Findings about the data set at `root`, worst first; see `check`. What keeps it from being opened is one too."""
    try:
        return check(open_dataset(root), pictures=pictures, progress=progress)
    except ConfigError as refusal:
        refused = error("does-not-open", str(refusal), "Repair what is named, then check again.")
    try:
        dataset = open_dataset(root, lazy=True)
    except ConfigError:
        return (refused,)
    if found := tuple(refused_episodes(dataset)):
        return worst_first(dict.fromkeys(found))
    return worst_first((refused, *check(dataset, pictures=pictures, progress=progress)))


def check(dataset: Dataset, *, pictures: Pictures = "sampled", progress: bool = False) -> tuple[Finding, ...]:
    """Findings, worst first; none for a data set that is in order.

    pictures: "sampled" decodes a dozen of every episode and camera, "every" all, "none" leaves the cameras out.
    progress: show a bar on stderr.
    """
    looks, found = {}, []
    watched = () if pictures == "none" else dataset.cameras
    with counting("looking at pictures", len(watched) * len(dataset.episodes), shown=progress) as done:
        for camera in watched:
            looks[camera.name] = look(dataset, camera.name, every=pictures == "every", done=done)
    subject = Subject(dataset, looks)
    with counting("checking", len(CHECKS), shown=progress) as done:
        for one in CHECKS:
            try:
                found += one(subject)
            except ConfigError as problem:  # of a lazily opened data set, files are read only now
                found.append(error("unreadable-files", str(problem), "Repair what is named, then check again."))
            done(1)
    return worst_first(dict.fromkeys(found))
