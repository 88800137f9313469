"""Adapters of evomem for other frameworks, one package per framework.

`_databases` and `documents` hold what several adapters share.
"""
