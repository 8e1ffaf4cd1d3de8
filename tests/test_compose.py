"""Several checkpoints that act as one: exact where it can be, refused where it cannot work."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from volar.cli import main
from volar.core.errors import ConfigError, EpisodeError
from volar.core.model import Budget, Predicted
from volar.core.robot import Camera, Observation, RobotSpec
from volar.data.normalize import Normalizer, exact_statistics
from volar.envs import make_env
from volar.evaluation.records import read
from volar.planning.compose import (
    conjunction,
    mixed_predictor,
    require_same_space,
    residuals,
    shared,
    weight_grid,
)
from volar.planning.composed import ComposedActor, count_composed, load_acting, load_composed
from volar.planning.composition import Composition, read_composition, union_robot, write_composition
from volar.policies.actor import PolicyActor
from volar.policies.config import PolicyConfig
from volar.policies.vla import ACTION, PROPRIOCEPTION, Policy

TOY = make_env("toy/reach-red").spec
BLIND = replace(TOY, cameras=())
FIELDS = ("flow", "diffusion", "equilibrium")
DRAWN = np.random.default_rng(0)


def policy(
    decoder: str = "flow", *, seed: int = 0, robot: RobotSpec = TOY, horizon: int = 4, reach: float = 1.0,
    tokenizer: str | None = None, **options: float | str,
) -> Policy:  # fmt: skip
    """Untrained. reach: of the actions that it would have learned from."""
    torch.manual_seed(seed)
    config = PolicyConfig(
        backbone="tiny" if robot.cameras else "state", decoder=decoder, horizon=horizon, tokenizer=tokenizer,
        normalise_action="min_max", normalise_proprioception="mean_std", decoder_options=dict(options),
    )  # fmt: skip
    sizes = {ACTION: (robot.action.dim, reach), PROPRIOCEPTION: (len(robot.proprioception), 1.0)}
    statistics = {name: exact_statistics(np.stack([-np.full(d, r), np.full(d, r)])) for name, (d, r) in sizes.items()}
    made = Policy(config, robot=robot, statistics=statistics)
    if tokenizer is not None:
        chunks = torch.tanh(torch.randn(64, horizon, robot.action.dim, generator=torch.Generator().manual_seed(1)))
        made.fit_tokenizer(chunks, generator=torch.Generator().manual_seed(2))
    return made.eval()


def seen(seed: int = 0) -> Observation:
    env = make_env("toy/reach-red")
    env.reset(seed)
    return env.observe()


def composed(*policies: Policy, how: str = "convex", weights=None, draws: int = 1, **options) -> ComposedActor:
    composition = Composition(how=how, weights=weights, draws=draws)  # pyright: ignore[reportArgumentType]
    return ComposedActor(policies, composition, names=[f"p{i}" for i in range(len(policies))], execute=2, **options)


def chunk_of(actor, observation: Observation | None = None):
    actor.reset(7)
    return actor.act(observation or seen())


# ---- one of them alone ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", FIELDS)
@pytest.mark.parametrize("which", [0, 1])
def test_a_weight_of_one_is_that_member_bit_for_bit(decoder, which):
    members = [policy(decoder, seed=0), policy(decoder, seed=1)]
    weights = [0.0, 0.0]
    weights[which] = 1.0
    mixed, alone = chunk_of(composed(*members, weights=weights)), chunk_of(PolicyActor(members[which], execute=2))
    np.testing.assert_array_equal(mixed.actions, alone.actions)
    assert mixed.evaluations == alone.evaluations and mixed.strangeness == alone.strangeness
    other = chunk_of(PolicyActor(members[1 - which], execute=2))
    assert not np.array_equal(mixed.actions, other.actions)


@pytest.mark.parametrize("how", ["mixture", "product"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_tokens_of_one_member_alone(how, temperature):
    members = [policy("autoregressive", seed=s, tokenizer="bins", temperature=temperature) for s in (0, 1)]
    mixed = chunk_of(composed(*members, how=how, weights=[0.0, 1.0]))
    alone = chunk_of(PolicyActor(members[1], execute=2))
    np.testing.assert_array_equal(mixed.actions, alone.actions)
    both = chunk_of(composed(*members, how=how))
    assert both.evaluations == 2 * alone.evaluations == 2 * mixed.evaluations


def test_twins_that_are_the_same_policy_change_nothing():
    one = policy()
    mixed, alone = chunk_of(composed(one, one)), chunk_of(PolicyActor(one, execute=2))
    np.testing.assert_array_equal(mixed.actions, alone.actions)
    assert mixed.evaluations == 2 * alone.evaluations, "asking twice is paid for twice"


# ---- what each sees, and what it costs ------------------------------------------------------------------------------


def test_a_policy_with_eyes_and_one_without():
    sees, blind = policy(seed=0), policy(seed=1, robot=BLIND)
    both = composed(sees, blind, weights=[0.4, 0.6])
    assert both.robot == TOY and both.uses_images
    light, dark = seen(), replace(seen(), images={name: 0 * image for name, image in seen().images.items()})
    assert not np.array_equal(chunk_of(both, light).actions, chunk_of(both, dark).actions)
    alone = composed(sees, blind, weights=[0.0, 1.0])
    assert alone.robot == TOY and not alone.uses_images, "nothing is rendered for who does not look"
    np.testing.assert_array_equal(
        chunk_of(alone, replace(seen(), images={})).actions, chunk_of(PolicyActor(blind, execute=2)).actions
    )


def test_each_member_finds_its_own_numbers():
    """One knows y and x, in this order; the other x and a number that only it has."""
    first, second = (replace(BLIND, proprioception=names) for names in (("y", "x"), ("x", "z")))
    members = [policy(seed=0, robot=first), policy(seed=1, robot=second)]
    actor = composed(*members)
    assert actor.robot.proprioception == ("y", "x", "z")
    y, x, z = (0.3, -0.2, 0.7)
    together = Observation(images={}, proprioception=np.float32([y, x, z]), instruction="go", time=0.0)
    for weights, values in (([1.0, 0.0], (y, x)), ([0.0, 1.0], (x, z))):
        own = replace(together, proprioception=np.float32(values))
        alone = PolicyActor(members[int(weights[1])], execute=2)
        np.testing.assert_array_equal(
            chunk_of(composed(*members, weights=weights), together).actions, chunk_of(alone, own).actions
        )


def test_weights_by_dimension_take_each_number_from_its_own_policy():
    """One Euler step adds nothing across dimensions, so they come out as of each policy alone."""
    members = [policy(seed=0), policy(seed=1)]
    once = Budget(evaluations=1)
    alone = [chunk_of(PolicyActor(each, execute=2, budget=once)).actions for each in members]
    parted = composed(*members, weights=[[[1.0, 0.0]], [[0.0, 1.0]]], budget=Budget(evaluations=2))
    chunk = chunk_of(parted)
    np.testing.assert_allclose(chunk.actions, np.stack([alone[0][:, 0], alone[1][:, 1]], axis=1), atol=1e-6)
    by_step = composed(*members, weights=[[[1.0]] * 2 + [[0.0]] * 2, [[0.0]] * 2 + [[1.0]] * 2],
                       budget=Budget(evaluations=2))  # fmt: skip
    np.testing.assert_allclose(chunk_of(by_step).actions, np.concatenate([alone[0][:2], alone[1][2:]]), atol=1e-6)


@pytest.mark.parametrize("evaluations, spent", [(2, 2), (7, 6), (8, 8), (31, 30)])
def test_a_budget_is_for_all_members_together(evaluations, spent):
    members = [policy(seed=s) for s in (0, 1)]
    assert chunk_of(composed(*members, budget=Budget(evaluations=evaluations))).evaluations == spent
    with pytest.raises(ConfigError, match="budget of 1 evaluations is too small for 2"):
        composed(*members, budget=Budget(evaluations=1))
    assert shared(Budget(seconds=2.0), 2).seconds == 2.0


def test_episodes_together_and_counted_cost():
    members = [policy(seed=s) for s in (0, 1)]
    actor = composed(*members)
    actor.reset(3)
    chunks = actor.act_many([0, 1], [seen(0), seen(1)])
    assert len(chunks) == 2 and not np.array_equal(chunks[0].actions, chunks[1].actions)
    counts, one = count_composed(actor), count_composed(composed(*members, weights=[1.0, 0.0]))
    assert counts.evaluations == 2 * one.evaluations == chunks[0].evaluations
    assert counts.parameters == 2 * one.parameters and counts.decode_flops == 2 * one.decode_flops
    twin = actor.another()
    np.testing.assert_array_equal(chunk_of(twin).actions, chunk_of(actor).actions)


# ---- choosing among whole chunks ------------------------------------------------------------------------------------


def test_votes_take_one_whole_chunk_of_any_decoders():
    members = [policy("regression", seed=0), policy("regression", seed=1), policy("flow", seed=2, reach=0.5)]
    whole = [chunk_of(PolicyActor(each, execute=2)).actions for each in members[:2]]
    taken = chunk_of(composed(*members, how="vote", weights=[0.1, 0.8, 0.1])).actions
    np.testing.assert_array_equal(taken, whole[1])
    drawn = chunk_of(composed(*members, how="vote", draws=3))
    assert drawn.evaluations == 3 * (1 + 1 + 10)


def test_a_switch_takes_the_least_strange():
    members = [policy("equilibrium", seed=s, stop=0.0, evaluations=3) for s in (0, 1)]
    for member, scale in zip(members, (3.0, 0.1), strict=True):
        torch.nn.init.normal_(member.decoder.out.weight, std=scale, generator=torch.Generator().manual_seed(0))
    actor = composed(*members, how="switch")
    chunk = chunk_of(actor)
    strange = [chunk_of(PolicyActor(each, execute=2)).strangeness for each in members]
    assert strange[1] < strange[0] and chunk.evaluations == 6
    assert chunk.strangeness == pytest.approx(strange[1], rel=0.5) and chunk.strangeness < strange[0]


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def test_an_and_of_gaussians_rests_where_gradients_cancel():
    """Energies k_i (x - m_i)^2 / 2: the product's mode is the precision-weighted mean, where the sum of the fields is 0
    and each alone is k_i |x - m_i|."""
    means, stiff, weights = (-1.0, 2.0), (4.0, 1.0), (0.5, 1.5)
    fields = [lambda x, t, k=k, m=m: k * (x - m) for k, m in zip(stiff, means, strict=True)]
    both = conjunction(fields, weights)
    mode = (0.5 * 4.0 * -1.0 + 1.5 * 1.0 * 2.0) / (0.5 * 4.0 + 1.5 * 1.0)
    at = torch.full((1, 3, 2), mode)
    torch.testing.assert_close(both(at, torch.zeros(1)), torch.zeros_like(at), atol=1e-6, rtol=0)
    expected = [abs(k * (mode - m)) for k, m in zip(stiff, means, strict=True)]
    torch.testing.assert_close(residuals(fields, at)[:, 0], torch.tensor(expected))


def test_mixed_predictors_follow_both_and_ask_nobody_for_nothing():
    asked = []

    def speaker(name: str, probabilities: list[list[float]]):
        def predict(tokens):
            asked.append(name)
            logits = torch.tensor(probabilities[0]).log()[None, None] + 3.0  # logits are no log-probabilities
            return Predicted(logits=logits, then=speaker(name, probabilities[1:]))

        return predict

    first, second = speaker("a", [[0.9, 0.1], [0.5, 0.5]]), speaker("b", [[0.2, 0.8], [0.1, 0.9]])
    mixed = mixed_predictor([first, second], [0.25, 0.75])
    said = mixed(torch.zeros(1, 1, dtype=torch.long))
    torch.testing.assert_close(said.logits.exp()[0, 0], torch.tensor([0.375, 0.625]))
    torch.testing.assert_close(
        said.then(torch.zeros(1, 1, dtype=torch.long)).logits.exp()[0, 0], torch.tensor([0.2, 0.8])
    )
    assert asked == ["a", "b", "a", "b"]
    assert mixed_predictor([first, second], [0.0, 1.0]) is second
    product = mixed_predictor([first, second], [0.5, 0.5], geometric=True)
    weights = torch.tensor([0.9 * 0.2, 0.1 * 0.8]).sqrt()
    torch.testing.assert_close(product(torch.zeros(1, 1, dtype=torch.long)).logits.exp()[0, 0], weights / weights.sum())


def test_one_space_is_one_map_and_not_one_table_of_statistics():
    """Other means, same smallest and largest: one space for min_max, two for mean_std."""
    tables = [exact_statistics(np.array([[-1.0], [1.0], [extra]])) for extra in (0.0, 0.9)]
    require_same_space([Normalizer(each, "min_max") for each in tables], ["a", "b"])
    with pytest.raises(ConfigError, match="a and b normalise actions differently"):
        require_same_space([Normalizer(each, "mean_std") for each in tables], ["a", "b"])
    with pytest.raises(ConfigError, match="normalise actions differently"):
        require_same_space([Normalizer(tables[0], "min_max"), Normalizer(tables[0], "min_max", width=2)], ["a", "b"])


# ---- what cannot act as one -----------------------------------------------------------------------------------------

OTHER_RATE = replace(TOY, action=replace(TOY.action, rate_hz=99.0))
OTHER_SIZE = replace(TOY, cameras=tuple(Camera(name=each.name, height=8, width=8) for each in TOY.cameras))


@pytest.mark.parametrize(
    "second, how, weights, message",
    [
        ({"reach": 0.5}, "convex", None, "normalise actions differently"),
        ({"decoder": "diffusion"}, "convex", None, "cannot be added: velocity .* against actions predicted"),
        ({"decoder": "regression"}, "convex", None, "'regression', which follows no field"),
        ({"horizon": 5}, "vote", None, "p0 says 4 actions at a time, p1 5"),
        ({"robot": OTHER_RATE}, "vote", None, "action rate_hz"),
        ({"robot": OTHER_SIZE}, "vote", None, "is of two sizes"),
        ({}, "convex", [0.5, 0.6], "sum to 1"),
        ({}, "convex", [0.5, 0.2, 0.3], "2 policies need weights"),
        ({}, "convex", [[[0.5, 0.5, 0.5]], [[0.5, 0.5, 0.5]]], r"\[4 or 1, 2 or 1\]"),
        ({}, "convex", [[[0.5]], [[0.5, 0.5]]], "Weights are one number per policy"),
        ({}, "conjunction", None, "'flow', which descends none"),
        ({}, "mixture", None, "speaks no tokens"),
        ({}, "switch", None, "cannot tell"),
        ({}, "vote", [[[0.5]], [[0.5]]], "one weight per policy"),
    ],
)  # fmt: skip
def test_what_cannot_act_as_one_is_refused(second, how, weights, message):
    with pytest.raises(ConfigError, match=message):
        composed(policy(), policy(**{"seed": 1, **second}), how=how, weights=weights)


def test_more_that_is_refused():
    with pytest.raises(ConfigError, match="at least two members"):
        composed(policy())
    with pytest.raises(ConfigError, match="draws"):
        composed(policy(), policy(), draws=2)
    with pytest.raises(ConfigError, match="takes no weights"):
        composed(policy("equilibrium"), policy("equilibrium"), how="switch", weights=[0.5, 0.5])
    with pytest.raises(ConfigError, match="never settles"):
        composed(policy("equilibrium"), policy("equilibrium"), how="conjunction", weights=[1.0, 1.0])
    with pytest.raises(ConfigError, match="cannot be added"):
        composed(policy("equilibrium"), policy("equilibrium", strength=2.0))
    with pytest.raises(ConfigError, match="reuse=0"):
        composed(policy("equilibrium"), policy("equilibrium", reuse=0.5))
    speakers = [policy("autoregressive", tokenizer=name) for name in ("bins", "fast")]
    with pytest.raises(ConfigError, match="tokenizers of p0 and p1 are not the same"):
        composed(*speakers, how="mixture")
    with pytest.raises(ConfigError, match="speak tokens in different ways"):
        composed(speakers[0], policy("blockwise", tokenizer="bins"), how="mixture")
    with pytest.raises(ConfigError, match="takes no budget"):
        composed(speakers[0], speakers[0], how="mixture", budget=Budget(evaluations=9))
    with pytest.raises(ConfigError, match="too small for 6 policies or draws"):
        composed(policy(), policy(), how="vote", draws=3, budget=Budget(evaluations=5))
    with pytest.raises(EpisodeError, match="among 2, and the environment shows 3"):
        chunk_of(composed(policy(), policy()), replace(seen(), proprioception=np.zeros(3, np.float32)))


# ---- the folder and the commands ------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path) -> tuple[Path, Path]:
    folders = tmp_path / "sees", tmp_path / "blind"
    for folder, made in zip(folders, (policy(seed=0), policy(seed=1, robot=BLIND)), strict=True):
        made.save(folder, facts={})
    return folders


def test_a_composition_is_kept_as_paths_and_hashes(saved, tmp_path):
    write_composition(tmp_path / "mix", Composition(weights=[0.25, 0.75]), saved)
    stored = read_composition(tmp_path / "mix")
    assert stored.composition.weights == [0.25, 0.75] and stored.robot == TOY and stored.members == saved
    assert "0.25 (tiny + flow), 0.75 (state + flow)" in stored.description
    expected = chunk_of(composed(*map(Policy.load, saved), weights=[0.25, 0.75]))
    np.testing.assert_array_equal(chunk_of(load_composed(tmp_path / "mix", execute=2)).actions, expected.actions)
    make = load_acting(tmp_path / "mix", execute=2)  # as a server does, one actor for every connection
    first, second = make(), make()
    first.reset(1)
    np.testing.assert_array_equal(chunk_of(second).actions, expected.actions)
    plain = load_acting(saved[0], execute=2)()
    np.testing.assert_array_equal(
        chunk_of(plain).actions, chunk_of(PolicyActor(Policy.load(saved[0]), execute=2)).actions
    )
    with pytest.raises(ConfigError, match="never overwritten"):
        write_composition(tmp_path / "mix", Composition(), saved)
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path, moved, ignore=shutil.ignore_patterns("elsewhere"))
    assert read_composition(moved / "mix").members == (moved / "sees", moved / "blind")
    config = moved / "sees" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(ConfigError, match="not the checkpoint that was composed"):
        read_composition(moved / "mix")
    shutil.rmtree(moved / "sees")
    with pytest.raises(ConfigError, match="sees is not there"):
        read_composition(moved / "mix")
    for damage in ("{", "{}", '{"how": "convex", "weights": null, "draws": 1, "members": 3}'):
        (moved / "mix" / "composition.json").write_text(damage)
        with pytest.raises(ConfigError, match="is damaged"):
            read_composition(moved / "mix")


def test_union_of_robots_keeps_the_largest_order():
    small, large = replace(BLIND, proprioception=("c",)), replace(TOY, proprioception=("a", "b"))
    assert union_robot([small, large], ["s", "l"]).proprioception == ("a", "b", "c")
    assert union_robot([small, large], ["s", "l"]).cameras == TOY.cameras


def told(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def test_a_composition_takes_a_checkpoints_place(saved, tmp_path, capsys):
    mix, alone = tmp_path / "mix", tmp_path / "alone"
    members = list(map(str, saved))
    assert main(["compose", *members, "--weights", "0.5", "0.5", "--out", str(mix), "--json"]) == 0
    assert told(capsys)["weights"] == [0.5, 0.5]
    assert main(["compose", *members, "--weights", "1", "0", "--out", str(alone), "--json"]) == 0
    capsys.readouterr()
    words = ["--tasks", "toy/reach-red", "--execute", "2", "--workers", "0", "--max-steps", "4", "--controls", "--json"]
    seeds = ["--episodes", "2", "--first-seed", "50"]
    assert main(["evaluate", str(mix), str(alone), members[0], *words, *seeds, "--out", str(tmp_path / "ev")]) == 0
    capsys.readouterr()
    episodes = {r.key: r.episode for r in read(tmp_path / "ev" / "episodes.jsonl")}
    for seed in (50, 51):
        one, same = episodes["alone", "toy/reach-red", seed], episodes["sees", "toy/reach-red", seed]
        assert one.total_reward == same.total_reward and one.evaluations == same.evaluations
        assert set(episodes["mix", "toy/reach-red", seed].evaluations) == {20}
    versus = ["compare", f"a={alone}", f"m={mix}", *words, *seeds, "--match", "nfe", "--design", "fixed"]
    assert main([*versus, "--out", str(tmp_path / "versus"), "--films", "0"]) == 0
    capsys.readouterr()
    spent = {r.key[0]: set(r.episode.evaluations) for r in read(tmp_path / "versus" / "episodes.jsonl")}
    assert spent == {"a": {10}, "m": {10}}, "equal evaluations: five of each"
    plan = ["plan", str(mix), "--task", "toy/reach-red", "--execute", "2", "--planners", "best_of_n", "--json",
            "--max-steps", "4", "--simulations", "2", "--episodes", "1", "--workers", "0"]  # fmt: skip
    assert main([*plan, "--out", str(tmp_path / "plan")]) == 0
    assert set(told(capsys)["arms"]) == {"policy", "best_of_n-2"}
    assert main(["info", str(mix), "--json"]) == 0
    assert told(capsys)["kind"] == "composition"


def test_weights_are_searched_on_scenes_of_their_own(saved, tmp_path, capsys):
    found = ["compose", *map(str, saved), "--out", str(tmp_path / "found")]
    words = ["--tasks", "toy/reach-red", "--execute", "2", "--episodes", "2", "--first-seed", "70", "--max-steps", "4",
             "--parts", "4", "--evaluations", "4", "--workers", "0", "--json"]  # fmt: skip
    assert main([*found, *words]) == 0
    search = told(capsys)["search"]
    points = [tuple(point) for point in search["grid"]]
    assert points == [*weight_grid(2, parts=4), (1.0, 0.0), (0.0, 1.0)], "each alone is a choice as well"
    assert search["episodes"] == 5 * 2 and search["seeds"] == [70, 71]
    episodes = [r.episode for r in read(tmp_path / "found" / "search" / "episodes.jsonl")]
    assert search["evaluations"] == sum(sum(each.evaluations) for each in episodes) and search["evaluations"] % 4 == 0
    weights = read_composition(tmp_path / "found").composition.weights
    assert tuple(weights) in points
    judge = ["evaluate", str(tmp_path / "found"), "--tasks", "toy/reach-red", "--execute", "2", "--controls", "--json"]
    for command in (judge, ["compare", *judge[1:2], str(saved[0]), *judge[2:]]):
        words = ["--episodes", "1", "--first-seed", "71", "--out", str(tmp_path / "no")]
        assert main([*command, *words]) == 2
        assert "were searched on 1 of these scenes" in capsys.readouterr().err
    assert main(found) == 2
    assert "a composition already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more, message",
    [
        (["--weights", "0.5", "0.4"], "sum to 1"),
        (["--weights", "1", "--how", "vote"], "2 policies need weights"),
        (["--how", "conjunction"], "which descends none"),
        (["--tasks", "toy/reach-red", "--weights", "0.5", "0.5"], "none can be given"),
        (["--weights-file", "no/such.json"], "holds no weights"),
        (["--draws", "2"], "draws is how many chunks"),
    ],
)
def test_bad_words_are_answered_before_anything_is_written(saved, tmp_path, capsys, more, message):
    assert main(["compose", *map(str, saved), "--out", str(tmp_path / "no"), *more]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "no").exists()
