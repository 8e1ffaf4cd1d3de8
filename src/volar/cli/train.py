"""`volar train RECIPE`: a recipe is a Python file with a function `recipe() -> TrainConfig`, or `-> ValueConfig` for
the learned value of a policy."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import tyro

from volar.cli.output import Output
from volar.core.errors import ConfigError
from volar.planning.value_config import ValueConfig
from volar.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a recipe on a data set, or on a mixture of several of one robot, or continue the run in OUT.

    Every setting of the recipe can be changed behind these, for example
    `--policy.decoder flow --policy.decoder-options steps 4 --steps 500`; `volar train RECIPE --help` lists them.
    """

    recipe: tyro.conf.Positional[Path]
    """a Python file with a function `recipe() -> TrainConfig`, or `-> ValueConfig`"""
    data: tyro.conf.UseAppendAction[tuple[str, ...]]
    """folder or URL of a data set; once for each of a mixture, see --mixture-statistics and --mixture-weights"""
    out: Path
    """folder of the run; an unfinished run in it is continued"""
    device: str | None = None
    """cpu, cuda ...; by default what accelerate finds"""


def load_recipe(path: Path) -> TrainConfig:
    """Run the recipe file and return the config of a policy's training. The file is the user's own code."""
    config = _run_recipe(path)
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"{path}: recipe() gave a {type(config).__name__}, expected a TrainConfig.")
    return config


def _run_recipe(path: Path) -> TrainConfig | ValueConfig:
    if not path.is_file():
        raise ConfigError(f"No recipe at {path}. Recipes are Python files; see the folder recipes/.")
    spec = importlib.util.spec_from_file_location("volar_recipe", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if "recipe" not in vars(module):
        raise ConfigError(f"{path} has no function `recipe() -> TrainConfig`.")
    config = module.recipe()
    if not isinstance(config, TrainConfig | ValueConfig):
        raise ConfigError(f"{path}: recipe() gave a {type(config).__name__}, expected a TrainConfig or a ValueConfig.")
    return config


def main(arguments: list[str]) -> Output:
    wants_help = any(word in ("-h", "--help") for word in arguments)
    if wants_help and (not arguments or arguments[0].startswith("-")):
        tyro.cli(Train, prog="volar train", args=["--help"])
    if wants_help:
        recipe = _run_recipe(Path(arguments[0]))
        tyro.cli(type(recipe), prog=f"volar train {arguments[0]}", default=recipe, args=["--help"])
    command, rest = tyro.cli(Train, prog="volar train", args=arguments, return_unknown_args=True)
    recipe = _run_recipe(command.recipe)
    config = tyro.cli(type(recipe), prog="volar train", default=recipe, args=rest)
    if isinstance(config, ValueConfig):
        return _train_value(config, command)

    from volar.train.loop import train

    checkpoint = train(config, command.data, command.out, device=command.device)
    return Output({"checkpoint": str(checkpoint)}, f"Checkpoint: {checkpoint}")


def _train_value(config: ValueConfig, command: Train) -> Output:
    from volar.planning.value_training import train_value

    facts = train_value(config, command.data, command.out, device=command.device or "cpu")
    return Output({"value": str(command.out), **facts})
