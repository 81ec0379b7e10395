"""A driver as a user would bring it: asks its server twenty times, and comes back when the server goes away.

It knows nothing of Midsession but the environment of docs/contract.md.
"""

import os
import socket
import sys
import time

ROUNDS = 20
ADDRESS = (os.environ["MIDSESSION_HOST"], int(os.environ["MIDSESSION_PORT"]))
NAME = os.environ["MIDSESSION_CLIENT"]


def converse(answered):
    """Ask on one connection until all is answered; the number of answers so far, however the connection ends."""
    with socket.create_connection(ADDRESS, timeout=2) as connection:
        replies = connection.makefile(encoding="utf-8", newline="\n")
        while answered < ROUNDS:
            connection.sendall(f"Hi from {NAME}, message {answered + 1}\n".encode())
            reply = replies.readline()
            if not reply:
                print("lost: end of stream", flush=True)
                return answered
            if reply != "Got your message ✅\n":
                sys.exit(f"not a reply: {reply!r}")
            answered += 1
            print(f"answered {answered}", flush=True)
            time.sleep(0.02)
    return answered


def main():
    answered = 0
    while answered < ROUNDS:
        try:
            answered = converse(answered)
        except OSError as error:
            print(f"lost: {error}", flush=True)
        if answered < ROUNDS:
            time.sleep(0.1)
    with open(os.path.join(os.environ["MIDSESSION_LOGS"], "summary.txt"), "w", encoding="utf-8") as summary:
        print(f"{NAME}: {answered} of {ROUNDS} answered", file=summary)
    print("all answered", flush=True)


main()
