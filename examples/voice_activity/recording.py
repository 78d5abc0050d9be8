"""Sound to listen to: a WAV file, or sentences that espeak-ng speaks, between a hiss and a beep."""

import ctypes
import math
import wave

import espeakng_loader
import numpy as np
from scipy.signal import resample_poly

RATE = 16_000  # samples per second
SENTENCES = ("Is there anybody listening?", "This is the voice of a machine, and nobody recorded it.")
Receive = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def read(path):
    """The sound in a WAV file of 16 bits, its channels mixed. Shape [samples], FP32 from -1 to 1, at RATE.

    Raises:
        ValueError: it is no such file.
    """
    try:
        with wave.open(str(path)) as file:
            if file.getsampwidth() != 2:
                raise wave.Error(f"{8 * file.getsampwidth()} bits")
            channels, rate = file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        got = error if str(error) else "a file that ends too early"
        raise ValueError(f"'{path}': expected a WAV file of 16 bits, got {got}; convert it") from None
    return to_rate(np.frombuffer(data, dtype="<i2").reshape(-1, channels).mean(axis=1), rate)


def say(*sentences):
    """What espeak-ng makes of each sentence. Arrays as `read` gives."""
    library = ctypes.cdll.LoadLibrary(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)  # 2: synchronous
    spoken = []

    @Receive
    def receive(samples, count, _):
        if samples and count:
            spoken[-1].append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(receive)
    for sentence in sentences:
        spoken.append([])
        text = sentence.encode()
        library.espeak_Synth(text, len(text) + 1, 0, 0, 0, 1, None, None)  # 1: the text is UTF-8
    library.espeak_Terminate()
    return [to_rate(np.concatenate(parts), rate) for parts in spoken]


def to_rate(samples, rate):
    common = math.gcd(rate, RATE)
    return resample_poly(samples / 2**15, RATE // common, rate // common).astype(np.float32)


def make():
    """A hiss, a sentence, a beep, a sentence, a hiss; about ten seconds."""
    first, second = say(*SENTENCES)
    hiss = np.random.default_rng(0).normal(scale=0.03, size=2 * RATE).astype(np.float32)
    beep = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    pause = np.zeros(RATE // 2, np.float32)
    return np.concatenate([hiss, first, pause, beep, pause, second, hiss])
