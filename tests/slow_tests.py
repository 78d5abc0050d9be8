"""Which tests take long without a server: they start processes that import torch, compile, wait, or search.

Measured: about a second or more for all cases of a test together.
"""

from pathlib import Path

import pytest

ALL = ("test_",)
SLOW = {
    "benchmarks/test_bench_forms": (
        "test_hand_written_form_uses_the_settings_of_the_kindaware_one",
        "test_times_in_process_has_both_for_every_size",
    ),
    "benchmarks/test_bench_page": ("test_update_replaces_the_block_and_leaves_the_rest",),
    "benchmarks/test_bench_servers": ("test_litserve_that_cannot_be_installed_is_unavailable",),
    "benchmarks/test_bench_texts": ("test_bare_loop_is_timed_step_by_step",),
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
        "test_class_that_declares_nothing_is_in_step_with_a_configuration_that_names_tensors",
        "test_difference_is_shown_and_written_with_all_else_kept",
        "test_import_that_does_not_return_is_ended",
        "test_json_and_full_have_the_whole_text",
        "test_missing_file_is_printed_whole_and_written_on_request",
    ),
    "cli/deploy/test_deploy_containerfile": (
        "test_another_base_has_a_python_of_its_own",
        "test_image_runs_as_a_user_without_rights_on_a_copy_of_the_models",
        "test_lock_has_what_an_extra_needs",
        "test_lock_has_what_fits_the_release",
        "test_lock_names_each_file_by_its_hash",
        "test_packages_that_fit_nothing_are_pips_error_in_one_line",
    ),
    "cli/deploy/test_deploy_kubernetes": (
        "test_kubernetes_takes_every_object_without_a_warning",
        "test_model_that_does_not_load_is_reported_with_its_error",
        "test_needs_are_measured_and_counted",
    ),
    "cli/new/test_new_callable": (
        "test_segmentation_takes_pictures_of_any_size",
        "test_source_that_can_not_be_served_is_one_line",
        "test_tensors_are_inferred_and_the_model_answers_like_the_callable",
        "test_torchvision_says_",
        "test_weights_in_the_call_are_no_question",
    ),
    "cli/new/test_new_port_meaning": ("test_answers_and_errors_are_those_of_the_original",),
    "cli/new/test_new_tasks": (
        "test_check_finds_nothing_to_correct_in_any_task",
        "test_client_without_a_server_is_one_line",
        "test_own_tests_of_all_tasks_pass_in_one_pytest",
    ),
    "cli/run/test_run_watch": ALL,
    "cli/test_child": ALL,
    "cli/test_command_line": ALL,
    "core/test_asynchronous_life": (
        "test_stream_that_swallows_its_cancellation_within_a_step_takes_no_step_while_unload_runs",
    ),
    "core/test_begins": (
        "test_streams_that_there_is_no_memory_to_begin_wait_for_others_if_there_are_any",
        "test_streams_that_there_is_no_memory_to_place_wait_for_others_if_there_are_any",
    ),
    "core/test_compiled_modules": ("test_compile_cache_in_a_second_process",),
    "core/test_config_fuzz": ("test_initialize_any_args_raises_nothing_but_config_error",),
    "core/test_cuda_free": (
        "test_cpu_instance_never_touches_cuda",
        "test_import_costs_torch_and_numpy_and_nothing_else",
    ),
    "core/test_end_of_server": ("test_streams_go_on_without_the_word",),
    "core/test_exported_modules": ("test_load_serves_a_program",),
    "core/test_hook_errors": (
        "test_task_of_a_streaming_model_outlives_the_error_of_one_request",
        "test_task_of_an_asynchronous_forward_outlives_the_error_of_one_request",
    ),
    "core/test_hot_path": ("test_request_detached_lets_go_of_tritons_and_keeps_what_calls_take_over",),
    "core/test_life_cycle": (
        "test_failed_load_is_logged_with_the_thread_that_holds_the_process",
        "test_pool_that_waits_for_work_is_not_named_and_one_that_works_is",
        "test_thread_that_outlives_unload_is_named",
        "test_threads_of_a_test_are_not_reported_as_if_a_process_had_to_end",
    ),
    "core/test_loaded_modules": (
        "test_compile_default_compiles_for_every_batch_size",
        "test_compile_frozen_makes_constants_of_the_weights",
    ),
    "core/test_memory": ("test_keep_memory_",),
    "core/test_metrics": ("test_counts_of_a_stream_have_its_stages_without_what_it_waits_for",),
    "core/test_openmp": ("test_start_team_keeps_it_on_a_thread_that_does_not_hold_up_the_end",),
    "core/test_optimizer": (
        "test_forward_that_refuses_zeros_is_left_as_it_is",
        "test_nothing_is_tried_where_it_is_off_or_nothing_is_run",
    ),
    "core/test_pipeline_isolation": ("test_run_one_guilty_request_only_it_fails_within_the_budget",),
    "core/test_primitive_cache": ("test_capacity_takes_effect",),
    "core/test_responses": ("test_serve_keeps_no_request_whose_inputs_would_stay_in_shared_memory",),
    "core/test_step_faults": ("test_step_whose_unload_comes_while_a_hook_hangs_still_ends_its_streams",),
    "core/test_streams_on_gpu": ("test_stream_that_runs_out_of_memory_fails_alone",),
    "core/test_tracing": ("test_calls_of_asynchronous_hooks_and_of_streams_have_spans",),
    "core/test_unreadable_errors": (
        "test_error_that_raises_when_it_is_read_fails_its_request_and_is_logged_and_counted",
        "test_refusal_by_a_class_of_any_shape_has_its_text_and_code",
    ),
    "core/test_user_attributes": ("test_attribute_of_any_name_", "test_method_of_any_name_"),
    "core/test_work_thread": ("test_work_that_raises_is_logged_and_called_again_later",),
    "docs/test_docs_blocks": (
        "test_model_block_answers_requests",
        "test_unit_tests_of_a_page_pass_in_plain_pytest",
    ),
    "docs/test_docs_docstrings": ("test_docstrings_have_sections_that_are_rendered_as_such",),
    "docs/test_docs_recipes": ALL,
    "docs/test_docs_search": ALL,
    "docs/test_docs_tables": ("test_command_is_one_that_exists",),
    "examples/test_example_checkpoint": ("test_each_format_gives_the_network_that_was_saved",),
    "examples/test_example_client_pictures": (
        "test_client_image_url_of_no_use_fails",
        "test_client_truncated_picture_fails",
    ),
    "examples/test_example_client_servers": (
        "test_client_answer_of_another_form_fails",
        "test_client_url_that_is_no_address_fails",
    ),
    "examples/test_example_embedding": ALL,
    "examples/test_example_faces": (
        "test_each_picture_",
        "test_face_is_where_the_astronauts_is",
        "test_pictures_of_one_size_",
    ),
    "examples/test_example_generation": ("test_model_writes_beside_others_what_it_writes_alone",),
    "examples/test_example_models": (
        "test_efficientnet_recognises_the_cat",
        "test_efficientnet_wants_the_normalisation_it_was_trained_with",
        "test_resnet50_",
    ),
    "examples/test_example_ray_cluster": ("test_rehearsal_on_two_nodes_",),
    "examples/test_example_voice": (
        "test_calls_that_share_a_batch_",
        "test_one_call_",
        "test_wav_files_of_any_rate_are_read",
    ),
    "gpu/test_gpu_answers": (
        "test_answers_of_inputs_on_the_device_belong_to_their_requests",
        "test_answers_of_random_batches_belong_to_their_requests",
        "test_answers_that_are_inputs_on_the_device_are_those_of_their_requests",
    ),
    "gpu/test_gpu_benchmark": ALL,
    "gpu/test_gpu_graphs": (
        "test_graphs_answer_as_eager_for_every_batch_size",
        "test_graphs_of_a_step_write_what_each_stream_writes_alone",
    ),
    "gpu/test_gpu_lost_device": ALL,
    "gpu/test_gpu_memory": ("test_memory_is_flat_over_many_batches_of_random_sizes",),
    "gpu/test_gpu_precision": ("test_precision_answers_are_within_its_tolerance_of_the_cpu",),
    "packaging/test_distribution": ALL,
    "packaging/test_mutants": (
        "test_mutants_differ_from_the_source_and_compile",
        "test_script_says_which_test_notices",
    ),
    "serve/test_heal_guard": ("test_guard_stub_whose_call_does_not_return_is_killed_and_healed",),
    "serve/test_heal_parts": ("test_stuck_models_end_a_server_that_waits_for_nothing_else",),
    "serve/test_serve_command": ALL,
    "serve/test_serve_events": ("test_text_and_events_are_refused_together",),
    "serve/test_serve_imports": ALL,
    "serve/test_serve_location": ("test_locate_server_wheel_is_not_imported",),
    "serve/test_serve_newer_servers": (
        "test_server_load_that_waits_for_a_dead_stub",
        "test_server_model_that_loads_for_ever_is_waited_for_until_the_time_is_over",
        "test_server_that_never_notices_a_dead_stub",
        "test_server_that_notices_a_dead_stub_in_its_own_time",
    ),
    "serve/test_serve_watch": ALL,
    "simulated/test_calls_on_gpu": (
        "test_call_from_a_gpu_asks_for_outputs_there_and_brings_others_there",
        "test_call_from_a_gpu_takes_what_was_computed_and_gives_tensors_there",
    ),
    "simulated/test_cold_faults": ALL,
    "simulated/test_copies_to_host": ("test_execute_output_on_the_host_is_read_after_the_wait",),
    "simulated/test_faults_at_every_call": ALL,
    "simulated/test_graph_buckets": (
        "test_execute_every_size_around_the_buckets_equals_eager",
        "test_initialize_error_at_any_call_is_one_of_load_or_leaves_a_right_model",
    ),
    "simulated/test_graphed_steps": (
        "test_items_do_not_depend_on_what_is_replayed_and_when_the_device_works",
    ),
    "simulated/test_interleavings": (
        "test_execute_answers_do_not_depend_on_when_the_device_works",
        "test_execute_answers_of_calls_that_overlap_do_not_depend_on_when_the_device_works",
    ),
    "simulated/test_memory_limits": ("test_execute_sizes_that_grow_and_shrink_stay_within_the_pinned_limit",),
    "simulated/test_micro_batches_on_gpu": (
        "test_execute_device_lost_at_any_call_leaves_own_rows_or_unavailable",
        "test_execute_error_at_any_call_while_slices_are_run_and_joined_is_the_requests_own",
    ),
    "simulated/test_several_gpus": ("test_execute_over_two_gpus_is_right_and_in_order",),
    "testing/accelerator/test_device_memory": ("test_bytes_in_use_are_those_of_living_tensors",),
    "testing/accelerator/test_models": ALL,
    "testing/accelerator/test_operations": (
        "test_expressions_on_a_simulated_gpu_equal_the_cpus",
        "test_program_on_a_simulated_gpu_equals_the_cpus",
    ),
    "testing/accelerator/test_schedules": ("test_seeded_gives_others_for_other_seeds",),
    "testing/harness/test_harness_event_loop": ("test_an_answer_from_the_event_loop_after_execute_arrives",),
    "testing/harness/test_harness_guard": ALL,
    "testing/harness/test_harness_input_values": ("test_a_type_that_numpy_lacks_needs_no_more_than_its_row",),
    "testing/harness/test_harness_loading": ("test_the_resnet_example_answers_as_its_model_does",),
    "testing/harness/test_harness_memory": (
        "test_a_request_leaves_no_tensors",
        "test_asynchronous_calls_leave_no_tensors",
        "test_streams_and_batches_leave_no_tensors",
        "test_what_a_model_puts_into_a_tensor_is_freed_with_its_answer",
    ),
    "testing/harness/test_harness_processes": (
        "test_a_thread_that_is_left_running_is_in_the_log",
        "test_harnesses_that_end_in_the_other_order_leave_nothing",
    ),
    "testing/harness/test_harness_queue": ("test_requests_that_wait_are_refused_by_the_policy",),
    "testing/harness/test_harness_requests": ("test_response_parameters_come_with_later_servers",),
    "testing/harness/test_harness_restores": ("test_a_state_that_a_model_changes_is_put_back",),
    "testing/harness/test_pytest_plugin": ALL,
    "testing/stand_in/test_stand_in_metrics": (
        "test_metric_value_survives_the_metric_but_not_the_last_family",
    ),
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
