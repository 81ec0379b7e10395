"""What makes hosts. The conductor, the faults and the checks know a testbed only by this protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from midsession.agent.protocol import Records, Reply, Request
    from midsession.core.plan import Plan


class Inbox(Protocol):
    """Where a host's pushed records and its death go; called on the run's event loop, must not block."""

    def records(self, batch: Records) -> None:
        """A batch of subscribed records came from a host."""

    def gone(self, host: str, why: str) -> None:
        """The host's agent can no longer be reached, outside an orderly end."""


class RunInbox(Inbox, Protocol):
    """What a run hears with: its hosts, and what its testbed has to tell besides."""

    def note(self, text: str) -> None:
        """Something happened beside the hosts that a reader of the run should know of."""


class Host(Protocol):
    """One host: a network namespace with its address, its agent and (at most) one program."""

    @property
    def name(self) -> str:
        """`server`, `client-1`, …: unique in the run. The host of a service bears the service's name."""

    @property
    def address(self) -> str:
        """Its address on the network under test."""

    @property
    def spare_address(self) -> str | None:
        """Another one there, which it can be given instead; None: its testbed has no such (ability `addresses`)."""

    @property
    def clock(self) -> str:
        """Its clock domain, see `midsession.core.record.clock_domain`."""

    @property
    def python(self) -> Sequence[str]:
        """The argv prefix of a Python on this host that can import `midsession` (`[sys.executable]`, `["python"]`)."""

    @property
    def programs(self) -> str | None:
        """The directory on this host that holds `server/` and `client/`; None: the agent's own working directory."""

    def ask(self, request: Request) -> Awaitable[Reply]:
        """Ask its agent; the request's `id` is set here.

        The request is on its way when `ask` returns (a plain function: a fault must not wait for the event loop's next
        round); what it returns is awaited for the reply, or left alone. Awaiting raises HarnessError when the agent
        errs (slug `agent-refused`) or is gone (any other slug).
        """


class Testbed(Protocol):
    """Makes hosts for one plan and takes them away again.

    A testbed can serve several plans one after the other (`open`, `close`, `open`, …); `shut` ends it for good.
    """

    @property
    def name(self) -> str:
        """As the table of testbeds has it."""

    @property
    def services(self) -> Mapping[str, Host]:
        """The hosts of the plan's services, by service name."""

    @property
    def fleets(self) -> Sequence[Host]:
        """The hosts that play scripted clients; never empty after `open` when the plan has such clients."""

    @property
    def foreign(self) -> Mapping[str, Host]:
        """The hosts of the clients that are programs, each by the client's name, which is the host's too."""

    def remedy_for(self, ability: str) -> str | None:
        """What to do about it when its agents have not that ability (see `midsession.faults.base`); None: they have."""

    @property
    def doing(self) -> str:
        """What `open` or `after_start` is about just now, for whoever waits too long for it; empty: nothing special."""

    async def open(self, plan: Plan, run: str, directory: Path, inbox: RunInbox) -> None:
        """Make (or attach to) the hosts and configure their agents for the run `run`.

        `directory` is the run directory; hosts that share our file system write there themselves. Raises
        EnvironmentLacks when this testbed cannot serve the plan.
        """

    async def after_start(self, service: str) -> None:
        """This service of the plan is up for the first time: bring up what has waited for it, outside the hosts."""

    async def collect(self, directory: Path) -> None:
        """Bring every host's `events/` and `logs/` into the run directory. After `Finish`, before `close`."""

    async def close(self) -> None:
        """End the run's hosts (or free them for the next `open`); goes on past errors and raises them at the end."""

    async def shut(self) -> None:
        """Let go of everything."""


class Pruned(NamedTuple):
    """What was removed of dead runs, what could not be (in sentences), and the projects of whose owner nobody here can
    tell whether it lives."""

    removed: Sequence[str] = ()
    problems: Sequence[str] = ()
    undecided: Sequence[str] = ()
