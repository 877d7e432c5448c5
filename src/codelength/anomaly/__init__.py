"""Likelihood as a detector of odd data: code lengths, scores made of them, p-values, a page of what surprises most."""

from codelength.anomaly.auroc import Auroc, auroc
from codelength.anomaly.calibration import Calibration, calibrate
from codelength.anomaly.conformal import conformal_p_values, false_positive_interval
from codelength.anomaly.lengths import BACKGROUND_TABLE, Lengths, measure_lengths
from codelength.anomaly.regret import latent_regret
from codelength.anomaly.scores import DEFAULT_SCORE, Scorer, fit_scorer
from codelength.anomaly.scoring import Scored, score_items

__all__ = [
    "BACKGROUND_TABLE",
    "DEFAULT_SCORE",
    "Auroc",
    "Calibration",
    "Lengths",
    "Scored",
    "Scorer",
    "auroc",
    "calibrate",
    "conformal_p_values",
    "false_positive_interval",
    "fit_scorer",
    "latent_regret",
    "measure_lengths",
    "score_items",
]
