"""A language model in this process: form of answers, networks, lessons, tuning, exam. Networks are tiny and random."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from volar.backbones.weights import LANGUAGE, status
from volar.cli.language import main as language
from volar.core.errors import ConfigError, EpisodeError
from volar.core.objects import NamedObject, Workspace
from volar.envs import make_env
from volar.envs.rollout import Job, run_episode
from volar.envs.tabletop.world import HIGH, LOW
from volar.nn.llama import Llama, LlamaShape
from volar.nn.lora import add_low_rank, fold_low_rank, learned
from volar.policies.language_primitives import LanguagePrimitives
from volar.policies.perception import SimulatorPerception
from volar.reasoning.language import motion_request, raw_weights, text_network
from volar.reasoning.language.answer_form import AnswerForm
from volar.reasoning.language.compact_prompts import NOTHING_LEFT, parts_of, subtask_question, whole_question
from volar.reasoning.language.language_model import Answer, LanguageModel, Message
from volar.reasoning.language.local_model import LocalModel, local
from volar.reasoning.language.motion_plan import plan_request
from volar.reasoning.language.motion_request import read_request, with_names
from volar.reasoning.language.prompts import SUBTASK_SCHEMA, SubTask, read_subtask
from volar.reasoning.language.scene_rules import Errand, blocking, next_subtask, parameters
from volar.reasoning.language.text_network import Smol, Transformers
from volar.reasoning.language.tuned_model import save_tuned
from volar.train.language import tuning
from volar.train.language.config import TuneConfig
from volar.train.language.exam import BOX, EXAM_SEEDS, exam_lessons, sit, summary, worked
from volar.train.language.lessons import Lesson, lesson
from volar.train.language.scenes import TAUGHT, UNHEARD
from volar.train.language.tuning import lesson_loss, tune

QUESTION = [Message(role="user", text="red cube 1 2 3\ntask: put it away")]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


def letters() -> Tokenizer:
    """A token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in ("<|im_start|>", "<|im_end|>")])
    return tokenizer


def tiny(seed: int = 0) -> Smol:
    torch.manual_seed(seed)
    tokenizer = letters()
    shape = LlamaShape(layers=2, width=32, hidden=48, heads=2, key_heads=1, vocabulary=tokenizer.get_vocab_size())
    return Smol(Llama(shape), tokenizer, name="tiny")


def saved(folder: Path, *, template: str | None = TEMPLATE) -> Path:
    torch.manual_seed(1)
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=letters(), eos_token="<|im_end|>")
    tokenizer.chat_template = template
    config = hf.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    hf.LlamaForCausalLM(config).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


class TestForm:
    def test_right_answers_are_whole_and_all_their_beginnings_can_be_continued(self):
        for seed in range(20):
            studied = lesson(seed)
            for question in (each for each in studied.questions if not each.whole):
                form = AnswerForm(SUBTASK_SCHEMA if isinstance(question.right, SubTask) else motion_request.SCHEMA)
                assert form.whole(question.answer)
                assert all(form.begins(question.answer[:end]) for end in range(len(question.answer)))

    @pytest.mark.parametrize(
        "wrong", ['{"object"', '{"subtask": "grab"', '{"subtask": "reach", "object": "blue', '{"subtask":"reach"', " {"]
    )
    def test_what_cannot_become_an_answer_is_told(self, wrong):
        form = AnswerForm(with_names(SUBTASK_SCHEMA, "object", ["red cube", "red ball"]))
        assert not form.begins(wrong)
        assert form.begins('{"subtask": "reach", "object": "red')

    def test_what_has_no_choice_is_known(self):
        form = AnswerForm(with_names(SUBTASK_SCHEMA, "object", ["red cube", "red ball é"]))
        assert form.forced("") == '{"subtask": "'
        assert form.forced('{"subtask": "d') == 'one", "object": "red '
        assert form.forced('{"subtask": "done", "object": "red b') == 'all é"'
        assert form.forced('{"subtask": "done", "object": "red cube"}') == ""

    def test_published_weights_have_a_form_too(self):
        form = AnswerForm(raw_weights.SCHEMA)
        row = "[" + ", ".join(["0.5"] * 11) + "]"
        assert form.whole('{"weights": [' + ", ".join([row] * 5) + '], "height": 0.1}')
        assert not form.begins('{"weights": [' + ", ".join([row] * 6))

    def test_an_unknown_kind_of_schema_is_refused(self):
        with pytest.raises(ConfigError, match="cannot be held"):
            AnswerForm({"type": "object", "properties": {"a": {"type": "date"}}})


class TestAnswer:
    @pytest.mark.parametrize("seed", range(4))
    def test_a_random_network_answers_in_form_the_same_every_time(self, seed):
        model, studied = LocalModel(tiny(seed)), lesson(EXAM_SEEDS)
        schema = with_names(SUBTASK_SCHEMA, "object", studied.table.objects)
        answers = [model.answer(studied.questions[0].asked, schema=schema) for _ in range(2)]
        assert answers[0].text == answers[1].text
        found = read_subtask(answers[0].text, studied.table.objects)
        assert found.object in studied.table.objects
        assert answers[0].written and answers[0].read == len(tiny().prompt(studied.questions[0].asked))

    def test_what_has_no_choice_is_read_in_without_asking_the_network(self):
        network, asked = tiny(), []
        extend = network.extend
        network.extend = lambda ids, past, last: asked.append(len(ids)) or extend(ids, past, last=last)  # type: ignore
        answer = LocalModel(network).answer(QUESTION, schema=with_names(SUBTASK_SCHEMA, "object", ["red cube"]))
        assert answer.written is not None and len(asked) < answer.written / 2
        assert sum(asked) <= answer.written + (answer.read or 0)

    def test_what_earlier_answers_suggest_saves_calls_and_changes_no_answer(self):
        questions = [each for seed in range(4) for each in lesson(seed).questions if isinstance(each.right, SubTask)]
        schema = with_names(SUBTASK_SCHEMA, "object", ["red cube", "blue ball"])
        network, calls = tiny(3), []
        extend = network.extend
        network.extend = lambda ids, past, last: calls.append(last) or extend(ids, past, last=last)  # type: ignore
        fresh = [LocalModel(network).answer(each.asked, schema=schema).text for each in questions]
        alone, one = len(calls), LocalModel(network)
        assert [one.answer(each.asked, schema=schema).text for each in questions] == fresh
        assert len(calls) - alone < 0.7 * alone and max(calls[:alone]) < max(calls[alone:])

    @pytest.mark.parametrize("kind", ["ours", "transformers"])
    def test_keys_and_values_that_are_kept_change_nothing(self, kind, tmp_path):
        network = tiny() if kind == "ours" else Transformers(saved(tmp_path / "m"))
        ids = list(range(40))
        whole = network.extend(ids, None, last=3).logits
        first = network.extend([*ids[:25], 7, 7, 7], None)
        second = network.extend(ids[25:], network.crop(first.past, 25), last=3)
        torch.testing.assert_close(second.logits, whole, atol=1e-4, rtol=1e-4)

    def test_without_a_schema_it_says_what_it_likes_until_it_has_said_enough(self):
        answer = LocalModel(tiny(), most_tokens=7).answer(QUESTION)
        assert answer.written == 7

    def test_a_question_that_is_too_long_is_an_error_of_the_episode(self):
        with pytest.raises(EpisodeError, match="too long"):
            LocalModel(tiny(), most_tokens=7, longest=20).answer(QUESTION)

    def test_a_prompt_is_written_as_the_model_was_trained(self):
        text = tiny().tokenizer.decode(tiny().prompt(QUESTION), skip_special_tokens=False)
        assert text == f"<|im_start|>user\n{QUESTION[0].text}<|im_end|>\n<|im_start|>assistant\n"

    @pytest.mark.hub
    @pytest.mark.skipif(
        any(each.problem for each in status() if each.part == LANGUAGE), reason="volar weights install brings them"
    )
    def test_smollm2_knows_a_capital(self):
        asked = [Message(role="user", text="What is the capital of France? Answer in one word.")]
        assert "Paris" in local(most_tokens=12).answer(asked).text


class TestTransformers:
    def test_a_folder_answers_in_form(self, tmp_path):
        model = local(folder=str(saved(tmp_path / "m")))
        answer = model.answer(QUESTION, schema=with_names(SUBTASK_SCHEMA, "object", ["red cube"]))
        assert json.loads(answer.text)["object"] == "red cube"
        assert model.describe()["model"] == "m" and not model.compact

    def test_folders_that_hold_no_model_or_no_template_are_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="neither one that `volar language tune` wrote"):
            local(folder=str(tmp_path))
        with pytest.raises(ConfigError, match="no chat template"):
            local(folder=str(saved(tmp_path / "m", template=None)))
        (tmp_path / "m" / "model.safetensors").unlink()
        with pytest.raises(ConfigError, match="no causal language model that can be read"):
            local(folder=str(tmp_path / "m"))


def body(x: float, y: float, z: float, *size: float) -> NamedObject:
    return NamedObject(position=np.array([x, y, z]), size=np.array(size))


class TestRules:
    objects: Mapping[str, NamedObject] = {
        "cube": body(-0.15, 0, 0.012, 0.024, 0.024, 0.024),
        "plate": body(0.15, 0, 0, 0.06, 0.06, 0.001),
        "pillar": body(0.0, 0.01, 0, 0.06, 0.06, 0.2),
    }
    errand = Errand(thing="cube", place="plate", relation="on")

    def stage(self, hand: Sequence[float], *, closed: bool, **moved: NamedObject) -> SubTask:
        return next_subtask([self.errand], {**self.objects, **moved}, np.array(hand), closed=closed)

    def test_reach_carry_release_done_by_what_is_seen(self):
        there = body(0.15, 0, 0.02, 0.024, 0.024, 0.024)
        assert self.stage([0, 0, 0.1], closed=False).subtask == "reach"
        carried = self.stage([-0.15, 0, 0.012], closed=True)
        assert carried == SubTask(subtask="carry", object="plate", note="on, pass in front of the pillar")
        assert self.stage([0.15, 0, 0.02], closed=True, cube=there).subtask == "release"
        assert self.stage([0.15, 0, 0.02], closed=False, cube=there).subtask == "done"

    def test_what_slipped_out_is_fetched_again(self):
        assert self.stage([0.1, 0, 0.1], closed=True).subtask == "reach"

    def test_narrow_things_are_passed_beside_wide_ones_above_low_ones_not_at_all(self):
        hand, goal = np.array([-0.15, 0, 0.012]), np.array([0.15, 0, 0.02])

        def passing(pillar: NamedObject) -> tuple[str, bool] | None:
            found = blocking({**self.objects, "pillar": pillar}, hand, goal, {"cube", "plate"})
            return None if found is None else (found.axis, found.clearance > 0)

        assert passing(body(0, 0.01, 0, 0.06, 0.06, 0.2)) == ("y", False)
        assert passing(body(0, -0.01, 0, 0.06, 0.06, 0.2)) == ("y", True)
        assert passing(body(0, 0.01, 0, 0.02, 0.28, 0.08)) == ("z", True)
        assert passing(body(0, 0.01, 0, 0.06, 0.06, 0.03)) is None
        assert passing(body(0, 0.12, 0, 0.06, 0.06, 0.2)) is None

    def test_unknown_names_are_refused_with_the_nearest(self):
        with pytest.raises(ConfigError, match="Did you mean 'cube'"):
            next_subtask([replace(self.errand, thing="cub")], self.objects, np.zeros(3), closed=False)


class Scripted(LanguageModel):
    """Stands in for a tuned model in this test only: answers the short prompts by the rules."""

    compact = True

    def __init__(self, world: Any, errand: Errand) -> None:
        self.world, self.errand, self.asked = world, errand, []

    def describe(self) -> dict[str, Any]:
        return {}

    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Answer:
        self.asked.append(messages[-1].text)
        now, objects = self.world.scene, self.world.named_objects()
        chosen = next_subtask([self.errand], objects, now.hand, closed=now.opening < 0.75)
        found = asdict(chosen)
        if schema is None and chosen.subtask == "done":
            found = {"done": True}
        elif schema is None or schema["title"] == "MotionRequest":
            found = asdict(parameters(chosen, objects, now.hand, closed=now.opening < 0.75))
        return Answer(text=json.dumps(found), read=1, written=1, seconds=0.0)


class TestPolicy:
    @pytest.mark.parametrize("decompose", [True, False])
    @pytest.mark.parametrize(
        ("task", "errand"),
        [
            ("obstacle-25", Errand(thing="blue cube", place="yellow region", relation="on")),
            ("obstacle-50-wide", Errand(thing="blue cube", place="yellow region", relation="on")),
            ("pick-place-green", Errand(thing="green cube", place="yellow bowl", relation="in")),
        ],
    )
    def test_the_rules_that_teach_do_the_task_by_the_short_prompts(self, task, errand, decompose):
        env = make_env(f"tabletop/{task}", cameras={})
        model = Scripted(env.unwrapped, errand)
        actor = LanguagePrimitives(
            LanguagePrimitives.Config(decompose=decompose), model, SimulatorPerception(), spec=env.spec,
            workspace=Workspace(low=LOW, high=HIGH),
        )  # fmt: skip
        episode = run_episode(env, actor, Job(task=f"tabletop/{task}", seed=2, arm="rules", max_steps=400))
        assert episode.success
        carried = next(text for text in model.asked if f"holds {errand.thing}" in text)
        assert (f"way to {errand.place}: " in carried) == task.startswith("obstacle")
        if not decompose:
            move, last, now = carried.splitlines()[-3:]
            assert last == f"last: to {errand.thing}, close gripper" and now[5:] == move[6:]
            assert f"at {errand.place}" in model.asked[-1]
            return
        assert model.asked[0].splitlines()[-3].startswith("task: ") and model.asked[1].splitlines()[-1] == (
            f"do: reach {errand.thing}"
        )
        begin = model.asked[0].splitlines()
        assert begin[-2] == "last: nothing" and begin[-4].endswith("open")
        assert model.asked[2].splitlines()[-2] == f"last: reach {errand.thing}"

    def test_a_tuned_model_is_refused_where_it_would_not_understand(self):
        env = make_env("tabletop/push", cameras={})
        model = Scripted(env.unwrapped, Errand(thing="a", place="b", relation="on"))
        with pytest.raises(ConfigError, match="raw=False"):
            LanguagePrimitives(
                LanguagePrimitives.Config(raw=True),
                model,
                SimulatorPerception(),
                spec=env.spec,
                workspace=Workspace(low=LOW, high=HIGH),
            )


class TestParts:
    @pytest.mark.parametrize(
        "task, parts",
        [
            ("put the cube onto the mat", ["put the cube onto the mat"]),
            ("put a on b, then c in d and then e on f", ["put a on b", "c in d", "e on f"]),
            ("take the cube, then put it in a; then the egg", ["take the cube, then put it in a", "the egg"]),
            ("Put a on b. Then, take c and put it on d", ["Put a on b", "take c and put it on d"]),
            ("strengthen the band", ["strengthen the band"]),
        ],
    )  # fmt: skip
    def test_end_at_then_unless_the_thing_is_it(self, task, parts):
        assert parts_of(task) == parts

    def test_are_counted_by_what_was_let_go(self):
        finished = ["reach red cube", "carry mat", "release red cube", "reach egg (missed)"]
        so_far = whole_question("scene", "put a on b, then c on d", finished)[0].text.splitlines()[1:]
        assert so_far == ["move: put a on b, then c on d", "last: reach egg", "now: c on d"]
        done = subtask_question("scene", "put a on b", ["to mat, open gripper"])[0].text
        assert done.endswith("\nlast: to mat, open gripper\nnow: nothing")


class TestLessons:
    def test_are_functions_of_their_seed(self):
        assert [each.answer for each in lesson(5).questions] == [each.answer for each in lesson(5).questions]
        assert lesson(5).questions[0].asked != lesson(6).questions[0].asked

    def test_answers_mean_what_is_right(self):
        for seed in range(60):
            studied = lesson(seed)
            for question in studied.questions:
                if question.answer == NOTHING_LEFT:
                    assert question.whole and question.right.subtask == "done"
                    continue
                read = read_subtask if isinstance(question.right, SubTask) else read_request
                found = read(question.answer, studied.table.objects)
                assert getattr(found, "request", found) == question.right

    def test_what_was_carried_is_mostly_let_go_and_what_was_let_go_is_followed_by_the_next(self):
        after: dict[str, list[str]] = {"carry": [], "release": []}
        for seed in range(150):
            for question in lesson(seed).questions:
                found = re.search(r", then (?s:.+)\nlast: (carry|release) ", question.asked[-1].text)
                if found and isinstance(question.right, SubTask):
                    after[found[1]].append(question.right.subtask)
        assert 0.75 < np.mean([each == "release" for each in after["carry"]]) < 1
        assert 0.6 < np.mean([each == "reach" for each in after["release"]]) < 1

    def test_nearly_all_motions_can_be_made(self):
        made = []
        for seed in range(40):
            studied = lesson(seed)
            for question in studied.questions:
                if not isinstance(question.right, SubTask):
                    try:
                        plan_request(question.right, studied.table.hand, studied.table.objects, BOX)
                        made.append(True)
                    except ConfigError:
                        made.append(False)
        assert np.mean(made) > 0.95

    def test_the_exam_has_words_and_phrases_that_no_lesson_has(self):
        parts = exam_lessons(20)
        said = {part: " ".join(each.asked[0].text for table in tables for each in table.questions)
                for part, tables in parts.items()}  # fmt: skip
        taught = " ".join(each.asked[0].text for seed in range(100) for each in lesson(seed).questions)
        unheard = (*UNHEARD.things, *UNHEARD.containers, *UNHEARD.regions, *UNHEARD.obstacles)
        assert not set(unheard) & {*TAUGHT.things, *TAUGHT.containers, *TAUGHT.regions, *TAUGHT.obstacles}
        assert not any(f" {word} " in taught for word in unheard)
        assert any(f" {word} " in said["new words"] for word in unheard)
        assert "belongs" in said["new phrases"] and "belongs" not in taught and "belongs" not in said["new tables"]


class TestReading:
    def test_what_questions_have_in_common_is_read_once_and_answers_stay_the_same(self, monkeypatch):
        network = tiny()
        questions = [question.asked for seed in (0, 1) for question in lesson(seed).questions]
        read, extend = [], network.extend
        monkeypatch.setattr(
            network, "extend", lambda ids, *more, **named: (read.append(len(ids)), extend(ids, *more, **named))[1]
        )
        fresh = [LocalModel(network, most_tokens=20).answer(asked).text for asked in questions]
        alone = sum(read)
        read.clear()
        model = LocalModel(network, most_tokens=20)
        assert [model.answer(asked).text for asked in questions] == fresh
        prompts = [network.prompt(asked) for asked in questions]
        common = sum(len(list(itertools.takewhile(lambda ids: ids[0] == ids[1], zip(one, two, strict=False))))
                     for one, two in itertools.pairwise(prompts))  # fmt: skip
        assert common > 500 and alone - sum(read) >= 0.9 * common


class TestTuning:
    config = TuneConfig(steps=6, tables=1, rank=2, layers=1, warmup=1, half=False)

    def test_the_loss_of_a_lesson_is_that_of_its_answers_read_one_by_one(self):
        network, studied = tiny(), lesson(3)
        nats, tokens = 0.0, 0
        for question in studied.questions:
            prompt, answer = network.prompt(question.asked), [*network.ids(question.answer), *network.ends]
            with torch.no_grad():
                states = network.model(network.model.embedding(torch.tensor([prompt + answer]))).hidden
                chances = network.model.logits(states)[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
            nats -= float(chances[torch.arange(len(answer)), answer].sum())
            tokens += len(answer)
        assert float(lesson_loss(network, studied).detach()) == pytest.approx(nats / tokens, rel=1e-4)

    def test_learns_and_gives_the_same_for_the_same_seed(self):
        config = replace(self.config, steps=30, learning_rate=0.02)
        losses, found = [], []
        for _ in range(2):
            said: list[float] = []
            found.append(tune(tiny(), config, lambda now: said.append(now.loss)))  # noqa: B023
            losses.append(said)
        assert losses[0] == losses[1] and np.mean(losses[0][-5:]) < 0.9 * np.mean(losses[0][:5])
        assert set(found[0]) == set(found[1]) and all(torch.equal(found[0][key], found[1][key]) for key in found[0])

    def test_what_was_learned_is_folded_into_plain_weights_without_change(self):
        trained, plain, ids = tiny(), tiny(), list(range(30))
        before = plain.extend(ids, None).logits
        fold_low_rank(plain.model, tune(trained, self.config, lambda now: None))
        assert not torch.allclose(before, plain.extend(ids, None).logits)
        torch.testing.assert_close(plain.extend(ids, None).logits, trained.extend(ids, None).logits, atol=1e-5, rtol=0)

    def test_sets_out_from_what_was_learned_before(self, tmp_path):
        first = tune(tiny(), self.config, lambda now: None)
        save_tuned(tmp_path, first, step=6)
        again = tune(tiny(), replace(self.config, steps=1, learning_rate=1e-12, start=str(tmp_path)), lambda now: None)
        for name, value in first.items():
            torch.testing.assert_close(again[name], value)
        with pytest.raises(ConfigError, match="another rank"):
            tune(tiny(), replace(self.config, rank=3, start=str(tmp_path)), lambda now: None)

    def test_only_the_last_layers_learn(self):
        found = tune(tiny(), self.config, lambda now: None)
        assert {name.split(".")[1] for name in found} == {"1"}

    def test_additions_to_another_network_are_refused(self):
        wrapped = add_low_rank(
            {"layers.0": tiny().model.layers[0]}, rank=2, scale=1.0, generator=torch.Generator().manual_seed(0)
        )
        tensors = learned(wrapped)
        with pytest.raises(ConfigError, match="no linear layer"):
            fold_low_rank(tiny().model, {name.replace("layers.0", "layers.9"): each for name, each in tensors.items()})
        with pytest.raises(ConfigError, match="have shapes"):
            fold_low_rank(tiny().model, {name: each[:, :-1] for name, each in tensors.items()})

    @pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"warmup": -1}])
    def test_bad_settings_are_refused(self, wrong):
        with pytest.raises(ConfigError, match="at least 1"):
            TuneConfig(**wrong)


class Reader(LanguageModel):
    """Says what it is told to, question by question."""

    compact = True

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts

    def describe(self) -> dict[str, Any]:
        return {}

    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None) -> Answer:
        return Answer(text=self.texts.get(messages[-1].text, "no"), read=3, written=2, seconds=0.5)


class TestExam:
    tables: Sequence[Lesson] = exam_lessons(15)["new tables"]

    def marked(self, model: LanguageModel) -> dict[str, Any]:
        return summary([sit(model, table, each) for table in self.tables for each in table.questions])

    def test_right_answers_get_all_marks_and_no_answers_none(self):
        right = self.marked(
            Reader({each.asked[0].text: each.answer for table in self.tables for each in table.questions})
        )
        silent = self.marked(Reader({}))
        for key in ("object", "subtask", "gripper", "side", "calm"):
            assert right[key]["of"] == silent[key]["of"] > 0 == silent[key]["right"]
            assert right[key]["right"] >= 0.9 * right[key]["of"]
        assert right["offset_cm"] == 0 and silent["offset_cm"] is None
        assert right["questions"] == right["form"]["of"] == sum(len(table.questions) for table in self.tables)

    def test_a_wrong_object_is_marked_as_such_alone(self):
        table, question = next(
            (table, each)
            for table in self.tables
            for each in table.questions
            if isinstance(each.right, SubTask) and each.right.subtask != "done"
        )
        assert isinstance(question.right, SubTask)
        other = next(name for name in table.table.objects if name != question.right.object)
        said = json.dumps(asdict(replace(question.right, object=other)))
        mark = sit(Reader({question.asked[0].text: said}), table, question)
        assert mark.form and mark.subtask and not mark.object

    def test_worked_examples_go_before_the_question_and_are_of_all_sorts(self):
        shots = worked(SubTask, 4)
        assert len({each.right.subtask for each in shots}) >= 3  # type: ignore[union-attr]
        asked: list[Sequence[Message]] = []

        class Listener(Reader):
            def answer(self, messages, *, schema=None):  # type: ignore[no-untyped-def]
                asked.append(messages)
                return super().answer(messages, schema=schema)

        sit(Listener({}), self.tables[0], self.tables[0].questions[0], shots=shots)
        assert [each.role for each in asked[0]] == ["user", "assistant"] * 4 + ["user"]


class TestCommands:
    def test_a_tuning_that_was_stopped_comes_to_the_same(self, tmp_path, monkeypatch):
        monkeypatch.setattr(text_network, "load_smol", tiny)
        words = ["--steps", "6", "--tables", "1", "--rank", "2", "--layers", "1", "--no-half", "--save-every", "2"]
        language(["tune", str(tmp_path / "whole"), *words])
        learn = tuning.lesson_loss

        def stops(*given: Any) -> Any:
            if (tmp_path / "parts" / "unfinished.safetensors").exists() and len(calls) == 3:
                raise KeyboardInterrupt
            calls.append(1)
            return learn(*given)

        calls: list[int] = []
        monkeypatch.setattr(tuning, "lesson_loss", stops)
        with pytest.raises(KeyboardInterrupt):
            language(["tune", str(tmp_path / "parts"), *words])
        with pytest.raises(ConfigError, match="begun with other settings"):
            language(["tune", str(tmp_path / "parts"), *words, "--seed", "1"])
        monkeypatch.setattr(tuning, "lesson_loss", learn)
        language(["tune", str(tmp_path / "parts"), *words])
        assert {path.name for path in (tmp_path / "parts").iterdir()} == {
            "additions.safetensors", "tuned.json", "loss.jsonl",
        }  # fmt: skip
        for name in ("additions.safetensors", "loss.jsonl"):
            assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    def test_a_tuned_model_is_not_overwritten_and_nonsense_is_refused_before_anything_is_loaded(self, tmp_path):
        (tmp_path / "tuned.json").write_text("{}")
        with pytest.raises(ConfigError, match="not overwritten"):
            language(["tune", str(tmp_path)])
        with pytest.raises(ConfigError, match="--lessons must be"):
            language(["exam", "--lessons", "0"])
        with pytest.raises(ConfigError, match="no whole tuned model"):
            language(["exam", str(tmp_path), "--lessons", "1"])
