"""Compute the list of packages; everything else is in setup.cfg."""

from __future__ import annotations

from setuptools import find_packages, setup

NAME = "torana"
FOLDERS = ("cli", "core", "gateway", "frontends", "plugins")

setup(
    packages=[
        NAME,
        *(
            f"{NAME}.{package}"
            for package in find_packages(include=[*FOLDERS, *(f"{f}.*" for f in FOLDERS)])
        ),
    ]
)
