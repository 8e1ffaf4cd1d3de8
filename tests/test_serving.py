"""A policy behind a real socket: the same chunks as without it, and nothing that a stranger sends brings it down."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from volar.core.errors import ConfigError, EpisodeError
from volar.core.robot import Job, Outcome
from volar.core.wire import pack, unpack
from volar.envs.controls import RandomActor
from volar.envs.rollout import run_episode
from volar.envs.toy import Toy
from volar.serving.client import RemoteActor
from volar.serving.server import PolicyServer

SPEC = Toy("reach-red").spec
JOB = Job(task="toy/reach-red", seed=3, arm="served", max_steps=12, frames="looks")


class Looking(RandomActor):
    uses_images = True

    def act(self, observation):
        if observation.instruction == "break":
            raise LookupError("no such drawer")
        return super().act(observation)


@pytest.fixture
def server():
    with PolicyServer(lambda: Looking(SPEC, execute=4), robot=SPEC, card={"name": "random"}) as running:
        yield running


def test_an_episode_over_the_socket_is_the_episode_without_it(server):
    env = Toy("reach-red")
    here = run_episode(env, Looking(SPEC, execute=4), JOB)
    there = run_episode(env, RemoteActor(server.url), JOB)
    assert np.array_equal(here.trajectory.actions, there.trajectory.actions)
    assert (here.outcome, here.steps, here.first_observation) == (there.outcome, there.steps, there.first_observation)


def test_the_card_says_what_the_policy_expects(server):
    actor = RemoteActor(server.url)
    assert actor.robot == SPEC and actor.uses_images and actor.card["name"] == "random"


def test_connections_do_not_share_their_random_numbers(server):
    first, second = RemoteActor(server.url), RemoteActor(server.url)
    observation = Toy("reach-red")
    observation.reset(0)
    seen = observation.observe()
    first.reset(1)
    alone = [first.act(seen).actions for _ in range(2)]
    first.reset(1)
    second.reset(2)
    mixed = []
    for _ in range(2):
        mixed.append(first.act(seen).actions)
        second.act(seen)
    assert np.array_equal(alone, mixed)


def test_what_the_policy_raises_costs_one_episode(server):
    actor = RemoteActor(server.url)
    episode = run_episode(Toy("reach-red"), actor, replace(JOB, instruction="break"))
    assert episode.outcome is Outcome.ERROR and "no such drawer" in episode.error
    assert run_episode(Toy("reach-red"), actor, JOB).outcome is not Outcome.ERROR


@pytest.mark.parametrize("data", [
    b"", b"\xc1", msgpack.packb([1, 2]), msgpack.packb({"type": "reset", "seed": -1}),
    msgpack.packb({"state": 3, "prompt": "x"}),
    msgpack.packb({"state": {"__ndarray__": True, "data": b"1234", "dtype": "<f4", "shape": [99999999]}, "prompt": ""}),
    msgpack.packb({"state": {"__ndarray__": True, "data": b"12345678", "dtype": "|O", "shape": [1]}, "prompt": ""}),
    pack({"state": np.zeros(2), "prompt": 5}),
    pack({"state": np.zeros(2), "prompt": "x", "images": {"top": np.zeros((2, 2))}}),
])  # fmt: skip
def test_a_bad_message_gets_an_answer_and_the_next_one_is_served(server, data):
    with connect(server.url, compression=None) as stranger:
        unpack(stranger.recv())
        stranger.send(data)
        assert "error" in unpack(stranger.recv(timeout=10))
        stranger.send("text")
        assert "binary" in unpack(stranger.recv(timeout=10))["error"]
        stranger.send(pack({"type": "reset", "seed": 1}))
        assert unpack(stranger.recv(timeout=10)) == {"ok": True}


def test_an_unmodified_openpi_client_is_understood(server):
    """openpi writes the keys of its arrays as bytes and sends no type."""

    def array(value):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}

    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    message = {"images": {"top": array(picture)}, "state": array(np.zeros(2)), "prompt": "reach the red disc"}
    with connect(server.url, compression=None) as client:
        client.recv()
        client.send(msgpack.packb(message))
        answer = msgpack.unpackb(client.recv(timeout=10), raw=True)
    assert answer[b"actions"][b"shape"] == [4, 2]


def test_token_is_asked_for_and_strangers_are_refused():
    with PolicyServer(lambda: Looking(SPEC), robot=SPEC, card={}, token="secret") as guarded:
        assert RemoteActor(guarded.url, token="secret").robot == SPEC
        for token in (None, "wrong"):
            with pytest.raises(ConfigError, match="401"):
                RemoteActor(guarded.url, token=token)
        with pytest.raises(InvalidStatus):
            connect(guarded.url)
    with pytest.raises(ConfigError, match="give a token"):
        PolicyServer(lambda: Looking(SPEC), robot=SPEC, card={}, host="0.0.0.0")


def test_health_is_told_over_http(server):
    with urllib.request.urlopen(server.url.replace("ws://", "http://") + "/healthz", timeout=10) as answer:
        assert answer.read() == b"OK\n"


def test_nobody_there_or_somebody_else():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ConfigError, match="volar serve"):
            RemoteActor(f"ws://127.0.0.1:{free.getsockname()[1]}", timeout=5.0)


def test_a_stalling_or_vanished_server_ends_the_episode_and_not_the_run():
    class Slow(Looking):
        def act(self, observation):
            time.sleep(2)
            return super().act(observation)

    slow = PolicyServer(lambda: Slow(SPEC), robot=SPEC, card={})
    with slow:
        actor = RemoteActor(slow.url, timeout=0.5)
        episode = run_episode(Toy("reach-red"), actor, JOB)
        assert episode.outcome is Outcome.ERROR and "did not answer" in episode.error
        again = run_episode(Toy("reach-red"), actor, JOB)
        assert "did not answer" in again.error, "it connected anew, and waited again"


@given(st.binary(max_size=200))
@example(b"\x81\x00\x00")  # a map whose key is a number
@settings(deadline=None, max_examples=300)
def test_garbage_is_an_episode_error_or_a_message(data):
    with contextlib.suppress(EpisodeError):
        assert isinstance(unpack(data), dict)


@pytest.mark.parametrize("value", [
    np.float32(1.5), np.arange(6, dtype=np.uint8).reshape(1, 2, 3), np.zeros((0, 4)), True, "text", [1, {"a": 2.5}],
])  # fmt: skip
def test_what_is_packed_comes_back(value):
    back = unpack(pack({"value": value}))["value"]
    if isinstance(value, np.ndarray):
        assert back.dtype == value.dtype and np.array_equal(back, value)
    else:
        assert np.asarray(back).tolist() == np.asarray(value).tolist() if np.isscalar(value) else back == value


def test_neither_side_needs_torch():
    code = "import sys, volar.serving.client, volar.serving.server; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
