"""The check for undeclared files sees what compiled code opens, and does not blame a model for other processes."""

import ctypes
import os
import subprocess
import sys

import pytest
import torch

from genbench.check.reads import files_are_declared
from genbench.check.subject import Subject
from genbench.contract import DataSpec, Loss, Model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify belongs to Linux")
READER = "import sys, time\nwhile True:\n    open(sys.argv[1]).close()\n    print(flush=True)\n    time.sleep(0.01)\n"


class Quiet(Model):
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.weight = torch.nn.Parameter(torch.zeros(data.shape))

    def players(self):
        return {"all": [self.weight]}

    def loss(self, batch, player, step, gen):
        return Loss(self.weight.square().mean())

    def sample(self, n, gen, condition=None):
        return torch.rand(n, *self.data.shape, generator=gen) + self.weight


class OpensInC(Quiet):
    def sample(self, n, gen, condition=None):
        libc = ctypes.CDLL(None)
        os.close(libc.open(b"table.bin", os.O_RDONLY))
        return super().sample(n, gen, condition)


@pytest.fixture
def message(tmp_path, monkeypatch):
    """The check's message for a model drawn in a folder with two files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.bin").write_bytes(b"1")
    (tmp_path / "page.css").write_bytes(b"2")
    return lambda kind: files_are_declared(Subject(kind, DataSpec(1, 4, 4), None, None))


def test_a_file_that_compiled_code_opens_is_named(message, tmp_path):
    assert f"reads {tmp_path / 'table.bin'}, which files() does not name" in message(OpensInC)


def test_a_file_that_another_process_opens_all_the_time_is_not_the_models(message, tmp_path):
    with subprocess.Popen([sys.executable, "-c", READER, tmp_path / "page.css"], stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout.readline()
            assert message(Quiet) == ""
            assert f"reads {tmp_path / 'table.bin'}, which" in message(OpensInC)
        finally:
            reader.kill()
