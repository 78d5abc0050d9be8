"""config.pbtxt as a tree: places of fields in every notation, and in text that is broken."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindaware._authoring.config_tree import ConfigTree
from searches import examples

TEXT = """\
# name: "not this"
name: "m" # nor "this" {
max_batch_size: 8
input [
  { name: "A" dims: [ 3, -1 ] },
  <
    name: 'B'
    dims: 1 dims: 2
  >
]
input { name: "C" }
parameters { key: "with { brace" value: { string_value: "a" "b" } }
"""


def test_fields_are_found_where_they_stand():
    tree = ConfigTree(TEXT)
    assert [one.name for one in tree.fields] == ["name", "max_batch_size", "input", "input", "parameters"]
    assert [tree.line(one.start) for one in tree.fields] == [2, 3, 4, 11, 12]
    assert [one.text("name") for one in tree.messages("input")] == ["A", "B", "C"]
    assert [[dim.text for dim in one.values("dims")] for one in tree.messages("input")] == [
        ["3", "-1"],
        ["1", "2"],
        [],
    ]
    assert tree.parameters().keys() == {"with { brace"}
    assert tree.messages("parameters")[0].messages("value")[0].text("string_value") == "ab"


def test_places_of_values_are_those_of_the_text():
    tree = ConfigTree(TEXT)
    [size] = tree.values("max_batch_size")
    assert TEXT[size.start : size.end] == "8"
    first, _ = tree.find("input")[0].values
    assert TEXT[first.start : first.end] == '{ name: "A" dims: [ 3, -1 ] }'
    assert TEXT[: tree.find("input")[0].end].endswith("  >\n]")


def test_quotes_within_text_belong_to_it():
    assert ConfigTree("""name: "it's" """).text("name") == "it's"
    assert ConfigTree("""name: '"' """).text("name") == '"'


def test_field_that_is_not_there_has_the_first_line():
    assert ConfigTree(TEXT).line_of("instance_group") == 1
    assert ConfigTree("").text("name") == ""


@pytest.mark.parametrize("text", ["input [", "input {", "{", "}", ": :", "a: [ {", 'name: "x', "a: [ ] ]"])
def test_broken_text_is_read_as_far_as_it_goes(text):
    ConfigTree(f'name: "m" {text}').text("name")


@given(st.text("ab:{}<>[],;\"'# \n1", max_size=40))
@settings(max_examples=examples(200), deadline=None)
def test_any_text_is_read_to_its_end(text):
    tree = ConfigTree(text)
    assert all(0 <= one.start <= one.end <= len(text) for one in tree.fields)
