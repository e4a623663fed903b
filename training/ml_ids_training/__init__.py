"""Training side of ML-IDS: flow CSVs in, one checked ONNX random forest out.

Start reading at `train.py`, which tells the story in order.
"""

__version__ = "0.1.0"

#: Further seeds that `train` judges each split with unless told otherwise.
DEFAULT_REPEATS = 5
