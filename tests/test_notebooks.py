"""A notebook's kernel: every end of it is one line, and nobody's settings or leftovers reach it."""

import os
import socket
import subprocess
import sys
import textwrap

import nbformat
import pytest

from commands import notebooks
from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.base.hardware import Watch

PARAMETERS = {"profile": "smoke", "seed": 5}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository's folder, whose notebooks `write` makes."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    return tmp_path


def write(root, source, name="01_data"):
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "x"}
    parameters = nbformat.v4.new_code_cell("profile, seed = 'cpu', 0")
    parameters.metadata["tags"] = ["parameters"]
    text = nbformat.v4.new_markdown_cell("# Title")
    made.cells = [text, parameters, nbformat.v4.new_code_cell(textwrap.dedent(source))]
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(made, root / "notebooks" / f"{name}.ipynb")


def failure(root, capfd, run=None) -> str:
    """The one line that a run's end is told in; nothing else is printed."""
    with pytest.raises(UserError) as error:
        notebooks.execute("01_data", PARAMETERS, run or root / "run")
    assert capfd.readouterr().err == ""
    assert not (root / "run" / ".kernel").exists()
    text = str(error.value)
    assert "\n" not in text and text.endswith("the same command goes on from there")
    return text


ENDS = {
    "os.kill(os.getpid(), 9)": "its kernel was ended by SIGKILL: too little memory, or",
    "os.kill(os.getpid(), 11)": "its kernel was ended by SIGSEGV; ",
    "os._exit(3)": "its kernel ended with status 3 (",
}


@pytest.mark.parametrize("code", ENDS)
def test_a_kernel_that_ends_is_told_in_one_line(root, capfd, code):
    write(root, f"import os\nprint('made')\n{code}")
    line = failure(root, capfd)
    assert line.startswith(f"notebooks/01_data.ipynb, cell 3: {ENDS[code]}")


def test_a_killed_kernel_s_memory_is_told(root):
    write(root, "import os\nos.kill(os.getpid(), 9)")
    watch = Watch()
    watch.held = 3 * 2**30
    with pytest.raises(
        UserError, match=r"too little memory, .* \(the run held 3\.0 of \d+\.\d GB\)"
    ):
        notebooks.execute("01_data", PARAMETERS, root / "run", watch)


def test_a_kernel_that_cannot_be_imported_is_told_in_one_line(root, capfd, monkeypatch):
    (root / "ipykernel_launcher.py").write_text("raise ImportError('no ipykernel here')")
    monkeypatch.setenv("PYTHONPATH", str(root))
    write(root, "1")
    line = failure(root, capfd)
    assert "01_data.ipynb: its kernel ended with status 1 (ImportError: no ipykernel her" in line


def test_a_kernel_that_is_not_there_is_told_in_one_line(root, capfd, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(root / "no-python"))
    write(root, "1")
    line = failure(root, capfd)
    assert "01_data.ipynb: no kernel can be started (" in line and "`make env`" in line


def test_odd_names_and_long_paths_are_no_trouble(root, capfd):
    """Sockets are files with short names: elsewhere, then."""
    write(root, "import os\nopen('made', 'a').write(profile)")
    for name in ("my répro (1) {x} $HOME's; #%", "x" * 150):
        run = root / name
        assert notebooks.execute("01_data", PARAMETERS, run).parent == run / "notebooks"
        assert {path.name for path in run.iterdir()} == {"notebooks"}
    assert (root / "made").read_text() == "smoke" * 2


def test_without_socket_files_there_are_ports_of_this_machine(root, monkeypatch):
    monkeypatch.setattr(notebooks, "_holds_sockets", lambda stem: False)
    assert "transport" not in notebooks._config(root).KernelManager
    write(root, "1")
    notebooks.execute("01_data", PARAMETERS, root / "run")


def test_a_folder_without_sockets_is_noticed(root, monkeypatch):
    assert notebooks._holds_sockets(root / "a") and not list(root.iterdir())
    assert not notebooks._holds_sockets(root / "none" / "a")
    assert not notebooks._holds_sockets(root / ("a" * 150))
    monkeypatch.delattr(socket, "AF_UNIX")
    assert not notebooks._holds_sockets(root / "a")


def test_runs_meet_nowhere(root):
    """Not even those that were killed and left everything behind."""
    write(root, "import os\nassert not os.path.exists('kernel-ipc-1')")
    left = root / "run" / ".kernel"
    left.mkdir(parents=True)
    (left / "socket-1").touch()
    places = []
    for run in (root / "run", root / "other"):
        run.mkdir(exist_ok=True)
        with notebooks._place(run) as place:
            assert not list(place.iterdir())
            places.append(notebooks._config(place).KernelManager.ip)
    assert len(set(places)) == 2
    notebooks.execute("01_data", PARAMETERS, root / "run")
    assert not left.exists()


def test_what_the_process_had_set_is_there_again(root, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", "mine")
    monkeypatch.delenv("JUPYTER_DATA_DIR", raising=False)
    with notebooks._place(root) as place:
        assert os.environ["IPYTHONDIR"].startswith(str(place))
    assert os.environ["IPYTHONDIR"] == "mine" and "JUPYTER_DATA_DIR" not in os.environ


HOSTILE = {
    ".config/matplotlib/matplotlibrc": "text.usetex: True\nsavefig.bbox: tight\n",
    ".ipython/profile_default/startup/0.py": "raise SystemExit('a user`s profile')",
    ".ipython/profile_default/ipython_kernel_config.py": "1/0",
    ".jupyter/jupyter_config.py": "1/0",
    ".jupyter/jupyter_nbconvert_config.py": "1/0",
    ".local/share/jupyter/kernels/python3/kernel.json": '{"argv": ["false"], "language": "python",'
    ' "display_name": "another"}',
    ".local/share/jupyter/nbconvert/templates/lab/index.html.j2": "another page",
    "path/lib/__init__.py": "raise SystemExit('another lib')",
}
SHOWN = """
import os, sys
import lib.base.files, matplotlib
kept = {"RANK", "WORLD_SIZE", "GIT_DIR", "PIP_USER"} & set(os.environ)
print(lib.base.files.ROOT, matplotlib.rcParams["text.usetex"], sorted(kept))
print(matplotlib.rcParams["savefig.bbox"], sys.executable)
"""


def test_a_user_s_settings_do_not_reach_a_notebook(tmp_path):
    for name, text in HOSTILE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    write(tmp_path, SHOWN)
    code = f"""
import pathlib
from commands import notebooks
notebooks.ROOT = pathlib.Path({str(tmp_path)!r})
notebooks.execute("01_data", {PARAMETERS}, notebooks.ROOT / "run")
"""
    surroundings = {"HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "path")}
    surroundings |= {"RANK": "3", "WORLD_SIZE": "4", "GIT_DIR": str(tmp_path), "PIP_USER": "1"}
    surroundings |= {"JUPYTER_PATH": str(tmp_path / ".local/share/jupyter")}
    surroundings |= {"PATH": os.environ["PATH"], "MPLBACKEND": "TkAgg"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=surroundings, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = nbformat.read(tmp_path / "run" / "notebooks" / "01_data.ipynb", as_version=4)
    text = made.cells[-1].outputs[0].text
    assert text == f"{ROOT} False ['PIP_USER']\nNone {sys.executable}\n"
    html = (tmp_path / "run" / "notebooks" / "01_data.html").read_text(encoding="utf-8")
    assert "another page" not in html and "PIP_USER" in html
