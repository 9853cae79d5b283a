"""What builds and runs images: Docker, or buildah where no engine answers."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "docker" / "Dockerfile"
CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT")
WHEELS = ("UV_FIND_LINKS", "PIP_FIND_LINKS")
INDEXES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX")
"""Variables by which this machine names certificates, a folder of wheels and package indexes."""
DEBIAN_BASE = ("--variant=minbase", "--include=python3,python3-venv,ca-certificates", "bookworm")
"""Debian 12, whose Python is 3.11."""


class EngineError(Exception):
    """A command of the engine failed, or there is no engine."""


@dataclass(frozen=True)
class Docker:
    """A Docker engine. It keeps the images."""

    base: str | None

    def build(self, target: str) -> None:
        """Build the image of a target."""
        _call("docker", "build", *_build_options(target, self.base), str(ROOT))

    def run(self, target: str, *command: str, options: tuple[str, ...] = ()) -> list[str]:
        """The command that runs another in the image, on this machine's network."""
        return ["docker", "run", "--rm", "--network", "host", *options, _tag(target), *command]

    def health_check(self, target: str) -> list[str]:
        """The command by which the image is found healthy."""
        image = json.loads(_call("docker", "image", "inspect", _tag(target)))[0]
        return image["Config"]["Healthcheck"]["Test"][1:]


@dataclass(frozen=True)
class Buildah:
    """Images without an engine, in a storage of their own. Steps and commands run in a chroot."""

    program: tuple[str, ...]
    base: str | None

    def build(self, target: str) -> None:
        """Build the image of a target."""
        options = ("--isolation", "chroot", "--format", "docker", *_build_options(target, self.base))
        _call(*self.program, "build", *options, str(ROOT))

    def run(self, target: str, *command: str, options: tuple[str, ...] = ()) -> list[str]:
        """The command that runs another in the image, on this machine's network."""
        container = _call(*self.program, "from", _tag(target)).strip()
        return [*self.program, "run", "--isolation", "chroot", *options, container, "--", *command]

    def health_check(self, target: str) -> list[str]:
        """The command by which the image is found healthy."""
        image = json.loads(_call(*self.program, "inspect", "--type", "image", _tag(target)))
        return image["Docker"]["config"]["Healthcheck"]["Test"][1:]


Engine = Docker | Buildah


@contextmanager
def container_engine() -> Iterator[Engine]:
    """Docker where it answers, else buildah. BASE_IMAGE replaces the Dockerfile's base image.

    Without a registry, buildah's base is made from Debian's packages. Raises EngineError when nothing can build.
    """
    base = os.environ.get("BASE_IMAGE")
    if _succeeds("docker", "info"):
        yield Docker(base)
        return
    _require_buildah()
    with TemporaryDirectory(prefix="freshet-images-") as folder:
        storage = ("--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs")
        program = ("buildah", *storage)
        if base is None and not _succeeds(*program, "pull", default_base()):
            base = _debian_base(program, Path(folder) / "debian")
        yield Buildah(program, base)


def default_base() -> str:
    """The base image that the Dockerfile names."""
    lines = DOCKERFILE.read_text().splitlines()
    return next(line.removeprefix("ARG BASE_IMAGE=") for line in lines if line.startswith("ARG BASE_IMAGE="))


def _require_buildah() -> None:
    missing = [program for program in ("buildah", "debootstrap") if shutil.which(program) is None]
    if missing:
        raise EngineError(f"no Docker engine answers: start one, or apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise EngineError("no Docker engine answers, and buildah needs root to run a step in a chroot")


def _debian_base(program: tuple[str, ...], folder: Path) -> str:
    _call("debootstrap", *DEBIAN_BASE, str(folder))
    container = _call(*program, "from", "scratch").strip()
    _call(*program, "add", "--quiet", container, str(folder), "/")
    _call(*program, "commit", "--quiet", "--rm", container, "localhost/debian-python")
    return "localhost/debian-python"


def _build_options(target: str, base: str | None) -> list[str]:
    """Options for the target; certificates, wheels and indexes of this machine go into the build."""
    options = ["--file", str(DOCKERFILE), "--target", target, "--tag", _tag(target)]
    if base:
        options += ["--build-arg", f"BASE_IMAGE={base}"]
    for name in INDEXES:
        if name in os.environ:
            options += ["--build-arg", name]
    if certificates := _first_set(CERTIFICATES):
        options += ["--secret", f"id=certificates,src={certificates}"]
    if wheels := _first_set(WHEELS):
        options += ["--build-context", f"wheels={wheels}"]
    return options


def _first_set(names: tuple[str, ...]) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _tag(target: str) -> str:
    return f"freshet-{target}"


def _succeeds(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _call(*command: str) -> str:
    """Standard output of a command; EngineError with the end of what it said when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise EngineError(f"{' '.join(command)} failed:\n{said}")
    return done.stdout
