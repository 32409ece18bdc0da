"""Logistic regression in numpy: a few coefficients that are kept as JSON with the figures of their
training.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOATS = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Logistic:
    """Weights of named features for standardised values; `training` says what they were fitted on
    and how well they did.

    `calibration` is slope and intercept on the log odds (Platt scaling), so that of what is called
    probable with 0.8 eight in ten are true.
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    calibration: tuple[float, ...] = (1.0, 0.0)
    training: dict[str, Any] = field(default_factory=dict)

    def __call__(self, values: FLOATS) -> FLOATS:
        """Probability (0 to 1) for each row of values [rows, features]."""
        slope, intercept = self.calibration
        return np.asarray(
            1 / (1 + np.exp(-np.clip(slope * self.log_odds(values) + intercept, -60, 60)))
        )

    def log_odds(self, values: FLOATS) -> FLOATS:
        """Before calibration, for each row of values [rows, features]; the same whatever the other
        rows are.
        """
        standard = (values - np.array(self.mean)) / np.array(self.scale)
        return np.asarray((standard * np.array(self.weights)).sum(axis=1) + self.bias)

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)

    @classmethod
    def read(cls, path: Path) -> "Logistic":
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
        }
        return cls(**fields)


def fit(
    features: tuple[str, ...], yes: FLOATS, no: FLOATS, *, ridge: float = 1.0, steps: int = 30
) -> Logistic:
    """Newton's method on the two classes, each of the same total weight; `ridge` penalises the
    squared weights.

    `yes` and `no` are [rows, features].
    """
    values = np.concatenate([yes, no])
    mean, scale = values.mean(0), np.maximum(values.std(0), 1e-6)
    design = np.c_[(values - mean) / scale, np.ones(len(values))]
    target = np.r_[np.ones(len(yes)), np.zeros(len(no))]
    share = len(values) * np.where(target == 1, 0.5 / len(yes), 0.5 / len(no))
    penalty = ridge * np.r_[np.ones(len(features)), 0.0]
    weights = np.zeros(design.shape[1])
    for _ in range(steps):
        said = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (share * (said - target)) + penalty * weights
        curvature = (design * (share * said * (1 - said))[:, None]).T @ design + np.diag(
            penalty + 1e-9
        )
        weights -= np.linalg.solve(curvature, gradient)
    numbers = [
        tuple(round(float(value), 6) for value in part) for part in (mean, scale, weights[:-1])
    ]
    return Logistic(
        features=features,
        mean=numbers[0],
        scale=numbers[1],
        weights=numbers[2],
        bias=round(float(weights[-1]), 6),
    )


def calibrate(log_odds: FLOATS, yes: NDArray[np.bool_], *, steps: int = 50) -> tuple[float, float]:
    """Slope and intercept that make log odds [rows] probabilities, by Newton's method. No slope is
    below 0: that turns them round.

    Targets are drawn in from 0 and 1 as in Platt (1999), so that parts that are told apart without
    an error have a finite slope.
    """
    positive, negative = int(yes.sum()), int((~yes).sum())
    target = np.where(yes, (positive + 1) / (positive + 2), 1 / (negative + 2))
    design = np.c_[np.clip(log_odds, -30, 30), np.ones(len(log_odds))]
    found = np.array([1.0, 0.0])
    for _ in range(steps):
        said = 1 / (1 + np.exp(-np.clip(design @ found, -30, 30)))
        curvature = (design * (said * (1 - said))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (said - target))
        found -= np.clip(step, -1, 1)  # far from the minimum a whole step would overshoot
    if found[0] < 0:
        return 0.0, float(np.log(target.mean() / (1 - target.mean())))
    return float(found[0]), float(found[1])


def auc(score: FLOATS, yes: NDArray[np.bool_]) -> float:
    """Share of the pairs of a positive and a negative that are in order, ties counting half: the
    area under the ROC curve.
    """
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    positive, negative = int(yes.sum()), int((~yes).sum())
    assert positive, "there are no positives"
    assert negative, "there are no negatives"
    return float((rank[yes].sum() - positive * (positive + 1) / 2) / (positive * negative))
