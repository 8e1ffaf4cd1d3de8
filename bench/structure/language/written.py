"""How many numbers each interface makes a model write for one task, over 20 scenes of obstacle-50.

python bench/structure/language/written.py > docs/results/structure/language/written.json
"""

import json
import re
from pathlib import Path
from statistics import mean

from arms import dense, make
from study import FIRST

from volar.core.robot import Job
from volar.envs import make_env
from volar.envs.rollout import run_episode
from volar.policies.perception import naming_world
from volar.reasoning.language.conversation import Exchange

TASK, SCENES = "tabletop/obstacle-50", 20
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])")


def main() -> None:
    env, found = make_env(TASK, cameras={}), {}
    for arm in ("vias", "raw early"):
        heard: list[Exchange] = []
        for number in range(SCENES):
            actor = make(arm, FIRST + number, Path(), journal=heard.append)
            run_episode(env, actor, Job(task=TASK, seed=FIRST + number, arm=arm, max_steps=500))
        answers = [exchange.answer for exchange in heard]
        found[arm] = {"numbers": sum(len(NUMBER.findall(text)) for text in answers) / SCENES,
                      "characters": sum(map(len, answers)) / SCENES}  # fmt: skip
    points = []
    for number in range(SCENES):
        env.reset(FIRST + number)
        seen = env.observe(images=False)
        points.append(len(dense(naming_world(env).named_objects(), seen.proprioception[:3], seen.instruction)))
    found["waypoints"] = {"numbers": 4 * mean(points)}
    print(json.dumps({"task": TASK, "scenes": SCENES, **found}, indent=1))


if __name__ == "__main__":
    main()
