"""`volar published RATE:EPISODES RATE:EPISODES`: what two success rates from papers allow to say, and what not."""

from dataclasses import asdict, dataclass

import tyro

from volar.cli.output import Output
from volar.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Published:
    """Two totals, no records: every pairing of episodes that they leave possible is tested."""

    totals: tyro.conf.Positional[tuple[str, str]]
    """two of RATE:EPISODES, such as 0.965:500 0.948:500"""
    decimals: int | None = None
    """to how many decimals the rates (as fractions: 0.965 has 3) were rounded; left out, they are exact"""
    same_scenes: bool | None = None
    """whether both met the same scenes; left out where the source does not say"""
    alpha: float = 0.05
    """chance of a false claim"""


SENTENCES = {
    "provably significant": "They differ, however the episodes were paired",
    "provably not": "No pairing of the episodes makes this difference significant",
    "inconclusive": "The totals leave it open: it depends on which scenes each one solved",
}


def main(arguments: list[str]) -> Output:
    command = tyro.cli(Published, prog="volar published", args=arguments)

    from volar.statistics.published import what_follows

    (rate_a, n_a), (rate_b, n_b) = map(_total, command.totals)
    try:
        bounds = what_follows(
            rate_a, n_a, rate_b, n_b, alpha=command.alpha, paired=command.same_scenes, decimals=command.decimals
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    span = f"p between {bounds.smallest_p:.2g} and {bounds.largest_p:.2g}"
    said = f"{SENTENCES[bounds.verdict]} ({bounds.verdict}; {span})."
    data = {"totals": list(command.totals), "alpha": command.alpha, **asdict(bounds)}
    return Output(data, f"{said} Training luck and tuning are not in these numbers.")


def _total(text: str) -> tuple[float, int]:
    rate, _, episodes = text.partition(":")
    try:
        total = float(rate), int(episodes)
    except ValueError as error:
        raise ConfigError(f"A total is written RATE:EPISODES, such as 0.965:500; got {text!r}.") from error
    if not 0 <= total[0] <= 1:
        raise ConfigError(f"A rate is a fraction from 0 to 1, got {rate}; 96.5 % is written 0.965.")
    return total
