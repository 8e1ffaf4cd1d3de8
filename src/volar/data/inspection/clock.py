"""Times of frames that volar still accepts and other readers do not."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from volar.data.findings import Finding, note
from volar.data.inspection.subject import Subject

TOLERANCE: Final = 1e-4  # seconds; lerobot's default, beyond which it refuses to read


def uneven_times(subject: Subject) -> Iterator[Finding]:
    """Opening refuses what is off by a twentieth of a frame; this tells what lies between."""
    arrays, fps = subject.dataset.arrays, subject.dataset.fps
    due = arrays["frame_index"] / fps
    off = np.abs(arrays["timestamp"] - due)
    # float32 cannot say the time of a long episode more exactly
    wrong = np.flatnonzero(off > TOLERANCE + np.spacing(due.astype(np.float32)))
    if len(wrong):
        worst = int(off.argmax())
        yield note(
            "uneven-times",
            f"{len(wrong)} time stamps are off the frame rate of {fps:g} by up to {off[worst] * 1e3:.2f} ms; lerobot "
            f"refuses more than {TOLERANCE * 1e3:g} ms",
            "Harmless in volar; write the data set anew for lerobot.",
            feature="timestamp", episode=int(arrays["episode_index"][wrong[0]]),
        )  # fmt: skip
