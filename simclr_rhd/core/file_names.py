"""Names of the files that a run writes into its folder, each in one place."""

RUN_RECORD, CONFIG_FILE, LOG, HISTORY = "run.json", "config.toml", "simclr_rhd.log", "history.jsonl"
SENT_EPOCHS = "trackers.json"  # the last epochs that trackers have; not copied to a bucket
REJECTED, CONFLICTS, SPLIT = "rejected.csv", "conflicts.csv", "split.csv"
BEST_CHECKPOINT, LAST_CHECKPOINT, BAD_BATCH_FILE = "simclr_best.pt", "simclr_last.pt", "bad_batch.txt"
MODEL, FINETUNED_MODEL = "model.pt", "model_finetuned.pt"
METRICS, PREDICTIONS, LEAK_AUDIT = "metrics.json", "predictions.csv", "leak_audit.csv"
LABEL_DOUBTS = "label_doubts.csv"
LABEL_STUDIO_TASKS, LABEL_STUDIO_CONFIG = "label_studio.json", "label_studio.xml"
REPORT, MODEL_CARD, CHECKLIST = "report.html", "model_card.md", "checklist.md"

TRAINING_LOSS, DIAGNOSTICS, VIEWS = "simclr_training_loss.png", "simclr_diagnostics.png", "simclr_views.png"
LABEL_EFFICIENCY, PARTICIPANT_FLOW = "label_efficiency.png", "participant_flow.png"
SCREENING, MAX_QUESTIONS = "screening_{}.png", 9  # of each question, from 1 on
# of each task
CLASSIFIER_LOSS, CONFUSION_MATRIX = "classifier_{}_loss.png", "confusion_matrix_{}.png"
COMPARISON, RELIABILITY = "comparison_{}.png", "reliability_{}.png"
EMBEDDING_MAPS = {"t-SNE": "tsne_{}.png", "UMAP": "umap_{}.png"}

FOLD_DIR = "fold-{}"  # folder of the pretraining of a fold
DRY_RUN_PREFIX, TENSORBOARD_DIR = ".rehearsal-", "tensorboard"  # folders

PROTECTED_FILES = (BEST_CHECKPOINT, LAST_CHECKPOINT, MODEL, METRICS)  # took a run hours to make
# Files that name patients, or frames whose names may: their owner alone may read them. So it is with the log,
# with what `predict` writes, and in the cache folder with the salt and a bucket's files.
FILES_NAMING_PATIENTS = frozenset(
    {
        *(REJECTED, CONFLICTS, SPLIT, PREDICTIONS, LEAK_AUDIT, METRICS, BAD_BATCH_FILE),
        *(LABEL_DOUBTS, LABEL_STUDIO_TASKS),
    }
)
