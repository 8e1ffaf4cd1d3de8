"""Several data sets as one: every window keeps its numbers, parts are drawn as often as asked, training is the same
as on one data set where it should be, and a policy of several robots acts only when told which it is on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recordings import SPEC, make_trajectory, open_writer, record
from safetensors.torch import load_file

from volar.cli import main
from volar.cli.collect import Collect, collect
from volar.core.errors import ConfigError
from volar.core.robot import Observation
from volar.data.formats import open_dataset
from volar.data.mixture import Draws, EpisodeDraws, Mixture, part_names
from volar.data.rewrite import Piece, rewrite
from volar.data.shuffle import shuffled
from volar.data.windows import Windows
from volar.policies.actor import PolicyActor, load_policy
from volar.policies.compute import spec_batch
from volar.policies.config import PolicyConfig
from volar.policies.vla import ACTION, PROPRIOCEPTION, Policy
from volar.train import loop
from volar.train.config import LATER, TrainConfig
from volar.train.demonstrations import normalised, to_batch
from volar.train.loop import train

RECIPE = Path(__file__).parent.parent / "recipes" / "toy.py"


# ---- orders and draws ----


@pytest.mark.parametrize("size", [1, 2, 3, 7, 255, 256, 257, 5000])
def test_an_order_names_everything_once(size: int) -> None:
    order = shuffled(np.arange(size), size, seed=(1, 2))
    assert np.array_equal(np.sort(order), np.arange(size))
    assert np.array_equal(shuffled(np.array([size - 1]), size, seed=(1, 2)), order[-1:])  # any place alone
    if size > 6:
        assert not np.array_equal(order, shuffled(np.arange(size), size, seed=(1, 3)))


def test_orders_are_random() -> None:
    """All 24 orders of four things are about equally frequent; neighbours in a large order are not correlated."""
    orders = [tuple(shuffled(np.arange(4), 4, seed=(seed,)).tolist()) for seed in range(120)]
    counts = np.zeros(24)
    seen = np.unique(orders, axis=0, return_counts=True)[1]
    counts[: len(seen)] = seen
    assert ((counts - 5) ** 2 / 5).sum() < 54  # chi-square with 23 degrees of freedom: 0.9997 quantile
    order = shuffled(np.arange(50_000), 50_000, seed=(0,)).astype(float)
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.02
    assert abs(np.corrcoef(order, np.arange(50_000))[0, 1]) < 0.02


def test_parts_are_drawn_by_weight_and_gone_through_evenly() -> None:
    draws = Draws(sizes=(10, 1000, 35), shares=(3.0, 6.5, 0.5), batch=16, seed=4)
    batches = [draws.indices(number) for number in range(200)]
    assert all(len(batch) == 16 for batch in batches)
    drawn = np.concatenate(batches)
    counts = [((drawn >= low) & (drawn < high)).sum() for low, high in ((0, 10), (10, 1010), (1010, 1045))]
    np.testing.assert_allclose(counts, np.array([0.3, 0.65, 0.05]) * len(drawn), atol=2)
    for start, size in ((0, 10), (10, 1000), (1010, 35)):
        part = drawn[(drawn >= start) & (drawn < start + size)]
        for begin in range(0, len(part) - size + 1, size):
            assert len(set(part[begin : begin + size].tolist())) == size  # each once before any again
    assert np.array_equal(draws.indices(121), batches[121])
    shares = [sum(batch < 10) for batch in batches]
    assert set(shares) <= {4, 5}  # every batch, not only the mean


@pytest.mark.parametrize("shares", [(1.0,), (1.0, 0.0), (1.0, float("inf"))])
def test_bad_weights(shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="weights"):
        Draws(sizes=(3, 3), shares=shares, batch=2, seed=0)


@pytest.mark.parametrize("weights", [(1.0,) * 5, (0.5, 3.0, 0.0, 1.0, 8.0), (1e-30, 2e-30, 0.0, 1e-30, 0.0)])
def test_windows_are_drawn_in_proportion_to_the_weights_of_their_episodes(weights: tuple[float, ...]) -> None:
    """Chi-square over the windows, with a quantile that correct draws exceed in less than one of 1,000 seeds: spread
    over a batch, they vary less than independent ones."""
    counts = np.array([3, 7, 4, 1, 12])
    draws = EpisodeDraws(np.concatenate([[0], np.cumsum(counts)]), np.array(weights), batch=16, seed=2)
    batches = [draws.indices(number) for number in range(600)]
    drawn = np.bincount(np.concatenate(batches), minlength=27)
    expected = np.repeat(weights, counts) / np.repeat(weights, counts).sum() * 9600
    assert not drawn[expected == 0].any()
    some = expected > 0
    assert ((drawn - expected)[some] ** 2 / expected[some]).sum() < 55  # 26 degrees of freedom: 0.999 quantile is 54.05
    assert np.array_equal(draws.indices(417), batches[417])
    assert not np.array_equal(replace(draws, seed=3).indices(417), batches[417])


def test_every_batch_holds_its_share_of_a_heavy_episode() -> None:
    draws = EpisodeDraws(np.array([0, 10, 1010]), np.array([50.0, 1.0]), batch=30, seed=0)
    assert {int((draws.indices(number) < 10).sum()) for number in range(300)} == {10}


def test_names_tell_parts_apart() -> None:
    assert part_names(["runs/a/data", "runs/b/data"]) == ("a/data", "b/data")
    assert part_names(["x/kitchen", "lab"]) == ("kitchen", "lab")
    with pytest.raises(ConfigError, match="twice"):
        part_names(["a/data", "a/data"])


# ---- windows ----


def windows(root: Path, **changes: object) -> Windows:
    dataset = open_dataset(root)
    facts = {"horizon": 3, "cameras": ["wrist"], "episodes": range(len(dataset.episodes)), "images": True}
    return Windows(dataset, features=None, **(facts | changes))  # type: ignore[arg-type]


def test_a_mixed_batch_is_made_of_the_parts_rows(tmp_path: Path) -> None:
    for name, seeds in (("a", range(3)), ("b", range(3, 5))):
        with open_writer(tmp_path / name) as writer:
            for seed in seeds:
                record(writer, seed)
    parts = {name: windows(tmp_path / name) for name in "ab"}
    mixture = Mixture(parts)
    assert len(mixture) == len(parts["a"]) + len(parts["b"])
    chosen = np.random.default_rng(0).permutation(len(mixture))
    batch = mixture.__getitems__(chosen.tolist())
    assert batch.part is not None
    for row, index in enumerate(chosen.tolist()):
        name = "ab"[int(index >= len(parts["a"]))]
        alone = parts[name][index - (0 if name == "a" else len(parts["a"]))]
        assert "ab"[batch.part[row]] == name and batch.instructions[row] == alone.instructions[0]
        for field in ("actions", "proprioception", "valid", "episode", "frame"):
            assert np.array_equal(vars(batch)[field][row], vars(alone)[field][0])
        assert np.array_equal(batch.images["wrist"][row], alone.images["wrist"][0])


def test_what_cannot_stand_in_one_batch_is_named(tmp_path: Path) -> None:
    other = replace(SPEC, action=replace(SPEC.action, **{
        key: getattr(SPEC.action, key)[:3] for key in ("names", "units", "low", "high")
    }))  # fmt: skip
    with open_writer(tmp_path / "a") as writer:
        record(writer, 0)
    with open_writer(tmp_path / "b", spec=other) as writer:
        made = make_trajectory(1)
        writer.add(replace(made, actions=made.actions[:, :3], executed=made.executed[:, :3]), "x", source={})
    parts = {"a": windows(tmp_path / "a"), "b": windows(tmp_path / "b", horizon=2)}
    with pytest.raises(ConfigError, match=r"(?s)action: \[3\] in b, \[4\] in a.*horizon: 2 in b"):
        Mixture(parts)
    with pytest.raises(ConfigError, match=r"mixed:\n  horizon: 2 in b, 3 in a$"):
        Mixture(parts, pad=True)
    batch = Mixture({**parts, "b": windows(tmp_path / "b")}, pad=True)[len(parts["a"])]
    assert batch.actions.shape == (1, 3, 4) and batch.actions[..., :3].any() and not batch.actions[..., 3].any()


# ---- training ----


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """whole/, and its episodes shared out to first/ and second/, whose actions differ in scale by task."""
    root = tmp_path_factory.mktemp("toy")
    tasks = ("toy/reach-red", "toy/reach-blue")
    collect(Collect(tasks=tasks, out=root / "whole", episodes=4, storage="image", workers=0, max_steps=60),
            progress=False)  # fmt: skip
    dataset = open_dataset(root / "whole")
    for name, episodes in (("first", range(3)), ("second", range(3, 8))):
        rewrite([Piece(dataset=dataset, episodes=tuple(episodes))], root / name)
    return root


def config(**changes: object) -> TrainConfig:
    policy = PolicyConfig(
        backbone="tiny", decoder="flow", horizon=4, normalise_action="min_max", normalise_proprioception="mean_std"
    )
    base = TrainConfig(
        policy=policy, steps=12, batch=8, warmup=2, validate_every=6, checkpoint_every=6, log_every=1, seed=3
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "state").iterdir())[-1])


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_two_halves_train_as_the_whole_does(data: Path, tmp_path: Path) -> None:
    """Bit for bit: the same windows in the same order, pooled statistics, validation on nothing."""
    train(config(validation=0.0), data / "whole", tmp_path / "one", device="cpu", progress=False)
    halves = [data / "first", data / "second"]
    mixed = config(validation=0.0, mixture_statistics="pooled")
    train(mixed, halves, tmp_path / "two", device="cpu", progress=False)
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    assert Policy.load(tmp_path / "two/checkpoints/step-0000012").statistics == (
        Policy.load(tmp_path / "one/checkpoints/step-0000012").statistics
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_weighted_run_is_resumed_bit_for_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    mixed = config(mixture_statistics="own", mixture_weights=(3.0, 1.0), workers=workers)
    parts = [data / "first", data / "second"]
    train(mixed, parts, tmp_path / "straight", device="cpu", progress=False)
    step = loop.Loop._one_step

    def dies_at_nine(self: loop.Loop, raw: object) -> object:
        if self.step == 9:
            raise KeyboardInterrupt
        return step(self, raw)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_one_step", dies_at_nine)
        with pytest.raises(KeyboardInterrupt):
            train(mixed, parts, tmp_path / "broken", device="cpu", progress=False)
    train(mixed, parts, tmp_path / "broken", device="cpu", progress=False)
    assert_same_weights(tmp_path / "straight", tmp_path / "broken")
    with pytest.raises(ConfigError, match="other data"):
        train(mixed, parts[::-1], tmp_path / "broken", device="cpu", progress=False)


def test_each_row_is_normalised_by_its_own_part(data: Path, tmp_path: Path) -> None:
    parts = [data / "first", data / "second"]
    checkpoint = train(config(mixture_statistics="own"), parts, tmp_path / "run", device="cpu", progress=False)
    policy = Policy.load(checkpoint)
    assert list(policy.parts) == ["first", "second"]
    mixture = Mixture({root.name: windows(root, horizon=4, cameras=[]) for root in parts})
    batch = mixture.__getitems__(list(range(0, len(mixture), 5)))
    found = normalised(policy, batch)
    assert batch.part is not None
    for row, part in enumerate(batch.part.tolist()):
        own = policy.normalizers[part]
        assert np.array_equal(found.actions[row].numpy(), own.action.normalize(batch.actions[row]))
        assert own.proprioception.statistics == open_dataset(parts[part]).statistics()[PROPRIOCEPTION]
    with pytest.raises(ConfigError, match="which of"):
        normalised(policy, replace(batch, part=None))
    chosen = load_policy(checkpoint, execute=2, part="second")
    assert chosen.normalizers.action.statistics == open_dataset(data / "second").statistics()[ACTION]
    chosen.policy.save(tmp_path / "alone", facts={})
    assert load_policy(tmp_path / "alone", execute=2).policy.statistics == chosen.policy.statistics
    with pytest.raises(ConfigError, match="--part"):
        load_policy(checkpoint, execute=2)
    with pytest.raises(ConfigError, match="Did you mean 'second'"):
        load_policy(checkpoint, execute=2, part="secnd")
    with pytest.raises(ConfigError, match="has no parts"):
        load_policy(tmp_path / "alone", execute=2, part="second")


def test_from_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["train", str(RECIPE), "--data", str(data / "first"), "--data", str(data / "second")]
    run += ["--out", str(tmp_path / "run"), "--device", "cpu", "--steps", "3", "--warmup", "1"]
    assert main(run) == 2
    assert "--mixture-statistics" in capsys.readouterr().err
    assert main([*run, "--mixture-statistics", "own", "--mixture-weights", "2", "1"]) == 0
    evaluate = ["evaluate", str(tmp_path / "run"), "--tasks", "toy/reach-red", "--execute", "2", "--episodes", "1",
                "--controls", "random_actions", "--max-steps", "8", "--workers", "0"]  # fmt: skip
    capsys.readouterr()
    assert main([*evaluate, "--out", str(tmp_path / "no")]) == 2
    assert "--part" in capsys.readouterr().err
    assert main([*evaluate, "--out", str(tmp_path / "yes"), "--part", "first"]) == 0
    assert json.loads((tmp_path / "yes" / "run.json").read_text())["settings"]["part"] == "first"


def test_a_mixture_that_nobody_described_is_refused(data: Path, tmp_path: Path) -> None:
    parts = [data / "first", data / "second"]
    other = tmp_path / "other"
    spec = replace(SPEC, action=replace(SPEC.action, gripper="positive_opens"))
    with open_writer(other, spec=spec) as writer:
        record(writer, 0)
    for changes, roots, reason in (
        ({}, parts, "pooled, or own"),
        ({"mixture_statistics": "own", "mixture_weights": (1.0,)}, parts, "as many weights"),
        ({"mixture_statistics": "own"}, parts[:1], "nothing to mix"),
        ({"mixture_statistics": "own", "episodes": "kept.json"}, parts, "volar data split"),
        ({"mixture_statistics": "own"}, [parts[0], other], r"(?s)first does not fit other.*action gripper"),
    ):
        with pytest.raises(ConfigError, match=reason):
            train(config(**changes), roots, tmp_path / "no", device="cpu", progress=False)
    assert not (tmp_path / "no").exists()


# ---- several robots ----


@pytest.fixture(scope="module")
def wide(data: Path) -> Path:
    """Of another robot than the toy's, with wider actions and proprioception, another rate and the same camera."""
    spec = replace(SPEC, cameras=open_dataset(data / "first").cameras)
    size = spec.cameras[0].height, spec.cameras[0].width
    with open_writer(data / "wide", spec=spec, camera_storage={spec.cameras[0].name: "image"}) as writer:
        for seed in range(3):
            made, pixels = make_trajectory(seed, 8), np.random.default_rng(seed)
            images = {spec.cameras[0].name: pixels.integers(0, 256, (8, *size, 3), dtype=np.uint8)}
            writer.add(replace(made, images=images), "open the faucet", source={"seed": seed})
    return data / "wide"


PADDED = {"mixture_statistics": "own", "mixture_pad": True}


def test_robots_of_different_widths_learn_in_one_policy(
    data: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, parts = tmp_path / "run", [data / "first", wide]
    checkpoint = train(config(**PADDED), parts, run, device="cpu")
    assert "first 10 Hz, wide 20 Hz" in capsys.readouterr().err
    assert json.loads((run / "run.json").read_text())["rates_hz"] == {"first": 10.0, "wide": 20.0}
    for part in parts:
        spec, actor = open_dataset(part).spec, load_policy(checkpoint, execute=2, part=part.name)
        assert actor.policy.robot == spec and spec is not None
        seen = Observation(
            images={camera.name: np.zeros((camera.height, camera.width, 3), np.uint8) for camera in spec.cameras},
            proprioception=np.zeros(len(spec.proprioception), np.float32), instruction="go", time=0.0,
        )  # fmt: skip
        actor.reset(0)
        assert actor.act(seen).actions.shape == (4, spec.action.dim)
        actor.policy.save(tmp_path / f"alone-{part.name}", facts={})
        alone = load_policy(tmp_path / f"alone-{part.name}", execute=2)
        alone.reset(0)
        assert np.array_equal(alone.act(seen).actions, _again(actor, seen)) and alone.policy.robot == spec
    policy = Policy.load(checkpoint)
    assert policy.robots == {part.name: open_dataset(part).spec for part in parts}
    policy.save(tmp_path / "copied", facts={})
    assert Policy.load(tmp_path / "copied").robots == policy.robots
    assert spec_batch(policy, rows=2, instruction="", seed=0).proprioception.shape == (2, 3)


def _again(actor: PolicyActor, seen: Observation) -> np.ndarray:
    actor.reset(0)
    return actor.act(seen).actions


def test_padding_is_zero_and_learned_to_be(data: Path, wide: Path, tmp_path: Path) -> None:
    policy = replace(config().policy, decoder="regression")
    settings = config(**PADDED, policy=policy, steps=60, validate_every=60, checkpoint_every=60)
    parts = {root.name: windows(root, horizon=4, cameras=["top"]) for root in (data / "first", wide)}
    checkpoint = train(settings, [data / "first", wide], tmp_path / "run", device="cpu", progress=False)
    policy, mixture = Policy.load(checkpoint), Mixture(parts, pad=True)
    batch = mixture.__getitems__(list(range(len(mixture))))
    found, narrow = normalised(policy, batch), batch.part == 0
    assert not found.actions[narrow, :, 2:].any() and not found.proprioception[narrow, 2:].any()
    assert found.actions[~narrow, :, 2:].abs().min() > 0
    own = policy.normalizers[0].action.normalize(batch.actions[narrow][..., :2])
    assert np.array_equal(found.actions[narrow, :, :2], own[..., :2])
    with torch.inference_mode():
        said = policy.predict(to_batch(policy, batch, torch.device("cpu"))).actions
    assert said[narrow, :, 2:].abs().mean() < 0.1 * said[narrow, :, :2].abs().mean()


def test_a_padded_policy_acts_for_its_part_alone(
    data: Path, wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["train", str(RECIPE), "--data", str(wide), "--data", str(data / "first"), "--out", str(tmp_path / "run"),
           "--device", "cpu", "--steps", "2", "--warmup", "1", "--mixture-statistics", "own"]  # fmt: skip
    assert main(run) == 2 and "action names" in capsys.readouterr().err
    assert main([*run, "--mixture-pad"]) == 0
    evaluate = ["evaluate", str(tmp_path / "run"), "--tasks", "toy/reach-red", "--execute", "2", "--episodes", "1",
                "--controls", "random_actions", "--max-steps", "4", "--workers", "0"]  # fmt: skip
    assert main([*evaluate, "--out", str(tmp_path / "first"), "--part", "first"]) == 0
    capsys.readouterr()
    assert main([*evaluate, "--out", str(tmp_path / "wide"), "--part", "wide"]) == 2
    assert "does not fit the environment" in capsys.readouterr().err


def test_padding_that_would_hide_something_is_refused(data: Path, wide: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be 'own', got 'pooled'"):
        config(mixture_pad=True, mixture_statistics="pooled")
    with pytest.raises(ConfigError, match="keeps a robot of its own"):
        config(**PADDED, robot=SPEC)
    with open_writer(tmp_path / "two") as writer:
        record(writer, 0)
    with pytest.raises(ConfigError, match=r"(?s)wide does not fit two:.*camera 'wrist': absent") as raised:
        train(config(**PADDED), [wide, tmp_path / "two"], tmp_path / "no", device="cpu", progress=False)
    assert "action" not in str(raised.value)


def test_runs_that_began_before_these_choices_go_on(data: Path, tmp_path: Path) -> None:
    train(config(steps=2), data / "first", tmp_path / "run", device="cpu", progress=False)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    for name in LATER:
        del run["config"][name]
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    train(config(steps=2), data / "first", tmp_path / "run", device="cpu", progress=False)
