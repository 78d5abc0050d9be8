"""What is shown while models load."""

import io

from kindaware.cli.serve._progress import Bars, Lines, LoadingProgress

LINE = 'I1122 15:53:39.893168 3766 model_lifecycle.cc:472] "{}"\n'


def test_pipe_gets_a_line_for_each_model_when_it_is_done(tmp_path, capsys):
    log = tmp_path / "log"
    with LoadingProgress(log, Lines()):
        log.write_text(LINE.format("loading: a:1") + LINE.format("loading: b:1"))
        with log.open("a") as more:
            more.write(LINE.format("successfully loaded 'a'") * 2 + LINE.format("failed to load 'b'"))

    lines = capsys.readouterr().err.splitlines()
    assert [line.rsplit(maxsplit=3)[0] for line in lines] == ["a: ready", "b: failed"]


def test_line_that_comes_in_two_pieces_is_read_once_it_is_whole(tmp_path, capsys, monkeypatch):
    log = tmp_path / "log"
    progress = LoadingProgress(log, Lines())
    text = LINE.format("successfully loaded 'a'")
    log.write_text(text[:-9])
    progress._look()
    assert capsys.readouterr().err == ""

    log.write_text(text)
    progress._look()
    assert capsys.readouterr().err.startswith("a: ready after ")


def test_terminal_gets_bars_that_vanish_and_lines_that_stay(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    bars = Bars(["a", "b"])
    bars.loading("a")
    bars.done("a", "ready", 1.0, "")
    bars.loading("c")
    bars.loading("b")
    bars.close()

    assert "a: ready after 1.0 s" in terminal.getvalue()
    assert "1/3" in terminal.getvalue()
