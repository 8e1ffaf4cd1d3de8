"""Our ViT and Llama against other people's: transformers on tiny random weights, and the true runtimes (ONNX Runtime,
llama.cpp) on the true weights where those are installed."""

from pathlib import Path

import pytest
import torch
import transformers as hf

from volar.backbones.towers import REFERENCE, LanguageTower, VisionTower
from volar.backbones.weights import LANGUAGE, VISION, Part, fetch_source, load_file, load_tensors, status
from volar.core.errors import ConfigError
from volar.nn.llama import Llama, LlamaShape
from volar.nn.vit import VisionTransformer

SMALL = LlamaShape(layers=3, width=32, hidden=48, heads=4, key_heads=2, vocabulary=50)
LLAMA_NAMES = {
    "input_layernorm": "norm_attention", "post_attention_layernorm": "norm_mlp", "self_attn.q_proj": "query",
    "self_attn.k_proj": "key", "self_attn.v_proj": "value", "self_attn.o_proj": "out", "mlp.gate_proj": "gate",
    "mlp.up_proj": "up", "mlp.down_proj": "down", "model.embed_tokens": "embedding", "model.norm": "norm",
    "model.layers": "layers",
}  # fmt: skip
DINO_NAMES = {
    "embeddings.cls_token": "class_token", "embeddings.position_embeddings": "position",
    "embeddings.patch_embeddings.projection": "patches", "encoder.layer": "blocks", "norm1": "norm_attention",
    "attention.q_proj": "query", "attention.k_proj": "key", "attention.v_proj": "value", "attention.o_proj": "out",
    "layer_scale1.lambda1": "scale_attention", "norm2": "norm_mlp", "mlp.fc1": "mlp_in", "mlp.fc2": "mlp_out",
    "layer_scale2.lambda1": "scale_mlp",
}  # fmt: skip


def renamed(state: dict[str, torch.Tensor], names: dict[str, str], known: set[str]) -> dict[str, torch.Tensor]:
    """Translate their names; tensors of theirs that we have no place for are left out."""
    ours = {}
    for name, value in state.items():
        for theirs, mine in names.items():
            name = name.replace(theirs, mine)
        ours[name] = value
    return {name: value for name, value in ours.items() if name in known}


def installed(part: Part) -> bool:
    return all(each.problem is None for each in status() if each.part == part)


def transformers_llama(shape: LlamaShape) -> hf.LlamaForCausalLM:
    config = hf.LlamaConfig(
        hidden_size=shape.width, intermediate_size=shape.hidden, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.key_heads, vocab_size=shape.vocabulary,
        rms_norm_eps=shape.epsilon, max_position_embeddings=8192, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rotary_base},
    )  # fmt: skip
    return hf.LlamaForCausalLM(config).eval()


def small_pair() -> tuple[Llama, hf.LlamaForCausalLM]:
    torch.manual_seed(0)
    theirs, ours = transformers_llama(SMALL), Llama(SMALL).eval()
    with torch.no_grad():
        for value in theirs.parameters():
            value.add_(0.3 * torch.randn_like(value))  # also moves the norms away from 1
    ours.load_state_dict(renamed(theirs.state_dict(), LLAMA_NAMES, set(ours.state_dict())))
    return ours, theirs


@torch.no_grad()
def test_llama_gives_the_logits_of_transformers() -> None:
    ours, theirs = small_pair()
    ids = torch.randint(0, SMALL.vocabulary, (2, 11))
    mine = ours.logits(ours(ours.embedding(ids)).hidden)
    torch.testing.assert_close(mine, theirs(ids).logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_llama_ignores_padding_on_either_side(side: str) -> None:
    ours, _ = small_pair()
    ids = torch.randint(0, SMALL.vocabulary, (2, 9))
    mask = torch.ones(2, 9, dtype=torch.bool)
    real = slice(4, None) if side == "left" else slice(None, 5)
    mask[1] = False
    mask[1, real] = True
    both = ours(ours.embedding(ids), mask=mask).hidden
    alone = ours(ours.embedding(ids[1:, real])).hidden
    torch.testing.assert_close(both[1:, real], alone, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(both).all()


@torch.no_grad()
def test_llama_continued_from_its_cache_equals_one_pass() -> None:
    ours, _ = small_pair()
    ids = torch.randint(0, SMALL.vocabulary, (2, 10))
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[1, 3:6] = False  # padding between a short prompt and what follows it
    whole = ours(ours.embedding(ids), mask=mask)
    first = ours(ours.embedding(ids[:, :6]), mask=mask[:, :6])
    then = ours(ours.embedding(ids[:, 6:]), mask=mask, past=first.layers)
    torch.testing.assert_close(then.hidden, whole.hidden[:, 6:], atol=1e-5, rtol=1e-5)
    assert first.layers[0][0].shape == (2, 2, 6, 8)
    assert then.layers[0][0].shape == (2, 2, 10, 8)


@torch.no_grad()
@pytest.mark.parametrize("sides", [(56, 56), (28, 42)], ids=["own grid", "other grid"])
def test_vit_gives_the_states_of_transformers(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    config = hf.Dinov2Config(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, image_size=56, patch_size=14)
    theirs = hf.Dinov2Model(config).eval()
    for value in theirs.parameters():
        value.add_(0.2 * torch.randn_like(value))
    ours = VisionTransformer(depth=2, width=24, heads=3, grid=4).eval()
    ours.load_state_dict(renamed(theirs.state_dict(), DINO_NAMES, set(ours.state_dict())))
    pixels = torch.randn(2, 3, *sides)
    expected = theirs(pixels, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(ours(pixels), expected, atol=1e-4, rtol=1e-4)


def test_vit_refuses_sides_that_are_no_multiple_of_the_patch() -> None:
    with pytest.raises(ValueError, match="multiples of 14"):
        VisionTransformer(depth=1, width=24, heads=3)(torch.zeros(1, 3, 28, 30))


@pytest.mark.parametrize(
    ("height", "width", "patches", "expected"),
    [(112, 112, 64, (8, 8)), (96, 96, 64, (7, 7)), (480, 640, 64, (7, 9)), (10, 10, 64, (1, 1)), (14, 2000, 8, (1, 8))],
)
def test_picture_sides_become_whole_patches(height: int, width: int, patches: int, expected: tuple[int, int]) -> None:
    grid = VisionTower(patches=patches, pretrained=False).grid(height, width)
    assert (grid.rows, grid.columns) == expected


def test_layers_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 to 30, got 31"):
        LanguageTower(layers=31, tokenizer=b"")


@pytest.mark.hub
@pytest.mark.skipif(not installed(LANGUAGE), reason="weights are not installed; run `volar weights install`")
class TestLanguageWeights:
    def test_sentences_are_told_apart_and_remembered(self) -> None:
        tower = LanguageTower(layers=8)
        text = tower(("open the faucet", "close the faucet", "open the faucet", ""))
        assert text.row.tolist() == [0, 1, 0, 2]
        assert text.mask.sum(dim=1).tolist() == [3, 3, 0]
        pooled = text.pooled()
        assert torch.cosine_similarity(pooled[0], pooled[1], dim=0) < 0.8
        assert pooled[2].abs().max() == 0
        assert list(tower._known) == ["open the faucet", "close the faucet", ""]

    def test_reference_sentences_are_standard_per_channel(self) -> None:
        tower = LanguageTower(layers=4)
        text = tower(REFERENCE)
        states = text.states[text.mask]
        assert states.mean(dim=0).abs().max() < 1e-3
        torch.testing.assert_close(states.std(dim=0), torch.ones(tower.width), atol=1e-3, rtol=0)

    def test_memory_of_sentences_is_bounded_and_forgotten_with_the_weights(self) -> None:
        tower = LanguageTower(layers=1)
        tower.remember = 2
        tower(("a", "b", "c"))
        assert list(tower._known) == ["b", "c"]
        tower.load_state_dict(tower.state_dict())
        assert not tower._known

    @torch.no_grad()
    def test_all_layers_give_the_logits_of_transformers(self) -> None:
        ours, theirs = Llama(LlamaShape()).eval(), transformers_llama(LlamaShape())
        ours.load_state_dict(load_tensors(LANGUAGE))
        back = {name: value for name, value in theirs.state_dict().items() if name != "lm_head.weight"}
        theirs.load_state_dict(_theirs(ours, back), strict=False)
        theirs.tie_weights()
        ids = torch.randint(0, 49152, (1, 24), generator=torch.Generator().manual_seed(0))
        mine = ours.logits(ours(ours.embedding(ids)).hidden)
        torch.testing.assert_close(mine, theirs(ids).logits, atol=2e-3, rtol=1e-3)

    @torch.no_grad()
    def test_next_tokens_are_those_of_llama_cpp(self, tmp_path: Path) -> None:
        """llama.cpp rounds activations to 8 bits, so its log-probabilities differ in the second decimal."""
        xllamacpp = pytest.importorskip("xllamacpp", reason="pip install xllamacpp to compare with llama.cpp")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(source(LANGUAGE, tmp_path))
        parameters.n_ctx, parameters.n_parallel, parameters.warmup, parameters.verbosity = 256, 1, False, -1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1  # spinning threads disturb each other
        server = xllamacpp.Server(parameters)
        tower = LanguageTower(layers=30)
        for prompt in ("The capital of France is", "def add(a, b):\n    return", "The sun rises in the"):
            ids = tower.tokenizer.encode(prompt).ids
            request = {"prompt": ids, "n_predict": 1, "n_probs": 3, "temperature": 0}
            top = server.handle_completions(request)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            states = tower.model(tower.model.embedding(torch.tensor([ids]))).hidden
            log_probs = tower.model.logits(states)[0, -1].log_softmax(dim=-1)
            assert log_probs.argmax().item() == top[0]["id"], prompt
            for each in top:
                assert log_probs[each["id"]].item() == pytest.approx(each["logprob"], abs=0.5)

    def test_tokenizer_is_that_of_the_gguf_file(self) -> None:
        tokenizer = LanguageTower(layers=1).tokenizer
        assert tokenizer.get_vocab_size() == 49152
        assert tokenizer.encode("turn left 42").tokens == ["turn", "Ġleft", "Ġ", "4", "2"]
        odd = "<|im_start|>naïve  \n\tΩ 🙂 don't"
        assert tokenizer.decode(tokenizer.encode(odd).ids, skip_special_tokens=False) == odd
        assert tokenizer.encode("<|im_start|>").ids == [1]
        assert load_file(LANGUAGE, "tokenizer.json")[:1] == b"{"


def _theirs(ours: Llama, theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our weights under their names."""
    mine = ours.state_dict()
    names = {name: next(iter(renamed({name: value}, LLAMA_NAMES, set(mine)))) for name, value in theirs.items()}
    return {name: mine[our] for name, our in names.items()}


def source(part: Part, folder: Path) -> Path:
    try:
        return fetch_source(part, folder)
    except ConfigError as error:
        pytest.skip(f"the original file cannot be fetched: {error}")


@pytest.mark.hub
@pytest.mark.skipif(not installed(VISION), reason="weights are not installed; run `volar weights install`")
@torch.no_grad()
def test_vision_states_are_those_of_onnx_runtime(tmp_path: Path) -> None:
    """After block 9, which `compact` uses, and after block 12, on the 224-pixel picture the ONNX graph is fixed to."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime to compare with it")
    model = onnx.load(source(VISION, tmp_path))
    first = {node.name: node.input[0] for node in model.graph.node if node.input}
    wanted = {
        9: first["/backbone/encoder/layer.9/norm1/ReduceMean"],
        12: first["/backbone/layernorm/ReduceMean"],
    }
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted.values())
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = session.run(list(wanted.values()), {"input_image": pixels.numpy()})
    for depth, states in zip(wanted, expected, strict=True):
        ours = VisionTransformer(depth=depth)
        ours.load_state_dict(load_tensors(VISION, keep=ours.state_dict().__contains__))
        torch.testing.assert_close(ours(pixels), torch.from_numpy(states), atol=1e-3, rtol=1e-3)
