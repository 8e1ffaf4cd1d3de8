"""`volar language write OUT --task T --model M`: a policy by language as a folder, checked before it is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from volar.cli.output import Output
from volar.cli.pairs import read_pairs
from volar.core.errors import ConfigError
from volar.envs import make_env
from volar.policies.language_folder import FILE, LanguagePolicy, Part, write_language
from volar.policies.perception import naming_world

URL = "$VOLAR_LM_URL"


@dataclass(frozen=True, kw_only=True)
class Write:
    """Write a folder that names a language model, a perception and their settings. No key is written down: the name of
    its environment variable is. The address of an endpoint is VOLAR_LM_URL, such as http://127.0.0.1:8080/v1, unless
    --model-options base_url=... says otherwise."""

    out: tyro.conf.Positional[Path]
    """folder of the policy"""
    task: str
    """such as tabletop/pick-place-red: whose robot, cameras and workspace these are"""
    model: str | None = None
    """what the endpoint calls its model"""
    backend: str = "endpoint"
    """endpoint, local, or package.module:Class of your own"""
    model_options: tuple[str, ...] = ()
    """key=value of the back end, such as temperature=0.2, key='$NAME_OF_A_VARIABLE', folder=./model"""
    perception: str = "simulator"
    """who says what stands where: simulator (privileged), detector, or package.module:Class"""
    perception_options: tuple[str, ...] = ()
    """key=value of the perception: of detector, names='["red cube"]' and detector=open-vocabulary or endpoint with
    what they take, such as weights=./owlv2"""
    critic: str | None = None
    """who judges every motion and corrects it: scripted (privileged), model (the language model itself), or
    package.module:Class"""
    critic_options: tuple[str, ...] = ()
    """key=value of the critic: of scripted, advice=directions, random or bare, the last two being its controls"""
    options: tuple[str, ...] = ()
    """key=value of the policy: raw=true, decompose=false, attempts=3, corrections=2 ..."""
    cameras: tuple[str, ...] = ()
    """such as front=96; the environment's own by default. To be compared with a learned policy, it must see the same"""


def write(command: Write) -> LanguagePolicy:
    """Raises ConfigError before anything is written."""
    options = read_pairs(command.model_options, "--model-options", beside=command.out)
    if command.backend == "endpoint":
        if command.model is None:
            raise ConfigError("An endpoint serves several models: name one, --model NAME.")
        options = {"base_url": URL, "model": command.model, **options}
    elif command.model is not None:
        options = {"model": command.model, **options}
    looks = read_pairs(command.perception_options, "--perception-options", beside=command.out)
    for given in (options, looks):
        if "key" in given and not str(given["key"]).startswith("$"):
            raise ConfigError("A key is not written into a file; name its environment variable: key='$NAME'.")
    cameras = read_pairs(command.cameras, "--cameras")
    env = make_env(command.task, cameras=cameras or None)
    try:
        policy = LanguagePolicy(
            model=Part(name=command.backend, options=options), robot=env.spec, workspace=naming_world(env).workspace(),
            perception=Part(name=command.perception, options=looks),
            critic=None if command.critic is None
            else Part(name=command.critic, options=read_pairs(command.critic_options, "--critic-options")),
            options=read_pairs(command.options, "--options"),
        )  # fmt: skip
    finally:
        env.close()
    write_language(command.out, policy)
    return policy


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Write, prog="volar language write", args=arguments)
    policy = write(command)
    content: Mapping[str, Any] = json.loads((command.out / FILE).read_text())
    return Output({"policy": str(command.out), **content}, f"{policy.description}\nPolicy: {command.out}")
