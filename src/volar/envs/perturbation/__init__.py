"""Seven graded ways in which a world differs from the one that was learned in (axes of LIBERO-Plus, arXiv 2510.13626).

A perturbed task is written `environment/task@axis=level`, several axes `@camera=2,light=1`. Level 0 is the task itself.
Written anew for our worlds: the sizes are ours, and numbers on them are not LIBERO-Plus numbers.
"""

from volar.core.registry import Table

LEVELS = (1, 2, 3, 4, 5)

TABLE = Table(
    "perturbation axis",
    {
        "background": "volar.envs.perturbation.background:Background",
        "camera": "volar.envs.perturbation.camera:CameraPose",
        "initial": "volar.envs.perturbation.initial:InitialState",
        "layout": "volar.envs.perturbation.layout:Layout",
        "light": "volar.envs.perturbation.light:Light",
        "paraphrase": "volar.envs.perturbation.paraphrase:Paraphrase",
        "sensor": "volar.envs.perturbation.sensor:Sensor",
    },
)
