# Each target is a script in tools/, which says more and can be run by itself.
.DEFAULT_GOAL := help
.PHONY: help up test test-netem lint base images clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

up: ## run a scenario on Docker Compose (SCENARIO=scenarios/…, CLIENTS=2, SEED=…, VARIANT=…)
	@tools/engine tools/up

test: ## run the whole test suite, Docker included (PYTEST='-k name' for a part)
	@tools/engine tools/test $(PYTEST)

test-netem: ## the faults of links on a kernel that has netem (needs Debian's user-mode-linux)
	@tools/venv && .venv/bin/python -m pytest -m netem

lint: ## ruff, mypy --strict, shellcheck
	@tools/lint

base: ## make sure of a base image: python:3.13-slim, or one from Debian's packages
	@tools/engine tools/base-image

images: ## build the images of docker-compose.yml
	@tools/engine tools/images

clean: ## take away what make has made, but for runs/
	@tools/clean
