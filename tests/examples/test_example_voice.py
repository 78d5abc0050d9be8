"""The example of voice activity, without a server: its model beside Silero's own, and its recordings."""

import runpy
import wave
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kindaware.testing import ModelHarness

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def recording(examples):
    return SimpleNamespace(**runpy.run_path(str(examples / "voice_activity" / "recording.py")))


@pytest.fixture(scope="module")
def chunks(recording):
    """The client's own recording. Shape [chunks, 512]."""
    sound = recording.make()
    return sound[: len(sound) // 512 * 512].reshape(-1, 512)


@pytest.fixture(scope="module")
def expected(chunks):
    """What Silero's own module says of it."""
    from silero_vad import load_silero_vad

    threads = torch.get_num_threads()
    model = load_silero_vad()
    torch.set_num_threads(threads)
    return [model(torch.from_numpy(chunk.copy()), 16000).item() for chunk in chunks]


@pytest.fixture
def model(examples):
    with ModelHarness(examples / "voice_activity/models/silero_vad") as harness:
        yield harness


def entry(call, chunk, *, is_start):
    return {"inputs": {"SOUND": chunk[None]}, "correlation_id": call, "flags": int(is_start)}


def test_one_call_gets_the_probabilities_of_silero(model, chunks, expected):
    found = [
        model.infer_batch([entry("a", chunk, is_start=n == 0)])[0].outputs["SPEECH"].item()
        for n, chunk in enumerate(chunks)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert 0.2 < np.mean(np.array(found) > 0.5) < 0.6  # speech is a part of it


def test_calls_that_share_a_batch_hear_what_they_would_alone(model, chunks, expected):
    """Two side by side from the start, and one that begins a second later."""
    late, found = 31, {"a": [], "b": [], "late": []}
    for n in range(len(chunks)):
        batch = [("a", n), ("b", n)] + ([("late", n - late)] if n >= late else [])
        answers = model.infer_batch(
            [entry(call, chunks[place], is_start=place == 0) for call, place in batch]
        )
        for (call, _), answer in zip(batch, answers, strict=True):
            found[call].append(answer.outputs["SPEECH"].item())
    for probabilities in found.values():
        np.testing.assert_allclose(probabilities, expected[: len(probabilities)], atol=1e-4)


def test_model_has_the_number_of_threads_that_it_chooses(model):
    assert torch.get_num_threads() == 1
    assert "expected torch.get_num_threads() left" not in model.log_text()


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (44100, 1)])
def test_wav_files_of_any_rate_are_read(recording, tmp_path, rate, channels):
    tone = np.sin(2 * np.pi * 200 * np.arange(rate) / rate)
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes((tone * 16384).astype("<i2").repeat(channels).tobytes())
    sound = recording.read(tmp_path / "tone.wav")
    assert (sound.dtype, sound.shape) == (np.float32, (16000,))
    wanted = np.sin(2 * np.pi * 200 * np.arange(16000) / 16000) / 2
    np.testing.assert_allclose(sound[500:-500], wanted[500:-500], atol=0.01)


def test_file_of_no_use_is_refused(recording, tmp_path):
    with wave.open(str(tmp_path / "8.wav"), "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(b"\x80" * 100)
    (tmp_path / "text.wav").write_text("no sound, but more than a header's length of text")
    (tmp_path / "empty.wav").touch()
    got = {"8": "8 bits", "text": "file does not start with RIFF id", "empty": "a file that ends too early"}
    for name, text in got.items():
        expected = rf"{name}.wav': expected a WAV file of 16 bits, got {text}; convert it"
        with pytest.raises(ValueError, match=expected):
            recording.read(tmp_path / f"{name}.wav")
