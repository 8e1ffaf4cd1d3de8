"""The half of peer.py that runs where `movement_primitives` is installed: first line out, motions; then for each name
that is read, the seconds of CPU time for it."""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from movement_primitives.dmp import DMP, CartesianDMP, DMPWithFinalVelocity
from movement_primitives.promp import ProMP

BATCH, POINTS = 256, 101
WEIGHTS = np.random.default_rng(0).normal(0, 50, (BATCH, 3, 10))


def discrete(weights: np.ndarray, *, dt: float, method: str, smooth: bool = False) -> np.ndarray:
    dmp = DMP(n_dims=3, execution_time=1.0, dt=dt, n_weights_per_dim=10, smooth_scaling=smooth)
    dmp.forcing_term.weights_[:] = weights
    dmp.configure(start_y=np.zeros(3), goal_y=np.ones(3))
    return dmp.open_loop(step_function=method)[1]


def hitting(weights: np.ndarray, *, dt: float) -> np.ndarray:
    dmp = DMPWithFinalVelocity(n_dims=3, execution_time=1.0, dt=dt, n_weights_per_dim=10, int_dt=dt)
    dmp.forcing_term.weights_[:] = weights
    dmp.configure(start_y=np.zeros(3), start_yd=np.full(3, 0.3), goal_y=np.ones(3), goal_yd=np.array([2.0, -1.0, 0.5]))
    return dmp.open_loop(run_t=1.5)[1]


def orientation(weights: np.ndarray, *, dt: float, method: str) -> np.ndarray:
    dmp = CartesianDMP(execution_time=1.0, dt=dt, n_weights_per_dim=10, int_dt=dt)
    dmp.forcing_term_rot.weights_[:] = weights
    dmp.configure(start_y=np.array([0, 0, 0, 1.0, 0, 0, 0]), goal_y=np.array([0, 0, 0, 0.6, 0.8, 0, 0]))
    return dmp.open_loop(quaternion_step_function=method)[1][:, 3:]


def promp() -> ProMP:
    prior = ProMP(n_dims=3, n_weights_per_dim=10)
    return prior.condition_position(np.ones(3), y_cov=1e-6 * np.eye(3), t=0.5)


def probabilistic() -> None:
    given = promp()
    times = np.linspace(0, 1, POINTS)
    given.mean_trajectory(times)
    given.var_trajectory(times)


CALLS = {
    "discrete": lambda: [discrete(weights, dt=0.01, method="rk4-cython") for weights in WEIGHTS],
    "orientation": lambda: [orientation(weights, dt=0.01, method="cython") for weights in WEIGHTS],
    "promp": lambda: [probabilistic() for _ in range(BATCH)],
}


def main() -> None:
    times = np.linspace(0, 1, 11)
    given = promp()
    motions = {
        "about": {"movement_primitives": version("movement_primitives"), "numpy": np.__version__},
        "weights": WEIGHTS[0].tolist(),
        "discrete": discrete(WEIGHTS[0], dt=1e-4, method="euler-cython")[::1000].tolist(),
        "discrete_smooth": discrete(WEIGHTS[0], dt=1e-4, method="euler-cython", smooth=True)[::1000].tolist(),
        "hitting": hitting(WEIGHTS[0], dt=1e-4)[::1000].tolist(),
        "orientation": orientation(WEIGHTS[0] / 10, dt=1e-4, method="cython")[::1000].tolist(),
        "promp_mean": given.mean_trajectory(times).tolist(),
        "promp_variance": given.var_trajectory(times).tolist(),
    }
    print(json.dumps(motions), flush=True)
    for line in sys.stdin:
        call = CALLS[line.strip()]
        call()
        began = time.process_time()
        call()
        print(time.process_time() - began, flush=True)


if __name__ == "__main__":
    main()
