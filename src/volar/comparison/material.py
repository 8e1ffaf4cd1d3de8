"""What the folder of a comparison holds, read and proved; judges nothing."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from volar.comparison.ledger import Ledger, read_ledgers
from volar.comparison.outcomes import Outcomes
from volar.comparison.protocol import Protocol, Registration, read_protocol
from volar.core.errors import ConfigError
from volar.evaluation.records import EpisodeRecord, read
from volar.evaluation.run import RunInfo, read_run


@dataclass(frozen=True, kw_only=True)
class Material:
    """ledger: arm -> member -> ledger; empty before it is written. notes: what had to be left out of a file, in
    sentences."""

    folder: Path
    registration: Registration
    run: RunInfo
    records: Sequence[EpisodeRecord]
    outcomes: Outcomes
    ledger: Mapping[str, Mapping[str, Ledger]]
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
        ledger=read_ledgers(ledger) if ledger.exists() else {},
        notes=tuple(str(one.message) for one in caught),
    )  # fmt: skip


def _require_known(folder: Path, protocol: Protocol, run: RunInfo, records: Sequence[EpisodeRecord]) -> None:
    for position, kind, known in ((0, "arm", {*protocol.members, *run.arms}), (1, "task", set(protocol.tasks))):
        if strangers := {str(record.key[position]) for record in records} - known:
            raise ConfigError(
                f"{folder / 'episodes.jsonl'} holds {kind} {', '.join(map(repr, sorted(strangers)))}, which "
                f"protocol.json and run.json do not name; expected {', '.join(map(repr, sorted(known)))}."
            )
