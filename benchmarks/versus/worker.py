"""One competitor's piece of work in a process of its own; called by `run.py`, prints JSON."""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]


def start(arm, dataset, folder, *, size, seed, epochs, flags=()):
    """A pretraining that has not begun."""
    from versus import protocol

    if arm == "ours":
        from versus import ours

        return ours.Pretraining(dataset, size=size, seed=seed, epochs=epochs, flags=tuple(flags))
    files = [protocol.file_of(dataset, folder, row) for row in protocol.pool(dataset)]
    if arm == "lightly":
        from versus import peer_lightly

        return peer_lightly.Pretraining(files, size=size, seed=seed, epochs=epochs)
    from versus import reference

    return reference.Pretraining(files, size=size, seed=seed, epochs=epochs)


def rate(dataset, told):
    """{size of views: seconds of each epoch after the first}; the full size, and ours for all sizes."""
    how = {"size": told["size"], "seed": 0, "epochs": 1000, "flags": told.get("flags", ())}
    run = start(told["arm"], dataset, told["data"], **how)
    found = {}
    for size in run.run.sizes if told["arm"] == "ours" else (told["size"],):
        if told["arm"] == "ours":
            run.run.sizes, run.run.stage = (size,), 0
        seconds = []
        for _ in range(1 + told["epochs"]):
            begun = time.perf_counter()
            run.epoch()
            seconds.append(time.perf_counter() - begun)
        found[size] = seconds[1:]
    return {"seconds": found, "frames": run.frames_of_epoch}


def data_rate(dataset, told):
    """Pairs of views a second from where the frames lie, without training; the median of three passes."""
    run = start(told["arm"], dataset, told["data"], size=told["size"], seed=0, epochs=1000)
    rates = []
    for number in range(3):
        begun = time.perf_counter()
        if told["arm"] == "ours":
            from simclr_rhd.ssl.augment import two_views

            step, inner = run.run.step, run.run
            step.size = told["size"]
            for batch in inner.load_batches(inner.batches(number + 1), number + 1, inner.positive_sampler):
                two_views(
                    batch.frames,
                    batch.color_modes,
                    batch.view_params,
                    size=step.size,
                    augment_config=step.augment_config,
                )
        else:
            for _ in run.loader:
                pass
        rates.append(run.frames_of_epoch / (time.perf_counter() - begun))
    return {"frames_per_s": float(np.median(rates))}


def score(dataset, told):
    """The probe after some epochs, and at checkpoints before where the course does not depend on the end.

    The encoder is kept beside the cached frames, for what may be asked later.
    """
    import torch
    from versus import protocol

    run = start(
        told["arm"], dataset, told["data"], size=told["size"], seed=told["seed"], epochs=told["epochs"]
    )
    begun, at, losses = time.perf_counter(), {}, []
    for number in range(1, told["epochs"] + 1):
        losses.append(run.epoch())
        if number == told["epochs"] or number in told["also_after"]:
            taken = time.perf_counter() - begun
            at[number] = {
                "scores": protocol.judge(run.encoder, dataset, size=told["size"]),
                "loss": losses[-1],
            }
            begun += time.perf_counter() - begun - taken  # judging is not training
    seconds = time.perf_counter() - begun
    torch.save(run.encoder.state_dict(), Path(told["cache"], f"{told['arm']}-{number}-{told['seed']}.pt"))
    return {"at": at, "seconds": seconds, "reads": run.reads}


def stopped(dataset, told):
    """The probe of what our main job keeps when it stops by itself, some frames held out."""
    from versus import ours, protocol

    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=told["cache"]) as folder:
        encoder, history = ours.as_it_stops(
            dataset,
            Path(folder),
            size=told["size"],
            seed=told["seed"],
            epochs=told["epochs"],
            flags=tuple(told.get("flags", ())),
        )
    seconds = time.perf_counter() - begun
    scores = protocol.judge(encoder, dataset, size=told["size"])
    kept = max(row["epoch"] for row in history if row["best"])
    return {"scores": scores, "epochs": len(history), "kept": kept, "seconds": seconds}


def untrained(dataset, told):
    """The probe on an encoder that was not trained, and on pixels."""
    from versus import protocol

    from simclr_rhd.ssl.model import build

    return {
        "random": protocol.judge(build("random", seed=told["seed"]).encoder, dataset, size=told["size"]),
        "pixels": protocol.judge_pixels(dataset),
    }


def end_to_end(dataset, told):
    """The reference's whole work."""
    from versus import protocol, reference

    tasks = protocol.all_tasks(dataset)
    files = {
        task: ([protocol.file_of(dataset, told["data"], row) for row in asked.rows], asked.true, asked.groups)
        for task, asked in tasks.items()
    }
    rows = dataset.rows("unlabelled")  # as many as the main job learns from
    pool = [protocol.file_of(dataset, told["data"], row) for row in rows]
    folder = Path(told["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    return reference.end_to_end(
        pool, files, folder, size=told["size"], epochs=told["epochs"], linear_epochs=told["linear_epochs"]
    )


def by_patient(dataset, told):
    """The reference's heads once more on its encoder, patients apart."""
    import torch
    from versus import protocol, reference

    model = reference.SimCLR()
    state = torch.load(Path(told["folder"], "encoder.pt"), weights_only=True)
    model.encoder.load_state_dict(state)
    files = {
        task: ([protocol.file_of(dataset, told["data"], row) for row in asked.rows], asked.true, asked.groups)
        for task, asked in protocol.all_tasks(dataset).items()
    }
    found = reference.heads(
        model.encoder, files, size=told["size"], epochs=told["linear_epochs"], by="patient"
    )
    return {"accuracy": {task: one["accuracy"] for task, one in found.items()}}


def main():
    told = json.loads(sys.argv[1])
    from versus import protocol

    if told["arm"] == "ours":
        from simclr_rhd.core import device as runtime

        runtime.make_deterministic()
    dataset = protocol.read(told["data"], Path(told["cache"]), image_size=told["size"])
    work = {
        "rate": rate,
        "data_rate": data_rate,
        "score": score,
        "stopped": stopped,
        "untrained": untrained,
        "end_to_end": end_to_end,
        "by_patient": by_patient,
    }[told["what"]]
    print(json.dumps(work(dataset, told)))


if __name__ == "__main__":
    main()
