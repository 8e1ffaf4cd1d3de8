"""Thoughts made visible and usable: drawn, recorded, summed up, shown; by a person, an oracle, or chance."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chromium import Chromium, complaints
from PIL import Image
from synthetic_run import RUN, make_episode

from volar.cli.compare import Compare
from volar.cli.compare_plan import make_plan
from volar.cli.evaluate import Evaluate, run_evaluation
from volar.cli.serve import asynchronous
from volar.comparison.ledger import ledger_of
from volar.comparison.matching import Contender, match
from volar.core.calibration import CalibratedWorld
from volar.core.errors import ConfigError, EpisodeError
from volar.core.model import Batch
from volar.core.objects import NamingWorld
from volar.core.reasoner import Considered, Encode, Learned, Reasoner
from volar.core.robot import Camera, Env, Job, Outcome, PrivilegedActor, Trajectory
from volar.core.thoughts import Mark, Recall, Thought
from volar.core.wire import read_chunk
from volar.data.labels.course import Course, gripper_closed
from volar.data.labels.episode import label
from volar.data.marks import DESTINATION, DONE, LEGIBLE, NAMED, NEXT, mark_picture
from volar.data.normalize import exact_statistics
from volar.envs import TABLE, make_env
from volar.envs.rollout import run_episode
from volar.evaluation.episodes import keep_film
from volar.evaluation.records import RecordFile, read
from volar.evaluation.report import write_report
from volar.evaluation.run import Arm, begin
from volar.evaluation.summary import summarise
from volar.evaluation.tables import to_markdown
from volar.evaluation.verdict import checks
from volar.planning.composable import require_composable
from volar.planning.composition import Composition
from volar.policies.actor import PolicyActor, load_policy
from volar.policies.compute import count_policy, time_policy
from volar.policies.config import PolicyConfig
from volar.policies.exact import exact_control
from volar.policies.guided import ByHand, Guide, GuidedActor, Moment, read_primitive, read_script
from volar.policies.oracle import Oracle, Shuffled, wanted_of
from volar.policies.vla import ACTION, PROPRIOCEPTION, Policy
from volar.serving.client import RemoteActor
from volar.serving.server import PolicyServer

GREY = np.full((48, 64, 3), 128, np.uint8)


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def centre_of(picture: np.ndarray, colour: str) -> np.ndarray:
    """Of all pixels of exactly that colour: u, v in fractions."""
    rows, columns = np.nonzero((picture == rgb(colour)).all(-1))
    assert len(rows), f"nothing is {colour}"
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / picture.shape[1::-1]


# Marks on pictures


@pytest.mark.parametrize(
    ("mark", "colour"),
    [
        (Mark(camera="top", centre=(0.3, 0.6)), NEXT),
        (Mark(camera="top", centre=(0.7, 0.4), size=(0.25, 0.2), role="destination"), DESTINATION),
        (Mark(camera="top", centre=(0.5, 0.5), role="destination", done=True), DONE),
        (Mark(camera="top", centre=(0.4, 0.4), size=(0.2, 0.2), role="cube"), NAMED),
    ],
)
def test_a_mark_stands_where_it_says(mark: Mark, colour: str) -> None:
    drawn = mark_picture(GREY, [replace(mark, role=mark.role)])
    assert drawn.shape == (192, 256, 3)
    shape = drawn.copy()
    if mark.role == "cube":
        shape[: round(192 * 0.3) + 30, round(256 * 0.51) :] = 128  # its name
    assert centre_of(shape, colour) == pytest.approx(mark.centre, abs=0.01)
    changed = np.argwhere((drawn != 128).any(-1))
    reach = (np.array(mark.size[::-1]) / 2 if mark.size != (0.0, 0.0) else np.array([0.05, 0.05])) + 0.06
    if mark.role != "cube":
        assert (np.abs(changed / drawn.shape[:2] - mark.centre[::-1]) < reach).all()


def test_a_box_encloses_what_it_marks() -> None:
    drawn = mark_picture(GREY, [Mark(camera="top", centre=(0.5, 0.5), size=(0.5, 0.25), role="source")])
    inner = drawn[round(192 * 0.4) : round(192 * 0.6), round(256 * 0.28) : round(256 * 0.72)]
    assert (inner == 128).all()


def test_names_and_numbers_stay_on_the_picture() -> None:
    corner = mark_picture(GREY, [Mark(camera="top", centre=(1.0, 1.0), role="red cube")])
    assert (corner[:, :200] != 128).any(), "the name is written to the left where there is no room"
    plain = mark_picture(GREY, [Mark(camera="top", centre=(0.2, 0.2))])
    numbered = mark_picture(GREY, [Mark(camera="top", centre=(0.2, 0.2), order=3)])
    assert (plain != numbered).any()


def test_names_do_not_cover_one_another() -> None:
    first, second = (Mark(camera="top", centre=(0.5, 0.5), role=name) for name in ("red cube", "blue cube"))
    alone, both = mark_picture(GREY, [first]), mark_picture(GREY, [first, second])
    left = np.s_[:, : round(256 * 0.4)]
    assert (alone[left] == 128).all()
    assert (both[left] != 128).any()
    crowd = mark_picture(GREY, [replace(first, role=f"thing {number}") for number in range(9)])
    fewer = mark_picture(GREY, [replace(first, role=f"thing {number}") for number in range(4)])
    assert (crowd == fewer).all(), "what has no room is left out"


def test_small_pictures_grow_and_large_ones_do_not() -> None:
    for side, grown in ((32, 192), (96, 192), (100, 200), (256, 256)):
        picture = mark_picture(np.zeros((side, side, 3), np.uint8), [])
        assert picture.shape == (grown, grown, 3)
        assert grown >= LEGIBLE


# Films, records, summaries

POINT = Mark(camera="top", centre=(0.25, 0.5))
THOUGHTS = (
    Thought(words={"subtask": "grasp the cube"}, marks=(POINT,), tokens=6),
    Thought(words={"subtask": "grasp the cube"}, marks=(POINT,), ages={"subtask": 1, "marks": 0}, tokens=0),
    Thought(words={"subtask": "carry <it>"}, marks=(replace(POINT, done=True),), ages={"subtask": 0}, tokens=3),
)


def seen(looks: int) -> Trajectory:
    frames = np.full((looks + 1, 48, 48, 3), 128, np.uint8)
    nothing = np.zeros((4 * looks, 2), np.float32)
    return Trajectory(
        images={"front": frames, "top": frames}, proprioception=nothing, actions=nothing, executed=nothing,
        rewards=nothing[:, 0], image_steps=tuple(range(0, 4 * looks + 1, 4)),
    )  # fmt: skip


def test_a_film_bears_the_marks_of_its_camera_and_look(tmp_path: Path) -> None:
    episode = make_episode(thoughts=THOUGHTS, trajectory=seen(3))
    path = keep_film(tmp_path, episode)
    assert path is not None
    strip = np.asarray(Image.open(tmp_path / path)).astype(int)
    assert strip.shape == (2 * 192, 4 * 194 - 2, 3)
    for row, camera in enumerate(("front", "top")):
        for look in range(4):
            picture = strip[row * 192 : (row + 1) * 192, look * 194 : look * 194 + 192]
            marked = (np.abs(picture - 128) > 60).any()
            assert marked == (camera == "top" and look < 3), (camera, look)
    bare = keep_film(tmp_path, make_episode(seed=1, trajectory=seen(3)))
    assert bare is not None
    assert Image.open(tmp_path / bare).size == (4 * 50 - 2, 96)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes: the policy that thinks, the truth, and thoughts from elsewhere."""
    folder = tmp_path_factory.mktemp("thinking")
    arms = {name: Arm(role=name) for name in ("policy", "oracle_thoughts", "shuffled_thoughts", "expert")}
    begin(folder, replace(RUN, tasks=("metaworld/push",), seeds=tuple(range(12)), arms=arms))
    with RecordFile(folder / "episodes.jsonl") as file:
        for arm in arms:
            for seed in range(12):
                episode = make_episode(seed=seed, arm=arm, thoughts=() if arm == "expert" else THOUGHTS)
                if arm == "shuffled_thoughts":
                    episode = replace(episode, outcome=Outcome.TIME_OUT)
                film = None if arm == "expert" or seed else keep_film(folder, replace(episode, trajectory=seen(3)))
                file.append(episode, film)
    return folder


def test_thoughts_are_recorded(run: Path) -> None:
    episode = read(run / "episodes.jsonl")[0].episode
    assert episode.thoughts == THOUGHTS


def test_records_without_thoughts_are_still_read(run: Path, tmp_path: Path) -> None:
    line = json.loads((run / "episodes.jsonl").read_text().splitlines()[0])
    del line["thoughts"]
    (tmp_path / "episodes.jsonl").write_text(json.dumps(line) + "\n")
    assert read(tmp_path / "episodes.jsonl")[0].episode.thoughts == ()


def test_tokens_and_ages_are_summed_up(run: Path) -> None:
    summary = summarise(run)
    policy, *_, expert = summary.arms
    assert policy.tokens == 3
    assert policy.thought_age == pytest.approx(1 / 3)
    assert expert.tokens is None
    assert expert.thought_age is None
    assert summary.films[0].thoughts == THOUGHTS
    assert "policy thinks 3 tokens per decision" in to_markdown(summary)


def test_tokens_stand_in_the_ledger() -> None:
    decided = {"latencies": (0.1,) * 3, "evaluations": (1,) * 3}
    thinks, plain = make_episode(thoughts=THOUGHTS, **decided), make_episode(seed=1, **decided)
    assert ledger_of([thinks]).tokens == 3
    assert ledger_of([thinks, plain]).tokens == 1.5
    assert ledger_of([plain]).tokens is None, "others may have thought and not recorded it"


def test_whether_thoughts_are_followed(run: Path) -> None:
    (check,) = checks(summarise(run))
    assert (check.question, check.answer) == ("Does it follow its thoughts?", "yes")


def test_the_page_says_nothing_of_thoughts_where_nobody_thinks(tmp_path: Path) -> None:
    begin(tmp_path, replace(RUN, tasks=("metaworld/push",), seeds=(0,), arms={"policy": Arm(role="policy")}))
    with RecordFile(tmp_path / "episodes.jsonl") as file:
        file.append(make_episode())
    page = write_report(tmp_path).read_text()
    assert "tokens thought" not in page
    assert "told itself" not in page


@pytest.mark.parametrize("width", [1280, 390])
def test_thoughts_are_legible_on_the_page(browser: Chromium, run: Path, width: int) -> None:
    browser.open(write_report(run), width=width)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    text = browser.evaluate("document.body.innerText")
    assert "tokens thought per decision" in text
    assert "where the gripper acts next, done already." in text.replace("\N{NO-BREAK SPACE}", " ").replace("  ", " ")
    browser.evaluate("document.querySelector('.told').open = true")
    shown = "(([image]) => image.getBoundingClientRect().height)(document.querySelectorAll('.strip.marked img'))"
    assert browser.evaluate(shown) == 2 * LEGIBLE, "in their own size, to be scrolled"
    told = browser.evaluate("document.querySelector('.told').innerText")
    assert "pictures 1 to 2" in told
    assert "carry <it>" in told
    assert complaints(browser) == []
    Image.open(io.BytesIO(browser.screenshot())).verify()


# Policies that reason, untrained: what they say is beside the point here


def marks_of(place: float, camera: str) -> Thought:
    return Thought(marks=(Mark(camera=camera, centre=(place, 0.5)),))


def new_policy(env: Env, reasoner: str | None = "visual", **options: Any) -> Policy:
    torch.manual_seed(0)
    robot = env.spec
    config = PolicyConfig(
        backbone="tiny" if robot.cameras else "state", decoder="regression", horizon=4, normalise_action="min_max",
        normalise_proprioception="mean_std", reasoner=reasoner, reasoner_options=dict(options),
    )  # fmt: skip
    sizes = {ACTION: robot.action.dim, PROPRIOCEPTION: len(robot.proprioception)}
    statistics = {key: exact_statistics(np.stack([-np.ones(d), np.ones(d)])) for key, d in sizes.items()}
    policy = Policy(config, robot=robot, statistics=statistics)
    policy.fit_reasoner([marks_of(0.3, "top"), marks_of(0.6, "top")])
    return policy.eval()


class Muses(Reasoner):
    """Takes `looks` looks to think one thought of `tokens` tokens, each one product with a square matrix."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        tokens: int = 3
        looks: int = 4
        encodings: int = 1

    def __init__(self, config: Config, *, width: int, cameras: tuple[Camera, ...]) -> None:
        super().__init__()
        self.config, self.matrix = config, torch.nn.Linear(width, width, bias=False)

    def fit(self, thoughts: Sequence[Thought]) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None: ...

    def learn(self, batch: Batch, encode: Encode, *, generator: torch.Generator | None = None) -> Learned:
        assert [thought.tokens for thought in batch.thoughts] == [self.config.tokens] * len(batch.instructions)
        context = encode(batch)
        return Learned(context=context, loss=self.matrix(context.tokens[:, 0]).square().mean(-1))

    def think(
        self, batch: Batch, encode: Encode, *, recalls: Sequence[Recall | None], given: Sequence[Thought | None],
        generator: torch.Generator | None = None,
    ) -> Considered:  # fmt: skip
        (recall,) = {id(recall): recall for recall in recalls}.values()
        context = [encode(batch) for _ in range(self.config.encodings)][-1]
        age = 0 if recall is None else (recall.thought.ages["plan"] + 1) % self.config.looks
        tokens = 0 if age else self.config.tokens
        for _ in range(tokens):
            self.matrix(context.tokens[:, 0])
        thought = Thought(words={"plan": "muse"}, ages={"plan": age}, tokens=tokens)
        rows = len(batch.instructions)
        return Considered(context=context, thoughts=(thought,) * rows, evaluations=torch.full((rows,), tokens))


@pytest.fixture(scope="module")
def toy() -> Env:
    return make_env("toy/reach-red")


# What thinking costs


@pytest.mark.parametrize("encodings", [1, 2])
def test_thinking_is_counted_over_looks_and_encodings(toy: Env, encodings: int) -> None:
    policy = new_policy(toy, f"{__name__}:Muses", tokens=6, looks=4, encodings=encodings)
    plain = count_policy(new_policy(toy, None))
    counts, width = count_policy(policy), policy.backbone.width
    thinking = 6 / 4 * 2 * width * width
    assert counts.thinking_flops == thinking + (encodings - 1) * counts.encode_flops
    assert counts.thinking_evaluations == counts.thinking_tokens == 6 / 4
    assert (counts.encode_flops, counts.decode_flops) == (plain.encode_flops, plain.decode_flops)
    assert counts.decision_flops() == plain.decision_flops() + counts.thinking_flops
    assert counts.decision_flops(counts.evaluations + 1.5) == counts.decision_flops()
    assert plain.thinking_flops == 0
    assert counts.training_flops > plain.training_flops


def test_network_evaluations_of_thinking_count_when_arms_are_matched(toy: Env) -> None:
    thinks = Contender(name="thinks", counts=count_policy(new_policy(toy, f"{__name__}:Muses", tokens=8, looks=4)))
    plain = Contender(name="plain", counts=count_policy(new_policy(toy, None)))
    assert thinks.counts is not None
    assert match([thinks], "nfe")[0].before == 3
    with pytest.raises(ConfigError, match="'plain' decides with 1 network evaluation"):
        match([thinks, plain], "nfe")
    assert match([thinks], "inference-flops")[0].before == thinks.counts.decision_flops()


def test_a_decision_is_timed_with_its_thinking(toy: Env) -> None:
    timing = time_policy(new_policy(toy, f"{__name__}:Muses", tokens=8, looks=1), repeats=3)
    assert timing.evaluations == 9


# Guides


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("point 0.4,0.6", Mark(camera="top", centre=(0.4, 0.6))),
        ("box 0.4,0.6,0.1,0.2 as source", Mark(camera="top", centre=(0.4, 0.6), size=(0.1, 0.2), role="source")),
        ("point 1,0 on top as red cube", Mark(camera="top", centre=(1.0, 0.0), role="red cube")),
        ("point 0.5,0.5 as 2", Mark(camera="top", centre=(0.5, 0.5), order=2)),
    ],
)
def test_a_primitive_in_words(text: str, mark: Mark) -> None:
    assert read_primitive(text, cameras=["top"]) == mark


@pytest.mark.parametrize(
    ("text", "cameras", "complaint"),
    [
        ("point 0.4", ["top"], "A point takes 2 fractions"),
        ("box 0.4,0.6", ["top"], "A box takes 4 fractions"),
        ("point a,b", ["top"], "A point takes 2 fractions"),
        ("point 40,60", ["top"], "fractions, 0 to 1"),
        ("poit 0.4,0.6", ["top"], "Did you mean 'point'"),
        ("point 0.4,0.6 on tpo", ["top", "front"], "Did you mean 'top'"),
        ("point 0.4,0.6", ["top", "front"], "one of top, front"),
        ("point 0.4,0.6", [], "that of the labels"),
        ("somewhere", ["top"], "SHAPE NUMBERS"),
    ],
)
def test_a_primitive_that_makes_no_sense(text: str, cameras: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read_primitive(text, cameras=cameras)


def test_a_script_goes_on_with_the_stages() -> None:
    script = read_script(
        ["point 0.1,0.1", "point 0.2,0.2", "point 0.9,0.9 as 1"], ["subtask=grasp", "subtask=carry", "task=tidy up"],
        cameras=["top"],
    )  # fmt: skip
    guide = ByHand(script)
    told = [guide.thought(Moment(stage=stage, carried=np.zeros((0, 2), np.float32))) for stage in range(4)]
    assert [thought.marks[0].centre[0] for thought in told] == [0.1, 0.2, 0.2, 0.2]
    assert [thought.marks[1].done for thought in told] == [False, True, True, True]
    assert [thought.words["subtask"] for thought in told] == ["grasp", "carry", "carry", "carry"]
    assert all(thought.words["task"] == "tidy up" for thought in told)
    with pytest.raises(ConfigError, match="SEGMENT=TEXT"):
        read_script([], ["grasp"], cameras=["top"])


@pytest.fixture(scope="module")
def table() -> Env:
    return make_env("tabletop-state/pick-place-red", cameras={})


@pytest.fixture(scope="module")
def labels(table: Env) -> dict[str, Any]:
    world = table.unwrapped
    assert isinstance(world, CalibratedWorld)
    return {
        "marks": ["point", "regions", "order"], "words": ["subtask", "move", "objects"],
        "cameras": [world.calibrations()["top"].to_json()], "directions": "camera top", "privileged": ["objects"],
    }  # fmt: skip


def expert() -> PrivilegedActor:
    return TABLE.load("tabletop").expert()


@pytest.mark.parametrize(("task", "stages", "words"), [("pick-place-red", 2, True), ("push", 0, False)])
def test_an_oracle_says_what_the_labels_of_the_episode_will_say(
    labels: dict[str, Any], task: str, stages: int, words: bool
) -> None:
    """Beside an expert, who goes on as the oracle foresees. What is pushed is touched without a gripper's event."""
    table = make_env(f"tabletop/{task}", cameras={})
    labels = labels if words else {**labels, "words": []}
    guide, actor, world, seed = Oracle(expert(), labels), expert(), table.unwrapped, 5
    assert isinstance(world, NamingWorld)
    table.reset(seed)
    for each in (guide, actor):
        each.reset(seed)
        each.bind(table)
    seen, actions, objects, told, stage = [], [], [], {}, 0
    while True:
        if len(actions) % 4 == 0:
            told[len(actions)] = guide.thought(
                Moment(stage=stage, carried=np.array(actions[-4:], np.float32).reshape(-1, 4))
            )
        seen.append(table.observe(images=False))
        objects.append(dict(world.named_objects()))
        actions.append(actor.act(seen[-1]).actions[0])
        stage += int(len(actions) > 1 and (actions[-1][3] > 0) != (actions[-2][3] > 0))
        if table.step(actions[-1]).success:
            break
    course = Course(
        fps=20.0, instructions=tuple(each.instruction for each in seen), turn=None, objects=tuple(objects),
        hand=np.array([each.proprioception[:3] for each in seen], dtype=np.float64),
        closed=gripper_closed(np.array(actions, dtype=np.float64), table.spec.action, fps=20.0),
    )  # fmt: skip
    true = label(course, wanted_of(labels, world))
    assert stage == stages
    assert len({thought.marks for thought in told.values()}) > 1
    assert len(told) > 10
    for step, thought in told.items():
        assert thought == true[step], step


def test_other_peoples_thoughts_leave_the_world_alone(table: Env, labels: dict[str, Any]) -> None:
    """A policy that hands nothing on acts the same whoever thinks for it: the world was put back, bit for bit."""
    actor = PolicyActor(new_policy(table, inject="none"), execute=4)
    job = Job(task="tabletop-state/pick-place-red", seed=3, arm="policy", max_steps=20)
    alone = run_episode(table, actor, job)
    oracle = Oracle(expert(), {**labels, "words": []})
    for guide in (oracle, Shuffled(oracle)):
        led = run_episode(table, GuidedActor(actor, guide), job)
        assert led.error is None
        assert alone.trajectory is not None
        assert led.trajectory is not None
        assert np.array_equal(alone.trajectory.executed, led.trajectory.executed)
        assert np.array_equal(alone.trajectory.proprioception, led.trajectory.proprioception)
        assert led.privileged == (*table.privileged, *guide.privileged)
        assert led.thoughts != alone.thoughts


def test_shuffled_thoughts_are_of_another_scene_and_last_a_stage(table: Env, labels: dict[str, Any]) -> None:
    def told(guide: Guide, seed: int) -> list[Thought]:
        table.reset(seed)
        guide.reset(seed)
        guide.bind(table)
        return [
            guide.thought(Moment(stage=stage, carried=np.zeros((0, 4), np.float32))) for stage in (0, 0, 1, 2, 3, 4)
        ]

    oracle = Oracle(expert(), labels)
    shuffled = told(Shuffled(oracle), 3)
    assert shuffled == told(Shuffled(oracle), 3)
    assert shuffled[0] == shuffled[1]
    assert len({json.dumps(thought.to_json()) for thought in shuffled}) > 2
    true = told(oracle, 3)
    assert all(said.words["objects"] != true[0].words["objects"] for said in shuffled)
    assert told(Shuffled(oracle), 4) != shuffled


def test_who_cannot_be_guided(toy: Env, labels: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no reasoner"):
        GuidedActor(PolicyActor(new_policy(toy, None), execute=1), ByHand([Thought()]))
    guide = Oracle(expert(), labels)
    guide.reset(0)
    toy.reset(0)
    with pytest.raises(ConfigError, match="does not say where its hand is"):
        guide.bind(toy)


def test_what_cannot_work_with_a_reasoner_says_so(toy: Env) -> None:
    policies = [new_policy(toy), new_policy(toy)]
    with pytest.raises(ConfigError, match="policies that reason cannot be composed"):
        require_composable(policies, Composition(how="vote"), ["first", "second"])
    field = Policy(
        replace(policies[0].config, decoder="equilibrium"), robot=toy.spec, statistics=policies[0].statistics
    )
    with pytest.raises(ConfigError, match="a policy that reasons makes its own"):
        exact_control(field, [])


# Commands and servers


@pytest.fixture(scope="module")
def checkpoint(toy: Env, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies") / "thinks"
    new_policy(toy).save(folder, facts={"step": 0})
    return folder


def command(checkpoint: Path, out: Path, **changes: Any) -> Evaluate:
    asked = {"tasks": ("toy/reach-red",), "episodes": 2, "max_steps": 8, "controls": (), "workers": 0, **changes}
    return Evaluate(policies=(checkpoint,), out=out, execute=2, **asked)


def test_a_primitive_by_hand(checkpoint: Path, tmp_path: Path) -> None:
    run_evaluation(command(checkpoint, tmp_path / "run", primitive=("point 0.2,0.9",)))
    episodes = {record.key[0]: record.episode for record in read(tmp_path / "run" / "episodes.jsonl")}
    led = episodes["by_hand"]
    assert {thought.marks[0].centre for thought in led.thoughts} == {(0.2, 0.9)}
    assert led.privileged == ByHand.privileged
    assert episodes["policy"].thoughts != led.thoughts
    assert episodes["policy"].privileged == ()
    assert "Given: point 0.2,0.9" in write_report(tmp_path / "run").read_text()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"say": ("subtask=reach",)}, "thinks in marks, not in words"),
        ({"primitive": ("box 0.1,0.1,0.1,0.1 as source",)}, "it cannot follow"),
        ({"controls": ("oracle_thoughts",)}, "does not tell how the thoughts"),
    ],
)
def test_what_cannot_be_followed(checkpoint: Path, tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        run_evaluation(command(checkpoint, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("asked", [{"controls": ("shuffled_thoughts",)}, {"primitive": ("point 0.1,0.1",)}])
def test_who_does_not_reason_cannot_be_told(toy: Env, tmp_path: Path, asked: dict[str, Any]) -> None:
    new_policy(toy, None).save(tmp_path / "plain", facts={"step": 0})
    with pytest.raises(ConfigError, match="does not reason, so"):
        run_evaluation(command(tmp_path / "plain", tmp_path / "run", **asked))
    if "controls" in asked:
        places = (f"one={tmp_path / 'plain'}", f"two={tmp_path / 'plain'}")
        with pytest.raises(ConfigError, match="No arm reasons"):
            make_plan(
                Compare(sources=places, out=tmp_path / "both", tasks=("toy/reach-red",), controls=asked["controls"])
            )


def test_oracle_and_control_in_the_command(table: Env, labels: dict[str, Any], tmp_path: Path) -> None:
    new_policy(table).save(tmp_path / "thinks", facts={"step": 0, "labels": {**labels, "words": []}})
    run_evaluation(
        command(
            tmp_path / "thinks", tmp_path / "run", tasks=("tabletop-state/pick-place-red",),
            controls=("oracle_thoughts", "shuffled_thoughts"),
        )
    )  # fmt: skip
    episodes = [record.episode for record in read(tmp_path / "run" / "episodes.jsonl")]
    assert len({episode.first_observation for episode in episodes}) == 2
    assert all(episode.error is None and len(episode.thoughts) == 4 for episode in episodes)
    led = [episode for episode in episodes if episode.job.arm != "policy"]
    assert all("oracle" in " ".join(episode.privileged) for episode in led)
    assert len({episode.thoughts[0].marks[0].centre for episode in led}) == 4


def test_a_served_policy_remembers_and_tells_its_thoughts(checkpoint: Path, toy: Env) -> None:
    def make() -> PolicyActor:
        return load_policy(checkpoint, execute=2)

    toy.reset(0)
    seen = toy.observe()
    here = make()
    here.reset(0)
    with PolicyServer(make, robot=toy.spec, card={}) as server:
        remote = RemoteActor(server.url)
        remote.reset(0)
        for age in range(3):
            chunk, own = remote.act(seen), here.act(seen)
            assert chunk.thought == own.thought
            assert chunk.thought is not None
            assert chunk.thought.ages["marks"] == age
        remote.close()


def test_a_served_policy_may_think_beside_acting(checkpoint: Path, toy: Env) -> None:
    toy.reset(0)
    waiting = load_policy(checkpoint, execute=2)
    waiting.reset(0)
    with PolicyServer(asynchronous(lambda: load_policy(checkpoint, execute=2)), robot=toy.spec, card={}) as server:
        remote = RemoteActor(server.url)
        remote.reset(0)
        first, second = remote.act(toy.observe()), remote.act(toy.observe())
        remote.close()
    assert first.thought == waiting.act(toy.observe()).thought
    assert second.thought is not None and second.thought.ages["marks"] in (0, 1)


def test_who_does_not_reason_cannot_think_beside_acting(toy: Env, tmp_path: Path) -> None:
    plain = replace(new_policy(toy).config, reasoner=None, reasoner_options={})
    Policy(plain, robot=toy.spec, statistics=new_policy(toy).statistics).save(tmp_path / "plain", facts={})
    with pytest.raises(ConfigError, match="no reasoner"):
        asynchronous(lambda: load_policy(tmp_path / "plain", execute=2))()


def test_a_thought_from_a_stranger_is_read_with_care() -> None:
    told = {"actions": np.zeros((2, 2)), "execute": 1, "evaluations": 1, "latency": 0.0}
    plain = {"words": {"plan": 3}, "marks": [], "ages": {}, "tokens": 2.0}
    thought = read_chunk({**told, "thought": plain}).thought
    assert thought == Thought(words={"plan": "3"}, tokens=2)
    mark = {"camera": "top", "centre": [2, 0], "size": [0, 0], "role": "next", "order": 0, "done": False}
    for wrong in ("x", {**plain, "words": 1}, {**plain, "marks": [mark]}, {**plain, "tokens": "many"}):
        with pytest.raises(EpisodeError, match="perhaps a thought"):
            read_chunk({**told, "thought": wrong})
