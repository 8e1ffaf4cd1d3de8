"""Embodied chain-of-thought: plain ECoT token for token, and what every setting changes."""

import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiny_vlms
import torch

from volar.backbones import TABLE as BACKBONES
from volar.cli.collect import Collect, collect
from volar.core.errors import ConfigError, EpisodeError
from volar.core.model import Backbone, Batch, Context, TokenDecoder
from volar.core.robot import Camera, Observation
from volar.core.thoughts import Mark, Recall, Thought
from volar.data.formats import open_dataset
from volar.data.thoughts import write_thoughts
from volar.decoders import TABLE as DECODERS
from volar.envs import make_env
from volar.nn.speech import POSITIONS
from volar.nn.transformer import causal_mask, sinusoid
from volar.policies.actor import PolicyActor, load_policy
from volar.policies.asynchronous import Asynchronous
from volar.policies.config import PolicyConfig
from volar.policies.vla import Policy
from volar.reasoning import ecot_variants
from volar.reasoning.ecot import ECoT
from volar.reasoning.lexicon import Lexicon
from volar.reasoning.segments import Mode, read_segments, read_shares
from volar.train.config import TrainConfig
from volar.train.loop import train

CAMERA = Camera(name="front", height=16, width=16)
NUMBERS = 4
COLOURS = ("red", "green", "blue", "orange", "red")


def label(colour: str, index: int) -> Thought:
    """Texts of other lengths in every row."""
    plan = " then ".join(["reach it", "lift it", "carry it"][: 1 + index % 3])
    move = ("stop", "move left", "move left up, close gripper")[index % 3]
    return Thought(words={"plan": plan, "subtask": f"reach the {colour} cube", "move": move})


LABELS = tuple(label(colour, index) for index, colour in enumerate(COLOURS))
ROWS = len(LABELS)


def make_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        images={CAMERA.name: torch.randint(0, 256, (ROWS, 16, 16, 3), generator=generator, dtype=torch.uint8)},
        instructions=tuple(f"take the {colour} one" for colour in COLOURS),
        proprioception=torch.randn(ROWS, NUMBERS, generator=generator),
        actions=torch.rand(ROWS, 3, 2, generator=generator) * 2 - 1,
        valid=torch.ones(ROWS, 3, dtype=torch.bool),
        thoughts=LABELS,
    )


def row_of(batch: Batch, index: int) -> Batch:
    return replace(
        batch, images={name: image[index : index + 1] for name, image in batch.images.items()},
        instructions=batch.instructions[index : index + 1], proprioception=batch.proprioception[index : index + 1],
        actions=None, valid=None, thoughts=batch.thoughts[index : index + 1],
    )  # fmt: skip


def make_backbone(name: str, **options: object) -> Backbone:
    torch.manual_seed(0)
    cls = BACKBONES.load(name)
    cameras = () if name == "state" else (CAMERA,)
    backbone = cls(cls.Config(**options), cameras=cameras, proprioception=NUMBERS).eval()
    if name != "hf":
        for value in backbone.parameters():
            value.data *= 3 if value.ndim > 1 else 1
    return backbone


def make_ecot(width: int, **options: object) -> ECoT:
    """Weights so large that an untrained one says something else in every row. It says whole words only, so that its
    text has one spelling, and ends at some time."""
    torch.manual_seed(1)
    reasoner = ECoT(ECoT.Config(**{"segments": "plan; subtask; move", **options}), width=width, cameras=())
    reasoner.fit(LABELS)
    reasoner.speaker.embedding.weight.data *= 100
    reasoner.speaker.out.weight.data *= 10
    pieces = reasoner.lexicon._coder.pieces
    words = [index for index, piece in enumerate(pieces) if len(piece) > 2 and piece[0] == ord(" ")]
    bias = torch.full((len(pieces) + 1,), -1e4)
    bias[words], bias[-1] = 0.0, 10.0
    reasoner.speaker.out.bias.data = bias
    return reasoner.eval()


@cache
def state() -> Backbone:
    return make_backbone("state", width=32)


NOTHING = [None] * ROWS


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def think(reasoner: ECoT, backbone: Backbone, batch: Batch, recalls=NOTHING, given=NOTHING):
    with torch.inference_mode():
        return reasoner.think(batch, backbone.encode, recalls=recalls, given=given)


def plain_ecot(reasoner: ECoT, context: Context, longest: int) -> dict[str, str]:
    """ECoT as published, written out: one row, no cache, everything read again for every word."""
    speaker, said, words = reasoner.speaker, [], {}
    for index, segment in enumerate(reasoner.segments):
        said.append(speaker.end + 1 + index)
        own: list[int] = []
        while len(own) <= longest:
            ids = torch.tensor([said])
            tokens = speaker.embedding(ids) + sinusoid(torch.arange(len(said)) / POSITIONS, speaker.width)
            token = int(speaker.out(context.extend(tokens, causal_mask(len(said))).hidden[0, -1]).argmax())
            if token == speaker.end or len(own) == reasoner._longest[index]:
                break
            own.append(token)
            said.append(token)
        words[segment.name] = reasoner.lexicon.text(own)
    return words


@pytest.mark.parametrize("name", ["state", "tiny", "smolvlm", "florence2"])
def test_plain_settings_are_plain_ecot_token_for_token(name, tmp_path):
    """Refresh 1, dropout 0, a loss on everything: batched, cached and padded says what one row alone would say."""
    if name in ("state", "tiny"):
        backbone = make_backbone(name)
    else:
        options = {"image_size": tiny_vlms.SIDES[name]} if name in tiny_vlms.SIDES else {}
        backbone = make_backbone("hf", model=str(tiny_vlms.save(name, tmp_path)), **options)
    reasoner, batch = make_ecot(backbone.width), make_batch()
    considered = think(reasoner, backbone, batch)
    with torch.inference_mode():
        wanted = [plain_ecot(reasoner, backbone.encode(row_of(batch, index)), 99) for index in range(ROWS)]
    assert [thought.words for thought in considered.thoughts] == wanted
    assert len({str(words) for words in wanted}) > 1
    assert len({thought.tokens for thought in considered.thoughts}) > 1, "the rows end at different lengths"
    assert considered.evaluations.tolist() == [thought.tokens for thought in considered.thoughts]


def learn(reasoner: ECoT, batch: Batch, seed: int = 0):
    return reasoner.learn(batch, state().encode, generator=seeded(seed))


def test_a_row_learns_alone():
    """Padding to the longest text of a batch changes nothing: neither the loss, nor what the decoder reads."""
    reasoner, batch = make_ecot(32), make_batch()
    together = learn(reasoner, batch)
    for index in range(ROWS):
        alone = learn(reasoner, row_of(batch, index))
        torch.testing.assert_close(alone.loss[0], together.loss[index])
        new = torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(index))
        hidden = together.context.extend(new.expand(ROWS, -1, -1), causal_mask(2)).hidden[index]
        torch.testing.assert_close(alone.context.extend(new, causal_mask(2)).hidden[0], hidden)


def test_what_is_learned_is_what_is_read_when_it_is_given():
    reasoner, batch = make_ecot(32), make_batch()
    followed = think(reasoner, state(), batch, given=LABELS)
    learned = learn(reasoner, batch).context
    torch.testing.assert_close(followed.context.tokens[learned.mask], learned.tokens[learned.mask])
    assert [thought.words for thought in followed.thoughts] == [thought.words for thought in LABELS]
    assert all(thought.tokens == 0 for thought in followed.thoughts)
    assert followed.evaluations.tolist() == [1] * ROWS, "everything that is given is read at once"


def test_a_word_is_predicted_from_those_before_it_only():
    """The loss of a segment does not change with those that come after it, and does with those before."""
    backbone, batch = state(), make_batch()
    first = make_ecot(32, segments="plan; subtask unlearned; move unlearned")
    later = replace(batch, thoughts=tuple(Thought(words={**each.words, "move": "move down"}) for each in LABELS))
    torch.testing.assert_close(learn(first, later).loss, learn(first, batch).loss)
    last = make_ecot(32, segments="plan unlearned; subtask unlearned; move")
    other = replace(batch, thoughts=tuple(Thought(words={**each.words, "plan": "lift it"}) for each in LABELS))
    assert not torch.allclose(learn(last, other).loss, learn(last, batch).loss)
    assert backbone.width == 32


class TestRunTime:
    def test_a_segment_is_kept_for_its_period(self):
        reasoner, batch = make_ecot(32, segments="plan refresh=3; subtask; move"), make_batch()
        looks = [think(reasoner, state(), batch).thoughts]
        for index in range(1, 4):
            moved = replace(batch, proprioception=batch.proprioception + index)
            recalls = [Recall(thought=thought, event=False) for thought in looks[-1]]
            looks.append(think(reasoner, state(), moved, recalls=recalls).thoughts)
        assert [look[0].ages["plan"] for look in looks] == [0, 1, 2, 0]
        assert all(look[0].ages["move"] == 0 for look in looks)
        for row in range(ROWS):
            assert looks[0][row].words["plan"] == looks[1][row].words["plan"] == looks[2][row].words["plan"]
        assert any(looks[3][row].words["plan"] != looks[2][row].words["plan"] for row in range(ROWS))

    @pytest.mark.parametrize(("settings", "age"), [("refresh=9", 1), ("refresh=9 event", 0)])
    def test_the_grippers_event_can_end_a_segment(self, settings, age):
        reasoner, batch = make_ecot(32, segments=f"plan {settings}; move"), make_batch()
        recalls = [Recall(thought=thought, event=True) for thought in think(reasoner, state(), batch).thoughts]
        assert think(reasoner, state(), batch, recalls=recalls).thoughts[0].ages["plan"] == age

    def test_who_is_given_one_segment_says_the_others(self):
        reasoner, batch = make_ecot(32), make_batch()
        given = [Thought(words={"subtask": "reach the green cube"}, ages={"subtask": 7}), *[None] * (ROWS - 1)]
        own, led = think(reasoner, state(), batch), think(reasoner, state(), batch, given=given)
        assert led.thoughts[0].words["subtask"] == "reach the green cube" and led.thoughts[0].ages["subtask"] == 7
        assert led.thoughts[0].words["plan"] == own.thoughts[0].words["plan"]
        assert led.thoughts[0].words.keys() == own.thoughts[0].words.keys()
        assert led.thoughts[1:] == own.thoughts[1:]

    def test_words_that_no_label_holds_can_be_given(self):
        reasoner, batch = make_ecot(32), make_batch()
        text = "Größe 12_3: nimm\tdas  Ei!"
        led = think(reasoner, state(), batch, given=[Thought(words={"move": text})] * ROWS)
        assert led.thoughts[0].words["move"] == text

    def test_in_mode_act_nothing_is_said_until_something_is_given(self):
        reasoner, batch = make_ecot(32, learn="act 0.5, think 0.5", mode="act"), make_batch()
        silent = think(reasoner, state(), batch, given=[LABELS[0], *[None] * (ROWS - 1)])
        assert silent.thoughts[0].words == LABELS[0].words
        assert all(thought == Thought() for thought in silent.thoughts[1:])
        assert silent.evaluations.tolist() == [1, 0, 0, 0, 0]
        bare = state().encode(row_of(batch, 1))
        new = torch.randn(1, 1, 32)
        torch.testing.assert_close(
            silent.context.extend(new.expand(ROWS, -1, -1), causal_mask(1)).hidden[1],
            bare.extend(new, causal_mask(1)).hidden[0],
        )

    def test_all_at_once_says_the_same_upon_the_same_old_text_in_fewer_evaluations(self):
        one, many = make_ecot(32), make_ecot(32, parallel=True)
        batch = make_batch()
        first = think(one, state(), batch)
        recalls = [Recall(thought=thought, event=False) for thought in first.thoughts]
        again = think(many, state(), batch, recalls=recalls)
        assert again.thoughts == first.thoughts
        assert (again.evaluations < first.evaluations).all()
        torch.testing.assert_close(again.context.tokens[:, 0], first.context.tokens[:, 0])
        assert think(many, state(), batch).thoughts == first.thoughts, "the first look has nothing old"
        some = think(many, state(), batch, recalls=[None, *recalls[1:]])
        assert some.thoughts == first.thoughts

    def test_all_at_once_reads_old_text_of_the_segments_before(self):
        reasoner, batch = make_ecot(32, parallel=True), make_batch()
        recalls = [Recall(thought=thought, event=False) for thought in think(reasoner, state(), batch).thoughts]
        changed = [
            replace(r, thought=replace(r.thought, words={**r.thought.words, "plan": "lift it"})) for r in recalls
        ]
        same, other = (think(reasoner, state(), batch, recalls=each).thoughts for each in (recalls, changed))
        assert [each.words["plan"] for each in same] == [each.words["plan"] for each in other]
        assert any(a.words["move"] != b.words["move"] for a, b in zip(same, other, strict=True))


class TestTraining:
    def test_an_unseen_segment_is_learned_and_said_but_changes_nothing(self):
        bare, batch = state().encode(make_batch()), make_batch()
        reasoner = make_ecot(32, segments="subtask unseen; move unseen")
        learned, considered = learn(reasoner, batch), think(reasoner, state(), batch)
        assert (learned.loss > 0).all() and considered.thoughts[0].tokens > 0
        for context in (learned.context, considered.context):
            torch.testing.assert_close(context.tokens, bare.tokens)

    def test_unseen_segments_come_last(self):
        assert [each.name for each in read_segments("plan unseen; move")] == ["move", "plan"]

    def test_dropout_leaves_a_segment_out_as_often_as_it_says(self):
        reasoner = make_ecot(32, segments="subtask dropout=0.25; move")
        generator = torch.Generator().manual_seed(0)
        kept = [
            sum(text is not None for text in texts)
            for _ in range(200)
            for texts in reasoner._labels(LABELS, [Mode.THINK] * ROWS, generator)[:1]
        ]
        assert abs(sum(kept) / (200 * ROWS) - 0.75) < 0.05

    def test_a_segment_that_is_always_dropped_is_as_if_it_were_not_there(self):
        with_it, without = make_ecot(32, segments="plan dropout=1; move"), make_ecot(32, segments="plan; move")
        bare = tuple(Thought(words={"move": each.words["move"]}) for each in LABELS)
        batch = make_batch()
        torch.testing.assert_close(learn(with_it, batch).loss, learn(without, replace(batch, thoughts=bare)).loss)

    def test_modes_are_drawn_by_their_shares_and_treated_as_they_say(self):
        reasoner = make_ecot(32, learn="act 0.25, think 0.5, follow 0.25", prefix=True)
        drawn = reasoner._draw_modes(4000, torch.Generator().manual_seed(0))
        for mode, share in ((Mode.ACT, 0.25), (Mode.THINK, 0.5), (Mode.FOLLOW, 0.25)):
            assert abs(drawn.count(mode) / 4000 - share) < 0.03
        batch = make_batch()
        for mode, read, counts in (("act", False, False), ("follow", True, False), ("think", True, True)):
            options = {"learn": mode, "mode": "think" if mode == "think" else "act", "prefix": True}
            learned = learn(make_ecot(32, **options), batch)
            assert (learned.context.tokens.shape[1] > state().encode(batch).tokens.shape[1] + 1) == read
            assert bool((learned.loss > 0).all()) == counts

    def test_the_prefix_tells_the_mode(self):
        reasoner, batch = make_ecot(32, learn="act 0.25, think 0.5, follow 0.25", prefix=True, mode="act"), make_batch()
        given = [None, LABELS[1], Thought(words={"move": "stop"}), None, None]
        with torch.inference_mode():
            start = state().encode(batch).tokens.shape[1]
            told = think(reasoner, state(), batch, given=given).context.tokens[:, start]
            expected = [state().encode(batch).extend(reasoner.modes[index].expand(ROWS, 1, -1), causal_mask(1)).hidden
                        for index in (0, 2, 1, 0, 0)]  # fmt: skip
        for row, hidden in enumerate(expected):
            torch.testing.assert_close(told[row], hidden[row, 0])

    def test_words_that_lead_take_the_instructions_place(self):
        reasoner = make_ecot(32, **ecot_variants.hybrid(("plan", "subtask", "move"), lead=True))
        batch = make_batch()
        other = replace(batch, instructions=("do something else",) * ROWS)
        followed, elsewhere = (think(reasoner, state(), each, given=LABELS).context for each in (batch, other))
        silent, changed = (think(reasoner, state(), each).context for each in (batch, other))
        assert torch.equal(followed.tokens[followed.mask], elsewhere.tokens[elsewhere.mask])
        assert not torch.equal(silent.tokens[:, 0], changed.tokens[:, 0])
        told: list[tuple[str, ...]] = []

        def encode(seen: Batch) -> Context:
            told.append(seen.instructions)
            return state().encode(seen)

        reasoner.learn(batch, encode, generator=seeded(0))
        modes = reasoner._draw_modes(ROWS, seeded(0))
        assert len(set(modes)) > 1
        for instruction, before, mode, label in zip(told[0], batch.instructions, modes, LABELS, strict=True):
            assert instruction == (" ".join(label.words.values()) if mode is Mode.FOLLOW else before)

    def test_pauses_lengthen_the_context_and_hold_no_words(self):
        reasoner, batch = make_ecot(32, segments="", learn="act", mode="act", pauses=6), make_batch()
        assert learn(reasoner, batch).context.tokens.shape[1] == state().encode(batch).tokens.shape[1] + 6
        considered = think(reasoner, state(), batch)
        assert considered.thoughts == (Thought(),) * ROWS and considered.evaluations.tolist() == [1] * ROWS

    def test_the_weight_scales_the_loss_of_the_words(self):
        batch = make_batch()
        torch.testing.assert_close(3 * learn(make_ecot(32), batch).loss, learn(make_ecot(32, weight=3.0), batch).loss)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "hint"),
        [
            ({"segments": "subtsk"}, "Did you mean 'subtask'"),
            ({"segments": "move refersh=3"}, "refresh=4"),
            ({"segments": "move refresh=0"}, "every look"),
            ({"segments": "move refresh=x"}, "refresh=4"),
            ({"segments": "move dropout=x"}, "expected a number"),
            ({"segments": "move dropout=2"}, "share"),
            ({"segments": "move; move"}, "more than once"),
            ({"segments": "move unseen unlearned"}, "leave it out"),
            ({"segments": ""}, "needs segments"),
            ({"learn": "thinks"}, "Did you mean 'think'"),
            ({"learn": "act 0.5, think 0.2"}, "sum to 1"),
            ({"learn": "act", "mode": "think"}, "never learns"),
            ({"pauses": -1}, "negative"),
            ({"lead": True}, "does not have"),
        ],
    )
    def test_settings(self, options, hint):
        with pytest.raises(ConfigError, match=hint):
            ECoT.Config(**options)

    def test_a_segment_that_no_label_has(self):
        reasoner = ECoT(ECoT.Config(segments="gripper; move"), width=8, cameras=())
        with pytest.raises(ConfigError, match=r"'gripper'; the data have: move, plan, subtask"):
            reasoner.fit(LABELS)

    def test_it_must_be_fitted_first(self):
        with pytest.raises(ConfigError, match="fit"):
            ECoT(ECoT.Config(), width=8, cameras=()).state()

    @pytest.mark.parametrize(
        ("thought", "hint"),
        [
            (Thought(words={"mvoe": "left"}), "Did you mean 'move'"),
            (Thought(words={"gripper": "[1, 2]"}), "cannot follow gripper"),
            (Thought(marks=(Mark(camera="front", centre=(0.5, 0.5)),)), "cannot follow marks"),
            (Thought(words={"move": "left " * 2000}), "at most 512"),
        ],
    )
    def test_what_cannot_be_followed(self, thought, hint):
        with pytest.raises(ConfigError, match=hint):
            think(make_ecot(32), state(), make_batch(), given=[thought] * ROWS)


def test_shares_without_numbers():
    assert read_shares("think") == {Mode.THINK: 1.0}


class TestLexicon:
    def test_words_of_the_labels_are_pieces_and_digits_stand_alone(self):
        lexicon = Lexicon.learn(["reach the red cube [12, 345]"] * 3, 512)
        assert len(lexicon.ids("reach the red cube")) == 4
        assert len(lexicon.ids("[12, 345]")) == 8

    def test_round_trip_through_its_state(self):
        lexicon = Lexicon.learn(["reach the red cube", "move left"] * 3, 300)
        again = Lexicon.restore(lexicon.state())
        for text in ("reach the cube", "zebra 7", "a\nb", "日本"):
            assert again.ids(text) == lexicon.ids(text) and again.text(again.ids(text)) == text

    def test_ids_that_are_no_text(self):
        assert Lexicon.learn(["left"], 300).text([200]) == "\ufffd"

    def test_too_small_for_bytes(self):
        with pytest.raises(ConfigError, match="256"):
            Lexicon.learn(["left"], 100)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Twelve demonstrations of the toy world, whose words tell the colour and the way to go."""
    folder = tmp_path_factory.mktemp("toy")
    tasks = ("toy/reach-red", "toy/reach-blue")
    collect(Collect(tasks=tasks, out=folder / "raw", episodes=6, storage="image", workers=0), progress=False)
    dataset = open_dataset(folder / "raw")
    colours = [name.rpartition("-")[2] for name in tasks]

    def thoughts(episode: int) -> list[Thought]:
        rows = range(*dataset.episodes.bounds[episode : episode + 2])
        task = dataset.episodes.tasks_of(episode)[0]
        colour = next(colour for colour in colours if colour in task)
        sides = ["left" if action[0] < 0 else "right" for action in dataset.rows("action", rows)]
        subtask = f"reach the {colour} one"
        return [Thought(words={"subtask": subtask, "move": f"move {side}", "motion": f"{side} 2 cm"}) for side in sides]

    write_thoughts(dataset, thoughts, folder / "labelled", facts={}, progress=False)
    return folder / "labelled"


def config(decoder: str = "regression", **changes) -> TrainConfig:
    tokenizer = "bins" if issubclass(DECODERS.load(decoder), TokenDecoder) else None
    policy = PolicyConfig(
        backbone="tiny", backbone_options={"width": 32, "side": 16}, decoder=decoder, tokenizer=tokenizer, horizon=4,
        normalise_action="min_max", normalise_proprioception="mean_std", reasoner="ecot",
        reasoner_options=ecot_variants.ecot(),
    )  # fmt: skip
    base = TrainConfig(
        policy=policy, steps=3, batch=8, warmup=1, validate_every=9, checkpoint_every=9, log_every=1, validation=0.0
    )
    return replace(base, **changes)


def with_options(base: TrainConfig, options) -> TrainConfig:
    return replace(base, policy=replace(base.policy, reasoner_options=options))


@pytest.fixture(scope="module")
def speaking(labelled, tmp_path_factory) -> Path:
    """A checkpoint that has learned its words."""
    base = config(steps=100, learning_rate=5e-3)
    base = with_options(base, {"segments": "subtask refresh=3; move"})
    return train(base, labelled, tmp_path_factory.mktemp("speaking") / "run", device="cpu", progress=False)


class TestEndToEnd:
    def test_learns_to_say_what_the_labels_say(self, speaking):
        actor = load_policy(speaking, execute=2)
        env = make_env("toy/reach-blue")
        for seed in range(100, 104):
            env.reset(seed)
            actor.reset(seed)
            thought = actor.act(env.observe()).thought
            assert thought.words["subtask"] == "reach the blue one"
            assert thought.words["move"] in ("move left", "move right") and thought.tokens == 8

    def test_actions_as_language(self, labelled, tmp_path):
        base = with_options(config("autoregressive", steps=1), ecot_variants.actions_as_language())
        base = replace(base, policy=replace(base.policy, tokenizer="text", tokenizer_options={"resolution": 9}))
        actor = load_policy(train(base, labelled, tmp_path / "run", device="cpu", progress=False), execute=2)
        env = make_env("toy/reach-red")
        env.reset(0)
        actor.reset(0)
        chunk = actor.act(env.observe())
        assert chunk.thought.words.keys() == {"subtask", "motion"} and np.isfinite(chunk.actions).all()

    @pytest.mark.parametrize("decoder", ["flow", "discrete_diffusion", "flow_expert"])
    def test_every_kind_of_decoder_works_behind_it(self, decoder, labelled, tmp_path):
        trained = train(config(decoder, steps=1), labelled, tmp_path / "run", device="cpu", progress=False)
        env, actor = make_env("toy/reach-red"), load_policy(trained, execute=2)
        env.reset(0)
        actor.reset(0)
        chunk = actor.act(env.observe())
        assert chunk.thought.words.keys() == {"subtask", "move"} and np.isfinite(chunk.actions).all()

    def test_a_run_sets_out_from_another(self, labelled, tmp_path):
        first = train(config(), labelled, tmp_path / "words", device="cpu", progress=False)
        later = config(start=str(tmp_path / "words"), learning_rate=1e-12, weight_decay=0.0, ema=0.0)
        options = ecot_variants.action_only()
        second = train(with_options(later, options), labelled, tmp_path / "actions", device="cpu", progress=False)
        before, after = Policy.load(first), Policy.load(second)
        assert after.reasoner.config.mode == "act" and after.reasoner.state() == before.reasoner.state()
        for name, value in before.state_dict().items():
            torch.testing.assert_close(after.state_dict()[name], value, atol=1e-6, rtol=0)

    def test_a_start_that_does_not_fit(self, labelled, tmp_path):
        train(config(steps=1), labelled, tmp_path / "words", device="cpu", progress=False)
        start = str(tmp_path / "words")
        with pytest.raises(ConfigError, match="decoder: regression there, flow now"):
            train(config("flow", start=start), labelled, tmp_path / "a", device="cpu", progress=False)
        other = with_options(config(start=start), {**ecot_variants.ecot(), "pauses": 4})
        with pytest.raises(ConfigError, match=r"reasoner\.pauses"):
            train(other, labelled, tmp_path / "b", device="cpu", progress=False)
        with pytest.raises(ConfigError, match="No checkpoint"):
            train(config(start=str(tmp_path / "none")), labelled, tmp_path / "c", device="cpu", progress=False)


@pytest.mark.parametrize(
    ("options", "seen", "said"),
    [
        (ecot_variants.ecot(), True, True),
        (ecot_variants.action_only(), False, False),
        (ecot_variants.co_training(), False, False),
        (ecot_variants.dropout(share=0.0001), True, False),
        (ecot_variants.scaffolding(share=0.0001), True, False),
        (ecot_variants.thinking_tokens(), False, False),
        (ecot_variants.hybrid(mode="think"), None, True),
        (ecot_variants.fast(), True, True),
    ],
)
def test_published_ways(options, seen, said):
    """Whether the decoder reads words in training, and whether any are said at run time."""
    reasoner = make_ecot(32, **options)
    bare = state().encode(make_batch()).tokens.shape[1] + len(reasoner.pauses)
    if seen is not None:
        assert (learn(reasoner, make_batch()).context.tokens.shape[1] > bare) == seen
    assert (think(reasoner, state(), make_batch()).thoughts[0].tokens > 0) == said


def test_fast_ecot_keeps_all_but_the_last_segment():
    segments = read_segments(str(ecot_variants.fast(("plan", "subtask", "move"), refresh=6)["segments"]))
    assert [(each.refresh, each.event) for each in segments] == [(6, True), (6, True), (1, False)]


class ByHand(Executor):
    """Thinks at once, and tells when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future, object]] = []

    def submit(self, fn, /, *args, **kwargs) -> Future:
        future: Future = Future()
        self.waiting.append((future, fn(*args, **kwargs)))
        return future

    def tell(self) -> None:
        future, result = self.waiting.pop(0)
        future.set_result(result)


class AtOnce(ByHand):
    def submit(self, fn, /, *args, **kwargs) -> Future:
        future = super().submit(fn, *args, **kwargs)
        self.tell()
        return future


class TestAsynchronous:
    """The toy world's policy, looked at without stepping: every observation differs by its proprioception."""

    def looks(self, count: int) -> list[Observation]:
        env = make_env("toy/reach-red")
        env.reset(0)
        seen = env.observe()
        return [
            replace(seen, proprioception=seen.proprioception + np.float32(index), time=float(index))
            for index in range(count)
        ]

    @pytest.fixture
    def actor(self, speaking) -> PolicyActor:
        return load_policy(speaking, execute=2)

    def test_with_thoughts_at_once_it_is_the_policy_itself(self, actor):
        looks = self.looks(5)
        aside = Asynchronous(actor, AtOnce())
        aside.reset(0)
        chunks = [aside.act(look) for look in looks]
        actor.reset(0)
        for chunk, own in zip(chunks, [actor.act(look) for look in looks], strict=True):
            assert chunk.thought == own.thought
            np.testing.assert_allclose(chunk.actions, own.actions, atol=1e-4)

    def test_a_late_thought_is_used_when_it_is_there_and_its_age_is_told(self, actor):
        executor = ByHand()
        aside = Asynchronous(actor, executor)
        aside.reset(0)
        looks = self.looks(6)
        with ThreadPoolExecutor(1) as pool:  # the first look waits
            first = pool.submit(aside.act, looks[0])
            while not executor.waiting:
                time.sleep(0.001)
            assert not first.done()
            executor.tell()
            chunks = [first.result(timeout=60)]
        for index, look in enumerate(looks[1:], start=1):
            if index == 4:
                executor.tell()  # it was begun at look 1
            chunks.append(aside.act(look))
        ages = [chunk.thought.ages["move"] for chunk in chunks]
        assert ages == [0, 1, 2, 3, 3, 4]
        assert [chunk.thought.tokens > 0 for chunk in chunks] == [True, False, False, False, True, False]

    def test_kept_segments_grow_old_beside_it_too(self, actor):
        executor = AtOnce()
        aside = Asynchronous(actor, executor)
        aside.reset(0)
        ages = [aside.act(look).thought.ages["subtask"] for look in self.looks(5)]
        assert ages == [0, 1, 2, 0, 1]

    def test_what_was_thought_in_another_episode_is_forgotten(self, actor):
        executor = ByHand()
        aside = Asynchronous(actor, executor)
        aside.reset(0)
        aside._newest, aside._begun = Thought(words={"subtask": "a", "move": "b"}, ages={"subtask": 0, "move": 0}), 0
        aside.act(self.looks(1)[0])
        aside.reset(1)
        assert aside._newest is None and aside._running is None

    def test_a_thought_that_fails_fails_the_episode(self, actor):
        class Broken(ByHand):
            def submit(self, fn, /, *args, **kwargs) -> Future:
                future: Future = Future()
                future.set_exception(EpisodeError("lost"))
                return future

        aside = Asynchronous(actor, Broken())
        aside.reset(0)
        with pytest.raises(EpisodeError, match="lost"):
            aside.act(self.looks(1)[0])

    def test_in_a_thread(self, actor):
        with ThreadPoolExecutor(1) as pool:
            aside = Asynchronous(actor, pool)
            aside.reset(0)
            chunks = [aside.act(look) for look in self.looks(4)]
        assert chunks[0].thought.ages["move"] == 0
        assert all(0 <= chunk.thought.ages["move"] <= index for index, chunk in enumerate(chunks))

    def test_needs_a_reasoner(self, actor):
        silent = PolicyActor(actor.policy, execute=2)
        reasoner, actor.policy.reasoner = actor.policy.reasoner, None
        try:
            with pytest.raises(ConfigError, match="no reasoner"):
                Asynchronous(silent, AtOnce())
        finally:
            actor.policy.reasoner = reasoner
