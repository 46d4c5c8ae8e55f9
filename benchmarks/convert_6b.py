"""Converts, verifies, loads and runs a published-format checkpoint of the 6B shape, and measures time and memory.

    python -m benchmarks.convert_6b build/six            # 13 GB of disk; --generate 8 also runs the model
    python -m benchmarks.convert_6b build/tiny --shape tiny

Each step is a process of its own; anonymous memory is its RssAnon, sampled every 10 ms, peak memory its VmHWM (which
counts the mapped file too). The last line is the figures as JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

STEPS = {
    "write source": "from tests.published import *; write_published_streamed(Path(sys.argv[1]), SHAPES[sys.argv[3]])",
    "convert": "from model.convert import quantize_checkpoint; quantize_checkpoint(sys.argv[1], sys.argv[2])",
    "verify": "from model.verify import verify; print(verify(sys.argv[2]).parameters, 'parameters')",
    "verify --against": "from model.verify import verify; print('same', verify(sys.argv[2], sys.argv[1]).identical)",
    "load": "from model.gptj import GPTJ8bitForCausalLM as M; M.from_pretrained(sys.argv[2], dtype='bfloat16')",
    "generate": (
        "import torch, time; from model.gptj import GPTJ8bitForCausalLM as M\n"
        "model = M.from_pretrained(sys.argv[2], dtype='bfloat16'); ids = torch.arange(16)[None]; n = int(sys.argv[4])\n"
        "start = time.perf_counter(); out = model.generate(ids, max_new_tokens=n, min_new_tokens=n, do_sample=False)\n"
        "print(out.shape[1] - 16, 'tokens in', round(time.perf_counter() - start, 1), 's')"
    ),
}


REPORT = "import os; print(open('/proc/self/status').read(), 'CPU:', sum(os.times()[:2]))"


def measure(name: str, arguments: list[str]) -> dict[str, float | str]:
    """Run one step in its own process: seconds (also of CPU), and MiB of peak resident and peak anonymous memory."""
    code = f"import sys; from pathlib import Path\n{STEPS[name]}\n{REPORT}"
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        anonymous_kb = 0
        while process.poll() is None:
            anonymous_kb = max(anonymous_kb, _status(process.pid, "RssAnon"))
            time.sleep(0.01)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{name} failed with exit code {process.returncode}")
    peak_kb = next(int(line.split()[1]) for line in output.splitlines() if line.startswith("VmHWM"))
    said = output.split("Name:")[0].strip()
    return {
        "step": name,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_s": round(float(output.rpartition("CPU:")[2]), 1),
        "peak_mib": peak_kb // 1024,
        "anon_mib": anonymous_kb // 1024,
        "said": said,
    }


def _status(pid: int, field: str) -> int:
    """kB of one field of /proc/PID/status; 0 once the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where `source` and `native` are written")
    parser.add_argument("--shape", default="6b", choices=("6b", "tiny"))
    parser.add_argument("--generate", type=int, default=0, metavar="N", help="also generate N tokens")
    options = parser.parse_args()
    source, native = options.folder / "source", options.folder / "native"
    arguments = [str(source), str(native), options.shape, str(options.generate)]
    steps = [] if source.exists() else ["write source"]
    steps += ["convert"] if not native.exists() else []
    steps += ["verify", "verify --against", "load"] + (["generate"] if options.generate else [])
    figures = []
    for name in steps:
        figures.append(measure(name, arguments))
        line = "{step:18} {seconds:7} s ({cpu_s:6} s CPU)  peak {peak_mib:6} MiB  anonymous {anon_mib:6} MiB  {said}"
        print(line.format(**figures[-1]), flush=True)
    sizes = {part.name: sum(path.stat().st_size for path in part.iterdir()) for part in (source, native)}
    print(f"source {sizes['source']} bytes, native {sizes['native']} bytes, {os.cpu_count()} cores")
    print(json.dumps({"shape": options.shape, "cpus": os.cpu_count(), "size_bytes": sizes, "steps": figures}))


if __name__ == "__main__":
    main()
