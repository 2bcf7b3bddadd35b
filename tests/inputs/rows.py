"""Every row of the list of bad inputs, and the tests that prove it; `test_rows.py` sees that they are there.

A test is written as `file::Class::function`; files stand under `tests/`, checks that every store must pass under
`src/jobcard/conformance/`. Those of `inputs/` run on every store.
"""

from __future__ import annotations

CHECKS = "conformance/"

CODEC = "core/test_codec.py"
LIMITS = "core/test_limits.py"
RETRY = "core/test_retry.py"
ENQUEUING = "client/test_enqueuing.py"
CONFIGURING = "client/test_configuring.py"
URLS = "backends/test_urls.py"
SQLITE = "backends/test_sqlite.py::TestFile"
CLI = "cli/test_cli_bad_input.py"
TERMINAL = "cli/test_cli_terminal.py"

# On every store.
REFUSED_VALUE = "inputs/test_refused_inputs.py::test_a_value_that_would_not_come_back"
REFUSED_NAME = "inputs/test_refused_inputs.py::test_a_name_that_is_none"
REFUSED_OPTION = "inputs/test_refused_inputs.py::test_an_option_out_of_its_bounds"
KEPT = "inputs/test_kept_inputs.py::test_a_value_comes_back_from_store_and_job"
KEPT_TREES = "inputs/test_kept_inputs.py::test_any_tree_comes_back_from_every_store"
KEPT_QUEUES = "inputs/test_kept_inputs.py::test_queues_that_look_alike_are_two"
KEPT_INSTANT = "inputs/test_kept_inputs.py::test_an_instant_is_kept_in_any_zone"
ENDINGS = "inputs/test_bad_endings.py"

IN_CODEC = f"{CODEC}::test_what_does_not_survive_is_refused"
BACK_IN_CODEC = f"{CODEC}::test_a_value_comes_back_as_it_was"
BAD_OPTION = f"{ENQUEUING}::TestOptions::test_a_bad_one_is_refused_before_the_store"
BAD_URL = f"{URLS}::test_a_malformed_url_is_refused"
FUZZED_URL = "inputs/test_fuzzed_urls.py::test_any_text_is_a_store_or_a_config_error"
FUZZED_COMMAND = "inputs/test_fuzzed_commands.py::test_any_arguments_end_with_an_exit_code"
USAGE = f"{CLI}::TestUsage::test_one_line_and_exit_code_two"

STORE_URLS = (
    f"{URLS}::test_a_wrong_sqlite_option_is_named",
    "backends/test_postgres.py::TestOptions::test_a_wrong_option_is_named",
    "backends/test_mysql.py::test_bad_urls_are_refused_by_name",
    "backends/test_mongodb.py::test_bad_urls_are_refused_by_name",
    "backends/test_redis.py::test_bad_urls_are_refused_by_name",
)

PROVED: dict[int, tuple[str, ...]] = {
    # values
    1: (IN_CODEC, REFUSED_VALUE),
    2: (IN_CODEC, REFUSED_VALUE),
    3: (BACK_IN_CODEC, KEPT),
    4: (BACK_IN_CODEC, KEPT),
    5: (BACK_IN_CODEC, KEPT, REFUSED_OPTION),
    6: (IN_CODEC, REFUSED_VALUE, f"{CODEC}::test_hostile_text_is_refused_whatever_the_interpreter_allows"),
    7: (BACK_IN_CODEC, KEPT),
    8: (f"{LIMITS}::test_a_bad_name_is_refused", REFUSED_NAME),
    9: (BACK_IN_CODEC, KEPT, KEPT_TREES),
    10: (
        REFUSED_NAME,
        f"{ENDINGS}::test_text_that_is_none_is_kept_as_it_can_be",
        f"{ENDINGS}::test_an_error_of_any_size_and_kind_is_recorded",
        "workers/test_notes.py::test_every_store_can_keep_what_a_job_says",
    ),
    11: (KEPT, f"{CHECKS}check_enqueue.py::check_text_comes_back_as_the_same_bytes"),
    # names
    12: (KEPT_QUEUES, f"{CHECKS}check_enqueue.py::check_names_that_look_alike_are_different"),
    13: (KEPT_QUEUES, f"{CHECKS}check_enqueue.py::check_names_that_look_alike_are_different"),
    14: (f"{LIMITS}::test_a_bad_name_is_refused", REFUSED_NAME),
    15: (REFUSED_NAME, f"{CHECKS}check_listing.py::check_wildcards_are_plain_text"),
    16: (f"{LIMITS}::test_a_bad_name_is_refused", REFUSED_NAME),
    17: (f"{LIMITS}::test_a_bad_name_is_refused", REFUSED_NAME),
    18: (f"{LIMITS}::test_a_bad_name_is_refused", REFUSED_NAME),
    # size and form
    19: (f"{CODEC}::test_a_hundred_levels_are_fine", KEPT),
    20: (IN_CODEC, REFUSED_VALUE),
    21: (IN_CODEC, REFUSED_VALUE),
    22: (
        f"{CODEC}::test_size_limits_say_both_sizes",
        f"{CODEC}::test_what_fits_exactly_is_stored",
        REFUSED_VALUE,
        f"{CHECKS}check_enqueue.py::check_the_largest_arguments_fit",
    ),
    23: (f"{CODEC}::test_a_million_numbers_are_quick", f"{ENQUEUING}::test_a_million_numbers_are_quick_enough"),
    24: (BACK_IN_CODEC, KEPT, IN_CODEC, REFUSED_VALUE, "inputs/test_refused_inputs.py::test_a_coroutine_is_no_value"),
    25: (BACK_IN_CODEC, KEPT, REFUSED_VALUE),
    26: (IN_CODEC, REFUSED_VALUE),
    27: (IN_CODEC, REFUSED_VALUE),
    28: (BACK_IN_CODEC, KEPT, KEPT_TREES),
    29: (f"{CODEC}::test_no_code_of_a_value_is_called",),
    30: (
        f"{CODEC}::test_the_stored_value_is_the_one_at_call_time",
        "inputs/test_kept_inputs.py::test_what_the_caller_changes_afterwards_changes_nothing",
    ),
    # options of a job
    31: (f"{LIMITS}::test_another_instant_is_refused", REFUSED_OPTION),
    32: (f"{LIMITS}::test_the_two_meanings_of_a_doubled_hour_differ", KEPT_INSTANT),
    33: (f"{LIMITS}::test_another_instant_is_refused", REFUSED_OPTION),
    34: (f"{LIMITS}::test_a_delay_is_seconds_or_a_timedelta", KEPT_INSTANT, REFUSED_OPTION),
    35: (f"{LIMITS}::test_another_delay_is_refused", REFUSED_OPTION),
    36: (f"{LIMITS}::test_another_delay_is_refused", REFUSED_OPTION),
    37: (f"{LIMITS}::test_another_priority_is_refused", REFUSED_OPTION),
    38: (f"{LIMITS}::test_attempts_are_1_to_1000", REFUSED_OPTION),
    39: (f"{LIMITS}::test_a_timeout_is_a_millisecond_or_more", REFUSED_OPTION),
    40: (f"{RETRY}::test_a_custom_function_that_fails_is_replaced_and_told",),
    41: (
        REFUSED_OPTION,
        "client/test_being_unique.py::TestWhatIsTheSame::test_any_text_makes_a_key",
        "client/test_being_unique.py::TestWhatIsTheSame::test_what_cannot_be_stored_makes_no_key",
        "client/test_being_unique.py::TestRefused::test_a_key_is_text",
    ),
    42: (
        BAD_OPTION,
        REFUSED_OPTION,
        "inputs/test_refused_inputs.py::test_an_id_that_is_taken",
        f"{CHECKS}check_enqueue.py::check_an_id_with_other_content_is_taken",
    ),
    43: (
        f"{ENQUEUING}::TestMany::test_none_is_nothing",
        f"{ENQUEUING}::TestMany::test_handles_come_in_order",
        f"{ENQUEUING}::TestMany::test_one_bad_item_stores_none",
        "inputs/test_refused_inputs.py::test_one_bad_item_among_many",
    ),
    44: (
        "backends/test_within.py::TestTogether::test_a_rollback_leaves_nothing",
        "backends/test_within.py::TestTogether::test_a_new_queue_is_told_to_engines_by_the_commit",
    ),
    # when and where
    45: (
        "client/test_processes.py::test_a_signal_handler_or_finalizer_never_waits_for_its_own_thread",
        "client/test_processes.py::TestFork::test_a_forked_child_goes_on",
        f"{CONFIGURING}::TestClosing::test_a_closed_client_refuses",
        "client/test_awaiting.py::TestEnqueue::test_each_loop_for_itself",
    ),
    46: (
        "client/test_awaiting.py::TestCancelling::test_while_the_store_is_asked",
        "client/test_awaiting.py::TestCancelling::test_before_it_was_sent",
        "backends/test_asynchronous.py::TestCancelling::test_a_call_that_has_begun_is_finished",
    ),
    47: (
        f"{ENQUEUING}::TestByName::test_an_unknown_name_is_refused_unless_told_otherwise",
        "inputs/test_refused_inputs.py::test_a_name_nobody_declared",
    ),
    48: (
        "engine/test_parked.py::test_a_parked_job_runs_when_a_release_knows_its_name",
        "engine/test_engine_limits.py::test_a_job_nobody_knows_is_parked_and_harms_nobody",
    ),
    49: (
        f"{ENDINGS}::test_a_stored_name_imports_nothing",
        "test_architecture.py::TestSources::test_nothing_runs_what_was_stored",
    ),
    50: (
        "inputs/test_refused_inputs.py::test_arguments_that_do_not_fit",
        f"{ENDINGS}::test_a_stored_call_that_does_not_fit_fails_at_once",
    ),
    51: (
        f"{ENDINGS}::test_a_result_that_cannot_be_kept_fails_the_job",
        "engine/test_isolation.py::test_a_rough_job_ends_alone_and_its_record_says_how",
    ),
    52: (
        f"{ENDINGS}::test_an_error_of_any_size_and_kind_is_recorded",
        "engine/test_isolation.py::test_a_rough_job_ends_alone_and_its_record_says_how",
        "workers/test_worker_pipes.py::test_what_a_job_says_about_its_end_always_fits_the_pipe",
    ),
    53: (
        "engine/test_isolation.py::test_the_last_16_kib_of_the_output_are_kept",
        "engine/test_isolation.py::test_a_rough_job_ends_alone_and_its_record_says_how",
        f"{TERMINAL}::TestTerminals::test_what_jobs_say_cannot_drive_the_terminal",
    ),
    # URLs and settings
    54: (BAD_URL, FUZZED_URL, f"{URLS}::test_an_unknown_scheme_says_what_is_installed"),
    55: (BAD_URL, FUZZED_URL, f"{URLS}::test_a_url_in_parts", f"{URLS}::test_a_masked_url_shows_no_secret"),
    56: (
        f"{SQLITE}::test_it_must_be_a_file_of_its_own_kind",
        "inputs/test_own_memory.py::test_no_other_process_works_on_a_store_in_memory",
    ),
    57: (
        f"{SQLITE}::test_it_must_be_a_file_of_its_own_kind",
        f"{SQLITE}::test_an_empty_file_becomes_a_store",
        f"{SQLITE}::test_another_applications_tables_are_left_alone",
        f"{CLI}::TestStores::test_a_file_that_is_no_store_is_left_alone",
    ),
    58: (BAD_URL, *STORE_URLS),
    59: (*STORE_URLS[1:4], "backends/test_mysql.py::test_dangerous_options_need_code"),
    60: (
        f"{LIMITS}::test_a_wrong_queue_is_refused",
        "client/test_limits_declared.py::TestQueues::test_a_bad_limit_changes_nothing",
        "client/test_limits_declared.py::TestKeys::test_a_bad_limit_is_told_at_the_declaration",
        "core/test_settings.py::test_a_wrong_setting_is_refused",
        f"{CONFIGURING}::TestOptions::test_a_bad_one_is_refused_at_once",
        f"{CONFIGURING}::TestOptions::test_a_misspelt_one_names_the_nearest",
    ),
    61: (f"{CONFIGURING}::TestURL::test_a_bad_project_file_is_told",),
    # the command
    62: (
        USAGE,
        FUZZED_COMMAND,
        "inputs/test_fuzzed_commands.py::test_any_arguments_of_no_command",
        "inputs/test_fuzzed_commands.py::test_any_text_for_json",
        "inputs/test_fuzzed_commands.py::test_the_real_program_takes_any_bytes",
        "cli/test_cli_every_command.py::TestEveryCommand::test_on_a_terminal",
        "cli/test_cli_every_command.py::TestEveryCommand::test_a_reader_that_leaves_ends_it_quietly",
    ),
    63: (
        f"{CLI}::TestNotFound::test_an_id_is_taken_literally",
        f"{CLI}::TestNotFound::test_two_dashes_end_the_options",
    ),
    64: (
        "cli/test_cli_bulk.py::TestBulk::test_nobody_to_ask_means_nothing_done",
        "cli/test_cli_commands.py::TestSchema::test_rollback_asks_somebody_or_wants_yes",
    ),
    65: (
        "backup/test_backup_files.py::TestDamage::test_a_damaged_file_is_refused_and_nothing_is_written",
        "backup/test_backup_files.py::TestDamage::test_every_bit_counts",
        "backup/test_backup_files.py::TestDamage::test_every_cut_counts",
        "backup/test_backup_files.py::TestDamage::test_a_bomb_costs_little",
        "backup/test_backup_files.py::TestDamage::test_what_is_no_file_is_refused",
    ),
    # what stands in the store
    75: (
        "core/test_soundness.py::test_a_spoiled_row_has_this_fault_alone",
        "doctor/test_doctor.py::TestRows::test_rows_spoiled_by_hand_are_named",
        f"{CHECKS}check_holds.py::check_an_unreadable_job_stays_out_with_its_bytes",
        "client/test_looking_up.py::TestList::test_one_that_cannot_be_read_is_left_out",
        "backends/test_sqlite.py::TestRows::test_an_unreadable_row_stops_nobody",
        "backends/test_postgres.py::TestDamage::test_text_that_is_none_stops_nobody",
        "backends/test_mysql.py::test_a_job_whose_text_is_none_is_quarantined",
        "backends/test_mongodb.py::test_documents_that_are_no_jobs_are_taken_out_of_the_line",
        "backends/test_redis.py::test_a_job_that_lost_a_part_is_quarantined",
    ),
    76: (
        "backends/test_redis.py::test_a_job_that_lost_a_part_is_quarantined",
        "backends/test_redis.py::test_foreign_keys_under_our_prefix_are_left_alone",
        "backends/test_redis.py::test_a_server_that_throws_keys_away_is_refused",
        "inputs/test_flushed_store.py::test_an_emptied_store_is_told_and_left_empty",
    ),
    66: (
        "dashboard/test_answers.py::TestErrors::test_a_query_has_bounds",
        "dashboard/test_answers.py::TestErrors::test_a_long_address_is_refused",
        "dashboard/test_writes.py::TestForms::test_numbers_have_bounds",
    ),
    67: (
        "dashboard/test_bad_queries.py::TestOrder::test_nobody_says_how_the_store_is_asked",
        "dashboard/test_bad_queries.py::TestOrder::test_no_page_takes_a_word_that_it_does_not_know",
    ),
    68: (
        "dashboard/test_bad_queries.py::TestSearch::test_what_is_no_text_or_too_long_is_refused",
        "dashboard/test_bad_queries.py::TestSearch::test_it_is_taken_literally",
        "dashboard/test_bad_queries.py::TestSearch::test_a_pattern_that_takes_for_ever_takes_no_time",
        "dashboard/test_on_every_store.py::test_filters_leave_what_fits",
        "dashboard/test_time_outs.py::test_no_page_waits_longer_for_the_store_than_a_call_may_take",
    ),
    69: (
        "dashboard/test_bad_queries.py::TestTimes::test_what_is_no_time_is_refused",
        "dashboard/test_bad_queries.py::TestTimes::test_it_ends_after_it_begins",
        "dashboard/test_bad_queries.py::TestTimes::test_a_span_is_one_of_three",
    ),
    70: (
        "dashboard/test_answers.py::TestFiles::test_nothing_else_is",
        "dashboard/test_answers.py::TestErrors::test_an_odd_path_leads_nowhere",
    ),
    71: (
        "dashboard/test_writes.py::TestForms::test_without_the_token_it_is_not",
        "dashboard/test_writes.py::TestForms::test_from_another_site_it_is_not",
        "dashboard/test_writes.py::TestForms::test_a_body_has_bounds",
        "dashboard/test_writes.py::TestForms::test_no_other_way_leads_to_a_write",
    ),
    72: (
        "dashboard/test_raw_requests.py::TestMalformed::test_what_is_no_request_is_refused",
        "dashboard/test_raw_requests.py::TestMalformed::test_another_host_is_refused",
        "dashboard/test_raw_requests.py::TestMalformed::test_two_lengths_are_one_too_many",
        "dashboard/test_raw_requests.py::TestBodies::test_a_long_one_is_refused_unread",
        "dashboard/test_raw_requests.py::TestBodies::test_one_without_end_is_refused",
        "dashboard/test_raw_requests.py::TestSlowness::test_who_dawdles_is_let_go",
        "dashboard/test_raw_requests.py::TestSlowness::test_a_form_that_trickles_is_told_so",
        "dashboard/test_raw_requests.py::TestSlowness::test_places_come_back",
    ),
    73: (
        "dashboard/test_gate.py::TestPasswords::test_of_many_at_once_no_more_are_made",
        "dashboard/test_gate.py::TestPasswords::test_an_unknown_name_costs_as_much",
        "dashboard/test_gate.py::TestPasswords::test_nobody_is_called_almost_so",
        "dashboard/test_gate.py::TestPasswords::test_a_wrong_one_says_nothing_more",
        "dashboard/test_gate.py::TestPasswords::test_too_many_tries_are_put_off",
        "cli/test_cli_dashboard.py::TestUsers::test_a_bad_password_changes_nothing",
    ),
    74: (
        "dashboard/test_hostile_everywhere.py::test_no_page_has_an_element_or_attribute_more",
        "dashboard/test_hostile_jobs.py::test_no_page_has_an_element_more",
        "dashboard/test_hostile_jobs.py::test_what_is_typed_comes_back_as_text",
    ),
    77: (
        f"{CHECKS}check_migrations.py::check_a_store_without_schema_is_refused",
        f"{CHECKS}check_migrations.py::check_migrations_at_once_apply_each_version_once",
        "engine/test_start.py::test_a_store_of_a_newer_jobcard_is_refused",
        "doctor/test_doctor.py::TestSchema::test_a_newer_schema_needs_a_newer_jobcard",
        "backends/test_mysql.py::test_a_migration_that_was_killed_goes_on",
    ),
    78: (
        "core/test_ticks.py::TestExpressions::test_what_is_no_time_is_refused",
        "core/test_ticks.py::TestExpressions::test_ticks_in_utc",
        "client/test_schedules.py::test_what_cannot_be_is_refused_and_nothing_is_stored",
    ),
    79: ("client/test_schedules.py::test_two_that_are_not_alike_under_one_name",),
    80: (
        "core/test_ticks.py::TestExpressions::test_an_unknown_zone_is_refused",
        "core/test_ticks.py::TestExpressions::test_zone_data_that_is_missing_on_the_host_is_told",
    ),
    81: (f"{ENDINGS}::test_a_job_that_enqueues_itself_without_end_leaves_room_for_others",),
    82: (
        "engine/test_start.py::test_an_application_that_cannot_be_imported_is_named_with_its_line",
        "engine/test_start.py::test_an_application_that_breaks_later_is_retried_until_it_is_whole",
        "journeys/test_scripts.py::test_a_missing_guard_starts_no_engine_after_engine",
    ),
}
"""Row by row."""
