"""Labels of what a policy shall tell itself: thoughts of a data set's frames."""

from collections.abc import Sequence

from jaxtyping import Int
from numpy import ndarray

from volar.core.errors import ConfigError
from volar.core.thoughts import Thought
from volar.data.dataset import Dataset


def read_thoughts(dataset: Dataset, rows: Sequence[int] | Int[ndarray, " n"]) -> tuple[Thought, ...]:
    """Of these rows. Raises ConfigError where the data set is not labelled."""
    raise ConfigError(f"{dataset.root} has no thoughts to learn from; label it first: `volar data label`.")
