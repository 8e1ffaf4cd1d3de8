"""Training on the toy world and the tiny backbone: it learns, resumes bit for bit, and refuses what cannot work."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from volar.cli.collect import Collect, collect
from volar.core.errors import ConfigError, RobotFault
from volar.core.model import TokenDecoder
from volar.core.robot import Observation
from volar.decoders import TABLE as DECODERS
from volar.policies.actor import load_policy
from volar.policies.config import PolicyConfig
from volar.policies.vla import Policy
from volar.train.config import TrainConfig
from volar.train.loop import Shuffled, train

TASKS = ("toy/reach-red", "toy/reach-blue")
GOLDEN = Path(__file__).parent / "golden" / "loss_curves.json"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return demonstrate(tmp_path_factory.mktemp("toy") / "data")


def demonstrate(out: Path) -> Path:
    collect(Collect(tasks=TASKS, out=out, episodes=6, storage="image", workers=0, max_steps=60), progress=False)
    return out


def config(**changes) -> TrainConfig:
    policy = PolicyConfig(
        backbone="tiny", decoder="flow", horizon=4, normalise_action="min_max", normalise_proprioception="mean_std"
    )
    base = TrainConfig(
        policy=policy, steps=12, batch=8, warmup=2, validate_every=6, checkpoint_every=6, log_every=1, seed=3
    )
    return replace(base, **changes)


def policy_with(decoder: str) -> PolicyConfig:
    tokenizer = "bins" if issubclass(DECODERS.load(decoder), TokenDecoder) else None
    return replace(config().policy, decoder=decoder, tokenizer=tokenizer)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "state").iterdir())[-1])


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_collection_goes_on_where_it_stopped(tmp_path):
    command = Collect(tasks=TASKS, out=tmp_path / "data", episodes=2, storage="image", workers=0, max_steps=60)
    assert collect(command, progress=False) == dict.fromkeys(TASKS, 2)
    assert collect(replace(command, episodes=3), progress=False) == dict.fromkeys(TASKS, 3)
    straight = Collect(tasks=TASKS, out=tmp_path / "at-once", episodes=3, storage="image", workers=0, max_steps=60)
    collect(straight, progress=False)
    from volar.data.formats import open_dataset

    resumed, once = open_dataset(tmp_path / "data"), open_dataset(tmp_path / "at-once")
    assert resumed.num_frames == once.num_frames


def test_learns_and_the_checkpoint_rebuilds_the_policy(data, tmp_path):
    checkpoint = train(config(steps=60, learning_rate=3e-3), data, tmp_path / "run", device="cpu", progress=False)
    course = losses(tmp_path / "run")
    assert np.mean(course[-10:]) < 0.7 * np.mean(course[:10])
    moved = tmp_path / "elsewhere"
    checkpoint.rename(moved)  # nothing outside the folder is needed
    first, second = (Policy.load(moved) for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    actor = load_policy(moved, execute=2)
    camera = first.robot.cameras[0]
    observation = Observation(
        images={camera.name: np.zeros((camera.height, camera.width, 3), np.uint8)},
        proprioception=np.zeros(len(first.robot.proprioception), np.float32),
        instruction="reach the red disc",
        time=0.0,
    )
    actor.reset(5)
    chunk = actor.act(observation)
    assert chunk.actions.shape == (4, first.robot.action.dim) and chunk.execute == 2
    assert 1 <= chunk.evaluations <= 64
    actor.reset(5)
    assert np.array_equal(actor.act(observation).actions, chunk.actions)


def test_same_seed_same_bits_and_another_seed_differs(data, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(config(seed=seed), data, tmp_path / name, device="cpu", progress=False)
    one, two, other = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


@pytest.mark.parametrize("tokenizer", ["fast", "vq"])
def test_the_tokenizer_travels_inside_the_checkpoint(data, tmp_path, tokenizer):
    """Swapped by one word; fitted on the training split; the moved checkpoint says the same tokens."""
    policy = replace(config().policy, decoder="autoregressive", tokenizer=tokenizer)
    checkpoint = train(config(policy=policy), data, tmp_path / "run", device="cpu", progress=False)
    moved = tmp_path / "elsewhere"
    checkpoint.rename(moved)
    first, second = (Policy.load(moved) for _ in range(2))
    chunks = torch.rand(3, 4, first.robot.action.dim) * 2 - 1
    ids = first.decoder.tokenizer.encode(chunks)
    assert ids == second.decoder.tokenizer.encode(chunks)
    assert torch.equal(first.decoder.tokenizer.decode(ids), second.decoder.tokenizer.decode(ids))


@pytest.mark.parametrize("decoder", DECODERS)
def test_loss_curve_is_the_golden_one(data, tmp_path, decoder):
    """A change that should not alter results must not alter these. Regenerate: `python tests/test_training.py`."""
    train(config(policy=policy_with(decoder)), data, tmp_path / "run", device="cpu", progress=False)
    golden = json.loads(GOLDEN.read_text())
    assert losses(tmp_path / "run") == pytest.approx(golden[decoder], rel=1e-3)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_is_bit_identical_to_the_unbroken_one(data, tmp_path, monkeypatch, workers):
    train(config(workers=workers), data, tmp_path / "straight", device="cpu", progress=False)

    from volar.train import loop

    step = loop.Loop._one_step

    def dies_at_nine(self, raw):
        if self.step == 9:
            raise MemoryError("killed")
        return step(self, raw)

    monkeypatch.setattr(loop.Loop, "_one_step", dies_at_nine)
    with pytest.raises(MemoryError):
        train(config(workers=workers), data, tmp_path / "broken", device="cpu", progress=False)
    monkeypatch.undo()
    spent = json.loads((tmp_path / "broken" / "compute.json").read_text())
    train(config(workers=workers), data, tmp_path / "broken", device="cpu", progress=False)
    straight, resumed = weights(tmp_path / "straight"), weights(tmp_path / "broken")
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert losses(tmp_path / "straight") == losses(tmp_path / "broken")
    compute = json.loads((tmp_path / "broken" / "compute.json").read_text())
    assert compute["training_seconds"] > spent["training_seconds"] > 0, "seconds before the interruption count too"


def test_order_of_batches_covers_an_epoch_and_starts_anywhere():
    def batches(start: int, count: int) -> list[list[int]]:
        sampler = iter(Shuffled(20, batch=5, seed=1, start=start, rank=0, world=1))
        return [next(sampler) for _ in range(count)]

    everything = batches(0, 8)
    assert sorted(itertools.chain(*everything[:4])) == list(range(20)) and everything[:4] != everything[4:]
    assert batches(3, 5) == everything[3:]
    ranks = [iter(Shuffled(20, batch=5, seed=1, start=0, rank=rank, world=2)) for rank in range(2)]
    assert [next(ranks[0]), next(ranks[1]), next(ranks[0])] == everything[:3]


def test_non_finite_loss_names_the_episodes(data, tmp_path, monkeypatch):
    from volar.train import loop

    to_batch = loop.to_batch

    def poisoned(policy, raw, device):
        batch = to_batch(policy, raw, device)
        batch.actions[0] = torch.nan
        poisoned.episode = int(raw.episode[0])
        return batch

    monkeypatch.setattr(loop, "to_batch", poisoned)
    with pytest.raises(RobotFault, match="Non-finite loss at step 0") as caught:
        train(config(), data, tmp_path / "run", device="cpu", progress=False)
    assert f"[{poisoned.episode}]" in str(caught.value)


def test_other_settings_are_refused_with_every_difference(data, tmp_path):
    train(config(), data, tmp_path / "run", device="cpu", progress=False)
    with pytest.raises(ConfigError, match="batch: 8 there, 16 now"):
        train(config(batch=16), data, tmp_path / "run", device="cpu", progress=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="not a training run"):
        train(config(), data, tmp_path / "other", device="cpu", progress=False)
    assert (tmp_path / "other" / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("decoder", "flw", "Did you mean 'flow'"),
        ("backbone", "tinny", "Did you mean 'tiny'"),
        ("decoder_options", {"stepz": 3}, "Did you mean 'steps'"),
        ("decoder_options", {"steps": 0}, "at least 1"),
        ("decoder", "autoregressive", "name a tokenizer"),
        ("tokenizer", "fast", "no use for a tokenizer"),
    ],
)
def test_bad_policies_are_refused_before_work(data, tmp_path, field, value, message):
    bad = config(policy=replace(config().policy, **{field: value}))
    with pytest.raises(ConfigError, match=message):
        train(bad, data, tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_missing_tracker_is_said_before_work(data, tmp_path, monkeypatch):
    monkeypatch.setattr("volar.train.loop.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="'wandb' is missing"):
        train(config(track="wandb"), data, tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", [{"steps": 0}, {"validation": 1.0}, {"learning_rate": 0.0}, {"ema": 1.5}])
def test_bad_settings_are_refused(change):
    with pytest.raises(ConfigError):
        config(**change)


def test_a_policy_refuses_pictures_it_does_not_know(data, tmp_path):
    checkpoint = train(config(steps=1), data, tmp_path / "run", device="cpu", progress=False)
    actor = load_policy(checkpoint, execute=1)
    wrong = Observation(images={}, proprioception=np.zeros(2, np.float32), instruction="go", time=0.0)
    with pytest.raises(Exception, match="Camera"):
        actor.act(wrong)
    with pytest.raises(ConfigError, match="execute must be 1 to 4"):
        load_policy(checkpoint, execute=5)


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        demonstrations = demonstrate(Path(folder) / "data")
        curves = {}
        for name in DECODERS:
            train(config(policy=policy_with(name)), demonstrations, Path(folder) / name, device="cpu", progress=False)
            curves[name] = losses(Path(folder) / name)
    GOLDEN.write_text(json.dumps(curves, indent=1) + "\n")
