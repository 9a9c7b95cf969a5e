-- Whom somebody followed, and who stood on somebody's lists: asked for each reply below a gate. One who follows and takes
-- it back for years has a hundred thousand of them. What gates said is left alone: there may be a NUL in it.
CREATE INDEX life_tie_idx ON {own}.life (split_part(uri, '/', 3), (says::json ->> 'subject'))
    WHERE split_part(uri, '/', 4) IN ('app.bsky.graph.follow', 'app.bsky.graph.listitem');
