import json
import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Sends each number of IN as a response of its own, after the DELAY of the same place."""

    def initialize(self, args):
        self.model_config = model_config = json.loads(args["model_config"])

        using_decoupled = pb_utils.using_decoupled_model_transaction_policy(model_config)
        if not using_decoupled:
            raise pb_utils.TritonModelException(
                f"the model `{args['model_name']}` is for the decoupled transaction policy"
            )

        # Threads that have not sent their last response yet
        self.inflight_thread_count = 0
        self.inflight_thread_count_lck = threading.Lock()

    def execute(self, requests):
        for request in requests:
            self.process_request(request)

    def process_request(self, request):
        # A thread for each request: execute returns before the responses are sent.
        thread = threading.Thread(
            target=self.response_thread,
            args=(
                request.get_response_sender(),
                pb_utils.get_input_tensor_by_name(request, "IN").as_numpy(),
                pb_utils.get_input_tensor_by_name(request, "DELAY").as_numpy(),
            ),
        )
        thread.daemon = True
        with self.inflight_thread_count_lck:
            self.inflight_thread_count += 1
        thread.start()

        wait_input = pb_utils.get_input_tensor_by_name(request, "WAIT").as_numpy()
        time.sleep(wait_input[0] / 1000)

    def response_thread(self, response_sender, in_input, delay_input):
        for idx in range(in_input.size):
            in_value = in_input[idx]
            delay_value = delay_input[idx]

            # One response per number
            time.sleep(delay_value / 1000)
            idx_output = pb_utils.Tensor("IDX", np.array([idx], np.uint32))
            out_output = pb_utils.Tensor("OUT", np.array([in_value], np.int32))
            response = pb_utils.InferenceResponse(output_tensors=[idx_output, out_output])
            response_sender.send(response)

        # Nothing follows
        response_sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

        with self.inflight_thread_count_lck:
            self.inflight_thread_count -= 1

    def finalize(self):
        print("Finalize invoked")

        inflight_threads = True
        while inflight_threads:
            with self.inflight_thread_count_lck:
                inflight_threads = self.inflight_thread_count != 0
            if inflight_threads:
                time.sleep(0.1)

        print("Finalize complete...")
