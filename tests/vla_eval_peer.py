"""Run by a python that has vla-eval: its harness with a small benchmark, its model servers, and messages it packs.

python tests/vla_eval_peer.py evaluate ws://127.0.0.1:8000 FOLDER | serve echo|reach | golden FILE
"""

import json
import sys
from pathlib import Path

import numpy as np

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230)}
NEAR, STRIDE = 0.15, 0.1


def decide(image, words, hand):
    """From the picture and the words alone: towards the disc that is named. x to the right, y upwards, in [-1, 1]."""
    colour = next(value for name, value in COLOURS.items() if name in words)
    rows, columns = np.nonzero((image == colour).all(axis=2))
    size = len(image)
    disc = np.array([columns.mean() + 0.5, size - rows.mean() - 0.5]) / size * 2 - 1
    away = disc - hand
    return (away / max(np.linalg.norm(away), STRIDE)).astype(np.float32), bool(np.linalg.norm(away) < NEAR)


def picture(discs, size):
    centres = (np.arange(size) + 0.5) / size * 2 - 1
    image = np.full((size, size, 3), 235, np.uint8)
    for (x, y), colour in zip(discs, COLOURS.values(), strict=True):
        image[(centres[None] - x) ** 2 + (-centres[:, None] - y) ** 2 < NEAR**2] = colour
    return image


def benchmark():
    from vla_eval.benchmarks.base import StepBenchmark, StepResult
    from vla_eval.specs import GRIPPER_CLOSE_POS, IMAGE_RGB, LANGUAGE, DimSpec

    class Reach(StepBenchmark):
        """Success: close the hand over the disc that is named, and over no other. One picture is twice the size."""

        render_backends = frozenset({"gpu", "cpu"})

        def __init__(self, seed=0, send_state=False):
            super().__init__()
            self.seed, self.send_state = seed, send_state

        @classmethod
        def configure_render(cls, mode):
            return {}

        def get_tasks(self):
            return [{"name": f"close over the {colour} disc", "suite": "reach"} for colour in COLOURS]

        def reset(self, task):
            random = np.random.default_rng([self.seed, task["episode_idx"]])
            angles = random.uniform(0, 2 * np.pi) + np.arange(3) * 2 * np.pi / 3
            self.discs = 0.7 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            self.hand, self.goal = np.zeros(2), list(COLOURS).index(task["name"].split()[3])

        def step(self, action):
            x, y, grip = action["actions"]
            self.hand = np.clip(self.hand + STRIDE * np.clip([x, y], -1, 1), -1, 1)
            near = np.linalg.norm(self.discs - self.hand, axis=1) < NEAR
            closed = grip > 0
            return StepResult(None, 0.0, bool(closed), {"success": bool(closed and near[self.goal])})

        def make_obs(self, raw_obs, task):
            state = {"states": self.hand.astype(np.float32)} if self.send_state else {}
            images = {"agentview": picture(self.discs, 64), "unused": np.zeros((8, 8, 3), np.uint8)}
            return {"images": images, "task_description": task["name"], **state}

        def get_step_result(self, step_result):
            return {"success": step_result.info.get("success", False)}

        def get_metadata(self):
            return {"max_steps": 30}

        def get_action_spec(self):
            return {"position": DimSpec("position", 2, "delta_xy"), "gripper": GRIPPER_CLOSE_POS}

        def get_observation_spec(self):
            return {"agentview": IMAGE_RGB, "language": LANGUAGE, "state": DimSpec("state", 2, "hand_xy")}

    return Reach


def evaluate(url, folder):
    from vla_eval import api

    entry = {"benchmark": "vla_eval_peer:Reach", "episodes_per_task": 4, "params": {"seed": 3}}
    config = {"server": {"url": url, "timeout": 20}, "output_dir": folder, "benchmarks": [entry]}
    api.run(config, docker=False, eval_id="peer")


def serve(kind):
    from vla_eval import api
    from vla_eval.cli.smoke import _make_echo_server
    from vla_eval.model_servers.predict import PredictModelServer
    from vla_eval.specs import DimSpec

    class Reaching(PredictModelServer):
        def predict(self, obs, ctx):
            action, _ = decide(obs["images"]["front"], obs["task_description"], obs["hand"])
            return {"actions": np.tile(action, (4, 1))}

        def get_action_spec(self):
            return {"position": DimSpec("position", 2, "delta_xy")}

        def get_observation_spec(self):
            return {"state": DimSpec("state", 2, "hand_xy", accepts=frozenset({"hand_xy", "hand_yx"}))}

    chunks = {"reach": 2, "whole": None}
    server = _make_echo_server(2) if kind == "echo" else Reaching(chunk_size=chunks[kind])
    with api.serve_background(server) as handle:
        print(handle.url, flush=True)
        sys.stdin.read()


def golden(path):
    from vla_eval import __version__
    from vla_eval.protocol.messages import Message, MessageType, make_hello_payload, pack_message
    from vla_eval.protocol.numpy_codec import set_image_format

    image = (np.arange(4 * 6 * 3, dtype=np.uint8) * 3).reshape(4, 6, 3)
    observation = {
        "images": {"agentview": image},
        "states": np.array([0.5, -2.0], np.float32),
        "task_description": "go",
    }
    kinds = {
        "hello": make_hello_payload(benchmark="vla_eval.benchmarks.libero:LIBEROBenchmark"),
        "episode_start": {"task": {"name": "go", "suite": "reach", "episode_idx": 2}},
        "action": {"actions": np.array([0.25, -1.0, 1.0], np.float32)},
        "episode_end": {"metrics": {"success": True}, "steps": 7, "elapsed_sec": 0.5},
        "error": {"error": "observation_failed: ValueError: no"},
    }
    messages = {kind: Message(MessageType(kind), payload, 3, 1.5) for kind, payload in kinds.items()}
    packed = {kind: pack_message(message).hex() for kind, message in messages.items()}
    for form in ("png", "jpeg", "raw"):
        set_image_format(form)
        packed[f"observation_{form}"] = pack_message(Message(MessageType("observation"), observation, 4, 1.5)).hex()
    note = f"packed by vla-eval {__version__}: python tests/vla_eval_peer.py golden FILE"
    Path(path).write_text(json.dumps({"note": note, **packed}, indent=1) + "\n")


def __getattr__(name):
    """The harness imports its benchmark by name."""
    if name == "Reach":
        return benchmark()
    raise AttributeError(name)


if __name__ == "__main__":
    {"evaluate": evaluate, "serve": serve, "golden": golden}[sys.argv[1]](*sys.argv[2:])
