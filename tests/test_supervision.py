"""A command in a child process: what it receives, how it ends, and that it is started again."""

import signal
import subprocess
import sys

import pytest

COMMAND = """
import os, signal, sys, time
from genbench.interruption import handle_signals
from genbench.supervision import Doing, end_command, supervise

handle_signals()
supervise(handle_signals)
doing = Doing("Fatal was imported")
with doing:
    if not doing.how:
        os._exit(7)
print(doing.how, signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)
while "wait" in sys.argv:
    time.sleep(0.1)  # signal.pause() would not end when the signal arrives just before it
end_command(3)
"""


def test_what_ended_the_process_is_told_to_the_next_one():
    ended = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "exit code 7 set()\n", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_was_started_again_can_be_ended(number, code):
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout.readline()
        run.send_signal(number)
        assert run.wait(60) == code
        assert run.stderr.read().count(b"\n") == 1


def test_a_rank_that_others_wait_for_is_not_started_again(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    ended = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True)
    line = "genbench: its process was ended by exit code 7 while Fatal was imported\n"
    assert (ended.returncode, ended.stderr) == (2, line)


def test_a_profiled_command_runs_in_its_own_process(tmp_path):
    code = "import sys; sys.setprofile(lambda *_: None); from genbench.supervision import supervise, os\n"
    code += "before = os.getpid(); supervise(lambda: None); print(before == os.getpid())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


AGAIN = """
import os, signal
from genbench.interruption import handle_signals

def signal_twice(descriptor, content):
    write(descriptor, content)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)

handle_signals()
write, os.write = os.write, signal_twice
os.kill(os.getpid(), signal.SIGINT)
"""


def test_further_signals_do_not_write_the_line_again():
    ended = subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, text=True)
    line = "genbench: interrupted; run the same command to continue\n"
    assert (ended.returncode, ended.stderr) == (130, line)
