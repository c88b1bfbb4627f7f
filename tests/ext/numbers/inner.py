"""Reached by a relative import."""


def answer():
    return 42
