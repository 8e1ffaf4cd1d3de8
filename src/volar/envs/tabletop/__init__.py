"""`tabletop`: our own manipulation tasks in MuJoCo. `world` is the environment, `scene` its physical parts, `task` what
a task is, `motions` how experts move, `tasks` the families. Imports nothing of MuJoCo by itself."""
