"""pybind11's behaviour: conversions, signatures, enumerations and their errors."""
