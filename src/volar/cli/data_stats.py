"""`volar data stats PATH`: exact statistics of every number of a data set, and stats.json brought up to date."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from volar.cli.output import Output
from volar.cli.tables import show

if TYPE_CHECKING:
    from volar.data.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Statistics of every number, in one pass. Exact; quantiles of features beyond 512 MiB within a stated rank."""

    data: tyro.conf.Positional[str]
    """folder or URL of a data set"""
    quantiles: tuple[float, ...] = (0.01, 0.5, 0.99)
    """probabilities, such as 0.01 0.5 0.99"""
    write: bool = False
    """replace meta/stats.json of a LeRobot data set (pictures included) by what is true"""


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Stats, prog="volar data stats", args=arguments)

    from volar.data.formats import open_dataset
    from volar.data.inspection.subject import dimension_names
    from volar.data.measure import measure

    dataset = open_dataset(command.data, lazy=True)
    written = _write(dataset, command.data) if command.write else None
    found = measure(dataset, command.quantiles, progress=True)
    names = {name: dimension_names(dataset.features[name]) for name in found}
    features = {
        name: {"names": list(names[name]), "quantiles": {}, **_plain(asdict(one), command.quantiles)}
        for name, one in found.items()
    }
    text = "\n\n".join(_text(name, feature, command.quantiles) for name, feature in features.items())
    return Output(
        {"data": command.data, "features": features, "written": written},
        text + (f"\n\nWritten: {written}" if written else ""),
    )


def _write(dataset: "Dataset", root: str) -> str:
    """Raises ConfigError for a data set of another format, or in another place than this machine's disk."""
    from volar.core.atomic import FolderLock, write_files
    from volar.core.errors import ConfigError
    from volar.data import layout
    from volar.data.measure import lerobot_statistics

    path = Path(dataset.root) / layout.STATS
    if not dataset.format.startswith("LeRobot v3") or not path.parent.is_dir():
        raise ConfigError(
            f"stats.json is written into local LeRobot v3 data sets; {root} is {dataset.format}. "
            f"`volar data convert` makes one."
        )
    lock = FolderLock(path.parent)
    try:
        write_files({path: json.dumps(lerobot_statistics(dataset, progress=True), indent=4).encode()})
    finally:
        lock.release()
    return str(path)


def _plain(measured: dict[str, Any], probabilities: tuple[float, ...]) -> dict[str, Any]:
    values = {key: value.tolist() if type(value).__module__ == "numpy" else value for key, value in measured.items()}
    return values | {"quantiles": dict(zip(map(str, probabilities), values["quantiles"], strict=True))}


def _text(name: str, feature: dict[str, Any], probabilities: tuple[float, ...]) -> str:
    heads = (name, "mean", "std", "min", *(f"{probability:.4g}" for probability in probabilities), "max", "")
    columns = [feature["mean"], feature["std"], feature["min"], *feature["quantiles"].values(), feature["max"]]
    rows = [
        (label, *(f"{column[d]:.4g}" for column in columns), "constant" if d in feature["degenerate"] else "")
        for d, label in enumerate(feature["names"])
    ]
    error = feature["rank_error"]
    exact = "exact" if not error else f"quantiles within {error:.2%} of the rows"
    return f"{show(heads, rows)}\n{feature['count']} rows, {exact}"
