"""Published ways to reason as options of `ecot`: `PolicyConfig(reasoner="ecot", reasoner_options=hybrid(), ...)`.

Those after ECoT-Lite (arXiv 2505.08243) act without words at run time; their difference is how they learn from them.
"""

from collections.abc import Sequence

Options = dict[str, int | float | bool | str]
SEGMENTS = ("subtask", "move")


def ecot(segments: Sequence[str] = SEGMENTS) -> Options:
    """Every segment is said anew at every look (arXiv 2407.08693)."""
    return {"segments": "; ".join(segments)}


def action_only(segments: Sequence[str] = SEGMENTS) -> Options:
    """No words at all: the control, and the second stage of ECoT-Lite's *pre-training* when a run sets out from a
    checkpoint of `ecot` (`TrainConfig.start`)."""
    return {"segments": "; ".join(segments), "learn": "act", "mode": "act"}


def co_training(segments: Sequence[str] = SEGMENTS) -> Options:
    """Words and actions are both learned, but the action never reads the words."""
    return {"segments": "; ".join(f"{segment} unseen" for segment in segments), "mode": "act"}


def dropout(segments: Sequence[str] = SEGMENTS, *, share: float = 0.5) -> Options:
    """Reasoning dropout: in `share` of the training samples there are no words."""
    return {"segments": "; ".join(segments), "learn": f"act {share:g}, think {1 - share:g}", "mode": "act"}


def scaffolding(segments: Sequence[str] = SEGMENTS, *, share: float = 0.5) -> Options:
    """The action reads words that are never predicted; in `share` of the training samples there are none."""
    return {"segments": "; ".join(segments), "learn": f"act {share:g}, follow {1 - share:g}", "mode": "act"}


def thinking_tokens(count: int = 8) -> Options:
    """Learned tokens without content in place of words: room to compute, nothing to learn from."""
    return {"segments": "", "learn": "act", "mode": "act", "pauses": count}


def hybrid(segments: Sequence[str] = SEGMENTS, *, mode: str = "act", lead: bool = False) -> Options:
    """Hybrid Training (OpenReview IBJtOltTbx): one policy that acts, thinks or follows, told by a token which. Ours is
    `lead`: see ECoT.Config."""
    learn = "act 0.25, think 0.5, follow 0.25"
    return {"segments": "; ".join(segments), "learn": learn, "mode": mode, "prefix": True, "lead": lead}


def fast(segments: Sequence[str] = SEGMENTS, *, refresh: int = 4) -> Options:
    """Fast ECoT (arXiv 2506.07639): all but the last segment are kept for `refresh` looks or until the gripper opens or
    closes, and what is due is said at once. Needs no other training than `ecot`."""
    kept = [f"{segment} refresh={refresh} event" for segment in segments[:-1]]
    return {"segments": "; ".join([*kept, *segments[-1:]]), "parallel": True}


def actions_as_language() -> Options:
    """Sub-task, then directions in centimetres, then the action in digits (OpenReview sFO9d6XSlf): together with the
    decoder `autoregressive` over the tokenizer `text`."""
    return ecot(("subtask", "motion"))
