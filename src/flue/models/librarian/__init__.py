"""`demo/librarian`: the bundled offline model, a set of rules that searches a workspace and quotes what it finds."""

from flue.models.librarian.model import Librarian

__all__ = ["Librarian"]
