"""The alerts of ops/rules/backfiller.yml: the backfiller."""

from tests.monitoring.cases.series import BACKFILLER, Case

_FAILED, _PROCESSED = (
    f"backfiller_repos_failed_total{{{BACKFILLER}}}",
    f"backfiller_repos_processed_total{{{BACKFILLER}}}",
)
_STALLED = {
    f"backfiller_repos_waiting{{{BACKFILLER}}}": "50x120",
    f'backfiller_repo_outcomes_total{{{BACKFILLER},outcome="done"}}': "10x120",
    f"backfiller_repos_failed_total{{{BACKFILLER}}}": "1x120",
    f"backfiller_backpressure_active{{{BACKFILLER}}}": "0x120",
}
CASES = {
    "BackfillerHighErrorRate": Case(fires={_FAILED: "0+700x120"}, quiet={_FAILED: "0+500x120"}),
    "BackfillerFailureRatioHigh": Case(
        fires={_FAILED: "0+30x120", _PROCESSED: "0+70x120"},
        quiet={_FAILED: "0+10x120", _PROCESSED: "0+90x120"},
    ),
    "BackfillerFailureRatioHigh: one of a few": Case(
        fires={_FAILED: "0+30x120", _PROCESSED: "0+70x120"},
        quiet={_FAILED: "0x55 1x65", _PROCESSED: "0x120"},
    ),
    "BackfillerRetryFlood": Case(
        fires={
            _FAILED: "0+60x120",
            _PROCESSED: "0+40x120",
            f"backfiller_retries_attempted_total{{{BACKFILLER}}}": "0+60x120",
        },
        quiet={
            _FAILED: "0+40x120",
            _PROCESSED: "0+60x120",
            f"backfiller_retries_attempted_total{{{BACKFILLER}}}": "0+40x120",
        },
    ),
    "BackfillerRetryFlood: a handful": Case(
        fires={
            _FAILED: "0+2x120",
            _PROCESSED: "0+1x120",
            f"backfiller_retries_attempted_total{{{BACKFILLER}}}": "0+2x120",
        },
        quiet={
            _FAILED: "0+1x120",
            _PROCESSED: "0x120",
            f"backfiller_retries_attempted_total{{{BACKFILLER}}}": "0+1x120",
        },
    ),
    "BackfillerStalled": Case(
        fires=_STALLED,
        quiet={**_STALLED, f'backfiller_repo_outcomes_total{{{BACKFILLER},outcome="done"}}': "10+1x120"},
    ),
    "BackfillerStalled: the output is full": Case(
        fires=_STALLED, quiet={**_STALLED, f"backfiller_backpressure_active{{{BACKFILLER}}}": "1x120"}
    ),
    "BackfillerVerificationErrorsHigh: a handful": Case(
        fires={
            _FAILED: "0+1x120",
            _PROCESSED: "0+4x120",
            f"backfiller_verification_errors_total{{{BACKFILLER}}}": "0+1x120",
        },
        quiet={
            _FAILED: "0x50 1x70",
            _PROCESSED: "0x120",
            f"backfiller_verification_errors_total{{{BACKFILLER}}}": "0x50 1x70",
        },
    ),
    "BackfillerVerificationErrorsHigh": Case(
        fires={
            _FAILED: "0+10x120",
            _PROCESSED: "0+90x120",
            f"backfiller_verification_errors_total{{{BACKFILLER}}}": "0+10x120",
        },
        quiet={
            _FAILED: "0+10x120",
            _PROCESSED: "0+90x120",
            f"backfiller_verification_errors_total{{{BACKFILLER}}}": "0+2x120",
        },
        after="90m",
    ),
    "BackfillerDeadLetterBudgetBurn": Case(
        fires={f"backfiller_repos_dead_lettered_total{{{BACKFILLER}}}": "0+6x120", _PROCESSED: "0+60x120"},
        # much in the last hour, little in the last six
        quiet={
            f"backfiller_repos_dead_lettered_total{{{BACKFILLER}}}": "0x60 0+6x10",
            _PROCESSED: "0+6000x60 360000+60x60",
        },
        after="70m",
    ),
}
