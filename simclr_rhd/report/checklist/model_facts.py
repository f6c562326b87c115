"""Facts of a run's model and training, for the items of reporting guidelines."""

from pathlib import PurePath

from simclr_rhd.core.text import command_name
from simclr_rhd.evaluation.selective import GUARANTEE
from simclr_rhd.report.checklist.data_facts import partition
from simclr_rhd.report.checklist.items import RunFacts
from simclr_rhd.ssl.encoder.model import FEATURE_DIM

PRETRAINING = (
    *("epochs", "batch_size", "temperature", "optimizer", "learning_rate", "weight_decay", "warmup_epochs"),
    *("positives", "augment", "view_sizes", "ema_decay", "precision", "seed"),
)
HEADS = ("linear_epochs", "classifier_lr", "class_weights", "head_l2", "head_seeds", "condition_mode")


def _settings(facts: RunFacts, names: tuple[str, ...]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {facts.setting(name)}" for name in names)


def architecture(facts: RunFacts) -> str:
    """The network: its input, layers, parameters and output."""
    size = facts.setting("image_size")
    parameters = facts.run.get("estimate", {}).get("parameters")
    count = f" ({parameters:,} parameters with the projector of the pretraining)" if parameters else ""
    tasks = ", ".join(task for task in facts.results.tasks if task not in facts.results.skipped)
    return (
        f"A ResNet-18 encoder{count} for frames of 3 x {size} x {size}, pretrained by SimCLR (Chen et al. "
        f"2020); on its {FEATURE_DIM} frozen features, the means of its four stages, a linear head for each "
        f"task: {tasks}."
    )


def inputs(facts: RunFacts) -> str:
    """The predictors."""
    return "The pixels of one frame, all of them; no clinical variable, and no selection of predictors."


def software(facts: RunFacts) -> str:
    """Versions, commit and device."""
    versions = ", ".join(f"{name} {version}" for name, version in facts.run["versions"].items())
    return f"{_program(facts)}; {versions}; on {facts.run.get('device', '-')}."


def _program(facts: RunFacts) -> str:
    return f"This program at commit {facts.run['commit'] or 'unknown'}"


def initialization(facts: RunFacts) -> str:
    """Weights that the training began with."""
    init = PurePath(facts.setting("init")).name  # not the folder, which may name people
    kinds = {"random": "random weights", "imagenet": "torchvision's weights of ImageNet"}
    weights = kinds.get(init, f"the weights of {init}")
    return f"Encoder: {weights}, seed {facts.setting('seed')}. Heads: random weights."


def training(facts: RunFacts) -> str:
    """Loss, optimizer, schedule and settings of pretraining and heads."""
    tuned = ""
    if facts.setting("finetune") == "True":
        tuned = f" Beside it, fine-tuned: {_settings(facts, ('finetune_epochs', 'finetune_lr'))}."
    return (
        f"Pretraining: NT-Xent on two augmented views; {_settings(facts, PRETRAINING)}. Heads: "
        f"cross-entropy, Adam at a rate that falls to 0; {_settings(facts, HEADS)}.{tuned} All settings are "
        "in run.json, the losses of each epoch in history.jsonl."
    )


def selection(facts: RunFacts) -> str:
    """The choice of the final model."""
    l2 = facts.setting("head_l2")
    penalty = "the L2 penalty of the lowest loss on the validation groups" if l2 == "auto" else f"L2 {l2}"
    monitor, patience = facts.setting("monitor"), facts.setting("patience")
    return (
        f"Pretraining: once {monitor} has not improved for {patience} epochs, or the planned epochs come to "
        "an end, the learning rate falls to 0; the averaged weights of the last epoch are kept. Heads: the "
        f"last epoch, {penalty}. No tested frame decides anything."
    )


def building(facts: RunFacts) -> str:
    """The model, its training and its selection."""
    return " ".join(part(facts) for part in (architecture, training, selection, ensemble))


def development(facts: RunFacts) -> str:
    """Training and selection, with the parts."""
    return " ".join(part(facts) for part in (partition, initialization, training, selection))


def ensemble(facts: RunFacts) -> str:
    """Averages."""
    return f"Each head is the mean of {facts.setting('head_seeds')} heads with different random starts."


def imbalance(facts: RunFacts) -> str:
    """The handling of rare classes."""
    return (
        f"Class weights in the heads' loss: {facts.setting('class_weights')}. Probabilities are then "
        "calibrated "
        "by a temperature and a bias for each class, for the prevalence of the validation groups."
    )


def output(facts: RunFacts) -> str:
    """Outputs of the model, and the rule that makes them a class."""
    return (
        "A calibrated probability of each class. The predicted class is the balanced choice: the one whose "
        "probability is largest for its prevalence. `predict` marks predictions below a threshold "
        "(abstained); it is set on "
        f"validation groups so that {GUARANTEE}."
    )


def how_to_predict(facts: RunFacts) -> str:
    """Prediction for new individuals."""
    return (
        "model.pt has weights, preparation, calibration, class names and thresholds: "
        f"`{command_name()} predict "
        'PATH... --model model.pt`, or `simclr_rhd.load_model("model.pt")`. model_card.md describes it.'
    )


def poor_input(facts: RunFacts) -> str:
    """The handling of poor or unavailable input."""
    return (
        "`predict` names files that it cannot read, marks frames unlike those of the training "
        "(out_of_distribution), and withholds predictions of low confidence (abstained). It misses some."
    )


def user_interaction(facts: RunFacts) -> str:
    """Tasks of the users."""
    return "Users choose the files; no region, measurement or clinical value is entered."


def updating(facts: RunFacts) -> str:
    """Changes of the model after its test."""
    if (facts.results.split.test_evaluations or 1) > 1:
        return ""  # what was changed in between is not known here
    return "None: the model was not changed after its test."


def explainability(facts: RunFacts) -> str:
    """Methods of explanation."""
    shown = "Grad-CAM of tested frames is in report.html; it was not validated." if facts.figures else ""
    return shown or "None in this run (--no-figures)."


def availability(facts: RunFacts) -> str:
    """Sharing of software and model."""
    return f"{_program(facts)}; the model is model.pt, its settings are in run.json."


def storage(facts: RunFacts) -> str:
    """Location of the predictions."""
    return (
        "predictions.csv has the probabilities of each tested frame, split.csv its part, run.json and "
        "simclr_rhd.log what was run."
    )
