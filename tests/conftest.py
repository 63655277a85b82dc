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


BEHIND = (  # parity's newest tests: the copy that lesson 22 exports does not pass them yet
    "test_a_fault_is_named_in_a_bert_of_another_style",
    "test_a_transformers_bert_is_compared_with_a_reference_of_another_style",
    "test_a_fault_is_named_in_a_gpt",
    "test_rounding_that_grows_is_told_from_a_difference_by_a_run_in_float64",
    "test_images_are_not_taken_for_masks",
    "test_a_bias_in_code_and_numbers_in_another_order_are_measured_by_their_patterns",
)


def pytest_collection_modifyitems(items):
    """Expected to fail until lesson 22 has them: some of each, so not strictly."""
    for item in items:
        if item.name.split("[")[0] in BEHIND:
            item.add_marker(pytest.mark.xfail(reason="ahead of lesson 22's parity", strict=False))
