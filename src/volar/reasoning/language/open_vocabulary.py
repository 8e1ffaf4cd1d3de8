"""Open-vocabulary detectors of `transformers`, such as OWLv2 (arXiv 2306.09683) and Grounding DINO (2303.05499).

Code from the hub is never run, and only safetensors are read.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from volar.core.errors import ConfigError
from volar.reasoning.language.detection import Detection, Detector

GREY = 127


class OpenVocabulary(Detector):
    """Final. weights: a folder, or a name on the hub. threshold: of the score below which nothing was seen."""

    def __init__(self, weights: str, threshold: float = 0.1) -> None:
        if not 0 <= threshold < 1:
            raise ConfigError(f"threshold must be at least 0 and below 1, got {threshold}.")
        try:
            self._processor = AutoProcessor.from_pretrained(weights, trust_remote_code=False)
            model = AutoModelForZeroShotObjectDetection.from_pretrained(
                weights, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise ConfigError(f"{weights} holds no detector that transformers knows: {error}") from error
        self._model, self._threshold = model.eval().requires_grad_(False), threshold

    def detect(self, image: UInt8[np.ndarray, "_ _ 3"], names: Sequence[str]) -> list[Detection]:
        height, width = image.shape[:2]
        side = max(height, width)
        # OWLv2 pads to a square and counts its boxes in that; a square picture leaves no doubt.
        square = np.pad(image, ((0, side - height), (0, side - width), (0, 0)), constant_values=GREY)
        inputs = self._processor(text=[list(names)], images=square, return_tensors="pt")
        with torch.inference_mode():
            outputs = self._model(**inputs)
        found = self._processor.post_process_grounded_object_detection(
            outputs, threshold=self._threshold, target_sizes=[(side, side)], text_labels=[list(names)]
        )[0]
        best: dict[str, Detection] = {}
        for name, score, box in zip(
            found["text_labels"], found["scores"].tolist(), found["boxes"].tolist(), strict=True
        ):
            if name in names and (name not in best or score > best[name].score):
                left, top, right, bottom = box
                low = max(left / width, 0.0), max(top / height, 0.0)
                high = min(right / width, 1.0), min(bottom / height, 1.0)
                if low[0] < high[0] and low[1] < high[1]:
                    best[name] = Detection(name=name, score=score, low=low, high=high)
        return list(best.values())
