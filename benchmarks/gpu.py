"""Check the program on a GPU and measure its speed: one command, a table, a JSON file.

    .venv/bin/python benchmarks/gpu.py [--minutes 8] [--data FOLDER] [--out gpu.json]
    .venv/bin/python benchmarks/gpu.py --tiny            # the same rows at tiny sizes; on a processor, too

It makes its own frames. A row whose check fails is FAILED with the reason, and the others go on: rows run in
a process of their own, which is replaced if it dies or takes too long. The JSON file is written after each
row. Rows that no time was left for are "not run". Exit status: 0 if no row FAILED.
"""

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

HOLDS, FAILED, NOT_RUN = "holds", "FAILED", "not run"
ROW_SECONDS = 150.0  # longest time of a row
MIN_ROW_SECONDS = 10  # left for a row to be begun


@dataclass(frozen=True)
class Row:
    """One check.

    Attributes:
        name: of the row, and of `--only`.
        module: of `gpu_rows`.
        function: takes a `Bench` and gives an `Outcome`.
    """

    name: str
    module: str
    function: str


ROWS = [  # what must hold first, then the speeds, so that a run that is cut off has the most important ones
    Row("float32", "correctness", "float32"),
    Row("bfloat16", "correctness", "bfloat16"),
    Row("float16", "correctness", "float16"),
    Row("views", "correctness", "views_on_device"),
    Row("micro-batch", "correctness", "micro_batch"),
    Row("data-parallel", "correctness", "data_parallel"),
    Row("loop", "speed", "loop"),
    Row("mission", "speed", "mission"),
    Row("killed", "correctness", "killed"),
    Row("torchrun", "correctness", "torchrun"),
    Row("commands", "commands", "train_and_predict"),
    Row("export", "commands", "exported"),
    Row("inference", "speed", "inference"),
    Row("gaps", "speed", "gaps"),
    Row("data", "speed", "data"),
    Row("ceiling", "speed", "ceiling"),
    Row("auto", "correctness", "automatic"),
    Row("plain loader", "speed", "plain_loader"),
    Row("memory", "correctness", "growth"),
]


def work(names: list[str], *, tiny: bool, data: str | None, folder: Path) -> int:
    """Run some rows in this process; print a JSON line as each begins and ends."""
    import importlib

    import torch
    from gpu_rows.bench import FULL, TINY, Bench

    from simclr_rhd.core import device as runtime

    runtime.make_deterministic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = TINY if tiny or device.type == "cpu" else FULL
    bench = Bench(device, sizes, Path(tempfile.mkdtemp(dir=folder)), data)
    send({"machine": describe(device), "tiny": sizes is TINY})
    for row in ROWS:
        if row.name not in names:
            continue
        send({"begins": row.name})
        start = time.perf_counter()
        try:
            module = importlib.import_module(f"gpu_rows.{row.module}")
            outcome = asdict(getattr(module, row.function)(bench))
        except Exception as error:
            traceback.print_exc()
            outcome = {"status": FAILED, "text": f"{type(error).__name__}: {error}"[:500], "figures": {}}
        send({"row": row.name, **outcome, "seconds": round(time.perf_counter() - start, 1)})
        if device.type == "cuda":
            torch.cuda.synchronize()  # a lost GPU raises here, and the process is replaced
            torch.cuda.empty_cache()
    return 0


def send(what: dict) -> None:
    """A line for the process that supervises."""
    print("\x1e" + json.dumps(what), flush=True)


def describe(device) -> dict:
    """The machine and the versions, for the JSON file."""
    import platform

    import torch

    software = {"torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}
    if device.type == "cuda":
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return {"device": ", ".join(names), "driver": driver(), "cuda": torch.version.cuda, **software}
    return {"device": f"CPU, {torch.get_num_threads()} threads", **software}


def driver() -> str:
    """The version of the GPU's driver, from nvidia-smi; unknown without it."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.split("\n")[0]
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


class Worker:
    """A process that runs rows, and what it tells."""

    def __init__(self, names: list[str], options: argparse.Namespace, folder: Path) -> None:
        command = [sys.executable, __file__, "--work", json.dumps(names), "--folder", str(folder)]
        command += ["--tiny"] * options.tiny + (["--data", options.data] if options.data else [])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.lines: queue.Queue[dict | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.startswith("\x1e"):
                self.lines.put(json.loads(line[1:]))
            else:
                sys.stderr.write(line)
        self.lines.put(None)

    def next(self, seconds: float) -> dict | None:
        """The next message; None where the process ended.

        Raises:
            queue.Empty: nothing within so many seconds.
        """
        return self.lines.get(timeout=max(0.1, seconds))

    def end(self) -> int:
        """End it, its own processes too; its exit status."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        return self.process.wait()


def supervise(options: argparse.Namespace, folder: Path) -> dict:
    """Run all rows, in as many processes as it takes; what they found."""
    start, results = time.monotonic(), {}
    report = {"date": time.strftime("%Y-%m-%d"), "machine": None, "tiny": options.tiny, "rows": results}
    waiting = [row.name for row in ROWS if not options.only or row.name in options.only]
    while waiting and seconds_left(options, start) > MIN_ROW_SECONDS:
        worker, running, ended = Worker(waiting, options, folder), None, 0
        reason = "its process ended with status {}"
        try:
            while True:
                try:
                    message = worker.next(min(ROW_SECONDS, seconds_left(options, start)))
                except queue.Empty:
                    reason = "it took too long and was ended"
                    break
                if message is None:
                    break
                if "machine" in message:
                    if report["machine"] is None:
                        print_head(message["machine"], tiny=message["tiny"])
                    report |= message
                elif "begins" in message:
                    running = message["begins"]
                else:
                    name, ended = message.pop("row"), ended + 1
                    results[name], running = message, None
                    waiting.remove(name)
                    print_row(name, message)
                    write(options.out, report)
                    if seconds_left(options, start) < MIN_ROW_SECONDS:
                        break
        finally:  # at Ctrl-C, too
            status = worker.end()
        if not running and not ended and waiting:
            running = waiting[0]  # it died before a row could begin
        if running:
            out_of_time = seconds_left(options, start) < MIN_ROW_SECONDS
            results[running] = {
                "status": NOT_RUN if out_of_time else FAILED,
                "text": "no time was left" if out_of_time else reason.format(status),
                "figures": {},
                "seconds": 0.0,
            }
            waiting.remove(running)
            print_row(running, results[running])
            write(options.out, report)
    for name in waiting:
        results[name] = {"status": NOT_RUN, "text": "no time was left", "figures": {}, "seconds": 0.0}
        print_row(name, results[name])
    write(options.out, report)
    return report


def seconds_left(options: argparse.Namespace, start: float) -> float:
    """Seconds that are left."""
    return 60 * options.minutes - (time.monotonic() - start)


def print_head(machine: dict, *, tiny: bool) -> None:
    """Print the machine and the head of the table."""
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if machine["device"].startswith("CPU"):
        print("THERE IS NO GPU HERE: the rows run on the processor and say nothing about GPUs.")
    if tiny:
        print("Tiny sizes: speeds and memory are not judged.")
    print("\n| row | | found | s |\n|---|---|---|---|", flush=True)


def print_row(name: str, outcome: dict) -> None:
    """A line of the table."""
    text = " ".join(outcome["text"].split()).replace("|", "/")
    print(f"| {name} | {outcome['status']} | {text} | {outcome['seconds']:.0f} |", flush=True)


def write(out: Path, report: dict) -> None:
    """The JSON file, whole or not at all."""
    part = out.with_name(out.name + ".part")
    part.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(part, out)


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print; 0 if no row failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="no row is begun or goes on after these")
    parser.add_argument("--data", help="a folder in the bucket's layout for the row of the commands")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, which a processor can do, too")
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], help="some rows")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.data = options.data and str(Path(options.data).resolve())
    if options.work:
        return work(json.loads(options.work), tiny=options.tiny, data=options.data, folder=options.folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process is left behind
    with tempfile.TemporaryDirectory() as folder:
        report = supervise(options, Path(folder))
    statuses = [outcome["status"] for outcome in report["rows"].values()]
    counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
    print("\n" + ", ".join(f"{n} {status}" for status, n in counts.items()) + f"; {options.out}")
    return int(FAILED in statuses)


if __name__ == "__main__":
    raise SystemExit(main())
