"""A compiler for experiments on LLM deployments: text -> plan -> tables -> scores -> report."""

__all__ = ["__version__"]

__version__ = "0.1.0"
