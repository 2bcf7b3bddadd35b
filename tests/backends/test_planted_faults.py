"""The suite can fail: each planted fault is found by the checks named here, and by random histories.

Faults 6 (a disk that forgets), 7 (a heartbeat as long as the lease), 10 (schedules), 12 (a worker's exit
code) and 14 (cut-over) are planted where those live.
"""

from collections.abc import Callable

import pytest
from broken import claiming, fencing, following, limiting, moving, storing
from hypothesis import Phase, settings

from helpers.days import TODAY
from jobcard.backends.base import Backend
from jobcard.conformance import CHECKS, Harness, run_check, run_histories
from jobcard.conformance.drawing import CI
from jobcard.conformance.model import ModelBackend, ModelStore, spoil_in_model
from jobcard.core.clock import FrozenClock

FOUND_BY: dict[type[ModelBackend], tuple[str, ...]] = {
    # Fault 1
    fencing.FinishesWithoutToken: (
        "check_a_late_result_is_refused",
        "check_a_wrong_token_is_refused",
        "check_each_move_needs_the_token",
    ),
    # Fault 2
    fencing.RenewsWithoutToken: ("check_a_renewal_needs_the_token", "check_many_claims_are_renewed_in_one_call"),
    # Fault 3
    fencing.RescuesWithoutRaisingTheToken: (
        "check_a_late_result_is_refused",
        "check_a_change_that_takes_the_job_refuses_its_former_holder",
        "check_a_taking_move_refuses_the_former_holder",
    ),
    # Fault 4
    claiming.ClaimsJobsAtWork: ("check_a_claimed_job_is_not_claimed_again", "check_only_waiting_jobs_are_claimed"),
    claiming.SelectsThenClaims: (
        "check_racing_claimers_get_each_job_once",
        "check_racing_claimers_share_a_short_queue",
    ),
    # Fault 5
    claiming.ForgetsTheLastExchange: ("check_everything_is_there_after_opening_again",),
    # Fault 8
    storing.InsertsWithoutIdGuard: (
        "check_the_same_job_again_is_stored_once",
        "check_a_repeat_leaves_a_job_in_any_state_alone",
    ),
    # Fault 9
    fencing.SweepsByAge: ("check_no_lease_lapses_while_it_is_renewed", "check_leases_of_any_length_lapse_on_time"),
    # Fault 11
    storing.ChecksKeysThenInserts: ("check_one_key_from_many_threads_is_stored_once",),
    # Fault 13
    fencing.CompletesWhatWasCanceled: ("check_no_move_starts_from_a_job_that_ended",),
    # Slips of every day
    fencing.ReportsItsOwnRepeatsAsLost: ("check_an_answer_lost_after_the_commit_is_found_to_be_ours",),
    fencing.ClaimsWithoutRaisingTheToken: ("check_each_claim_raises_the_token",),
    fencing.RenewsALeaseThatRanOut: (
        "check_a_lease_that_ran_out_is_not_renewed",
        "check_a_lease_ends_at_one_instant",
    ),
    fencing.TakesALeaseThatHolds: ("check_a_lease_renewed_meanwhile_is_not_taken",),
    fencing.NeverFindsTheLapsed: ("check_a_lease_ends_at_one_instant",),
    claiming.ClaimsBeforeItIsDue: ("check_a_job_is_not_claimed_before_it_is_due",),
    claiming.NeverReleases: ("check_one_claim_releases_all_that_are_due",),
    claiming.ClaimsAQueuesFirstInFirstOut: ("check_the_lowest_rank_goes_first",),
    claiming.AnswersOutOfOrder: ("check_a_batch_is_claimed_and_answered_in_order",),
    claiming.ClaimsMoreThanTheTotal: ("check_never_more_than_asked",),
    claiming.TellsEveryoneOfCancels: ("check_cancels_reach_the_holder_and_nobody_else",),
    storing.StoresHalfACall: ("check_a_job_that_cannot_be_stored_takes_the_call_with_it",),
    storing.HoldsKeysForEver: ("check_a_key_is_free_once_its_holder_has_ended",),
    storing.RetriesIntoATakenKey: ("check_an_operators_retry_into_a_taken_key_is_refused",),
    storing.KeepsNoErrors: ("check_a_failed_try_is_recorded",),
    storing.SharesItsErrors: ("check_the_last_twenty_tries_are_kept", "check_a_deleted_jobs_tries_go_with_it"),
    storing.LetsJobsKeepForEver: ("check_a_job_that_ends_keeps_its_own_time",),
    storing.PrunesTheLiving: ("check_living_jobs_are_never_deleted",),
    storing.PrunesWithoutLimit: ("check_no_more_than_the_limit_goes_at_once",),
    storing.UnparksEveryone: ("check_unparking_leaves_all_others_alone",),
    storing.LosesUpdatesOfRecords: (
        "check_an_expected_version_guards_the_write",
        "check_expecting_nothing_creates_once",
    ),
    storing.SetsJobsAsideInSilence: ("check_jobs_set_aside_are_told",),
    storing.ShowsThePageBeforeAgain: ("check_pages_follow_each_other",),
    storing.CountsEndedJobsTwice: ("check_counts_follow_every_move",),
    # What comes with a change
    following.FollowsWhatWasRefused: (
        "check_follow_ups_of_a_lost_claim_are_not_stored",
        "check_follow_ups_of_a_rescued_job_are_not_stored",
        "check_follow_ups_of_a_refused_change_are_not_stored",
        "check_a_refused_follow_up_refuses_the_change",
    ),
    following.FollowsItsOwnRepeatsAgain: (
        "check_a_repeat_stores_no_follow_up_again",
        "check_a_follow_up_dropped_once_is_not_stored_later",
    ),
    following.FollowsInASecondStep: ("check_a_refused_follow_up_refuses_the_change",),
    following.FollowsNobody: ("check_follow_ups_are_stored_with_the_change", "check_many_follow_ups_are_all_stored"),
    following.FollowsOverWhatIsThere: (
        "check_a_follow_up_that_is_there_is_left_as_it_is",
        "check_a_job_does_not_follow_itself",
    ),
    following.FollowsBeforeTheChange: ("check_a_follow_up_may_take_over_its_parents_key",),
    following.FollowsIntoATakenKey: (
        "check_a_follow_up_with_a_taken_key_is_dropped",
        "check_two_parents_race_for_one_follow_up",
    ),
    following.FollowsIntoQueuesWithoutRecord: ("check_a_follow_up_opens_its_queue",),
    following.LosesLines: ("check_lines_are_stored_with_their_change", "check_any_change_may_bring_lines"),
    following.KeepsTheLatestLinesOnly: (
        "check_lines_come_in_the_order_they_were_stored",
        "check_changes_of_one_exchange_bring_their_lines_in_order",
    ),
    following.KeepsEveryLine: (
        "check_the_last_thousand_lines_are_kept",
        "check_the_text_of_a_jobs_lines_is_bounded",
    ),
    following.KeepsTheFirstLines: (
        "check_the_last_thousand_lines_are_kept",
        "check_the_text_of_a_jobs_lines_is_bounded",
    ),
    following.LinesOutliveTheirJob: ("check_lines_are_deleted_with_their_job",),
    following.LinesOfWhatWasRefused: (
        "check_lines_of_a_change_that_does_not_apply_are_not_stored",
        "check_a_note_for_a_job_that_ended_changes_nothing",
        "check_a_note_needs_the_token",
    ),
    following.NotesWakeTheDead: (
        "check_a_note_for_a_job_that_ended_changes_nothing",
        "check_no_move_starts_from_a_job_that_ended",
    ),
    following.NotesClearWhatTheyDoNotSay: ("check_only_what_a_note_gives_changes",),
    following.TouchesByCreation: (
        "check_jobs_touched_since_are_those_something_happened_to",
        "check_pages_of_touched_jobs_follow_each_other",
    ),
    following.FindsTheFirstClaimsAgain: ("check_held_claims_come_page_by_page",),
    following.EndsWithAShortPage: ("check_unreadable_jobs_end_no_list",),
    following.RescuesUpToTheFirstGap: ("check_unreadable_claims_end_no_look_for_claims",),
    following.TakesWhatItCannotRead: ("check_an_unreadable_claim_is_its_holders_while_its_lease_runs",),
    following.SetsAsideWithTheOldToken: ("check_an_unreadable_claim_is_taken_once_its_lease_is_over",),
    following.TellsNobodyOfOrders: ("check_settings_rise_with_the_records_engines_obey",),
    # Limits, once keys, jobs that replace
    limiting.CountsOnlyWhatRuns: (
        "check_a_queue_is_never_above_its_limit",
        "check_a_key_is_never_above_its_limit",
        "check_racing_engines_stay_below_a_queues_limit",
    ),
    limiting.CountsNoStarts: (
        "check_a_rate_counts_starts_in_every_window",
        "check_a_keys_rate_counts_starts_in_every_window",
    ),
    limiting.LetsNobodyIn: ("check_every_way_out_of_work_makes_room", "check_what_a_death_left_is_let_in"),
    limiting.LetsEverybodyIn: ("check_what_a_death_left_is_let_in",),
    limiting.RanksAllQueuesTogether: ("check_a_queue_that_nobody_serves_holds_up_no_other",),
    limiting.LetsInByTheFirstOnesLimit: ("check_each_held_job_comes_in_by_its_own_limit",),
    limiting.KeepsThePlaceOfWhoLeftTheLine: ("check_who_was_let_in_and_does_not_start_lets_in_the_next",),
    limiting.PutsAllOffToOneMoment: ("check_jobs_put_off_by_a_rate_are_spread",),
    limiting.TakesAPutOffForAnOffset: ("check_a_job_that_was_put_off_is_retried_like_any_other",),
    limiting.GivesOnceKeysToTheirOwnJobAgain: ("check_a_once_key_guards_against_its_own_job",),
    limiting.ForgetsPlaceInLine: ("check_a_key_is_never_above_its_limit",),
    limiting.StopsAtTheFirstItKeepsOut: ("check_a_key_is_never_above_its_limit",),
    limiting.FreesOnceKeysWithTheirJobs: ("check_a_once_key_outlives_its_job",),
    limiting.TakesOnceKeysForNobody: ("check_a_refused_job_takes_no_once_key",),
    limiting.ReplacesJobsAtWork: ("check_a_job_at_work_is_not_replaced",),
    limiting.KeepsTheAttemptsOfWhatWasReplaced: ("check_a_replaced_job_begins_anew",),
    # Jobs on their way, seals
    moving.PutsWithARaisedVersion: (
        "check_a_put_job_is_field_by_field_what_it_was",
        "check_putting_twice_is_putting_once",
    ),
    moving.KeepsTheTriesOfWhatWasThere: ("check_putting_twice_is_putting_once",),
    moving.PutsIntoTakenKeys: (
        "check_a_taken_unique_key_is_answered_and_the_rest_is_written",
        "check_of_two_put_jobs_with_one_key_one_lives",
    ),
    moving.PutsUpToTheOneItCannot: ("check_a_job_that_cannot_be_put_takes_the_call_with_it",),
    moving.PutsIntoQueuesWithoutRecord: ("check_putting_opens_queues",),
    moving.PutsOnceKeysAlong: ("check_put_looks_at_no_once_keys",),
    moving.PutsClaimsBackInLine: ("check_a_put_claim_that_lapsed_is_rescued",),
    moving.NotesWithoutANewVersion: ("check_a_version_tells_of_every_move_of_a_holder",),
    moving.ComparesWhatItCanReadOnly: ("check_an_unreadable_job_has_the_version_minus_one",),
    moving.TellsOfOnceKeysThatAreOver: ("check_once_keys_in_force_are_told",),
    moving.KeepsOnceKeysThatAreThere: ("check_put_once_keys_take_the_place_of_what_is_there",),
    moving.ErasesOnlyWhatHasEnded: (
        "check_erased_jobs_leave_nothing_but_their_once_keys",
        "check_the_holder_of_an_erased_job_is_told",
    ),
    moving.ErasesOnceKeysToo: ("check_erased_jobs_leave_nothing_but_their_once_keys",),
    moving.SealsProducersOnly: ("check_a_sealed_store_refuses_every_write_and_stays_as_it_was",),
    moving.SealsAllButRecords: ("check_a_sealed_store_refuses_every_write_and_stays_as_it_was",),
    moving.SealsForItselfOnly: (
        "check_every_backend_on_a_sealed_store_is_refused",
        "check_a_seal_outlasts_every_backend",
    ),
    moving.SealsWithAnEmptyWordOnlyBySight: ("check_a_store_tells_its_seal",),
    moving.RefusesWhatItHasWritten: ("check_a_sealed_store_refuses_every_write_and_stays_as_it_was",),
    moving.SealsReadersOut: ("check_reading_a_sealed_store_goes_on",),
    moving.SealsForEver: ("check_a_store_tells_its_seal",),
    moving.TakesAnEraseForAWriteBehindASeal: ("check_an_unsealed_store_refuses_nothing",),
    moving.EmptiesNoSealedStore: ("check_what_no_seal_stops",),
}

# What one thread alone can never show, or what histories do not do.
ONLY_BY_CHECKS = {
    claiming.SelectsThenClaims,
    storing.ChecksKeysThenInserts,
    storing.StoresHalfACall,
    following.FollowsIntoQueuesWithoutRecord,
    following.LinesOutliveTheirJob,
    following.KeepsEveryLine,  # somewhat more than asked is allowed, and how much that is only a check says
    following.TellsNobodyOfOrders,
    storing.SetsJobsAsideInSilence,
    following.EndsWithAShortPage,
    following.RescuesUpToTheFirstGap,
    following.TakesWhatItCannotRead,
    following.SetsAsideWithTheOldToken,
    limiting.LetsInByTheFirstOnesLimit,  # two limits of one key, the wider behind, and room for it alone: too rare
    limiting.KeepsThePlaceOfWhoLeftTheLine,  # who stands in line before others of its key and leaves: too rare as well
    limiting.PutsAllOffToOneMoment,  # whose turn is when is the store's
    limiting.GivesOnceKeysToTheirOwnJobAgain,
    # What is put, taken back and sealed, and in which order, is a history of its own.
    *(fault for fault in FOUND_BY if fault.__module__ == moving.__name__),
}

DAYS = 5
"""A fifth of the faults are looked for by histories each day, all of them where long tests run; by checks always."""

RARE = {limiting.RanksAllQueuesTogether, following.FindsTheFirstClaimsAgain}
"""Found by histories after hundreds of them, which takes a minute: where long tests run."""

# Found after 5 to 100 histories on average, so twenty times as many leave nothing to luck.
HISTORIES = settings(CI, max_examples=2_000, database=None, report_multiple_bugs=False, phases=[Phase.generate])


def harness_of(fault: type[ModelBackend]) -> Harness:
    """A harness over model stores with this fault."""

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        store = ModelStore(clock)
        return lambda: fault(store)

    return Harness(new_store, spoil=spoil_in_model)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        pytest.param(fault, check, id=f"{fault.__name__}-{check.removeprefix('check_')}")
        for fault, checks in FOUND_BY.items()
        for check in checks
    ],
)
def test_a_check_finds_the_fault(fault: type[ModelBackend], check: str) -> None:
    """The check passes on the model and fails on the model with the fault."""
    run_check(check, harness_of(ModelBackend))
    # Of pytest's own: a `pytest.raises` in the check that saw nothing raised.
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_check(check, harness_of(fault))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=[] if number % DAYS == TODAY % DAYS and fault not in RARE else [pytest.mark.long])
        for number, fault in enumerate(fault for fault in FOUND_BY if fault not in ONLY_BY_CHECKS)
    ],
    ids=lambda fault: fault.__name__,
)
@pytest.mark.timeout(600)
def test_histories_find_the_fault(fault: type[ModelBackend]) -> None:
    """Random histories on the store with the fault differ from the model's."""
    with pytest.raises(AssertionError):
        run_histories(lambda: harness_of(fault), HISTORIES)


def test_every_check_named_here_exists() -> None:
    """A check that was renamed is not forgotten here."""
    assert {check for checks in FOUND_BY.values() for check in checks} <= set(CHECKS)
