"""Check that this tree computes, byte for byte, what another commit computes.

    .venv/bin/python tests/end_to_end/frozen.py --against COMMIT

For changes of the code's structure, which must not move a figure. Both versions make two small runs on the
demo data on this machine, one of them with folds, fine-tuning and label fractions; the digests of what they
write are compared. Exit status 0 if all are equal, else 1.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMON = (
    "--data demo --demo-patients 24 --image-size 32 --epochs 4 --linear-epochs 20 --batch-size 32 --seed 7"
)
RUNS = {
    "plain": COMMON,
    "folds": f"{COMMON} --folds 3 --finetune --finetune-epochs 1 --label-fractions 0.5,1 --no-figures",
}
FILES = ("metrics.json", "predictions.csv", "split.csv", "rejected.csv", "simclr_best.pt", "model.pt")


def digests(tree: Path) -> dict[str, str]:
    """{run/file: SHA-256} of what a version of the program writes."""
    found = {}
    for name, flags in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "models")
            # the same relative names in both versions: some are written into the files
            words = [sys.executable, str(tree / "main.py"), *flags.split(), "--save-dir", "models"]
            words += ["--cache-dir", "cache", "--no-rehearsal"]
            subprocess.run(
                words, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for file in FILES:
                found[f"{name}/{file}"] = hashlib.sha256((out / file).read_bytes()).hexdigest()
    return found


def main() -> int:
    """Compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--against", required=True, metavar="COMMIT")
    commit = parser.parse_args().against
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            before = digests(tree)
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    after = digests(ROOT)
    for name, digest in before.items():
        print(
            f"{name:24} {digest[:16]} {'equal' if after[name] == digest else 'DIFFERS: ' + after[name][:16]}"
        )
    return int(before != after)


if __name__ == "__main__":
    raise SystemExit(main())
