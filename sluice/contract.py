"""The metrics that dashboards of the other implementation read: by name, without labels, from the start."""

INGESTER = {
    *("ingester_firehose_events_total", "ingester_firehose_create_events_total"),
    *("ingester_firehose_update_events_total", "ingester_firehose_delete_events_total"),
    *("ingester_firehose_filtered_operations_total", "ingester_stream_events_total", "ingester_errors_total"),
    *("ingester_firehose_live_length", "ingester_firehose_backfill_length"),
    *("ingester_label_live_length", "ingester_repo_backfill_length"),
    *("ingester_backpressure_active", "ingester_websocket_connections", "ingester_events_in_memory"),
    *("ingester_labeler_events_total", "ingester_labels_written_total"),
    *("ingester_backfill_repos_fetched_total", "ingester_backfill_repos_written_total"),
    *("ingester_backfill_fetch_errors_total", "ingester_backfill_cursor_skips_total", "ingester_backfill_complete"),
}
BACKFILLER = {
    *("backfiller_repos_processed_total", "backfiller_repos_failed_total", "backfiller_repos_dead_lettered_total"),
    *("backfiller_records_extracted_total", "backfiller_records_filtered_total"),
    *("backfiller_retries_attempted_total", "backfiller_repos_waiting", "backfiller_repos_running"),
    *("backfiller_output_stream_length", "backfiller_car_fetch_errors_total"),
    *("backfiller_car_parse_errors_total", "backfiller_verification_errors_total"),
}
INDEXER = {
    *("indexer_events_processed_total", "indexer_create_events_total", "indexer_update_events_total"),
    *("indexer_delete_events_total", "indexer_repo_events_total", "indexer_account_events_total"),
    *("indexer_identity_events_total", "indexer_errors_total", "indexer_ack_failures_total"),
    *("indexer_pending_messages", "indexer_active_tasks", "indexer_db_writes_total"),
    *("indexer_expected_errors_total", "indexer_unexpected_errors_total"),
    *("indexer_post_events_total", "indexer_like_events_total", "indexer_repost_events_total"),
    *("indexer_follow_events_total", "indexer_block_events_total", "indexer_profile_events_total"),
    *("indexer_labels_processed_total", "indexer_labels_added_total", "indexer_labels_removed_total"),
}
CONTRACT = {"ingester": INGESTER, "backfiller": BACKFILLER, "indexer": INDEXER}
GAUGES = {
    *("ingester_firehose_live_length", "ingester_firehose_backfill_length", "ingester_label_live_length"),
    *("ingester_repo_backfill_length", "ingester_backpressure_active", "ingester_websocket_connections"),
    *("ingester_events_in_memory", "ingester_backfill_complete"),
    *("backfiller_repos_waiting", "backfiller_repos_running", "backfiller_output_stream_length"),
    *("indexer_pending_messages", "indexer_active_tasks"),
}
