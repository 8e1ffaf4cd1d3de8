"""A policy that acts on its newest finished thought while the next one is being thought (the asynchronous part of Fast
ECoT, arXiv 2506.07639). Not real-time control of chunks: each chunk is still waited for, its words are not."""

import time
from concurrent.futures import Executor, Future
from dataclasses import replace

import torch

from volar.core.errors import ConfigError
from volar.core.robot import Actor, Chunk, Observation
from volar.core.thoughts import Recall, Thought
from volar.policies.actor import PolicyActor


class Asynchronous(Actor):
    """Final. Only the first look of an episode waits for its thought. How many looks old the words of a chunk are is in
    `Chunk.thought.ages`; its `tokens` are those of the thoughts that were finished since the look before.

    executor: where thoughts are thought, one at a time, such as a ThreadPoolExecutor(1), which belongs to the caller.
    Raises ConfigError for a policy that does not reason.
    """

    def __init__(self, actor: PolicyActor, executor: Executor) -> None:
        if actor.policy.reasoner is None:
            raise ConfigError("This policy has no reasoner, so there is nothing to think beside acting.")
        self._actor, self._executor = actor, executor
        self.uses_images, self.privileged = actor.uses_images, actor.privileged
        self._generator = torch.Generator(actor.device)
        self._forget()

    def _forget(self) -> None:
        self._look = 0
        self._newest: Thought | None = None
        self._begun = 0  # the look of the observation that the newest thought is about
        self._running: Future[Thought] | None = None  # and this is about the observation of look `_started`
        self._started = 0
        self._event = False  # of the gripper, since the last thought was begun

    def reset(self, seed: int) -> None:
        self._actor.reset(seed)
        self._generator.manual_seed(seed)
        self._forget()

    def act(self, observation: Observation) -> Chunk:
        started = time.perf_counter()
        tokens = self._take()
        if self._running is None:
            self._begin(observation)
            tokens += self._take(wait=self._newest is None)
        assert self._newest is not None
        late = self._look - self._begun
        given = replace(self._newest, ages={name: age + late for name, age in self._newest.ages.items()})
        (chunk,) = self._actor.act_given([0], [observation], [given])
        self._look, self._event = self._look + 1, self._event or self._actor.recalls[0].event
        thought = replace(chunk.thought or given, tokens=tokens)
        return replace(chunk, thought=thought, latency=time.perf_counter() - started)

    def _begin(self, observation: Observation) -> None:
        recall = None
        if self._newest is not None:
            past = self._look - self._begun - 1  # `recall` is about the last look, and says one more itself
            ages = {name: age + past for name, age in self._newest.ages.items()}
            recall = Recall(thought=replace(self._newest, ages=ages), event=self._event)
        self._started, self._event = self._look, False
        self._running = self._executor.submit(self._think, observation, recall)

    def _think(self, observation: Observation, recall: Recall | None) -> Thought:
        with torch.inference_mode():
            considered = self._actor.policy.consider(
                self._actor.batch([observation]), recalls=[recall], given=[None], generator=self._generator
            )
        return considered.thoughts[0]

    def _take(self, *, wait: bool = False) -> int:
        """Make the running thought the newest one if it is finished; tokens that it took."""
        if self._running is None or not (wait or self._running.done()):
            return 0
        self._newest, self._begun, self._running = self._running.result(), self._started, None
        return self._newest.tokens
