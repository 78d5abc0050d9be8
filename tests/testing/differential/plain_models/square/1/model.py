import json
import threading

import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def initialize(self, args):
        if not pb_utils.using_decoupled_model_transaction_policy(json.loads(args["model_config"])):
            raise pb_utils.TritonModelException("square must be decoupled")
        self.threads = []

    def execute(self, requests):
        for request in requests:
            thread = threading.Thread(target=self.answer, args=(request, request.get_response_sender()))
            self.threads.append(thread)
            thread.start()

    def answer(self, request, sender):
        count = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        if count[0] < 0:
            error = pb_utils.TritonError(f"IN is {count[0]}", pb_utils.TritonError.INVALID_ARG)
            sender.send(pb_utils.InferenceResponse(error=error), FINAL)
            return
        for _ in range(count[0]):
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", count)]))
        sender.send(flags=FINAL)

    def finalize(self):
        for thread in self.threads:
            thread.join()
