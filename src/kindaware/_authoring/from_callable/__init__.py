"""A model of a callable: a module's class or factory, or a function of tensors."""

from kindaware._authoring.from_callable.scaffold import scaffold_callable

__all__ = ["scaffold_callable"]
