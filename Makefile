# `make help` lists the targets. The first one that needs it creates .venv with pinned packages; later calls skip that.
# On a machine without a GPU, PyTorch's own index saves gigabytes of CUDA libraries:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PYTEST := $(RUN) -m pytest
# Options for pytest: make test-fast ARGS="-k frame -x"
ARGS ?=

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(STAMP) ## create .venv with the pinned packages

# setuptools comes first and pinned; without build isolation nothing unpinned is fetched to build the package.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) on PATH; fix: install Python 3.11 or later, or make PYTHON=/path/to/python" >&2; exit 2; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(VENV) holds an older Python; allowed: 3.11 or later; fix: rm -r $(VENV)" >&2; exit 2; }
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt setuptools
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable '.[test]'
	@touch $@

.PHONY: demo
demo: $(STAMP) ## the main job on this machine: edge, lossy link, device, one table
	$(RUN) -m weaklink demo $(ARGS)

.PHONY: test
test: test-fast test-slow test-compose ## all tests

.PHONY: test-fast
test-fast: $(STAMP) ## the tests that take seconds
	$(PYTEST) -m "not slow and not compose" $(ARGS)

.PHONY: test-slow
test-slow: $(STAMP) ## the tests that take minutes
	$(PYTEST) -m slow $(ARGS)

.PHONY: test-compose
test-compose: $(STAMP) ## docker compose, for real; says so where there is no engine
	$(PYTEST) -m compose -rAs $(ARGS)

.PHONY: proto
proto: $(STAMP) ## generate weaklink/v1 and weaklink/oip from proto/
	$(RUN) -m grpc_tools.protoc --proto_path=proto --python_out=. --pyi_out=. --grpc_python_out=. proto/weaklink/v1/edge.proto
	$(RUN) -m grpc_tools.protoc --proto_path=proto --python_out=. --pyi_out=. proto/weaklink/oip/open_inference.proto

.PHONY: reference
reference: $(STAMP) ## write the tables of settings and metrics into docs/operating.md
	$(RUN) -m edge_server.reference docs/operating.md

.PHONY: bench-frames
bench-frames: $(STAMP) ## header loss and speed of the frame, into benchmarks/results
	$(RUN) -m weaklink bench frames --json benchmarks/results/frames.json $(ARGS)

.PHONY: bench-links
bench-links: $(STAMP) ## accuracy with the estimated BER, into benchmarks/results
	$(RUN) -m weaklink bench links --json benchmarks/results/links.json $(ARGS)

.PHONY: bench-latency
bench-latency: $(STAMP) ## time and energy per image on six radio links, into benchmarks/results and docs
	$(RUN) -m weaklink bench latency --json benchmarks/results/latency.json --docs docs/latency.md $(ARGS)

.PHONY: bench-overload
bench-overload: $(STAMP) ## answers under ten times the capacity for a minute, into benchmarks/results and docs/operating.md
	$(RUN) -m weaklink bench overload --json benchmarks/results/overload.json --docs docs/operating.md $(ARGS)

.PHONY: bench-flood
bench-flood: $(STAMP) ## answers of honest devices under a flood of noise, into benchmarks/results
	$(RUN) -m weaklink bench flood --json benchmarks/results/flood.json $(ARGS)

.PHONY: bench-runtimes
bench-runtimes: $(STAMP) ## speed of the edge node's runtimes, into benchmarks/results
	$(RUN) -m weaklink bench runtimes --json benchmarks/results/runtimes.json $(ARGS)

RIVALS_PYTHON ?=
.PHONY: bench-serving
bench-serving: $(STAMP) ## the edge node against other model servers, into benchmarks/results and docs/operating.md (needs nghttp2-client; RIVALS_PYTHON=... for the others)
	$(RUN) -m weaklink bench serving --json benchmarks/results/serving.json --docs docs/operating.md $(if $(RIVALS_PYTHON),--rivals-python $(RIVALS_PYTHON)) $(ARGS)

.PHONY: bench-rivals
bench-rivals: $(STAMP) ## the codec against FEC, JPEG and the raw image, into benchmarks/results and docs/rivals.md
	$(RUN) -m weaklink bench rivals --json benchmarks/results/rivals.json --docs docs/rivals.md --plot docs/images/rivals.png --pictures cifar10_three_levels $(ARGS)

.PHONY: bench-codecs
bench-codecs: $(STAMP) ## every family's codecs and their rivals in one table, into benchmarks/results and docs/codecs.md
	$(RUN) -m weaklink bench codecs --json benchmarks/results/codecs.json --docs docs/codecs.md --plots docs/images $(ARGS)

.PHONY: bench-growth
bench-growth: $(STAMP) ## cost of a request as devices, bundles and the queue grow, into benchmarks/results and docs/operating.md
	$(RUN) -m weaklink bench growth --json benchmarks/results/growth.json --docs docs/operating.md $(ARGS)

CODEC ?= cifar10
FIRMWARE ?= build/firmware
.PHONY: firmware
firmware: $(STAMP) ## build/firmware: weaklink-f405.elf and weaklink-m7.elf of CODEC, keyed with KEY_FILE (needs gcc-arm-none-eabi)
	$(RUN) -m weaklink export $(CODEC) --target stm32 --output $(FIRMWARE) $(if $(KEY_FILE),--key-file $(KEY_FILE))
	$(MAKE) -C $(FIRMWARE)

# SECONDS_TO_FUZZ is for this target alone; findings are written to build/fuzz.
SECONDS_TO_FUZZ ?= 60
FUZZ := tests/device_client/stm32
.PHONY: fuzz
fuzz: ## libFuzzer on the C library, from the committed corpus (needs clang)
	@mkdir -p build/fuzz/corpus
	clang -std=c99 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Idevice_client/stm32/include \
		-Idevice_client/stm32/src -I$(FUZZ) device_client/stm32/src/*.c $(FUZZ)/harness.c $(FUZZ)/fuzz.c -o build/fuzz/fuzz
	build/fuzz/fuzz -max_len=512 -max_total_time=$(SECONDS_TO_FUZZ) -artifact_prefix=build/fuzz/ build/fuzz/corpus $(FUZZ)/corpus

INPUTS_TO_FUZZ ?= 1000000
.PHONY: fuzz-edge
fuzz-edge: $(STAMP) ## random and mutated input of each kind for the edge node; counts into benchmarks/results
	$(RUN) -m tests.faults.fuzz --count $(INPUTS_TO_FUZZ) --json benchmarks/results/fuzz.json $(ARGS)

.PHONY: bench-device
bench-device: $(STAMP) ## instructions, flash and RAM of the emulated STM32, into benchmarks/results
	$(RUN) -m weaklink bench device --json benchmarks/results/device.json $(ARGS)

.PHONY: wheel
wheel: $(STAMP) ## dist/weaklink-*.whl, bundles included
	$(RUN) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

.PHONY: clean
clean: ## remove .venv and what was built
	rm -rf $(VENV) build dist *.egg-info
