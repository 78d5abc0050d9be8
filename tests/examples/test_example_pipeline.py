"""The pipeline on a real server: names for JPEG files, and files that are none."""

import io
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from PIL import Image
from test_example_readmes import PREAMBLE, SERVE, read_blocks, run_commands, run_well  # noqa: F401
from tritonclient.utils import InferenceServerException

from kindaware.testing import TritonServer

pytestmark = pytest.mark.server
CATS = {"tiger cat", "Egyptian cat", "tabby"}


@pytest.fixture(scope="module")
def server(examples):
    repositories = [examples / name / "models" for name in ("pipeline", "efficientnet_lite0")]
    with TritonServer(repositories, args=["--disable-auto-complete-config"]) as server:
        yield server


def to_jpeg(picture, **options):
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def bomb(side):
    """A few hundred bytes that say they are a square of so many pixels."""
    data = bytearray(to_jpeg(Image.new("RGB", (8, 8))))
    place = data.index(b"\xff\xc0") + 5  # the frame's height and width
    data[place : place + 4] = side.to_bytes(2, "big") * 2
    return bytes(data)


def names_of(server, *files):
    """What the server calls each picture of one request."""
    jpeg = grpcclient.InferInput("JPEG", [len(files), 1], "BYTES")
    jpeg.set_data_from_numpy(np.array([[file] for file in files], dtype=object))
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        answer = client.infer("name_picture", [jpeg], client_timeout=120)
    assert (np.diff(answer.as_numpy("PROBABILITY"), axis=1) <= 0).all()
    return [[name.decode() for name in row] for row in answer.as_numpy("NAME")]


def test_pipeline_sees_a_cat_in_a_file(server, cat):
    [names] = names_of(server, to_jpeg(cat))
    assert names[0] in CATS
    assert set(names) >= CATS


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_pipeline_takes_jpegs_in_other_colours(server, cat, mode):
    [names] = names_of(server, to_jpeg(cat.convert(mode)))
    assert names[0] in CATS


def test_pipeline_takes_a_strip(server):
    assert len(names_of(server, to_jpeg(Image.new("RGB", (1, 65_000))))) == 1


def test_pipeline_turns_a_picture_as_its_file_says(examples, cat):
    model = runpy.run_path(str(examples / "pipeline/models/name_picture/1/model.py"))
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned to the left
    turned = model["decode"](to_jpeg(cat.rotate(-90, expand=True), quality=95, exif=exif))
    assert turned.size == cat.size
    assert np.abs(np.asarray(turned, float) - np.asarray(cat, float)).mean() < 5


def test_pipeline_gives_the_network_what_its_own_client_does(examples, cat, efficientnet):
    """But for the order of cutting and shrinking."""
    import imagenet_client

    model = runpy.run_path(str(examples / "pipeline/models/name_picture/1/model.py"))
    ours = model["to_tensor"](cat).numpy()
    [theirs] = imagenet_client.prepare(cat, efficientnet.preparation)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 0.02


BAD = {
    "truncated": (lambda good: good[:5000], "image file is truncated"),
    "bomb": (lambda good: bomb(10_000), "could be decompression bomb"),
    "large bomb": (lambda good: bomb(65_500), "could be decompression bomb"),
    "empty": (lambda good: b"", "something else"),
    "no picture": (lambda good: b"\xff\xfe not a picture\0", "something else"),
}


@pytest.mark.parametrize("what", BAD)
def test_pipeline_refuses_a_bad_file_and_answers_those_in_flight_with_it(server, cat, what):
    good = to_jpeg(cat)
    make, text = BAD[what]
    with ThreadPoolExecutor(8) as pool:
        requests = [pool.submit(names_of, server, make(good) if n == 3 else good) for n in range(8)]
        for n, request in enumerate(requests):
            if n == 3:
                with pytest.raises(InferenceServerException, match=text) as refused:
                    request.result()
                assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
                assert "input 'JPEG': expected a whole picture in JPEG format, got " in str(refused.value)
            else:
                assert request.result()[0][0] in CATS


def test_pipeline_keeps_the_order_of_pictures_in_a_request(server, cat):
    black = to_jpeg(Image.new("RGB", (300, 200)))
    alone = names_of(server, black)[0]
    cat_names, black_names = names_of(server, to_jpeg(cat), black)
    assert (cat_names[0] in CATS, black_names) == (True, alone)


def test_readme_of_the_pipeline_works_as_written(examples, run_commands, tmp_path):  # noqa: F811
    readme = examples / "pipeline" / "README.md"
    (_, make), (_, send), (_, send_half) = read_blocks(readme)
    assert make.startswith(PREAMBLE)
    assert make.endswith(SERVE)
    run_well(run_commands, make.removeprefix(PREAMBLE).removesuffix(SERVE))
    shown, refused = re.findall(r"^```text\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL)
    with TritonServer(tmp_path / "models", args=["--disable-auto-complete-config"]) as server:
        output = run_well(run_commands, f"{send.rstrip()} --url {server.http_url}\n")
        result = run_commands(f"{send_half.rstrip()} --url {server.http_url}\n")
    numbers = re.compile(r"[\d.]+%")
    assert numbers.sub("%", output) == numbers.sub("%", shown)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == refused


def test_client_of_the_pipeline_goes_on_after_a_file_that_is_missing(examples, server, cat, tmp_path):
    (tmp_path / "cat.jpg").write_bytes(to_jpeg(cat))
    command = [sys.executable, examples / "pipeline" / "client.py", "none.jpg", "cat.jpg"]
    done = subprocess.run(
        [*command, "--url", server.http_url], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("none.jpg: [Errno 2]")
    assert len(done.stdout.splitlines()) == 5
