"""What is put together from the pages of several daemons, and what is said of it."""

from dataclasses import replace

import pytest

from common.errors import CannotStart
from sluice.contract import CONTRACT
from sluice.flow import kind_of
from sluice.history import History
from sluice.report import document, duration, sentence, verdict
from sluice.samples import Samples
from sluice.targets import addresses
from sluice.terminal import sparkline
from sluice.verify import of_contract
from tests.metric_pages import flow, page

INGESTER, INDEXER = page("ingester"), page("indexer")


def history(*flows: object) -> History:
    found = History()
    for each in flows:
        found.add(each)  # type: ignore[arg-type]
    return found


def test_a_stream_is_counted_once_however_many_look_at_it() -> None:
    streams = {"firehose_backfill": (150_000, 500_000)}
    now = flow(1.0, page("backfiller", streams), page("backfiller", streams))
    stream = now.streams()["firehose_backfill"]
    assert (stream.length, stream.fill, stream.lag) == (150_000, 0.3, None)


def test_counters_are_summed_over_processes() -> None:
    now = flow(1.0, page("indexer", indexer_db_writes_total=3), page("indexer", indexer_db_writes_total=4))
    assert now.total("indexer_db_writes_total") == 7


def test_a_process_that_began_again_counts_from_0_and_one_that_is_new_says_nothing() -> None:
    before = flow(10.0, page("indexer", indexer_db_writes_total=100), page("indexer", indexer_db_writes_total=50))
    now = flow(
        12.0,
        page("indexer", indexer_db_writes_total=140),
        page("indexer", indexer_db_writes_total=10),
        page("indexer", indexer_db_writes_total=9999),
    )
    assert history(before, now).now["rows"] == (40 + 10) / 2


def test_an_hour_is_kept_and_no_more() -> None:
    kept = history(*(flow(at, INDEXER) for at in (0.0, 1800.0, 3600.0, 3601.0)))
    assert kept.series()["at"] == [1800.0, 3600.0, 3601.0]
    assert kept.series(after=1800.0)["at"] == [3600.0, 3601.0]
    assert {len(values) for values in kept.series().values()} == {3}


def test_late_and_quiet_are_two_things() -> None:
    """The newest live row was 3 s old when it came; that nothing came for an hour since is no lateness."""
    times = {
        "indexer_last_commit_timestamp_seconds__stream_firehose_live": 1003,
        "indexer_last_committed_event_timestamp_seconds__stream_firehose_live": 1000,
    }
    now = flow(4603.0, INGESTER, page("indexer", **times))
    assert now.behind_seconds() == 3
    assert verdict(now, history(now)) == ("ok", ())
    assert sentence(now, history(now)) == "Live rows are 3.0 s behind the network."


@pytest.mark.parametrize(
    ("pages", "state", "note"),
    [
        ((INGESTER, INDEXER), "ok", ""),
        ((INDEXER,), "trouble", "No ingester answers."),
        ((INGESTER, page("indexer", sluice_dependency_up__dependency_postgres=0)), "trouble", "waits for postgres"),
        (
            (page("ingester", ingester_upstream_connected__source_firehose__host_relay=0), INDEXER),
            "trouble",
            "Not connected to relay (firehose).",
        ),
        (
            (page("ingester", {"firehose_live": (95, 100)}, ingester_backpressure_active=1), INDEXER),
            "waiting",
            "Writers to firehose_live wait for room: 95 entries",
        ),
        (
            (INGESTER, page("indexer", {"firehose_live": (5, 100)}, **{
                "sluice_stream_group_lag_seconds__stream_firehose_live": 300,
            })),
            "behind",
            "Live events have waited for up to 5 min.",
        ),
        ((page("ingester", ingester_gaps_unclosed__source_firehose=2), INDEXER), "trouble", "2 gaps"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_said(pages: tuple[str, ...], state: str, note: str) -> None:
    now = flow(2000.0, *pages)
    found, notes = verdict(now, history(now))
    assert found == state
    assert note in " ".join(notes)


def test_who_does_not_answer_is_named() -> None:
    now = flow(1.0, INGESTER, INDEXER, silent=("gone:9090",))
    assert verdict(now, history(now)) == ("trouble", ("gone:9090 does not answer: refused.",))
    assert document(now, history(now))["daemons"][-1]["ready"] is False


def test_the_time_left_comes_from_the_pace_of_the_last_minute() -> None:
    def at(moment: float, done: int) -> object:
        backfiller = page("backfiller", {"repo_backfill": (900, 1000)}, backfiller_repos_processed_total=done)
        return flow(moment, INGESTER, INDEXER, backfiller)

    shown = document(at(10.0, 30), history(at(0.0, 0), at(10.0, 30)))  # type: ignore[arg-type]
    assert shown["backfill"] == {
        "left": 900, "running": 0, "parked": 0, "processed": 30, "failed": 0, "seconds_left": 300.0,
    }  # fmt: skip
    assert "900 repos wait for backfill, about 5 min left." in shown["sentence"]


def test_the_age_of_a_recording_says_nothing() -> None:
    times = {
        "indexer_last_commit_timestamp_seconds__stream_firehose_live": 9_000_000,
        "indexer_last_committed_event_timestamp_seconds__stream_firehose_live": 1000,
    }
    now = flow(9_000_001.0, INGESTER, page("indexer", **times))
    played = replace(now, is_recorded=True)
    assert verdict(now, history(now))[0] == "behind"
    assert verdict(played, history(played))[0] == "ok"
    assert sentence(played, history(played)) == "A recorded network is playing."


def test_a_source_that_people_have_paused_is_not_called_lost() -> None:
    upstream = {"ingester_upstream_connected__source_firehose__host_relay": 0}
    lost = flow(1.0, page("ingester", **upstream), INDEXER)
    assert verdict(lost, history(lost)) == ("trouble", ("Not connected to relay (firehose).",))
    paused = flow(1.0, page("ingester", **upstream, ingester_source_paused__source_firehose__host_relay=1), INDEXER)
    told = "firehose/relay is paused by people: sluice source resume firehose/relay."
    assert verdict(paused, history(paused)) == ("behind", (told,))


def test_dead_letters_are_no_work_that_waits() -> None:
    now = flow(1.0, INGESTER, INDEXER, page("backfiller", {"repo_backfill_dlq": (3, 0), "repo_backfill": (1, 10)}))
    assert [(each["name"], each["is_work"]) for each in document(now, history(now))["streams"]][-2:] == [
        ("repo_backfill", True),
        ("repo_backfill_dlq", False),
    ]


def test_what_was_left_out_is_listed_with_its_reason() -> None:
    dropped = {"ingester_dropped_total__source_firehose__reason_bad_signature": 3}
    now = flow(1.0, page("ingester", **dropped), page("ingester", **dropped), INDEXER)
    assert document(now, history(now))["troubles"] == [
        {"what": "dropped by the ingester", "why": "firehose bad_signature", "count": 6}
    ]


def test_a_page_of_somebody_elses_metrics_is_no_daemon() -> None:
    assert kind_of(Samples.of("go_goroutines 8\n")) == ""
    assert [kind_of(Samples.of(text)) for text in (INGESTER, INDEXER)] == ["ingester", "indexer"]


def test_targets_are_read_as_people_write_them() -> None:
    assert addresses(["http://a:1/metrics", "b:2,a:1", " c:3 "]) == ("a:1", "b:2", "c:3")
    for nonsense in ([], ["a"], ["a:b"], [":1"]):
        with pytest.raises(CannotStart, match="host:port"):
            addresses(nonsense)


def test_durations_read_as_people_say_them() -> None:
    assert [duration(s) for s in (0.04, 12, 119, 300, 8000, 200_000)] == [
        "40 ms",
        "12 s",
        "119 s",
        "5 min",
        "2.2 h",
        "2.3 days",
    ]


def test_a_sparkline_shows_what_is_unknown_as_a_blank() -> None:
    assert sparkline([None, 0.0, 1.0, 8.0]) == "  ▁█"


def test_a_metric_of_the_contract_that_is_missing_fails_by_name_and_so_does_what_never_moved() -> None:
    names = dict.fromkeys(CONTRACT["indexer"], 1.0)
    good = flow(1.0, page("indexer", **names))
    assert {check.outcome for check in of_contract(good)} == {"pass"}
    del names["indexer_update_events_total"]
    names["indexer_db_writes_total"] = 0.0
    details = [(check.outcome, check.detail) for check in of_contract(flow(1.0, page("indexer", **names)))]
    assert details == [("FAIL", "indexer_update_events_total"), ("FAIL", "0 since its start: indexer_db_writes_total")]
