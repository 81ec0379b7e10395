"""The world of one run: namespaces, forked from a warm process, that die with whoever asked for them.

Process tree, each arrow a fork:

    template ─▶ keeper ─▶ init (PID 1 of the world) ─▶ porter, one per host ─▶ agent (PID 1 of the host)

- *template*: a Python that has imported all that agents need, and waits for orders on a socket. It holds no namespace.
- *keeper*: has left the user, network, mount and PID namespaces, and does nothing but wait for init.
- *init*: owns the bridge and lives as long as the harness keeps its end of `status` open; when init ends, for whatever
  reason, the kernel kills everything in the world (pid_namespaces(7)).
- *porter*: owns the host's network namespace, waits for the agent.

`status` is one socket with three meanings: init answers on it (`{"ok": true}` or `{"error": …}`), the harness ends the
world by closing its writing side, and the end of the stream tells the harness that the last process is gone.
Nothing is ever written outside the namespaces made here. No asyncio in this module: it forks.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import msgspec

from midsession.agent.network.names import Names
from midsession.agent.tools import which
from midsession.testbeds.netns import kernel
from midsession.testbeds.netns.confinement import Limits, limit_host
from midsession.testbeds.netns.filesystem import RESOLVER, cover_world, furnish

NETMASK = "255.255.0.0"
WORLD_ADDRESS = "10.77.0.1"
"""The bridge's own address, where the name service is."""
_OF_A_HOST = kernel.CLONE_NEWNET | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC
MAX_HOSTS = 250  # SCM_MAX_FD is 253, see unix(7)


class HostOrder(msgspec.Struct, frozen=True):
    """A host to make: its name in the run, its service (for the agent's hello), its address, and one to spare.

    One that is `asked_for` is known to the name service alone, the others to every host's /etc/hosts too.
    """

    name: str
    service: str
    address: str
    spare_address: str
    asked_for: bool = False


class WorldOrder(msgspec.Struct, frozen=True):
    """A world to make. `directory` stays writable; `keep` are paths that programs need though they may be covered.
    `cut`: packets come to its hosts as they would over a wire, which costs their kernel more than to hand over 64 KiB.

    With it come the descriptors: `status`, then one per host.
    """

    hosts: list[HostOrder]
    directory: str
    keep: list[str]
    limits: Limits
    cwd: str
    """Where hosts work unless they are told otherwise: where the run was called. The warm process may be elsewhere."""
    cut: bool = False


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What init says once: all agents are forked, or why not.

    `refused` is the step that the kernel refused, see `kernel.unshare`.
    """

    ok: bool
    error: str = ""
    refused: str = ""


Agent = Callable[[int, str, bool], None]
"""Serve as the agent of a host: (descriptor of the conductor's stream, service, whether packets come to it cut)."""


def template(orders: socket.socket, agent: Agent) -> None:
    """Fork a world for each order that comes, until the socket ends. The caller has imported all that is needed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are reaped by the kernel
    gc.freeze()  # what is here now is never collected, so its pages stay shared with every fork
    while True:
        data, fds, _, _ = socket.recv_fds(orders, 1 << 20, MAX_HOSTS + 1)
        if not data:
            return
        order = msgspec.json.decode(data, type=WorldOrder)
        if _fork() == 0:
            orders.close()
            _child(partial(_keep, order, fds, agent), fds[0])
        for fd in fds:
            os.close(fd)


def _fork() -> int:
    """fork(2), with nothing left in Python's own buffers to be written twice."""
    sys.stdout.flush()
    sys.stderr.flush()
    return os.fork()


def _child(body: Callable[[], None], status: int) -> NoReturn:
    """Run `body` in a forked child and never return; what goes wrong is said on `status`."""
    code = 0
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        kernel.die_with_parent()
        body()
    except OSError as error:
        code = 1
        refused = str(error.filename or "")
        _say(status, Answer(False, f"{refused}: {error.strerror}" if refused else str(error), refused))
    except BaseException:  # noqa: BLE001 - a fork must never unwind into its parent's stack; the error is said in full
        code = 1
        _say(status, Answer(ok=False, error=traceback.format_exc()))
    finally:
        os._exit(code)


def _say(status: int, answer: Answer) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more: the world is being taken away
        os.write(status, msgspec.json.encode(answer) + b"\n")


def _keep(order: WorldOrder, fds: list[int], agent: Agent) -> None:
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
    kernel.map_user(uid, gid)
    init = _fork()
    if init == 0:
        _child(partial(_init, order, fds, agent), fds[0])
    for fd in fds[1:]:
        os.close(fd)
    os.waitpid(init, 0)


# --- init ----------------------------------------------------------------------------------------------------------


def _init(order: WorldOrder, fds: list[int], agent: Agent) -> None:
    status, streams = fds[0], fds[1:]
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    cover_world([*order.keep, order.directory])
    porters = [_porter(host, stream, fds, order, agent) for host, stream in zip(order.hosts, streams, strict=True)]
    for fd in streams:
        os.close(fd)
    for porter in porters:
        porter.wait("left its namespaces")
    _wire([porter.pid for porter in porters], order.cut)
    kernel.set_up("br0", WORLD_ADDRESS, NETMASK)
    for porter in porters:
        porter.go()
    for porter in porters:
        porter.wait("had its interface and its files")
    with _name_service() as service:
        _say(status, Answer(ok=True))
        _live(status, service, Names({h.name: (h.address, h.spare_address) for h in order.hosts}))


def _name_service() -> socket.socket:
    service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    service.bind((WORLD_ADDRESS, 53))
    return service


def _live(status: int, service: socket.socket, names: Names) -> None:
    """Answer what hosts ask until the harness lets go; it says nothing, so whatever comes on `status` is its end."""
    while status not in select.select([status, service.fileno()], [], [])[0]:
        query, asker = service.recvfrom(4096)
        if response := names.respond(query, asker[0]):
            with contextlib.suppress(OSError):  # the asker's network is broken: that is what faults are for
                service.sendto(response, asker)


def _wire(pids: list[int], cut: bool) -> None:
    """One bridge, one veth pair per host whose far end is `eth0` in the host's namespace. One call of iproute2.

    No forward delay: a SYN that the bridge swallows while it learns costs its sender a second. What leaves the bridge
    is `cut` by the kernel where the device says that it can take but one segment at a time (gso_features_check).
    """
    most = " gso_max_segs 1" if cut else ""
    lines = ["link add br0 type bridge forward_delay 0 stp_state 0", "link set br0 up"]
    for number, pid in enumerate(pids, 1):
        lines.append(f"link add h{number}{most} type veth peer name eth0 netns {pid}")
        lines.append(f"link set h{number} master br0 up")
    tool = which("ip") or "ip"
    done = subprocess.run([tool, "-batch", "-"], input="\n".join(lines).encode(), capture_output=True, check=False)
    if done.returncode:
        raise OSError(f"ip -batch: {done.stderr.decode(errors='replace').strip()}")


# --- one host ------------------------------------------------------------------------------------------------------


class _Porter:
    """Init's handle on a porter: its PID and the socket on which the two step together."""

    def __init__(self, pid: int, steps: socket.socket) -> None:
        self.pid, self._steps = pid, steps

    def wait(self, what: str) -> None:
        if self._steps.recv(1) != b".":
            raise OSError(f"a host never {what}")

    def go(self) -> None:
        self._steps.send(b".")


def _porter(host: HostOrder, stream: int, fds: list[int], order: WorldOrder, agent: Agent) -> _Porter:
    ours, theirs = socket.socketpair()
    pid = _fork()
    if pid == 0:
        ours.close()
        for fd in fds[1:]:
            if fd != stream:
                os.close(fd)
        _child(partial(_host, host, stream, fds[0], theirs, order, agent), fds[0])
    theirs.close()
    return _Porter(pid, ours)


def _host(host: HostOrder, stream: int, status: int, steps: socket.socket, order: WorldOrder, agent: Agent) -> None:
    kernel.unshare(_OF_A_HOST)
    steps.send(b".")
    if not steps.recv(1):
        return
    kernel.set_up("lo")
    kernel.set_up("eth0", host.address, NETMASK)
    child = _fork()
    if child == 0:
        _child(partial(_serve, host, stream, status, steps, order, agent), status)
    os.close(stream)
    steps.close()
    os.waitpid(child, 0)


def _serve(host: HostOrder, stream: int, status: int, steps: socket.socket, order: WorldOrder, agent: Agent) -> None:
    kernel.mount("proc", "/proc", "proc")
    limit_host(order.limits)
    names = "".join(f"{h.address} {h.name}\n" for h in order.hosts if not h.asked_for)
    resolver = f"nameserver {WORLD_ADDRESS}\noptions timeout:1 attempts:1\n"
    files = {"/etc/hosts": f"127.0.0.1 localhost\n{names}", RESOLVER: resolver}
    furnish(host.name, order.directory, order.keep, files)
    os.chdir(order.cwd)
    steps.send(b".")
    steps.close()
    os.close(status)
    agent(stream, host.service, order.cut)
