"""Language models over a real local socket, what is read from their answers, and the policy that follows them."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import torch

from volar.backbones.weights import LANGUAGE, fetch_source
from volar.core.errors import ConfigError, EpisodeError
from volar.core.objects import NamedObject, Workspace
from volar.core.robot import Actor, Episode, Job, Observation, Outcome
from volar.envs import make_env
from volar.envs.rollout import run_episode
from volar.envs.tabletop.world import HIGH, LOW, Tabletop
from volar.nn.primitives.constrained import Box
from volar.policies.language_primitives import LanguagePrimitives
from volar.policies.perception import SimulatorPerception
from volar.reasoning.language.conversation import Conversation, Exchange, Reading
from volar.reasoning.language.critic import Judge, Shift, Situation, Tried, Verdict, corrections_used
from volar.reasoning.language.following import Follower, Patience
from volar.reasoning.language.language_model import Answer, Endpoint, EndpointConfig, LanguageModel, Message
from volar.reasoning.language.model_critic import ModelJudge
from volar.reasoning.language.motion_plan import begin, commanded, followed, foresee, plan_raw, plan_request
from volar.reasoning.language.motion_request import MotionRequest, Rhythm, Via, first_object, read_request
from volar.reasoning.language.raw_weights import RawRequest, arm_response, crossing, read_weights
from volar.reasoning.language.scripted_critic import ScriptedJudge

ASKED = [Message(role="user", text="hello")]
Reply = Callable[[BaseHTTPRequestHandler, dict], None]


def completion(text: str | None, **message: object) -> bytes:
    body = {"choices": [{"message": {"role": "assistant", "content": text, **message}}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7}}  # fmt: skip
    return json.dumps(body).encode()


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def says(answer: object) -> Reply:
    """Replies with that answer as JSON."""
    return lambda handler, body: send(handler, completion(json.dumps(answer)))


@contextmanager
def serving(*replies: Reply) -> Iterator[tuple[str, list[dict]]]:
    """A server that gives these replies in turn, the last one for ever; its URL and the requests it saw."""
    seen: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
            replies[min(len(seen), len(replies)) - 1](self, body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()


def endpoint(url: str, waits: list[float] | None = None, **config: object) -> Endpoint:
    waits = [] if waits is None else waits
    return Endpoint(url, "small", key="secret", config=EndpointConfig(**config), sleep=waits.append)


class TestEndpoint:
    def test_speaks_chat_completions_with_schema_and_key_and_counts_tokens(self):
        with serving(lambda handler, body: send(handler, completion("hi"))) as (url, seen):
            answer = endpoint(url).answer(ASKED, schema={"type": "object"})
        assert (answer.text, answer.read, answer.written, answer.attempts) == ("hi", 11, 7, 1)
        assert seen[0]["path"] == "/v1/chat/completions" and seen[0]["key"] == "Bearer secret"
        assert seen[0]["messages"] == [{"role": "user", "content": "hello"}]
        assert seen[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}

    def test_the_key_is_in_no_description(self):
        known = endpoint("http://127.0.0.1:1/v1")
        assert "secret" not in repr(known) and "secret" not in json.dumps(known.describe())

    def test_waits_as_a_rate_limit_says_and_tries_again(self):
        waits: list[float] = []
        limited = lambda handler, body: send(handler, b"slow down", 429, Retry_After="2.5")  # noqa: E731
        with serving(limited, limited, lambda handler, body: send(handler, completion("ok"))) as (url, seen):
            assert endpoint(url, waits).answer(ASKED).attempts == 3
        assert all(wait >= 2.5 for wait in waits) and len(waits) == 2 and len(seen) == 3

    def test_an_endpoint_without_schemas_is_asked_without_from_then_on(self):
        refuses = lambda handler, body: send(handler, b'{"error": "unknown field response_format"}', 400)  # noqa: E731
        with serving(refuses, lambda handler, body: send(handler, completion("ok"))) as (url, seen):
            model = endpoint(url)
            assert model.answer(ASKED, schema={"type": "object"}).text == "ok"
            model.answer(ASKED, schema={"type": "object"})
        assert ["response_format" in request for request in seen] == [True, False, False]
        assert model.describe()["structured"] is False

    @pytest.mark.parametrize(
        ("reply", "message", "attempts"),
        [
            (lambda handler, body: send(handler, b"no such model", 404), "HTTP 404: no such model", 1),
            (lambda handler, body: send(handler, b"oops", 500), "HTTP 500: oops", 3),
            (lambda handler, body: send(handler, b"<html>"), "no chat completion: <html>", 3),
            (lambda handler, body: send(handler, b'{"choices": []}'), "no chat completion", 3),
            (lambda handler, body: send(handler, completion(None, refusal="I cannot")), "refuses: I cannot", 1),
            (lambda handler, body: send(handler, b"x" * (2 << 20)), "too long", 1),
        ],
    )
    def test_what_is_no_answer_is_said_and_only_what_passes_is_tried_again(self, reply, message, attempts):
        with serving(reply) as (url, seen), pytest.raises(EpisodeError, match=message):
            endpoint(url, retries=2).answer(ASKED)
        assert len(seen) == attempts

    def test_a_slow_stream_does_not_outlast_the_time_allowed(self):
        def drip(handler: BaseHTTPRequestHandler, body: dict) -> None:
            handler.send_response(200)
            handler.end_headers()
            for _ in range(100):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                threading.Event().wait(0.05)

        with serving(drip) as (url, _), pytest.raises(EpisodeError, match=r"too slow|Timeout"):
            endpoint(url, timeout=0.4, retries=0).answer(ASKED)

    def test_an_answer_that_was_cut_off_is_told_so(self):
        body = json.loads(completion('{"subtask": "reach'))
        body["choices"][0]["finish_reason"] = "length"
        replies = [lambda handler, _: send(handler, json.dumps(body).encode()), says({})]
        with serving(*replies) as (url, seen):
            talk = Conversation(endpoint(url), attempts=2)
            talk.ask(ASKED, None, lambda text: Reading(value=first_object(text)))
        assert (
            "no JSON object" in seen[1]["messages"][-1]["content"] and "too long" in seen[1]["messages"][-1]["content"]
        )

    @pytest.mark.hub
    def test_a_server_of_llama_cpp_holds_the_answer_to_the_schema(self, tmp_path):
        xllamacpp = pytest.importorskip("xllamacpp", reason="pip install xllamacpp to speak with llama.cpp")
        try:
            weights = fetch_source(LANGUAGE, tmp_path)
        except ConfigError as error:
            pytest.skip(f"the original file cannot be fetched: {error}")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(weights)
        parameters.n_ctx, parameters.n_parallel, parameters.warmup, parameters.verbosity = 256, 1, False, -1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        server = xllamacpp.Server(parameters)
        schema = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"]}
        model = Endpoint(f"{server.listening_address}/v1", "smollm2", config=EndpointConfig(most_tokens=12))
        answer = model.answer(ASKED, schema=schema)
        assert re.match(r'\{\s*"ready"', answer.text) and answer.attempts == 1, "hello would be answered otherwise"
        assert answer.read and answer.written and model.describe()["structured"] is True

    def test_nobody_there(self):
        with pytest.raises(EpisodeError, match="gave no answer in 2 attempts: ConnectError"):
            endpoint("http://127.0.0.1:9/v1", retries=1).answer(ASKED)
        with pytest.raises(ConfigError, match="begins with http"):
            endpoint("127.0.0.1:9")


GOOD = {"goal_object": "red cube", "vias": [{"at_fraction": 0.5, "axis": "z", "clearance_m": 0.08}]}


class TestRequest:
    def test_is_found_among_prose_and_fences(self):
        text = f"Sure! {{not json}} Here:\n```json\n{json.dumps(GOOD)}\n``` {{}}"
        assert read_request(text, ["red cube"]).request.vias == (Via(at_fraction=0.5, axis="z", clearance_m=0.08),)

    def test_numbers_out_of_range_are_clamped_and_named(self):
        asked = {**GOOD, "speed_m_s": 5, "goal_offset_m": [0, 0, 2.0],
                 "rhythmic": {"axis": "x", "amplitude_m": 1.0, "period_s": 2.0, "cycles": 3}}  # fmt: skip
        found = read_request(json.dumps(asked), ["red cube"])
        assert found.request.speed_m_s == 0.3 and found.request.goal_offset_m == (0, 0, 0.3)
        assert found.request.rhythmic == Rhythm(axis="x", amplitude_m=0.1, period_s=2.0, cycles=3)
        assert set(found.clamped) == {
            "speed_m_s was 5, taken as 0.3",
            "goal_offset_m.2 was 2, taken as 0.3",
            "rhythmic.amplitude_m was 1, taken as 0.1",
        }

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("I would rather not.", "no JSON object in the answer 'I would"),
            ('{"goal_object": "red cub"}', "Did you mean 'red cube'"),
            ('{"goal_object": "red cube", "speeed": 1}', "speeed"),
            (
                '{"goal_object": "red cube", "vias": [{"at_fraction": 0.5, "axis": "w", "clearance_m": 0}]}',
                "vias.0.axis",
            ),
            ('{"goal_object": "red cube", "speed_m_s": NaN}', "speed_m_s"),
            ('{"goal_object": 3}', "goal_object"),
            ("{" * 5000, "no JSON object"),
        ],
    )
    def test_what_is_wrong_is_said_in_words_for_the_model(self, text, message):
        with pytest.raises(ConfigError, match=message):
            read_request(text, ["red cube", "blue bowl"])


OBJECTS = {"red cube": NamedObject(position=np.array([0.15, 0.05, 0.02]), size=np.array([0.03, 0.03, 0.03]))}
BOX = Box(low=np.array([-0.25, -0.25, 0.01]), high=np.array([0.25, 0.25, 0.25]))
HAND = np.array([-0.15, 0.0, 0.1])


def followed_to_the_end(request: MotionRequest, *, moved: np.ndarray | None = None) -> tuple[np.ndarray, Follower]:
    """The hand follows exactly. moved: where the object is from the first quarter on."""
    plan = plan_request(request, HAND, OBJECTS, BOX)
    follower, hand, path = Follower(plan, Patience(), closed=False), HAND, []
    for number in range(5000):
        there = OBJECTS if moved is None or number < 10 else {"red cube": NamedObject(position=moved, size=np.zeros(3))}
        hand = follower.step(hand, plan.goal(there), 0.05)
        path.append(hand)
        if follower.finished:
            break
    return np.array(path), follower


class TestMotion:
    def test_goes_to_the_object_passes_the_via_point_and_closes_at_the_end(self):
        request = MotionRequest(goal_object="red cube", vias=(Via(at_fraction=0.5, axis="y", clearance_m=0.1),),
                                gripper=({"event": "close"},))  # fmt: skip
        path, follower = followed_to_the_end(request)
        assert follower.finished and follower.closed
        assert np.linalg.norm(path[-1] - OBJECTS["red cube"].position) < 0.008
        assert path[:, 1].max() > 0.1
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 0.05, "no jumps"

    def test_an_object_that_moves_away_is_tracked_without_a_jump(self):
        place = np.array([0.1, -0.15, 0.02])
        path, follower = followed_to_the_end(MotionRequest(goal_object="red cube"), moved=place)
        still, _ = followed_to_the_end(MotionRequest(goal_object="red cube"))
        assert follower.finished and np.linalg.norm(path[-1] - place) < 0.008
        jump, usual = (np.linalg.norm(np.diff(each, axis=0), axis=1).max() for each in (path, still))
        assert jump < 2 * usual

    def test_swings_after_arrival_as_often_as_told(self):
        rhythm = Rhythm(axis="x", amplitude_m=0.03, period_s=1.0, cycles=4)
        path, _ = followed_to_the_end(MotionRequest(goal_object="red cube", rhythmic=rhythm))
        aside = path[:, 0] - OBJECTS["red cube"].position[0]
        swings = aside[np.abs(path[:, 1] - 0.05) < 2e-3]
        assert abs(np.abs(swings).max() - 0.03) < 0.003
        assert 7 <= (np.diff(np.sign(swings[np.abs(swings) > 0.01])) != 0).sum() <= 8

    def test_a_goal_out_of_reach_is_refused_with_the_distance(self):
        with pytest.raises(ConfigError, match=r"20\.0 cm outside the workspace"):
            plan_request(MotionRequest(goal_object="red cube", goal_offset_m=(0.3, 0.0, 0.0)), HAND, OBJECTS, BOX)
        with pytest.raises(ConfigError, match="Did you mean 'red cube'"):
            plan_request(MotionRequest(goal_object="redcube"), HAND, OBJECTS, BOX)


class TestRawWeights:
    def zeros(self, **rows: list[float]) -> dict:
        order = ("x", "y", "z", "yaw", "gripper")
        return {"weights": [rows.get(name, [0.0] * 11) for name in order], "angle": 0.0, "height": 0.05}

    def test_moves_as_the_published_program(self):
        """Peaks and end errors of weights in that program, measured by somebody else's code on its equations, in cm."""
        response = arm_response()
        s = np.linspace(0, 1, 1001)
        rows = response.at(torch.tensor(s))[:, 3:].numpy()
        measured = (
            ([0], 0.5, 3.4, 0), ([1], 0.5, 6.8, 0.01), ([4], 0.5, 5.1, 0.16), ([7], 0.5, 1.5, 0.54),
            ([0, 1, 2, 3], 0.9, 27.9, 0.23), ([7, 8, 9, 10], 0.9, 3.4, 2.4),
        )  # fmt: skip
        for indices, weight, peak, end in measured:
            path = 100 * rows[:, indices].sum(1) * 20 * weight
            assert path.max() == pytest.approx(peak, abs=0.15) and path[-1] == pytest.approx(end, abs=0.1)
        assert crossing((0.0,) * 11, closes=True) == pytest.approx(0.13, abs=0.01)

    def test_a_plan_ends_above_the_object(self):
        request = read_weights(json.dumps(self.zeros(y=[0.5] + [0.0] * 10)))
        plan = plan_raw(request, "red cube", HAND, OBJECTS, BOX, closes=False, duration=4.0)
        moment = begin(plan)
        (moment,) = followed(plan, moment, plan.goal(OBJECTS), [8.0])
        assert np.abs(commanded(plan, moment) - OBJECTS["red cube"].position - [0, 0, 0.05]).max() < 0.002

    @pytest.mark.parametrize(
        ("change", "message"),
        [({"weights": [[0.0] * 11] * 4}, "weights"), ({"angle": "left"}, "angle"), ({"speed": 1}, "speed")],
    )
    def test_wrong_answers_are_refused(self, change, message):
        with pytest.raises(ConfigError, match=message):
            read_weights(json.dumps({**self.zeros(), **change}))
        assert isinstance(read_weights(json.dumps(self.zeros())), RawRequest)


PICK = {  # what a good model would answer for "put the red cube into the bowl", by how many motions were made
    0: {"goal_object": "red cube", "speed_m_s": 0.3, "vias": [{"at_fraction": 0.9, "axis": "z", "clearance_m": 0.05}],
        "gripper": [{"event": "open", "at_fraction": 0.0}, {"event": "close"}]},
    1: {"goal_object": "red cube", "goal_offset_m": [0, 0, 0.12], "speed_m_s": 0.3},
    2: {"goal_object": "yellow bowl", "goal_offset_m": [0, 0, 0.12], "speed_m_s": 0.3},
    3: {"goal_object": "yellow bowl", "goal_offset_m": [0, 0, 0.05], "speed_m_s": 0.3, "gripper": [{"event": "open"}]},
}  # fmt: skip


def scripted(handler: BaseHTTPRequestHandler, body: dict) -> None:
    """Stands in for a model in this test only: it knows the answers and counts the motions it is told of."""
    asked = body["messages"][1]["content"]
    send(handler, completion(json.dumps(PICK.get(asked.count("\n- to "), {"done": True}))))


def policy(url: str, exchanges: list, **config: object) -> LanguagePrimitives:
    return led_by(endpoint(url, retries=0), journal=exchanges.append, **config)


def led_by(
    model: LanguageModel, *, judge: Judge | None = None, confirm: Callable[[str], str | None] | None = None,
    journal: Callable[[Exchange], None] | None = None, **config: object,
) -> LanguagePrimitives:  # fmt: skip
    """In `tabletop`, told what stands where, one question per motion unless `config` says otherwise."""
    return LanguagePrimitives(
        LanguagePrimitives.Config(**{"decompose": False, **config}), model, SimulatorPerception(),
        spec=Tabletop("push").spec, workspace=Workspace(low=LOW, high=HIGH), judge=judge, confirm=confirm,
        journal=journal,
    )  # fmt: skip


def run(
    actor: Actor, task: str = "pick-place-red", seed: int = 3, steps: int = 800,
    cameras: Mapping[str, int] | None = None, instruction: str | None = None,
) -> Episode:  # fmt: skip
    env = make_env(f"tabletop/{task}", cameras=cameras or {})
    try:
        name = f"tabletop/{task}"
        job = Job(task=name, seed=seed, arm="language", max_steps=steps, instruction=instruction)
        return run_episode(env, actor, job)
    finally:
        env.close()


class TestPolicy:
    def test_puts_a_cube_into_a_bowl_by_parameters_alone(self):
        exchanges: list[Exchange] = []
        with serving(scripted) as (url, seen):
            episode = run(policy(url, exchanges))
        assert episode.success and episode.privileged == ("simulator state: names, places and sizes of objects",)
        assert sum(episode.evaluations) == len(seen) == len(exchanges) <= 5
        assert all(exchange.read == 11 and exchange.written == 7 for exchange in exchanges)
        assert "put the red cube into the bowl" in exchanges[0].asked and "- red cube: centre" in exchanges[0].asked

    def test_what_was_wrong_goes_back_to_the_model_which_may_mend_it(self):
        wrong = lambda handler, body: send(handler, completion('{"goal_object": "red cub"}'))  # noqa: E731
        exchanges: list[Exchange] = []
        with serving(wrong, scripted) as (url, seen):
            assert run(policy(url, exchanges)).success
        assert "Did you mean 'red cube'" in exchanges[0].complaint and not exchanges[1].complaint
        assert seen[1]["messages"][-1]["content"] == exchanges[0].complaint

    @pytest.mark.parametrize(
        "reply",
        [lambda handler, body: send(handler, b"down", 503), lambda handler, body: send(handler, completion("no"))],
    )
    def test_without_a_usable_answer_it_holds_still_and_the_episode_is_a_failure(self, reply):
        with serving(scripted, reply) as (url, _):
            episode = run(policy(url, []), steps=200)
        assert episode.outcome is Outcome.TIME_OUT and episode.error is None
        assert episode.trajectory is not None
        assert np.abs(episode.trajectory.actions[-40:, :3]).max() == 0

    def test_a_turn_that_the_hand_cannot_make_is_refused_to_the_model(self):
        model = Says({**PICK[0], "yaw_rad": 0.5}, {"done": True})
        run(led_by(model), steps=4)
        assert model.told[1] == "This hand cannot turn: yaw_rad must be 0, got 0.5."
        turned = {"weights": [[0.0] * 11] * 3 + [[0.1] + [0.0] * 10, [0.0] * 11], "angle": 0.0}
        model = Says({"subtask": "reach", "object": "red cube"}, turned, {**turned, "angle": 1.0})
        run(led_by(model, raw=True, decompose=True), steps=4)
        assert all("angle and the weights of the yaw row must be 0" in told for told in model.told[2:4])

    @pytest.mark.parametrize("instruction", ["lege den roten Würfel in die Schüssel", "赤い立方体をボウルに入れて"])
    def test_an_instruction_in_another_language_is_the_models_to_understand(self, instruction):
        refusal = "Ich verstehe diese Aufgabe nicht."
        with serving(lambda handler, body: send(handler, completion(refusal))) as (url, seen):
            episode = run(policy(url, []), steps=4, instruction=instruction)
        assert f"Task: {instruction}\n" in seen[0]["messages"][1]["content"]
        assert episode.error is None and episode.outcome is Outcome.TIME_OUT
        assert "No usable answer in 3 attempts" in episode.thoughts[-1].words["trouble"]

    def test_an_empty_instruction_is_a_failure_and_asks_nobody(self):
        model = Says()
        episode = run(led_by(model), steps=4, instruction="  ")
        assert episode.outcome is Outcome.TIME_OUT and not model.told
        assert episode.thoughts[0].words["trouble"] == "The instruction is empty."

    def test_a_thing_in_the_hand_is_no_goal_that_runs_away(self):
        episode = run(led_by(Says(PICK[0], {**PICK[1], "goal_offset_m": [0, 0, 0.06]})), steps=400)
        assert episode.trajectory is not None and episode.tracks["object_lifted"].high > 0.05
        assert abs(episode.trajectory.proprioception[-1, 2] - 0.072) < 0.012

    def test_asks_for_sub_tasks_first_where_told_to(self):
        chosen = {"subtask": "reach", "object": "red cube", "note": "nothing in the way"}
        replies = [says(answer) for answer in (chosen, PICK[0], {"subtask": "done", "object": ""})]
        exchanges: list[Exchange] = []
        with serving(*replies) as (url, seen):
            run(policy(url, exchanges, decompose=True), steps=300)
        assert "Sub-task: reach red cube. nothing in the way" in exchanges[1].asked
        assert "- reach red cube" in exchanges[2].asked and len(seen) == 3
        assert [request["response_format"]["json_schema"]["schema"]["title"] for request in seen] == [
            "SubTask", "MotionRequest", "SubTask",
        ]  # fmt: skip

    def test_published_weights_drive_it_too(self):
        still = {"weights": [[0.0] * 11] * 4 + [[-0.9] * 5 + [0.9] * 6], "angle": 0, "height": 0}
        chosen = {"subtask": "reach", "object": "red cube", "note": ""}
        replies = [says(answer) for answer in (chosen, still, {"subtask": "done", "object": ""})]
        with serving(*replies) as (url, _):
            episode = run(policy(url, [], raw=True, decompose=True), steps=150)
        assert episode.outcome is Outcome.TIME_OUT and episode.tracks["hand_to_object"].low < 0.02

    def test_a_new_instruction_begins_anew(self):
        """Also after the model has said that the old one is done."""
        model = Says(PICK[0], {"done": True}, PICK[0])
        actor, env = led_by(model), make_env("tabletop/pick-place-red", cameras={})
        env.reset(3)
        actor.reset(3)
        actor.bind(env)
        for word in ("first", "second"):
            for _ in range(150):
                chunk = actor.act(replace(env.observe(images=False), instruction=word))
                for action in chunk.actions[: chunk.execute]:
                    env.step(action)
        env.close()
        assert ["Task: first" in told for told in model.told] == [True, True, False, False]
        assert "- to red cube" in model.told[1] and "- to red cube" not in model.told[2]

    def test_worlds_and_robots_that_do_not_fit_are_refused(self):
        actor = policy("http://127.0.0.1:9", [])
        toy = make_env("toy/reach-red", cameras={})
        with pytest.raises(ConfigError, match="does not name its objects"):
            actor.bind(toy)
        with pytest.raises(ConfigError, match="as position or change of position"):
            LanguagePrimitives(
                actor.config,
                endpoint("http://x"),
                SimulatorPerception(),
                spec=toy.spec,
                workspace=Workspace(low=LOW, high=HIGH),
            )
        with pytest.raises(ConfigError, match="name no goal object"):
            LanguagePrimitives.Config(raw=True, decompose=False)


class Says(LanguageModel):
    """Gives the answers in turn and remembers what it was told."""

    def __init__(self, *answers: object) -> None:
        self.told: list[str] = []
        self._answers = iter(answers)

    def answer(self, messages: Sequence[Message], *, schema: Mapping[str, object] | None = None) -> Answer:
        self.told.append(messages[-1].text)
        return Answer(text=json.dumps(next(self._answers, {"done": True})), read=10, written=5, seconds=0.0)

    def describe(self) -> dict[str, object]:
        return {"model": "answers in turn"}


@pytest.fixture(scope="module")
def table() -> Iterator[Tabletop]:
    env = Tabletop("pick-place-red", cameras={})
    yield env
    env.close()


def thing(x: float, y: float, z: float = 0.012, *, size: tuple[float, float, float] = (0.024,) * 3) -> NamedObject:
    return NamedObject(position=np.array([x, y, z]), size=np.array(size))


BOWL = thing(0.1, 0.1, 0.0, size=(0.106, 0.106, 0.025))


class TestCritic:
    """On places that are put into the simulator's mouth."""

    def judged(
        self, table: Tabletop, tried: Tried, *course: tuple[Situation, float], advice: str = "directions", seed: int = 0
    ) -> Verdict:
        judge = ScriptedJudge(advice)
        judge.bind(table, seed)
        for number, (now, share) in enumerate(course):
            table.named_objects = lambda now=now: dict(now.objects)  # type: ignore[method-assign]
            if not number:
                judge.begin(tried, now)
            judge.watch(now, share)
        del table.named_objects
        return judge.judge(Conversation(Says(), attempts=1))

    def reach(self, hand: Sequence[float]) -> Tried:
        return Tried(kind="reach", object="red cube", words="", closes=True, goal=np.array(hand))

    def now(self, *hand: float, closed: bool, **objects: NamedObject) -> Situation:
        named = {name.replace("_", " "): each for name, each in objects.items()}
        return Situation(hand=np.array(hand), closed=closed, objects=named)

    def test_a_grip_beside_the_thing_is_corrected_by_direction_and_time(self, table):
        before = self.now(0.0, 0.0, 0.14, closed=False, red_cube=thing(0.1, 0.0))
        early = self.now(0.02, 0.0, 0.1, closed=True, red_cube=thing(0.1, 0.0))
        after = self.now(0.08, 0.0, 0.012, closed=True, red_cube=thing(0.1, 0.0))
        verdict = self.judged(table, self.reach(after.hand), (before, 0.0), (early, 0.3), (after, 1.0))
        assert not verdict.success and verdict.again
        assert verdict.correction() == (
            "The red cube is not gripped: 2.0 cm further to the right (x +0.020 m) at the end of the motion; close the "
            "gripper later, after arrival."
        )
        held = self.now(0.1, 0.0, 0.014, closed=True, red_cube=thing(0.1, 0.0))
        assert self.judged(table, self.reach(held.hand), (before, 0.0), (held, 1.0)).success

    def test_a_thing_that_slips_or_falls_beside_its_place_needs_another_motion(self, table):
        begun = self.now(0.0, 0.0, 0.1, closed=True, red_cube=thing(0.0, 0.0, 0.1), yellow_bowl=BOWL)
        carry = Tried(kind="carry", object="yellow bowl", words="", closes=None, goal=np.array([0.1, 0.1, 0.12]))
        lost = self.now(0.1, 0.1, 0.12, closed=True, red_cube=thing(0.05, 0.0), yellow_bowl=BOWL)
        verdict = self.judged(table, carry, (begun, 0.0), (lost, 1.0))
        assert not verdict.success and not verdict.again and "slipped" in verdict.problem
        short = self.now(0.03, 0.1, 0.12, closed=True, red_cube=thing(0.03, 0.1, 0.12), yellow_bowl=BOWL)
        verdict = self.judged(table, replace(carry, goal=short.hand), (begun, 0.0), (short, 1.0))
        assert [each.words() for each in verdict.changes] == [
            "7.0 cm further to the right (x +0.070 m) at the end of the motion"
        ]
        release = replace(carry, kind="release", closes=False, goal=short.hand)
        fallen = self.now(0.03, 0.1, 0.12, closed=False, red_cube=thing(0.03, 0.1), yellow_bowl=BOWL)
        verdict = self.judged(table, release, (short, 0.0), (fallen, 1.0))
        assert not verdict.again and "7.0 cm further to the right" in verdict.problem
        inside = self.now(0.1, 0.1, 0.12, closed=False, red_cube=thing(0.09, 0.11), yellow_bowl=BOWL)
        assert self.judged(table, replace(release, goal=inside.hand), (short, 0.0), (inside, 1.0)).success

    def test_the_controls_say_as_much_and_mean_nothing(self, table):
        before = self.now(0.0, 0.0, 0.14, closed=False, red_cube=thing(0.1, 0.0))
        after = self.now(0.08, 0.0, 0.012, closed=True, red_cube=thing(0.1, 0.0))
        course = (before, 0.0), (after, 1.0)
        told = self.judged(table, self.reach(after.hand), *course)
        drawn = [self.judged(table, self.reach(after.hand), *course, advice="random", seed=seed) for seed in range(20)]
        assert all(not each.success and len(each.changes) == len(told.changes) for each in drawn)
        assert all(abs(each.changes[0].metres) == pytest.approx(0.02) for each in drawn)
        assert len({each.changes for each in drawn}) > 8
        again = self.judged(table, self.reach(after.hand), *course, advice="random", seed=3)
        assert again == drawn[3]
        bare = self.judged(table, self.reach(after.hand), *course, advice="bare")
        assert bare.correction() == "That is not right: try again."
        with pytest.raises(ConfigError, match="Did you mean 'random'"):
            ScriptedJudge("randm")

    @pytest.mark.parametrize(("height", "axis", "off"), [(0.24, "y", 0.03), (0.24, "y", -0.03), (0.05, "z", 0.0)])
    def test_what_a_motion_would_touch_is_said_before_it_moves_and_the_advice_holds(self, table, height, axis, off):
        post = thing(0.0, off, height / 2, size=(0.03, 0.03, height))
        objects = {"red cube": thing(0.15, 0.0), "post": post}
        table.named_objects = lambda: objects  # type: ignore[method-assign]
        judge, hand = ScriptedJudge(), np.array([-0.15, 0.0, 0.05])
        judge.bind(table, 0)
        now = Situation(hand=hand, closed=False, objects=objects)
        plan = plan_request(MotionRequest(goal_object="red cube"), hand, objects, BOX)
        tried = self.reach(plan.goal(objects))
        verdict = judge.preview(tried, foresee(plan, objects), now)
        (change,) = verdict.changes
        assert not verdict.success and "the post" in verdict.problem and isinstance(change, Shift)
        assert "xyz"[change.axis] == axis and change.phase == "in the middle of"
        assert change.axis == 2 or np.sign(change.metres) == -np.sign(off), "past it on the nearer side"
        via = Via(at_fraction=0.5, axis=axis, clearance_m=change.metres)
        mended = plan_request(MotionRequest(goal_object="red cube", vias=(via,)), hand, objects, BOX)
        off_the_post = foresee(mended, objects).points[:, :2] - post.position[:2]
        assert change.axis == 2 or np.abs(off_the_post).max(1).min() > 0.04
        del table.named_objects


WRONG = {**PICK[0], "goal_offset_m": [0.03, 0.0, 0.0]}


class TestCorrections:
    def run(self, model: LanguageModel, *, corrections: int, steps: int = 800, **more: Any) -> Episode:
        return run(led_by(model, corrections=corrections, judge=ScriptedJudge(), **more), steps=steps)

    @pytest.mark.parametrize(
        ("change", "advice", "when"),
        [
            ({"goal_offset_m": [0.03, 0.0, 0.0]}, "would close beside the red cube: 3.0 cm further to the left", "not"),
            ({"vias": []}, "would push the red cube away: ", "not"),
            ({"gripper": [{"event": "close", "at_fraction": 0.2}]}, "close the gripper later, after arrival", ""),
        ],
    )
    def test_a_correction_goes_back_with_the_answer_it_is_about_and_is_counted(self, change, advice, when):
        model = Says({**PICK[0], **change}, PICK[0], PICK[1], PICK[2], PICK[3])
        episode = self.run(model, corrections=2)
        assert advice in model.told[1] and f"The motion was {when} carried out".replace("  ", " ") in model.told[1]
        assert episode.success and corrections_used(episode.thoughts) == 1
        assert "scripted critic: simulator state, before and after every motion" in episode.privileged
        fresh = [thought for thought in episode.thoughts if thought.ages.get("correction") == 0]
        assert len(fresh) == 1 and fresh[0].words["correction"].startswith("1: The ")
        assert sum(thought.tokens for thought in episode.thoughts) == 5 * len(model.told)

    def test_no_more_corrections_than_allowed_and_what_failed_is_told_with_the_next_question(self):
        model = Says(WRONG, WRONG, {"done": True})
        episode = self.run(model, corrections=1, steps=250)
        assert not episode.success and corrections_used(episode.thoughts) == 1 and len(model.told) == 3
        assert "- to red cube, open gripper, close gripper (failed: The red cube is not gripped)" in model.told[2]

    def test_a_person_is_asked_first_and_may_correct_or_refuse(self):
        answers = iter(["a little higher", "", None])
        asked: list[str] = []

        def confirm(words: str) -> str | None:
            asked.append(words)
            return next(answers)

        model = Says(PICK[0], PICK[0], PICK[1])
        episode = self.run(model, corrections=1, steps=250, confirm=confirm)
        assert "a little higher" in model.told[1] and "was not carried out" in model.told[1]
        assert len(asked) == 3 and "close the gripper after arrival" in asked[0] and not episode.success
        assert "trouble" not in episode.thoughts[-1].words

    def test_the_model_itself_may_judge_by_what_the_policy_sees(self):
        failed = {"success": False, "problem": "gripped beside it", "correction": "3 cm to the left"}
        model = Says(WRONG, {"success": False}, failed, PICK[0], {"success": True}, {"done": True})
        episode = run(led_by(model, corrections=2, judge=ModelJudge()), steps=300)
        assert "Before:\n- red cube: (0.118, 0.022, 0.012)" in model.told[1] and "gripper closed" in model.told[1]
        assert "needs a correction" in model.told[2] and "gripped beside it: 3 cm to the left." in model.told[3]
        assert "(failed" not in model.told[5] and corrections_used(episode.thoughts) == 1
        assert episode.privileged == ("simulator state: names, places and sizes of objects",)

    def test_things_that_vanish_under_way_break_nothing(self):
        class Magician(SimulatorPerception):
            def objects(self, observation: Observation) -> Mapping[str, NamedObject]:
                seen = dict(super().objects(observation))
                return {} if observation.time > 1 else seen

        actor = LanguagePrimitives(
            LanguagePrimitives.Config(decompose=False), Says(PICK[0]), Magician(), spec=Tabletop("push").spec,
            workspace=Workspace(low=LOW, high=HIGH),
        )  # fmt: skip
        episode = run(actor, steps=60)
        assert episode.error is None and "in sight" in episode.thoughts[-1].words["trouble"]

    def test_corrections_and_who_gives_them_go_together(self):
        config, spec = LanguagePrimitives.Config(corrections=2), Tabletop("push").spec
        with pytest.raises(ConfigError, match="2 corrections need a judge"):
            LanguagePrimitives(
                config, Says(), SimulatorPerception(), spec=spec, workspace=Workspace(low=LOW, high=HIGH)
            )
