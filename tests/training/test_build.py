"""Settings that Lightning would check late, or not at all, are refused before a run begins."""

import pytest

from castlit.training.build import build, build_trainer
from castlit.utils.validation import InputError
from support.configs import composed

PLAIN = ["trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.benchmark=false"]
TIME = r"trainer.max_time must be null or DD:HH:MM:SS, such as 00:00:05:00; got "


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches must be at least 1, got 0"),
        ("trainer.accumulate_grad_batches=null", "trainer.accumulate_grad_batches must be a whole number, got None"),
        ("trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch must be at least 1, got 0"),
        ("budget.validate_every=0", "trainer.check_val_every_n_epoch must be at least 1, got 0"),
        ("trainer.max_time=5", f"{TIME}5"),
        ("trainer.max_time=00:05:00", f"{TIME}00:05:00"),
        ("trainer.max_time={hours: 5}", f"{TIME}.*hours"),
    ],
)
def test_refused(tmp_path, word, line):
    with pytest.raises(InputError, match=f"^{line}"):
        build_trainer(composed(tmp_path, word, *PLAIN))


@pytest.mark.parametrize("time", ["null", "00:00:05:00", "{_target_: datetime.timedelta, minutes: 5}"])
def test_accepted(tmp_path, time):
    words = [f"trainer.max_time={time}", "trainer.check_val_every_n_epoch=null", "trainer.accumulate_grad_batches=2"]
    assert build_trainer(composed(tmp_path, *words, *PLAIN)).accumulate_grad_batches == 2


@pytest.mark.parametrize("name", ["null", "true", "[a,b]"])
def test_name(tmp_path, name):
    with pytest.raises(InputError, match=r"^name must be text, such as my_run; got "):
        build(composed(tmp_path, f"name={name}"))
