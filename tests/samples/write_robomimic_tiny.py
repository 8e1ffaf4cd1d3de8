"""Wrote robomimic_tiny.hdf5, with the calls of robomimic's dataset_states_to_obs.py and made-up numbers.

python write_robomimic_tiny.py robomimic_tiny.hdf5
"""

import json
import sys

import h5py
import numpy as np

ENVIRONMENT = {
    "env_name": "Lift", "env_version": "1.4.1", "type": 1,
    "env_kwargs": {
        "robots": ["Panda"], "control_freq": 20, "camera_names": ["agentview", "robot0_eye_in_hand"],
        "camera_heights": 8, "camera_widths": 10,
    },
}  # fmt: skip


def main(path: str) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        total = 0
        for number in (0, 1, 2, 10):
            drawn = np.random.default_rng(number)
            n = 2 + number % 3
            observations = {
                "agentview_image": drawn.integers(0, 256, (n, 8, 10, 3)).astype(np.uint8),
                "robot0_eye_in_hand_image": drawn.integers(0, 256, (n, 8, 8, 3)).astype(np.uint8),
                "robot0_eef_pos": drawn.normal(size=(n, 3)),
                "robot0_eef_quat": drawn.normal(size=(n, 4)),
                "robot0_gripper_qpos": drawn.normal(size=(n, 2)),
                "object": drawn.normal(size=(n, 10)),
            }
            episode = data.create_group(f"demo_{number}")
            ends = np.arange(n) == n - 1
            episode.create_dataset("actions", data=drawn.uniform(-1, 1, size=(n, 7)))
            episode.create_dataset("states", data=drawn.normal(size=(n, 8)))
            episode.create_dataset("rewards", data=ends.astype(np.float64))
            episode.create_dataset("dones", data=ends.astype(np.int64))
            for name, values in observations.items():
                packed = "gzip" if number == 1 else None
                episode.create_dataset(f"obs/{name}", data=values, compression=packed)
            episode.attrs["model_file"] = '<mujoco model="made up"/>'
            episode.attrs["num_samples"] = n
            total += n
        file["mask/train"] = np.array(["demo_0", "demo_2", "demo_10"], dtype="S")
        file["mask/valid"] = np.array(["demo_1"], dtype="S")
        data.attrs["total"] = total
        data.attrs["env_args"] = json.dumps(ENVIRONMENT, indent=4)


if __name__ == "__main__":
    main(sys.argv[1])
