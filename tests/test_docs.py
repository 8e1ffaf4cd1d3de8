"""What the documents show is run here, so that no example can lie."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "volar.cli"]


def blocks(text: str, opening: str) -> list[str]:
    return re.findall(rf"```{opening}\n(.*?)```", text, flags=re.S)


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**_environment(), "PYTHONPATH": str(folder)}
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder in which the tutorial has been followed to its end."""
    folder = tmp_path_factory.mktemp("tutorial")
    text = (ROOT / "docs" / "adding_a_decoder.md").read_text()
    (source,) = blocks(text, "python file=gaussian.py")
    (folder / "gaussian.py").write_text(source)
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (script,) = blocks(text, "bash")
    for line in script.strip().splitlines():
        words = shlex.split(line)
        assert words[0] == "volar"
        run([*COMMAND, *words[1:]], folder)
    return folder


def test_the_tutorial_ends_in_a_report(trained):
    page = (trained / "evaluation" / "report.html").read_text()
    assert "gaussian:Gaussian" in page and "reach" in page


def test_info_describes_every_kind_of_folder(trained):
    import json

    (checkpoint,) = (trained / "run" / "checkpoints").iterdir()
    kinds = {}
    for path in (trained / "data", checkpoint, trained / "run", trained / "evaluation"):
        kinds[path.name] = json.loads(run([*COMMAND, "info", str(path), "--json"], trained))
    assert [value["kind"] for value in kinds.values()] == ["dataset", "checkpoint", "training", "evaluation"]
    assert kinds["data"]["episodes"] == 8
    assert set(kinds["data"]["statistics"]["action"]) >= {"mean", "std", "min", "max", "q01", "q99"}
    assert kinds[checkpoint.name]["card"]["kind"] == "multimodal policy"


def test_the_readme_s_python_road(trained):
    """The README's five lines, with the tutorial's policy and world in place of the demo's."""
    (code,) = blocks((ROOT / "README.md").read_text(), "python")
    assert len([line for line in code.strip().splitlines() if line]) <= 6
    code = code.replace("runs/demo/comparison/arms/flow/seed-0", str(trained / "run"))
    code = code.replace("metaworld/faucet-open-shared", "toy/reach-red")
    code = code.replace("execute=4", "execute=2")
    assert "toy/reach-red" in code and str(trained) in code
    namespace: dict = {}
    sys.path.insert(0, str(trained))
    try:
        exec(compile(code, "README.md", "exec"), namespace)
    finally:
        sys.path.remove(str(trained))
    assert namespace["chunk"].actions.shape == (4, namespace["env"].spec.action.dim)
