-- Which version of a label stands in the AppView's table `label`, which has no seq: of two with the same cts the one
-- that the labeler sent later counts, and it need not come later. Labels that were there before have the seq 0.
CREATE TABLE {own}.label_version (
    src  text COLLATE "C",
    uri  text COLLATE "C",
    cid  text COLLATE "C",
    val  text COLLATE "C",
    cts  text COLLATE "C" NOT NULL,
    seq  bigint NOT NULL,
    PRIMARY KEY (src, uri, cid, val)
);
INSERT INTO {own}.label_version SELECT src, uri, cid, val, cts, 0 FROM label;
