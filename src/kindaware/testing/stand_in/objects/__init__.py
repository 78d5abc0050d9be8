"""The classes of `triton_python_backend_utils`, as model code sees them."""
