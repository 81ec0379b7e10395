"""A Compose file of the user's in the project of a run: what stays, what becomes the agent's, what is refused."""

from __future__ import annotations

import io
import ipaddress
import tarfile
from typing import Any

import pytest

from midsession.core.plan import ComposeService, Service
from midsession.errors import EnvironmentLacks
from midsession.testbeds.docker import contents, dependencies, derived, extension, model, networks
from midsession.testbeds.docker.dependencies import Seen, Wait, holds
from tests.testbeds.test_docker_parts import MARKS, plan, step

FIRST, SECOND = ipaddress.IPv4Network("10.213.0.0/27"), ipaddress.IPv4Network("10.213.1.0/27")
CANONICAL: dict[str, Any] = {
    "name": "app",
    "services": {
        "pg": {
            "build": {"context": "/app"},
            "container_name": "pg-main",
            "ports": [{"target": 1}],
            "expose": ["1"],
            "hostname": "pg.example",
            "networks": {"back": {"aliases": ["postgres"]}},
            "depends_on": {"vault": {"condition": "service_healthy", "required": True}},
            "volumes": [{"type": "volume", "source": "data", "target": "/data"}],
            "restart": "always",
            "tty": True,
            "scale": 0,
            "deploy": {"replicas": 0, "restart_policy": {"condition": "any"}, "resources": {}},
            "sysctls": {"net.core.somaxconn": "10", "kernel.shmmax": "1"},
            "links": ["vault:safe"],
            "dns_opt": ["ndots:2"],
        },
        "vault": {
            "image": "v",
            "networks": {"back": None, "far": {"aliases": ["v"]}},
            "healthcheck": {"test": ["CMD", "true"]},
            "container_name": "the-vault",
            "restart": "always",
            "ports": [{"target": 2}],
        },
        "worker": {
            "image": "w",
            "container_name": "w",
            "depends_on": {"pg": {"condition": "service_healthy"}, "vault": {"condition": "service_started"}},
            "links": ["pg:database", "vault"],
            "networks": {"back": None},
            "profiles": ["all"],
        },
        "side": {
            "image": "s",
            "network_mode": "service:pg",
            "depends_on": {"pg": {"condition": "service_started", "restart": True}},
        },
    },
    "networks": {
        "back": {"name": "app_back", "ipam": {}, "enable_ipv6": True},
        "far": {"name": "app_far", "driver_opts": {"com.docker.network.bridge.name": "br-far", "x": "y"}},
        "wan": {"external": True, "name": "wan"},
    },
    "volumes": {"data": {"name": "app_data"}},
}


def changed(services: dict[str, Any] | None = None, nets: dict[str, Any] | None = None) -> dict[str, Any]:
    """The file with some services and networks put in or altered, key by key."""
    own = CANONICAL["services"]
    altered = {name: {**own.get(name, {}), **more} for name, more in (services or {}).items()}
    return {
        **CANONICAL,
        "services": {**own, **altered},
        "networks": {**CANONICAL["networks"], **(nets or {})},
    }


def adopted(
    canonical: dict[str, Any] = CANONICAL,
    *named: str,
    fault: str = "",
    environment: dict[str, str] | None = None,
    autostart: bool = True,
) -> model.Project:
    """The project of a scenario whose services are these of the file; the first is called `db`, others as in it."""
    names = named or ("pg",)
    services: list[Service] = [
        ComposeService(
            name="db" if name == names[0] else name, port=5432, file="compose.yaml", service=name, autostart=autostart
        )
        for name in names
    ]
    asked = plan(services)
    asked.timeline.extend([step(fault, target="db")] if fault else [])
    project = model.project_of("p", asked, "r", FIRST, 1, MARKS)
    where = networks.networks_of(canonical, names)
    subnets = dict(zip(where.apart, [SECOND] * len(where.apart), strict=True))
    derived.adopt(project, services, derived.UsersFile(canonical, environment or {}), subnets, MARKS)
    return project


# --- the network under test ----------------------------------------------------------------------------------------


def test_a_host_and_its_neighbours_are_on_one_network() -> None:
    """Whatever passes between them passes the host's one interface, where faults stand."""
    assert networks.networks_of(CANONICAL, ["pg"]) == networks.Networks(under_test=["back"], apart=["far"])
    made = adopted()
    services = made.model["services"]
    assert set(services["db.agent"]["networks"]) == {model.DATA}
    assert set(services["worker"]["networks"]) == {model.DATA}
    assert set(services["vault"]["networks"]) == {model.DATA, "far"}
    assert set(made.model["networks"]) == {model.DATA, "far", "wan"}
    under_test = made.model["networks"][model.DATA]
    assert under_test["ipam"] == {"config": [{"subnet": str(FIRST)}]}
    assert under_test["internal"] is True
    assert "enable_ipv6" not in under_test


def test_all_networks_of_the_scenarios_services_become_one() -> None:
    """Also where two services are on two each; it has a way out where one of them has."""
    front = {"x-midsession": {"internal": False}, "driver_opts": {"com.docker.network.driver.mtu": "1400"}}
    more = {"pg": {"networks": {"back": {"aliases": ["a"], "priority": 7}, "front": {"aliases": ["b"]}}}}
    made = adopted(changed(more, {"front": front}))
    agent = made.model["services"]["db.agent"]["networks"]
    assert set(agent) == {model.DATA}
    assert set(agent[model.DATA]["aliases"]) == {"db", "pg", "a", "b", "pg-main"}
    assert agent[model.DATA]["priority"] == 7
    under_test = made.model["networks"][model.DATA]
    assert under_test["internal"] is False
    assert under_test["driver_opts"] == {"com.docker.network.driver.mtu": "1400"}


def test_the_network_under_test_has_room_for_the_neighbours() -> None:
    """Counted with their replicas."""
    many = changed({"worker": {"scale": 40}})
    assert networks.hosts_on(CANONICAL, ["back"]) == 3
    assert networks.hosts_on(many, ["back"]) == 42
    assert networks.hosts_on(many, ["far"]) == 1


def test_other_networks_are_the_runs_own() -> None:
    """Internal unless the file says otherwise, without a name that two runs would want; external ones stay."""
    made = adopted().model["networks"]
    assert made["far"]["internal"] is True
    assert made["far"]["driver_opts"] == {"x": "y"}
    assert "name" not in made["far"]
    assert made["wan"] == {"external": True, "name": "wan"}
    open_ = changed(nets={"far": {"x-midsession": {"internal": False}}})
    assert adopted(open_).model["networks"]["far"]["internal"] is False


def test_names_go_on_meaning_what_they_meant() -> None:
    """Aliases, container names and links of the file resolve in the run."""
    services = adopted().model["services"]
    agent = services["db.agent"]
    assert agent["networks"][model.DATA]["aliases"] == ["db", "pg", "postgres", "pg-main"]
    assert agent["networks"][model.DATA]["ipv4_address"] == "10.213.0.2"
    assert agent["links"] == ["vault:safe"]
    assert services["worker"]["networks"][model.DATA]["aliases"] == ["w"]
    assert services["worker"]["links"] == ["db.agent:database", "vault"]
    assert services["vault"]["networks"]["far"]["aliases"] == ["v", "the-vault"]
    assert services["side"]["network_mode"] == "service:db.agent"


@pytest.mark.parametrize("key", ["data", "client", model.DATA])
def test_a_network_of_any_name_may_be_the_one_under_test(key: str) -> None:
    """It stands for what it becomes."""
    made = adopted(changed({"pg": {"networks": {key: None}}}, {key: {}}))
    assert set(made.model["services"]["db.agent"]["networks"]) == {model.DATA}


# --- services ------------------------------------------------------------------------------------------------------


def test_a_compose_service_keeps_everything_but_its_network_side_and_its_life() -> None:
    """Volumes, build and dependencies stay; what would start it, end it or multiply it beside the timeline goes."""
    made = adopted().model["services"]
    pg, agent = made["pg"], made["db.agent"]
    assert pg["network_mode"] == "service:db.agent"
    assert not {"networks", "hostname", "container_name", "ports", "expose", "links"} & set(pg)
    assert not {"restart", "tty", "scale"} & set(pg)
    assert pg["deploy"] == {"resources": {}}
    for kept in ("volumes", "depends_on"):
        assert pg[kept] == CANONICAL["services"]["pg"][kept]
    assert pg["image"] == "app-pg"
    assert agent["hostname"] == "pg.example"
    assert agent["dns_opt"][-1] == "ndots:2"
    assert len(agent["dns_opt"]) > 1
    assert pg["sysctls"] == {"kernel.shmmax": "1"}
    assert agent["sysctls"] == {"net.ipv4.tcp_no_metrics_save": "1", "net.core.somaxconn": "10"}


def test_neighbours_stay_as_they_are() -> None:
    """But for what collides between runs, and for waiting on whom the run starts."""
    services = adopted().model["services"]
    assert services["vault"]["healthcheck"] == {"test": ["CMD", "true"]}
    assert services["vault"]["restart"] == "always"
    assert not {"container_name", "ports"} & set(services["vault"])
    assert "profiles" not in services["worker"]
    assert services["worker"]["depends_on"] == {"vault": {"condition": "service_started"}}
    assert services["vault"]["labels"] == MARKS
    volumes = {"data": {"name": "app_data", "driver": "d"}, "bare": None, "old": {"name": "old", "external": True}}
    assert adopted({**CANONICAL, "volumes": volumes}).model["volumes"] == {
        "data": {"driver": "d", "labels": MARKS},
        "bare": {"labels": MARKS},
        "old": volumes["old"],
    }


def test_what_is_to_be_built_is_known() -> None:
    """Of hosts and of neighbours, by their names in the file."""
    assert derived.has_builds(adopted()) == ["pg"]
    assert derived.has_builds(adopted(changed({"vault": {"build": {"context": "/v"}}}))) == ["pg", "vault"]


def test_neighbours_come_up_when_what_they_need_is_there() -> None:
    """At first those that need nobody of the scenario's, by any way; each of the others after all that it needs."""
    chain = {"late": {"image": "l", "depends_on": {"worker": {"condition": "service_started"}}}}
    assert adopted(changed(chain)).beside == {
        "vault": frozenset(),
        "worker": frozenset({"pg"}),
        "side": frozenset({"pg"}),
        "late": frozenset({"pg"}),
    }
    assert Wait("pg", "vault", "service_healthy") in adopted().waits


@pytest.mark.parametrize(
    ("condition", "state", "seen"),
    [
        ("service_started", {"Status": "created"}, "not yet"),
        ("service_started", {"Status": "running"}, "yes"),
        ("service_started", {"Status": "exited", "ExitCode": 1}, "yes"),
        ("service_completed_successfully", {"Status": "created"}, "not yet"),
        ("service_completed_successfully", {"Status": "running"}, "not yet"),
        ("service_completed_successfully", {"Status": "exited", "ExitCode": 0}, "yes"),
        ("service_completed_successfully", {"Status": "exited", "ExitCode": 3}, "never"),
        ("service_healthy", {"Status": "created"}, "not yet"),
        ("service_healthy", {"Status": "running", "Health": {"Status": "starting"}}, "not yet"),
        ("service_healthy", {"Status": "restarting", "Health": {"Status": "unhealthy"}}, "not yet"),
        ("service_healthy", {"Status": "running", "Health": {"Status": "healthy"}}, "yes"),
        ("service_healthy", {"Status": "running", "Health": {"Status": "unhealthy"}}, "never"),
        ("service_healthy", {"Status": "exited", "ExitCode": 0, "Health": {"Status": "healthy"}}, "never"),
        ("service_healthy", {"Status": "running"}, "never"),
    ],
)
def test_a_condition_holds_or_can_still_hold_or_never_will(condition: Any, state: dict[str, Any], seen: Seen) -> None:
    """As the engine tells of a container."""
    assert holds(condition, state)[0] == seen


def test_a_service_behind_a_profile_is_taken_when_it_is_named() -> None:
    """With what it needs, and nothing else that its profile holds; what is active comes up anyway."""
    there = CANONICAL["services"]
    active = {**CANONICAL, "services": {"side": there["side"]}}
    chosen = derived.chosen(active, CANONICAL, ["pg"])
    assert set(chosen["services"]) == {"side", "pg", "vault"}
    assert {**chosen, "services": there} == CANONICAL
    assert derived.chosen(active, CANONICAL, ["pg", "nobody"]) == CANONICAL, "so that it is said what there is"


# --- secrets and configs -------------------------------------------------------------------------------------------

USES = {
    "secrets": [{"source": "key", "mode": "0400", "uid": "7"}, {"source": "file"}],
    "configs": [{"source": "c", "target": "/etc/c"}],
}
WITH_CONTENT: dict[str, Any] = {
    **changed({"pg": USES}),
    "secrets": {"key": {"name": "app_key", "environment": "KEY"}, "file": {"name": "f", "file": "/x"}},
    "configs": {"c": {"name": "app_c", "content": "a$$b"}},
}


def test_what_compose_would_write_into_a_container_is_written_into_it() -> None:
    """The content of a config, and a secret from the environment; files are mounted, and no matter of ours."""
    made = adopted(WITH_CONTENT, environment={"KEY": "s3cr$t"})
    packed = made.put_in["db"]
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        read = {e.name: (oct(e.mode), e.uid, (tar.extractfile(e) or io.BytesIO()).read()) for e in tar}
    assert read == {"run/secrets/key": ("0o400", 7, b"s3cr$t"), "etc/c": ("0o444", 0, b"a$b")}
    assert contents.variables(WITH_CONTENT) == {"KEY"}
    assert made.variables == {"KEY": "s3cr$t"}, "for neighbours, into whom Compose writes it"
    assert made.model["configs"] == {"c": {"content": "a$$b"}}
    assert adopted().put_in == {}
    with pytest.raises(EnvironmentLacks, match="KEY, which is not set"):
        adopted(WITH_CONTENT)


@pytest.mark.parametrize("word", ["secrets", "configs"])
def test_content_that_nobody_could_write_is_refused(word: str) -> None:
    """A variable that is not set, a user who is no number, a file system that is read-only; for neighbours too."""
    use: dict[str, Any] = {
        **changed({"vault": {word: [{"source": "k"}]}}),
        word: {"k": {"environment": "K", "name": "k"}},
    }
    contents.require("f", use, {"K": ""})
    with pytest.raises(EnvironmentLacks, match="K, which is not set"):
        contents.require("f", use, {})
    vault = use["services"]["vault"]
    use["services"]["vault"] = vault | {word: [{"source": "k", "uid": "nobody"}]}
    with pytest.raises(EnvironmentLacks, match="uid 'nobody' in 'vault'; give that by its number"):
        contents.require("f", use, {"K": ""})
    use["services"]["vault"] = vault | {"read_only": True}
    with pytest.raises(EnvironmentLacks, match="read_only"):
        contents.require("f", use, {"K": ""})


# --- what a file says to us ----------------------------------------------------------------------------------------


def test_what_a_file_says_to_us_comes_back_into_its_model() -> None:
    """Compose leaves it out of the model in JSON, and has it in YAML: that of services and networks, and nothing else
    is taken from there."""
    plain: dict[str, Any] = {
        "name": "app",
        "services": {"pg": {"image": "p"}, "vault": {"image": "v"}},
        "networks": {"back": None, "far": {"name": "f"}},
    }
    said = "services: {pg: {image: other, x-midsession: {ports: true}}, vault: {image: v}, nobody: null}\n"
    said += "networks: {back: {x-midsession: {internal: false}}, far: null}\n"
    assert extension.restored(plain, said, "f") == {
        "name": "app",
        "services": {"pg": {"image": "p", "x-midsession": {"ports": True}}, "vault": {"image": "v"}},
        "networks": {"back": {"x-midsession": {"internal": False}}, "far": {"name": "f"}},
    }
    bare = {"services": plain["services"]}
    assert extension.restored(bare, "x-midsession: true\n", "f") == bare
    with pytest.raises(EnvironmentLacks, match=r"(?s)x-midsession of f cannot be read.*compose-extension"):
        extension.restored(plain, "x-midsession: [", "f")


# --- what cannot be held -------------------------------------------------------------------------------------------

FIXED = {"networks": {"back": {"ipv4_address": "172.30.0.5"}}}
TWO_NAMES = {"pg": {"networks": {"back": None, "front": None}}, "q": {"networks": {"front": {"aliases": ["vault"]}}}}


@pytest.mark.parametrize(
    ("change", "nets", "named", "slug"),
    [
        ({}, {}, "pgg", "no-such-compose-service"),
        ({"pg": {"networks": None, "network_mode": "host"}}, {}, "pg", "compose-network-mode"),
        ({"pg": {"post_start": [{"command": ["true"]}]}}, {}, "pg", "compose-hook"),
        ({"client-1": {"image": "x"}}, {}, "pg", "name-taken"),
        ({"vault": {"networks": {"back": {"aliases": ["client-1"]}}}}, {}, "pg", "name-taken"),
        ({"db": {"image": "x", "networks": {"back": None}}}, {}, "pg", "name-taken"),
        (TWO_NAMES, {"front": {}}, "pg", "name-taken"),
        ({"vault": {"networks": {model.DATA: None}}}, {model.DATA: {}}, "pg", "name-taken"),
        ({"vault": FIXED}, {}, "pg", "compose-fixed-address"),
        ({"pg": FIXED}, {}, "pg", "compose-fixed-address"),
    ],
)
def test_a_compose_file_that_cannot_be_taken_in_is_refused(
    change: dict[str, Any], nets: dict[str, Any], named: str, slug: str
) -> None:
    """With the name of what is in the way."""
    with pytest.raises(EnvironmentLacks, match=slug):
        adopted(changed(change, nets), named)


@pytest.mark.parametrize(("named", "hint"), [("valt", "; did you mean 'vault'?"), ("redis", "")])
def test_a_service_that_is_not_in_the_file_is_told_what_is(named: str, hint: str) -> None:
    """All of them, and which is like it."""
    with pytest.raises(EnvironmentLacks) as refused:
        adopted(CANONICAL, named)
    assert refused.value.remedy == f"it has {', '.join(sorted(CANONICAL['services']))}{hint}"


@pytest.mark.parametrize("far", [{"external": True}, {"driver": "macvlan"}])
def test_a_fault_that_would_miss_a_network_is_refused(far: dict[str, Any]) -> None:
    """A network that is not ours to make stays beside the one under test; without such a fault it may."""
    more = changed({"pg": {"networks": {"back": None, "beyond": None}}}, {"beyond": far})
    assert set(adopted(more).model["services"]["db.agent"]["networks"]) == {model.DATA, "beyond"}
    with pytest.raises(EnvironmentLacks, match=r"'beyond'.*compose-network-out-of-reach"):
        adopted(more, fault="partition")


def test_a_neighbour_that_could_not_be_told_of_a_move_is_refused() -> None:
    """It has no agent that would answer for the engine's resolver; a service of the scenario has, and so has who shares
    its network namespace. Who is on other networks cannot look for the host at all."""
    with pytest.raises(EnvironmentLacks, match=r"'db' another address, and 'vault'.*compose-not-told"):
        adopted(fault="readdress")
    with pytest.raises(EnvironmentLacks, match=r"'worker'.*compose-not-told"):
        adopted(CANONICAL, "vault", "pg", fault="readdress")
    made = adopted(CANONICAL, "vault", "pg", "worker", fault="readdress")
    assert [host.name for host in made.hosts if host.led] == ["db", "pg", "worker", "client-1"]
    assert set(made.beside) == {"side"}
    apart = changed({"vault": {"networks": {"far": None}}, "worker": {"networks": {"far": None}}})
    assert set(adopted(apart, fault="readdress").beside) == {"vault", "worker", "side"}


def test_an_order_that_can_be_held_is_no_error() -> None:
    """Where the one need not be there, or a step starts either of them."""
    loose = changed({"worker": {"depends_on": {"pg": {"condition": "service_started", "required": False}}}})
    assert dependencies.out_of_order(CANONICAL, {"worker": True, "pg": True}) is not None
    assert dependencies.out_of_order(loose, {"worker": True, "pg": True}) is None
    assert dependencies.out_of_order(CANONICAL, {"worker": False, "pg": True}) is None
    assert dependencies.out_of_order(CANONICAL, {"worker": True, "pg": False}) is None


def test_services_that_wait_for_each_other_are_started_in_that_order() -> None:
    """Directly, or by way of a neighbour; not where the timeline says when."""
    with pytest.raises(EnvironmentLacks, match="'worker' waits for 'pg', and the scenario starts 'pg' later"):
        adopted(CANONICAL, "worker", "pg")
    by_way = changed({"late": {"image": "l", "networks": {"back": None}, "depends_on": {"side": {}}}})
    with pytest.raises(EnvironmentLacks, match="'late' waits for 'side', and the scenario starts 'pg' later"):
        adopted(by_way, "late", "pg")
    adopted(by_way, "pg", "late")
    adopted(by_way, "late", "pg", autostart=False)
