"""`volar info PATH`: what a folder is: a data set, a checkpoint, a training run, an evaluation or a comparison."""

import json
from pathlib import Path
from typing import Any

import tyro

from volar.cli.output import Output
from volar.core.errors import ConfigError


def describe(place: str) -> dict[str, Any]:
    """Raises ConfigError when there is nothing that volar knows. place: a folder; of data sets, a URL too."""
    path = Path(place)
    if "://" in place or (path / "meta").is_dir():
        from volar.data.describe import describe_dataset

        return describe_dataset(place)
    if (path / "config.json").is_file():
        return describe_checkpoint(path)
    if (path / "composition.json").is_file():
        from volar.planning.composition import read_composition

        stored = read_composition(path)
        return {**stored.content, "description": stored.description}
    if (path / "language.json").is_file():
        from volar.policies.language_folder import read_language

        return {
            **json.loads((path / "language.json").read_text()),
            "description": read_language(path).policy.description,
        }
    if (path / "protocol.json").is_file():
        from volar.comparison.analyse import analyse

        return {"kind": "comparison", **analyse(path).to_json()}
    if (path / "run.json").is_file():
        run = json.loads((path / "run.json").read_text())
        if run.get("kind") == "evaluation":
            from volar.evaluation.report import describe_run

            return describe_run(path)
        if run.get("kind") == "training":
            return describe_training(path, run)
    if not path.exists():
        raise ConfigError(f"There is nothing at {path}.")
    raise ConfigError(
        f"{path} is nothing that volar knows: neither a data set (meta/info.json), nor a checkpoint (config.json), "
        f"nor a run (run.json)."
    )


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """The model card, the parts, the robot and the statistics; every file is proved by its hash first."""
    from volar.core.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    parameters = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    return {**checkpoint.config, "kind": "checkpoint", "parameters": parameters, "statistics": checkpoint.statistics}


def describe_training(path: Path, run: dict[str, Any]) -> dict[str, Any]:
    compute = path / "compute.json"
    return {
        **run,
        "compute": json.loads(compute.read_text()) if compute.is_file() else {},
        "checkpoints": sorted(folder.name for folder in (path / "checkpoints").glob("step-*")),
    }


def info(path: tyro.conf.Positional[str]) -> Output:
    """Describe a data set, a checkpoint, a training run, an evaluation or a comparison.

    Args:
        path: its folder; of a data set, a URL too
    """
    return Output(describe(path))


def main(arguments: list[str]) -> Output:
    return tyro.cli(info, prog="volar info", args=arguments)
