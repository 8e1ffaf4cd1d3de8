"""What every backbone in the table owes; each test runs on all of them, `hf` as a one-sided and a two-sided model.

`compact` needs its weights and is skipped without them.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_vlms
import torch
from safetensors.torch import load, save

from volar.backbones import TABLE
from volar.backbones.compact import Compact
from volar.backbones.hf import HuggingFace
from volar.backbones.state import State
from volar.backbones.tiny import Tiny
from volar.backbones.weights import status
from volar.core.errors import ConfigError
from volar.core.model import Backbone, Batch, FrozenVision
from volar.core.robot import Camera
from volar.nn.transformer import causal_mask, full_mask

CAMERAS = (Camera(name="front", height=32, width=48), Camera(name="observation.images.wrist", height=40, width=40))
PROPRIOCEPTION = 3
MODELS: dict[str, Path] = {}


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("smolvlm", "florence2"):
        MODELS[name] = tiny_vlms.save(name, tmp_path_factory.mktemp(name))


def compact(assets: dict[str, bytes] | None) -> Backbone:
    config = Compact.Config(width=32, depth=2, heads=2, language_layers=2, patches=9)
    return Compact(config, cameras=CAMERAS, proprioception=PROPRIOCEPTION, assets=assets)


def tiny(assets: dict[str, bytes] | None) -> Backbone:
    return Tiny(Tiny.Config(width=32), cameras=CAMERAS, proprioception=PROPRIOCEPTION, assets=assets)


def state(assets: dict[str, bytes] | None) -> Backbone:
    """Blind: the pictures of the batches here are nothing to it."""
    return State(State.Config(width=32), cameras=(), proprioception=PROPRIOCEPTION, assets=assets)


def hf(model: str, train: str) -> Callable[[dict[str, bytes] | None], Backbone]:
    def make(assets: dict[str, bytes] | None) -> Backbone:
        name = str(MODELS[model]) if assets is None else "the folder is gone"
        config = HuggingFace.Config(model=name, train=train, image_size=tiny_vlms.SIDES.get(model), lora_rank=2)
        return HuggingFace(config, cameras=CAMERAS, proprioception=PROPRIOCEPTION, assets=assets)

    return make


CASES: dict[str, Callable[[dict[str, bytes] | None], Backbone]] = {
    "compact": compact,
    "state": state,
    "tiny": tiny,
    "hf frozen": hf("smolvlm", "frozen"),
    "hf lora": hf("smolvlm", "lora"),
    "hf full": hf("smolvlm", "full"),
    "hf two-sided": hf("florence2", "full"),
}
FROZEN = ["compact"]
BLIND = ["state"]


def test_every_backbone_of_the_table_is_tested() -> None:
    assert {name.split()[0] for name in CASES} == set(TABLE)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    if request.param == "compact" and any(each.problem for each in status()):
        pytest.skip("compact's weights are not installed; run `volar weights install`")
    return request.param


@pytest.fixture
def backbone(case: str) -> Backbone:
    torch.manual_seed(0)
    return CASES[case](None).eval()


def make_batch(seed: int = 0, instructions: tuple[str, ...] = ("open the drawer", "push", "close it now")) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    size = len(instructions)
    images = {
        camera.name: torch.randint(
            0, 256, (size, camera.height, camera.width, 3), dtype=torch.uint8, generator=generator
        )
        for camera in CAMERAS
    }
    proprioception = torch.randn(size, PROPRIOCEPTION, generator=generator)
    return Batch(images=images, instructions=instructions, proprioception=proprioception)


def queries(backbone: Backbone, batch: int = 3, size: int = 5) -> torch.Tensor:
    return torch.randn(1, size, backbone.width, generator=torch.Generator().manual_seed(7)).expand(batch, -1, -1)


def answer(backbone: Backbone, batch: Batch) -> torch.Tensor:
    new = queries(backbone, len(batch.instructions))
    with torch.no_grad():
        return backbone.encode(batch).extend(new, full_mask(new.shape[1])).hidden


def test_context_has_the_promised_shapes(backbone: Backbone) -> None:
    batch = make_batch()
    context = backbone.encode(batch)
    rows, length, width = context.tokens.shape
    assert (rows, width) == (3, backbone.width) and context.width == width
    assert context.mask.shape == (rows, length) and context.mask.dtype == torch.bool
    assert torch.isfinite(context.tokens[context.mask]).all()
    assert answer(backbone, batch).shape == (3, 5, width)
    assert context.layers
    for keys, values in context.layers:
        assert keys.shape == values.shape and keys.ndim == 4
        assert keys.shape[0] == rows and keys.shape[2] == length
    lengths = context.mask.sum(dim=1)
    assert lengths[1] < lengths[0] and lengths[1] < lengths[2], "the shortest instruction is padded"


def test_gradient_reaches_what_is_trained_and_nothing_else(backbone: Backbone) -> None:
    backbone.train()
    context = backbone.encode(make_batch())
    hidden = context.extend(queries(backbone), full_mask(5)).hidden
    (hidden.square().sum() + context.tokens[context.mask].square().sum()).backward()
    named = dict(backbone.named_parameters())
    silent = {name for name, value in named.items() if value.requires_grad and value.grad is None}
    assert any(value.requires_grad for value in named.values()) and not silent
    assert not [name for name, value in named.items() if not value.requires_grad and value.grad is not None]


@pytest.mark.parametrize("part", ["instruction", "front", "observation.images.wrist", "proprioception"])
def test_every_input_matters(case: str, backbone: Backbone, part: str) -> None:
    if case in BLIND and part in {camera.name for camera in CAMERAS}:
        pytest.skip("it has no eyes")
    batch = make_batch()
    if part == "instruction":
        other = replace(batch, instructions=("close the drawer", "push", "close it now"))
    elif part == "proprioception":
        other = replace(batch, proprioception=batch.proprioception + torch.tensor([[1.0], [0.0], [0.0]]))
    else:
        image = batch.images[part].clone()
        image[0, 10:30, 10:30] = 255 - image[0, 10:30, 10:30]
        other = replace(batch, images={**batch.images, part: image})
    change = (answer(backbone, batch) - answer(backbone, other)).abs().amax(dim=(1, 2))
    assert change[0] > 1e-4
    assert change[1:].max() < 1e-5, "only row 0 was changed"


def test_padding_changes_nothing(backbone: Backbone) -> None:
    together = make_batch()
    alone = Batch(
        images={name: image[1:2] for name, image in together.images.items()},
        instructions=together.instructions[1:2],
        proprioception=together.proprioception[1:2],
    )
    torch.testing.assert_close(answer(backbone, together)[1:2], answer(backbone, alone), atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        padded, bare = backbone.encode(together), backbone.encode(alone)
    torch.testing.assert_close(padded.tokens[1][padded.mask[1]], bare.tokens[0][bare.mask[0]], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_a_causal_continuation_does_not_know_what_comes_later(backbone: Backbone) -> None:
    context, new = backbone.encode(make_batch()), queries(backbone)
    longer, shorter = context.extend(new, causal_mask(5)).hidden, context.extend(new[:, :4], causal_mask(4)).hidden
    torch.testing.assert_close(longer[:, :4], shorter, atol=2e-5, rtol=1e-4)
    free = context.extend(new, full_mask(5)).hidden
    assert (free[:, 0] - longer[:, 0]).abs().max() > 1e-4, "with full sight the first token sees the last"


@torch.no_grad()
def test_a_context_can_be_continued_again_and_again(backbone: Backbone) -> None:
    context, new = backbone.encode(make_batch()), queries(backbone)
    first = context.extend(new, causal_mask(5)).hidden
    context.extend(new + 1, full_mask(5))
    assert torch.equal(context.extend(new, causal_mask(5)).hidden, first)
    assert torch.equal(backbone.encode(make_batch()).extend(new, causal_mask(5)).hidden, first)


@torch.no_grad()
def test_what_was_extended_is_part_of_the_context(backbone: Backbone) -> None:
    """Token by token over the grown context, as a key-value cache does, is one causal pass."""
    start, new = backbone.encode(make_batch()), queries(backbone)
    whole = start.extend(new, causal_mask(5))
    said, context = [], start
    for some in new.split([1, 2, 1, 1], dim=1):
        longer = context.extend(some, causal_mask(some.shape[1]))
        said.append(longer.hidden)
        context = longer.context
    torch.testing.assert_close(torch.cat(said, dim=1), whole.hidden, atol=2e-5, rtol=1e-4)
    assert context.mask.shape == context.tokens.shape[:2] == whole.context.mask.shape
    assert context.mask.sum() == start.mask.sum() + new.shape[0] * 5


def test_sees_of_the_wrong_size_is_refused(backbone: Backbone) -> None:
    with pytest.raises((ValueError, TypeError)):
        backbone.encode(make_batch()).extend(queries(backbone), full_mask(4))


def test_acting_then_training_on_the_same_instruction(backbone: Backbone) -> None:
    """What inference mode left in a cache must not stop a later backward."""
    with torch.inference_mode():
        backbone.encode(make_batch())
    backbone.train()
    backbone.encode(make_batch()).extend(queries(backbone), full_mask(5)).hidden.sum().backward()


def test_rebuilt_from_its_state_and_assets_alone(
    case: str, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLAR_WEIGHTS", "/nowhere")
    stored, assets = save(backbone.state_dict()), backbone.assets()
    assert all("/" not in name and isinstance(content, bytes) for name, content in assets.items())
    torch.manual_seed(99)
    again = CASES[case](assets).eval()
    again.load_state_dict(load(stored))
    assert torch.equal(answer(again, make_batch()), answer(backbone, make_batch()))
    trained = [name for name, value in backbone.named_parameters() if value.requires_grad]
    assert trained == [name for name, value in again.named_parameters() if value.requires_grad]


def test_a_missing_camera_is_named(case: str, backbone: Backbone) -> None:
    if case in BLIND:
        pytest.skip("it has no eyes")
    batch = make_batch()
    with pytest.raises(ConfigError, match=r"'observation\.images\.wrist'"):
        backbone.encode(replace(batch, images={"front": batch.images["front"]}))


def test_card_claims_joint_pretraining_only_where_there_was_some(case: str, backbone: Backbone) -> None:
    card = backbone.card()
    assert card.kind == ("VLA" if case.startswith("hf") else "multimodal policy")
    assert bool(card.pretrained_parts) == (case not in ("state", "tiny"))


def test_only_compact_has_a_frozen_first_part(case: str, backbone: Backbone) -> None:
    assert isinstance(backbone, FrozenVision) == (case in FROZEN)


@pytest.mark.parametrize("case", FROZEN, indirect=True)
class TestFrozenVision:
    @pytest.fixture
    def frozen(self, backbone: Backbone) -> FrozenVision:
        assert isinstance(backbone, FrozenVision)
        return backbone

    def test_stored_features_stand_for_the_pictures(self, frozen: FrozenVision) -> None:
        batch = make_batch()
        stored = {name: frozen.features(image) for name, image in batch.images.items()}
        assert not any(value.requires_grad for value in stored.values())
        assert torch.equal(answer(frozen, replace(batch, images={}, features=stored)), answer(frozen, batch))

    def test_the_key_follows_the_frozen_weights_and_nothing_else(self, frozen: FrozenVision) -> None:
        key, batch = frozen.features_key(), make_batch()
        before = frozen.features(batch.images["front"])
        with torch.no_grad():
            for value in frozen.parameters():
                if value.requires_grad:
                    value.add_(1)
        assert frozen.features_key() == key
        assert torch.equal(frozen.features(batch.images["front"]), before)
        changed = dict(frozen.state_dict())
        name = next(name for name in changed if name.startswith("vision") and name.endswith("blocks.0.query.weight"))
        changed[name] = changed[name] + 1e-3
        frozen.load_state_dict(changed)
        assert frozen.features_key() != key

    def test_features_of_another_picture_size_are_refused(self, frozen: FrozenVision) -> None:
        batch = make_batch()
        stored = {name: frozen.features(image)[:, :-1] for name, image in batch.images.items()}
        with pytest.raises(ConfigError, match="feature cache"):
            frozen.encode(replace(batch, images={}, features=stored))


@pytest.mark.parametrize("size", [(5, 7), (32, 32), (101, 64)])
def test_tiny_takes_any_picture_size(size: tuple[int, int]) -> None:
    camera = Camera(name="any", height=size[0], width=size[1])
    backbone = Tiny(Tiny.Config(), cameras=(camera,), proprioception=2)
    images = {"any": torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)}
    context = backbone.encode(Batch(images=images, instructions=("go", "stop it"), proprioception=torch.zeros(2, 2)))
    assert context.tokens.shape == (2, 16 + 1 + 2, 64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Compact.Config(width=190), "multiple of 4"),
        (lambda: Compact.Config(depth=0), "at least 1"),
        (lambda: Tiny.Config(side=30), "multiple of patch=8"),
        (lambda: HuggingFace.Config(layers=0), "at least 1"),
        (lambda: HuggingFace.Config(prompt="{instruction}"), "exactly once"),
    ],
)
def test_impossible_choices_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
