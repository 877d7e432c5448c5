"""The front door: quick, and errors are one line that helps."""

from __future__ import annotations

import subprocess
import sys

import pytest

from codelength.cli import main as cli
from codelength.cli.main import COMMANDS, main
from codelength.errors import UsageError


def fails(capsys, arguments: list[str], code: int) -> str:
    """The one line on stderr of a call that fails with `code`."""
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0]


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, words in COMMANDS.items():
        assert name in out
        assert words.split()[0] in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: codelength {name}")
    assert err == ""


def test_no_arguments_shows_help(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: codelength")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from codelength.cli.main import main; main(['--help']); main(['sample', '--help']); "
        "main(['report', '--help']); main(['demo', '--help']); "
        "print(sorted({'torch', 'numpy', 'sklearn', 'matplotlib', 'rich', 'jinja2', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_unknown_names_get_the_nearest(capsys):
    assert "unknown command 'trian'; did you mean 'train'?" in fails(capsys, ["trian"], 2)
    assert "unknown data set 'mnist5'; did you mean 'mnist5k'?" in fails(capsys, ["data", "info", "mnist5"], 2)
    line = fails(capsys, ["train", "demo-mnist5k-mad"], 2)
    assert "unknown recipe 'demo-mnist5k-mad'; did you mean 'demo-mnist5k-made'?" in line


def test_unknown_key_gets_the_nearest(capsys, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("data: {name: digits}\nmodel: {system: made}\ntraining: {step: 3}\n")
    line = fails(capsys, ["train", str(recipe)], 2)
    assert "'training.step'; did you mean 'training.steps'?" in line


def test_unknown_option(capsys):
    assert "No such option '--nonsense'" in fails(capsys, ["sample", "run", "--nonsense"], 2)


def test_not_a_run(capsys, tmp_path):
    for arguments in (["report", str(tmp_path)], ["sample", str(tmp_path), "-o", str(tmp_path / "x.png")]):
        assert "is no run: it has no recipe.yaml" in fails(capsys, arguments, 2)


@pytest.mark.parametrize("arguments", [["--debug", "trian"], ["trian", "--debug"]])
def test_debug_shows_the_traceback(arguments):
    with pytest.raises(UsageError, match="did you mean 'train'"):
        main(arguments)


def test_exit_code_of_a_failure(capsys, monkeypatch):
    def fail(**_):
        raise OSError("the disk is gone\nreally")

    monkeypatch.setattr(cli.codelength, "main", fail)
    assert fails(capsys, ["data", "list"], 1) == "error: the disk is gone really"


def test_interrupted(capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.codelength, "invoke", stop)
    assert main(["data", "list"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_installed_program_fails_in_one_line():
    done = subprocess.run([sys.executable, "-m", "codelength.cli.main", "trian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
