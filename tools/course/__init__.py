"""The workshop of the course: what tools/lessons.py does, one module a step.

form        what a lesson is: its files, its cells, its parts
twins       the text and the notebook of a lesson, kept equal
running     notebooks executed, cleaned and stored
exporting   the package companion/, made from the lessons
mapping     the table of lessons
checks      what a finished course satisfies
"""
