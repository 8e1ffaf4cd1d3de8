"""Thinking before acting: planners try a policy's chunks in a simulator, and compositions mix several policies.

A planner is a class with a nested `Config` and one method `plan`; what it plans in comes as an argument.
"""

from volar.core.registry import Table

TABLE = Table(
    "planner",
    {
        "best_of_n": "volar.planning.baselines:BestOfN",
        "cross_entropy": "volar.planning.baselines:CrossEntropy",
        "policy_alone": "volar.planning.baselines:PolicyAlone",
        "random_shooting": "volar.planning.baselines:RandomShooting",
        "tree_search": "volar.planning.mcts:TreeSearch",
    },
)
