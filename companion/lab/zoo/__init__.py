"""Small GPTs with one thing typed wrong, each of which trains; and healthy ones beside them."""

from companion.lab.zoo import attentions, models, training, unseen
from companion.lab.zoo.case import Case
from companion.lab.zoo.healthy import HEALTHY, RIGHT

ZOO = {case.name: case for case in [*attentions.CASES, *models.CASES, *training.CASES]}
UNSEEN = {case.name: case for case in unseen.CASES}

__all__ = ["HEALTHY", "RIGHT", "UNSEEN", "ZOO", "Case"]
