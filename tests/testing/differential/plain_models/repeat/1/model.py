import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils


def read(request, name):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


class TritonPythonModel:
    def initialize(self, args):
        self.idle = threading.Condition()
        self.num_running = 0

    def execute(self, requests):
        for request in requests:
            with self.idle:
                self.num_running += 1
            threading.Thread(target=self.answer, args=(request,)).start()
            time.sleep(read(request, "WAIT")[0] / 1000)

    def answer(self, request):
        sender = request.get_response_sender()
        numbers, delays = read(request, "IN"), read(request, "DELAY")
        if len(numbers) != len(delays):
            sender.send(
                pb_utils.InferenceResponse(error=pb_utils.TritonError("IN and DELAY differ in length"))
            )
        else:
            for index, (number, delay) in enumerate(zip(numbers, delays, strict=True)):
                time.sleep(delay / 1000)
                out = pb_utils.Tensor("OUT", np.array([number], np.int32))
                idx = pb_utils.Tensor("IDX", np.array([index], np.uint32))
                sender.send(pb_utils.InferenceResponse([out, idx]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        with self.idle:
            self.num_running -= 1
            self.idle.notify_all()

    def finalize(self):
        with self.idle:
            self.idle.wait_for(lambda: self.num_running == 0)
