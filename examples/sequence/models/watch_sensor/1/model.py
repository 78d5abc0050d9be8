"""Tells of each reading of a sensor how far it is from those that the sensor sent before.

A sensor's readings are a sequence. For each one the model keeps how many there were, their mean, and the sum
of their squared distances from it; Welford's method brings the three up to date.
"""

import torch

from kindaware import KindAwareModel, RequestError


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def preprocess(self, inputs):
        if not inputs["READING"].isfinite().all():
            raise RequestError("READING is no number")
        return inputs

    def forward(self, READING, requests):
        nothing = READING.new_zeros(3)
        sensors = [one.correlation_id for one in requests]
        kept = torch.stack([self.sequence_state.get(sensor, nothing) for sensor in sensors])
        count, mean, squares = kept.unsqueeze(-1).unbind(1)

        spread = (squares / (count - 1)).sqrt()  # of fewer than two readings there is none
        distance = READING - mean
        deviations = torch.where(spread > 0, distance / spread, torch.zeros_like(mean))

        count = count + 1
        mean = mean + distance / count
        squares = squares + distance * (READING - mean)
        self.sequence_state.update(zip(sensors, torch.cat([count, mean, squares], dim=1), strict=True))
        return mean, deviations
