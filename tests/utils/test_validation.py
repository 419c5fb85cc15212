"""Argument checks and their messages."""

from pathlib import Path

import numpy as np
import pytest

from castlit.utils.validation import (
    InputError,
    as_list,
    did_you_mean,
    require_bool,
    require_choice,
    require_int,
    require_number,
    require_path,
)


def test_valid_values():
    assert require_number("x", 1, low=1, high=1) == 1.0
    assert type(require_number("x", 1)) is float
    assert require_int("x", 3, low=3, high=3) == 3
    assert require_choice("x", "b", ["a", "b"]) == "b"
    for found in (require_number("x", np.float32(0.5)), require_number("x", np.int64(3))):
        assert type(found) is float
    assert type(require_int("x", np.int64(3), low=3)) is int


@pytest.mark.parametrize("value", [None, "1", float("nan"), float("inf"), True, [1], np.bool_(True), np.ones(1), 1j])
def test_not_a_number(value):
    with pytest.raises(InputError, match="x must be a number, got"):
        require_number("x", value)


@pytest.mark.parametrize("value", [None, 1.0, "1", False, np.bool_(True), np.float64(1)])
def test_not_an_integer(value):
    with pytest.raises(InputError, match="x must be a whole number, got"):
        require_int("x", value)


def test_bounds():
    with pytest.raises(InputError, match=r"x must be at least 0, got -0\.1"):
        require_number("x", -0.1, low=0)
    with pytest.raises(InputError, match="x must be at most 2, got 3"):
        require_int("x", 3, high=2)
    with pytest.raises(InputError, match="x must be greater than 0, got 0"):
        require_number("x", 0, above=0)
    assert require_number("x", 1e-12, above=0) == 1e-12


@pytest.mark.parametrize("value", ["no", "off", "true", 1, 0, None])
def test_not_a_truth_value(value):
    with pytest.raises(InputError, match="x must be true or false, got"):
        require_bool("x", value)
    assert require_bool("x", False) is False


def test_paths():
    assert require_path("x", "~/photos") == Path.home() / "photos"
    for value in (None, "", " ", ["a", "b"], True, 5):
        with pytest.raises(InputError, match="x must be the path of a file or folder, got"):
            require_path("x", value)


def test_choices():
    with pytest.raises(InputError, match=r"x must be one of paper, reference; got 'papr' \(did you mean 'paper'\?\)"):
        require_choice("x", "papr", ("paper", "reference"))
    with pytest.raises(InputError, match=r"got 3$"):
        require_choice("x", 3, ("paper", "reference"))
    assert did_you_mean("zzz", ["paper"]) == ""


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_as_list():
    assert as_list(3) == [3]
    assert as_list("abc") == ["abc"]
    assert as_list((1, 2)) == as_list([1, 2]) == [1, 2]
    assert as_list([]) == []
