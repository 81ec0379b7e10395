"""The images, the Compose project and the scripts that make them: what they must never ask of a machine.

Judges the files as Docker sees them (`docker compose config`), and the scripts by running them beside a stand-in for
the program that they call. Each rule is also tried on an input that breaks it.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from midsession.errors import EnvironmentLacks

ROOT = Path(__file__).parents[1]
SCRIPTS = ("base-image", "clean", "compose", "engine", "images", "lint", "test", "uml", "up", "venv")

Project = dict[str, Any]


# --- docker-compose.yml ---------------------------------------------------------------------------------------------

# What the conductor needs to write into ./runs, whoever owns it, and to leave the files to that owner.
CAPABILITIES = {"midsession": {"CHOWN", "DAC_OVERRIDE", "FOWNER"}, "server": set(), "client": set()}
TAG = "some-tag"
FORBIDDEN_KEYS = ("privileged", "ports", "container_name", "network_mode", "pid", "ipc", "devices", "userns_mode")


def breaches(project: Project) -> Iterator[str]:
    """What in a Compose project gives a container more than it needs, as `service: what`."""
    for name, service in project["services"].items():
        for key in FORBIDDEN_KEYS:
            if service.get(key):
                yield f"{name}: {key}"
        if service.get("cap_drop") != ["ALL"]:
            yield f"{name}: keeps capabilities"
        if extra := set(service.get("cap_add", ())) - CAPABILITIES[name]:
            yield f"{name}: capabilities {extra}"
        if "no-new-privileges:true" not in service.get("security_opt", ()):
            yield f"{name}: may gain privileges"
        if not service.get("read_only"):
            yield f"{name}: writable root"
        for volume in service.get("volumes", ()):
            if volume["type"] == "bind" and Path(volume["source"]) not in (ROOT / "runs", ROOT / "scenarios"):
                yield f"{name}: mounts {volume['source']}"
    for name, network in project["networks"].items():
        if not network.get("internal"):
            yield f"network {name}: leads outside"


@pytest.fixture(scope="module")
def project() -> Project:
    """docker-compose.yml as Compose understands it."""
    return compose_config({"MIDSESSION_TAG": TAG})


def compose_config(environment: dict[str, str]) -> Project:
    command = [str(ROOT / "tools/compose"), "--project-directory", str(ROOT), "config", "--format", "json"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True, timeout=300)
    read: Project = json.loads(done.stdout)
    return read


def networks(project: Project, service: str) -> set[str]:
    return set(project["services"][service]["networks"])


def test_no_container_gets_more_than_it_needs(project: Project) -> None:
    """No socket, no privilege, no capability without a reason, no way out of the project's networks."""
    assert set(project["services"]) == set(CAPABILITIES)
    assert list(breaches(project)) == []


SOCKET = {"type": "bind", "source": "/var/run/docker.sock", "target": "/var/run/docker.sock"}


@pytest.mark.parametrize(
    ("tamper", "breach"),
    [
        (lambda p: p["services"]["server"].update(privileged=True), "server: privileged"),
        (lambda p: p["services"]["server"].update(ports=[{"target": 4000}]), "server: ports"),
        (lambda p: p["services"]["client"].update(network_mode="host"), "client: network_mode"),
        (lambda p: p["services"]["client"].update(cap_drop=[]), "client: keeps capabilities"),
        (lambda p: p["services"]["client"].update(cap_add=["NET_ADMIN"]), "client: capabilities {'NET_ADMIN'}"),
        (lambda p: p["services"]["server"].update(security_opt=[]), "server: may gain privileges"),
        (lambda p: p["services"]["server"].update(read_only=False), "server: writable root"),
        (lambda p: p["services"]["midsession"]["volumes"].append(SOCKET), "midsession: mounts /var/run/docker.sock"),
        (lambda p: p["networks"]["data"].update(internal=False), "network data: leads outside"),
    ],
)
def test_a_project_that_asks_for_more_is_found(
    project: Project, tamper: Callable[[Project], None], breach: str
) -> None:
    """Each rule of the test above can fail."""
    tampered = copy.deepcopy(project)
    tamper(tampered)
    assert list(breaches(tampered)) == [breach]


def test_no_session_can_bypass_a_fault_over_the_control_network(project: Project) -> None:
    """Server and clients share the data network alone, and the conductor is not on it."""
    assert networks(project, "server") & networks(project, "client") == {"data"}
    assert "data" not in networks(project, "midsession")
    for service in ("server", "client"):
        assert len(networks(project, service) & networks(project, "midsession")) == 1, service


def test_only_the_conductor_writes_the_token(project: Project) -> None:
    """The agents read the control volume; they cannot replace the token that proves who they are."""
    writers = {
        name
        for name, service in project["services"].items()
        for volume in service["volumes"]
        if volume["target"] == "/control" and not volume.get("read_only")
    }
    assert writers == {"midsession"}


def test_the_agent_is_pid_1_and_is_not_restarted(project: Project) -> None:
    """An init before the agent, or a restart by the engine, would hide what the scenario did to the program."""
    for name in ("server", "client"):
        service = project["services"][name]
        assert not service.get("init"), name
        assert service.get("restart", "no") == "no", name
        assert "entrypoint" not in service or service["entrypoint"] is None, name


def test_the_settings_come_from_the_environment() -> None:
    """What a report's replay command sets reaches the project, with or without make."""
    settings = {"SCENARIO": "scenarios/lesson", "CLIENTS": "7", "SEED": "42", "VARIANT": "[clients=1]"}
    project = compose_config({**settings, "MIDSESSION_BASE": "elsewhere:1"})
    conductor = project["services"]["midsession"]
    assert conductor["command"][-1] == "scenarios/lesson"
    assert conductor["environment"] == {"MIDSESSION_SEED": "42", "MIDSESSION_VARIANT": "[clients=1]"}
    assert project["services"]["client"]["deploy"]["replicas"] == 7
    assert {s["build"]["args"]["BASE"] for s in project["services"].values()} == {"elsewhere:1"}


def test_the_default_scenario_exists(project: Project) -> None:
    """`docker compose up` without any setting has something to run."""
    assert (ROOT / project["services"]["midsession"]["command"][-1]).is_file()


# --- Dockerfile -----------------------------------------------------------------------------------------------------

BUILDKIT_ONLY = re.compile(
    r"^\#\s*(?:syntax|check)\s*=.*"  # a frontend of its own
    r"|^(?:RUN|COPY|ADD)\b.*\s--(?:mount|network|security|link|parents|exclude|chmod|checksum|keep-git-dir)\b.*"
    r"|^(?:RUN|COPY|ADD)\b.*<<-?\s*[\"']?\w+.*"  # here-documents
    r"|^.*\$\{?(?:TARGET|BUILD)(?:PLATFORM|OS|ARCH|VARIANT)\b.*",
    re.MULTILINE,
)


def test_the_dockerfile_needs_no_buildkit() -> None:
    """Engines without buildx build the images too."""
    assert BUILDKIT_ONLY.findall((ROOT / "Dockerfile").read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "# syntax=docker/dockerfile:1",
        "RUN --mount=type=cache,target=/root/.cache pip install x",
        "COPY --link a b",
        "COPY --from=base --chmod=644 a b",
        "RUN <<EOF",
        "FROM --platform=$BUILDPLATFORM base",
    ],
)
def test_buildkit_syntax_is_found(line: str) -> None:
    """Each form that the classic builder refuses would be seen."""
    assert BUILDKIT_ONLY.findall(f"FROM base\n{line}\n") == [line]


def test_every_service_is_built_from_a_target_of_the_dockerfile(project: Project) -> None:
    """A service, its target and the image that tools/images builds for it go together."""
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE))
    built = dict(re.findall(r'^build (\S+) "(\S+):\$TAG"$', (ROOT / "tools/images").read_text("utf-8"), re.MULTILINE))
    tagged = {target: f"{image}:{TAG}" for target, image in built.items()}
    assert {s["build"]["target"]: s["image"] for s in project["services"].values()} == tagged
    assert set(built) <= targets


def requirements(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools/requirements.py"), str(ROOT / "pyproject.toml"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_the_hosts_under_test_get_the_bounds_of_pyproject() -> None:
    """The agents' two dependencies come with the version bounds that the project declares, and alone."""
    lines = requirements("--only", "msgspec", "uvloop").stdout.split()
    assert [re.split("[<>=]", line)[0] for line in lines] == ["msgspec", "uvloop"]
    assert all(line in (ROOT / "pyproject.toml").read_text("utf-8") for line in lines)


def test_a_dependency_that_the_project_does_not_list_is_refused() -> None:
    """An image cannot get a package that pyproject.toml does not name."""
    done = requirements("--only", "msgspec", "leftpad")
    assert done.returncode != 0
    assert "leftpad" in done.stderr
    assert done.stdout == ""


# --- the scripts ----------------------------------------------------------------------------------------------------


class Machine:
    """A machine whose programs are stand-ins: each notes how it was called, and does what its script says."""

    def __init__(self, home: Path) -> None:
        self.programs, self.journal = home / "bin", home / "journal"
        self.programs.mkdir()
        self.journal.touch()
        self.environment = {
            "PATH": f"{self.programs}:/usr/sbin:/usr/bin:/sbin:/bin",
            "MIDSESSION_CACHE": str(home / "cache"),
            "TMPDIR": str(home),
        }

    def install(self, name: str, script: str) -> None:
        program = self.programs / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.journal}\n{script}\n', "utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def run(self, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "tools" / tool), *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
        )

    def calls(self, beginning: str) -> list[str]:
        return [line for line in self.journal.read_text("utf-8").splitlines() if line.startswith(beginning)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# `docker` with no image, where a pull and a build succeed, as `docker $1` selects.
def docker(**answers: str) -> str:
    cases = {"image": "exit 1", **answers}
    return 'case "$1" in\n' + "".join(f"{verb}) {script} ;;\n" for verb, script in cases.items()) + "esac"


def test_a_base_image_that_is_there_is_left_alone(machine: Machine) -> None:
    """The second `make up` asks no registry and makes nothing."""
    machine.install("docker", docker(image="exit 0"))
    assert machine.run("base-image").returncode == 0
    assert [call.split()[1] for call in machine.calls("docker")] == ["image"]


def test_the_base_image_comes_from_a_registry_where_one_answers(machine: Machine) -> None:
    """Debian's packages are the second choice."""
    machine.install("docker", docker(pull="exit 0", build=f'cat "$5/Dockerfile" >> {machine.journal}'))
    machine.install("debootstrap", "exit 1")
    done = machine.run("base-image")
    assert done.returncode == 0, done.stderr
    assert machine.calls("docker pull --quiet python:3.13-slim")
    assert machine.calls("FROM python:3.13-slim")
    assert not machine.calls("debootstrap")


DEBOOTSTRAP = 'for tree; do :; done; mkdir -p "$tree/etc/ssl/certs"'


@pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap needs root, and the script says so before it is called")
@pytest.mark.parametrize(("old", "suites"), [("", ["trixie"]), ("trixie", ["trixie", "bookworm"])])
def test_the_base_image_comes_from_debian_where_no_registry_answers(
    machine: Machine, old: str, suites: list[str]
) -> None:
    """The newest suite that the mirror and the debootstrap know, with this machine's CA bundle in it."""
    machine.install("docker", docker(pull="exit 1", **{"import": f"tar -t >> {machine.journal}"}))
    machine.install("debootstrap", f'[ "$3" != "{old}" ] || exit 1\n{DEBOOTSTRAP}')
    done = machine.run("base-image")
    assert done.returncode == 0, done.stderr
    assert [call.split()[3] for call in machine.calls("debootstrap")] == suites
    assert machine.calls("docker import")
    if Path("/etc/ssl/certs/ca-certificates.crt").exists():
        assert machine.calls("./etc/ssl/certs/ca-certificates.crt")


def test_this_machines_package_index_is_the_builds_too(machine: Machine) -> None:
    """pip in a build asks where pip on this machine asks, and trusts whom it trusts."""
    machine.install("docker", docker(pull="exit 0", build=f'cat "$5/Dockerfile" >> {machine.journal}'))
    machine.environment["PIP_INDEX_URL"] = "https://index.example/simple"
    assert machine.run("base-image").returncode == 0
    assert 'ENV PIP_INDEX_URL="https://index.example/simple"' in machine.calls("ENV")


@pytest.mark.parametrize("version", ["2.24.6", "v2.40.0", "5.6.1", "12.0.0"])
def test_the_engines_own_compose_is_preferred(machine: Machine, version: str) -> None:
    """Any plugin from version 2 on is taken, with all its arguments."""
    machine.install("docker", f'[ "$2" = version ] && echo {version}; exit 0')
    assert machine.run("compose", "up", "--scale", "client=4").returncode == 0
    assert machine.calls("docker compose up") == ["docker compose up --scale client=4"]


@pytest.mark.parametrize("script", ["echo 1.29.2", "exit 1"])
def test_compose_1_is_never_taken_for_compose(machine: Machine, script: str) -> None:
    """Without a plugin, or with one of the old kind, the fetched binary runs."""
    machine.install("docker", script)
    fetched = Path(machine.environment["MIDSESSION_CACHE"]) / "compose/bin"
    fetched.mkdir(parents=True)
    machine.install("docker-compose", "exit 23")
    (machine.programs / "docker-compose").rename(fetched / "docker-compose")
    assert machine.run("compose", "ps").returncode == 23
    assert not machine.calls("docker compose ps")


def test_an_engine_that_answers_is_used_and_left_alone(machine: Machine) -> None:
    """The command's exit code comes through, and no engine is started beside one that runs."""
    machine.install("docker", "exit 0")
    machine.install("dockerd", "exit 1")
    assert machine.run("engine", "sh", "-c", "exit 42").returncode == 42
    assert not machine.calls("dockerd")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start an engine, and the script says so")
def test_an_engine_that_was_started_is_stopped(machine: Machine) -> None:
    """What the script starts does not outlive it; the command's exit code comes through."""
    up = machine.programs / "up"
    machine.install("docker", f"[ -e {up} ]")
    machine.install(
        "dockerd",
        f"trap 'rm {up}; echo stopped >> {machine.journal}; exit' TERM\ntouch {up}\nwhile :; do sleep 0.05; done",
    )
    assert machine.run("engine", "sh", "-c", f"test -e {up} && exit 42").returncode == 42
    assert machine.calls("stopped") == ["stopped"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start an engine, and the script says so")
def test_an_engine_that_dies_at_its_start_is_reported(machine: Machine) -> None:
    """Its last words are shown; the command does not run."""
    machine.install("docker", "exit 1")
    machine.install("dockerd", "echo no cgroups for me; exit 1")
    done = machine.run("engine", "touch", str(machine.programs / "ran"))
    assert done.returncode == 3
    assert "no cgroups for me" in done.stderr
    assert not (machine.programs / "ran").exists()


@pytest.mark.parametrize(
    ("scenario", "status", "said"),
    [
        ("/etc/passwd", 4, "only files and folders under scenarios/"),
        ("scenarios/../pyproject.toml", 4, "only files and folders under scenarios/"),
        ("scenarios/no-such", 4, "no such file or folder"),
    ],
)
def test_a_scenario_that_no_container_can_see_is_refused_at_once(
    machine: Machine, scenario: str, status: int, said: str
) -> None:
    """A typo costs no build, and exits like any other wrong scenario."""
    machine.install("docker", "exit 0")
    machine.environment["SCENARIO"] = scenario
    done = machine.run("up")
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert not machine.calls("docker")


def test_a_number_of_clients_that_is_none_is_refused_at_once(machine: Machine) -> None:
    """In the project's words, not in Compose's."""
    machine.install("docker", "exit 0")
    machine.environment["CLIENTS"] = "abc"
    done = machine.run("up")
    assert (done.returncode, done.stderr.strip()) == (4, "up: CLIENTS=abc is no number of containers")
    assert not machine.calls("docker")


@pytest.mark.parametrize("status", [0, 1, 11])
def test_up_exits_with_the_verdict_and_takes_its_project_away(machine: Machine, status: int) -> None:
    """The exit code is Midsession's, and the project is removed with its volumes whatever it was."""
    machine.install("docker", f'case "$*" in *version*) echo 2.24.6 ;; *" up "*) exit {status} ;; esac')
    done = machine.run("up")
    assert done.returncode == status, done.stderr
    ups, downs = ([c for c in machine.calls("docker compose") if f" {verb} " in c] for verb in ("up", "down"))
    assert len(ups) == len(downs) == 1
    assert "--exit-code-from midsession" in ups[0]
    assert "--volumes" in downs[0]
    assert re.findall(r"--project-name \S+", ups[0]) == re.findall(r"--project-name \S+", downs[0]) != []


def test_two_runs_at_once_have_projects_of_their_own(machine: Machine) -> None:
    """Two `make up` do not meet."""
    machine.install("docker", 'case "$*" in *version*) echo 2.24.6 ;; esac')
    for _ in range(2):
        assert machine.run("up").returncode == 0
    names = [re.findall(r"--project-name (\S+)", c)[0] for c in machine.calls("docker compose") if " up " in c]
    assert len(set(names)) == 2


def test_a_project_that_cannot_be_taken_away_fails_the_run(machine: Machine) -> None:
    """What is left behind is said, by name, and never passes."""
    machine.install("docker", 'case "$*" in *version*) echo 2.24.6 ;; *" down "*) echo busy; exit 1 ;; esac')
    done = machine.run("up")
    assert done.returncode != 0
    assert re.search(r"project midsession-\S+ could not be taken away", done.stderr)


def test_a_missing_engine_is_named_with_its_remedy(machine: Machine) -> None:
    """No traceback, no `command not found`: what to install, and Midsession's own code for what is missing."""
    bare = machine.programs
    for needed in ("bash", "dirname", "id", "env"):
        found = next(p for p in map(Path, ("/usr/bin", "/bin")) if (p / needed).exists())
        (bare / needed).symlink_to(found / needed)
    machine.environment["PATH"] = str(bare)
    done = machine.run("engine", "true")
    assert done.returncode == EnvironmentLacks.exit_code
    assert "docker.io" in done.stderr


def test_make_help_lists_every_target() -> None:
    """`make` alone prints each target with what it does."""
    phony = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    listed = re.findall(r"^make (\S+) +\S+", done.stdout, re.MULTILINE)
    assert listed == phony[0].split()
    assert set(listed) >= {"help", "up", "test", "lint"}


def test_clean_leaves_what_other_checkouts_have_made(machine: Machine, tmp_path: Path) -> None:
    """Two on one engine differ by their tag: images, base and what newer builds have replaced go by it alone."""
    (tmp_path / "checkout" / "tools").mkdir(parents=True)
    for name in ("clean", "common.sh"):
        shutil.copy(ROOT / "tools" / name, tmp_path / "checkout" / "tools")
    machine.install("docker", "exit 0")
    machine.environment["MIDSESSION_TAG"] = "mine"
    subprocess.run([tmp_path / "checkout" / "tools" / "clean"], env=machine.environment, check=True, timeout=60)
    removed = {call.removeprefix("docker rmi ") for call in machine.calls("docker rmi ")}
    assert removed == {"midsession:mine", "midsession-server:mine", "midsession-client:mine", "midsession-base:mine"}
    assert machine.calls("docker image") == ["docker image prune --force --filter label=midsession.image=mine"]


def test_every_image_says_whose_it_is(machine: Machine, project: Project) -> None:
    """By the label that `tools/clean` goes by, whoever builds it."""
    machine.install("docker", docker(image="exit 0"))
    machine.environment["MIDSESSION_TAG"] = TAG
    assert machine.run("images").returncode == 0
    built = machine.calls("docker build ")
    assert len(built) == 3
    assert all(f" --label midsession.image={TAG} " in call for call in built)
    labels = [service["build"]["labels"] for service in project["services"].values()]
    assert labels == [{"midsession.image": TAG}] * 3


@pytest.mark.parametrize("script", [*(f"tools/{name}" for name in SCRIPTS), ".ci/run"])
def test_a_script_runs_by_itself_and_stops_at_the_first_error(script: str) -> None:
    """Executable, bash, strict."""
    text = (ROOT / script).read_text("utf-8")
    assert os.access(ROOT / script, os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text


def test_every_script_is_known_here() -> None:
    """A new script in tools/ is held to the rule above."""
    assert {p.name for p in (ROOT / "tools").iterdir() if p.is_file() and not p.suffix} == set(SCRIPTS)
