"""The description of the processor that files in the cache are kept for."""

import pytest

from kindaware._placement.processor import describe_processor

X86 = "processor : 0\nmodel name : Xeon\nflags : fpu avx2\ncpu MHz : 2000\n\nprocessor : 1\nflags : none\n"
ARM = "processor : 0\nBogoMIPS : 50\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd0c\n"


@pytest.mark.parametrize(
    ("text", "expected"), [(X86, "; Xeon; avx2 fpu"), (ARM, "; 0x41; 0xd0c; asimd fp"), ("", "")]
)
def test_describe_processor_names_what_code_depends_on(tmp_path, text, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    machine, _, rest = describe_processor(path).partition(";")
    assert machine
    assert (";" + rest if rest else "") == expected


def test_describe_processor_of_this_machine_stays_the_same():
    assert describe_processor() == describe_processor()
