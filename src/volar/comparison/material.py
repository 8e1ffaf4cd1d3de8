"""What the folder of a comparison holds, read and proved; judges nothing."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volar.comparison.ledger import Ledger, read_ledgers
from volar.comparison.outcomes import Outcomes
from volar.comparison.protocol import Protocol, Registration, read_protocol
from volar.core.errors import ConfigError
from volar.evaluation.records import EpisodeRecord, read
from volar.evaluation.run import RunInfo, read_run


@dataclass(frozen=True, kw_only=True)
class Material:
    """ledger: arm -> member -> ledger; empty before it is written. looks: looks.jsonl as it stands. notes:
    what had to be left out of a file, in sentences."""

    folder: Path
    registration: Registration
    run: RunInfo
    records: Sequence[EpisodeRecord]
    outcomes: Outcomes
    ledger: Mapping[str, Mapping[str, Ledger]]
    looks: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]

    @property
    def protocol(self) -> Protocol:
        return self.registration.protocol


def read_material(folder: Path) -> Material:
    """Raises ConfigError when there is no comparison in `folder`, no episode in it, or one of its files is damaged."""
    registration, run, ledger = read_protocol(folder), read_run(folder), folder / "ledger.json"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = read(folder / "episodes.jsonl")
    if not records:
        raise ConfigError(f"{folder} holds no finished episode yet; let `volar compare` finish at least one.")
    _require_known(folder, registration.protocol, run, records)
    return Material(
        folder=folder, registration=registration, run=run, records=records, outcomes=Outcomes(records),
        ledger=read_ledgers(ledger) if ledger.exists() else {}, looks=_read_lines(folder / "looks.jsonl"),
        notes=tuple(str(one.message) for one in caught),
    )  # fmt: skip


def _require_known(folder: Path, protocol: Protocol, run: RunInfo, records: Sequence[EpisodeRecord]) -> None:
    for position, kind, known in ((0, "arm", {*protocol.members, *run.arms}), (1, "task", set(protocol.tasks))):
        if strangers := {str(record.key[position]) for record in records} - known:
            raise ConfigError(
                f"{folder / 'episodes.jsonl'} holds {kind} {', '.join(map(repr, sorted(strangers)))}, which "
                f"protocol.json and run.json do not name; expected {', '.join(map(repr, sorted(known)))}."
            )


def _read_lines(path: Path) -> tuple[Mapping[str, Any], ...]:
    """JSON objects, one a line; a last line that a dying process left unfinished is dropped."""
    lines, found = path.read_text().splitlines() if path.exists() else [], []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ConfigError(f"{path}, line {number} is not JSON ({error}).") from error
    return tuple(found)
