"""A new lesson: all its parts, with what belongs in each, tagged `draft`."""

from .form import ROOT, STEM, CourseError, Lesson, course, lessons, parse_text, render_text, write
from .twins import sync

_TEMPLATE = """\
+++ {{"tags": ["part-head", "draft"]}}

# {number:02} · {title}

+++

{quotes}

+++

**After this lesson you can** ...

30 minutes · builds on 01 · source

```{{code-cell}} ipython3
from companion import lab
from companion.lab import check
```

+++ {{"tags": ["part-predict"]}}

## Predict

Commit to these guesses before you run anything.

```{{code-cell}} ipython3
# lab.predict(name="the question")
```

+++ {{"tags": ["part-smallest"]}}

## The smallest case

```{{code-cell}} ipython3
:tags: [nbval-check-output]

print("real tensors of a few numbers")
```

+++ {{"tags": ["part-build"]}}

## Build it

```{{code-cell}} ipython3
# one idea a cell; the cells that the package needs start with `#| export`
```

+++ {{"tags": ["part-experiment"]}}

## Measure it

```{{code-cell}} ipython3
# a picture, then `lab.reveal(name=measured)`
```

What to see in it, in a sentence.

+++ {{"tags": ["part-trap"]}}

## Trap

A wrong version that runs.

```{{code-cell}} ipython3
:tags: [nbval-check-output]

print("what the wrong version does to the numbers")
assert True  # the line that would have caught it
```

+++ {{"tags": ["part-exercise"]}}

## Exercise

```{{code-cell}} ipython3
:tags: [nbval-check-output]

def yours():
    \"\"\"What it returns, with shapes.\"\"\"
    raise NotImplementedError


print("check.NAME(yours) here")
```

<details><summary>Hint</summary>A question that gives no code away.</details>

```{{code-cell}} ipython3
:tags: [hide-input, nbval-check-output]
:jupyter: {{source_hidden: true}}

def yours():
    \"\"\"What it returns, with shapes.\"\"\"
    return None


print("check.NAME(yours) here")
```

+++ {{"tags": ["part-answer"]}}

## So?

The journal's question again, answered in three sentences with this lesson's own numbers.
"""


def new(number: int, slug: str, title: str, root=ROOT) -> Lesson:
    """Write the two files of a new lesson, quoting the journal as lessons/course.toml does."""
    lesson = Lesson(f"{number:02}_{slug}", root)
    if not STEM.fullmatch(lesson.stem):
        raise CourseError(
            f"{lesson.stem!r} is no name for a lesson; take small letters, digits and _"
        )
    if taken := [other.stem for other in lessons(root) if other.number == number]:
        raise CourseError(f"there is a lesson {number:02} already: {taken[0]}; take another number")
    planned = {one["number"]: one for part in course(root) for one in part["lessons"]}
    about = planned.get(number, {"slug": slug, "quote": "...", "date": "07.09.24"})
    if about["slug"] != slug:
        raise CourseError(
            f"lessons/course.toml calls lesson {number:02} {about['slug']!r}, not {slug!r}: "
            "use that name, or change it there"
        )
    quotes = f"> *{about['quote']}*\n> — journal, {about['date']}"
    text = _TEMPLATE.format(number=number, title=title, quotes=quotes)
    write(lesson.text, render_text(parse_text(text, root), root))
    sync(lesson)
    return lesson
