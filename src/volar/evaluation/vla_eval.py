"""Results that vla-eval wrote (`*_aggregate.json`) as an evaluation of ours, for `volar report` and `volar compare`.

Nothing is filled in that its file does not tell: what is unknown stands in the run's settings, in words.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volar.core.errors import ConfigError
from volar.core.robot import Episode, Job, Outcome
from volar.evaluation.records import RecordFile, key_of
from volar.evaluation.run import Arm, RunInfo, begin

UNKNOWN = (
    "how long decisions took, and how many actions were carried out per look",
    "what the policy could read that a real robot cannot",
    "what scenes looked like: two results of equal settings are paired by episode number, on trust",
    "how episodes went: no films, no measures, so no causes of failure",
)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """broken: episodes that vla-eval counts as failures and that are not scored here."""

    episodes: int
    broken: int
    unknown: tuple[str, ...]


def import_results(source: Path, out: Path, *, arm: str) -> Imported:
    """Write run.json and episodes.jsonl into `out`. source: an aggregate file, or a folder that holds one. arm: a name
    for who was evaluated. Raises ConfigError where the file is not what vla-eval writes; the same file again is fine.
    """
    path = _file(source)
    data = path.read_bytes()
    try:
        content = json.loads(data)
        episodes = tuple(_episodes(content, arm))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{path} is no result of vla-eval ({type(error).__name__}: {error}); `vla-eval export` writes "
            f"*_aggregate.json."
        ) from error
    if not episodes:
        raise ConfigError(f"{path} holds no episode.")
    broken = sum(episode.outcome is Outcome.ERROR for episode in episodes)
    unknown = tuple(_unknown(content, broken))
    begin(out, _run(content, episodes, arm, unknown, sha256=hashlib.sha256(data).hexdigest()))
    with RecordFile(out / "episodes.jsonl") as records:
        for episode in episodes:
            if key_of(episode.job) not in records.known:
                records.append(episode)
    return Imported(episodes=len(episodes), broken=broken, unknown=unknown)


def _file(source: Path) -> Path:
    if source.is_file():
        return source
    found = sorted(source.glob("*_aggregate.json"))
    if len(found) != 1:
        raise ConfigError(
            f"{source} holds {len(found)} results of vla-eval (*_aggregate.json); name one"
            f"{': ' + ', '.join(map(str, found)) if found else ', after vla-eval export'}."
        )
    return found[0]


def _run(
    content: Mapping[str, Any], episodes: tuple[Episode, ...], arm: str, unknown: tuple[str, ...], *, sha256: str
) -> RunInfo:
    harness = f"vla-eval {content['harness_version']}"
    server = content.get("server_info") or {}
    who = f"{server.get('model_server', 'a model server')}, evaluated by {harness} on {content['created_at'][:10]}"
    return RunInfo(
        title=f"{content['benchmark']} by {harness}",
        tasks=tuple(dict.fromkeys(episode.job.task for episode in episodes)),
        seeds=tuple(sorted({episode.job.seed for episode in episodes})),
        arms={arm: Arm(role="policy", description=f"{who}. Its file does not tell {'; '.join(unknown)}.")},
        success_semantics=f"what {content['config']['benchmark']} of {harness} calls success when its episode ends",
        settings={
            "mode": content["mode"], "max_steps": content["config"]["max_steps"], "unknown": list(unknown),
            "model_server": server, "seeds_are": "numbers of episodes, in the benchmark's own order",
        },
        fingerprint={
            "environment": {"simulator": harness, **_settings(content), "render": content.get("render")},
            "source_sha256": sha256,
        },
    )  # fmt: skip


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be equal for episodes of equal number to begin alike."""
    return {"benchmark": content["config"]["benchmark"], "params": content["config"]["params"]}


def _episodes(content: Mapping[str, Any], arm: str) -> Iterator[Episode]:
    rows = [(task["task"], episode) for task in content["tasks"] for episode in task["episodes"]]
    limit = content["config"]["max_steps"] or max((int(row.get("steps", 0)) for _, row in rows), default=0)
    same = json.dumps([content["harness_version"], _settings(content)], sort_keys=True)
    for task, row in rows:
        scene = hashlib.sha256(f"{same}/{task}/{row['episode_id']}".encode()).hexdigest()[:16]
        yield Episode(
            job=Job(task=f"{content['benchmark']}/{task}", seed=int(row["episode_id"]), arm=arm, max_steps=int(limit)),
            instruction=str(row.get("name", task)), outcome=_outcome(row, limit), steps=int(row.get("steps", 0)),
            first_observation=f"vla-eval:{scene}", executed_per_chunk=0,
            error=f"{row['failure_reason']}: {row.get('failure_detail', '')}" if row.get("failure_reason") else None,
        )  # fmt: skip


def _outcome(row: Mapping[str, Any], limit: int) -> Outcome:
    if row.get("failure_reason"):
        return Outcome.ERROR
    success = row["metrics"].get("success")
    if success not in (0, 1):
        raise ConfigError(f"An episode of vla-eval has a metric 'success', true or false; found {row['metrics']}.")
    if success:
        return Outcome.SUCCESS
    return Outcome.TIME_OUT if row["steps"] >= limit else Outcome.TERMINATED


def _unknown(content: Mapping[str, Any], broken: int) -> Iterator[str]:
    yield from UNKNOWN
    if content["config"]["max_steps"] is None:
        yield "how many steps an episode may take: the longest one is taken for the limit"
    if content.get("partial"):
        yield "the episodes that are missing: the evaluation was not finished"
    if broken:
        yield f"how {broken} broken episodes would have ended: failures for vla-eval, not scored here"
