"""Adds configs/ to the package, as segdiff_jax.configs; all else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["segdiff_jax", "segdiff_jax.*"]), "segdiff_jax.configs"],
    package_dir={"segdiff_jax.configs": "configs"},
)
