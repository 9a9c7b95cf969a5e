-- Replies that hang on nothing of their thread stay where posts wait for their place, and a gate that comes late finds
-- them there by their thread.
ALTER TABLE {own}.unsettled RENAME TO unplaced;
ALTER INDEX {own}.unsettled_pkey RENAME TO unplaced_pkey;
ALTER TABLE {own}.unplaced ADD COLUMN root text COLLATE "C";
INSERT INTO {own}.unplaced SELECT uri, "replyRoot" FROM post WHERE "invalidReplyRoot" ON CONFLICT DO NOTHING;
CREATE INDEX unplaced_root_idx ON {own}.unplaced (root) WHERE root IS NOT NULL;

-- Quotes and reposts that went with the post that they are about, to be found when it turns out to have been otherwise.
CREATE TABLE {own}.lost (
    subject  text COLLATE "C",
    uri      text COLLATE "C",
    PRIMARY KEY (subject, uri)
);
CREATE INDEX lost_uri_idx ON {own}.lost (uri);
INSERT INTO {own}.lost
SELECT "embedUri", "postUri" FROM post_embed_record
WHERE split_part("embedUri", '/', 4) = 'app.bsky.feed.post' AND NOT EXISTS (SELECT FROM quote WHERE uri = "postUri")
UNION ALL
SELECT subject, uri FROM repost WHERE NOT EXISTS (SELECT FROM feed_item WHERE feed_item.uri = repost.uri);
