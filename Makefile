# platter.qemu: everything here needs python3 and make only, and writes under .build and .venv (make demo: its images too).
# make demo shows it, make test proves it; `make test STEPS="unit contract"` or `make unit` runs a part.

PYTHON ?= python3
TOOLS = $(PYTHON) -c 'import sys; sys.version_info < (3, 9) and sys.exit("$(TOO_OLD)")' && $(PYTHON) tests/tools
TOO_OLD := This needs python3 3.11 or newer: make PYTHON=python3.11 ..., after installing it with apt-get or dnf.
STEPS ?=
SUITES ?=
ABOUT ?=
TESTS ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-raid test bench docs matrix soak clean format lint unit contract faults sanity integration molecule molecule-guest

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## build disk images on this machine with playbooks/quickstart.yml (IMAGE=path-or-URL to use your own)
	@$(TOOLS)/run_demo.py

demo-raid: ## a VM with a disk on two NBD servers, one of which is killed: a timeline of what happens (playbooks/raid_over_nbd.yml)
	@$(TOOLS)/run_in_venv.py python tests/demo/raid_over_nbd.py

test: ## everything needed to trust a change
	@$(TOOLS)/run_steps.py $(STEPS)

lint: ## step: ruff, mypy, yamllint, ansible-lint, documentation, changelog, shell scripts, oldest Python
	@$(TOOLS)/run_steps.py lint

unit: ## step: the pure part, on every ansible-core here
	@$(TOOLS)/run_steps.py unit

contract: ## step: every action against the installed QEMU
	@$(TOOLS)/run_steps.py contract

faults: ## step: kills, races, full disks, hostile images
	@$(TOOLS)/run_steps.py faults

sanity: ## step: ansible-test sanity
	@$(TOOLS)/run_steps.py sanity

integration: ## step: ansible-test integration, the modules as users call them
	@$(TOOLS)/run_steps.py integration

molecule: ## step: the roles, in every scenario of extensions/molecule
	@$(TOOLS)/run_steps.py molecule

molecule-guest: ## the role nbd_raid in a VM with systemd, through what befalls its servers: minutes
	@$(TOOLS)/run_steps.py molecule-guest

bench: ## measure against what one would use instead; writes .build/bench.json
	@$(TOOLS)/run_in_venv.py python tests/bench/run.py

matrix: ## contract tests and live kills with other QEMUs, fetched into .build/qemu (SUITES="trixie sid" ABOUT=image_snapshot)
	@$(TOOLS)/run_matrix.py $(addprefix --about=,$(ABOUT)) $(SUITES)

soak: ## the tests that take minutes to hours: many kills, many examples (TESTS=tests/faults/test_live_kills.py: these only)
	@export HYPOTHESIS_PROFILE=soak SOAK=1; $(TOOLS)/run_in_venv.py pytest $(or $(TESTS),tests/unit tests/faults)
	@$(if $(TESTS),,$(TOOLS)/run_steps.py molecule-guest)

docs: ## HTML documentation in .build/docs/html
	@$(TOOLS)/build_docs.py

format: ## write the code the way make lint wants it
	@$(TOOLS)/run_in_venv.py sh -c 'ruff check --fix . ; ruff format .'

clean: ## remove everything make has built
	rm -rf .build .venv
