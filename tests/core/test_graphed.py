"""The mark of `graphed`: what a class may mark, and what the marked method takes and returns."""

import pytest
import torch
from core_kit import start
from step_kit import CONFIG, Values, number, open_harness, seen

from kindaware import ConfigError, DevicePlacement, KindAwareError, KindAwareModel, Next, graphed
from kindaware._errors import NotInitializedError


class Graphed(Values):
    """Counts with a graphed method."""

    @graphed
    def count(self, values, *, by):
        return self.add(values, by)

    def add(self, values, by):
        return values + by

    def step(self, states):
        values = torch.tensor([one.next for one in states])
        more = self.count(values, by=torch.ones_like(values)).tolist()
        return [
            Next(state._replace(next=value), number(state.next))
            if state.next < state.last
            else super(Graphed, self).result(state)
            for state, value in zip(states, more, strict=True)
        ]


def test_graphed_method_on_the_cpu_is_called_as_it_is():
    with open_harness(Graphed, parameters={"kindaware.cuda_graphs": "1,8"}) as model:
        assert seen(model.stream(N=[[3]])) == [0, 1, 2]
        assert model.instance.count(torch.ones(2), by=torch.ones(2)).tolist() == [2, 2]


def test_graphed_method_keeps_its_name_and_its_parameters():
    assert Graphed.count.__name__ == "count"
    with pytest.raises(TypeError, match="by"), open_harness(Graphed) as model:
        model.instance.count(torch.ones(2))


def test_graphed_method_before_initialize_says_so():
    with pytest.raises(NotInitializedError, match=r"self\.count: expected super\(\)\.initialize"):
        Graphed().count(torch.ones(1), by=torch.ones(1))


def test_graphed_method_in_load_is_called_as_it_is():
    class Loads(Graphed):
        def load(self):
            super().load()
            self.loaded = self.count(1, by=2)

    with open_harness(Loads) as model:
        assert model.instance.loaded == 3


ONES = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ((ONES, 1), "model 's' count by: expected a tensor with 2 rows, .*, got int;"),
        (
            (ONES, torch.ones(3)),
            "count by: expected a tensor with 2 rows, .* on cpu, got shape \\[3\\] on cpu",
        ),
        ((ONES, torch.ones(())), r"count by: expected a tensor with 2 rows.*got shape \[\] on cpu"),
        (([1, 2], ONES), "count values: expected a tensor with rows on cpu, got list"),
        ((torch.ones(()), ONES), r"count values: expected a tensor with rows on cpu, got shape \[\]"),
        ((ONES, ONES.to("meta")), r"count by: .*got shape \[2, 3\] on meta"),
    ],
    ids=str,
)
def test_graphed_method_takes_nothing_but_rows(arguments, got):
    values, by = arguments
    with open_harness(Graphed) as model, pytest.raises(KindAwareError, match=got):
        model.instance.count(values, by=by)


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (3, "model 's' result of count: expected a tensor with 2 rows, .*got int; give a graphed method"),
        ({"a": ONES, "b": torch.ones(3)}, r"got shape \[3\]"),
        ((ONES, None), "got NoneType"),
    ],
    ids=str,
)
def test_graphed_method_returns_nothing_but_rows(returned, got):
    class Model(Graphed):
        def add(self, values, by):
            return returned

    with open_harness(Model) as model, pytest.raises(KindAwareError, match=got):
        model.instance.count(ONES, by=ONES)


def test_graphed_method_takes_an_argument_at_least():
    class Model(Graphed):
        @graphed
        def nothing(self):
            return ONES

    with (
        open_harness(Model) as model,
        pytest.raises(KindAwareError, match="nothing arguments: expected a te"),
    ):
        model.instance.nothing()


def test_graphed_method_may_get_no_rows():
    with open_harness(Graphed) as model:
        assert model.instance.count(torch.ones(0), by=torch.ones(0)).shape == (0,)


def test_error_of_a_graphed_method_is_that_of_the_step():
    class Model(Graphed):
        def add(self, values, by):
            raise ValueError("cannot add")

    with open_harness(Model) as model:
        (result,) = model.stream(N=[[3]])
        assert "cannot add" in result.error.message()
        with pytest.raises(ValueError, match="cannot add"):
            model.instance.count(ONES, by=ONES)
        # And the next call of the thread is not taken for one inside of it.
        with pytest.raises(KindAwareError, match="count values"):
            model.instance.count(1, by=2)


class WithoutStep(KindAwareModel):
    def load(self):
        """Make nothing."""

    def forward(self, N):
        return self.double(N)

    @graphed
    def double(self, N):
        return 2 * N


class HookItself(Values):
    @graphed
    def step(self, states):
        return super().step(states)


class Late(Values):
    @graphed
    async def count(self, values):
        return values


class Generates(Values):
    @graphed
    def count(self, values):
        yield values


class Placed(DevicePlacement):
    @graphed
    def count(self, values):
        return values


class Unmarked(Values):
    pass


@pytest.mark.parametrize(
    ("model_class", "text"),
    [
        (
            WithoutStep,
            "class WithoutStep method double: expected step beside a method with graphed, got none; ",
        ),
        (Placed, "class Placed method count: expected step beside a method with graphed, got none; "),
        (HookItself, "method step: expected graphed on a method that step calls, got it on the hook step; "),
        (Late, "class Late method count: expected a plain method, got async def or yield; "),
        (Generates, "class Generates method count: expected a plain method, got async def or yield; "),
    ],
)
def test_initialize_mark_that_has_no_effect_is_refused(model_class, text):
    with pytest.raises(ConfigError) as caught:
        start(model_class)
    assert text in str(caught.value)


def test_initialize_graphs_of_a_step_without_a_graphed_method_are_refused():
    changes = {name: value for name, value in CONFIG.items() if name != "name"}
    text = (
        "setting 'cuda_graphs': expected a method marked with kindaware.graphed, which step calls, got none"
    )
    with pytest.raises(ConfigError, match=text):
        start(Unmarked, parameters={"kindaware.cuda_graphs": "4"}, **changes)
