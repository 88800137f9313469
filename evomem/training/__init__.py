"""Train encoders that read a history in the light of what came before.

`evomem train --help` shows the command, docs/guides/training.md the way. Data are histories with questions whose
evidence is known: files in the EvoTrain format (`evotrain`), public corpora converted to it
(`corpora`), and generated life stories (`stories`).
"""
