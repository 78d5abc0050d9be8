"""The classes and functions of `triton_python_backend_utils`, as model code sees them."""
