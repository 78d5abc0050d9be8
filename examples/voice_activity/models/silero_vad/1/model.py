from pathlib import Path

import silero_vad
import torch

from kindaware import KindAwareModel

CONTEXT = 64  # samples of the chunk before, which the network sees again


class TritonPythonModel(KindAwareModel):
    num_threads = 1  # the network is too small to gain from more

    def load(self):
        path = Path(silero_vad.__file__).with_name("data") / "silero_vad.jit"
        # The file's own module keeps the state of one caller; the network inside takes and returns it.
        return torch.jit.load(path, map_location=self.device)._model

    def forward(self, SOUND, requests):
        calls = [one.correlation_id for one in requests]
        silence = (SOUND.new_zeros(CONTEXT), SOUND.new_zeros(2, 128))
        contexts, states = zip(*[self.sequence_state.get(call, silence) for call in calls], strict=True)

        sound = torch.cat([torch.stack(contexts), SOUND], dim=1)
        speech, states = self.model(sound, torch.stack(states, dim=1))

        kept = zip(SOUND[:, -CONTEXT:], states.unbind(dim=1), strict=True)
        self.sequence_state.update(zip(calls, kept, strict=True))
        return speech
