"""``castlit.export`` from the command line."""

import torch
import torchvision

from castlit.interop import open_backbone


def test_to_detectron2_and_back(run_program, tmp_path):
    network = torchvision.models.resnet18().eval()
    torch.save({"state_dict": {f"module.{key}": x for key, x in network.state_dict().items()}}, tmp_path / "in.pth.tar")
    there = run_program("export", "checkpoint=in.pth.tar", "output=a/r18.pkl", "format=detectron2", cwd=tmp_path)
    assert there.returncode == 0, there.stderr
    assert "INPUT.FORMAT RGB" in there.stdout
    back = run_program("export", "checkpoint=a/r18.pkl", "output=back.pth", cwd=tmp_path)
    assert back.returncode == 0, back.stderr
    images = torch.randn(1, 3, 64, 64)
    expected = torch.nn.Sequential(*list(network.children())[:-2])(images)
    torch.testing.assert_close(open_backbone(tmp_path / "back.pth")(images), expected, rtol=0, atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {"in.pth.tar", "a", "back.pth"}


def test_one_line_errors(run_program, tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "here.pth")
    before = (tmp_path / "here.pth").read_bytes()
    for words, told in (
        (["checkpoint=random", "output=x.pkl", "format=detectron"], "did you mean 'detectron2'"),
        (["checkpoint=none.pth", "output=x.pth"], "checkpoint=none.pth: no such file"),
        (["checkpoint=here.pth", "output=./here.pth"], "output=./here.pth is the checkpoint itself"),
    ):
        result = run_program("export", *words, cwd=tmp_path)
        assert result.returncode == 1
        assert told in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert (tmp_path / "here.pth").read_bytes() == before
