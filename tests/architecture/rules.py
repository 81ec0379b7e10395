"""The rules of the house as data: what may not be said where, and every exception with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from midsession.checks import ALWAYS, CHECKS
from midsession.faults import FAULTS
from midsession.testbeds.registry import TESTBEDS
from tests.architecture.idle import idle_waits, loops_on_a_clock
from tests.architecture.names import UNKNOWN, Mention, Source

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class But:
    """An exception. `where` is a file, or a folder when it ends with `/`; `what` are patterns of what is said there."""

    where: str
    what: tuple[str, ...]
    why: str

    def allows(self, path: str, what: str) -> bool:
        """Whether that may be said there; a module may be imported for a part of it."""
        return is_in(path, self.where) and _leads_to(what, self.what)


@dataclass(frozen=True, slots=True)
class Rule:
    """What may not be said in the files and folders of `where`.

    `names` are names in which `*` is anything, and stand for all that is in them too: `asyncio.Event` forbids
    `asyncio.Event().wait`. `only`: no other names may be imported. `said` is a regular expression over texts that are
    no docstrings. `does` find what is no single name.
    """

    promise: str
    where: tuple[str, ...]
    names: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    said: str = ""
    does: tuple[Callable[[Source], Iterable[Mention]], ...] = ()
    but: tuple[But, ...] = ()

    def broken_by(self, source: Source) -> Iterator[tuple[Mention, But | None]]:
        """What is said against it, each with the exception that allows it."""
        does = (found for look in self.does for found in look(source))
        for found in sorted({*self._named(source), *self._told(source), *does}):
            yield found, next((but for but in self.but if but.allows(source.path, found.what)), None)

    def _named(self, source: Source) -> Iterator[Mention]:
        for found in source.names:
            free = not self.only or found.what.startswith((UNKNOWN, "builtins.")) or _leads_to(found.what, self.only)
            if not free or _fits(found.what, self.names):
                yield found

    def _told(self, source: Source) -> Iterator[Mention]:
        if self.said:
            yield from (Mention(text.line, m[0]) for text in source.texts for m in re.finditer(self.said, text.what))


def is_in(path: str, where: str) -> bool:
    """Whether a file is that one, or in that folder."""
    return path.startswith(where) if where.endswith("/") else path == where


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether it is what one of the patterns says, or something in it. (`os.*`: all that a module has was imported.)"""
    whole = name.endswith(".*") and any(pattern.startswith(name[:-1]) for pattern in patterns)
    return whole or _compiled(patterns).fullmatch(name) is not None


def _leads_to(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether it fits, or is a module or package on the way to what fits."""
    return _fits(name, patterns) or any(pattern.startswith(f"{name}.") for pattern in patterns)


@cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    either = "|".join(re.escape(pattern).replace(r"\*", ".*") for pattern in patterns)
    return re.compile(rf"({either})([.(].*)?" if patterns else "(?!)", re.DOTALL)


def sources(*where: str) -> list[Source]:
    """All Python files there: of a folder when it ends with `/`, else that one."""
    places = ((ROOT / place).rglob("*.py") if place.endswith("/") else [ROOT / place] for place in where)
    return [_read(str(path.relative_to(ROOT))) for found in places for path in sorted(found)]


@cache
def _read(path: str) -> Source:
    return Source(path, (ROOT / path).read_text(encoding="utf-8"))


# --- what the rules are about --------------------------------------------------------------------------------------

_HARNESS = ("midsession/",)
_EVERYTHING = ("midsession/", "server/", "client/")
_PURE = (
    *("__future__", "abc", "array", "base64", "binascii", "collections", "copy", "dataclasses", "decimal", "difflib"),
    *("enum", "errno", "fnmatch", "functools", "hashlib", "itertools", "json", "math", "operator", "re", "types"),
    *("typing", "zlib", "pathlib.PurePosixPath", "codecs.lookup", "sys.intern"),
    *("msgspec", "pydantic", "pydantic_core", "re2", "yaml"),
    *("midsession.core", "midsession.errors"),
)
_DOORS_OF_PYTHON = ("open", "input", "print", "breakpoint", "eval", "exec", "compile", "__import__")
_PROCESSES = (
    *("os.kill*", "os.fork*", "os.exec*", "os.spawn*", "os.posix_spawn*", "os.system", "os.popen", "os.wait*"),
    *("os.pidfd_open", "os.set*id", "os.setgroups", "os.setpriority", "os.nice", "os.sched_set*"),
    *("subprocess", "multiprocessing", "pty", "concurrent.futures.ProcessPoolExecutor"),
    *("signal.pidfd_send_signal", "signal.pthread_kill", "asyncio.subprocess", "asyncio.create_subprocess_*"),
    *("*.subprocess_exec", "*.subprocess_shell"),
)
_KERNEL = (
    *("ctypes", "_ctypes", "cffi", "fcntl", "termios", "resource", "mmap", "socket", "_socket", "socketserver", "ssl"),
    *("http", "urllib.request", "asyncio.open_*connection", "asyncio.start_*server", "*.create_connection"),
    *("*.create_*server", "*.create_unix_connection", "*.create_datagram_endpoint", "*.sock_connect"),
    *("os.mount*", "os.umount*", "os.setns", "os.unshare", "os.mknod", "os.mkfifo", "os.chroot"),
    *("docker", "pyroute2"),
)
_WAITS = (
    *("*.sleep", "asyncio.timeout*", "asyncio.as_completed", "asyncio.to_thread"),
    *("asyncio.Event", "asyncio.Condition", "asyncio.*Semaphore", "asyncio.Barrier", "asyncio.*Queue"),
    *("threading", "queue", "select", "selectors", "sched", "multiprocessing", "concurrent"),
    *("signal.pause", "signal.sigwait*", "signal.sigtimedwait", "os.wait*"),
    *("*.wait", "*.wait_for", "*.call_later", "*.call_at", "*.run_in_executor"),
)
_SHELLS = (
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"),
    *("asyncio.create_subprocess_shell", "*.subprocess_shell", "*(shell=)"),
)
_EVALUATES = (
    *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__", "runpy", "code", "codeop"),
    *("importlib.import_module", "importlib.util", "importlib.machinery", "importlib.reload", "*.exec_module"),
    *("pickle", "marshal", "shelve", "dill", "yaml.load*", "yaml.full_load*", "yaml.unsafe_load*", "yaml.*Loader"),
    *("string.Template", "jinja2", "mako", "*.format", "*.format_map"),
)
_TOOLS = r"^(nft|tc|ip|iptables|ip6tables|ipset|ebtables|brctl|bridge|sysctl|libnftables)(?![\w=])|^/proc/sys/net\b"


def _own_files(package: str, names: Iterable[str]) -> tuple[But, ...]:
    """Each file names what it is."""
    return tuple(But(f"midsession/{package}/{name}.py", (name,), "its own file") for name in names)


def _modules(package: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"midsession.{package}.{name}" for name in names)


_FAULTS, _CHECKS, _TESTBEDS = tuple(FAULTS), (*CHECKS, *ALWAYS), tuple(TESTBEDS)
_PARTS = (*_modules("faults", _FAULTS), *_modules("checks", _CHECKS), *_modules("testbeds", _TESTBEDS))
_DRIVEN = "makes hosts and lives in them: the part of the house that this is left to"
_PROBE = "a program that runs on hosts, a plain peer with plain sockets: no part of the harness"

RULES: dict[str, Rule] = {
    "pure": Rule(
        "Nothing in `core/` imports I/O, a clock, randomness, asyncio, a fault, a check or a testbed",
        ("midsession/core/", "midsession/errors.py"),
        names=tuple(f"builtins.{name}" for name in _DOORS_OF_PYTHON),
        only=_PURE,
    ),
    "world": Rule(
        "Nothing outside `testbeds/` and `agent/` touches the kernel, Docker or processes",
        _HARNESS,
        names=(*_PROCESSES, *_KERNEL),
        said="^/(proc|sys|dev)/",
        but=(
            But("midsession/testbeds/", ("*",), _DRIVEN),
            But("midsession/agent/", ("*",), _DRIVEN),
            But(
                "midsession/batch/workers.py",
                ("asyncio.subprocess", "asyncio.create_subprocess_exec"),
                "starts copies of the harness itself",
            ),
            But("midsession/interrupts.py", ("socket",), "a pair of sockets by which a signal wakes its own loop"),
            But("midsession/calibration/probe.py", ("socket", "fcntl"), _PROBE),
            But("midsession/hostside.py", ("resource",), "server's and client's own: the limits of their processes"),
            But("midsession/regular.py", ("/proc/",), "asks what it has opened, to see that it is what was meant"),
        ),
    ),
    "waits": Rule(
        "Nothing outside `runner/`, and the testbeds and agents that it drives, waits for time or for an event",
        _HARNESS,
        names=_WAITS,
        but=(
            But("midsession/runner/", ("*",), "the one that waits"),
            But("midsession/testbeds/", ("*",), _DRIVEN),
            But("midsession/agent/", ("*",), _DRIVEN),
            But("midsession/batch/workers.py", ("*.wait",), "sees its workers gone when it has ended them"),
            But(
                "midsession/interrupts.py",
                ("threading.current_thread", "threading.main_thread"),
                "asks in which thread it is",
            ),
            But("midsession/calibration/probe.py", ("time.sleep", "signal.pause", "selectors"), _PROBE),
        ),
    ),
    "modules": Rule(
        "No module of a fault, check or testbed is imported but by its registry, which does so by its name",
        _EVERYTHING,
        names=_PARTS,
        said=rf"^({'|'.join(map(re.escape, _PARTS))})(?![\w])",
        but=(
            But("midsession/testbeds/registry.py", _modules("testbeds", _TESTBEDS), "the registry"),
            But("midsession/testbeds/netns/", ("midsession.testbeds.netns",), "its own folder"),
            But("midsession/testbeds/docker/", ("midsession.testbeds.docker",), "its own folder"),
            But(
                "midsession/testbeds/compose.py",
                ("midsession.testbeds.docker.looks",),
                "what an engine must have is looked for where engines are known",
            ),
        ),
    ),
    "faults": Rule(
        "No fault is named outside its own file and its registry",
        _EVERYTHING,
        said=rf"^({'|'.join(_FAULTS)})$",
        but=(
            *_own_files("faults", _FAULTS),
            But("midsession/faults/__init__.py", _FAULTS, "the registry"),
            But(
                "midsession/calibration/cases.py",
                ("delay", "loss", "duplicate", "reorder", "corrupt", "rate", "hold", "mtu"),
                "what is measured: a case for each, as there is a scenario for each",
            ),
            But("midsession/faults/restart.py", ("stop", "kill"), "its own words for how the program goes down"),
            *(
                But(where, ("reset",), "TCP's word: an RST, or a connection that was lost by one")
                for where in (
                    *("midsession/core/", "midsession/agent/"),
                    *("midsession/faults/idle_expiry.py", "midsession/faults/refuse.py"),
                )
            ),
            But("midsession/core/scenario/script.py", ("pause",), "between two slices of what a client sends"),
            But(
                "midsession/core/fields.py", ("kill", "stop", "start"), "what agents are asked to do, in their protocol"
            ),
            But("midsession/core/shape.py", ("rate",), "a unit"),
            But("midsession/core/units.py", ("rate",), "a unit"),
            But("midsession/core/logfile.py", ("corrupt",), "what a log may be"),
            But(
                "midsession/agent/",
                ("delay", "reorder", "duplicate", "corrupt", "rate", "hold", "mtu", "kill", "stop", "start"),
                "the words of signals, links and netem, into which the file of a fault translates",
            ),
            But("midsession/testbeds/docker/", ("start", "kill", "stop", "restart", "dns"), "Docker's and Compose's"),
            But("midsession/testbeds/netns/looks.py", ("delay",), "an argument of tc"),
        ),
    ),
    "checks": Rule(
        "No check is named outside its own file and its registry",
        _EVERYTHING,
        said=rf"^({'|'.join(_CHECKS)})$",
        but=(
            *_own_files("checks", _CHECKS),
            But("midsession/checks/__init__.py", _CHECKS, "the registry"),
            But("midsession/checks/", ("count", "never", "once"), "English for a number, and the measure of it"),
            But("midsession/core/", ("every", "log", "count"), "keys of triggers and of client groups"),
            But("midsession/core/", ("never",), "how a client reads"),
            But("client/player.py", ("never",), "how a client reads"),
            But("midsession/core/job.py", ("order",), "the tag of what fleets are told"),
            But("midsession/keep.py", ("never",), "when a run directory stays"),
            But("midsession/pytest_plugin.py", ("never",), "when a run directory stays"),
            But("midsession/report/html.py", ("count",), "a noun with its number"),
            But("midsession/report/terminal.py", ("kept",), "said of a promise that passed"),
            But("midsession/ledger.py", ("python",), "whose version is noted"),
            But("midsession/testbeds/", ("python",), "the program of that name"),
            But("midsession/testbeds/docker/", ("never", "exit"), "when Compose pulls; what an agent tells"),
            But("midsession/agent/process.py", ("exit",), "what an agent tells"),
        ),
    ),
    "testbeds": Rule(
        "No testbed is named outside its own folder and its registry",
        _EVERYTHING,
        said=rf"(?<![\w./-])({'|'.join(_TESTBEDS)})(?![\w./-])",
        but=(
            But("midsession/testbeds/compose.py", ("compose",), "its own file"),
            But("midsession/testbeds/docker/", ("docker",), "its own folder"),
            But("midsession/testbeds/netns/", ("netns",), "its own folder"),
            But("midsession/testbeds/registry.py", _TESTBEDS, "the registry"),
            *(
                But(where, ("compose",), "the key of a service of the user's own Compose file, on whatever testbed")
                for where in (
                    *("midsession/core/plan.py", "midsession/core/references.py"),
                    *("midsession/core/scenario/parties.py", "midsession/language.py"),
                )
            ),
            But("midsession/testbeds/docker/", ("compose",), "`docker compose`, the program"),
            But("midsession/testbeds/compose.py", ("docker",), "`docker compose`, the program"),
        ),
    ),
    "programs": Rule(
        "`server/` and `client/` are never imported by the package",
        _HARNESS,
        names=("server", "client"),
    ),
    "shell": Rule(
        "No shell string",
        _EVERYTHING,
        names=_SHELLS,
        said=r"^(\S*/)?(ba|da|a|z|k|c|tc|fi)?sh(?=\s|$)",
    ),
    "evaluates": Rule(
        "No `eval`, no template over what a scenario says",
        _EVERYTHING,
        names=_EVALUATES,
        but=(
            But("midsession/__init__.py", ("importlib.import_module",), "its public names, from a table of its own"),
            But("midsession/registry.py", ("importlib.import_module",), "the files of its table"),
            But(
                "midsession/testbeds/registry.py",
                ("importlib.import_module", "*.format"),
                "the modules of its table, and the commands in it, whose values it quotes",
            ),
            But(
                "midsession/testbeds/netns/warm.py",
                ("importlib.import_module", "runpy"),
                "turns a fork into one of our own programs, from a list",
            ),
            But(
                "midsession/checks/python.py",
                ("importlib.machinery", "importlib.util", "*.exec_module", "builtins.compile*"),
                "the check that is a function of the user's: a file beside the scenario, named as such",
            ),
            But("midsession/report/html.py", ("jinja2",), "the page is ours; what a run says is a value in it"),
            But("midsession/core/template.py", ("*.format",), "of a text whose braces are all known placeholders"),
            But("client/hand.py", ("*.format_map",), "lines for people, from a table of its own"),
            But("server/journal.py", ("*.format",), "lines for people, from literals of its callers"),
            But("midsession/", ("builtins.str().format",), "the template is a literal"),
            But("midsession/", ("msgspec.json.format",), "lays JSON out"),
        ),
    ),
    "network": Rule(
        "Nothing outside `agent/network/` and `testbeds/netns/` has the means to write a rule, link or address",
        _EVERYTHING,
        names=("pyroute2", "*.AF_NETLINK", "*.NETLINK_*"),
        said=_TOOLS,
        but=(
            But("midsession/agent/network/", ("*",), "breaks the network of the host that it is in"),
            But("midsession/testbeds/netns/", ("*",), "makes the networks of its own hosts"),
            But("midsession/testbeds/docker/networks.py", ("bridge",), "a driver of networks, as Compose calls it"),
            But("midsession/core/fields.py", ("nft", "iptables*"), "which of them an agent says that it has used"),
        ),
    ),
    "sleeps": Rule(
        "A test waits for a condition, never for time",
        ("tests/",),
        names=("*.sleep", "asyncio.wait", "os.sched_yield", "signal.sigtimedwait"),
        does=(idle_waits, loops_on_a_clock),
        but=(
            But("tests/waiting.py", ("*",), "the one place that polls, with a bound and a name"),
            But("tests/server/conftest.py", ("a loop on time.*",), "waits by inotify for what is left of its bound"),
            But("tests/agent/conductor.py", ("a loop on time.*",), "waits by select for what is left of its bound"),
            But("tests/torture/fuzz_loader.py", ("a loop on time.*",), "goes on for as long as it was told to"),
        ),
    ),
}
