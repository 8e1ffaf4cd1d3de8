"""Flow, its layered expert, diffusion and the minimum iterative policy: exact properties of each, and parity with the
libraries that define them."""

import itertools
import json
import math
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tiny_vlms
import torch
import transformers as hf
from surroundings import DIM, HORIZON, TOKENS, make, seeded
from torch import Tensor

from volar.backbones.hf import HuggingFace
from volar.backbones.state import State
from volar.backbones.tiny import Tiny
from volar.core.errors import ConfigError
from volar.core.model import Batch, Budget, Context, FieldDecoder, LayerShape
from volar.core.robot import Camera
from volar.data.normalize import exact_statistics
from volar.decoders.flow_expert import FlowExpert
from volar.envs import make_env
from volar.nn.diffusion import cosine_signal
from volar.nn.flow import STEP_COST
from volar.nn.llama import angles, rotate
from volar.nn.transformer import full_mask
from volar.policies.config import PolicyConfig
from volar.policies.vla import Policy

CPU = torch.device("cpu")
TIMED = ("flow", "flow_expert", "mip", "diffusion")
GOLDEN = Path(__file__).parent / "golden" / "diffusion_steps.json"


class Clock:
    """Stands still but while a field is evaluated; the n-th evaluation takes `seconds[n]`, the last of them ever on."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.calls, self.now = seconds, 0, 0.0

    def __call__(self) -> float:
        return self.now

    def time(self, chunks: Tensor, time: Tensor) -> Tensor:
        """The field of one point at 0: the straight path to it takes a single step of any size."""
        self.now += self.seconds[min(self.calls, len(self.seconds) - 1)]
        self.calls += 1
        return chunks / time[:, None, None]


def solve(name: str, field, *, seed: int = 0, budget: Budget | None = None, **options):
    _, decoder = make(name, **options)
    return decoder.solve(field, rows=2, device=CPU, generator=seeded(seed), budget=budget or Budget())


# --- flow: what a budget buys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", STEP_COST)
@pytest.mark.parametrize("evaluations", [1, 2, 5, 64])
def test_a_budget_takes_the_place_of_the_steps(solver, evaluations):
    """As many steps as the evaluations pay for; what does not pay for one step of the solver, pays for one of Euler."""

    def field(chunks: Tensor, time: Tensor) -> Tensor:
        return chunks.sin() + time[:, None, None]

    cost = STEP_COST[solver]
    used = solver if evaluations >= cost else "euler"
    steps = evaluations // STEP_COST[used]
    limited = solve("flow", field, solver=solver, budget=Budget(evaluations=evaluations))
    expected = solve("flow", field, solver=used, steps=steps)
    torch.testing.assert_close(limited.actions, expected.actions)
    assert limited.evaluations.tolist() == expected.evaluations.tolist() == [steps * STEP_COST[used]] * 2


@pytest.mark.parametrize("solver, order", [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_more_evaluations_bring_a_solver_closer_by_its_order(solver, order):
    """dx/dt = x from t = 1 to 0 multiplies the noise by exp(-1); twice the budget divides the error by 2^order."""
    exact = torch.randn(2, HORIZON, DIM, generator=seeded()) * math.exp(-1)
    ends = [solve("flow", lambda x, t: x, solver=solver, budget=Budget(evaluations=n)).actions for n in (8, 16, 32)]
    errors = [(end - exact).abs().max().item() for end in ends]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


def test_seconds_are_turned_into_steps():
    """Ten and a half seconds at one second each: ten equal steps, as if they had been asked for."""

    def field(chunks: Tensor, time: Tensor) -> Tensor:
        clock.time(chunks, time)
        return chunks.sin()

    clock = Clock(1.0)
    timed = solve("flow", field, budget=Budget(seconds=10.5, clock=clock))
    assert timed.evaluations.tolist() == [10, 10]
    assert torch.equal(timed.actions, solve("flow", field, steps=10).actions)


@pytest.mark.parametrize("name", ["flow", "flow_expert", "diffusion"])
def test_whichever_limit_comes_first(name):
    few, short = Budget(evaluations=3, seconds=9.0), Budget(evaluations=9, seconds=3.0)
    for limits in (few, short):
        clock = Clock(1.0)
        assert solve(name, clock.time, budget=replace(limits, clock=clock)).evaluations.tolist() == [3, 3]


@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_a_clock_that_does_not_tick_limits_nothing(name):
    still = Budget(seconds=1.0, clock=lambda: 7.0)
    assert solve(name, lambda x, t: x, steps=6, budget=still).evaluations.tolist() == [6, 6]


@pytest.mark.parametrize("solver", STEP_COST)
def test_time_that_runs_out_ends_in_one_last_step(solver):
    """Planned for ten evaluations, then the network slows down. The straight path reaches its end all the same."""
    clock = Clock(1.0, 3.0)
    sample = solve("flow", clock.time, solver=solver, budget=Budget(seconds=10.5, clock=clock))
    assert sample.evaluations.tolist() == [4, 4] and clock.now == 10
    torch.testing.assert_close(sample.actions, torch.zeros_like(sample.actions), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", TIMED)
def test_seconds_are_overshot_by_one_evaluation_at_most(name):
    for seed in range(30):
        chance = random.Random(seed)
        clock = Clock(*(chance.expovariate(1.0) for _ in range(40)))
        seconds = chance.uniform(0.1, 20)
        solve(name, clock.time, seed=seed, budget=Budget(seconds=seconds, clock=clock))
        last = clock.seconds[min(clock.calls, len(clock.seconds)) - 1]
        assert clock.now - last < seconds


# --- fields of several policies can be combined ----------------------------------------------------------------------


@pytest.mark.parametrize("name", TIMED)
def test_a_combination_of_two_policies_begins_and_ends_with_each_alone(name):
    around, first = make(name)
    second = make(name)[1]
    assert isinstance(first, FieldDecoder) and isinstance(second, FieldDecoder)
    for value in second.parameters():
        torch.nn.init.normal_(value, std=0.2, generator=seeded(7))
    inputs = torch.randn(2, TOKENS, 5, generator=seeded(1))
    contexts = around.context(inputs), around.context(inputs + 1)
    fields = partial(first.field, contexts[0]), partial(second.field, contexts[1])

    @torch.no_grad()
    def blend(weight: float) -> Tensor:
        combined = lambda x, t: (1 - weight) * fields[0](x, t) + weight * fields[1](x, t)  # noqa: E731
        return first.solve(combined, rows=2, device=CPU, generator=seeded()).actions

    alone = [
        decoder.sample(c, generator=seeded()).actions for decoder, c in zip((first, second), contexts, strict=True)
    ]
    torch.testing.assert_close(blend(0.0), alone[0])
    torch.testing.assert_close(blend(1.0), alone[1])
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)
    assert not any(torch.allclose(blend(0.5), each, atol=1e-3) for each in alone)


@pytest.mark.parametrize("name", ["flow_expert", "diffusion"])
def test_both_of_two_ways_are_kept(name):
    """Half of the demonstrations go left, half right: every sample goes one way, and both ways come up."""
    around, decoder = make(name)
    inputs, valid = torch.zeros(64, TOKENS, 5), torch.ones(64, HORIZON, dtype=torch.bool)
    actions = torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)[:, None, None].expand(64, HORIZON, DIM)
    optimizer = torch.optim.Adam([*around.parameters(), *decoder.parameters()], lr=2e-3)
    for step in range(150):
        optimizer.zero_grad()
        decoder.loss(around.context(inputs), actions, valid, generator=seeded(step)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        sampled = decoder.sample(around.context(inputs), generator=seeded(9)).actions.mean((1, 2))
    assert (sampled.abs() > 0.7).float().mean() > 0.9
    assert 0.2 < (sampled > 0).float().mean() < 0.8


# --- the minimum iterative policy ------------------------------------------------------------------------------------


def test_mip_learns_the_guess_and_the_correction():
    """With a field that gives back what it is given, the guess is 0 and the correction the noisy demonstration."""
    around, decoder = make("mip", noise=0.25)
    decoder.field = lambda context, chunks, time: chunks * time[:, None, None]
    actions = torch.randn(2, HORIZON, DIM, generator=seeded(1))
    noise = torch.randn(actions.shape, generator=seeded(2))
    context = around.context(torch.zeros(2, TOKENS, 5))
    loss = decoder.loss(context, actions, torch.ones(2, HORIZON, dtype=torch.bool), generator=seeded(2))
    corrected = 0.25 * (0.75 * actions + 0.25 * noise)
    torch.testing.assert_close(loss, (actions.square() + (corrected - actions).square()).mean((1, 2)))


def test_mip_guesses_from_nothing_then_corrects_and_draws_nothing():
    def field(chunks: Tensor, time: Tensor) -> Tensor:
        seen.append((chunks, time))
        return chunks + 2

    seen: list[tuple[Tensor, Tensor]] = []
    two = solve("mip", field)
    assert two.evaluations.tolist() == [2, 2]
    assert (seen[0][0] == 0).all() and (seen[0][1] == 1).all()
    torch.testing.assert_close(seen[1][0], torch.full_like(seen[1][0], 0.9 * 2))
    torch.testing.assert_close(seen[1][1], torch.full((2,), 0.1))
    torch.testing.assert_close(two.actions, torch.full_like(two.actions, 0.9 * 2 + 2))
    assert torch.equal(two.actions, solve("mip", field, seed=5, budget=Budget(evaluations=64)).actions)
    assert (solve("mip", field, budget=Budget(evaluations=1)).actions == 2).all()


# --- diffusion -------------------------------------------------------------------------------------------------------


def somewhat(chunks: Tensor, time: Tensor) -> Tensor:
    """Any field will do to compare steps, as long as its estimates are sometimes clipped and sometimes not."""
    return (0.8 * chunks).sin() * (0.5 + time[:, None, None])


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text()), ids=lambda case: case["name"])
def test_diffusion_steps_as_diffusers_does(case):
    """Chunks that the schedulers of diffusers made. Regenerate: `python tests/test_decoders_continuous.py`."""
    sample = solve("diffusion", somewhat, seed=3, **case["options"])
    torch.testing.assert_close(sample.actions, torch.tensor(case["chunks"]), rtol=1e-3, atol=1e-4)


def test_cosine_schedule_is_that_of_diffusers():
    signal = cosine_signal(100)
    expected = json.loads(GOLDEN.read_text())[0]["signal"]
    torch.testing.assert_close(signal.float(), torch.tensor(expected), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("predicts", ["actions", "noise"])
def test_diffusion_learns_at_the_levels_it_later_visits(predicts):
    """A field that knows the actions has no loss: what the network is shown, and when, is what sampling shows it."""
    around, decoder = make("diffusion", predicts=predicts, levels=50)
    actions = torch.randn(64, HORIZON, DIM, generator=seeded(1))
    times: list[Tensor] = []

    def field(context: Context, chunks: Tensor, time: Tensor) -> Tensor:
        times.append(time)
        kept = cosine_signal(50).float()[(time * 50).round().long() - 1][:, None, None]
        return actions if predicts == "actions" else (chunks - kept.sqrt() * actions) / (1 - kept).sqrt()

    decoder.field = field
    loss = decoder.loss(around.context(torch.zeros(64, TOKENS, 5)), actions, torch.ones(64, HORIZON) > 0)
    torch.testing.assert_close(loss, torch.zeros(64), atol=1e-6, rtol=0)
    learned = {round(time * 50) for time in times[0].tolist()}
    assert learned <= set(range(1, 51)) and len(learned) > 25


def gaussian(deviation: float, levels: int, predicts: str):
    """The best field for data from N(0, deviation^2), in closed form."""
    signal = cosine_signal(levels).float()

    def field(chunks: Tensor, time: Tensor) -> Tensor:
        kept = signal[(time * levels).round().long() - 1][:, None, None]
        clean = kept.sqrt() * deviation**2 / (kept * deviation**2 + 1 - kept) * chunks
        return clean if predicts == "actions" else (chunks - kept.sqrt() * clean) / (1 - kept).sqrt()

    return field


@pytest.mark.parametrize("predicts", ["actions", "noise"])
def test_ddim_transports_a_gaussian(predicts):
    """The deterministic path multiplies the noise by the data's deviation; its error falls with the number of steps."""
    start = torch.randn(2, HORIZON, DIM, generator=seeded())
    errors = []
    for steps in (25, 50, 100):
        options = {"levels": 1000, "steps": steps, "predicts": predicts, "clip": False}
        end = solve("diffusion", gaussian(0.3, 1000, predicts), **options).actions
        errors.append((end - 0.3 * start).abs().max().item())
    assert errors[-1] < 0.02 and errors[0] > 1.7 * errors[1] > 1.7**2 * errors[2]


def test_ddpm_samples_a_gaussian():
    """With noise at every step the start is forgotten and the spread of the samples is the data's."""
    _, decoder = make("diffusion", levels=200, steps=200, spread=1.0, clip=False)
    end = decoder.solve(gaussian(0.3, 200, "actions"), rows=400, device=CPU, generator=seeded()).actions
    start = torch.randn(400, HORIZON, DIM, generator=seeded())
    assert end.std().item() == pytest.approx(0.3, rel=0.04) and abs(end.mean().item()) < 0.02
    assert torch.corrcoef(torch.stack([start.flatten(), end.flatten()]))[0, 1].abs() < 0.05


def test_diffusion_takes_no_more_steps_than_it_knows_levels():
    sample = solve("diffusion", somewhat, levels=20, steps=4, budget=Budget(evaluations=64))
    assert sample.evaluations.tolist() == [20, 20]
    assert torch.equal(sample.actions, solve("diffusion", somewhat, levels=20, steps=20).actions)


def test_one_step_of_diffusion_is_the_estimate_from_pure_noise():
    def field(chunks: Tensor, time: Tensor) -> Tensor:
        assert (time == 1).all()
        return 0.5 * chunks.tanh()

    start = torch.randn(2, HORIZON, DIM, generator=seeded())
    one = solve("diffusion", field, budget=Budget(evaluations=1))
    torch.testing.assert_close(one.actions, 0.5 * start.tanh())


def test_estimates_stay_within_the_largest_action_learned():
    around, decoder = make("diffusion", predicts="noise")
    context = around.context(torch.zeros(2, TOKENS, 5))
    actions = torch.randn(2, HORIZON, DIM, generator=seeded())
    actions[0, 0, 0] = -7.0
    valid = torch.ones(2, HORIZON, dtype=torch.bool)
    decoder.eval().loss(context, actions, valid, generator=seeded())
    assert decoder.largest.tolist() == [1.0] * DIM
    decoder.train().loss(context, actions, valid, generator=seeded())
    assert decoder.largest[0] == 7 and (decoder.largest[1:] < 7).all()
    wild = decoder.solve(lambda x, t: -9 * x, rows=2, device=CPU, generator=seeded()).actions
    assert (wild.abs().amax((0, 1)) == decoder.largest).all()
    again = make("diffusion", predicts="noise")[1]
    again.load_state_dict(decoder.state_dict())
    assert torch.equal(again.largest, decoder.largest)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("flow", {"steps": 0}, "steps must be at least 1"),
        ("flow_expert", {"steps": 0}, "steps must be at least 1"),
        ("flow_expert", {"width": 31}, "even number"),
        ("flow_expert", {"expansion": 0.0}, "expansion"),
        ("mip", {"noise": 1.0}, "between 0 and 1"),
        ("diffusion", {"steps": 101}, "levels=100"),
        ("diffusion", {"spread": 1.5}, "DDPM"),
    ],
)
def test_an_impossible_choice_is_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make(name, **options)


# --- the layered expert ----------------------------------------------------------------------------------------------

INSTRUCTIONS = ("open it", "close the door")
STATE = 5


def pi0_like(backbone: HuggingFace) -> hf.PI0ForConditionalGeneration:
    """transformers' pi0, small and random, around the weights of `backbone`."""
    config = hf.PI0Config(
        vlm_config=backbone.vlm.config.to_dict(),
        dit_config={
            "model_type": "gemma", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        },
        chunk_size=HORIZON, max_action_dim=DIM, max_state_dim=STATE,
    )  # fmt: skip
    model = hf.PI0ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=seeded(4)))
    model.model.vlm.load_state_dict(backbone.vlm.state_dict())
    return model


def expert_of(model: hf.PI0ForConditionalGeneration, shape: LayerShape) -> FlowExpert:
    """Our decoder with pi0's weights. Gemma's norms multiply by 1 + weight, ours by the weight."""
    config = FlowExpert.Config(width=24, expansion=40 / 24)
    decoder = FlowExpert(config, width=32, horizon=HORIZON, action_dim=DIM, layers=shape).eval()
    names = {
        "norm_attention": "input_layernorm", "query": "self_attn.q_proj", "key": "self_attn.k_proj",
        "value": "self_attn.v_proj", "out": "self_attn.o_proj", "norm_mlp": "post_attention_layernorm",
        "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
    }  # fmt: skip
    theirs = model.model.dit.state_dict()
    weights = {"expert.norm.weight": 1 + theirs["norm.weight"]}
    for index, (ours, name) in itertools.product(range(3), names.items()):
        value = theirs[f"layers.{index}.{name}.weight"]
        weights[f"expert.layers.{index}.{ours}.weight"] = 1 + value if ours.startswith("norm") else value
    embedding = model.embed_action_time
    for ours, layer in {
        "action_in": embedding.action_in_proj, "action_time.0": embedding.action_time_mlp_in,
        "action_time.2": embedding.action_time_mlp_out, "out": model.action_out_proj,
    }.items():  # fmt: skip
        weights |= {f"{ours}.{kind}": value for kind, value in layer.state_dict().items()}
    decoder.load_state_dict(weights)
    return decoder


@torch.no_grad()
def test_expert_gives_the_velocity_of_pi0(tmp_path):
    """Pictures and prompt through our backbone, actions through our expert; all of it through transformers' pi0. Its
    state token, which our backbones read themselves, is put before the actions by hand."""
    backbone = HuggingFace(
        HuggingFace.Config(model=str(tiny_vlms.save("paligemma", tmp_path))),
        cameras=(Camera(name="a", height=16, width=16), Camera(name="b", height=16, width=16)),
        proprioception=0,
    ).eval()
    assert backbone.layer_shape.frequencies
    model = pi0_like(backbone)
    decoder = expert_of(model, backbone.layer_shape)

    images = {
        name: torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8, generator=seeded(row))
        for row, name in enumerate("ab")
    }
    batch = Batch(images=images, instructions=INSTRUCTIONS, proprioception=torch.zeros(2, 0))
    context = backbone.encode(batch)
    assert not context.mask.all(), "rows of different lengths, so that positions are tested"
    chunks, state = torch.randn(2, HORIZON, DIM, generator=seeded(5)), torch.randn(2, STATE, generator=seeded(6))
    time = torch.tensor([0.9, 0.3])
    tokens = torch.cat([model.embed_action_time.state_proj(state)[:, None], decoder.tokens(chunks, time)], dim=1)
    sees = full_mask(1 + HORIZON)
    sees[0, 1:] = False
    ours = decoder.out(decoder.expert(tokens, context, sees)[:, 1:])

    prompt = backbone._prompt(INSTRUCTIONS)
    theirs = model(
        state=state, noise=chunks, timestep=time, input_ids=prompt.ids, attention_mask=prompt.mask.long(),
        pixel_values=backbone._pictures(batch), pixel_attention_mask=torch.ones(2, 2, dtype=torch.bool),
    ).logits  # fmt: skip
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


class Layerless(Tiny):
    """A backbone that keeps no keys and values."""

    @property
    def layer_shape(self) -> None:
        return None


@pytest.mark.parametrize("backbone", [Tiny, State])
def test_contexts_have_the_shape_that_the_backbone_promises(backbone):
    model = backbone(backbone.Config(), cameras=(CAMERA,) if backbone is Tiny else (), proprioception=2)
    context, shape = model.encode(batch_of("open it")), model.layer_shape
    assert context.layers is not None and len(context.layers) == shape.layers
    for keys, values in context.layers:
        assert keys.shape == values.shape == (1, shape.key_heads, context.mask.shape[1], shape.head_dim)
    assert context.position is None and not shape.frequencies


def test_a_backbone_without_layers_is_refused():
    """By its name, before anything is built of the decoder."""
    config = PolicyConfig(
        backbone=f"{__name__}:Layerless", decoder="flow_expert", horizon=HORIZON, normalise_action="mean_std",
        normalise_proprioception="mean_std",
    )  # fmt: skip
    robot = make_env("toy/reach-red").spec
    statistics = {"action": exact_statistics(torch.eye(4, robot.action.dim).numpy())}
    statistics["observation.state"] = exact_statistics(torch.eye(4, len(robot.proprioception)).numpy())
    with pytest.raises(ConfigError, match="keeps none"):
        Policy(config, robot=robot, statistics=statistics)
    Policy(replace(config, backbone="tiny"), robot=robot, statistics=statistics)


CAMERA = Camera(name="a", height=16, width=16)


def build(name: str, folder: Path, **options) -> HuggingFace:
    torch.manual_seed(0)
    config = HuggingFace.Config(
        model=str(tiny_vlms.save(name, folder)), **{"image_size": tiny_vlms.SIDES.get(name), **options}
    )
    return HuggingFace(config, cameras=(CAMERA,), proprioception=2).eval()


def batch_of(*instructions: str) -> Batch:
    picture = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8, generator=seeded())
    rows = len(instructions)
    return Batch(
        images={"a": picture.expand(rows, -1, -1, -1)}, instructions=instructions, proprioception=torch.ones(rows, 2)
    )


def expert_on(backbone: HuggingFace) -> FlowExpert:
    torch.manual_seed(0)
    sizes = {"width": backbone.width, "horizon": HORIZON, "action_dim": DIM}
    return FlowExpert(FlowExpert.Config(steps=3), **sizes, layers=backbone.layer_shape).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", tiny_vlms.BUILDERS)
def test_expert_reads_every_vision_language_model(name, tmp_path):
    """The contexts have the shape that the backbone promises; a row's chunk is the same whether it is padded or not;
    the language model does not run again; and what the context was continued by is read too."""
    backbone = build(name, tmp_path)
    shape, decoder = backbone.layer_shape, expert_on(backbone)
    context = backbone.encode(batch_of("open it", "close the other door"))
    assert context.layers is not None and len(context.layers) == shape.layers
    for keys, values in context.layers:
        assert keys.shape == values.shape == (2, shape.key_heads, context.mask.shape[1], shape.head_dim)
    assert (context.position is not None) == bool(shape.frequencies)

    calls: list[int] = []
    for module in backbone.modules():
        module.register_forward_pre_hook(lambda *_: calls.append(1))
    decoder.sample(context, generator=seeded())
    assert not calls

    chunks, time = torch.randn(1, HORIZON, DIM, generator=seeded()), torch.tensor([0.5])
    together = decoder.field(context, chunks.expand(2, -1, -1), time.expand(2))[:1]
    alone = backbone.encode(batch_of("open it"))
    torch.testing.assert_close(decoder.field(alone, chunks, time), together, rtol=1e-3, atol=1e-4)
    said = torch.randn(1, 2, backbone.width, generator=seeded())
    after = decoder.field(alone.extend(said, full_mask(2)).context, chunks, time)
    assert after.isfinite().all() and not torch.allclose(after, together, atol=1e-5)


@torch.no_grad()
def test_expert_goes_on_where_the_context_ends(tmp_path):
    """Rotary positions are relative: moving context and actions together changes nothing, the actions alone a lot."""
    backbone = build("smolvlm", tmp_path)
    decoder = expert_on(backbone)
    context = backbone.encode(batch_of("open it"))
    assert context.layers is not None and context.position is not None
    chunks, time = torch.randn(1, HORIZON, DIM, generator=seeded()), torch.tensor([0.5])
    turn = angles(torch.full((1, context.mask.shape[1]), 3), torch.tensor(backbone.layer_shape.frequencies))
    moved = tuple((rotate(keys, turn), values) for keys, values in context.layers)
    here = decoder.field(context, chunks, time)
    both = decoder.field(replace(context, layers=moved, position=context.position + 3), chunks, time)
    alone = decoder.field(replace(context, position=context.position + 3), chunks, time)
    torch.testing.assert_close(both, here, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(alone, here, atol=1e-2)


@torch.no_grad()
def test_expert_may_have_any_width_and_reads_a_cut_model_in_half_precision(tmp_path):
    backbone = build("smolvlm", tmp_path, layers=2, precision="bfloat16")
    sizes = {"width": backbone.width, "horizon": HORIZON, "action_dim": DIM}
    decoder = FlowExpert(FlowExpert.Config(width=10), **sizes, layers=backbone.layer_shape)
    assert len(decoder.expert.layers) == 2
    assert decoder.sample(backbone.encode(batch_of("open it")), generator=seeded()).actions.isfinite().all()


def test_expert_leaves_the_trunk_alone():
    around, decoder = make("flow_expert")
    context = around.context(torch.zeros(2, TOKENS, 5))
    for module in around.modules():
        module.register_forward_pre_hook(lambda *_: pytest.fail("the context was computed again"))
    assert decoder.sample(context, generator=seeded()).evaluations.tolist() == [10, 10]


def make_golden() -> None:
    """Chunks by the schedulers of diffusers 0.42.1, which is not among volar's dependencies."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    kinds = {"actions": "sample", "noise": "epsilon"}
    facts = {"num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2"}
    cases = []
    for (predicts, kind), clip, (spread, steps) in itertools.product(
        kinds.items(), (True, False), ((0.0, 10), (0.5, 20), (1.0, 100))
    ):
        facts |= {"prediction_type": kind, "clip_sample": clip, "timestep_spacing": "trailing"}
        ddpm = spread == 1.0
        scheduler = DDPMScheduler(**facts) if ddpm else DDIMScheduler(**facts)
        scheduler.set_timesteps(steps)
        generator, more = seeded(3), {} if ddpm else {"eta": spread, "use_clipped_model_output": True}
        chunks = torch.randn(2, HORIZON, DIM, generator=generator)
        for step in scheduler.timesteps:
            predicted = somewhat(chunks, (step + 1).expand(2) / 100)
            chunks = scheduler.step(predicted, step, chunks, generator=generator, **more).prev_sample
        options = {"predicts": predicts, "clip": clip, "spread": spread, "steps": steps}
        name = f"{'ddpm' if ddpm else 'ddim'}-{predicts}-{'clipped' if clip else 'free'}-{spread}"
        cases.append({"name": name, "options": options, "chunks": chunks.tolist()})
    cases[0]["signal"] = scheduler.alphas_cumprod.tolist()
    GOLDEN.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    make_golden()
