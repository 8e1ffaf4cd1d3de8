"""The control of a study of equilibrium matching: a trained policy whose learned field is replaced by the exact one."""

from collections.abc import Iterable
from dataclasses import fields, replace

import torch

from volar.core.errors import ConfigError
from volar.core.model import Batch
from volar.decoders.equilibrium import Equilibrium
from volar.decoders.exact_equilibrium import ExactEquilibrium, context_key
from volar.nn.equilibrium import Settings
from volar.policies.vla import Policy


def exact_control(policy: Policy, batches: Iterable[Batch], *, bandwidth: float = 0.1, neighbours: int = 256) -> Policy:
    """A policy with the same backbone and settings that descends the exact field of the chunks in `batches`, which are
    normalised as in training; it saves and loads like any other. Padded steps are remembered as they stand. bandwidth,
    neighbours: see `ExactEquilibrium`. ConfigError where the policy does not learn a field by equilibrium matching.
    """
    decoder = policy.decoder
    if not isinstance(decoder, Equilibrium):
        raise ConfigError(f"An exact control needs a policy by equilibrium matching, not by {policy.config.decoder!r}.")
    if policy.reasoner is not None:
        raise ConfigError("An exact control descends the field of one context; a policy that reasons makes its own.")
    keys, chunks = [], []
    with torch.no_grad():
        queries = decoder.tokens(decoder.position.new_zeros(1, *decoder.shape))[0]
        for batch in batches:
            assert batch.actions is not None
            keys.append(context_key(policy.backbone.encode(batch), queries))
            chunks.append(batch.actions)
    if not keys:
        raise ConfigError("An exact control needs demonstrations, and there was no batch.")
    known, bank = torch.cat(keys), torch.cat(chunks)
    options = {field.name: getattr(decoder.settings, field.name) for field in fields(Settings)}
    options |= {"demonstrations": len(bank), "neighbours": neighbours, "bandwidth": bandwidth}
    name = f"{ExactEquilibrium.__module__}:{ExactEquilibrium.__name__}"
    control = Policy(
        replace(policy.config, decoder=name, decoder_options=options),
        robot=policy.robot,
        statistics=policy.statistics,
        widths=policy.widths,
        assets=policy.backbone.assets(),
    ).to(queries.device)
    control.backbone.load_state_dict(policy.backbone.state_dict())
    assert isinstance(control.decoder, ExactEquilibrium)
    control.decoder.remember(queries, known, bank)
    return control.eval()
