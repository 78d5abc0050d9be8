"""Whatever goes wrong, a client says it in one line on stderr, in the form of the library, and fails."""

import io
import json
import re
import socket
import struct
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

ONE_ERROR = re.compile(r"[^\n]+: expected [^\n]+, got [^\n]+; [^\n]+\n")


def assert_fails(result, *, subject, got):
    assert result.returncode == 1, result
    assert ONE_ERROR.fullmatch(result.stderr), result.stderr
    assert result.stderr.startswith(subject), result.stderr
    assert re.search(rf"got .*{got}", result.stderr), result.stderr
    assert "PASS" not in result.stdout
    assert "Results is class" not in result.stdout


@contextmanager
def http_server(answers):
    """Serve {path: (status, body)} on a free port; yields HOST:PORT."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = answers.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - http.server looks for these names

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def closed_port():
    """A port that nobody listens on; bound, so that nobody will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def huge_png(width, height):
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


def test_client_missing_picture_fails(run_client, tmp_path):
    assert_fails(run_client("--image", tmp_path / "no.png"), subject="picture '", got="FileNotFoundError")


def test_client_folder_as_picture_fails(run_resnet50_client, tmp_path):
    assert_fails(run_resnet50_client("--image", tmp_path), subject="picture '", got="IsADirectoryError")


@pytest.mark.parametrize("content", [b"", b"no picture\n", b"\x89PNG\r\n\x1a\n", b"GIF89a"], ids=repr)
def test_client_file_that_is_no_picture_fails(run_resnet50_client, tmp_path, content):
    file = tmp_path / "picture.png"
    file.write_bytes(content)
    assert_fails(run_resnet50_client("--image", file), subject=f"picture '{file}'", got="")


@pytest.mark.parametrize("suffix", ["png", "jpeg", "webp", "tiff"])
def test_client_truncated_picture_fails(run_resnet50_client, tmp_path, cat, suffix):
    whole = io.BytesIO()
    cat.save(whole, suffix)
    file = tmp_path / "picture"
    file.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    assert_fails(run_resnet50_client("--image", file), subject=f"picture '{file}'", got="")


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_client_decompression_bomb_fails(run_resnet50_client, tmp_path, side):
    file = tmp_path / "bomb.png"
    file.write_bytes(huge_png(side, side))
    # Pillow only warns of the smaller one, which the client must not leave at that.
    result = run_resnet50_client("--image", file, warnings="default")
    assert_fails(result, subject=f"picture '{file}'", got="DecompressionBomb")


def test_client_thin_strip_fails(run_resnet50_client, tmp_path, cat):
    file = tmp_path / "strip.png"
    cat.resize((3000, 2)).save(file)
    assert_fails(run_resnet50_client("--image", file), subject="picture of 3000 x 2 pixels", got="1500")


def test_client_image_url_nobody_listens_fails(run_client, closed_port):
    url = f"http://127.0.0.1:{closed_port}/cat.jpg"
    assert_fails(run_client("--image_url", url), subject=f"picture '{url}'", got="Connection refused")


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://127.0.0.1/cat.jpg", "cat.jpg", "", "http://", "http://["]
)
def test_client_image_url_of_no_use_fails(run_resnet50_client, url):
    assert_fails(run_resnet50_client("--image_url", url), subject=f"picture '{url}'", got="")


def test_client_image_url_of_a_file_fails(run_resnet50_client, cat_file):
    url = f"file://{cat_file}"
    assert_fails(
        run_resnet50_client("--image_url", url), subject=f"picture '{url}'", got="neither http:// nor"
    )


def test_client_image_url_not_found_fails(run_resnet50_client):
    with http_server({}) as address:
        url = f"http://{address}/cat.jpg"
        assert_fails(
            run_resnet50_client("--image_url", url), subject=f"picture '{url}'", got="HTTP Error 404"
        )


def test_client_image_url_of_a_web_page_fails(run_resnet50_client):
    with http_server({"/cat.jpg": (200, b"<html>a cat</html>")}) as address:
        url = f"http://{address}/cat.jpg"
        assert_fails(
            run_resnet50_client("--image_url", url), subject=f"picture '{url}'", got="something else"
        )


def test_fetch_picture_over_the_limit_fails(monkeypatch):
    import imagenet_client

    monkeypatch.setattr(imagenet_client, "PICTURE_LIMIT_BYTES", 2**16)
    with (
        http_server({"/cat.jpg": (200, bytes(2**17))}) as address,
        pytest.raises(imagenet_client.ClientError, match="over 65536 bytes"),
    ):
        imagenet_client.fetch_picture(f"http://{address}/cat.jpg")


def test_fetch_picture_that_trickles_fails_in_time(monkeypatch):
    import imagenet_client

    monkeypatch.setattr(imagenet_client, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(2**16)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
                for _ in range(50):  # never silent for as long as a timeout of the socket would need
                    connection.sendall(b"x")
                    time.sleep(0.1)

        thread = threading.Thread(target=trickle)
        thread.start()
        with pytest.raises(imagenet_client.ClientError, match=r"over .* bytes or 0.5 s"):
            imagenet_client.fetch_picture(f"http://127.0.0.1:{listener.getsockname()[1]}/cat.jpg")
        thread.join()


@pytest.mark.parametrize("option", ["./resnet50_labels.txt", "elsewhere.txt"])
def test_client_named_label_file_missing_fails(run_client, cat_file, option):
    # Even where the name is that of the default: the file beside client.py is not what was asked for.
    result = run_client("--image", cat_file, "--label_file", option)
    assert_fails(result, subject="label file '", got="FileNotFoundError")


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("TABBY\n" * 999, "999 lines, 0 of them empty"),
        ("TABBY\n" * 1001, "1001 lines"),
        ("TABBY\n\n" * 499 + "TABBY\n" * 2, "1000 lines, 499 of them empty"),
        ("", "0 lines"),
        ("\nTABBY" * 1000, "1001 lines, 1 of them empty"),
    ],
    ids=["too few", "too many", "gaps", "empty", "shifted"],
)
def test_client_label_file_of_another_length_fails(run_resnet50_client, cat_file, tmp_path, text, got):
    file = tmp_path / "labels.txt"
    file.write_text(text)
    result = run_resnet50_client("--image", cat_file, "--label_file", file)
    assert_fails(result, subject=f"label file '{file}'", got=got)


def test_client_label_file_that_is_no_text_fails(run_resnet50_client, cat_file):
    result = run_resnet50_client("--image", cat_file, "--label_file", cat_file)
    assert_fails(result, subject=f"label file '{cat_file}'", got="UnicodeDecodeError")


def test_client_unreachable_server_fails(run_client, cat_file, closed_port):
    result = run_client("--image", cat_file, "--url", f"127.0.0.1:{closed_port}")
    assert_fails(result, subject=f"server at '127.0.0.1:{closed_port}'", got="Connection refused")


@pytest.mark.parametrize(
    "url", ["localhost", "https://localhost:8000", "localhost:http", "localhost:999999", "[::1", ""]
)
def test_client_url_that_is_no_address_fails(run_resnet50_client, cat_file, url):
    assert_fails(
        run_resnet50_client("--image", cat_file, "--url", url), subject="server at '", got="ValueError"
    )


def test_client_server_of_another_kind_fails(run_resnet50_client, cat_file):
    with http_server({"/": (200, b"hello")}) as address:
        result = run_resnet50_client("--image", cat_file, "--url", address)
    assert_fails(result, subject=f"server at '{address}'", got="another answer")


def test_client_server_of_another_protocol_fails(run_resnet50_client, cat_file):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            connection, _ = listener.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(b"SSH-2.0-none\r\n\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        result = run_resnet50_client("--image", cat_file, "--url", f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert_fails(result, subject="server at '", got="")


def test_connect_silent_server_fails_in_time(monkeypatch):
    import imagenet_client

    monkeypatch.setattr(imagenet_client, "TIMEOUT_SECONDS", 0.5)
    start = time.monotonic()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(imagenet_client.ClientError, match=r"server at '.*got .*time"),
    ):
        imagenet_client.connect(f"127.0.0.1:{listener.getsockname()[1]}")
    assert time.monotonic() - start < 15


def scores_of(shape, *, name="OUTPUT", datatype="FP32", value=0.5):
    num_values = 1
    for side in shape:
        num_values *= side
    return {"outputs": [{"name": name, "datatype": datatype, "shape": shape, "data": [value] * num_values}]}


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (scores_of([1, 10]), r"float32 of shape \[1, 10\]"),
        (scores_of([1000]), r"float32 of shape \[1000\]"),
        (scores_of([2, 1000]), r"float32 of shape \[2, 1000\]"),
        (scores_of([1, 1000], datatype="INT64", value=1), r"int64 of shape \[1, 1000\]"),
        (scores_of([1, 1000], datatype="BYTES", value="a"), r"object of shape \[1, 1000\]"),
        (scores_of([1, 1000], name="SCORES"), "no such output"),
        (scores_of([1, 1000], value=float("nan")), "infinite or no number"),
        ({"outputs": []}, "no such output"),
        ({}, "no such output"),
        ({"outputs": [{"name": "OUTPUT"}]}, "KeyError"),
        ([], "AttributeError"),
        ("cut short", "JSONDecodeError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "answer",
)
def test_client_answer_of_another_form_fails(run_resnet50_client, cat_file, answer, got):
    body = b'{"outputs": [' if answer == "cut short" else json.dumps(answer).encode()
    answers = {
        "/v2/health/live": (200, b""),
        "/v2/models/resnet50/config": (200, b'{"name": "resnet50"}'),
        "/v2/models/resnet50/infer": (200, body),
    }
    with http_server(answers) as address:
        result = run_resnet50_client("--image", cat_file, "--url", address)
    assert_fails(result, subject="model 'resnet50'", got=got)


def test_client_refusal_of_several_lines_is_printed_in_one(run_resnet50_client, cat_file):
    answers = {
        "/v2/health/live": (200, b""),
        "/v2/models/resnet50/config": (200, b"{}"),
        "/v2/models/resnet50/infer": (500, json.dumps({"error": "boom\n\nAt:\n  model.py(7)"}).encode()),
    }
    with http_server(answers) as address:
        result = run_resnet50_client("--image", cat_file, "--url", address)
    assert_fails(result, subject="model 'resnet50'", got=r"'boom At: model.py\(7\)'")


def test_client_right_answer_of_the_same_stand_in_passes(run_resnet50_client, cat_file):
    # Shows that the failures above are due to the answers and not to the stand-in.
    answer = scores_of([1, 1000])
    answer["outputs"][0]["data"][281] = 9.0
    answers = {
        "/v2/health/live": (200, b""),
        "/v2/models/resnet50/config": (200, b'{"name": "resnet50"}'),
        "/v2/models/resnet50/infer": (200, json.dumps(answer).encode()),
    }
    with http_server(answers) as address:
        result = run_resnet50_client("--image", cat_file, "--url", f"http://{address}")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "Results is class: TABBY\nPASS: ResNet50 instance kind\n"


def test_client_image_takes_precedence_over_image_url(run_resnet50_client, closed_port, tmp_path):
    result = run_resnet50_client(
        "--image", tmp_path / "no.png", "--image_url", f"http://127.0.0.1:{closed_port}"
    )
    assert_fails(result, subject="picture '", got="FileNotFoundError")


def test_client_unknown_option_fails_without_traceback(run_resnet50_client):
    result = run_resnet50_client("--modle_name", "resnet50")
    assert result.returncode == 2
    assert "unrecognized arguments" in result.stderr
    assert "Traceback" not in result.stderr


def test_client_options_and_defaults_are_those_users_know(resnet50):
    import imagenet_client

    args = imagenet_client.parse_args(resnet50, [])
    assert (args.model_name, args.url, args.verbose) == ("resnet50", "localhost:8000", False)
    assert args.image_url == "http://images.cocodataset.org/test2017/000000557146.jpg"
    assert (args.image, args.label_file) == (None, None)
    assert str(resnet50.default_labels[0]) == "resnet50_labels.txt"
    assert imagenet_client.parse_args(resnet50, ["-v"]).verbose
    assert imagenet_client.parse_args(resnet50, ["--verbose"]).verbose
