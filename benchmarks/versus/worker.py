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
    if arm == "controlled":
        from versus import peer_lightly

        return peer_lightly.ControlledPretraining(dataset, size=size, seed=seed, epochs=epochs)
    files = [protocol.frame_path(dataset, folder, row) for row in protocol.pretraining_rows(dataset)]
    if arm == "lightly":
        from versus import peer_lightly

        return peer_lightly.Pretraining(files, size=size, seed=seed, epochs=epochs)
    from versus import reference

    return reference.Pretraining(files, size=size, seed=seed, epochs=epochs)


def rate(dataset, options):
    """{size of views: seconds of each epoch after the first}; the full size, and ours for all sizes."""
    how = {"size": options["size"], "seed": 0, "epochs": 1000, "flags": options.get("flags", ())}
    run = start(options["arm"], dataset, options["data"], **how)
    seconds_of = {}
    for size in run.run.schedule.sizes if options["arm"] == "ours" else (options["size"],):
        if options["arm"] == "ours":
            run.run.schedule.sizes, run.run.schedule.stage = (size,), 0
        seconds = []
        for _ in range(1 + options["epochs"]):
            start_time = time.perf_counter()
            run.epoch()
            seconds.append(time.perf_counter() - start_time)
        seconds_of[size] = seconds[1:]
    return {"seconds": seconds_of, "frames": run.frames_of_epoch}


def data_rate(dataset, options):
    """Pairs of views a second from where the frames lie, without training; the median of three passes."""
    run = start(options["arm"], dataset, options["data"], size=options["size"], seed=0, epochs=1000)
    rates = []
    for number in range(3):
        start_time = time.perf_counter()
        if options["arm"] == "ours":
            inner = run.run
            inner.step.size = options["size"]
            for batch in inner.load_batches(inner.batches(number + 1), number + 1, inner.positive_sampler):
                inner.step.views(batch)
        else:
            for _ in run.loader:
                pass
        rates.append(run.frames_of_epoch / (time.perf_counter() - start_time))
    return {"frames_per_s": float(np.median(rates))}


def score(dataset, options):
    """The probe after some epochs, and at checkpoints before where the course does not depend on the end.

    The encoder is kept beside the cached frames, for what may be asked later.
    """
    import torch
    from versus import protocol

    from simclr_rhd.ssl.encoder.model import STAGE_DIMS

    run = start(
        options["arm"],
        dataset,
        options["data"],
        size=options["size"],
        seed=options["seed"],
        epochs=options["epochs"],
    )
    start_time, at, losses = time.perf_counter(), {}, []
    for number in range(1, options["epochs"] + 1):
        losses.append(run.epoch())
        if number == options["epochs"] or number in options["also_after"]:
            taken = time.perf_counter() - start_time
            how = {"size": options["size"]}
            at[number] = {
                "scores": protocol.evaluate_encoder(run.encoder, dataset, **how),
                "last_stage": protocol.evaluate_encoder(run.encoder, dataset, **how, width=STAGE_DIMS[-1]),
                "loss": losses[-1],
            }
            start_time += time.perf_counter() - start_time - taken  # judging is not training
    seconds = time.perf_counter() - start_time
    torch.save(
        run.encoder.state_dict(), Path(options["cache"], f"{options['arm']}-{number}-{options['seed']}.pt")
    )
    return {"at": at, "seconds": seconds, "reads": run.reads}


def early_stopping(dataset, options):
    """The probe of what our main job keeps when it stops by itself, some frames held out."""
    import torch
    from versus import ours, protocol

    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options["cache"]) as folder:
        encoder, history = ours.train_with_early_stopping(
            dataset,
            Path(folder),
            size=options["size"],
            seed=options["seed"],
            epochs=options["epochs"],
            flags=tuple(options.get("flags", ())),
        )
    seconds = time.perf_counter() - start
    scores = protocol.evaluate_encoder(encoder, dataset, size=options["size"])
    name = f"stopped{''.join(options.get('flags', ()))}-{options['seed']}.pt"
    torch.save(encoder.state_dict(), Path(options["cache"], name))
    best_epoch = max(record.epoch for record in history if record.best)
    return {"scores": scores, "epochs": len(history), "kept": best_epoch, "seconds": seconds}


def untrained(dataset, options):
    """The probe on an encoder that was not trained, on pixels, and on masks of black and not black."""
    from versus import protocol

    from simclr_rhd.heads.baselines import mask_features, pixel_features
    from simclr_rhd.ssl.encoder.model import build

    return {
        "random": protocol.evaluate_encoder(
            build("random", seed=options["seed"]).encoder, dataset, size=options["size"]
        ),
        "pixels": protocol.evaluate_pictures(dataset, pixel_features),
        "mask": protocol.evaluate_pictures(dataset, mask_features),
    }


def end_to_end(dataset, options):
    """The reference's whole work."""
    from versus import protocol, reference

    tasks = protocol.all_tasks(dataset)
    files = {
        task: (
            [protocol.frame_path(dataset, options["data"], row) for row in target.rows],
            target.true,
            target.groups,
        )
        for task, target in tasks.items()
    }
    rows = dataset.rows("unlabelled")  # as many as the main job learns from
    pool = [protocol.frame_path(dataset, options["data"], row) for row in rows]
    folder = Path(options["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    return reference.end_to_end(
        pool,
        files,
        folder,
        size=options["size"],
        epochs=options["epochs"],
        linear_epochs=options["linear_epochs"],
    )


def evaluate_by_patient(dataset, options):
    """The reference's heads once more on its encoder, patients apart."""
    import torch
    from versus import protocol, reference

    model = reference.SimCLR()
    state = torch.load(Path(options["folder"], "encoder.pt"), weights_only=True)
    model.encoder.load_state_dict(state)
    files = {
        task: (
            [protocol.frame_path(dataset, options["data"], row) for row in target.rows],
            target.true,
            target.groups,
        )
        for task, target in protocol.all_tasks(dataset).items()
    }
    results = reference.heads(
        model.encoder, files, size=options["size"], epochs=options["linear_epochs"], by="patient"
    )
    return {"accuracy": {task: one["accuracy"] for task, one in results.items()}}


def main():
    options = json.loads(sys.argv[1])
    from versus import protocol

    if options["arm"] == "ours":
        from simclr_rhd.core import device as runtime

        runtime.make_deterministic()
    dataset = protocol.read(options["data"], Path(options["cache"]), image_size=options["size"])
    work = {
        "rate": rate,
        "data_rate": data_rate,
        "score": score,
        "stopped": early_stopping,
        "untrained": untrained,
        "end_to_end": end_to_end,
        "by_patient": evaluate_by_patient,
    }[options["what"]]
    print(json.dumps(work(dataset, options)))


if __name__ == "__main__":
    main()
