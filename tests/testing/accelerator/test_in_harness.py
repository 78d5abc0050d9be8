"""Models of plain pb_utils on simulated GPUs: what the harness says about each mistake."""

import threading

import numpy as np
import pytest
import torch
from torch.utils import dlpack

from kindaware.testing import (
    HarnessError,
    InferenceError,
    ModelHarness,
    ModelLoadError,
    SimulatedAccelerator,
    TritonContractError,
)

CONFIG = {
    "max_batch_size": 8,
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [4]}],
}
ROW = np.array([[1, 2, 3, 4]], np.float32)


class Doubler:
    """Answers twice its input, from the GPU that its instance has. No mistake."""

    def initialize(self, args):
        self.device = torch.device("cuda", int(args["model_instance_device_id"]))
        self.factor = torch.full((4,), 2.0, device=self.device)

    def execute(self, requests):
        import triton_python_backend_utils

        self.pb_utils = triton_python_backend_utils
        return [self.answer(request) for request in requests]

    def read(self, request):
        return torch.from_numpy(self.pb_utils.get_input_tensor_by_name(request, "X").as_numpy())

    def answer(self, request):
        return self.respond(self.compute(self.read(request).to(self.device)).cpu().numpy())

    def respond(self, array):
        return self.pb_utils.InferenceResponse([self.pb_utils.Tensor("Y", array)])

    def compute(self, x):
        return x * self.factor


def serve(model, *, device_id=1, accelerator="simulated", config=CONFIG, **options):
    return ModelHarness(
        model, config=config, kind="GPU", device_id=device_id, accelerator=accelerator, **options
    )


@pytest.mark.parametrize("device_id", [0, 1, 3])
def test_model_without_a_mistake_is_answered_from_its_own_gpu(device_id):
    with serve(Doubler, device_id=device_id) as model:
        np.testing.assert_array_equal(model.infer(X=ROW).outputs["Y"], 2 * ROW)
        assert len(model.accelerator.devices) == device_id + 1
        used = [device.memory.allocated_bytes > 0 for device in model.accelerator.devices]
        assert used == [False] * device_id + [True]
        assert model.accelerator.num_pending == 0


class WrongGpu(Doubler):
    """Puts its weights on the current GPU, which nobody has set."""

    def initialize(self, args):
        super().initialize(args)
        self.factor = torch.full((4,), 2.0).cuda()


def test_weights_on_the_wrong_gpu_are_an_error_and_can_be_seen():
    with serve(WrongGpu) as model:
        with pytest.raises(InferenceError, match="at least two devices, cuda:1 and cuda:0!"):
            model.infer(X=ROW)
        assert model.accelerator.devices[0].memory.allocated_bytes > 0


class ReadsEarly(Doubler):
    """Does not wait for the copy of the answer."""

    def answer(self, request):
        y = self.compute(self.read(request).to(self.device))
        return self.respond(y.to("cpu", non_blocking=True).numpy())


def test_answer_that_is_read_too_early_is_nan():
    with serve(ReadsEarly) as model:
        assert np.isnan(model.infer(X=ROW).outputs["Y"]).all()


class Overwrites(Doubler):
    """Sends all requests through one page-locked buffer, without a wait between them."""

    def execute(self, requests):
        import triton_python_backend_utils

        self.pb_utils = triton_python_backend_utils
        staged = torch.empty(1, 4, pin_memory=True)
        answers = []
        for request in requests:
            staged.copy_(self.read(request))
            answers.append(self.compute(staged.to(self.device, non_blocking=True)))
        return [self.respond(answer.cpu().numpy()) for answer in answers]


def test_buffer_that_is_written_while_a_copy_reads_it_is_named():
    with serve(Overwrites) as model:
        np.testing.assert_array_equal(model.infer(X=ROW).outputs["Y"], 2 * ROW)
        with pytest.raises(TritonContractError, match="send other data than the model had written"):
            model.infer_batch([{"X": ROW}, {"X": 10 * ROW}])


class Races(Doubler):
    """Uses weights on a stream that did not wait for them."""

    def initialize(self, args):
        super().initialize(args)
        self.stream = torch.cuda.Stream(self.device)

    def compute(self, x):
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            return super().compute(x)


def test_result_that_is_used_on_another_stream_without_a_wait_is_a_race():
    text = r"run copy to the host on the default stream of cuda:1 while stream 0x\w+ of cuda:1 still writes"
    with serve(Races) as model, pytest.raises(TritonContractError, match=text):
        model.infer(X=ROW)


class HandsOver(Doubler):
    """Answers with a tensor on the GPU."""

    hand = staticmethod(lambda tensor: tensor)

    def answer(self, request):
        y = self.compute(self.read(request).to(self.device))
        return self.pb_utils.InferenceResponse([self.pb_utils.Tensor.from_dlpack("Y", self.hand(y))])


class HandsOverCapsule(HandsOver):
    """Answers with a capsule, for which nobody waits but what is on the default stream."""

    def hand(self, tensor):
        return dlpack.to_dlpack(tensor)


class HandsOverOwnCapsule(HandsOver):
    """Answers with the capsule that the tensor makes itself."""

    def hand(self, tensor):
        return tensor.__dlpack__()


class ComputesAside(HandsOverCapsule):
    """Computes on a stream of its own."""

    def compute(self, x):
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            y = super().compute(x)
        self.order(side, y)
        return y

    def order(self, side, y):
        """Leave it at that."""


class ComputesAsideInOrder(ComputesAside):
    """Computes on a stream of its own, for which the default stream waits."""

    def order(self, side, y):
        torch.cuda.default_stream(self.device).wait_stream(side)
        y.record_stream(torch.cuda.default_stream(self.device))


def test_tensor_that_is_handed_over_on_the_gpu_is_waited_for():
    with serve(HandsOver) as model:
        np.testing.assert_array_equal(model.infer(X=ROW).outputs["Y"], 2 * ROW)


CAPSULE = "on the server's default stream of cuda:1 while stream 0x[0-9a-f]+ of cuda:1 still writes"


def sending(model_class):
    """The same model, which sends its answers through a response sender."""

    class Sends(model_class):
        def execute(self, requests):
            import triton_python_backend_utils as pb_utils

            self.pb_utils = pb_utils
            for request in requests:
                flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
                request.get_response_sender().send(self.answer(request), flags=flags)

    return Sends


DECOUPLED = {**CONFIG, "model_transaction_policy": {"decoupled": True}}


@pytest.mark.parametrize("model_class", [HandsOverCapsule, HandsOverOwnCapsule, ComputesAsideInOrder])
def test_capsule_is_copied_after_the_work_on_the_default_stream(model_class):
    with serve(model_class) as model:
        for _ in range(3):
            np.testing.assert_array_equal(model.infer(X=ROW).outputs["Y"], 2 * ROW)
    with serve(sending(model_class), config=DECOUPLED) as model:
        (result,) = model.stream(X=ROW)
        np.testing.assert_array_equal(result.outputs["Y"], 2 * ROW)


def test_capsule_of_work_on_another_stream_is_not_waited_for():
    with serve(ComputesAside) as model, pytest.raises(TritonContractError, match=CAPSULE):
        model.infer(X=ROW)


def test_capsule_that_is_sent_of_work_on_another_stream_is_not_waited_for():
    with (
        serve(sending(ComputesAside), config=DECOUPLED) as model,
        pytest.raises(TritonContractError, match=CAPSULE),
    ):
        list(model.stream(X=ROW))


class Calls(HandsOverCapsule):
    """Hands a capsule to another model."""

    def answer(self, request):
        y = self.compute(self.read(request).to(self.device))
        call = self.pb_utils.InferenceRequest(
            model_name="other",
            requested_output_names=["Y"],
            inputs=[self.pb_utils.Tensor.from_dlpack("X", self.hand(y))],
        )
        return self.pb_utils.InferenceResponse(call.exec().output_tensors())


class CallsAside(Calls, ComputesAside):
    """Hands a capsule of work on another stream to another model."""


OTHER = {**CONFIG, "name": "other"}


def test_capsule_for_a_call_is_copied_after_the_work_on_the_default_stream():
    with serve(Calls, models=[(Doubler, OTHER)]) as model:
        np.testing.assert_array_equal(model.infer(X=ROW).outputs["Y"], 4 * ROW)


def test_capsule_for_a_call_of_work_on_another_stream_is_not_waited_for():
    with (
        serve(CallsAside, models=[(Doubler, OTHER)]) as model,
        pytest.raises(TritonContractError, match=CAPSULE),
    ):
        model.infer(X=ROW)


class Keeps(Doubler):
    """Keeps the GPU memory of the request before."""

    kept = None

    def answer(self, request):
        x = torch.from_dlpack(self.pb_utils.get_input_tensor_by_name(request, "X"))
        assert x.device == self.device
        before, self.kept = self.kept, x
        return self.respond(self.compute(x if before is None else before).cpu().numpy())


def test_input_on_the_gpu_is_gone_when_execute_has_returned():
    config = {**CONFIG, "parameters": {"FORCE_CPU_ONLY_INPUT_TENSORS": {"string_value": "no"}}}
    with serve(Keeps, config=config) as model:
        first = model.infer(X=ROW, input_device="cuda:1").outputs["Y"]
        np.testing.assert_array_equal(first, 2 * ROW)
        assert np.isnan(model.infer(X=ROW, input_device="cuda:1").outputs["Y"]).all()


class LeavesWork(Keeps):
    """Returns while the GPU still reads its input."""

    def answer(self, request):
        x = torch.from_dlpack(self.pb_utils.get_input_tensor_by_name(request, "X"))
        self.later = x + 1
        return self.respond(np.zeros((1, 4), np.float32))


def test_input_that_is_still_read_when_execute_returns_is_a_race_with_the_server():
    config = {**CONFIG, "parameters": {"FORCE_CPU_ONLY_INPUT_TENSORS": {"string_value": "no"}}}
    text = "on the server's default stream of cuda:1 while the default stream of cuda:1 still reads"
    with serve(LeavesWork, config=config) as model, pytest.raises(TritonContractError, match=text):
        model.infer(X=ROW, input_device="cuda:1")


class InThread(Doubler):
    """Computes in a thread of its own, whose current GPU is number 0."""

    def initialize(self, args):
        super().initialize(args)
        torch.cuda.set_device(self.device)

    def compute(self, x):
        found = []

        def work():
            found.extend((torch.cuda.current_device(), super(InThread, self).compute(x)))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        self.seen = found[0], torch.cuda.current_device()
        return found[1]


def test_thread_of_a_model_uses_the_gpus_and_has_a_current_device_of_its_own():
    with serve(InThread) as model:
        np.testing.assert_array_equal(model.infer(X=ROW).outputs["Y"], 2 * ROW)
        assert model.instance.seen == (0, 1)


class SetsDevice(Doubler):
    """Says which GPU is current in each call."""

    def initialize(self, args):
        super().initialize(args)
        self.seen = [torch.cuda.current_device()]
        torch.cuda.set_device(self.device)

    def compute(self, x):
        self.seen.append(torch.cuda.current_device())
        return super().compute(x)


def test_instances_are_processes_with_current_devices_of_their_own():
    with serve(SetsDevice, instances=2) as model:
        other = model.add_model(SetsDevice, CONFIG, kind="GPU", device_id=0, name="other")
        for client, index in ((model, 0), (model, 1), (other, 0)):
            client.infer(X=ROW, instance=index)
        assert [one.seen for one in model.instances] == [[0, 1], [0, 1]]
        assert other.instance.seen == [0, 0]


class Loses(Doubler):
    """Looks up a row that isn't there."""

    def compute(self, x):
        return super().compute(x)[torch.tensor([7], device=self.device)]


def test_lost_device_fails_later_requests_too():
    with serve(Loses, raise_errors=False) as model:
        for _ in range(2):
            assert "CUDA error: device-side assert triggered" in model.infer(X=ROW).error.message()


def test_model_that_does_not_load_leaves_torch_as_it_was():
    class Fails(Doubler):
        def initialize(self, args):
            super().initialize(args)
            raise KeyError("weights")

    before = dict(vars(torch.cuda))
    with pytest.raises(ModelLoadError, match="weights"):
        serve(Fails).start()
    assert dict(vars(torch.cuda)) == before
    assert SimulatedAccelerator._active is None


class OnHost(Doubler):
    """Uses no GPU."""

    def initialize(self, args):
        self.device, self.factor = torch.device("cpu"), 2


def test_only_one_harness_at_a_time_has_simulated_gpus():
    with serve(Doubler) as model:
        with pytest.raises(RuntimeError, match="simulated accelerator: expected to be the only one"):
            serve(Doubler).start()
        with ModelHarness(OnHost, config=CONFIG, name="host") as other:
            np.testing.assert_array_equal(other.infer(X=ROW).outputs["Y"], 2 * ROW)
        np.testing.assert_array_equal(model.infer(X=ROW).outputs["Y"], 2 * ROW)


def test_accelerator_of_a_test_serves_one_harness_after_another():
    accelerator = SimulatedAccelerator(2)
    for number in (1, 2):
        with serve(Doubler, accelerator=accelerator) as model:
            assert model.accelerator is accelerator
            model.infer(X=ROW)
        assert accelerator.devices[1].memory.num_allocations > 2 * number


def test_accelerator_that_is_none_is_refused():
    with pytest.raises(
        HarnessError, match="accelerator: expected 'simulated', a SimulatedAccelerator or None"
    ):
        serve(Doubler, accelerator="cuda")


def test_number_of_gpus_is_that_of_the_host():
    class Counters(Doubler):
        def initialize(self, args):
            self.count = torch.cuda.device_count()

    with ModelHarness(Counters, config=CONFIG, kind="MODEL", num_gpus=3, accelerator="simulated") as model:
        assert model.instance.count == 3
    with serve(Counters, accelerator=SimulatedAccelerator(4)) as model:
        assert model.instance.count == 4
