"""pybind11's manners: conversions, overloads, enumerations and their errors."""
