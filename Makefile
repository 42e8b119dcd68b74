# Thin: each target is a few plain commands. `make test` and `make demo` need nothing but Python 3.11, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.towpath-installed
PROTOS := $(sort $(wildcard protos/towpath/v1/*.proto))
PROTOS_OUT ?= build/protos
PROTOC := $(BIN)/python -m grpc_tools.protoc -I protos

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.PHONY: help venv check format test torture demo protos protos-check wheel agent-wheel deb rpm server-deb server-rpm images image-build rig-test clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# Once, and again when pyproject.toml changes. `--group` needs pip 25.1; Debian 12 ships 23.
$(STAMP): pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet -e '.[server,cli]' --group dev
	touch $@

venv: $(STAMP)  ## the virtual environment, .venv, with everything installed

check: $(STAMP) protos-check  ## lint, format, types, layers, generated code
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP)  ## rewrite the sources as the formatter wants them
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

# What boots whole hosts is `make rig-test`: it takes as long as all of this.
WHOLE_HOSTS := $(filter-out %/test_systemd_host.py,$(wildcard tests/rig/test_*.py))

test: $(STAMP)  ## all tests; engine, journal, domain and contract must have every branch covered
	$(BIN)/python -m pytest -n auto --dist loadgroup $(addprefix --ignore ,$(WHOLE_HOSTS)) \
	  --cov --cov-report=term --cov-fail-under=100

# REAL=2 or SAMPLE=40, SEED=7 LAYERS=steps,disk,syscalls,power,walk ONLY=oci WALKS=1 RELEASES=30: a part, or a run again.
# See docs/torture.md.
torture: $(STAMP)  ## break the agent at every step: kills, full disks, power cuts; most of it as root
	PYTHONPATH=tests $(BIN)/python -m torture $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(REAL),--real $(REAL)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(ALL),--all) $(if $(LAYERS),--layers $(LAYERS)) $(if $(ONLY),--only "$(ONLY)") \
	  $(if $(WALKS),--walks $(WALKS)) $(if $(RELEASES),--releases $(RELEASES))

demo: $(STAMP)  ## a server and five agents on loopback: deploy, prove, revert
	$(BIN)/python examples/demo.py

# types.proto has no service, so that its *_grpc.py would be empty.
define generate
	$(PROTOC) --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) $(PROTOS)
	rm $(1)/towpath/v1/types_pb2_grpc.py
endef

protos: $(STAMP)  ## generate contract/towpath/v1 from protos/
	$(call generate,contract)

protos-check: $(STAMP)  ## is the committed generated code what protos/ gives?
	rm -rf $(PROTOS_OUT) && mkdir -p $(PROTOS_OUT)
	$(call generate,$(PROTOS_OUT))
	diff -r -x __init__.py -x __pycache__ $(PROTOS_OUT)/towpath/v1 contract/towpath/v1 \
	  || { echo "contract/towpath/v1 is not what protos/ gives: run make protos" >&2; exit 1; }

wheel: $(STAMP)  ## dist/towpath-*.whl: everything
	$(BIN)/python -m hatchling build --target wheel --directory dist

agent-wheel: $(STAMP)  ## dist/towpath_agent-*.whl: what a host needs and no more
	cd packaging/agent && ../../$(BIN)/python -m hatchling build --target wheel --directory ../../dist

deb: $(STAMP)  ## dist/towpath-agent_*.deb: the agent with its own Python; needs Debian's python3.11, binutils, dpkg-dev
	nice $(BIN)/python packaging/make deb --out dist

rpm: $(STAMP)  ## dist/towpath-agent-*.rpm, from the same files; needs rpm (rpmbuild) too
	nice $(BIN)/python packaging/make rpm --out dist

server-deb: $(STAMP)  ## dist/towpath-server_*.deb: the server and the operator's command; needs what deb needs
	nice $(BIN)/python packaging/make server-deb --out dist

server-rpm: $(STAMP)  ## dist/towpath-server-*.rpm, from the same files; needs rpm (rpmbuild) too
	nice $(BIN)/python packaging/make server-rpm --out dist

# The base may be any image with dpkg and glibc 2.36: IMAGE_BASE=localhost/my-base:12. Where no registry can be reached,
# docs/containers.md says how to make one.
IMAGE_BASE ?= docker.io/library/debian:12-slim
IMAGE_BUILDER ?= podman
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' contract/towpath/__init__.py)

images: deb server-deb  ## images towpath-agent and towpath-server of the packages; needs podman, or IMAGE_BUILDER=docker
	$(MAKE) image-build

DIST ?= dist
IMAGE_CONTEXT ?= build/images

image-build:
	rm -rf $(IMAGE_CONTEXT) && mkdir -p $(IMAGE_CONTEXT)
	cp $(DIST)/towpath-agent_$(VERSION)_*.deb $(DIST)/towpath-server_$(VERSION)_*.deb packaging/container/* $(IMAGE_CONTEXT)/
	for name in agent server; do \
	  $(IMAGE_BUILDER) build $(IMAGE_FLAGS) --build-arg BASE=$(IMAGE_BASE) --build-arg VERSION=$(VERSION) \
	    -f $(IMAGE_CONTEXT)/$$name.Containerfile -t towpath-$$name:$(VERSION) $(IMAGE_CONTEXT) || exit 1; \
	done

RIG_PACKAGES := python3.11 systemd-container mmdebstrap zstd e2fsprogs iproute2 nftables conntrack binutils dpkg-dev rpm \
  gcc libc6-dev podman runc catatonit

# SHORT=1: the half that CI runs. POWER_CUTS=100 SEED=7: how many, and which. The base system, packages and images are
# kept in /var/cache/towpath-rig and made anew when their sources change.
rig-test: $(STAMP)  ## the tests that boot hosts of their own; needs root, and installs the Debian packages it lacks
	@test "$$(id -u)" = 0 || { echo "rig-test boots hosts: run it as root, on Debian 12 or a machine like it" >&2; exit 1; }
	@dpkg -s $(RIG_PACKAGES) >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(RIG_PACKAGES); }
	$(if $(POWER_CUTS),POWER_CUTS=$(POWER_CUTS)) $(if $(SEED),SEED=$(SEED)) \
	  $(BIN)/python -m pytest tests/rig -m "rig$(if $(SHORT), and not long)" -n 2 --dist loadfile -v -rA --durations=20

clean:  ## remove what the other targets made, the virtual environment too
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*
