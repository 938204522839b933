"""The tables of Yaras et al. 2024 (arXiv 2412.07909), to be shown beside a run's own.

Taken from a reader's summary of the paper's tables: the last digit may be off. CLIP RN50 from scratch on MSCOCO, 100
epochs of batch 1024, mean of three seeds; zero-shot and linear probe on CIFAR-10. Shares, where the paper has percent.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A row: modality gap, -W2, then shares; None where the paper's table has no such column."""

    gap: float
    uniformity: float | None
    zero_shot: float | None
    probe: float | None
    image_retrieval: float | None
    text_retrieval: float | None


PUBLISHED: dict[str, Published] = {
    "Baseline": Published(0.294, -1.165, 0.1365, 0.6555, 0.6823, 0.7837),
    "FLT 0.04": Published(0.122, -1.183, 0.1440, 0.6198, 0.7344, 0.8266),
    "TS S3": Published(0.088, -1.108, 0.1717, 0.6750, 0.7572, 0.8531),
    "TR softplus": Published(0.284, -1.153, 0.1486, 0.6646, 0.7006, 0.8010),
    "SLRT": Published(0.268, -1.152, 0.1513, 0.6663, 0.7032, 0.8040),
    "HS 0.001": Published(0.225, -1.156, 0.1391, 0.6595, 0.6972, 0.7974),
    "SS 0.05": Published(0.139, -1.152, 0.1433, 0.6494, 0.6891, 0.7916),
    "FLT 0.01": Published(0.669, None, None, 0.6944, 0.6989, 0.8068),
    "FLT 0.02": Published(0.334, None, None, 0.6841, 0.7054, 0.8130),
    "FLT 0.07": Published(0.033, None, None, 0.4961, 0.7553, 0.8288),
    "FLT 0.1": Published(0.019, None, None, 0.4829, 0.6655, 0.7358),
    "FLT 0.2": Published(0.008, None, None, 0.5014, 0.2397, 0.2694),
    "FLT 0.4": Published(0.009, None, None, 0.3797, 0.0690, 0.0870),
}
"""By the name that ``gaptune.paper.claims`` gives to a set of parameters."""
