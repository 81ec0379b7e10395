# The images of the reference network: server, client (both: an agent as PID 1 that supervises a program) and
# midsession (the conductor). Plain Dockerfile syntax, no BuildKit extension: engines without buildx build it too.
#
# BASE is any image with Python >= 3.11 and its venv module: python:3.13-slim, or what `make base` makes of Debian's
# packages where no image registry can be reached.
ARG BASE=python:3.13-slim

FROM ${BASE} AS base
ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1
RUN groupadd --gid 1000 midsession \
 && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /var/lib/midsession --shell /usr/sbin/nologin midsession \
 && install --directory --owner=midsession --group=midsession /var/lib/midsession \
 && python3 -m venv /opt/venv
COPY pyproject.toml tools/requirements.py /opt/build/

# A host under test carries its agent and its program, and of the dependencies only what these two use (RE2 is for
# scripts that expect a regular expression).
FROM base AS agent
# What an agent breaks its network with: libnftables in its own process, and iptables for what nft has no word for.
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends iptables libnftables1 \
 && rm -rf /var/lib/apt/lists/*
RUN python /opt/build/requirements.py /opt/build/pyproject.toml --only msgspec uvloop google-re2 > /opt/build/agent.txt \
 && pip install --quiet --requirement /opt/build/agent.txt
WORKDIR /app
COPY midsession midsession
# Compiled here, because the file system of a running container is read-only.
RUN python -m compileall -q midsession
ENTRYPOINT ["python", "-m", "midsession.agent"]

FROM agent AS server
COPY server server
RUN python -m compileall -q server
USER midsession
ENV MIDSESSION_SERVICE=server

FROM agent AS client
COPY client client
RUN python -m compileall -q client
USER midsession
ENV MIDSESSION_SERVICE=client

FROM base AS midsession
# For runs on network namespaces inside this container (docs/netns.md).
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends iproute2 iptables nftables \
 && rm -rf /var/lib/apt/lists/*
RUN python /opt/build/requirements.py /opt/build/pyproject.toml --also pytest pytest-xdist > /opt/build/harness.txt \
 && pip install --quiet --requirement /opt/build/harness.txt hatchling
COPY pyproject.toml README.md LICENSE /opt/build/
COPY midsession /opt/build/midsession
COPY server /opt/build/server
COPY client /opt/build/client
# hatchling is at hand already, so that a change of the code asks the package index for nothing.
RUN pip install --quiet --no-deps --no-build-isolation /opt/build
WORKDIR /project
ENTRYPOINT ["midsession"]
