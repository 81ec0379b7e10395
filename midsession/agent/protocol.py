"""What the conductor asks of an agent, and what the agent says: one JSON object a line, over any byte stream.

The verbs are a closed set with typed arguments; there is no verb that runs a shell. A request is answered by exactly
one `Reply` with its `id`; requests are carried out in the order of their arrival, except that `kill` and the other
process verbs do not wait for an earlier `stop` to run out its grace. `Records` are pushed whenever subscribed records
were written, in file order per writer. An agent that cannot go on says why in a `Farewell`. This module does no I/O.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from midsession.agent.network.impairment import Direction, Impairment

PROTOCOL_VERSION = 4
MAX_FRAME_BYTES = 64 * 1024 * 1024


class _Message(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="m"
):
    """Base of every message."""


class _Request(_Message, frozen=True, kw_only=True):
    """Base of a request. `id` is chosen by the conductor and comes back in the reply."""

    id: int


# --- agent → conductor ---------------------------------------------------------------------------------------------


class Hello(_Message, frozen=True, kw_only=True, tag="hello"):
    """The agent's first line. `token` proves that it belongs to the run (empty on a private pipe).

    `service` is the role it was started for (`server`, `client`), `addresses` its addresses as `ip/prefix` by
    interface (loopback left out), `clock` its clock domain.
    """

    token: str
    service: str
    hostname: str
    addresses: dict[str, str]
    clock: str
    pid: int
    version: int = PROTOCOL_VERSION


class Reply(_Message, frozen=True, kw_only=True, tag="reply"):
    """The answer to the request `id`: `value`, or `error` with a text for people. `t_ns` is when it was carried out."""

    id: int
    t_ns: int
    value: dict[str, Any] = {}
    error: str | None = None


NOTHING_TO_HEAL: dict[str, Any] = {"healed": False}
"""The value of the reply to a cure of what never had anything to heal on this host: no `healed` comes."""


class Records(_Message, frozen=True, kw_only=True, tag="records"):
    """Subscribed records of one writer, as they stand in its file."""

    host: str
    writer: str
    incarnation: int
    records: list[msgspec.Raw]


class Farewell(_Message, frozen=True, kw_only=True, tag="farewell"):
    """The agent's last line when it ends before its time. `why` is a text for people."""

    why: str


# --- conductor → agent ---------------------------------------------------------------------------------------------


class Configure(_Request, frozen=True, kw_only=True, tag="configure"):
    """Begin a run: name the host and open the agent's own log in `directory`/events.

    `directory` None: a fresh directory of the agent's own (fetched with `List` and `Fetch`). Value: `{"directory": …}`.
    Anything left of an earlier run is killed, healed and removed first. `client`: the host's program is this client of
    the run, and every record of the agent's bears its name.
    """

    run: str
    host: str
    seed: int
    plan: str
    directory: str | None = None
    client: str | None = None


class Subscribe(_Request, frozen=True, kw_only=True, tag="subscribe"):
    """Push the records of these events from now on (also those of earlier in this run); replaces the last set."""

    events: list[str]


class Start(_Request, frozen=True, kw_only=True, tag="start"):
    """Start the host's program. Fails when one runs. Value: `{"pid": …, "incarnation": n}`; writes `started`.

    `argv` is a list, never a shell string. The program gets `MIDSESSION_EVENT_FILE`, `MIDSESSION_HEADER` (the JSON of
    its log header without `pid`) besides `env`. `files` are written under the host's directory first (UTF-8 text by
    relative name); an item of `argv` that is the name of one becomes its absolute path. `ready_line` and `ready_port`
    say when the program is up where it does not log `listening` itself: the agent then writes that record with
    `fields.by` (`line`, or `port`: seen in /proc/net/tcp*, never by connecting). `fault` is the timeline step where a
    step starts the program; then an `injected` record stands before `started`. `logs`: it gets a directory for files
    of its own, named by `MIDSESSION_LOGS`, whose plain files `List` names too.
    """

    argv: list[str]
    env: dict[str, str] = {}
    cwd: str | None = None
    files: dict[str, str] = {}
    ready_line: str | None = None
    ready_port: int | None = None
    logs: bool = False
    fault: str = ""


class Kill(_Request, frozen=True, kw_only=True, tag="kill"):
    """Send `signal` (a name without SIG) to the program's process group. Fails when none runs.

    `fault` is the timeline step; it stands in the `injected` record. Value: `{"began_ns": …, "t_ns": …}`, the instants
    just before and after the call.
    """

    signal: str = "KILL"
    fault: str = ""


class Stop(_Request, frozen=True, kw_only=True, tag="stop"):
    """SIGTERM, then SIGKILL after `grace_s`; SIGKILL at once where that is 0. Answers when the program is gone."""

    grace_s: float
    fault: str = ""

    @property
    def first_signal(self) -> str:
        """What is sent now, by its name without SIG."""
        return "TERM" if self.grace_s > 0 else "KILL"


class Freeze(_Request, frozen=True, kw_only=True, tag="freeze"):
    """SIGSTOP the program's process group; writes `frozen` once /proc says that every process is stopped."""

    fault: str = ""


class Thaw(_Request, frozen=True, kw_only=True, tag="thaw"):
    """SIGCONT; writes `thawed` once no process of the group is stopped any more.

    `cure`: it is nothing but the end of that fault, with nothing to do where that has nothing frozen.
    """

    fault: str = ""
    cure: bool = False


class Prepare(_Request, frozen=True, kw_only=True, tag="prepare"):
    """Have ready what faults will need, so that none has to wait for it. Nothing is broken by it.

    `abilities` are those of `midsession.faults.base`; for most there is nothing to do.
    """

    abilities: list[str]


class Filter(_Request, frozen=True, kw_only=True, tag="filter"):
    """Drop packets between this host and others, or answer them with RST, until `Unfilter`; writes `injected`.

    The rules stand in chains of their own, named after the step, so that faults stack and heal independently. They
    are for packets whose one end is `own`, this host's address on the network under test: its other networks are never
    touched, and neither is what it sends to itself. `peers`: only packets from or to these addresses (None: any), never
    those from or to one of `spared`; `protocol`, `own_port` and `peer_port` likewise. `connections`: only those of
    these TCP connections, each as the peer's address, the peer's port, our own. `direction` is seen from here: `to`
    this host, `from` it, `both`. `which`: `all` packets; `request`, SYN without ACK; `opening`, any TCP segment with
    SYN; `live`, those of the TCP connections that are open at this moment.
    `idle_s`: only those of TCP connections that had no packet for so long. `act`: `drop`, or `reset` (RST to the
    sender; only `to`, or with `idle_s`). Of what fits so far, only packets of more than `over_bytes`, only each
    `every`-th (counted from 1), each with the probability `share`, or those with the numbers `packets` (from 1).
    `witnessed` is written once a packet was hit.
    """

    fault: str
    own: str
    peers: list[str] | None = None
    spared: list[str] = []
    connections: list[tuple[str, int, int]] | None = None
    protocol: Literal["tcp", "udp"] | None = None
    own_port: int | None = None
    peer_port: int | None = None
    direction: Literal["both", "to", "from"] = "both"
    which: Literal["all", "request", "opening", "live"] = "all"
    idle_s: float | None = None
    act: Literal["drop", "reset"] = "drop"
    over_bytes: int | None = None
    every: int | None = None
    share: float | None = None
    packets: list[int] | None = None


class Unfilter(_Request, frozen=True, kw_only=True, tag="unfilter"):
    """Take the rules of that step away and see that they are gone; writes `healed` with their counters."""

    fault: str


class Impair(_Request, frozen=True, kw_only=True, tag="impair"):
    """Do something to the packets between this host and others until `Mend`; writes `injected` with the `mechanism`.

    `own`, `peers` and `direction` as in `Filter`. Impairments stack: a packet meets those that are for it in the order
    in which they were put in. `witnessed` is written once it has had its effect on a packet, with what was measured.
    """

    fault: str
    own: str
    how: Impairment
    peers: list[str] | None = None
    direction: Direction = "both"


class Mend(_Request, frozen=True, kw_only=True, tag="mend"):
    """End the impairment of that step: what it holds comes at once, in order. Writes `healed` with its counts."""

    fault: str


class Mislead(_Request, frozen=True, kw_only=True, tag="mislead"):
    """Tell this host's programs something else about one name, until `Unmislead`; writes `injected`.

    DNS queries for `name` are answered with `address`; without one, there is no such name, or (`silent`) no answer at
    all. `witnessed` is written at the first query.
    """

    fault: str
    name: str
    address: str | None = None
    silent: bool = False


class Unmislead(_Request, frozen=True, kw_only=True, tag="unmislead"):
    """Let the host's own resolver answer again; writes `healed` with the number of `queries`."""

    fault: str


class Renumber(_Request, frozen=True, kw_only=True, tag="renumber"):
    """Give the interface that has the address `own` the `address` instead, until `Unrenumber`; writes `injected`.

    `update`: the name service is told from the new address, and `witnessed` is written once it has acknowledged that.
    Without, the host's programs and those of all others are told by `Lead`.
    """

    fault: str
    own: str
    address: str
    update: bool = True


class Unrenumber(_Request, frozen=True, kw_only=True, tag="unrenumber"):
    """Give it back, and tell the name service; writes `healed`. What this host is told by the same fault ends, too."""

    fault: str


class Lead(_Request, frozen=True, kw_only=True, tag="lead"):
    """Have this host's resolver say that `names` lead to `address`, where it says `own` by itself, until `Unlead`.

    Answered once each of the names was looked up here and found there; fails when one was not. Writes `injected`; on
    the host that the same fault has given that address `witnessed`, and it ends there with `Unrenumber`.
    """

    fault: str
    names: list[str]
    own: str
    address: str


class Unlead(_Request, frozen=True, kw_only=True, tag="unlead"):
    """Let the host's own resolver say where they lead, and see that it does; writes `healed`."""

    fault: str


class Link(_Request, frozen=True, kw_only=True, tag="link"):
    """Have the interface with the address `own` down on behalf of a fault, or (`up`) not, until `Relink`.

    It is up when no fault has it down. Answered once the kernel says that it is as it should be; the first time down
    writes `injected`, and `witnessed`.
    """

    fault: str
    own: str
    up: bool


class Relink(_Request, frozen=True, kw_only=True, tag="relink"):
    """Have the interface down on that fault's behalf no more; up unless another has it down. Writes `healed`."""

    fault: str


class Destroy(_Request, frozen=True, kw_only=True, tag="destroy"):
    """Destroy open TCP sockets of this host (SOCK_DESTROY): RST to the peer, ECONNABORTED for the owner.

    Those with the local address `own` (None: any), a peer among `peers` (None: any other host), and the ports that are
    given. Fails when there is none. Writes `injected`, and `witnessed` once the kernel has them no more.
    """

    own: str | None = None
    peers: list[str] | None = None
    own_port: int | None = None
    peer_port: int | None = None
    fault: str = ""


class Tell(_Request, frozen=True, kw_only=True, tag="tell"):
    """Write one line to the program's standard input (how a fleet gets `go`, signals and barriers)."""

    line: str


class Status(_Request, frozen=True, kw_only=True, tag="status"):
    """Value: `{"running": bool, "pid": …, "incarnation": n, "exit": {"code": …, "signal": …} | None, "listening":
    ["0.0.0.0:4000", …]}`."""


class AwaitPort(_Request, frozen=True, kw_only=True, tag="await_port"):
    """Answered once someone listens on the TCP port where other hosts reach it, not on the loopback interface alone
    (seen in /proc/net/tcp*, never by connecting); fails after `within_s`. For programs that the agent does not start.
    Needs no run."""

    port: int
    within_s: float


class List(_Request, frozen=True, kw_only=True, tag="list"):
    """Value: `{"files": {"events/x.jsonl": bytes, "logs/…": bytes}}` of the agent's directory."""


class Fetch(_Request, frozen=True, kw_only=True, tag="fetch"):
    """Value: `{"data": base64, "eof": bool}` of one file that `List` named."""

    path: str
    offset: int
    limit: int = 4 * 1024 * 1024


class Finish(_Request, frozen=True, kw_only=True, tag="finish"):
    """End the run on this host: kill what still runs, heal everything, close the agent's log with its trailer."""


class Reset(_Request, frozen=True, kw_only=True, tag="reset"):
    """Forget the run as if there had been none, and say what there is on this host.

    What runs is killed, what is broken is healed, the agent's own directory goes, and the directories `scratch`, which
    belong to the host alone, are emptied. Then TCP is given a moment to finish with connections that nobody owns.
    Value: `{"census": …, "lingering": …}`, see `midsession.agent.census`: a host is as good as new when its census is
    that which it gave before its first run. Refused once a fault could not be healed here.
    """

    scratch: list[str] = []


class Shutdown(_Request, frozen=True, kw_only=True, tag="shutdown"):
    """The agent ends (after `finish` of what is left) and its process exits 0."""


Request = (
    Configure | Subscribe | Start | Kill | Stop | Freeze | Thaw | Prepare | Filter | Unfilter | Mislead
    | Unmislead | Renumber | Unrenumber | Lead | Unlead | Impair | Mend | Link | Relink | Destroy | Tell | Status
    | AwaitPort | List | Fetch | Finish | Reset | Shutdown
)  # fmt: skip
FromAgent = Hello | Reply | Records | Farewell

encode = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(Request).decode
decode_from_agent = msgspec.json.Decoder(FromAgent).decode
