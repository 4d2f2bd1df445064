//! The list of the trials that run code of the image.

/// Gives a macro every trial, by module.
macro_rules! every_trial {
    ($with:ident) => {
        $with! {
            helpers {
                tail_calls_need_a_program_array_slot
                printed_lines_are_collected
                several_answers_are_given_in_order_and_the_last_for_good
                memory_and_string_helpers_work_as_their_models
                the_simulated_machine_is_all_that_programs_learn_about
                helpers_of_program_types_are_told_apart
                pointers_that_programs_may_not_use_are_refused
            }
            maps {
                hash_maps_honour_their_flags
                the_option_of_an_update_has_32_bits
                arrays_are_bounded_and_zeroed_by_delete
                per_cpu_maps_show_programs_the_value_of_their_processor
                lru_maps_drop_what_was_used_longest_ago
                prefix_maps_find_the_longest_prefix
                queues_and_stacks_take_turns
                lookup_and_delete_gives_the_last_sight_of_a_value
                maps_of_maps_lead_to_inner_maps
                rings_keep_records_until_they_are_full
                perf_events_carry_packet_bytes_on_demand
                hashes_of_maps_hold_maps_by_key
                a_value_outlives_its_deletion_until_the_program_ends
                hundreds_of_values_are_all_within_reach
            }
            programs {
                loads_checks_and_unloads_a_good_module
                runs_a_program_on_packet_context_maps_and_globals
                equal_requests_give_equal_reports
                repeats_an_input
                follows_tail_calls_up_to_the_limit
                presets_name_maps_and_programs_for_maps_that_hold_them
                requests_that_do_not_fit_the_module_are_refused
                metadata_lies_before_the_packet_and_is_absent_otherwise
                broken_programs_are_caught_by_rule
                faults_name_instruction_program_and_what_was_touched
                code_that_leaves_the_image_is_said_to
                an_endless_loop_is_a_time_out_of_its_program
                unused_stack_and_volatile_registers_hold_garbage
                a_helper_reached_by_a_jump_with_a_wild_return_address_is_caught
                return_addresses_are_authenticated
                code_that_was_discarded_is_gone
            }
            providers {
                functions_of_other_modules_are_called_through_their_table
                a_function_needs_its_provider_when_the_module_is_loaded
                a_program_is_not_run_while_a_provider_is_away
                a_provider_with_other_prototypes_does_not_suit_a_stated_hash
                a_stated_hash_counts_functions_in_table_order
                an_address_that_was_kept_over_a_reload_is_caught
                equal_requests_give_equal_reports_whatever_reloads
                custom_maps_are_closed_to_general_helpers
                a_custom_map_needs_its_extension
                helpers_of_the_sample_extension_work_as_their_models
            }
            failures {
                each_failure_is_answered_and_leaves_nothing
                each_failure_of_a_module_that_calls_functions_is_answered_and_leaves_nothing
                defects_that_the_runtime_notices_are_answered_and_leave_nothing
                defects_that_it_does_not_notice_stay_errors
                a_failure_that_cannot_happen_to_a_module_is_no_request
            }
            loads {
                loads_share_pinned_maps_and_nothing_else
                tail_calls_through_a_shared_map_reach_the_program_of_the_load_that_stored_it
                a_load_that_does_not_exist_is_no_request
                maps_that_cannot_be_pinned_before_are_no_request
                a_map_that_is_pinned_already_is_used_as_it_is
                a_pinned_map_of_another_definition_fails_the_load
                older_runtimes_refuse_the_long_form_of_programs
                older_runtimes_have_no_table_of_functions
            }
            mishaps {
                a_helper_fails_on_the_calls_that_are_meant
                a_failing_helper_gives_what_it_would_or_what_is_asked_for
                maps_can_be_without_room
                memory_for_values_can_run_out
                a_helper_that_nobody_calls_cannot_fail
            }
            chains {
                programs_of_an_attach_point_run_in_order_on_one_context
                the_last_program_of_a_chain_gives_the_result
                each_program_of_a_chain_has_all_tail_calls
                a_return_value_can_end_a_chain
                a_change_of_a_field_can_end_a_chain
                a_connection_that_is_redirected_ends_the_chain
                a_connection_that_is_rejected_ends_the_chain
                a_program_that_is_not_run_ends_a_chain
                programs_that_cannot_be_attached_together_are_no_request
            }
            streams {
                inputs_come_one_after_another
                the_caller_can_end_a_run
                the_time_limit_is_for_each_invocation
                records_can_be_read_after_each_invocation
                the_machine_changes_between_inputs
                maps_are_told_before_and_after_each
            }
            traces {
                each_instruction_and_each_way_of_a_branch_is_counted
                the_same_run_again_costs_the_same_again
                tail_calls_belong_to_the_invocation_that_made_them
                counting_changes_nothing_else
                nothing_but_programs_is_counted
                what_stops_a_program_is_reported_as_without_counting
                an_endless_loop_is_a_time_out_where_it_loops
                counts_come_with_streams
                loads_are_counted_together
                an_instruction_that_repeats_itself_is_one_and_a_loop_is_not
                code_that_keeps_its_flags_is_counted_and_code_that_clears_them_is_not
                interpreted_programs_are_counted_by_function_and_slot
                what_a_program_has_and_did_not_execute_is_known
            }
            kernel {
                each_check_of_the_kernel_catches_its_own
                the_right_program_info_hash_is_accepted
                programs_of_older_versions_get_the_shorter_map_table
                images_that_the_loader_refuses_are_not_run
                large_arrays_are_reported_by_what_is_in_them
                what_does_not_fit_is_an_error_and_not_a_crash
                garbled_images_end_in_an_answer
            }
        }
    };
}
