"""What the tests of the package share."""

import pytest
import torch
from jaxtyping import config


@pytest.fixture(autouse=True)
def one_thread(request):
    """Small tensors gain nothing from a second, and wait long where its core is taken."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if "124m" in request.node.name else 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def unchecked():
    """The annotations' checks off, so that bad input reaches the function itself."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)
