# Targets that the README names. Each makes the environment when it is missing, and starts at once when it is not.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed-$(shell cat requirements*.txt | cksum | cut -d' ' -f1)
DEMO ?= full
MINI := $(if $(filter quick,$(DEMO)),mini-quick,mini)
ARGS ?=

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: help setup demo corpus test test-avx2 test-slow lint bench parity parity-original kill-test fuzz study lock clean

$(STAMP):
	@echo "setting up .venv (once; about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts -r requirements-torch.txt
	@rm -f .venv/.installed-*
	@touch $@

setup: $(STAMP)  ## make the environment .venv

corpus: $(STAMP)  ## build the mini corpus of real and synthetic speech
	$(BIN)/python database/build_mini.py --size $(DEMO)

# Threads that wait sleep: of a back end this small, waiting awake is half of the CPU time. The scores are the same bits.
demo: corpus  ## train and evaluate on it (DEMO=quick: a quarter of it)
	OMP_WAIT_POLICY=passive $(BIN)/python main.py --model conformer_tcm --config database/$(MINI).yaml $(ARGS)

test: $(STAMP)  ## the tests, in some minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" $(ARGS)

# AVX2 without products in bfloat16.
test-avx2: $(STAMP)  ## the tests that depend on the processor, on an imitated smaller one
	OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/python -m pytest -q \
		tests/networks/test_cpu.py tests/training/test_precision.py tests/quality/test_mos.py $(ARGS)

test-slow: $(STAMP)  ## the tests that take longer
	$(BIN)/python -m pytest -m slow $(ARGS)

kill-test: $(STAMP)  ## end a run at random moments, resume it, compare
	$(BIN)/python -m tests.support.kill --kills 24 $(ARGS)

fuzz: $(STAMP)  ## damage each kind of file 500 times and read it
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.support.fuzz $(ARGS)

study: corpus  ## heads and class rules on the mini corpus over seeds
	$(BIN)/python benchmarks/study.py $(ARGS) --config database/$(MINI).yaml

bench: $(STAMP)  ## speed and memory on this machine
	$(BIN)/python benchmarks/speed.py $(ARGS)
ifeq ($(ARGS),)
	$(BIN)/python benchmarks/evaluation.py
endif

parity: $(STAMP)  ## compare with figures of the published code
	$(BIN)/python benchmarks/parity.py --full -o docs/parity.md

# FILE: what benchmarks/parity_original.py wrote beside the published code.
parity-original: $(STAMP)  ## compare with FILE, written beside the published code
	$(BIN)/python benchmarks/parity_file.py $(FILE) $(if $(ARGS),$(ARGS),--xlsr pretrained/xlsr2_300m.pt)

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/mypy 2021/eval-package/main.py 2021/eval-package/download.py

define LOCK_HEADER
make lock
#
# All that the checkout uses, but PyTorch: pip install --no-deps -r requirements.txt, then
# pip install -r requirements-torch.txt; `make setup` does both. --no-deps: distillmos and xls-r-sqa declare torchaudio.
# Wheels of all of it exist for Python 3.10 to 3.14 on Linux (x86-64 and ARM), Windows, and macOS 14 on ARM; one package,
# antlr4-python3-runtime, is built from source. Intel Macs have none of llvmlite (by librosa) and of PyTorch.
endef

lock: export UV_CUSTOM_COMPILE_COMMAND = $(LOCK_HEADER)
lock: $(STAMP)  ## write requirements.txt anew (ARGS=--upgrade: with the newest releases)
	$(BIN)/uv pip compile pyproject.toml -o requirements.txt --quiet --all-extras --universal --python-version 3.10 \
		--generate-hashes --no-annotate --no-emit-package torch --constraint requirements-torch.txt $(ARGS)

clean:  ## remove the environment and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis cache
