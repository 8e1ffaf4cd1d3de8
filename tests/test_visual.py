"""Visual primitives over every form, head and channel; then what each of them promises."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import tiny_vlms
import torch

from volar.backbones import TABLE as BACKBONES
from volar.core.errors import ConfigError
from volar.core.model import Backbone, Batch
from volar.core.registry import build_config
from volar.core.robot import Camera
from volar.core.thoughts import Mark, Recall, Thought
from volar.nn.heatmap import grid_points, heat_loss, read_heat, spread
from volar.reasoning.visual import Visual
from volar.reasoning.visual_channels import CHANNELS
from volar.reasoning.visual_heads import HEADS, to_bins
from volar.reasoning.visual_pictures import COLOURS, DONE, cut_out, draw
from volar.reasoning.visual_slots import FORMS, Places, Slot, assign

FRONT, WRIST = Camera(name="front", height=24, width=32), Camera(name="wrist", height=24, width=32)
ROWS, WIDTH = 3, 32
SETTINGS = list(itertools.product(FORMS, HEADS, [*CHANNELS, "none"]))


def label(row: int) -> Thought:
    """Marks of every form; the third row has none to come."""
    place = 0.15 + 0.3 * row
    marks = (
        Mark(camera="front", centre=(place, 0.4)),
        Mark(camera="front", centre=(place, 0.4), size=(0.2, 0.3)),
        Mark(camera="front", centre=(place, 0.5), size=(0.1, 0.2), role="source", order=1, done=row == 1),
        Mark(camera="front", centre=(0.5, place), size=(0.2, 0.1), role="destination", order=2),
        Mark(camera="front", centre=(0.9 - place, place), role="red cube"),
    )
    return Thought(marks=marks if row < 2 else ())


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def new_backbone(name: str = "tiny", cameras: tuple[Camera, ...] = (FRONT,)) -> Backbone:
    torch.manual_seed(0)
    cls = BACKBONES.load(name)
    options = {"width": WIDTH, "depth": 2, "heads": 2, **({"side": 16} if name == "tiny" else {"tokens": 2})}
    return cls(build_config(cls, options), cameras=cameras, proprioception=4)


def new_visual(cameras: tuple[Camera, ...] = (FRONT,), **options: float | str) -> Visual:
    torch.manual_seed(1)
    visual = Visual(build_config(Visual, options), width=WIDTH, cameras=cameras)
    visual.fit([label(row) for row in range(ROWS)])
    return visual


def new_batch(cameras: Sequence[Camera] = (FRONT,), rows: int = ROWS) -> Batch:
    shape = (rows, FRONT.height, FRONT.width, 3)
    return Batch(
        images={camera.name: torch.randint(0, 256, shape, generator=seeded(), dtype=torch.uint8) for camera in cameras},
        instructions=("take the red cube", "take the blue cube", "wait")[:rows],
        proprioception=torch.randn(rows, 4, generator=seeded(1)),
        thoughts=tuple(label(row) for row in range(rows)),
    )


def think(visual: Visual, backbone: Backbone, batch: Batch, recalls=None, given=None):
    nothing = [None] * len(batch.instructions)
    with torch.no_grad():
        return visual.think(batch, backbone.encode, recalls=recalls or nothing, given=given or nothing)


def remembered(thoughts: Sequence[Thought], event: bool) -> list[Recall]:
    return [Recall(thought=thought, event=event) for thought in thoughts]


def learn_labels(backbone: Backbone, visual: Visual, batch: Batch, steps: int) -> None:
    optimizer = torch.optim.Adam([*backbone.parameters(), *visual.parameters()], lr=5e-3)
    for step in range(steps):
        optimizer.zero_grad()
        visual.learn(batch, backbone.encode, generator=seeded(step)).loss.mean().backward()
        optimizer.step()


@pytest.mark.parametrize(("form", "head", "inject"), SETTINGS)
class TestEverySetting:
    def test_shapes_and_gradients(self, form, head, inject):
        """The loss of marks reaches the backbone, and what the decoder sees reaches all that makes the channel."""
        backbone, visual = new_backbone(), new_visual(form=form, head=head, inject=inject, own=0.0)
        learned = visual.learn(new_batch(), backbone.encode, generator=seeded())
        assert learned.loss.shape == (ROWS,) and torch.isfinite(learned.loss).all() and (learned.loss > 0).all()
        learned.loss.mean().backward(retain_graph=True)
        assert sum(p.grad.abs().sum() for p in backbone.parameters() if p.grad is not None) > 0
        assert visual.queries.grad.abs().sum() > 0
        if visual.channel is not None and list(visual.channel.parameters()):
            weights = torch.randn(learned.context.tokens.shape, generator=seeded(3))
            (learned.context.tokens * weights).sum().backward()
            for name, parameter in visual.channel.named_parameters():
                assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name

    def test_thinks_and_remembers(self, form, head, inject):
        """Own marks stay to the letter until an event, given ones replace them, and both change the context."""
        backbone, batch = new_backbone(), new_batch()
        visual = new_visual(form=form, head=head, inject=inject)
        first = think(visual, backbone, batch)
        assert [set(thought.ages.values()) for thought in first.thoughts] == [{0}] * ROWS
        later = think(visual, backbone, replace(batch, proprioception=batch.proprioception + 1),
                      recalls=remembered(first.thoughts, event=False))  # fmt: skip
        assert [thought.marks for thought in later.thoughts] == [thought.marks for thought in first.thoughts]
        assert all(thought.ages["marks"] == 1 and thought.tokens == 0 for thought in later.thoughts)
        assert (later.evaluations < first.evaluations).all()
        told = think(visual, backbone, batch, given=list(batch.thoughts))
        wanted = {mark for mark in batch.thoughts[0].marks if mark in told.thoughts[0].marks}
        assert len(wanted) == len(visual.slots) == len(told.thoughts[0].marks)
        same = torch.equal(told.context.tokens[0], first.context.tokens[0])
        assert same == (inject == "none")

    def test_without_hearing_only_marks_tell_the_decoder_what_to_do(self, form, head, inject):
        if inject == "none":
            with pytest.raises(ConfigError, match="nothing would tell the decoder"):
                new_visual(form=form, head=head, inject=inject, hears=False)
            return
        backbone, batch = new_backbone(), new_batch()
        other = replace(batch, instructions=("put it elsewhere",) * ROWS)
        for hears in (True, False):
            visual = new_visual(form=form, head=head, inject=inject, hears=hears)
            given = [think(visual, backbone, each, given=list(batch.thoughts)) for each in (batch, other)]
            marked = [each.context.tokens[:2] for each in given]  # nothing is given for the third
            assert torch.equal(*marked) != hears
            made = [think(visual, backbone, each) for each in (batch, other)]
            assert made[0].thoughts[0].marks != made[1].thoughts[0].marks  # the head hears
            learned = visual.learn(batch, backbone.encode, generator=seeded(1))
            assert learned.context.tokens.shape == given[0].context.tokens.shape

    def test_restored_says_the_same(self, form, head, inject):
        backbone, batch = new_backbone(), new_batch()
        visual = new_visual(form=form, head=head, inject=inject)
        again = Visual(visual.config, width=WIDTH, cameras=(FRONT,))
        again.restore(visual.state())
        again.load_state_dict(visual.state_dict())
        before, after = think(visual, backbone, batch), think(again, backbone, batch)
        assert before.thoughts == after.thoughts
        assert torch.equal(before.context.tokens, after.context.tokens)


@pytest.mark.parametrize(
    ("form", "head"), [("point", "tokens"), ("regions", "heatmap"), ("regions", "tokens"), ("objects", "heatmap")]
)
def test_learns_to_mark(form, head):
    """After one batch has been learned, marks are where the labels are, and nowhere where there are none."""
    backbone, batch = new_backbone(), new_batch()
    visual = new_visual(form=form, head=head, inject="none", weight=1.0)
    learn_labels(backbone, visual, batch, steps=80)
    thoughts = think(visual, backbone, batch).thoughts
    truth = think(visual, backbone, batch, given=list(batch.thoughts)).thoughts
    for row in range(2):
        assert len(thoughts[row].marks) == len(truth[row].marks) == len(visual.slots)
        for mark, wanted in zip(thoughts[row].marks, truth[row].marks, strict=True):
            assert np.abs(np.subtract(mark.centre, wanted.centre)).max() < 0.03
            assert not FORMS[form].sized or np.abs(np.subtract(mark.size, wanted.size)).max() < 0.05
    assert thoughts[2].marks == ()


@pytest.mark.parametrize("head", HEADS)
def test_marks_of_a_virtual_camera_need_no_picture(head):
    backbone, batch = new_backbone("state", ()), new_batch(())
    visual = new_visual((), head=head, weight=1.0)
    learn_labels(backbone, visual, batch, steps=60)
    marks = think(visual, backbone, batch).thoughts[1].marks
    assert [mark.camera for mark in marks] == ["front"]
    assert np.abs(np.subtract(marks[0].centre, label(1).marks[0].centre)).max() < 0.03


@pytest.mark.parametrize("name", ["smolvlm", "florence2"])
def test_marks_on_a_vision_language_model(name, tmp_path):
    """Decoder-only and encoder-decoder: what is frozen stays so, and the marks and their channel learn all the same."""
    folder = tiny_vlms.save(name, tmp_path / name)
    cls = BACKBONES.load("hf")
    config = cls.Config(model=str(folder), image_size=tiny_vlms.SIDES.get(name))
    backbone = cls(config, cameras=(FRONT,), proprioception=4)
    visual = new_visual(form="regions", head="tokens", inject="crop")
    learned = visual.learn(new_batch(), backbone.encode, generator=seeded())
    (learned.loss.mean() + learned.context.tokens.square().mean()).backward()
    assert all(parameter.grad is not None for parameter in visual.parameters())
    assert all(parameter.grad is None for parameter in backbone.vlm.parameters())
    first = think(visual, backbone, new_batch())
    later = think(visual, backbone, new_batch(), recalls=remembered(first.thoughts, event=False))
    assert [each.marks for each in first.thoughts] == [each.marks for each in later.thoughts]


def test_the_decoder_sees_the_share_of_truth_that_was_asked_for():
    """Scheduled sampling: of many rows so many are the head's own marks, so many jittered, the others true."""
    rows = 4000
    visual = new_visual(own=0.5, jittered=0.2, jitter=0.05)
    truth = Places(box=torch.full((rows, 1, 4), 0.5), standing=torch.full((rows, 1), 1))
    own = Places(box=torch.full((rows, 1, 4), 0.1), standing=torch.full((rows, 1), 2))
    shown = visual._shown(truth, own, seeded())
    is_own, is_true = shown.standing[:, 0] == 2, (shown.box[:, 0, :2] == 0.5).all(-1)
    assert (shown.box[is_own] == 0.1).all()
    assert abs(is_own.float().mean() - 0.5) < 0.03 and abs(is_true.float().mean() - 0.3) < 0.03
    moved = shown.box[~is_own & ~is_true][:, 0, :2] - 0.5
    assert abs(moved.std() - 0.05) < 0.005 and abs(moved.mean()) < 0.005


def test_a_mark_lasts_until_the_event_or_for_patience_looks():
    backbone, batch = new_backbone(), new_batch()
    visual = new_visual(patience=3)
    recalls, ages = None, []
    for _ in range(5):
        thoughts = think(visual, backbone, batch, recalls=recalls).thoughts
        ages.append(thoughts[0].ages["marks"])
        recalls = remembered(thoughts, event=False)
    assert ages == [0, 1, 2, 0, 1]
    after = think(visual, backbone, batch, recalls=remembered(thoughts, event=True)).thoughts
    assert [thought.ages["marks"] for thought in after] == [0] * ROWS


def test_a_given_mark_lasts_too_and_only_rows_that_think_are_thought_for():
    backbone, batch = new_backbone(), new_batch()
    visual = new_visual(head="tokens")
    mine = Thought(marks=(Mark(camera="front", centre=(0.9, 0.9)),))
    first = think(visual, backbone, batch, given=[mine, None, None])
    assert first.thoughts[0].marks == mine.marks and first.thoughts[0].ages == {"marks": 0}
    assert first.evaluations.tolist() == [1, 3, 3] and [each.tokens for each in first.thoughts] == [0, 3, 3]
    later = think(visual, backbone, batch, recalls=remembered(first.thoughts, event=False))
    assert later.thoughts[0].marks == mine.marks and later.evaluations.tolist() == [1, 1, 1]


def test_markers_are_done_one_after_the_other_and_stay():
    """An event makes the first of those to come a memory, which no later look moves."""
    backbone, batch = new_backbone(), new_batch(rows=1)
    visual = new_visual(form="markers", weight=1.0, inject="none", patience=1)
    learn_labels(backbone, visual, batch, steps=60)
    first = think(visual, backbone, batch).thoughts
    assert [(mark.order, mark.done) for mark in first[0].marks] == [(1, False), (2, False)]
    elsewhere = replace(batch, proprioception=batch.proprioception + 2)
    second = think(visual, backbone, elsewhere, recalls=remembered(first, event=True)).thoughts
    assert [mark.done for mark in second[0].marks] == [True, False]
    assert second[0].marks[0].centre == first[0].marks[0].centre
    third = think(visual, backbone, batch, recalls=remembered(second, event=True)).thoughts
    assert [mark.done for mark in third[0].marks] == [True, True]
    assert think(visual, backbone, elsewhere, recalls=remembered(third, event=True)).thoughts[0].marks == third[0].marks


def test_what_was_taken_is_remembered_where_it_was():
    """A source that is taken cannot be seen any more: its old place stays, whatever is predicted for it now."""
    backbone, batch = new_backbone(), new_batch(rows=2)
    visual = new_visual(form="regions", weight=1.0, inject="none")
    learn_labels(backbone, visual, batch, steps=80)
    old = Mark(camera="front", centre=(0.77, 0.23), size=(0.1, 0.1), role="source")
    recall = Recall(thought=Thought(marks=(old,), ages={"marks": 0}), event=True)
    first, second = think(visual, backbone, batch, recalls=[recall, recall]).thoughts
    sources = [next(mark for mark in each.marks if mark.role == "source") for each in (first, second)]
    assert not sources[0].done and sources[0].centre != old.centre
    assert sources[1] == replace(old, done=True)


def test_forms_read_one_another_where_the_meaning_is_the_same():
    """The next point is the first ordered one to come; the next box the first region to come."""
    order = [Mark(camera="front", centre=(0.1 * k, 0.5), order=k, done=k < 3) for k in (1, 2, 3, 4)]
    slot = Slot(camera="front", role="next")
    assert assign(order, [slot], "point") == {slot: order[2]}
    source, destination = label(0).marks[2:4]
    assert assign([destination, source], [slot], "box") == {slot: source}
    assert assign([destination, replace(source, done=True)], [slot], "box") == {slot: destination}
    assert assign([replace(source, done=True)], [slot], "box") == {}


@pytest.mark.parametrize("inject", CHANNELS)
def test_what_is_marked_is_what_the_decoder_gets(inject):
    """Two marks give two contexts, by the mark alone: the picture, the words and the body are the same."""
    backbone, batch = new_backbone(), new_batch()
    visual = new_visual(inject=inject)
    contexts = [
        think(visual, backbone, batch, given=[Thought(marks=(Mark(camera="front", centre=centre),))] * ROWS).context
        for centre in ((0.2, 0.3), (0.2, 0.3), (0.8, 0.6))
    ]
    assert torch.equal(contexts[0].tokens, contexts[1].tokens)
    assert (contexts[0].tokens - contexts[2].tokens).abs().amax((1, 2)).min() > 1e-4


def test_other_cameras_keep_their_stored_features():
    """Only the marked picture is another one; a backbone that reads stored features sees that one alone afresh."""
    seen = []
    backbone = new_backbone(cameras=(FRONT, WRIST))
    batch = replace(new_batch((FRONT, WRIST)), features={name: torch.zeros(ROWS, 1) for name in ("front", "wrist")})

    def encode(batch: Batch):
        seen.append((set(batch.features), batch.images["front"], batch.images["wrist"]))
        return backbone.encode(batch)

    for inject in ("overlay", "crop"):
        visual = new_visual((FRONT, WRIST), inject=inject)
        assert visual.uses_images
        visual.learn(batch, encode, generator=seeded())
        (plain, *_), (features, front, wrist) = seen[-2:]
        assert plain == {"front", "wrist"} and features == {"wrist"}
        assert not torch.equal(front, batch.images["front"]) and torch.equal(wrist, batch.images["wrist"])


class TestPictures:
    def test_draws_what_lies_where(self):
        """Lines run around the mark in its colour, done ones are grey, and nothing else is touched."""
        pictures = torch.zeros(4, 60, 80, 3, dtype=torch.uint8)
        box = torch.tensor([[0.5, 0.5, 0, 0], [0.5, 0.5, 0.5, 0.4], [0.25, 0.5, 0, 0], [0.5, 0.5, 0, 0]])[:, None]
        places = Places(box=box, standing=torch.tensor([1, 1, 2, 0])[:, None])
        drawn = draw(pictures, places, [Slot(camera="front", role="next")], "front")
        rows = [np.argwhere(picture.any(-1).numpy()) for picture in drawn]
        assert not pictures.any() and not len(rows[3])
        wanted = [((29.5, 39.5), (4, 4)), ((29.5, 39.5), (12, 20)), ((29.5, 19.5), (4, 4))]
        for index, (middle, reach) in enumerate(wanted):
            assert np.abs((rows[index].min(0) + rows[index].max(0)) / 2 - middle).max() <= 0.5
            assert np.abs((rows[index].max(0) - rows[index].min(0)) / 2 - reach).max() <= 1.5
        assert not drawn[1, 19:41, 21:59].any(), "what is in the box can still be seen"
        colours = {tuple(colour) for colour in drawn[:2].flatten(0, 2).tolist()}
        assert colours == {(0, 0, 0), COLOURS[0]} and drawn[2].amax((0, 1)).tolist() == list(DONE)
        assert torch.equal(draw(pictures, places, [Slot(camera="wrist", role="next")], "front"), pictures)

    def test_crop_is_the_part_around_the_mark(self):
        ramp = torch.arange(64).expand(48, 64)[None, :, :, None].expand(1, 48, 64, 3).to(torch.uint8)
        whole = cut_out(ramp, torch.tensor([[0.5, 0.5]]), 1.0)
        assert torch.equal(whole, ramp)
        part = cut_out(ramp, torch.tensor([[0.75, 0.5]]), 0.25)[0, 24, :, 0]
        assert abs(part[0] - 40) <= 1 and abs(part[-1] - 55) <= 1
        assert cut_out(ramp, torch.tensor([[1.0, 0.5]]), 0.5)[0, :, 40:].eq(0).all()


class TestHeatMap:
    def test_a_place_is_the_mean_of_its_distribution(self):
        places = torch.rand(50, 2, generator=seeded())
        wanted = spread(places, 16)
        torch.testing.assert_close(wanted.sum(-1), torch.ones(50))
        torch.testing.assert_close(wanted @ grid_points(16), places)

    def test_a_perfect_map_loses_nothing_and_is_read_exactly(self):
        places = torch.rand(50, 2, generator=seeded())
        logits = spread(places, 16).clamp(min=1e-12).log()
        torch.testing.assert_close(heat_loss(logits, places), torch.zeros(50), atol=1e-4, rtol=0)
        torch.testing.assert_close(read_heat(logits), places, atol=1e-4, rtol=0)

    def test_two_peaks_are_not_averaged(self):
        both = 0.6 * spread(torch.tensor([0.2, 0.2]), 16) + 0.4 * spread(torch.tensor([0.8, 0.8]), 16)
        torch.testing.assert_close(read_heat(both.clamp(min=1e-12).log()), torch.tensor([0.2, 0.2]), atol=0.03, rtol=0)


def test_bins_come_back_within_half_a_bin():
    numbers = torch.cat([torch.rand(50, generator=seeded()), torch.tensor([0.0, 1.0])])
    assert ((to_bins(numbers, 64) + 0.5) / 64 - numbers).abs().max() <= 0.5 / 64 + 1e-6


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"form": "pont"}, "Did you mean 'point'"),
            ({"head": "heat"}, "Did you mean 'heatmap'"),
            ({"inject": "overlays"}, "Did you mean 'overlay'"),
            ({"own": 0.8, "jittered": 0.4}, "0.8 and 0.4"),
            ({"patience": 0}, "at least 1 look"),
            ({"crop": 0.0}, "crop"),
            ({"camera": "frond"}, "Did you mean 'front'"),
        ],
    )
    def test_options(self, options, words):
        with pytest.raises(ConfigError, match=words):
            new_visual(**options)

    @pytest.mark.parametrize("inject", ["crop", "overlay"])
    def test_pictures_that_are_not_there(self, inject):
        with pytest.raises(ConfigError, match="no camera"):
            new_visual((), inject=inject)
        backbone, visual = new_backbone(), new_visual(inject=inject)
        context = backbone.encode(new_batch())
        stored = replace(new_batch(), images={}, features={"front": torch.zeros(ROWS, 1)})
        with pytest.raises(ConfigError, match="'front'"):
            visual.learn(stored, lambda batch: context, generator=seeded())

    def test_labels_of_another_form_are_named(self):
        visual = Visual(Visual.Config(form="regions"), width=WIDTH, cameras=(FRONT,))
        with pytest.raises(ConfigError, match="point 'next' on camera 'front'"):
            visual.fit([Thought(marks=(Mark(camera="front", centre=(0.5, 0.5)),))])
        with pytest.raises(ConfigError, match="no marks"):
            visual.fit([Thought()])

    def test_labels_on_a_camera_that_the_robot_has_not(self):
        visual = Visual(Visual.Config(), width=WIDTH, cameras=(FRONT,))
        with pytest.raises(ConfigError, match="Did you mean 'front'"):
            visual.fit([Thought(marks=(Mark(camera="fronts", centre=(0.5, 0.5)),))])

    def test_what_it_cannot_follow_is_said_before_an_episode(self):
        visual = new_visual(form="regions")
        visual.require(label(0))
        visual.require(Thought(words={"task": "of no concern"}))
        with pytest.raises(ConfigError, match="marks 'destination' on camera 'front'"):
            visual.require(Thought(marks=(Mark(camera="front", centre=(0.5, 0.5)),)))

    def test_a_batch_without_labels(self):
        backbone, visual = new_backbone(), new_visual()
        with pytest.raises(ConfigError, match="data label"):
            visual.learn(replace(new_batch(), thoughts=()), backbone.encode)
