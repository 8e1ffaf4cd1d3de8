"""Hugging Face models of every supported family, tiny and random but of the true classes: our reading of pictures and
prompts, and our continuation, against the model's own joint forward."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_vlms
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file, save_file

from volar.backbones.families import FAMILIES, Prompt
from volar.backbones.hf import HuggingFace
from volar.core.errors import ConfigError
from volar.core.model import Batch
from volar.core.robot import Camera
from volar.nn.transformer import causal_mask

CAMERAS = (Camera(name="a", height=20, width=24), Camera(name="b", height=16, width=16))
ONE_SIDED = [name for name in tiny_vlms.BUILDERS if name != "florence2"]
INSTRUCTIONS = ("open it", "close the door")

Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tiny_vlms.save(name, tmp_path_factory.mktemp(name, numbered=False))
        return made[name]

    return folder


def build(folder: Path, *, proprioception: int = 0, cameras: tuple[Camera, ...] = CAMERAS, **options) -> HuggingFace:
    torch.manual_seed(0)
    config = HuggingFace.Config(model=str(folder), **{"image_size": tiny_vlms.SIDES.get(folder.name), **options})
    return HuggingFace(config, cameras=cameras, proprioception=proprioception).eval()


def make_batch(instructions: tuple[str, ...] = INSTRUCTIONS, proprioception: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(3)
    size = len(instructions)
    images = {
        each.name: torch.randint(0, 256, (size, each.height, each.width, 3), dtype=torch.uint8, generator=generator)
        for each in CAMERAS
    }
    return Batch(images=images, instructions=instructions, proprioception=torch.randn(size, proprioception))


def test_every_family_has_a_tiny_model() -> None:
    assert set(tiny_vlms.BUILDERS) | {"qwen2_vl"} == set(FAMILIES), "qwen2_vl shares all of qwen2_5_vl's description"


@torch.no_grad()
@pytest.mark.parametrize("name", ONE_SIDED)
def test_extend_equals_the_models_own_joint_forward(folders: Folders, name: str) -> None:
    """Word by word: the words that follow the prompt, read by us in a second step, by the model in one."""
    backbone = build(folders(name))
    batch = make_batch()
    words = torch.randint(len(tiny_vlms.SPECIAL), tiny_vlms.VOCABULARY, (1, 6))
    context = backbone.encode(batch)
    assert context.embed is not None
    for row, instruction in enumerate(INSTRUCTIONS):
        new = context.embed(words).expand(2, -1, -1)
        ours = context.extend(new, causal_mask(6)).hidden[row]

        prompt = backbone._prompt((instruction,))
        length = prompt.ids.shape[1]
        ids = torch.cat([prompt.ids, words], dim=1)
        joint = Prompt(ids=ids, mask=torch.ones_like(ids) > 0, is_image=ids == backbone.vlm.config.image_token_id)
        one = Batch(
            images={key: image[row : row + 1] for key, image in batch.images.items()},
            instructions=(instruction,),
            proprioception=batch.proprioception[row : row + 1],
        )
        arguments = backbone.family.arguments(backbone.vlm.config, backbone._pictures(one), joint)
        if "token_type_ids" in arguments:
            arguments["token_type_ids"][:, length:] = 1  # PaliGemma: the suffix is causal
        theirs = backbone.vlm(input_ids=ids, attention_mask=joint.mask.long(), **arguments).last_hidden_state[0]
        torch.testing.assert_close(ours, theirs[length:], atol=2e-4, rtol=1e-3)
        read = context.tokens[row][context.mask[row]]
        torch.testing.assert_close(read, theirs[:length], atol=2e-4, rtol=1e-3)


@torch.no_grad()
def test_extend_equals_florences_own_forward(folders: Folders) -> None:
    backbone = build(folders("florence2"))
    words = torch.randint(len(tiny_vlms.SPECIAL), tiny_vlms.VOCABULARY, (2, 6))
    batch = make_batch()
    context = backbone.encode(batch)
    assert context.embed is not None
    prompt = backbone._prompt(INSTRUCTIONS)
    theirs = backbone.vlm(
        input_ids=prompt.ids, attention_mask=prompt.mask.long(), decoder_input_ids=words,
        pixel_values=backbone._pictures(batch).flatten(0, 1),
    )  # fmt: skip
    ours = context.extend(context.embed(words), causal_mask(6)).hidden
    torch.testing.assert_close(ours, theirs.last_hidden_state, atol=1e-4, rtol=1e-3)
    real = context.mask
    torch.testing.assert_close(context.tokens[real], theirs.encoder_last_hidden_state[real], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", tiny_vlms.BUILDERS)
@pytest.mark.parametrize("train", ["frozen", "lora", "full"])
def test_what_is_trained(folders: Folders, name: str, train: str) -> None:
    backbone = build(folders(name), proprioception=2, train=train, lora_rank=2).train()
    context = backbone.encode(make_batch(proprioception=2))
    hidden = context.extend(torch.randn(2, 3, backbone.width), causal_mask(3)).hidden
    (hidden.square().sum() + context.tokens[context.mask].square().sum()).backward()
    learning = {key for key, value in backbone.named_parameters() if value.grad is not None}
    allowed = {key for key, value in backbone.named_parameters() if value.requires_grad}
    assert learning <= allowed
    assert {key for key in learning if key.startswith("body.")} == {
        f"body.{i}.{k}" for i in "02" for k in ("weight", "bias")
    }
    inside = {key for key in allowed if key.startswith("vlm.")}
    if train == "frozen":
        assert not inside and not backbone.vlm.training
    elif train == "lora":
        assert inside and all("lora_" in key and f".{backbone.family.language}." in f".{key}" for key in inside)
        assert inside <= learning
    else:
        assert any("vision" in key or "visual" in key for key in learning)
        assert len(inside & learning) > 0.7 * len(list(backbone.vlm.parameters()))


def test_layers_keep_the_first_ones(folders: Folders) -> None:
    whole, cut = build(folders("smolvlm")), build(folders("smolvlm"), layers=2)
    with torch.no_grad():
        kept, all_layers = cut.encode(make_batch()).layers, whole.encode(make_batch()).layers
    assert kept is not None and all_layers is not None and (len(kept), len(all_layers)) == (2, 3)
    torch.testing.assert_close(kept[1], all_layers[1])


def test_weights_come_from_the_folder_and_tied_ones_are_saved_once(folders: Folders, tmp_path: Path) -> None:
    backbone = build(folders("florence2"))
    stored = load_file(folders("florence2") / "model.safetensors")
    ours = backbone.state_dict()
    torch.testing.assert_close(
        ours["vlm.language_model.encoder.layers.0.fc1.weight"],
        stored["model.language_model.encoder.layers.0.fc1.weight"],
    )
    save_file(ours, tmp_path / "m.safetensors")  # refuses two names for one memory
    backbone.load_state_dict(load_file(tmp_path / "m.safetensors"))


def test_precision_is_the_models_alone(folders: Folders) -> None:
    backbone = build(folders("smolvlm"), proprioception=2, precision="bfloat16", train="lora")
    context = backbone.encode(make_batch(proprioception=2))
    assert next(backbone.vlm.parameters()).dtype == torch.bfloat16
    hidden = context.extend(torch.randn(2, 3, 32), causal_mask(3)).hidden
    assert context.tokens.dtype == hidden.dtype == torch.float32
    hidden.sum().backward()


@torch.no_grad()
@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
def test_qwen_patches_are_those_of_its_own_processor(folders: Folders, name: str) -> None:
    backbone = build(folders(name))
    vision, family = backbone.vlm.config.vision_config, backbone.family
    processor = hf.models.qwen2_vl.image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size, merge_size=2, temporal_patch_size=2, do_resize=False,
        image_mean=family.mean, image_std=family.std,
    )  # fmt: skip
    pixels = torch.randint(0, 256, (1, backbone.side, backbone.side, 3), dtype=torch.uint8)
    expected = processor(Image.fromarray(pixels[0].numpy()), return_tensors="pt")
    batch = Batch(images={"a": pixels, "b": pixels}, instructions=("go",), proprioception=torch.zeros(1, 0))
    ours = family.arguments(backbone.vlm.config, backbone._pictures(batch), backbone._prompt(("go",)))
    torch.testing.assert_close(ours["pixel_values"], expected["pixel_values"].repeat(2, 1), atol=1e-5, rtol=1e-5)
    assert ours["image_grid_thw"].tolist() == expected["image_grid_thw"].tolist() * 2


def test_prompt_is_built_as_declared(folders: Folders) -> None:
    backbone = build(folders("smolvlm"))
    prompt = backbone._prompt(("go {bos} now",))
    text = backbone.tokenizer.decode(prompt.ids[0].tolist(), skip_special_tokens=False)
    picture = "<fake_token_around_image><global-img><image><image><image><image><fake_token_around_image>"
    assert text == f"<s>User:{picture}{picture}go {{bos}} now<end_of_utterance>\nAssistant:"
    with pytest.raises(ConfigError, match="image token"):
        backbone._prompt(("look at <image>",))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("smolvlm", {"image_size": 20}, "multiple of 8 .*try 16"),
        ("paligemma", {"image_size": 32}, "16 pixels only"),
        ("smolvlm", {"layers": 9}, "has 3 language layers"),
        ("florence2", {"layers": 1}, "cannot be cut"),
        ("florence2", {"image_size": 1024}, "become 2050 tokens; this model reads 512"),
        ("smolvlm", {"cameras": ()}, "at least one camera"),
    ],
)
def test_choices_that_do_not_fit_the_model_are_refused(
    folders: Folders, name: str, options: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(folders(name), **options)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ConfigError, match="the hub, and no such folder"):
        build(tmp_path / "nothing")


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    hf.LlamaConfig(hidden_size=32, num_hidden_layers=1).save_pretrained(tmp_path)
    tiny_vlms.write_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="vision-language models named 'llama'"):
        build(tmp_path)


def test_incomplete_weights_are_refused(folders: Folders, tmp_path: Path) -> None:
    for path in folders("smolvlm").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    stored = load_file(tmp_path / "model.safetensors")
    stored.pop("model.text_model.layers.1.mlp.up_proj.weight")
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 of the model's weights.*up_proj"):
        build(tmp_path)


def test_pickled_weights_are_never_read(folders: Folders, tmp_path: Path) -> None:
    for path in folders("smolvlm").iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(load_file(folders("smolvlm") / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="Cannot load the weights"):
        build(tmp_path)
