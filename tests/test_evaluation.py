"""Records survive every kind of death, intervals cover what they promise, a summary says only what the records say."""

import itertools
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest, norm
from synthetic_run import RUN, TASKS, make_episode, write_run

from volar.core.errors import ConfigError
from volar.core.robot import Outcome
from volar.evaluation.films import data_uri, film_strip
from volar.evaluation.records import RecordFile, done, read, unpaired
from volar.evaluation.run import Arm, begin, read_run
from volar.evaluation.summary import summarise
from volar.evaluation.training import read_curves, read_facts, read_phases
from volar.statistics.intervals import (
    Pairs,
    count_pairs,
    mean_rate,
    paired_difference,
    score_interval,
    wilson,
)

GOLDEN = Path(__file__).parent / "golden" / "results.json"
Z = float(norm.ppf(0.975))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three records, one of them with everything in it."""
    path = tmp_path / "episodes.jsonl"
    with RecordFile(path) as records:
        records.append(
            make_episode(seed=1, latencies=(0.1, 0.2), evaluations=(10, 10), privileged=("goal",)), "films/1.jpg"
        )
        records.append(make_episode(seed=2, outcome=Outcome.TIME_OUT, instruction="schiebe die Scheibe \u2192 Ziel"))
        records.append(make_episode(seed=3, outcome=Outcome.ERROR, error="ValueError: boom"))
    return path


def change(path: Path, line: int, **values: object) -> None:
    lines = path.read_text().splitlines()
    content = {**json.loads(lines[line - 1]), **values}
    lines[line - 1] = json.dumps({key: value for key, value in content.items() if value is not ...})
    path.write_text("\n".join(lines) + "\n")


# Records


def test_what_is_appended_is_read(file: Path) -> None:
    first, second, third = read(file)
    assert first.episode == make_episode(seed=1, latencies=(0.1, 0.2), evaluations=(10, 10), privileged=("goal",))
    assert first.film == "films/1.jpg"
    assert second.film is None
    assert second.episode.instruction == "schiebe die Scheibe \u2192 Ziel"
    assert third.episode.outcome is Outcome.ERROR
    assert third.episode.success is None
    assert done(file) == {("policy", "metaworld/push", seed) for seed in (1, 2, 3)}
    assert done(file.with_name("none.jsonl")) == set()


def test_numpy_scalars_of_a_simulator_become_plain_numbers(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    episode = replace(make_episode(), total_reward=np.float64(1.5), latencies=(np.float64(0.25),))
    with RecordFile(path) as records:
        records.append(episode)
    assert read(path)[0].episode.total_reward == 1.5


def test_a_file_cut_at_any_byte_of_its_last_line_loses_that_episode_only(file: Path) -> None:
    data = file.read_bytes()
    start = data[:-1].rfind(b"\n") + 1
    for end in {*range(start + 1, len(data) - 1, 7), len(data) - 2}:
        file.write_bytes(data[:end])
        with pytest.warns(UserWarning, match=r"line 3 is unfinished .* due again"):
            assert len(read(file)) == 2
        with warnings.catch_warnings(action="ignore"), RecordFile(file) as records:
            assert ("policy", "metaworld/push", 3) not in records.known
            records.append(make_episode(seed=3, outcome=Outcome.ERROR, error="ValueError: boom"))
        assert file.read_bytes() == data
    file.write_bytes(data[:-1])  # all but the line's end: the record is whole
    with RecordFile(file) as records:
        records.append(make_episode(seed=4))
    assert len(read(file)) == 4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": "90"}, r"line 2, 'steps': expected a whole number, got '90'"),
        ({"steps": True}, r"'steps': expected a whole number, got True"),
        ({"steps": ...}, r"line 2: missing 'steps'"),
        ({"stepz": 3}, r"No key named 'stepz'. Did you mean 'steps'"),
        ({"total_reward": float("nan")}, r"'total_reward': expected a finite number, got nan"),
        ({"latencies": [0.1, float("inf")]}, r"'latencies'\[1\]: expected a finite number"),
        ({"latencies": 0.1}, r"'latencies': expected a list"),
        ({"outcome": "sucess"}, r"No value named 'sucess'. Did you mean 'success'"),
        ({"job": {"task": "a/b"}}, r"'job': missing 'seed', 'arm'"),
        ({"job": None}, r"'job': expected an object with named values, got None"),
        ({"film": "../secret.png"}, r"'film': expected a path inside the run's folder"),
        ({"film": "/etc/secret.png"}, r"'film': expected a path inside"),
        ({"film": ...}, r"line 2: expected an episode record with a 'film'"),
    ],
)
def test_a_damaged_record_is_refused_by_file_line_and_key(file: Path, values: dict[str, object], words: str) -> None:
    change(file, 2, **values)
    with pytest.raises(ConfigError, match=words) as error:
        read(file)
    assert str(error.value).startswith(f"{file}, line 2")


def test_damage_before_the_last_line_is_no_interruption(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0][:40] + b"\n" + lines[1])
    with pytest.raises(ConfigError, match="line 1 is not JSON"):
        read(file)
    file.write_bytes(b"[]\n")
    with pytest.raises(ConfigError, match="line 1: expected an episode record"):
        read(file)
    with pytest.raises(ConfigError, match="No record file"):
        read(file.with_name("none.jsonl"))


def test_an_episode_is_recorded_once(file: Path) -> None:
    before = file.read_bytes()
    with RecordFile(file) as records:
        with pytest.raises(ConfigError, match=r"already holds arm 'policy', task 'metaworld/push', seed 2"):
            records.append(make_episode(seed=2))
        with pytest.raises(ConfigError, match="expected a finite number"):
            records.append(make_episode(seed=9, total_reward=float("nan")))
        with pytest.raises(ConfigError, match="inside the run's folder"):
            records.append(make_episode(seed=9), "../film.jpg")
    assert file.read_bytes() == before
    file.write_bytes(before + before.splitlines(keepends=True)[0])
    with pytest.raises(ConfigError, match=r"line 4 repeats .* of line 1"):
        read(file)


def test_a_second_writer_is_refused(file: Path) -> None:
    with RecordFile(file), pytest.raises(ConfigError, match="Another process is writing"):
        RecordFile(file)
    RecordFile(file).close()


def test_scenes_that_differ_between_arms_are_named(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    with RecordFile(path) as records:
        for arm, seed, digest in (("policy", 1, "a"), ("expert", 1, "a"), ("policy", 2, "a"), ("expert", 2, "b")):
            records.append(make_episode(seed=seed, arm=arm, digest=digest))
        records.append(make_episode(seed=1, arm="blank_images", digest="z", outcome=Outcome.ERROR))
    (found,) = unpaired(read(path))
    assert (found.seed, found.digests) == (2, {"policy": "a", "expert": "b"})


# Runs


def test_a_run_goes_on_only_as_the_run_it_was(tmp_path: Path) -> None:
    begin(tmp_path, RUN)
    begin(tmp_path, RUN)
    assert read_run(tmp_path) == RUN
    other = replace(
        RUN, seeds=(1, 2), settings={**RUN.settings, "max_steps": 300, "cameras": {"corner2": 84}},
        arms={**RUN.arms, "second": Arm(role="other")},
        fingerprint={**RUN.fingerprint, "versions": {"torch": "2.0"}},
    )  # fmt: skip
    with pytest.raises(ConfigError) as error:
        begin(tmp_path, other)
    for words in (
        "seeds: [100, 101", "settings.max_steps: 200 there, 300 asked for now",
        "settings.cameras.corner2: 112 there, 84",
        "arms.second: 'absent' there", "fingerprint.versions.torch: '2.13.0' there, '2.0' asked",
        "fingerprint.versions.mujoco: '3.3.0' there, 'absent'",
    ):  # fmt: skip
        assert words in str(error.value)
    assert "title" not in str(error.value)


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No evaluation in"):
        read_run(tmp_path)
    (tmp_path / "holiday.txt").write_text("sun")
    with pytest.raises(ConfigError, match="not empty and is not an evaluation"):
        begin(tmp_path, RUN)
    (tmp_path / "run.json").write_text('{"kind": "training"}')
    with pytest.raises(ConfigError, match="kind 'training', expected 'evaluation'"):
        begin(tmp_path, RUN)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        read_run(tmp_path)


def test_a_run_needs_tasks_seeds_and_arms() -> None:
    with pytest.raises(ConfigError, match="at least one task"):
        replace(RUN, tasks=())
    with pytest.raises(ConfigError, match="names each seed once"):
        replace(RUN, seeds=(1, 1))
    with pytest.raises(ConfigError, match="at least one arm"):
        replace(RUN, arms={})


# Intervals


def close(interval: object, low: float, high: float, tolerance: float = 5e-4) -> None:
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=tolerance)  # type: ignore[attr-defined]


@pytest.mark.parametrize("episodes", [1, 2, 7, 20, 200])
def test_one_task_is_wilson(episodes: int) -> None:
    for won in {0, 1, episodes // 2, episodes - 1, episodes}:
        expected = binomtest(won, episodes).proportion_ci(0.95, "wilson")
        close(wilson(won, episodes), expected.low, expected.high, 1e-9)


def test_published_examples() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3 (Wilson).
    close(wilson(81, 263), 0.2553, 0.3662)
    close(wilson(15, 148), 0.0624, 0.1605)
    close(wilson(0, 20), 0.0, 0.1611)
    close(wilson(1, 29), 0.0061, 0.1718)
    # Fagerland, Lydersen & Laake, Statistics in Medicine 33 (2014) 2850-2875: airway reactivity, Tango's interval.
    close(paired_difference([Pairs(both=1, first_only=1, second_only=7, neither=12)]), -0.517, -0.026)
    # Newcombe, Statistics in Medicine 17 (1998) 873-890, table II, method 5 (Mee): independent proportions.
    counts, values, weights = np.array([[14.0, 56.0], [32.0, 48.0]]), np.array([0.0, 1.0]), np.array([1.0, -1.0])
    close(score_interval(counts, values, weights), 0.0533, 0.3377)


def test_edges() -> None:
    assert (wilson(20, 20).high, wilson(0, 20).low) == (1.0, 0.0)
    close(
        mean_rate([20] * 5, [20] * 5),
        *(lambda ci: (ci.low, ci.high))(binomtest(100, 100).proportion_ci(0.95, "wilson")),
    )
    for tasks in range(1, 12):
        assert mean_rate([3] * tasks, [3] * tasks).estimate == 1.0
        assert mean_rate([3] * tasks, [3] * tasks).high == 1.0
    same = paired_difference([Pairs(both=44, first_only=0, second_only=0, neither=0)])
    assert same.estimate == 0
    assert same.low == pytest.approx(-same.high)
    always = paired_difference([Pairs(both=0, first_only=20, second_only=0, neither=0)])
    assert always.high == 1.0
    assert 0 < always.low < 1
    for successes, episodes in (([], []), ([0], [0]), ([3, 0], [5, 0])):
        with pytest.raises(ValueError, match="at least one scored episode"):
            mean_rate(successes, episodes)
    with pytest.raises(ValueError, match="at least one scored episode"):
        paired_difference([])
    with pytest.raises(ValueError, match=r"must lie in 0..episodes"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson(1, 2, confidence=95.0)


@pytest.mark.parametrize("table", [(2, 16, 0, 2), (10, 3, 5, 2), (0, 0, 4, 30), (43, 0, 1, 0), (7, 7, 7, 7)])
def test_paired_difference_equals_brute_force(table: tuple[int, int, int, int]) -> None:
    """Every difference on a fine grid, tested with numerically maximised nuisance probabilities."""
    both, first, second, neither = table
    total, rest = sum(table), both + neither

    def accepted(difference: float) -> bool:
        def loss(q: float) -> float:  # q: chance that only the second succeeds
            chances = np.maximum([q + difference, q, 1 - 2 * q - difference], 1e-300)
            return -float(np.array([first, second, rest]) @ np.log(chances))

        low, high = max(0.0, -difference), (1 - difference) / 2
        q = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-10}).x
        error = np.sqrt((2 * q + difference - difference**2) / total)
        return abs((first - second) / total - difference) <= Z * error + 1e-9

    grid = [difference for difference in np.linspace(-0.9995, 0.9995, 4000) if accepted(float(difference))]
    interval = paired_difference([Pairs(both=both, first_only=first, second_only=second, neither=neither)])
    assert (interval.low, interval.high) == pytest.approx((grid[0], grid[-1]), abs=1.5e-3)


@pytest.mark.parametrize(("won", "episodes"), [((18, 3), (20, 10)), ((10, 0), (10, 7)), ((1, 39), (30, 40))])
def test_mean_of_two_tasks_equals_brute_force(won: tuple[int, int], episodes: tuple[int, int]) -> None:
    wins, sizes = np.array(won), np.array(episodes)

    def accepted(mean: float) -> bool:
        def loss(first: float) -> float:
            chances = np.clip([first, 2 * mean - first], 1e-12, 1 - 1e-12)
            return -float(wins @ np.log(chances) + (sizes - wins) @ np.log(1 - chances))

        low, high = max(0.0, 2 * mean - 1), min(1.0, 2 * mean)
        first = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-10}).x
        chances = np.array([first, 2 * mean - first])
        error = np.sqrt((chances * (1 - chances) / sizes).sum()) / 2
        return abs((wins / sizes).mean() - mean) <= Z * error + 1e-9

    grid = [mean for mean in np.linspace(0.0005, 0.9995, 2000) if accepted(float(mean))]
    interval = mean_rate(list(won), list(episodes))
    assert (interval.low, interval.high) == pytest.approx((grid[0], grid[-1]), abs=1.5e-3)


@pytest.mark.parametrize("chance", [0.02, 0.3, 0.5, 0.9, 0.98])
def test_wilson_covers(chance: float) -> None:
    """Exact coverage, averaged over nearby chances (for single ones it oscillates)."""
    intervals = [wilson(won, 30) for won in range(31)]
    covered = []
    for near in np.linspace(max(0.001, chance - 0.02), min(0.999, chance + 0.02), 21):
        inside = [interval.low <= near <= interval.high for interval in intervals]
        covered.append(binom.pmf(range(31), 30, near) @ inside)
    assert 0.93 < np.mean(covered) < 0.99


@pytest.mark.parametrize("chances", [(0.98,) * 5, (0.9, 0.9, 0.95, 0.8, 0.1), (1.0, 1.0, 0.95, 0.6, 0.3)])
def test_mean_rate_covers_where_walds_interval_does_not(chances: tuple[float, ...]) -> None:
    rng, size, true = np.random.default_rng(1), 10, float(np.mean(chances))
    draws, counts = np.unique(np.sort(rng.binomial(size, chances, (600, len(chances)))), axis=0, return_counts=True)
    intervals = [mean_rate(draw.tolist(), [size] * len(draw)) for draw in draws]
    inside = [interval.low <= true <= interval.high for interval in intervals]
    coverage = counts @ inside / counts.sum()
    assert coverage > 0.91
    rates = draws / size
    wald = Z * np.sqrt((rates * (1 - rates) / size).sum(1)) / len(chances)
    wald_coverage = counts @ (abs(rates.mean(1) - true) <= wald) / counts.sum()
    assert coverage > wald_coverage


def test_paired_difference_covers() -> None:
    """Two tasks, correlated arms: chances of (both, first only, second only, neither)."""
    rng, size = np.random.default_rng(2), 20
    tasks = ((0.5, 0.3, 0.05, 0.15), (0.1, 0.75, 0.0, 0.15))
    true = np.mean([task[1] - task[2] for task in tasks])
    draws = np.stack([rng.multinomial(size, task, 300) for task in tasks], axis=1)
    inside = []
    for draw in draws.tolist():
        pairs = [Pairs(both=b, first_only=f, second_only=s, neither=n) for b, f, s, n in draw]
        interval = paired_difference(pairs)
        inside.append(interval.low <= true <= interval.high)
    assert 0.92 < np.mean(inside) < 0.99


tables = st.lists(st.tuples(*[st.integers(0, 30)] * 4).filter(any), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(tables)
def test_properties_of_paired_differences(counts: list[tuple[int, int, int, int]]) -> None:
    pairs = [Pairs(both=b, first_only=f, second_only=s, neither=n) for b, f, s, n in counts]
    interval = paired_difference(pairs)
    assert -1 <= interval.low <= interval.estimate <= interval.high <= 1
    mirrored = paired_difference([replace(p, first_only=p.second_only, second_only=p.first_only) for p in pairs])
    close(mirrored, -interval.high, -interval.low, 1e-7)
    wider = paired_difference(pairs, confidence=0.99)
    assert wider.low <= interval.low + 1e-9
    assert wider.high >= interval.high - 1e-9
    tenfold = paired_difference(
        [Pairs(both=10 * b, first_only=10 * f, second_only=10 * s, neither=10 * n) for b, f, s, n in counts]
    )
    assert tenfold.high - tenfold.low < interval.high - interval.low


def test_pairs_are_counted() -> None:
    first, second = np.array([True, True, False, False, True]), np.array([True, False, True, False, False])
    assert count_pairs(first, second) == Pairs(both=1, first_only=2, second_only=1, neither=1)


# Summaries


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), films=False)


def test_golden_summary(run: Path) -> None:
    """Regenerate with `python tests/synthetic_run.py` and review the difference."""
    summary = json.loads(json.dumps(summarise(run).to_json()))
    del summary["curves"]
    expected = json.loads(GOLDEN.read_text())
    ours, golden = leaves(summary), leaves(expected)
    for path in sorted(ours.keys() | golden.keys()):
        found, wanted = ours.get(path, "absent"), golden.get(path, "absent")
        assert found == (pytest.approx(wanted) if isinstance(wanted, float) else wanted), path


def leaves(value: object, path: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return dict(itertools.chain.from_iterable(leaves(v, f"{path}/{k}").items() for k, v in value.items()))
    if isinstance(value, list):
        return dict(itertools.chain.from_iterable(leaves(v, f"{path}/{i}").items() for i, v in enumerate(value)))
    return {path: value}


def test_summary_counts_by_hand(run: Path) -> None:
    """The numbers of the page, counted again from the lines of the file."""
    summary = summarise(run)
    lines = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    push = [line for line in lines if line["job"]["task"] == "metaworld/push" and line["job"]["arm"] == "policy"]
    rate = summary.arms[0].tasks["metaworld/push"]
    assert rate.broken == 2 == sum(line["outcome"] == "error" for line in push)
    assert rate.scored == 18
    assert rate.successes == sum(line["outcome"] == "success" for line in push)
    waits = [seconds for line in lines if line["job"]["arm"] == "policy" for seconds in line["latencies"]]
    assert summary.arms[0].latency_median == pytest.approx(np.median(waits))
    assert [broken.seed for broken in summary.broken] == [100, 101]
    assert summary.differences[0].other == "shuffled_instruction"
    assert (summary.differences[0].pairs, summary.differences[0].left_out) == (98, 2)
    assert summary.instructions["metaworld/push"] == (TASKS["metaworld/push"],)
    won = {
        (line["job"]["arm"], line["job"]["seed"]): line["outcome"]
        for line in lines
        if line["job"]["task"] == "metaworld/push"
    }
    gaps = [
        (won["policy", seed] == "success") - (won["blank_images", seed] == "success") for seed in range(102, 120)
    ]  # fmt: skip
    assert summary.differences[1].tasks["metaworld/push"].estimate == pytest.approx(np.mean(gaps))


def test_unpaired_scenes_are_left_out_of_differences(run: Path, tmp_path: Path) -> None:
    lines = (run / "episodes.jsonl").read_text()
    (tmp_path / "run.json").write_text((run / "run.json").read_text())
    scene = '"first_observation": "metaworld/push:119"'
    arm = lines.index('"arm": "blank_images", "max_steps"')
    position = lines.index(scene, arm)
    changed = lines[:position] + scene.replace("119", "other") + lines[position + len(scene) :]
    (tmp_path / "episodes.jsonl").write_text(changed)
    summary = summarise(tmp_path)
    assert [(scene.task, scene.seed) for scene in summary.unpaired] == [("metaworld/push", 119)]
    assert [difference.left_out for difference in summary.differences] == [2, 3, 2, 2]


def test_a_summary_needs_episodes_of_known_arms_tasks_and_seeds(tmp_path: Path) -> None:
    begin(tmp_path, RUN)
    with pytest.raises(ConfigError, match="No record file"):
        summarise(tmp_path)
    (tmp_path / "episodes.jsonl").touch()
    with pytest.raises(ConfigError, match="no finished episode yet"):
        summarise(tmp_path)
    for facts, words in (
        ({"arm": "polycy"}, "arm 'polycy'"),
        ({"task": "toy/x"}, "task 'toy/x'"),
        ({"seed": 7}, "seed 7"),
    ):
        (tmp_path / "episodes.jsonl").unlink()
        with RecordFile(tmp_path / "episodes.jsonl") as records:
            records.append(make_episode(**{"seed": 100, **facts}))
        with pytest.raises(ConfigError, match=f"{words}, which run.json does not name"):
            summarise(tmp_path)


def test_metrics_of_an_interrupted_training_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "loss": 2.0, "note": "x"}\n{"step": 2, "loss": NaN}\n{"step": 2, "validation_loss": 3}\n'
        '{"step": 3, "loss": 1.0}\n{"step": 4, "lo'
    )
    curves = read_curves(path)
    assert curves.keys() == {"loss", "validation_loss"}
    assert (curves["loss"].steps, curves["loss"].values) == ((1.0, 3.0), (2.0, 1.0))
    assert read_curves(tmp_path / "none.jsonl") == {}
    path.write_text('{"step": 1, "loss": 2.0}\n{"loss": 1}\n')
    with pytest.raises(ConfigError, match=r"line 2: expected an object with a numeric 'step'"):
        read_curves(path)
    path.write_text("".join(json.dumps({"step": i, "loss": i % 2}) + "\n" for i in range(5000)))
    assert len(read_curves(path)["loss"].steps) <= 240
    assert np.mean(read_curves(path)["loss"].values) == pytest.approx(0.5, abs=0.01)


def test_damaged_facts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "phases.json"
    assert read_phases(path) == {}
    for text, words in (
        ("[1]", "expected an object"),
        ("{", "is not JSON"),
        ('{"train": "long"}', "'train' must be a number"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=words):
            read_phases(path)
    path.write_text('{"a": {"b": 1}}')
    assert read_facts(path) == {"a": {"b": 1}}


# Films


def test_film_strip_shows_first_and_last_frame() -> None:
    import io

    from PIL import Image

    frames = np.zeros((30, 40, 60, 3), dtype=np.uint8)
    frames[0], frames[-1] = (255, 0, 0), (0, 0, 255)
    strip = np.asarray(Image.open(io.BytesIO(film_strip(frames))))
    assert strip.shape == (40, 8 * 60 + 7 * 2, 3)
    assert abs(strip[20, 30].astype(int) - (255, 0, 0)).max() < 20
    assert abs(strip[20, -30].astype(int) - (0, 0, 255)).max() < 20
    assert np.asarray(Image.open(io.BytesIO(film_strip(frames[:3])))).shape[1] == 3 * 60 + 2 * 2
    with pytest.raises(ConfigError, match="at least one frame"):
        film_strip(frames[:0])


def test_films_come_from_the_runs_folder_only(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (run / "link.png").symlink_to(tmp_path / "secret.png")
    (run / "film.mp4").write_bytes(b"abc")
    assert data_uri(run, "film.mp4") == "data:video/mp4;base64,YWJj"
    assert data_uri(run, "gone.jpg") is None
    for film in ("../secret.png", "link.png"):
        with pytest.raises(ConfigError, match="outside the run's folder"):
            data_uri(run, film)
    with pytest.raises(ConfigError, match=r"not one of .jpg"):
        data_uri(run, "film.svg")
