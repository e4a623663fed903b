"""The Python side of `cargo xtask bench score`: models to score with, and what onnxruntime and scikit-learn take for them.

    python score.py train FOLDER [FLOWS]    models, rows and scikit-learn's answers into FOLDER
    python score.py measure FOLDER MODEL    figures of one of them, one JSON line each

Needs the training package on PYTHONPATH. Without FLOWS the rows are made up.
"""

import json
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import onnxruntime
from ml_ids_training import contract, export, kinds
from ml_ids_training.data import BENIGN, Flows, read_flows
from ml_ids_training.features import NAMES
from ml_ids_training.fitted import class_names
from ml_ids_training.settings import BOOSTED, FOREST, STACKING, Settings
from ml_ids_training.values import NON_FINITE, model_input

#: By name: the kind, and the most branches on a path.
MODELS = {
    "forest-depth-16": (FOREST, 16),
    "forest-unlimited": (FOREST, None),
    "stacking": (STACKING, 16),
    "boosted": (BOOSTED, 16),
}
#: Rows that are scored, and not learned from.
HELD_OUT = 4096
#: Made-up rows, where there are no flows.
MADE_UP = 40_000
SEED = 20170703
BATCHES = (1, 16, 256, 4096)
#: Measurements of which the best is taken.
ROUNDS = 5


def made_up() -> Flows:
    """Rows of 15 overlapping classes."""
    from sklearn.datasets import make_classification

    values, classes = make_classification(
        MADE_UP, 78, n_informative=30, n_classes=15, n_clusters_per_class=2, class_sep=0.7, flip_y=0.1, random_state=SEED
    )
    labels = np.array([BENIGN, *(f"attack {number}" for number in range(1, 15))], dtype=object)[classes]
    return Flows(values, labels, None)


def train(folder: Path, paths: list[str]) -> None:
    flows = read_flows(paths, "cns2022") if paths else made_up()
    order = np.random.default_rng(SEED).permutation(len(flows.labels))
    held_out, learned = order[:HELD_OUT], order[HELD_OUT:]
    classes = class_names(flows.labels[learned])
    rows = model_input(flows.values[held_out]).astype(np.float64)
    rows.astype("<f8").tofile(folder / "rows.f64")
    for name, (kind, depth) in MODELS.items():
        print(f"training {name}", file=sys.stderr)
        settings = Settings(max_depth=-1 if depth is None and kind == BOOSTED else depth, copies=0, seed=SEED, jobs=1).resolved(kind)
        fitted = kinds.fit(flows, learned, classes, tuple(range(78)), settings)
        metadata = {
            "contract": contract.VERSION,
            "name": name,
            "version": "bench",
            "profile": "cns2022",
            "features": json.dumps(NAMES),
            "classes": json.dumps(classes),
            "thresholds": json.dumps({label: 0.5 for label in classes[1:]}),
            "non_finite": json.dumps(NON_FINITE),
            "kind": kind,
        }
        model = export.to_onnx(fitted, {f"ml_ids.{key}": value for key, value in metadata.items()})
        joblib.dump(fitted, folder / f"{name}.joblib")
        np.savetxt(folder / f"{name}.classes", fitted.probabilities(rows).argmax(axis=1), "%d")
        (folder / f"{name}.onnx").write_bytes(export.to_bytes(model))


def measure(folder: Path, name: str) -> None:
    rows = np.fromfile(folder / "rows.f64", "<f8").reshape(-1, 78)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    narrow = rows.astype(np.float32)
    for batch in BATCHES:
        rate = best_rate(lambda part: session.run(["probabilities"], {"features": part}), narrow, batch, len(rows))
        report(f"onnxruntime, batch {batch}", rate, "flows/CPU s")
    fitted = joblib.load(folder / f"{name}.joblib")
    if hasattr(fitted.estimator, "n_jobs"):
        fitted.estimator.n_jobs = 1
    for batch in BATCHES:
        # A call takes milliseconds whatever the batch.
        rate = best_rate(fitted.probabilities, rows, batch, min(len(rows), 100 * batch))
        report(f"scikit-learn or LightGBM, batch {batch}", rate, "flows/CPU s")
    wanted = np.loadtxt(folder / f"{name}.classes", dtype=int)
    for path in sorted(folder.glob(f"{name}.agent.*")):
        other = int((np.loadtxt(path, dtype=int) != wanted).sum())
        report(f"{path.suffix[1:]}: classes that differ from scikit-learn's or LightGBM's", other, f"of {len(wanted)} flows")


def best_rate(score, rows: np.ndarray, batch: int, count: int) -> float:
    count = min(count, 512) if batch == 1 else count
    best = 0.0
    for _ in range(ROUNDS):
        started = time.thread_time()
        for start in range(0, count, batch):
            score(rows[start : start + batch])
        best = max(best, count / (time.thread_time() - started))
    return best


def report(figure: str, value: float, unit: str) -> None:
    print(json.dumps({"bench": "score", "figure": figure, "value": value, "unit": unit}), flush=True)


if __name__ == "__main__":
    command, folder, *rest = sys.argv[1:]
    if command == "train":
        train(Path(folder), rest)
    else:
        measure(Path(folder), *rest)
