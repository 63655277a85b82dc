"""A lesson's function in several processes: what comes back, and that none is left behind."""

import os
import time

import pytest
import torch

from companion.lab.launching import launch, script_of
from companion.parallel import Rank, all_sum

FACTOR = {"by": 3}


def summed(rank: Rank, start: float) -> list:
    return [rank.rank, os.getpid(), all_sum(torch.ones(2) * start * FACTOR["by"]).tolist()]


def breaks(rank: Rank, path: str) -> None:
    with open(f"{path}/{rank.rank}", "w") as note:
        note.write(str(os.getpid()))
    all_sum(torch.ones(1))
    if rank.rank == 1:
        raise LookupError("mine alone")
    all_sum(torch.ones(1))


def sleeps(rank: Rank, path: str) -> None:
    with open(f"{path}/{rank.rank}", "w") as note:
        note.write(str(os.getpid()))
    time.sleep(1000)


def odd(rank: Rank, most: int) -> float:
    """One rank adds up once more than the other."""
    for _ in range(4 + (rank.rank == most)):
        last = all_sum(torch.ones(1))
    return last.item()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


def left(folder) -> list[int]:
    """Those of the processes that wrote their numbers down and still run."""
    return [pid for note in folder.iterdir() if is_running(pid := int(note.read_text()))]


def test_each_rank_returns_its_own_and_all_have_the_sum():
    (zero, first, sums), (one, second, same) = launch(summed, start=2.0)
    assert (zero, one) == (0, 1)
    assert first != second
    assert sums == same == [12.0, 12.0]


def test_one_that_fails_is_reported_with_its_traceback_and_none_is_left(tmp_path):
    with pytest.raises(RuntimeError, match="LookupError: mine alone"):
        launch(breaks, path=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    assert not left(tmp_path)


def test_the_failure_itself_comes_back_where_it_was_asked_for(tmp_path):
    end = launch(breaks, path=str(tmp_path), fails=True)
    assert end.code != 0
    assert end.values == [None, None]
    assert "mine alone" in end.said


@pytest.mark.parametrize("most", [0, 1])
def test_a_collective_that_one_rank_alone_makes_fails_instead_of_meeting_the_end(most):
    end = launch(odd, most=most, timeout=36, fails=True)
    assert end.code != 0
    assert "is at its end, and another is not" in end.said
    assert end.values[most] is None


def test_one_process_alone_meets_nobody():
    assert launch(summed, start=2.0, processes=1)[0][2] == [6.0, 6.0]


def test_what_does_not_end_is_ended_and_none_is_left(tmp_path):
    with pytest.raises(RuntimeError, match="not ended"):
        launch(sleeps, path=str(tmp_path), timeout=20)
    assert len(list(tmp_path.iterdir())) == 2
    assert not left(tmp_path)


def test_a_script_holds_what_the_function_names_and_no_local_of_its_own():
    torch_too = script_of(summed)
    assert "import torch as torch" in torch_too
    assert "FACTOR = {'by': 3}" in torch_too
    assert "from companion.parallel import all_sum as all_sum" in torch_too
    assert "left" not in torch_too
