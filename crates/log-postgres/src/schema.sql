-- What a log in PostgreSQL is made of. SCHEMA stands for the name of its schema, in quotes.

-- The log itself: one row.
CREATE TABLE SCHEMA.log (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    id uuid NOT NULL,
    format integer NOT NULL,
    layout text NOT NULL,
    token_key bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- A row for each partition. Who appends locks it. It never changes, so no dead version of it is left.
CREATE TABLE SCHEMA.partitions (
    partition integer PRIMARY KEY
);

-- The events. Only the primary key begins with the partition, so no plan that was made for a small table looks
-- for an id or a category by it. `append` is the offset of the first event of the same append, and `appended` says
-- how many that has. `causes` has the delta of an append, at its first event: partition, count, …
CREATE TABLE SCHEMA.events (
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    append bigint NOT NULL,
    appended integer NOT NULL,
    version bigint NOT NULL,
    recorded_at bigint NOT NULL,
    schema_version bigint NOT NULL,
    id uuid NOT NULL,
    stream text COLLATE "C" NOT NULL,
    category text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    tags text[] COLLATE "C",
    causes bigint[],
    meta bytea,
    data bytea NOT NULL,
    PRIMARY KEY (partition, "offset"),
    UNIQUE (id, partition),
    UNIQUE (stream, version)
);
CREATE INDEX events_of_category ON SCHEMA.events (category, partition, "offset");
CREATE INDEX events_of_tags ON SCHEMA.events USING gin (tags) WHERE tags IS NOT NULL;

-- What the events of a partition depend on in another one: the newest entry before an offset says
-- all. Only what raises an older entry is kept.
CREATE TABLE SCHEMA.causes (
    partition integer NOT NULL,
    other integer NOT NULL,
    "offset" bigint NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (partition, other, "offset")
);
-- By an expression, so that the newest entry of two partitions is looked for by the key alone.
CREATE INDEX causes_by_offset ON SCHEMA.causes ((partition + 0), "offset");

-- What nobody may do, whoever asks: events stay as they are.
CREATE FUNCTION SCHEMA.refuse() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
    RAISE EXCEPTION 'the events of a log never change';
END $fn$;
CREATE TRIGGER events_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON SCHEMA.events
    FOR EACH STATEMENT EXECUTE FUNCTION SCHEMA.refuse();

-- How far each partition goes, by its number; from 1, as arrays count.
CREATE FUNCTION SCHEMA.heads() RETURNS bigint[] LANGUAGE sql VOLATILE AS $fn$
    SELECT array_agg(coalesce((SELECT e."offset" + 1 FROM SCHEMA.events e
        WHERE e.partition = p.partition ORDER BY e."offset" DESC LIMIT 1), 0) ORDER BY p.partition)
    FROM SCHEMA.partitions p
$fn$;

-- Takes appends, each of which is taken or refused alone, in one transaction.
--
-- 1. The rows of their partitions are locked, ascending: who comes second waits here for the end
--    of the first transaction.
-- 2. Each statement after that sees what had been committed when it began, so it sees the ends as
--    they are until this transaction ends. That needs READ COMMITTED.
-- 3. Each append is checked (causes, ids, conditions) and written before the next one is looked at.
--
-- Append i has the events behind those of i - 1, up to `lasts[i]`; so have its conditions and causes.
-- Lists of texts come as one: each with U+001F before it. `locks` has the partitions of all events
-- and conditions.
--
-- Conditions: 1 the stream is empty, 2 there, 3 at version `counts`, 4 no event of
-- partition `places` from offset `counts` on matches, 5 that partition has so many events. What a
-- stream's condition found in another partition is a cause.
--
-- outcome: 0 written, 1 written before, 2 an id is taken, 3 partly written, 4 a stream is not as
-- expected, 5 an event matches, 6 a condition looks beyond the head, 7 a cause is not in the log.
-- `which` is the event or condition of the append that it is about, from 0.
--
-- `siblings`, if there are any, has for each partition how far it goes behind all of these appends, or
-- 0 where they write nothing: then they are the parts of one, see `append_together`.
--
-- `times`, if there are any, has when each append was recorded in the log that it is copied from. What it
-- depends on may be copied after it. Only whoever owns the log may give them.
CREATE FUNCTION SCHEMA.append(
    locks integer[], homes integer[], lasts integer[],
    ids uuid[], streams text[], types text[], schema_versions bigint[],
    datas bytea[], metas bytea[], tag_lists text[],
    condition_lasts integer[], kinds integer[], about text[], places integer[], counts bigint[],
    cause_lasts integer[], cause_partitions integer[], cause_counts bigint[],
    siblings bigint[] DEFAULT NULL, times bigint[] DEFAULT NULL
) RETURNS TABLE (outcome integer, which integer, at bigint, offsets bigint[], versions bigint[], closure bigint[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off SET lock_timeout = '20s' AS $fn$
#variable_conflict use_variable
DECLARE
    is_causal boolean := cardinality(cause_lasts) > 0;
    home integer; before_home integer := -1;
    lo integer; hi integer := 0;
    c_lo integer; c_hi integer := 0;
    q_lo integer; q_hi integer := 0;
    ending bigint; last_time bigint; this_time bigint; cause_time bigint;
    knows bigint[]; joined bigint[]; befores bigint[]; given bigint[];
    found_count integer; first_found integer; first_taken integer;
    all_q integer[]; all_c bigint[]; q integer; c_count bigint;
    is_repeat boolean; actual bigint; found_in integer; found_at bigint; item text; item_types text[]; item_tags text[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'appends need the isolation level READ COMMITTED, and this transaction has another'
            USING HINT = 'ALTER ROLE … SET default_transaction_isolation = ''read committed''';
    END IF;
    IF times IS NOT NULL AND NOT pg_has_role(session_user, current_user, 'MEMBER') THEN
        RAISE EXCEPTION 'only the role that owns a log may copy events into it'
            USING HINT = format('copy as %I, or as a member of it', current_user);
    END IF;
    IF siblings IS NOT NULL THEN
        befores := SCHEMA.heads();
    END IF;
    IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM 1 FROM SCHEMA.partitions p WHERE p.partition = ANY (locks) ORDER BY p.partition FOR UPDATE;
    <<appends>>
    FOR i IN 1 .. cardinality(homes) LOOP
        home := homes[i];
        lo := hi + 1; hi := lasts[i];
        c_lo := c_hi + 1; c_hi := condition_lasts[i];
        outcome := NULL; which := NULL; at := NULL; offsets := NULL; versions := NULL; closure := NULL;
        IF home <> before_home THEN
            SELECT e."offset" + 1, e.recorded_at INTO ending, last_time FROM SCHEMA.events e
                WHERE e.partition = home ORDER BY e."offset" DESC LIMIT 1;
            ending := coalesce(ending, 0);
            last_time := coalesce(last_time, 0);
            IF is_causal THEN
                SELECT array_agg(coalesce((SELECT c.count FROM SCHEMA.causes c
                        WHERE c.partition = home AND c.other = p.partition
                        ORDER BY c."offset" DESC LIMIT 1), 0) ORDER BY p.partition)
                    INTO knows FROM SCHEMA.partitions p;
            END IF;
            before_home := home;
        END IF;
        all_q := NULL; all_c := NULL;
        IF is_causal THEN
            q_lo := q_hi + 1; q_hi := cause_lasts[i];
            all_q := cause_partitions[q_lo:q_hi]; all_c := cause_counts[q_lo:q_hi];
            IF q_lo <= q_hi AND times IS NULL THEN
                closure := SCHEMA.heads();
                FOR k IN q_lo .. q_hi LOOP
                    IF cause_counts[k] > coalesce(closure[cause_partitions[k] + 1], 0) THEN
                        outcome := 7;
                        RETURN NEXT;
                        CONTINUE appends;
                    END IF;
                END LOOP;
            END IF;
        END IF;

        -- Whether they were written before.
        SELECT count(*), min(k), min(k) FILTER (WHERE NOT (e.stream = streams[k] AND e.event_type = types[k] AND e.data = datas[k]))
            INTO found_count, first_found, first_taken
            FROM generate_series(lo, hi) k, LATERAL (SELECT * FROM SCHEMA.events e
                WHERE e.id = ids[k] AND e.partition + 0 = home LIMIT 1) e;
        IF found_count > 0 THEN
            which := coalesce(first_taken, first_found) - lo;
            SELECT e."offset" INTO at FROM SCHEMA.events e WHERE e.id = ids[lo + which] AND e.partition + 0 = home;
            IF first_taken IS NOT NULL OR found_count < hi - lo + 1 THEN
                outcome := CASE WHEN first_taken IS NOT NULL THEN 2 ELSE 3 END;
                RETURN NEXT;
                CONTINUE appends;
            END IF;
            SELECT array_agg(e."offset" ORDER BY k), array_agg(e.version ORDER BY k) INTO offsets, versions
                FROM generate_series(lo, hi) k, LATERAL (SELECT * FROM SCHEMA.events e
                WHERE e.id = ids[k] AND e.partition + 0 = home LIMIT 1) e;
        END IF;
        is_repeat := found_count > 0;

        FOR c IN c_lo .. c_hi LOOP
            EXIT WHEN is_repeat;
            which := c - c_lo;
            IF kinds[c] < 4 THEN
                SELECT e.version, e.partition, e."offset" INTO actual, found_in, found_at FROM SCHEMA.events e
                    WHERE e.stream = about[c] ORDER BY e.version DESC LIMIT 1;
                IF is_causal AND found_in <> home THEN
                    all_q := all_q || found_in; all_c := all_c || (found_at + 1);
                END IF;
                IF NOT (CASE kinds[c]
                    WHEN 1 THEN actual IS NULL
                    WHEN 2 THEN actual IS NOT NULL
                    WHEN 3 THEN actual IS NOT DISTINCT FROM counts[c]
                END) THEN
                    outcome := 4; at := actual;
                    RETURN NEXT;
                    CONTINUE appends;
                END IF;
                CONTINUE;
            END IF;
            IF kinds[c] = 5 THEN
                closure := SCHEMA.heads();
                IF counts[c] > coalesce(closure[places[c] + 1], 0) THEN
                    outcome := 6;
                    RETURN NEXT;
                    CONTINUE appends;
                END IF;
                CONTINUE;
            END IF;
            -- Items, each with U+001D before it: types, U+001E, tags.
            FOREACH item IN ARRAY (string_to_array(about[c], U&'\001D'))[2:] LOOP
                item_types := (string_to_array(split_part(item, U&'\001E', 1), U&'\001F'))[2:];
                item_tags := (string_to_array(split_part(item, U&'\001E', 2), U&'\001F'))[2:];
                SELECT min(e."offset") INTO at FROM SCHEMA.events e
                    WHERE e.partition = places[c] AND e."offset" >= counts[c]
                        AND (cardinality(item_types) = 0 OR e.event_type = ANY (item_types))
                        AND (cardinality(item_tags) = 0 OR e.tags @> item_tags);
                IF at IS NOT NULL THEN
                    outcome := 5;
                    RETURN NEXT;
                    CONTINUE appends;
                END IF;
            END LOOP;
        END LOOP;

        IF siblings IS NOT NULL THEN
            -- Each part depends on the others, and on what stands before them.
            FOR k IN 1 .. cardinality(siblings) LOOP
                IF siblings[k] > 0 AND k - 1 <> home THEN
                    all_q := all_q || (k - 1);
                    all_c := all_c || befores[k];
                END IF;
            END LOOP;
        END IF;
        joined := knows;
        IF is_causal THEN
            -- A cause brings what it depends on itself; a token has that already.
            FOR k IN 1 .. cardinality(all_q) LOOP
                q := all_q[k]; c_count := all_c[k];
                IF q <> home AND c_count > knows[q + 1] THEN
                    SELECT array_agg(greatest(joined[p.partition + 1], coalesce((SELECT c.count FROM SCHEMA.causes c
                            WHERE c.partition = q AND c.other = p.partition AND c."offset" < c_count
                            ORDER BY c."offset" DESC LIMIT 1), 0)) ORDER BY p.partition)
                        INTO joined FROM SCHEMA.partitions p;
                END IF;
                joined[q + 1] := greatest(joined[q + 1], c_count);
            END LOOP;
            FOR k IN 1 .. coalesce(cardinality(siblings), 0) LOOP
                IF k - 1 <> home THEN
                    joined[k] := greatest(joined[k], siblings[k]);
                END IF;
            END LOOP;
        END IF;
        closure := joined; at := NULL;
        IF is_repeat THEN
            outcome := 1; which := NULL;
            RETURN NEXT;
            CONTINUE appends;
        END IF;

        this_time := greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, last_time + 1);
        IF joined IS DISTINCT FROM knows THEN
            INSERT INTO SCHEMA.causes (partition, other, "offset", count)
                SELECT home, k - 1, ending, joined[k] FROM generate_subscripts(joined, 1) k
                WHERE k - 1 <> home AND joined[k] > knows[k];
            -- It was recorded later than what it depends on, whatever the clocks say.
            SELECT max(e.recorded_at) + 1 INTO cause_time
                FROM generate_subscripts(joined, 1) k JOIN SCHEMA.events e
                    ON e.partition = k - 1 AND e."offset" = joined[k] - 1
                WHERE joined[k] > knows[k];
            this_time := greatest(this_time, cause_time);
        END IF;
        this_time := coalesce(times[i], this_time);
        IF times IS NOT NULL THEN
            -- As it stands there: of appends that were under way together each may say what the others say.
            SELECT array_agg(d.x ORDER BY all_q[k], d.o) INTO given FROM generate_subscripts(all_q, 1) k,
                LATERAL (VALUES (1, all_q[k]::bigint), (2, all_c[k])) d (o, x);
        END IF;
        WITH news AS (
            SELECT u.*, coalesce((SELECT e.version + 1 FROM SCHEMA.events e WHERE e.stream = u.stream
                    ORDER BY e.version DESC LIMIT 1), 0)
                    + row_number() OVER (PARTITION BY u.stream ORDER BY u.n) - 1 AS version
                FROM unnest(ids[lo:hi], streams[lo:hi], types[lo:hi], schema_versions[lo:hi],
                    datas[lo:hi], metas[lo:hi], tag_lists[lo:hi])
                WITH ORDINALITY AS u (id, stream, event_type, schema_version, data, meta, tag_list, n)
        ), written AS (
            INSERT INTO SCHEMA.events (partition, "offset", append, appended, version, recorded_at,
                schema_version, id, stream, category, event_type, tags, causes, meta, data)
            SELECT home, ending + u.n - 1, ending, hi - lo + 1,
                u.version, this_time,
                u.schema_version, u.id, u.stream, split_part(u.stream, '/', 1), u.event_type,
                (string_to_array(u.tag_list, U&'\001F'))[2:],
                CASE WHEN u.n > 1 THEN NULL
                WHEN times IS NOT NULL THEN given
                WHEN joined IS DISTINCT FROM knows THEN
                    (SELECT array_agg(d.x ORDER BY k, d.o) FROM generate_subscripts(joined, 1) k,
                        LATERAL (VALUES (1, (k - 1)::bigint), (2, joined[k])) d (o, x)
                        WHERE k - 1 <> home AND joined[k] > knows[k]) END,
                u.meta, u.data
            FROM news u
            RETURNING "offset", version
        )
        SELECT array_agg(w."offset" ORDER BY w."offset"), array_agg(w.version ORDER BY w."offset")
            INTO offsets, versions FROM written w;
        ending := ending + hi - lo + 1;
        last_time := this_time;
        knows := joined;
        outcome := 0; which := NULL;
        RETURN NEXT;
    END LOOP;
END $fn$;
REVOKE ALL ON FUNCTION SCHEMA.append FROM PUBLIC;

-- Takes appends as the caller has worked them out, all or none; `append` is for what this does not take.
--
-- `homes` are their partitions, ascending, and `ends` where each of them ends, as the caller believes. The
-- rest is by event, in the order of `homes`: `numbers` says which append each belongs to, from 0, `times`
-- when it was recorded at the earliest, `deltas` what it depends on more than the partition before it
-- (at the first event of an append: partition, count, …), and `expected` which version it has to get, if that
-- is asked for.
--
-- Nothing is written where a partition ends elsewhere (then there is no `at`), and where a version is not as
-- expected. An id that is there is an error of its key. That offsets follow one another and nothing depends on
-- what is not there is looked at here, whoever calls.
CREATE FUNCTION SCHEMA.append_at(
    homes integer[], ends bigint[],
    event_homes integer[], offsets bigint[], numbers integer[], begins bigint[], lengths integer[], times bigint[],
    ids uuid[], streams text[], types text[], schema_versions bigint[],
    datas bytea[], metas bytea[], tag_lists text[], deltas text[], expected bigint[]
) RETURNS TABLE (is_written boolean, at bigint, versions bigint[])
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off SET lock_timeout = '20s' AS $fn$
#variable_conflict use_variable
DECLARE
    is_sound boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'appends need the isolation level READ COMMITTED, and this transaction has another'
            USING HINT = 'ALTER ROLE … SET default_transaction_isolation = ''read committed''';
    END IF;
    IF current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM 1 FROM SCHEMA.partitions p WHERE p.partition = ANY (homes) ORDER BY p.partition FOR UPDATE;
    FOR k IN 1 .. cardinality(homes) LOOP
        IF ends[k] <> coalesce((SELECT e."offset" + 1 FROM SCHEMA.events e
                WHERE e.partition = homes[k] ORDER BY e."offset" DESC LIMIT 1), 0) THEN
            is_written := false;
            RETURN NEXT;
            RETURN;
        END IF;
    END LOOP;
    at := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    WITH news AS MATERIALIZED (
        SELECT v.*, v.delta_text::bigint[] AS delta,
            max(CASE WHEN v.rank = 1 THEN coalesce((SELECT e.version + 1 FROM SCHEMA.events e
                WHERE e.stream = v.stream ORDER BY e.version DESC LIMIT 1), 0) END)
                OVER (PARTITION BY v.stream) + v.rank - 1 AS version
            FROM (
                SELECT u.*, row_number() OVER (PARTITION BY u.stream ORDER BY u.n) AS rank
                FROM unnest(event_homes, offsets, numbers, begins, lengths, times, ids, streams, types,
                    schema_versions, datas, metas, tag_lists, deltas, expected)
                WITH ORDINALITY AS u (home, "offset", number, begin, length, time, id, stream, event_type,
                    schema_version, data, meta, tag_list, delta_text, expected, n)
            ) v
    ), whole AS (
        SELECT min(u.home) AS home, min(u."offset") AS begin, count(*) AS events,
            bool_and(u.home IS NOT NULL AND u.begin + u.length - 1 >= u."offset")
                AND min(u.home) = max(u.home) AND min(u.begin) = min(u."offset") AND max(u.begin) = min(u.begin)
                AND min(u.length) = count(*) AND max(u.length) = count(*) AS is_whole
            FROM news u GROUP BY u.number
    ), dense AS (
        SELECT bool_and(w.is_whole) AND min(w.begin) = ends[array_position(homes, w.home)]
                AND sum(w.events) = max(w.begin + w.events) - min(w.begin) AS is_dense
            FROM whole w GROUP BY w.home
    ), raises AS MATERIALIZED (
        SELECT u.home, u.delta[2 * i - 1]::integer AS other, u."offset", u.delta[2 * i] AS count
            FROM news u, generate_series(1, cardinality(u.delta) / 2) i WHERE u.delta IS NOT NULL
    ), sound AS MATERIALIZED (
        SELECT (SELECT coalesce(bool_and(coalesce(d.is_dense, false)), false) FROM dense d)
            AND NOT EXISTS (SELECT FROM raises r WHERE r.other = r.home OR r.count > coalesce((
                SELECT e."offset" + 1 FROM SCHEMA.events e
                WHERE e.partition = r.other ORDER BY e."offset" DESC LIMIT 1), 0)) AS is_sound
    ), fine AS MATERIALIZED (
        SELECT s.is_sound AND coalesce((SELECT bool_and(u.version = u.expected) FROM news u), true) AS is_fine
            FROM sound s
    ), written AS (
        INSERT INTO SCHEMA.events (partition, "offset", append, appended, version, recorded_at,
            schema_version, id, stream, category, event_type, tags, causes, meta, data)
        SELECT u.home, u."offset", u.begin, u.length, u.version, greatest(u.time, at + u.number),
            u.schema_version, u.id, u.stream, split_part(u.stream, '/', 1), u.event_type,
            (string_to_array(u.tag_list, U&'\001F'))[2:], u.delta, u.meta, u.data
        FROM news u, fine WHERE fine.is_fine ORDER BY u.n
    ), raised AS (
        INSERT INTO SCHEMA.causes (partition, other, "offset", count)
        SELECT r.home, r.other, r."offset", r.count FROM raises r, fine WHERE fine.is_fine
    )
    SELECT (SELECT s.is_sound FROM sound s), (SELECT f.is_fine FROM fine f), array_agg(u.version ORDER BY u.n)
        INTO is_sound, is_written, versions FROM news u;
    IF is_sound IS NOT TRUE THEN
        RAISE EXCEPTION 'the places of an append do not follow what is there';
    END IF;
    RETURN NEXT;
END $fn$;
REVOKE ALL ON FUNCTION SCHEMA.append_at FROM PUBLIC;

-- Takes one append to several partitions: its parts, by ascending partition, as `append` takes appends. The
-- conditions are those of the first part. All parts are written, or none is.
--
-- It answers as `append` does, a row for each part, or one row that says why nothing was written. `part`
-- says which part it is about, from 0. `numbers` says which event of the append each is, from 0; of an
-- event that was written before, `which` is that number.
CREATE FUNCTION SCHEMA.append_together(
    locks integer[], homes integer[], lasts integer[],
    ids uuid[], streams text[], types text[], schema_versions bigint[],
    datas bytea[], metas bytea[], tag_lists text[],
    condition_lasts integer[], kinds integer[], about text[], places integer[], counts bigint[],
    cause_lasts integer[], cause_partitions integer[], cause_counts bigint[],
    numbers integer[]
) RETURNS TABLE (outcome integer, which integer, at bigint, offsets bigint[], versions bigint[], closure bigint[], part integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off SET lock_timeout = '20s' AS $fn$
#variable_conflict use_variable
DECLARE
    siblings bigint[]; said record; number integer := -1; repeated boolean := false;
    found_count integer; first_found integer; first_taken integer;
BEGIN
    PERFORM 1 FROM SCHEMA.partitions p WHERE p.partition = ANY (locks) ORDER BY p.partition FOR UPDATE;
    siblings := array_fill(0::bigint, ARRAY[cardinality(SCHEMA.heads())]);
    FOR i IN 1 .. cardinality(homes) LOOP
        siblings[homes[i] + 1] := (SCHEMA.heads())[homes[i] + 1]
            + lasts[i] - CASE WHEN i = 1 THEN 0 ELSE lasts[i - 1] END;
    END LOOP;
    -- What was written before is no matter of conditions.
    SELECT count(*), min(numbers[k]), min(numbers[k]) FILTER (WHERE NOT (e.stream = streams[k]
            AND e.event_type = types[k] AND e.data = datas[k]))
        INTO found_count, first_found, first_taken
        FROM generate_series(1, cardinality(ids)) k, LATERAL (SELECT * FROM SCHEMA.events e
            WHERE e.id = ids[k] AND e.partition + 0 =
                homes[(SELECT min(i) FROM generate_subscripts(lasts, 1) i WHERE lasts[i] >= k)] LIMIT 1) e;
    IF first_taken IS NOT NULL OR found_count > 0 AND found_count < cardinality(ids) THEN
        outcome := CASE WHEN first_taken IS NOT NULL THEN 2 ELSE 3 END;
        which := coalesce(first_taken, first_found);
        SELECT min(i) - 1 INTO part FROM generate_subscripts(lasts, 1) i
            WHERE lasts[i] >= array_position(numbers, which);
        SELECT e."offset" INTO at FROM SCHEMA.events e
            WHERE e.id = ids[array_position(numbers, which)] AND e.partition + 0 = homes[part + 1];
        RETURN NEXT;
        RETURN;
    END IF;
    BEGIN
        FOR said IN SELECT * FROM SCHEMA.append(locks, homes, lasts, ids, streams, types, schema_versions,
                datas, metas, tag_lists, condition_lasts, kinds, about, places, counts,
                cause_lasts, cause_partitions, cause_counts, siblings) LOOP
            number := number + 1;
            IF said.outcome > 1 THEN
                outcome := said.outcome; which := said.which; at := said.at; closure := said.closure;
                part := number;
                RAISE EXCEPTION USING ERRCODE = 'AB001';
            END IF;
            repeated := repeated OR said.outcome = 1;
        END LOOP;
    EXCEPTION WHEN SQLSTATE 'AB001' THEN
        RETURN NEXT;
        RETURN;
    END;
    -- Where they stand: what was written just now is the same when it is asked again.
    FOR i IN 1 .. cardinality(homes) LOOP
        part := i - 1; outcome := repeated::integer; which := NULL; at := NULL;
        SELECT array_agg(e."offset" ORDER BY k), array_agg(e.version ORDER BY k) INTO offsets, versions
            FROM generate_series(CASE WHEN i = 1 THEN 1 ELSE lasts[i - 1] + 1 END, lasts[i]) k
            , LATERAL (SELECT * FROM SCHEMA.events e
                WHERE e.id = ids[k] AND e.partition + 0 = homes[i] LIMIT 1) e;
        SELECT array_agg(coalesce((SELECT c.count FROM SCHEMA.causes c
                WHERE c.partition = homes[i] AND c.other = p.partition
                ORDER BY c."offset" DESC LIMIT 1), 0) ORDER BY p.partition)
            INTO closure FROM SCHEMA.partitions p;
        RETURN NEXT;
    END LOOP;
END $fn$;
REVOKE ALL ON FUNCTION SCHEMA.append_together FROM PUBLIC;

-- Waits until no append is under way that began before, and says where the event is.
CREATE FUNCTION SCHEMA.settled(wanted uuid)
RETURNS TABLE (partition integer, "offset" bigint, version bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    PERFORM set_config('lock_timeout', '20s', true);
    PERFORM 1 FROM SCHEMA.partitions p ORDER BY p.partition FOR UPDATE;
    RETURN QUERY SELECT e.partition, e."offset", e.version FROM SCHEMA.events e
        WHERE e.id = wanted ORDER BY e.partition LIMIT 1;
END $fn$;
REVOKE ALL ON FUNCTION SCHEMA.settled FROM PUBLIC;
