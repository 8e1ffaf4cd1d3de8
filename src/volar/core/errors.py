"""The three ways a run can go wrong, and the close-name hint that every lookup error carries."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """The request cannot work; raised before anything expensive starts. Exit code 2."""


class EpisodeError(RuntimeError):
    """One episode could not be judged (policy raised, worker died); it is recorded, never scored."""


class RobotFault(RuntimeError):
    """Going on would be unsafe or meaningless (non-finite action, lost simulator); everything stops. Exit code 3."""


MANY, NEAR = 60, 12  # names that one message lists: all of so many, and of more those nearest


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """A ConfigError that says what came, which name is closest and what exists; of very many only those like it.

    >>> raise unknown_name("decoder", "flw", ["flow", "regression"])
    Traceback (most recent call last):
    volar.core.errors.ConfigError: No decoder named 'flw'. Did you mean 'flow'? Known: flow, regression.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=NEAR, cutoff=0.4)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    shown = names if len(names) <= MANY else sorted(close or names[:NEAR])
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ConfigError(f"No {kind} named {name!r}.{hint} Known: {', '.join(shown) or 'none'}{more}.")
