"""LIBERO (arXiv 2306.03310) and LIBERO-PRO (arXiv 2510.03827): a Panda arm in household scenes, MuJoCo by robosuite."""
