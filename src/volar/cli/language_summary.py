"""`volar language summary RUN`: what corrections brought in an evaluation, and what the language model cost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from volar.cli.actors import JOURNAL
from volar.cli.output import Output
from volar.cli.tables import show
from volar.core.errors import ConfigError
from volar.core.robot import Episode
from volar.evaluation.records import read
from volar.reasoning.language.critic import corrections_used
from volar.statistics.intervals import wilson


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Of every arm that a language model led: success when at most so many corrections had been given, and questions,
    tokens and seconds per episode."""

    run: tyro.conf.Positional[Path]
    """folder of volar evaluate or volar compare"""


def by_corrections(episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """A success counts from the number of corrections on that it took; a failure never does. Broken episodes are left
    out."""
    judged = [episode for episode in episodes if episode.success is not None]
    used = np.array([corrections_used(episode.thoughts) for episode in judged])
    won = np.array([bool(episode.success) for episode in judged])
    rows = []
    for most in range(int(used.max(initial=0)) + 1):
        count = int((won & (used <= most)).sum())
        rate = wilson(count, len(judged))
        rows.append({"corrections": most, "successes": count, "episodes": len(judged),
                     "rate": rate.estimate, "low": rate.low, "high": rate.high})  # fmt: skip
    return rows


def cost(episodes: Sequence[Episode]) -> dict[str, float]:
    """Means per episode; seconds of waiting for decisions."""
    return {
        "questions": float(np.mean([sum(each.evaluations) for each in episodes])),
        "tokens_written": float(np.mean([sum(thought.tokens for thought in each.thoughts) for each in episodes])),
        "seconds": float(np.mean([sum(each.latencies) for each in episodes])),
        "given_up": float(np.mean(["trouble" in each.thoughts[-1].words for each in episodes])),
    }


def read_journal(path: Path) -> dict[str, Any]:
    """Totals of all arms together: a model is told its arm by nobody. Tokens are those that somebody counted."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return {
        "exchanges": len(lines), "unusable": sum(bool(line["complaint"]) for line in lines),
        "tokens_read": sum(line["read"] or 0 for line in lines),
        "tokens_written": sum(line["written"] or 0 for line in lines),
        "seconds": sum(line["seconds"] for line in lines),
    }  # fmt: skip


def summarise(run: Path) -> dict[str, Any]:
    """ConfigError where no arm said anything."""
    arms: dict[str, list[Episode]] = {}
    for record in read(run / "episodes.jsonl"):
        if record.episode.thoughts:
            arms.setdefault(record.key[0], []).append(record.episode)
    if not arms:
        raise ConfigError(f"No arm of {run} was led by a language model; volar report shows all others.")
    told = {name: {"by_corrections": by_corrections(some), "per_episode": cost(some)} for name, some in arms.items()}
    return {"run": str(run), "arms": told, "journal": read_journal(run / JOURNAL)}


def main(arguments: list[str]) -> Output:
    data = summarise(tyro.cli(Summary, prog="volar language summary", args=arguments).run)
    return Output(data, text(data))


def text(data: Mapping[str, Any]) -> str:
    rows = [
        (name, row["corrections"], f"{row['rate']:.0%} ({row['low']:.0%} to {row['high']:.0%})",
         f"{row['successes']}/{row['episodes']}")
        for name, arm in data["arms"].items() for row in arm["by_corrections"]
    ]  # fmt: skip
    costs = [
        (name, f"{each['questions']:.1f}", f"{each['tokens_written']:.0f}", f"{each['seconds']:.1f}",
         f"{each['given_up']:.0%}")
        for name, each in ((name, arm["per_episode"]) for name, arm in data["arms"].items())
    ]  # fmt: skip
    journal = data["journal"]
    parts = [
        show(("arm", "corrections at most", "success (95 % interval)", "episodes"), rows),
        show(("arm", "questions an episode", "tokens written", "seconds", "given up"), costs),
    ]
    if journal["exchanges"]:
        parts.append(
            f"All arms: {journal['exchanges']} exchanges, {journal['unusable']} with an unusable answer, "
            f"{journal['tokens_read']} tokens read, {journal['tokens_written']} written, {journal['seconds']:.0f} s."
        )
    return "\n\n".join(parts)
