"""quality=deepusps: the settings that identify its masks."""

import pytest

from castlit.saliency.pipeline import deepusps_method
from castlit.saliency.pipeline.deepusps_method import DeepUSPSMethod
from castlit.utils.validation import InputError


@pytest.mark.parametrize("other", [{"crf": False}, {"fused": 0}, {"seed": 1}])
def test_masks_of_other_settings_are_told_apart(other):
    default = DeepUSPSMethod({})
    assert DeepUSPSMethod(other).digest != default.digest
    assert {key: DeepUSPSMethod(other).facts[key] for key in other} == other
    assert DeepUSPSMethod({"workers": 1, "accelerator": "cpu"}).digest == default.digest


def test_masks_of_other_versions_of_the_methods_are_told_apart(monkeypatch):
    before = DeepUSPSMethod({}).digest
    monkeypatch.setattr(deepusps_method, "METHODS_VERSION", deepusps_method.METHODS_VERSION + 1)
    assert DeepUSPSMethod({}).digest != before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"crf": 1}, "deepusps.crf must be true or false, got 1"),
        ({"fused": True}, "deepusps.fused must be a number, got True"),
        ({"fused": 1.5}, "deepusps.fused must be at most 1, got 1.5"),
    ],
)
def test_invalid_settings_of_the_maps(given, message):
    with pytest.raises(InputError) as error:
        DeepUSPSMethod(given)
    assert str(error.value) == message
