"""The table of scores of demonstrations: name -> function(data set, Evidence) -> Scores. Those that need a policy of
ours live here, the others in `volar.data.curation`."""

from volar.core.registry import Table

TABLE = Table(
    "score",
    {
        "brevity": "volar.data.curation.scores:brevity",
        "busyness": "volar.data.curation.motion:busyness",
        "chance": "volar.data.curation.scores:chance",
        "deminf": "volar.data.curation.information:deminf",
        "held_out": "volar.train.curation.held_out:held_out",
        "influence": "volar.train.curation.influence:influence",
        "low_jerk": "volar.data.curation.motion:low_jerk",
        "novelty": "volar.data.curation.duplicates:novelty",
        "path_efficiency": "volar.data.curation.motion:path_efficiency",
        "predictability": "volar.data.curation.predictable:predictability",
        "rollout_success": "volar.data.curation.success:rollout_success",
        "smoothness": "volar.data.curation.motion:smoothness",
    },
)
