"""The zoo: the doctor names what is wrong with each model, and says nothing of the healthy."""

import json

import pytest
import torch

from companion.lab.records import RUNS
from companion.lab.training import corpus
from companion.lab.zoo import HEALTHY, RIGHT, UNSEEN, ZOO

NAN = "mask with an empty row"


@pytest.fixture(scope="module")
def text():
    return corpus()


@pytest.fixture(scope="module")
def losses():
    return json.loads((RUNS / "16_silent_bugs_losses_of.json").read_text())["results"]


@pytest.mark.parametrize("case", ZOO.values(), ids=lambda case: case.name)
def test_the_first_finding_names_what_is_wrong(case, text):
    assert case.report(text).names[0] == case.finding


@pytest.mark.parametrize("case", UNSEEN.values(), ids=lambda case: case.name)
def test_what_is_out_of_the_doctors_sight(case, text):
    assert case.report(text).healthy


@pytest.mark.parametrize("case", [HEALTHY, *RIGHT.values()], ids=lambda case: case.name)
def test_nothing_is_found_in_a_healthy_model_fresh_or_trained(case, text):
    model = case.model(text.vocab, seed=0)
    assert case.report(text, model).healthy
    losses = case.train(model, text, steps=200, seed=0)
    assert losses[-1] < losses[0] - 1
    assert case.report(text, model).healthy


def test_the_zoo_is_large_and_no_two_cases_share_a_name():
    every = [HEALTHY.name, *ZOO, *UNSEEN, *RIGHT]
    assert len(ZOO) >= 40
    assert len(every) == len(set(every))


def test_every_recorded_loss_fell_but_for_the_one_that_is_nan(losses):
    for run in losses.values():
        assert set(run) == {HEALTHY.name, *ZOO, *UNSEEN} - {NAN}
        assert all(numbers["tens"][-1] < numbers["first"] for numbers in run.values())


def test_the_same_seed_gives_the_same_run_and_leaves_chance_alone(text):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    runs = [
        HEALTHY.train(HEALTHY.model(text.vocab, seed=1), text, steps=3, seed=1) for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert torch.equal(state, torch.get_rng_state())


def test_models_of_the_same_layers_start_alike(text):
    ours, theirs = (case.model(text.vocab, seed=2) for case in (HEALTHY, ZOO["no mask"]))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))
