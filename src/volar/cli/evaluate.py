"""`volar evaluate`: paired episodes of trained policies, and of the control arms without which a rate means little."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

from volar.cli.actors import JOURNAL, Acting, ActorMaker
from volar.cli.guides import BY_HAND, THINKING, read_by_hand, reasoner_of, require_reasoner
from volar.cli.output import Output
from volar.cli.scenes import Scenes, choose_scenes
from volar.core.errors import ConfigError
from volar.core.robot import RobotSpec, require_match
from volar.envs import TABLE, make_env
from volar.envs.task_names import parse_task
from volar.evaluation.episodes import evaluate, paired_jobs
from volar.evaluation.run import Arm, RunInfo

Control = Literal[
    "shuffled_instruction", "blank_images", "random_actions", "expert", "oracle_thoughts", "shuffled_thoughts"
]


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Run EPISODES paired episodes per task of every policy and control arm; an interrupted evaluation goes on."""

    policies: tyro.conf.Positional[tuple[Path, ...]]
    """checkpoints or training runs; the first one is what the control arms belong to"""
    out: Path
    """folder of the evaluation"""
    execute: int
    """actions carried out per chunk; at most the policy's horizon"""
    suite: str | None = None
    """such as metaworld-mt10 (`volar list suites`): its tasks, episodes, seeds and time-out, where nothing else is
    asked for; what differs is recorded as not the suite's protocol"""
    tasks: tuple[str, ...] = ()
    """such as metaworld/faucet-open, or perturbed metaworld/faucet-open@camera=3"""
    episodes: int | None = None
    """per task and arm; 20 without a suite"""
    first_seed: int | None = None
    """episodes use the seeds from here upwards, 1000 without a suite; keep them apart from those of the
    demonstrations"""
    max_steps: int | None = None
    """control steps until time-out; 150 without a suite"""
    controls: tuple[Control, ...] = ("shuffled_instruction", "blank_images", "random_actions", "expert")
    """control arms; of policies that reason also those that are told the truth of this scene, or of another one, in
    place of their own thoughts"""
    primitive: tuple[str, ...] = ()
    """marks that the first policy is given by hand, in an arm of its own: 'point 0.4,0.6', 'box 0.4,0.6,0.1,0.1 on
    front as source', in fractions of the picture; several points are for one stage each"""
    say: tuple[str, ...] = ()
    """words that it is given by hand in the same arm: 'subtask=grasp the green cube'"""
    title: str = "Evaluation"
    """heading of the report"""
    part: str | None = None
    """whose robot it is, for policies of a mixture in which every data set is normalised by its own statistics"""
    workers: int = 2
    """processes that run episodes"""


def read_policy(path: Path, part: str | None = None) -> dict[str, Any]:
    """config.json of a checkpoint, with its folder, a hash that stands for all its files, and the `part` by which it
    acts, with that part's robot, None where it has none. ConfigError where it has several and none is named. Of a
    composition, and of a policy by language, the same in its form."""
    from volar.planning.composition import is_composition, read_composition
    from volar.policies.language_folder import is_language, read_language
    from volar.policies.parts import require_part, which_part
    from volar.policies.vla import latest_checkpoint

    if is_composition(path):
        return read_composition(path).to_policy(path)
    if is_language(path):
        stored = read_language(path)
        stored.require_variables(os.environ)
        return stored.to_policy()
    folder = latest_checkpoint(path)
    text = (folder / "config.json").read_bytes()
    config = json.loads(text)
    if config.get("kind") != "policy":
        raise ConfigError(f"{folder} holds a {config.get('kind')!r}, not a policy.")
    parts = {name: name for name in config.get("parts", [])}
    if parts and part is None:
        raise which_part(parts)
    chosen = require_part(parts, part, folder) if parts and part else None
    robot = config.get("robots", {}).get(chosen, config["robot"])
    return {**config, "robot": robot, "folder": folder, "hash": hashlib.sha256(text).hexdigest()[:16], "part": chosen}


def arm_names(policies: tuple[Path, ...]) -> list[str]:
    """`policy` for a single one, else the folders' names; equal names get a number."""
    if not policies:
        raise ConfigError("Name at least one checkpoint or training run to evaluate.")
    if len(policies) == 1:
        return ["policy"]
    names = [path.resolve().name for path in policies]
    return [f"{name}-{i + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def other_instruction(tasks: tuple[str, ...], task: str, seed: int) -> str:
    """The instruction of another task: the one that shares the scene where there is one, else by turns."""
    named = parse_task(task)
    family = TABLE.load(named.environment)
    shared = [group for group in family.shared_scenes() if named.task in group]
    siblings = [other for group in shared for other in group if other != named.task]
    others = siblings or [other.task for other in map(parse_task, tasks) if other.base != named.base]
    if not others:
        raise ConfigError(
            f"The shuffled instruction needs a second task beside {task!r}; name one, or leave the arm out: "
            f"--controls blank_images random_actions expert."
        )
    return family.instructions(others[seed % len(others)])[0]


def first_looks(tasks: tuple[str, ...], robot: RobotSpec, seed: int) -> dict[str, Any]:
    """Build every task once: the environment's facts, how tasks are perturbed, and for the scene of `seed` the hash of
    the first picture that a policy will see and of the first state. ConfigError where the environment is not for
    `robot`."""
    digests, states, facts, perturbations = {}, {}, {}, {}
    for task in tasks:
        env = make_env(task, cameras=square_cameras(robot))
        try:
            require_match(robot, env.spec, our_name="The policy", their_name=f"the environment {task}")
            env.reset(seed)
            digests[task], states[task] = env.observe().digest(), env.digest()
            facts = env.describe()
            if perturbation := facts.pop("perturbation", None):
                perturbations[task] = perturbation
        finally:
            env.close()
    looks = {"environment": facts, "first_observations": digests, "first_states": states}
    return {**looks, "perturbations": perturbations} if perturbations else looks


def square_cameras(robot: RobotSpec) -> dict[str, int]:
    for camera in robot.cameras:
        if camera.height != camera.width:
            raise ConfigError(
                f"Camera {camera.name!r} is {camera.height} x {camera.width}; environments here are square."
            )
    return {camera.name: camera.height for camera in robot.cameras}


def one_environment(tasks: tuple[str, ...]) -> str:
    """The environment that all these tasks belong to."""
    environments = {parse_task(task).environment for task in tasks}
    if len(environments) != 1:
        raise ConfigError(f"One evaluation runs in one environment, got {sorted(environments) or 'no task'}.")
    return environments.pop()


def plan(command: Evaluate, scenes: Scenes) -> tuple[RunInfo, ActorMaker]:
    """Check everything that can be wrong, before the first episode. Raises ConfigError."""
    from volar.core.fingerprint import fingerprint
    from volar.planning.composition import require_unsearched

    names = arm_names(command.policies)
    configs = {name: read_policy(path, command.part) for name, path in zip(names, command.policies, strict=True)}
    if command.part and not any(config["part"] for config in configs.values()):
        raise ConfigError(f"None of these policies has parts; leave --part {command.part} out.")
    robots = [RobotSpec.from_json(config["robot"]) for config in configs.values()]
    for name, config in configs.items():
        require_unsearched(config, scenes.tasks, scenes.seeds)
        if not 1 <= command.execute <= config["policy"]["horizon"]:
            raise ConfigError(
                f"execute must be 1 to {config['policy']['horizon']}, the horizon of {name}; got {command.execute}."
            )
    require_pictures(names[0], configs[names[0]], command.controls)
    by_hand = read_by_hand(names[0], configs[names[0]], primitives=command.primitive, said=command.say)
    require_reasoner(names[0], configs[names[0]], [control for control in command.controls if control in THINKING])
    for name, robot in zip(names[1:], robots[1:], strict=True):
        require_match(robots[0], robot, our_name=names[0], their_name=name)
    environment = one_environment(scenes.tasks)
    looks = first_looks(scenes.tasks, robots[0], scenes.first_seed)
    arms = {name: Arm(role="policy", description=describe_policy(config)) for name, config in configs.items()}
    told = "The other task is the one of the same scene where there is one."
    for control in command.controls:
        arms[control] = Arm(role=control, description=told if control == "shuffled_instruction" else "")
    if by_hand:
        arms[BY_HAND] = Arm(role=BY_HAND, description=f"Given: {'; '.join((*command.primitive, *command.say))}")
    settings = {
        "max_steps": scenes.max_steps,
        "executed_per_chunk": command.execute,
        "control_rate_hz": robots[0].action.rate_hz,
        "policies": {name: config["hash"] for name, config in configs.items()},
        "statistics": {n: config["files"].get("stats.json", config["hash"])[:16] for n, config in configs.items()},
        "kind": {name: config["card"]["kind"] for name, config in configs.items()},
    }
    if language := {name: config["language"] for name, config in configs.items() if "language" in config}:
        settings["language"] = language
    if command.part:
        settings["part"] = command.part
    if scenes.suite:
        settings["suite"] = scenes.suite
    info = RunInfo(
        title=command.title,
        tasks=scenes.tasks,
        seeds=scenes.seeds,
        arms=arms,
        success_semantics=str(looks["environment"].get("success", "as the environment says")),
        settings=settings,
        fingerprint=fingerprint(**looks),
    )
    of = {name: configs.get(name, configs[names[0]]) for name in arms}
    acting = {
        name: Acting(
            role=arm.role,
            policy=str(of[name]["folder"]),
            execute=command.execute,
            part=of[name]["part"],
            journal=command.out / JOURNAL,
            by_hand=by_hand if arm.role == BY_HAND else "",
        )
        for name, arm in arms.items()
    }
    return info, ActorMaker(acting, robots[0], environment)


def require_pictures(name: str, policy: Mapping[str, Any], controls: Sequence[str]) -> None:
    """ConfigError where black pictures are asked for as a control of a policy that looks at none."""
    if "blank_images" in controls and policy.get("blind", False):
        raise ConfigError(
            f"{name} looks at no pictures, so blank_images would show nothing; leave it out: "
            f"--controls shuffled_instruction random_actions expert."
        )


def describe_policy(config: Mapping[str, Any]) -> str:
    """One sentence from what `read_policy` gave."""
    policy, facts = config["policy"], config["facts"]
    if "description" in config:
        return config["description"]
    parts = " + ".join(filter(None, (policy["backbone"], reasoner_of(config), policy["decoder"])))
    return f"{config['card']['kind']}: {parts}, {facts.get('step', '?')} training steps"


def run_evaluation(command: Evaluate) -> int:
    """Returns the number of episodes that were run now."""
    scenes = choose_scenes(
        suite=command.suite, tasks=command.tasks, episodes=command.episodes, first_seed=command.first_seed,
        max_steps=command.max_steps,
    )  # fmt: skip
    info, make_actor = plan(command, scenes)
    told = partial(other_instruction, scenes.tasks)
    jobs = paired_jobs(info, max_steps=scenes.max_steps, other_instruction=told)
    build = partial(make_env, cameras=square_cameras(make_actor.robot))
    return evaluate(command.out, info, jobs, make_env=build, make_actor=make_actor, workers=command.workers)


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Evaluate, prog="volar evaluate", args=arguments)
    count = run_evaluation(command)

    from volar.evaluation.summary import summarise
    from volar.evaluation.tables import to_markdown
    from volar.evaluation.verdict import verdict

    summary = summarise(command.out)
    data = {"run": str(command.out), "episodes_run": count, "verdict": verdict(summary)}
    data["arms"] = {arm.name: asdict(arm.overall) if arm.overall else None for arm in summary.arms}
    return Output(data, f"{to_markdown(summary)}\n\nRecords: {command.out}. The page: volar report {command.out}")
