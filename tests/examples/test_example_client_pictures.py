"""Pictures that a client can't use: it says so in one line on stderr, in the library's form, and fails."""

import io
import socket
import struct
import threading
import time
import zlib
from contextlib import suppress

import pytest
from client_kit import assert_fails, http_server


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


def test_client_image_url_may_be_the_path_of_a_file(cat, cat_file, tmp_path, monkeypatch):
    import imagenet_client

    monkeypatch.chdir(cat_file.parent)
    for place in (str(cat_file), cat_file.name, f"./{cat_file.name}"):
        assert imagenet_client.find_picture(place).tobytes() == cat.tobytes()


def test_client_image_url_of_a_missing_file_says_so(run_resnet50_client):
    result = run_resnet50_client("--image_url", "cat.jpg")
    assert_fails(result, subject="picture 'cat.jpg'", got="FileNotFoundError")


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


def test_client_image_takes_precedence_over_image_url(run_resnet50_client, closed_port, tmp_path):
    result = run_resnet50_client(
        "--image", tmp_path / "no.png", "--image_url", f"http://127.0.0.1:{closed_port}"
    )
    assert_fails(result, subject="picture '", got="FileNotFoundError")
