"""Things with places from pictures: boxes by a detector, metres by geometry, held to the simulator's truth."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from test_language import PICK, Says, run, says, serving, thing

from volar.core.calibration import Calibration
from volar.core.errors import ConfigError, EpisodeError
from volar.core.objects import NamedObject, Workspace
from volar.core.robot import Observation
from volar.envs import make_env
from volar.envs.controls import BlankImages
from volar.envs.tabletop.world import HIGH, LOW, Tabletop
from volar.policies.language_primitives import LanguagePrimitives
from volar.policies.perception import DetectorPerception
from volar.reasoning.language.detection import Detection, Detector, endpoint_detector, read_boxes
from volar.reasoning.language.locating import UNIT, Seen, locate

NAMES = ("red cube", "green cube", "blue cube", "yellow bowl")


@pytest.fixture(scope="module")
def table() -> Iterator[Tabletop]:
    env = Tabletop("pick-place-red", cameras={"front": 256, "top": 256})
    yield env
    env.close()


def seen_as(thing: NamedObject, camera: Calibration) -> Seen:
    corners = camera.project(UNIT * thing.size + thing.position - [0, 0, thing.size[2] / 2]).uv
    return Seen(calibration=camera, low=tuple(corners.min(0).tolist()), high=tuple(corners.max(0).tolist()))


class TestGeometry:
    @pytest.mark.parametrize("cameras", [("front",), ("front", "top")])
    @pytest.mark.parametrize("place", [(0.0, 0.0), (0.15, -0.13), (-0.2, 0.1)])
    def test_a_box_on_the_picture_becomes_the_thing_that_was_there(self, table, cameras, place):
        for side, high in ((0.024, 0.024), (0.106, 0.025), (0.06, 0.1)):
            true = thing(*place, high / 2, size=(side, side, high))
            found = locate([seen_as(true, table.calibrations()[name]) for name in cameras], table=0.0)
            assert found is not None
            assert np.abs(found.position - true.position).max() < 0.001
            assert np.abs(found.size - true.size).max() < 0.002

    def test_two_cameras_see_that_a_thing_is_off_the_table(self, table):
        true = thing(0.05, -0.05, 0.13)
        found = locate([seen_as(true, camera) for camera in table.calibrations().values()], table=0.0)
        assert found is not None and np.abs(found.position - true.position).max() < 0.002

    def test_from_straight_above_a_thing_is_taken_to_be_as_high_as_wide(self, table):
        true = thing(0.1, 0.1)
        found = locate([seen_as(true, table.calibrations()["top"])], table=0.0)
        assert found is not None and np.abs(found.position - true.position).max() < 0.003

    def test_what_cannot_stand_on_the_table_is_no_thing(self, table):
        camera = table.calibrations()["front"]
        tilted = Calibration(
            camera="front", height=256, width=256, intrinsics=camera.intrinsics,
            extrinsics=np.array([[1.0, 0, 0, 0], [0, 0, -1, 0.5], [0, 1, 0, 0.5], [0, 0, 0, 1]]),
        )  # fmt: skip
        assert locate([Seen(calibration=tilted, low=(0.4, 0.1), high=(0.5, 0.2))], table=0.0) is None
        assert locate([Seen(calibration=tilted, low=(0.4, 0.8), high=(0.5, 0.9))], table=0.0) is not None


class Colours(Detector):
    """Finds the things of `tabletop` by what they reflect most, as a detector made for this table would."""

    def detect(self, image: UInt8[np.ndarray, "_ _ 3"], names: Sequence[str]) -> list[Detection]:
        red, green, blue = image.astype(float).transpose(2, 0, 1)
        masks = {
            "red cube": red > 1.9 * np.maximum(green, blue), "green cube": green > 1.6 * np.maximum(red, blue),
            "blue cube": blue > 1.6 * np.maximum(red, green), "yellow bowl": np.minimum(red, green) > 2.2 * blue,
        }  # fmt: skip
        found = []
        for name in names:
            rows, columns = np.nonzero(masks[name] & (image.max(axis=2) > 60))  # what is dark has no colour in films
            if len(rows) > 30:
                low = (float(columns.min()) / image.shape[1], float(rows.min()) / image.shape[0])
                high = (float(columns.max() + 1) / image.shape[1], float(rows.max() + 1) / image.shape[0])
                found.append(Detection(name=name, score=1.0, low=low, high=high))
        return found


@pytest.mark.sim
class TestPictures:
    @pytest.mark.parametrize("seed", [3, 4, 5])
    def test_real_pictures_give_places_to_within_a_centimetre(self, table, seed):
        table.reset(seed)
        perception = DetectorPerception(NAMES, Colours())
        perception.bind(table)
        found, true = perception.objects(table.observe()), table.named_objects()
        assert found.keys() == true.keys() and perception.privileged == ()
        for name, there in true.items():
            assert np.abs(found[name].position - there.position)[:2].max() < 0.01, name

    def test_without_its_pictures_it_sees_nothing_and_holds_still(self):
        env = Tabletop("pick-place-red", cameras={"front": 96})
        actor = LanguagePrimitives(
            LanguagePrimitives.Config(),
            Says(),
            DetectorPerception(NAMES, Colours()),
            spec=env.spec,
            workspace=Workspace(low=LOW, high=HIGH),
        )
        env.close()
        episode = run(BlankImages(actor), steps=8, cameras={"front": 96})
        assert episode.error is None and "in sight" in episode.thoughts[-1].words["trouble"]
        assert episode.trajectory is not None and np.abs(episode.trajectory.actions[:, :3]).max() == 0

    def test_a_cube_goes_into_the_bowl_by_pictures_alone(self):
        model = Says(PICK[0], PICK[1], PICK[2], PICK[3])
        cameras = {"front": 160, "top": 160}
        spec = Tabletop("pick-place-red", cameras=cameras).spec
        config = LanguagePrimitives.Config(decompose=False)
        actor = LanguagePrimitives(
            config,
            model,
            DetectorPerception(NAMES, Colours(), every=5),
            spec=spec,
            workspace=Workspace(low=LOW, high=HIGH),
        )
        episode = run(actor, steps=500, cameras=cameras)
        assert episode.success and episode.privileged == ()


class TestModels:
    def test_a_model_is_shown_the_picture_and_answers_with_boxes(self):
        wrong, right = ({"found": [{"name": name, "box": [100, 250, 200, 500]}]} for name in ("red cub", "red cube"))
        replies = [says(wrong), says(right)]
        image = np.zeros((8, 8, 3), dtype=np.uint8)
        with serving(*replies) as (url, seen):
            found = endpoint_detector(base_url=url, model="sees").detect(image, NAMES)
        assert found == [Detection(name="red cube", score=1.0, low=(0.1, 0.25), high=(0.2, 0.5))]
        words, picture = seen[0]["messages"][0]["content"]
        assert "red cube, green cube" in words["text"] and picture["image_url"]["url"].startswith(
            "data:image/png;base64,"
        )
        assert "'red cub' with box" in seen[1]["messages"][-1]["content"]

    @pytest.mark.parametrize("box", [[200, 250, 100, 500], [0, 0, 0, 10], [0, 0, 1200, 10], [1, 2, 3]])
    def test_boxes_that_are_none_are_refused(self, box):
        with pytest.raises(ConfigError, match=r"empty box|not as wanted"):
            read_boxes(json.dumps({"found": [{"name": "red cube", "box": box}]}), NAMES)

    def test_a_detector_of_transformers_from_a_folder(self, tmp_path):
        folder = tiny_owl(tmp_path)
        from volar.reasoning.language.open_vocabulary import OpenVocabulary

        detector = OpenVocabulary(str(folder), threshold=0.0)
        image = np.random.default_rng(0).integers(0, 255, (20, 32, 3)).astype(np.uint8)
        found = detector.detect(image, ("red cube", "bowl"))
        assert {each.name for each in found} <= {"red cube", "bowl"} and found
        assert all(0 <= each.low[k] < each.high[k] <= 1 for each in found for k in (0, 1))
        between = sum(each.score for each in found) / len(found)
        surer = OpenVocabulary(str(folder), threshold=between).detect(image, ("red cube", "bowl"))
        assert surer == [each for each in found if each.score > between]
        with pytest.raises(ConfigError, match="holds no detector"):
            OpenVocabulary(str(tmp_path / "nothing"))

    def test_what_cannot_work_is_said_before_it_begins(self, tmp_path, table):
        with pytest.raises(ConfigError, match="needs names"):
            DetectorPerception((), Colours())
        with pytest.raises(ConfigError, match="Did you mean 'endpoint'"):
            DetectorPerception(NAMES, "endpont")
        toy = make_env("toy/reach-red", cameras={})
        with pytest.raises(ConfigError, match="does not know its cameras"):
            DetectorPerception(NAMES, Colours()).bind(toy)
        path = tmp_path / "cameras.json"
        path.write_text(json.dumps([table.calibrations()["top"].to_json()]))
        with pytest.raises(ConfigError, match="No calibrated camera named 'front'"):
            DetectorPerception(NAMES, Colours(), calibration=str(path)).bind(table)
        with pytest.raises(ConfigError, match="needs a camera, and this robot has none"):
            LanguagePrimitives(
                LanguagePrimitives.Config(), Says(), DetectorPerception(NAMES, Colours()),
                spec=Tabletop("push", cameras={}).spec, workspace=Workspace(low=LOW, high=HIGH),
            )  # fmt: skip

    def test_what_goes_out_of_sight_stays_where_it_was_and_nobody_there_is_a_failure(self, table):
        class Once(Detector):
            left = 1

            def detect(self, image: UInt8[np.ndarray, "_ _ 3"], names: Sequence[str]) -> list[Detection]:
                self.left -= 1
                return (
                    [Detection(name="red cube", score=1.0, low=(0.4, 0.5), high=(0.5, 0.6))] if self.left >= 0 else []
                )

        class Nobody(Detector):
            def detect(self, image: UInt8[np.ndarray, "_ _ 3"], names: Sequence[str]) -> list[Detection]:
                raise EpisodeError("nobody there")

        image = np.zeros((256, 256, 3), dtype=np.uint8)
        look = Observation(
            images={"front": image}, proprioception=np.zeros(4, dtype=np.float32), instruction="go", time=0.0
        )
        perception = DetectorPerception(NAMES, Once())
        perception.bind(table)
        first = dict(perception.objects(look))
        assert first.keys() == {"red cube"} and perception.objects(look) == first
        actor = LanguagePrimitives(
            LanguagePrimitives.Config(),
            Says(),
            DetectorPerception(NAMES, Nobody()),
            spec=table.spec,
            workspace=Workspace(low=LOW, high=HIGH),
        )
        actor.bind(table)
        chunk = actor.act(look)
        assert chunk.thought is not None and chunk.thought.words["trouble"] == "nobody there"
        assert np.abs(chunk.actions[:, :3]).max() == 0


def tiny_owl(folder: Path) -> Path:
    """A random OWLv2 of a few thousand weights with a vocabulary of letters, saved as the published ones are."""
    from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    # Number 0 is for padding: a query that begins with it is masked out.
    words = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16, pad_token="!"
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(3)
    config = Owlv2Config(
        text_config={**sizes, "vocab_size": len(words), "max_position_embeddings": 16, "pad_token_id": 0,
                     "bos_token_id": 1, "eos_token_id": 2},
        vision_config={**sizes, "image_size": 32, "patch_size": 8}, projection_dim=16,
    )  # fmt: skip
    Owlv2ForObjectDetection(config).save_pretrained(folder / "owl")
    images = Owlv2ImageProcessor(size={"height": 32, "width": 32})
    Owlv2Processor(images, tokenizer).save_pretrained(folder / "owl")
    return folder / "owl"
