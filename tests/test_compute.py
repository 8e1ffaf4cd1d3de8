"""Compute: counted FLOPs against sums by hand, meters, the ledger, and arms matched on one budget."""

import itertools
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_vlms import SIDES, save
from torch import nn

from volar.cli.collect import Collect, collect
from volar.comparison.ledger import Ledger, ledger_of, read_ledgers, write_ledgers
from volar.comparison.matching import Contender, match
from volar.core.compute import Counts, Timing
from volar.core.errors import ConfigError
from volar.core.model import AnytimeDecoder, Batch, Budget, Card, Context, FrozenVision, TokenDecoder
from volar.core.robot import Episode, Job, Outcome
from volar.data.formats import open_dataset
from volar.data.normalize import exact_statistics
from volar.decoders import TABLE as DECODERS
from volar.envs import make_env
from volar.nn.flops import counting
from volar.nn.llama import Llama, LlamaShape
from volar.nn.transformer import Trunk, full_mask
from volar.nn.vit import VisionTransformer
from volar.policies.compute import (
    count_policy,
    feature_flops,
    spec_batch,
    time_policy,
    time_training_step,
    training_flops,
)
from volar.policies.config import PolicyConfig
from volar.policies.meter import EnergyCounter, EnergyMeter, energy_counters, hardware, peak_memory, reset_peak_memory
from volar.policies.vla import ACTION, PROPRIOCEPTION, Policy
from volar.train.config import TrainConfig
from volar.train.loop import train
from volar.train.spending import Spending

CPU = torch.device("cpu")
DOCUMENT = Path(__file__).parent.parent / "docs" / "compute.md"


def flops(work) -> int:
    with counting() as tally:
        work()
    assert tally.uncounted == ()
    return tally.flops


class TestCounting:
    """2 operations per multiply-add, against the product of the sizes."""

    def test_linear(self):
        layer, x = nn.Linear(7, 5), torch.randn(3, 4, 7)
        forward = 2 * 3 * 4 * 7 * 5
        assert flops(lambda: layer(x)) == forward
        assert flops(lambda: layer(x).sum().backward()) == 2 * forward, "the input wants no gradient"
        assert flops(lambda: layer(x.clone().requires_grad_()).sum().backward()) == 3 * forward
        with torch.inference_mode():
            assert flops(lambda: layer(x)) == forward

    def test_frozen_layers_cost_forward_only(self):
        first, second, x = nn.Linear(7, 5), nn.Linear(5, 3), torch.randn(4, 7)
        forward = 2 * 4 * (7 * 5 + 5 * 3)
        assert flops(lambda: second(first(x)).sum().backward()) == forward + 2 * 4 * (7 * 5 + 2 * 5 * 3)
        first.requires_grad_(False)
        assert flops(lambda: second(first(x)).sum().backward()) == forward + 2 * 4 * 5 * 3
        first.requires_grad_(True), second.requires_grad_(False)
        assert flops(lambda: second(first(x)).sum().backward()) == forward + 2 * 4 * (7 * 5 + 5 * 3)

    @pytest.mark.parametrize("mask", [None, "bool", "float"])
    @pytest.mark.parametrize("key_heads", [3, 1])
    def test_attention(self, mask, key_heads):
        query, key, value = torch.randn(2, 3, 4, 8), torch.randn(2, key_heads, 6, 8), torch.randn(2, key_heads, 6, 8)
        masks = {None: None, "bool": torch.ones(2, 1, 4, 6, dtype=torch.bool), "float": torch.zeros(2, 1, 4, 6)}

        def attend(*operands: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(*operands, attn_mask=masks[mask], enable_gqa=key_heads == 1)

        forward = 2 * 2 * 3 * 4 * 6 * (8 + 8)
        assert flops(lambda: attend(query, key, value)) == forward
        if key_heads == 3:
            leaves = [each.requires_grad_() for each in (query, key, value)]
            assert flops(lambda: attend(*leaves).sum().backward()) == 3 * forward

    def test_attention_counts_alike_in_every_kernel(self):
        """Dropout sends torch through plain products, which its own counter has always seen."""
        leaves = [torch.randn(2, 3, 5, 8, requires_grad=True) for _ in range(3)]
        both = [
            flops(lambda p=p: F.scaled_dot_product_attention(*leaves, dropout_p=p).sum().backward()) for p in (0.0, 0.1)
        ]
        assert both[0] == both[1]

    def test_convolutions(self):
        picture = torch.randn(2, 4, 6, 6, requires_grad=True)
        for layer, places in (
            (nn.Conv2d(4, 8, 3, padding=1), 36),
            (nn.Conv2d(4, 8, 3, padding=1, groups=2), 36),
            (nn.Conv2d(4, 8, 2, stride=2), 9),
            (nn.ConvTranspose2d(4, 8, 2, stride=2), 36),
        ):
            forward = 2 * 2 * places * layer.weight.numel()
            assert flops(lambda layer=layer: layer(picture)) == forward
            assert flops(lambda layer=layer: layer(picture).sum().backward()) == 3 * forward

    def test_what_torch_overlooks(self):
        matrix, vector, x = torch.randn(3, 4), torch.randn(4), torch.randn(2, 7, 5, requires_grad=True)
        lstm, attention = nn.LSTM(5, 6, batch_first=True), nn.MultiheadAttention(8, 2, batch_first=True).eval()
        tokens = torch.randn(2, 5, 8)
        assert flops(lambda: matrix @ vector) == 2 * 3 * 4
        assert flops(lambda: torch.addmv(torch.randn(3), matrix, vector)) == 2 * 3 * 4
        assert flops(lambda: vector @ vector) == 2 * 4
        assert flops(lambda: torch.einsum("bij,bjk->bik", torch.randn(2, 3, 4), torch.randn(2, 4, 5))) == 2 * 2 * 60
        assert flops(lambda: torch.cdist(torch.randn(30, 7), torch.randn(40, 7))) == 2 * 30 * 40 * 7
        steps = 2 * 2 * 7 * 4 * 6 * (5 + 6)
        assert flops(lambda: lstm(x)) == steps and flops(lambda: lstm(x)[0].sum().backward()) == 3 * steps
        with torch.inference_mode():  # torch's one operation for the whole layer
            expected = 2 * 2 * 5 * 8 * 8 * 4 + 2 * 2 * 2 * 5 * 5 * 8
            assert flops(lambda: attention(tokens, tokens, tokens, need_weights=False)) == expected
        assert torch.backends.mha.get_fastpath_enabled()

    def test_elementwise_work_and_look_ups_are_free(self):
        table, norm, ids = nn.Embedding(10, 4), nn.LayerNorm(4), torch.tensor([1, 2, 3])
        assert flops(lambda: F.gelu(norm(table(ids))).softmax(-1)) == 0

    def test_an_operation_without_formula_is_named(self):
        with counting() as tally:
            nn.Bilinear(3, 4, 5)(torch.randn(2, 3), torch.randn(2, 4))
        assert tally.uncounted == ("_trilinear",)

    def test_trunk(self):
        width, depth, before, new = 16, 3, 11, 5
        trunk, mask = Trunk(width, depth=depth, heads=4), torch.ones(2, before, dtype=torch.bool)
        tokens, more = torch.randn(2, before, width), torch.randn(2, new, width)
        context = trunk.context(tokens, mask)
        assert flops(lambda: trunk.context(tokens, mask)) == 2 * depth * 2 * before * width * 2 * width
        linear = 2 * new * width * width * (1 + 2 + 1 + 4 + 4)  # query, key and value, out, MLP
        attention = 2 * new * (before + new) * 2 * width
        assert flops(lambda: context.extend(more, full_mask(new))) == 2 * depth * (linear + attention)

    def test_llama(self):
        shape = LlamaShape(layers=2, width=12, hidden=20, heads=3, key_heads=1, vocabulary=30)
        model, new, past = Llama(shape), 4, 6
        linear = 2 * new * (12 * 12 + 2 * 12 * 4 + 12 * 12 + 3 * 12 * 20)
        assert flops(lambda: model(torch.randn(1, new, 12))) == 2 * (linear + 2 * new * new * 2 * 12)
        said = model(torch.randn(1, past, 12))
        continued = 2 * (linear + 2 * new * (past + new) * 2 * 12)
        assert flops(lambda: model(torch.randn(1, new, 12), past=said.layers)) == continued
        assert flops(lambda: model.logits(torch.randn(1, new, 12))) == 2 * new * 12 * 30

    def test_vision_transformer(self):
        model, side = VisionTransformer(depth=2, width=8, heads=2, patch=4, grid=3), 3
        tokens = 1 + side * side
        block = 2 * tokens * 8 * 8 * (4 + 8) + 2 * tokens * tokens * 2 * 8
        embedding = 2 * side * side * 8 * 3 * 16
        assert flops(lambda: model(torch.randn(1, 3, 12, 12))) == embedding + 2 * block


class Frozen(FrozenVision):
    """A frozen linear map of the mean colour, and a trunk; every number of operations is easily said."""

    @dataclass(frozen=True, kw_only=True)
    class Config: ...

    def __init__(self, config, *, cameras, proprioception, assets=None) -> None:
        super().__init__()
        self.names, self.known = [camera.name for camera in cameras], set()
        self.seen = nn.Linear(3, 8).requires_grad_(False)
        self.body = nn.Linear(proprioception, 8)
        self.sentence = nn.Linear(4, 4, bias=False).requires_grad_(False)
        self.trunk = Trunk(8, depth=1, heads=2)

    @property
    def width(self) -> int:
        return 8

    @property
    def layer_shape(self):
        return self.trunk.layer_shape

    def features(self, images):
        return self.seen(images.float().mean((1, 2)))

    def features_key(self) -> str:
        return "frozen linear map"

    def encode(self, batch: Batch) -> Context:
        for instruction in {*batch.instructions} - self.known:
            self.sentence(torch.zeros(1, 4))
            self.known.add(instruction)
        pictures = batch.features or {name: self.features(batch.images[name]) for name in self.names}
        tokens = torch.stack([*pictures.values(), self.body(batch.proprioception)], dim=1)
        return self.trunk.context(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))

    def card(self) -> Card:
        return Card(name="frozen", joint_vision_language_pretraining=False)


def make_policy(
    decoder: str, *, backbone: str = "tiny", horizon: int = 4, backbone_options: dict | None = None, **options
) -> Policy:
    robot = make_env("toy/reach-red").spec
    config = PolicyConfig(
        backbone=backbone, decoder=decoder, horizon=horizon, normalise_action="min_max",
        normalise_proprioception="mean_std", decoder_options=options, backbone_options=backbone_options or {},
        tokenizer="bins" if issubclass(DECODERS.load(decoder), TokenDecoder) else None,
    )  # fmt: skip
    sizes = {ACTION: robot.action.dim, PROPRIOCEPTION: len(robot.proprioception)}
    statistics = {name: exact_statistics(np.stack([-np.ones(d), np.ones(d)])) for name, d in sizes.items()}
    torch.manual_seed(0)
    policy = Policy(config, robot=robot, statistics=statistics)
    policy.fit_tokenizer(torch.rand(64, horizon, robot.action.dim) * 2 - 1, generator=torch.Generator().manual_seed(0))
    return policy


@pytest.mark.parametrize("name", DECODERS)
class TestEveryDecoder:
    def test_costs_grow_linearly_with_evaluations(self, name):
        policy = make_policy(name)
        counts = count_policy(policy)
        assert counts.uncounted == () and counts.training_flops > 0 and counts.encode_flops > 0
        assert counts.evaluations >= 1 and counts.evaluation_flops > 0
        assert counts.decision_flops() == counts.encode_flops + counts.decode_flops
        assert counts.parameters == counts.trainable_parameters == sum(each.numel() for each in policy.parameters())
        if isinstance(policy.decoder, AnytimeDecoder):
            assert counts.most_evaluations is None or counts.most_evaluations >= counts.evaluations
            for evaluations in (4, 12):
                told = count_policy(policy, budget=Budget(evaluations=evaluations))
                assert told.evaluations <= evaluations
                assert told.decision_flops() == pytest.approx(counts.decision_flops(told.evaluations), rel=0.02)
        else:
            assert counts.decode_flops == pytest.approx(counts.evaluations * counts.evaluation_flops)

    def test_a_count_leaves_the_policy_as_it_was(self, name):
        policy = make_policy(name, backbone=f"{__name__}:Frozen").train()
        weights = {key: value.clone() for key, value in policy.state_dict().items()}
        global_state = torch.get_rng_state()
        count_policy(policy)
        time_policy(policy, repeats=2)
        assert policy.training and all(module.training for module in policy.modules())
        assert all(torch.equal(value, weights[key]) for key, value in policy.state_dict().items())
        assert all(each.grad is None for each in policy.parameters())
        assert torch.equal(torch.get_rng_state(), global_state) and torch.is_grad_enabled()
        assert policy.backbone.known == set(), "nor does it remember the sentence"
        if isinstance(policy.decoder, TokenDecoder):
            tokenizer = policy.decoder.tokenizer
            assert (tokenizer.saturated, tokenizer.invalid_decodes) == (0, 0)


def test_a_whole_policy_by_hand():
    """One-pass regression on the frozen linear map: 1 camera, 2 context tokens, 4 queries, width 8, no hidden sizes."""
    policy = make_policy("regression", backbone=f"{__name__}:Frozen")
    (_,), body, actions = policy.robot.cameras, len(policy.robot.proprioception), policy.robot.action.dim
    counts = count_policy(policy, rows=3)
    feature = 2 * 3 * 8
    encode = 2 * body * 8 + 2 * 2 * 8 * 16  # proprioception, then keys and values of 2 tokens
    attention, linear = 2 * 4 * 6 * 2 * 8, 2 * 4 * 8 * 8 * 12
    assert (counts.feature_flops, counts.instruction_flops) == (feature, 2 * 4 * 4)
    assert counts.encode_flops == feature + encode
    assert counts.decode_flops == counts.evaluation_flops == linear + attention + 2 * 4 * 8 * actions
    assert counts.frozen_parameters == 3 * 8 + 8 + 4 * 4
    assert counts.training_flops - counts.stored_training_flops == feature
    # Backward is twice forward, but for what leads to no weight: the queries' own gradient is wanted, pictures' and
    # proprioception's are not.
    assert counts.stored_training_flops == 3 * (encode + counts.decode_flops) - 2 * body * 8


@pytest.mark.parametrize("family, train", [("smolvlm", "frozen"), ("smolvlm", "lora"), ("florence2", "full")])
def test_language_models_count_alike_with_fused_and_with_plain_attention(tmp_path, monkeypatch, family, train):
    """Plain attention is matrix products only, which torch's own counter sees: an oracle on whole models."""
    options = {
        "model": str(save(family, tmp_path / family)), "train": train, "image_size": SIDES.get(family, 16)
    }  # fmt: skip
    policy = make_policy("flow", backbone="hf", backbone_options=options)
    fused = count_policy(policy)
    policy.backbone.vlm.set_attn_implementation("eager")

    def forbidden(*operands: object, **named: object) -> None:
        raise AssertionError("attention was to be plain")

    monkeypatch.setattr(F, "scaled_dot_product_attention", forbidden)
    assert count_policy(policy) == fused
    assert (fused.trainable_parameters < fused.parameters) == (train != "full")


def test_a_training_step_scales_with_its_batch():
    policy = make_policy("flow")
    one, four = (
        training_flops(policy, spec_batch(policy, rows=rows, instruction="reach", seed=0)).flops for rows in (1, 4)
    )
    assert four == 4 * one > 0
    assert feature_flops(policy) == 0, "tiny stores no features"
    assert time_training_step(policy, rows=2, stored=True, repeats=2) > 0
    assert all(each.grad is None for each in policy.parameters())


def test_timing_of_a_policy():
    timing = time_policy(make_policy("flow"), repeats=5)
    assert timing.first > 0 and 0 < timing.median <= timing.p95 and timing.evaluations == 10
    assert timing.peak_memory_bytes > 10_000_000
    assert timing.energy_joules is None or timing.energy_joules >= 0


class TestMeters:
    def test_a_wrapped_counter_goes_on(self):
        values = iter([5.0, 9.0, 2.0, 3.0])
        meter = EnergyMeter([EnergyCounter(name="package-0", read=lambda: next(values), wraps=10.0)])
        assert [meter.joules() for _ in range(3)] == [4.0, 7.0, 8.0] and meter.sources == ("package-0",)

    def test_no_counter_is_unknown_not_zero(self):
        assert EnergyMeter([]).joules() is None

    def test_rapl_is_read_where_it_may_be(self, tmp_path):
        for folder, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "dram")):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "name").write_text(f"{name}\n")
            (tmp_path / folder / "energy_uj").write_text("2500000\n")
            (tmp_path / folder / "max_energy_range_uj").write_text("262143328850\n")
        (tmp_path / "intel-rapl:1").mkdir()  # as where it is readable by root only
        (tmp_path / "intel-rapl:1" / "name").write_text("package-1\n")
        counters = [each for each in energy_counters(tmp_path) if not each.name.startswith("GPU")]
        assert [each.name for each in counters] == ["package-0", "dram"] and counters[0].read() == 2.5
        meter = EnergyMeter(counters)
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text("4500000\n")
        assert meter.joules() == 2.0

    def test_this_machine(self):
        assert (spent := EnergyMeter().joules()) is None or spent >= 0
        reset_peak_memory(CPU)
        before = peak_memory(CPU)
        assert before is not None
        block = torch.ones(64, 1024, 1024, dtype=torch.uint8)
        assert peak_memory(CPU) >= before and block.numel() == 64 * 2**20
        assert "threads" in hardware(CPU)


def test_training_says_what_it_spent(tmp_path, capsys):
    data = tmp_path / "data"
    collect(
        Collect(tasks=("toy/reach-red",), out=data, episodes=3, storage="image", workers=0, max_steps=60),
        progress=False,
    )
    policy = make_policy("regression", backbone=f"{__name__}:Frozen").config
    config = TrainConfig(policy=policy, steps=6, batch=4, warmup=1, checkpoint_every=3, validate_every=6)
    train(config, data, tmp_path / "run", device="cpu", progress=False)
    spent = json.loads((tmp_path / "run" / "compute.json").read_text())
    counts = count_policy(make_policy("regression", backbone=f"{__name__}:Frozen"))
    frames = open_dataset(data).num_frames
    assert spent["training_flops"] == 6 * 4 * counts.stored_training_flops
    assert spent["feature_flops"] == frames * counts.feature_flops and spent["training_frames"] == frames
    assert spent["training_samples"] == 24 and spent["peak_memory_bytes"] > 0 and spent["training_seconds"] > 0
    ledger = ledger_of([], counts=counts, training=spent)
    assert ledger.training_flops == spent["training_flops"] + spent["feature_flops"]
    assert ledger.training_environment_steps == frames and ledger.environment_steps is None
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.S)
    assert "runs/flow" in example
    exec(example.replace("runs/flow", str(tmp_path / "run")), {})
    assert "Timing(first=" in capsys.readouterr().out


def test_an_interrupted_run_counts_both_parts(tmp_path, monkeypatch):
    meter = EnergyMeter([EnergyCounter(name="package-0", read=itertools.count(0.0, 2.0).__next__, wraps=1e9)])
    monkeypatch.setattr("volar.train.spending.EnergyMeter", lambda: meter)
    policy, written = make_policy("flow"), tmp_path / "compute.json"
    seen = spec_batch(policy, rows=3, instruction="reach", seed=0)
    first = Spending(tmp_path, policy, resumed=False, processes=2)
    assert first.due(0)
    first.count(seen)
    assert not first.due(1) and first.due(500)
    first.write(step=10, samples=60, facts={})
    before = json.loads(written.read_text())
    assert before["training_flops"] == 10 * 2 * training_flops(policy, seen).flops
    second = Spending(tmp_path, policy, resumed=True, processes=2)
    assert not second.due(10)
    second.write(step=15, samples=90, facts={})
    after = json.loads(written.read_text())
    assert after["training_flops"] == pytest.approx(1.5 * before["training_flops"])
    assert after["training_seconds"] > before["training_seconds"] > 0
    assert after["energy_joules"] > before["energy_joules"] == 2.0
    written.write_text(json.dumps({**before, "energy_joules": None}))
    third = Spending(tmp_path, policy, resumed=True, processes=2)
    third.write(step=15, samples=90, facts={})
    assert json.loads(written.read_text())["energy_joules"] is None, "a sum without one part would be too low"


COUNTS = Counts(
    parameters=100, trainable_parameters=40, frozen_parameters=60, training_flops=1000, stored_training_flops=300,
    feature_flops=700, encode_flops=500, decode_flops=1000, instruction_flops=50, evaluations=10.0,
    evaluation_flops=100.0, anytime=True,
)  # fmt: skip
ONE_PASS = replace(COUNTS, decode_flops=100, evaluations=1.0, anytime=False)
TIMING = Timing(
    first=0.5, median=0.10, p95=0.2, evaluation=0.008, evaluations=10.0, peak_memory_bytes=9, energy_joules=None
)


def episode(seed: int, *, steps: int, latencies: tuple[float, ...], evaluations: tuple[int, ...]) -> Episode:
    return Episode(
        job=Job(task="toy/reach-red", seed=seed, arm="a", max_steps=9), instruction="reach", outcome=Outcome.SUCCESS,
        steps=steps, first_observation="x", executed_per_chunk=4, latencies=latencies, evaluations=evaluations,
        privileged=("goal position",) if seed else (),
    )  # fmt: skip


class TestLedger:
    EPISODES = (
        episode(0, steps=10, latencies=(0.9, 0.1, 0.2), evaluations=(10, 8, 6)),
        episode(1, steps=5, latencies=(0.7, 0.3), evaluations=(8, 8)),
    )

    def test_by_hand(self):
        ledger = ledger_of(self.EPISODES, counts=COUNTS, planner_steps=0, hardware="two cores")
        assert ledger.evaluations == 8.0 and ledger.chunk_flops == 500 + 8 * 100
        assert ledger.action_flops == pytest.approx(5 * 1300 / 15), "5 decisions for 15 actions"
        assert ledger.latency_first == pytest.approx(0.8) and ledger.latency_median == pytest.approx(0.2)
        assert ledger.latency_p95 == pytest.approx(np.quantile([0.1, 0.2, 0.3], 0.95))
        assert (ledger.environment_steps, ledger.simulator_steps_by_planner) == (15, 0)
        assert ledger.privileged == ("goal position",) and ledger.hardware == "two cores"
        assert (ledger.parameters, ledger.frozen_parameters_forward, ledger.peak_memory_bytes) == (100, 60, None)

    def test_a_timing_replaces_the_latencies_of_records(self):
        ledger = ledger_of(self.EPISODES, timing=TIMING)
        assert (ledger.latency_first, ledger.latency_median, ledger.latency_p95) == (0.5, 0.10, 0.2)
        assert ledger.peak_memory_bytes == 9 and ledger.decision_energy_joules is None

    def test_what_nobody_counted_is_unknown(self):
        ledger = ledger_of(self.EPISODES)
        assert ledger.parameters is ledger.chunk_flops is ledger.training_flops is ledger.energy_joules is None
        assert ledger.simulator_steps_by_planner is None and ledger.evaluations == 8.0
        assert ledger_of([]) == Ledger()

    def test_one_decision_per_episode_is_its_own_median(self):
        ledger = ledger_of([episode(0, steps=4, latencies=(0.5,), evaluations=(1,))])
        assert ledger.latency_first == ledger.latency_median == 0.5

    def test_compute_json_of_an_older_version(self):
        old = {"parameters": 9, "trainable_parameters": 4, "training_steps": 2, "training_seconds": 3.0}
        ledger = ledger_of([], training=old)
        assert (ledger.frozen_parameters_forward, ledger.training_flops, ledger.training_seconds) == (5, None, 3.0)
        with pytest.raises(ConfigError, match="'training_steps' must be a number"):
            ledger_of([], training={"training_steps": "many"})

    def test_round_trip_and_damage(self, tmp_path):
        path = tmp_path / "ledger.json"
        ledgers = {"flow": {"flow@0": ledger_of(self.EPISODES, counts=COUNTS)}, "regression": {"regression": Ledger()}}
        write_ledgers(path, ledgers)
        assert read_ledgers(path) == ledgers
        content = json.loads(path.read_text())
        content["flow"]["flow@0"]["parametres"] = content["flow"]["flow@0"].pop("parameters")
        path.write_text(json.dumps(content))
        with pytest.raises(ConfigError, match="Did you mean 'parameters'"):
            read_ledgers(path)
        path.write_text("[]")
        with pytest.raises(ConfigError, match="expected arm -> member -> ledger"):
            read_ledgers(path)
        with pytest.raises(ConfigError, match="No compute ledger"):
            read_ledgers(Path(tmp_path / "nowhere.json"))


A = Contender(
    name="a", steps=100, samples_per_step=8, scalable=True, counts=COUNTS, timing=TIMING, execute=4,
    seconds_per_step=0.5,
)  # fmt: skip


class TestMatching:
    def test_none_changes_nothing(self):
        assert [each.steps for each in match([A, replace(A, name="b")], "none")] == [None, None]

    def test_steps_are_scaled_to_equal_training_flops(self):
        """The reference spends 100 * 8 * 1000; steps of 2400 FLOPs * 8 each fit 41.67 times."""
        other = replace(A, name="b", counts=replace(COUNTS, training_flops=2400))
        first, second = match([A, other], "train-flops")
        assert (first.steps, first.after) == (None, 800_000) and second.before == 1_920_000
        assert second.steps == 42 and second.after == 42 * 8 * 2400

    def test_stored_features_are_paid_once(self):
        """800,000 of the reference = 500 frames * 700 + steps * 8 * 300."""
        other = replace(A, name="b", stored_features=True, frames=500)
        assert match([A, other], "train-flops")[1].steps == round(450_000 / 2400)
        with pytest.raises(ConfigError, match=r"storing its features takes 7e\+06"):
            match([A, replace(other, frames=10_000)], "train-flops")

    def test_samples_and_seconds(self):
        other = replace(A, name="b", samples_per_step=20, seconds_per_step=0.2)
        assert match([A, other], "train-samples")[1].steps == 40
        assert match([A, other], "train-seconds")[1].steps == 250

    def test_equal_arms_are_left_alone(self):
        for axis in ("train-flops", "train-samples", "nfe", "inference-flops", "latency"):
            assert all(
                each.steps is None and each.evaluations is None for each in match([A, replace(A, name="b")], axis)
            )

    def test_what_is_trained_already_must_fit(self):
        done = replace(A, name="b", scalable=False)
        assert match([A, replace(done, steps=104)], "train-samples")[1].steps is None
        with pytest.raises(ConfigError, match="'b' is trained already, with 880 training samples against 800"):
            match([A, replace(done, steps=110)], "train-samples")
        assert match([A, replace(done, steps=110)], "train-samples", tolerance=0.1)[1].after == 880

    def test_few_steps_cannot_come_close(self):
        with pytest.raises(ConfigError, match=r"within 5%.*nearest is 1000 with 1 step"):
            match([A, replace(A, name="b", samples_per_step=1000)], "train-samples")

    def test_evaluations_come_down_to_the_reference(self):
        other = replace(A, name="b", counts=replace(COUNTS, evaluations=32.0, decode_flops=3200))
        assert match([A, other], "nfe")[1].evaluations == 10
        # 1500 FLOPs per decision of the reference, 4 actions each: 500 + 10 * 100
        assert match([A, other], "inference-flops")[1].evaluations == 10
        wider = replace(other, counts=replace(other.counts, evaluation_flops=160.0, decode_flops=5120))
        matched = match([A, wider], "inference-flops")[1]
        assert matched.evaluations == 6 and matched.after == (500 + 6 * 160) / 4 <= 1500 / 4

    def test_and_go_up_to_it(self):
        slow = replace(A, counts=replace(COUNTS, evaluations=64.0, decode_flops=6400))
        assert match([slow, replace(A, name="b")], "nfe")[1].evaluations == 64

    def test_actions_carried_out_share_a_decision(self):
        """b executes 8 actions per decision, so each may cost twice as much: 3000 = 500 + 25 * 100."""
        assert match([A, replace(A, name="b", execute=8)], "inference-flops")[1].evaluations == 25

    def test_latency_is_at_most_the_references(self):
        """0.10 s = 0.02 s + 10 evaluations of 0.008 s; others at 0.012 s each: 6 of them, 0.092 s."""
        other = replace(A, name="b", timing=replace(TIMING, median=0.14, evaluation=0.012))
        matched = match([A, other], "latency")[1]
        assert matched.evaluations == 6 and matched.after == pytest.approx(0.092)
        assert "one more would be 0.104" in matched.note

    def test_one_pass_is_not_scaled_up(self):
        regression = replace(A, name="regression", counts=ONE_PASS)
        with pytest.raises(ConfigError, match=r"'regression' decides with 1 network evaluation.*make 'regression' the"):
            match([A, regression], "nfe")
        assert match([regression, A], "nfe")[1].evaluations == 1
        with pytest.raises(ConfigError, match="more of them cannot be asked"):
            match([A, regression], "inference-flops")

    def test_some_decoders_end_after_a_few_evaluations(self):
        mip = replace(A, name="mip", counts=replace(COUNTS, evaluations=2.0, decode_flops=200, most_evaluations=2))
        with pytest.raises(ConfigError, match="'mip' makes at most 2 network evaluations: 2 network"):
            match([A, mip], "nfe")
        assert match([replace(A, counts=ONE_PASS), mip], "nfe")[1].evaluations == 1

    def test_a_backbone_can_be_too_dear(self):
        cheap = replace(A, name="cheap", counts=replace(ONE_PASS, encode_flops=10))
        with pytest.raises(ConfigError, match="with a single network evaluation, more than"):
            match([cheap, replace(A, name="b")], "inference-flops")

    @pytest.mark.parametrize("axis", ["train-flops", "nfe", "inference-flops"])
    def test_what_is_unknown_is_said(self, axis):
        with pytest.raises(ConfigError, match="of the arm 'served', its"):
            match([A, Contender(name="served")], axis)

    def test_bad_requests(self):
        with pytest.raises(ConfigError, match="Did you mean 'train-flops'"):
            match([A, A], "train-flop")
        with pytest.raises(ConfigError, match="tolerance"):
            match([A, A], "nfe", tolerance=5.0)
        with pytest.raises(ConfigError, match="nothing can be equal"):
            match([replace(A, seconds_per_step=0.0), A], "train-seconds")
