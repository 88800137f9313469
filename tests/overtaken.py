"""A writer that is overtaken by another one."""

from __future__ import annotations

from evomem.encoder import HashEncoder


class Overtaken(HashEncoder):
    """An encoder during whose next reading something else happens."""

    def __init__(self):
        super().__init__(32)
        self.meanwhile = None

    def read(self, state, turns):
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        return super().read(state, turns)
