"""Eight weeks of someone's life, questions about them, and what a memory of order changes.

`story.json` is a chat file as `evomem import` takes it; `questions.json` names, for each question,
the turns that answer it and the ones that look as if they did.
"""

from __future__ import annotations

from evomem.demo.compare import Report, Side, compare
from evomem.demo.story import Question, load_questions, load_story

__all__ = ["Question", "Report", "Side", "compare", "load_questions", "load_story"]
