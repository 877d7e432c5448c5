"""The figures of the guide, each made by one function from data inside packages; `codelength figures` writes them."""

from codelength.tutorial.make import FIGURES, make_figures

__all__ = ["FIGURES", "make_figures"]
