"""`python -m midsession.agent`: dial the conductor, or serve on standard input and output with `--stdio`.

Dialling is told by the environment: MIDSESSION_CONDUCTOR (`host:port`), MIDSESSION_TOKEN_FILE (default
/control/token) and, both ways, MIDSESSION_SERVICE (`server`, `client`) and MIDSESSION_USER (the number of the user that
an agent becomes which was started as root to break its network; see `midsession.agent.privilege`).
"""

from __future__ import annotations

import os
import sys

from midsession.agent import privilege
from midsession.agent.dial import Dial, serve_dialling
from midsession.agent.say import say
from midsession.agent.serve import WRONG_CALL, serve_stdio


def main(arguments: list[str], environment: dict[str, str]) -> int:
    """The agent's exit status; 2 for a wrong call."""
    service = environment.get("MIDSESSION_SERVICE", "")
    if user := environment.get(privilege.USER_VARIABLE, ""):
        privilege.become(int(user))
    if arguments == ["--stdio"]:
        return serve_stdio(service)
    host, _, port = environment.get("MIDSESSION_CONDUCTOR", "").rpartition(":")
    if arguments or not host or not port.isdecimal():
        say("usage: python -m midsession.agent --stdio, or without arguments and MIDSESSION_CONDUCTOR=host:port set")
        return WRONG_CALL
    token_file = environment.get("MIDSESSION_TOKEN_FILE", "/control/token")
    return serve_dialling(Dial(host.strip("[]"), int(port), token_file), service)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
