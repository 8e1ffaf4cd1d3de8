"""Whether trained policies can act as one: everything that stands against it is said before anything runs."""

from collections.abc import Sequence

from volar.core.errors import ConfigError
from volar.core.model import FieldDecoder, LogitDecoder, WarmStartDecoder
from volar.nn.equilibrium import RestingDecoder
from volar.planning.compose import conjunction_weights, convex_weights, read_weights, require_same_space
from volar.planning.composition import Composition, union_robot
from volar.policies.vla import Policy
from volar.tokenizers import to_asset


def require_composable(policies: Sequence[Policy], composition: Composition, names: Sequence[str]) -> None:
    """Raises ConfigError that names the two policies and what differs. names: of the policies, for messages."""
    if len(policies) < 2:
        raise ConfigError(f"A composition has at least two members, got {len(policies)}.")
    union_robot([policy.robot for policy in policies], names)
    first = policies[0]
    for name, policy in zip(names, policies, strict=True):
        if policy.reasoner is not None:
            raise ConfigError(
                f"{name} thinks before it acts ({policy.config.reasoner}), and what it remembers belongs to actions of "
                f"its own; policies that reason cannot be composed."
            )
        if policy.config.horizon != first.config.horizon:
            raise ConfigError(
                f"{names[0]} says {first.config.horizon} actions at a time, {name} {policy.config.horizon}; policies "
                f"that act as one have the same horizon."
            )
        if isinstance(policy.decoder, WarmStartDecoder) and policy.decoder.warm:
            raise ConfigError(
                f"{name} sets out from its last chunk, which in a composition is not its own; train it with reuse=0."
            )
    if composition.how in ("convex", "conjunction"):
        _require_fields(policies, composition, names)
    elif composition.how in ("mixture", "product"):
        _require_tokens(policies, composition, names)
    elif composition.how == "vote":
        if convex_weights(read_weights(composition.weights_of(len(policies))), len(policies)).ndim != 1:
            raise ConfigError("A vote is about whole chunks: one weight per policy.")
    else:
        _require_strangeness(policies, names)


def _require_fields(policies: Sequence[Policy], composition: Composition, names: Sequence[str]) -> None:
    meanings = [_field_decoder(policy, name, composition).meaning for policy, name in zip(policies, names, strict=True)]
    _require_same(meanings, names, "follow fields that cannot be added")
    require_same_space([policy.acting.action for policy in policies], names)
    weigh = convex_weights if composition.how == "convex" else conjunction_weights
    weights = weigh(read_weights(composition.weights_of(len(policies))), len(policies))
    horizon, dim = policies[0].config.horizon, policies[0].widths.action
    if weights.ndim > 1 and any(
        size not in (1, whole) for size, whole in zip(weights.shape[1:], (horizon, dim), strict=True)
    ):
        raise ConfigError(
            f"Weights per step and dimension are [{horizon} or 1, {dim} or 1] for each policy; got "
            f"{list(weights.shape[1:])}."
        )
    if composition.how == "conjunction":
        _require_settling(policies, names, float(weights.sum(0).max()))


def _field_decoder(policy: Policy, name: str, composition: Composition) -> FieldDecoder:
    if not isinstance(policy.decoder, FieldDecoder):
        raise ConfigError(
            f"{name} acts by the decoder {policy.config.decoder!r}, which follows no field, so {composition.how!r} "
            f"cannot be; 'vote' works with every decoder, 'mixture' and 'product' with those of tokens."
        )
    return policy.decoder


def _require_settling(policies: Sequence[Policy], names: Sequence[str], total: float) -> None:
    """The sum of energies is steeper than each of them, and a descent with too long steps never rests."""
    for policy, name in zip(policies, names, strict=True):
        if not isinstance(policy.decoder, RestingDecoder):
            raise ConfigError(
                f"A conjunction adds energies; {name} acts by {policy.config.decoder!r}, which descends none. "
                f"Take 'convex', or policies by 'equilibrium'."
            )
        settings = policy.decoder.settings
        largest = settings.decay.largest_step(settings.look_ahead)
        if not settings.step * total < largest:
            raise ConfigError(
                f"A conjunction with weights that sum to {total:g} goes {total:g} times as far in a step as {name}: "
                f"{settings.step * total:g}, and from {largest:g} on it never settles. Where it rests depends on the "
                f"ratio of the weights only, so lower them all."
            )


def _require_tokens(policies: Sequence[Policy], composition: Composition, names: Sequence[str]) -> None:
    for policy, name in zip(policies, names, strict=True):
        if not isinstance(policy.decoder, LogitDecoder):
            raise ConfigError(
                f"{name} acts by the decoder {policy.config.decoder!r}, which speaks no tokens, so "
                f"{composition.how!r} cannot be; 'convex' adds fields, 'vote' works with every decoder."
            )
    said = [f"{policy.config.decoder} {policy.config.decoder_options}" for policy in policies]
    _require_same(said, names, "speak tokens in different ways")
    spoken = [
        to_asset(policy.config.tokenizer, policy.decoder.tokenizer).decode()
        for policy in policies if policy.config.tokenizer and isinstance(policy.decoder, LogitDecoder)
    ]  # fmt: skip
    for name, each in zip(names, spoken, strict=True):
        if each != spoken[0]:
            raise ConfigError(
                f"The tokenizers of {names[0]} and {name} are not the same, or were not fitted on the same chunks, so "
                f"that a token means different actions. Train both on the same split (seed), or let them vote."
            )
    require_same_space([policy.acting.action for policy in policies], names)
    if convex_weights(read_weights(composition.weights_of(len(policies))), len(policies)).ndim != 1:
        raise ConfigError("Tokens are mixed by one weight per policy.")


def _require_strangeness(policies: Sequence[Policy], names: Sequence[str]) -> None:
    for policy, name in zip(policies, names, strict=True):
        if not isinstance(policy.decoder, RestingDecoder):
            raise ConfigError(
                f"A switch takes the least strange chunk; {name} acts by {policy.config.decoder!r}, which cannot tell. "
                f"'vote' works with every decoder."
            )
    meanings = [policy.decoder.meaning for policy in policies if isinstance(policy.decoder, RestingDecoder)]
    _require_same(meanings, names, "measure strangeness in different units")


def _require_same(facts: Sequence[str], names: Sequence[str], problem: str) -> None:
    for name, fact in zip(names, facts, strict=True):
        if fact != facts[0]:
            raise ConfigError(f"{names[0]} and {name} {problem}: {facts[0]} against {fact}. They may vote on chunks.")
