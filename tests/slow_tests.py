"""Which tests take seconds without a server: they start processes that import torch, compile, or search long.

Measured: a second of processor time or more, or several for all cases of a test together.
"""

from pathlib import Path

import pytest

ALL = ("test_",)
SLOW = {
    "benchmarks/test_bench_forms": (
        "test_hand_written_form_uses_the_settings_of_the_kindaware_one",
        "test_times_in_process_has_both_for_every_size",
    ),
    "benchmarks/test_bench_servers": ("test_litserve_that_cannot_be_installed_is_unavailable",),
    "core/test_cuda_free": (
        "test_cpu_instance_never_touches_cuda",
        "test_import_costs_torch_and_numpy_and_nothing_else",
    ),
    "core/test_compiled_modules": ("test_compile_cache_in_a_second_process",),
    "core/test_loaded_modules": ("test_compile_default_compiles_for_every_batch_size",),
    "core/test_memory": ("test_keep_memory_",),
    "core/test_primitive_cache": ("test_capacity_takes_effect",),
    "core/test_openmp": ("test_start_team_keeps_it_on_a_thread_that_does_not_hold_up_the_end",),
    "cli/check/test_check_command": (
        "test_interruption_leaves_no_process",
        "test_repository_is_checked_model_by_model_and_runs_them",
    ),
    "cli/check/test_check_runs": (
        "test_gpu_model_is_tried_on_the_cpu_where_there_is_no_gpu",
        "test_model_that_",
    ),
    "cli/config/test_config_command": (
        "test_bad_model_is_one_line",
        "test_difference_is_shown_and_written_with_all_else_kept",
        "test_import_that_does_not_return_is_ended",
        "test_json_and_full_have_the_whole_text",
        "test_missing_file_is_printed_whole_and_written_on_request",
    ),
    "cli/new/test_new_callable": ("test_segmentation_takes_pictures_of_any_size", "test_torchvision_says_"),
    "cli/new/test_new_tasks": (
        "test_check_finds_nothing_to_correct_in_any_task",
        "test_own_tests_of_all_tasks_pass_in_one_pytest",
    ),
    "cli/test_child": ALL,
    "cli/run/test_run_watch": ALL,
    "cli/test_command_line": ALL,
    "core/test_user_attributes": ("test_attribute_of_any_name_", "test_method_of_any_name_"),
    "docs/test_docs_blocks": (
        "test_model_block_answers_requests",
        "test_unit_tests_of_a_page_pass_in_plain_pytest",
    ),
    "docs/test_docs_recipes": ALL,
    "docs/test_docs_search": ALL,
    "docs/test_docs_tables": ("test_command_is_one_that_exists",),
    "examples/test_example_checkpoint": ("test_each_format_gives_the_network_that_was_saved",),
    "examples/test_example_embedding": ALL,
    "examples/test_example_faces": ("test_each_picture_", "test_pictures_of_one_size_"),
    "examples/test_example_models": ("test_resnet50_",),
    "examples/test_example_voice": ("test_one_call_", "test_calls_that_share_a_batch_"),
    "gpu/test_gpu_benchmark": ALL,
    "gpu/test_gpu_lost_device": ALL,
    "packaging/test_distribution": ALL,
    "packaging/test_mutants": ("test_script_says_which_test_notices",),
    "serve/test_serve_command": ALL,
    "serve/test_serve_watch": ALL,
    "serve/test_serve_imports": ALL,
    "serve/test_serve_newer_servers": (
        "test_server_that_notices_a_dead_stub_in_its_own_time",
        "test_server_load_that_waits_for_a_dead_stub",
        "test_server_that_never_notices_a_dead_stub",
    ),
    "serve/test_serve_location": ("test_locate_server_wheel_is_not_imported",),
    "simulated/test_cold_faults": ALL,
    "simulated/test_faults_at_every_call": ALL,
    "simulated/test_graph_buckets": (
        "test_initialize_error_at_any_call_is_one_of_load_or_leaves_a_right_model",
    ),
    "testing/accelerator/test_models": ALL,
    "testing/harness/test_harness_guard": ALL,
    "testing/harness/test_harness_memory": ALL,
    "testing/harness/test_harness_queue": ("test_requests_that_wait_are_refused_by_the_policy",),
    "testing/harness/test_harness_loading": ("test_the_resnet_example_answers_as_its_model_does",),
    "testing/harness/test_pytest_plugin": ALL,
    "testing/stand_in/test_stand_in_surface": ("test_stand_in_import_needs_neither_tritonclient",),
    "testing/stand_in/test_stand_in_to_dlpack": ("test_dlpack_objects_alive_at_exit_do_no_harm",),
    "testing/stand_in/test_stand_in_typings": ("test_typings_serve_mypy",),
    "typing/test_types": ALL,
}
"""What the names of the slow tests of a file begin with."""


def is_slow(item: pytest.Item) -> bool:
    """Say whether a test is one of them."""
    place = item.path.relative_to(Path(__file__).parent).with_suffix("").as_posix()
    return item.name.startswith(SLOW.get(place, ()))
