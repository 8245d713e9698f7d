"""Builds and installs this project in environments of their own, without its dependencies."""

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

UV: Final = f"{sysconfig.get_path('scripts')}/uv"


def built(source: Path, folder: Path) -> Path:
    """Build a wheel of a checkout, with the hatchling of the tests' environment."""
    build = (UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable)
    subprocess.run([*build, "--out-dir", folder, source], check=True)
    [wheel] = folder.glob("*.whl")
    return wheel


@dataclass(frozen=True, slots=True)
class Installation:
    """A virtual environment with the dependencies of this one, and the folder of a project that uses it."""

    folder: Path

    @property
    def programs(self) -> Path:
        return self.folder / "bin"

    @property
    def site_packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", vars={"base": f"{self.folder}"}))

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def run(self, *command: str | Path, **environment: str) -> str:
        """Run a program in the other project's folder; returns what it printed."""
        ended = subprocess.run(
            [self.programs / command[0], *command[1:]],
            cwd=self.project,
            env=os.environ | {"PYTHONPATH": f"{self.project}"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


def installed(folder: Path, *what: str | Path) -> Installation:
    """Install this project alone; what it depends on is imported from the environment of the tests."""
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    new = Installation(folder)
    (new.site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    into = ("--python", folder / "bin" / "python", "--no-deps", "--no-build-isolation")
    subprocess.run([UV, "pip", "install", "--quiet", *into, *what], check=True)
    new.project.mkdir()
    return new
