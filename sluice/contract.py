"""The metrics that dashboards of the other implementation read: by name, without labels, from the start."""

INGESTER = {
    *("ingester_firehose_events_total", "ingester_labeler_events_total", "ingester_stream_events_total"),
    *("ingester_errors_total", "ingester_firehose_live_length", "ingester_label_live_length"),
    *("ingester_backpressure_active", "ingester_websocket_connections"),
}
BACKFILLER = {
    *("backfiller_repos_processed_total", "backfiller_repos_failed_total", "backfiller_repos_dead_lettered_total"),
    *("backfiller_records_extracted_total", "backfiller_retries_attempted_total", "backfiller_repos_waiting"),
    *("backfiller_repos_running", "backfiller_output_stream_length", "backfiller_car_fetch_errors_total"),
    *("backfiller_car_parse_errors_total", "backfiller_verification_errors_total"),
}
INDEXER = {
    *("indexer_events_processed_total", "indexer_create_events_total", "indexer_update_events_total"),
    *("indexer_delete_events_total", "indexer_db_writes_total", "indexer_errors_total"),
    *("indexer_post_events_total", "indexer_like_events_total", "indexer_repost_events_total"),
    *("indexer_follow_events_total", "indexer_pending_messages", "indexer_active_tasks"),
}
CONTRACT = {"ingester": INGESTER, "backfiller": BACKFILLER, "indexer": INDEXER}
GAUGES = {
    *("ingester_firehose_live_length", "ingester_label_live_length", "ingester_backpressure_active"),
    *("ingester_websocket_connections", "backfiller_repos_waiting", "backfiller_repos_running"),
    *("backfiller_output_stream_length", "indexer_pending_messages", "indexer_active_tasks"),
}
