"""Finds castlit's packages; everything else is in pyproject.toml.

conf/ stays at the top of the repository, where people edit it; installed, it is the package castlit.conf.
setuptools.packages.find knows no second place, so it is named here.
"""

from setuptools import find_packages, setup

setup(packages=[*find_packages("src"), "castlit.conf"])
