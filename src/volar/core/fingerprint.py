"""Where a result came from: versions, commit, machine. Recorded with every run, compared before runs are joined."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import volar

PACKAGES = ("torch", "numpy", "transformers", "accelerate", "mujoco", "metaworld", "gymnasium", "pyarrow", "av")


def package_versions() -> dict[str, str]:
    """Installed versions of what can change a result; absent packages are left out."""
    found = {"volar": volar.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path = Path(volar.__file__).parent) -> str | None:
    """Commit of the checkout that holds `folder`, with `-dirty` for uncommitted changes; None outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def fingerprint(**facts: Any) -> dict[str, Any]:
    """Versions, commit and machine, with further facts (seeds, statistics hash, control rate ...) beside them."""
    return {
        "versions": package_versions(),
        "commit": git_commit(),
        "machine": {"system": platform.platform(), "processor": platform.machine()},
        **facts,
    }
