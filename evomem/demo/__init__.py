"""A demo: eight weeks of someone's life, questions about them, and the effect of memory.

`story.json` is a chat file for `evomem import`; `questions.json` names, for each question, the turns that
answer it and misleading turns.
"""

from __future__ import annotations

from evomem.demo.compare import Report, Side, compare
from evomem.demo.story import Question, load_questions, load_story

__all__ = ["Question", "Report", "Side", "compare", "load_questions", "load_story"]
