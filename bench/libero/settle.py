"""Where the bowl of LIBERO's spatial/5 comes to rest under the installed MuJoCo: why some versions are refused.

`python bench/libero/settle.py` prints one record of `bench/libero/settle.jsonl`. For another version put it first on
the path: `pip install --no-deps --target OTHER mujoco==3.4.0`, then `PYTHONPATH=OTHER python bench/libero/settle.py`.
Measured after the 10 steps before the first look, and 40 steps later, on the first four published states.
"""

import importlib
import json
from importlib.metadata import version
from typing import Any

import numpy as np
from robosuite.controllers.base_controller import Controller

from volar.envs.libero.simulator import build, files_of, initial_states
from volar.envs.libero.tasks import tasks_of

HOLD = np.array([0, 0, 0, 0, 0, 0, -1.0])
BOWL, RAMEKIN = "akita_black_bowl_1_main", "glazed_rim_porcelain_ramekin_1_main"


def main() -> None:
    update = Controller.update
    importlib.import_module("libero.libero.envs")
    if tuple(map(int, version("mujoco").split(".")[:2])) < (3, 10):
        Controller.update = update  # the package adapts it to MuJoCo 3.10 from 3.4 on, which those between do not take
    problem, states = files_of(tasks_of("spatial")[5])
    np.random.seed(0)
    world = build(problem)
    record: dict[str, object] = {"mujoco": version("mujoco")}
    offsets = []
    for state in initial_states(states)[:4]:
        world.reset()
        world.sim.set_state_from_flattened(state)
        world.sim.forward()
        for _ in range(10):
            world.step(HOLD)
        first = _offset(world)
        for _ in range(40):
            world.step(HOLD)
        offsets.append((first, _offset(world)))
    for name, at in (("at_first_look_mm", 0), ("later_mm", 1)):
        moved = [1000 * pair[at] for pair in offsets]
        record[f"beside_{name}"] = [round(float(np.linalg.norm(each[:2])), 1) for each in moved]
        record[f"above_{name}"] = [round(float(each[2]), 1) for each in moved]
    print(json.dumps(record))


def _offset(world: Any) -> np.ndarray:
    data = world.sim.data._data
    return data.body(BOWL).xpos - data.body(RAMEKIN).xpos


if __name__ == "__main__":
    main()
