-- The store itself.

-- name: db.size
SELECT page_count * page_size AS size FROM pragma_page_count(), pragma_page_size();

-- name: db.size@postgres
SELECT CAST(COALESCE(SUM(pg_total_relation_size(c.oid)), 0) AS BIGINT) AS size FROM pg_class c
 WHERE c.relnamespace = CAST(current_schema() AS regnamespace) AND c.relkind = 'r';
