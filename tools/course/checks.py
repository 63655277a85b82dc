"""All checks of the course. Each takes its folder and yields the problems it finds."""

from collections.abc import Iterator
from pathlib import Path

from . import lesson_checks, pipeline_checks
from .form import ROOT, Problem

CHECKS = (
    pipeline_checks.twins_are_equal,
    pipeline_checks.lessons_are_planned,
    pipeline_checks.outputs_come_from_these_sources,
    pipeline_checks.compared_cells_are_stored,
    pipeline_checks.outputs_are_clean,
    pipeline_checks.no_cell_failed,
    pipeline_checks.no_path_of_a_machine,
    pipeline_checks.kernel_is_anyones,
    pipeline_checks.code_fits_the_page,
    pipeline_checks.companion_is_exported,
    pipeline_checks.modules_read_as_written_by_hand,
    pipeline_checks.imports_run_one_way,
    pipeline_checks.maps_are_fresh,
    lesson_checks.parts_are_in_order,
    lesson_checks.head_says_what_and_why,
    lesson_checks.journal_is_quoted_word_for_word,
    lesson_checks.prediction_comes_back,
    lesson_checks.experiment_has_a_picture,
    lesson_checks.pictures_have_words,
    lesson_checks.trap_has_its_assertion,
    lesson_checks.exercise_can_be_checked_and_solved,
    lesson_checks.answer_is_measured,
)


def verify(root: Path = ROOT) -> Iterator[Problem]:
    for check in CHECKS:
        yield from check(root)
