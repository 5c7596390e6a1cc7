/* The SQL statements. Column lists come from the metric table at compile time. */
#include "stmt.h"

#include <assert.h>

#include "lyap/layer_row.h"
#include "lyap/metric.h"

/* gcc warns above the 4095 bytes that every C99 compiler takes; ours take more. */
#pragma GCC diagnostic ignored "-Woverlength-strings"

#define NAME(name, wire, trust, unit, formula, needs, source)       ", " wire
#define ERROR_NAME(name, wire, trust, unit, formula, needs, source) ", " wire "_error"
#define MARK(name, wire, trust, unit, formula, needs, source)       ",?"
#define ROLLUP_NAME(name, wire, trust, unit, formula, needs, source)                               \
    ", " wire "_min, " wire "_max, " wire "_mean, " wire "_last, " wire "_count, " wire "_nans"
#define ROLLUP_MARK(name, wire, trust, unit, formula, needs, source) ",?,?,?,?,?,?"
#define TENSOR_NAME(name, wire, formula)                             ", " wire
#define TENSOR_QUALIFIED(name, wire, formula)                        ", t." wire
#define TENSOR_MARK(name, wire, formula)                             ",?"

#define METRICS                                LYAP_METRIC_TABLE(NAME)
#define ERRORS                                 LYAP_METRIC_TABLE(ERROR_NAME)
#define METRIC_MARKS                           LYAP_METRIC_TABLE(MARK)
#define ROLLUPS                                LYAP_METRIC_TABLE(ROLLUP_NAME)
#define ROLLUP_MARKS                           LYAP_METRIC_TABLE(ROLLUP_MARK)
#define TENSORS                                LYAP_TENSOR_METRIC_TABLE(TENSOR_NAME)
#define TENSORS_OF_T                           LYAP_TENSOR_METRIC_TABLE(TENSOR_QUALIFIED)
#define TENSOR_MARKS                           LYAP_TENSOR_METRIC_TABLE(TENSOR_MARK)
#define LAYER_NAME(name, wire, trust, formula) ", " wire
#define LAYER_MARK(name, wire, trust, formula) ",?"
#define LAYERS                                 LYAP_LAYER_METRIC_TABLE(LAYER_NAME)
#define LAYER_MARKS                            LYAP_LAYER_METRIC_TABLE(LAYER_MARK)
/* The sort column by its name. */
#define CHOOSE(name, wire, formula) " WHEN '" wire "' THEN t." wire
#define STRING(text)                STRING_(text)
#define STRING_(text)               #text
#define ASC                         " ASC LIMIT ?2"
#define DESC                        " DESC LIMIT ?2"

/* An ascending statement and its descending twin: key beyond ?1, ?2 rows at most. */
#define BOTH(id, head, key, tail)                                                                  \
    [LYAP_SQL_##id] = head key " > ?1" tail " ORDER BY " key ASC,                                  \
    [LYAP_SQL_##id##_DESC] = head key " < ?1" tail " ORDER BY " key DESC

#define RUN_COLUMNS                                                                                \
    "r.id, r.name, r.created_ns, r.updated_ns, r.attempt, r.state, r.verdict, r.action, "          \
    "r.action_lr, r.action_reason, r.action_step, r.rollbacks, r.retention, r.sketch_seed, "       \
    "r.last_step, r.declaration, "                                                                 \
    "r.labels"
#define RUN_FILTER                                                                                 \
    " AND r.name IS NOT NULL AND (?3 IS NULL OR r.state = ?3) AND (?4 = 0 OR r.id = ?4)"
#define POINT_COLUMNS                                                                              \
    "run_id, attempt, step, time_ns, state, verdict, action, action_lr, action_reason, "           \
    "action_step, "                                                                                \
    "is_event_only, is_gap, labels, twin_names, annotation, nan_metrics, parts" METRICS ERRORS
#define POINT_HEAD                                                                                 \
    "SELECT step, time_ns, p.attempt, p.state, p.verdict, p.action, p.action_lr, "                 \
    "p.action_reason, p.action_step, is_event_only, is_gap, p.labels, twin_names, annotation, "    \
    "a.text, "                                                                                     \
    "nan_metrics, parts" METRICS ERRORS                                                            \
    " FROM points p LEFT JOIN annotations a ON a.id = annotation"                                  \
    " WHERE p.run_id = ?3 AND p.attempt = ?4 AND step BETWEEN ?5 AND ?6 AND "
#define SERIES_HEAD                                                                                \
    "SELECT step, step, is_event_only, nan_metrics" METRICS                                        \
    " FROM points WHERE run_id = ?3 AND attempt = ?4 AND step BETWEEN ?5 AND ?6 AND "
/* The rows of one tensor lie far apart, so each is looked up by the steps of the points. */
#define SERIES_TENSOR_HEAD                                                                         \
    "SELECT t.step, t.step, p.is_event_only, NULL" TENSORS_OF_T                                    \
    " FROM points p CROSS JOIN tensor_points t ON t.run_id = p.run_id"                             \
    " AND t.attempt = p.attempt AND t.step = p.step AND t.tensor = ?7"                             \
    " WHERE p.run_id = ?3 AND p.attempt = ?4 AND p.step BETWEEN ?5 AND ?6 AND "
#define EVENT_HEAD                                                                                 \
    "SELECT e.id, e.run_id, e.attempt, e.step, e.time_ns, e.kind, e.detail"                        \
    " FROM events e JOIN runs r ON r.id = e.run_id WHERE r.name IS NOT NULL"                       \
    " AND (?4 = 0 OR e.attempt = ?4) AND "
#define RULE_REST                                                                                  \
    "is_enabled, is_builtin, metric, tensor_pattern, comparison, threshold, clear, for_steps, "    \
    "clear_steps, is_once, min_points, cooldown_steps, cooldown_s, notify_per_hour, cause, "       \
    "severity, action, run_pattern, runs, source, notify"
#define RULE_COLUMNS    "name, version, updated_ns, " RULE_REST
#define RULE_MARKS      "?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?"
#define SILENCE_COLUMNS "run, rule, severity, labels, comment, author, created_ns, until_ns"
#define ALERT_COLUMNS                                                                              \
    "run_id, attempt, rule, rule_version, tensor, state, severity, pending_step, firing_step, "    \
    "resolved_step, updated_ns, firing_ns, resolved_ns, acked_ns, ack_until_ns, acked_by, "        \
    "ack_comment, cause, group_id, silence_id, silenced_until_ns, notified_ns, held, value, "      \
    "threshold, summary, evidence"
#define ALERT_MARKS "?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?"
#define ALERT_HEAD                                                                                 \
    "SELECT a.id, r.name, a.run_id, a.attempt, a.rule, a.rule_version, a.tensor, a.state, "        \
    "a.severity, a.pending_step, a.firing_step, a.resolved_step, a.updated_ns, a.firing_ns, "      \
    "a.resolved_ns, a.acked_ns, a.ack_until_ns, a.acked_by, a.ack_comment, a.cause, "              \
    "coalesce(a.group_id, a.id), a.silence_id, a.silenced_until_ns, a.notified_ns, a.held, "       \
    "a.value, a.threshold, a.summary, a.evidence FROM alerts a"
/* A left join keeps the order of the tables: alerts by the key of the page, then their run. Those
 * of the daemon itself have none. */
#define ALERT_FILTER                                                                               \
    " LEFT JOIN runs r ON r.id = a.run_id WHERE (a.run_id IS NULL OR r.name IS NOT NULL)"          \
    " AND (?3 IS NULL OR a.state = ?3)"                                                            \
    " AND (?4 IS NULL OR a.severity = ?4) AND (?5 IS NULL OR a.rule = ?5)"                         \
    " AND (?7 = 0 OR a.attempt = ?7)"                                                              \
    " AND (?8 = 0 OR (?8 > 0) = (a.silence_id IS NOT NULL AND a.silenced_until_ns > ?11"           \
    " AND a.state <> 'resolved'))"                                                                 \
    " AND (?9 = 0 OR (?9 > 0) = (a.acked_ns IS NOT NULL"                                           \
    " AND (a.ack_until_ns IS NULL OR a.ack_until_ns > ?11)))"                                      \
    " AND a.updated_ns >= ?10 AND "
#define GROUP_ID "coalesce(a.group_id, a.id)"
#define OF_GROUP "SELECT a.id FROM alerts a WHERE " GROUP_ID " = ?1"
#define GROUP_HEAD                                                                                 \
    "SELECT " GROUP_ID ", max(r.name), max(a.attempt), max(a.cause),"                              \
    " max(CASE a.severity WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END),"               \
    " sum(a.state = 'pending'), sum(a.state = 'firing'),"                                          \
    " sum(a.silence_id IS NOT NULL AND a.silenced_until_ns > ?4), count(DISTINCT a.tensor),"       \
    " min(a.pending_step), max(a.updated_ns), max(a.notified_ns), group_concat(DISTINCT a.rule)"   \
    " FROM alerts a INDEXED BY alerts_by_state LEFT JOIN runs r ON r.id = a.run_id"                \
    " WHERE (a.run_id IS NULL OR r.name IS NOT NULL) AND a.state IN ('pending', 'firing')"         \
    " AND (?3 = 0 OR a.run_id = ?3) AND "
#define RECEIVER_COLUMNS "name, type, format, target, secret, min_severity, labels, is_from_file"
#define DELIVERY_COLUMNS                                                                           \
    "alert_id, receiver, kind, state, attempts, created_ns, next_ns, delivered_ns, "               \
    "error, payload"
#define DELIVERY_FILTER                                                                            \
    " WHERE (?3 IS NULL OR state = ?3) AND (?4 IS NULL OR receiver = ?4)"                          \
    " AND (?5 = 0 OR alert_id = ?5) AND "

#define PURGE_ROWS_MAX       20000 /* about 100 ms of deleting */
#define PRUNE_DELIVERIES_MAX 1000  /* per call */
#define VACUUM_PAGES         512   /* 2 MiB given back per call */
#define PURGE(table)                                                                               \
    "DELETE FROM " table " WHERE id IN (SELECT id FROM " table                                     \
    " WHERE run_id = ?1 LIMIT " STRING(PURGE_ROWS_MAX) ")"

static const char *const texts[LYAP_SQL_COUNT] = {
    [LYAP_SQL_BEGIN_READ] = "BEGIN",
    [LYAP_SQL_COMMIT_READ] = "COMMIT",
    [LYAP_SQL_FIND_RUN] = "SELECT id, attempt FROM runs WHERE name = ?1",
    BOTH(RUNS, "SELECT " RUN_COLUMNS " FROM runs r WHERE ", "r.id", RUN_FILTER),
    BOTH(LABEL_RUNS,
         "SELECT " RUN_COLUMNS " FROM run_labels l CROSS JOIN runs r ON r.id = l.run_id"
         " WHERE l.key = ?5 AND l.value = ?6 AND ",
         "l.run_id", RUN_FILTER),
    BOTH(POINTS, POINT_HEAD, "step", ""),
    BOTH(SERIES_POINTS, SERIES_HEAD, "step", ""),
    [LYAP_SQL_SERIES_ROLLUPS] = "SELECT first_step, last_step, points, NULL" ROLLUPS
                                " FROM rollups WHERE run_id = ?1 AND attempt = ?2 AND level = ?3"
                                " AND bin BETWEEN ?4 AND ?5 ORDER BY bin",
    BOTH(SERIES_TENSOR, SERIES_TENSOR_HEAD, "p.step", ""),
    [LYAP_SQL_COUNT_POINTS] =
        "SELECT count(*) FROM (SELECT 1 FROM points"
        " WHERE run_id = ?1 AND attempt = ?2 AND step BETWEEN ?4 AND ?5 LIMIT ?6)",
    [LYAP_SQL_COUNT_ROLLUPS] =
        "SELECT count(*) FROM (SELECT 1 FROM rollups"
        " WHERE run_id = ?1 AND attempt = ?2 AND level = ?3 AND bin BETWEEN ?4 AND ?5 LIMIT ?6)",
    [LYAP_SQL_ATTEMPT_STEPS] =
        "SELECT (SELECT max(step) FROM points WHERE run_id = ?1 AND attempt = ?2),"
        " (SELECT pruned_step FROM attempts WHERE run_id = ?1 AND attempt = ?2)",
    [LYAP_SQL_FIND_TENSOR] =
        "SELECT tensor FROM tensors WHERE run_id = ?1 AND attempt = ?2 AND name = ?3",
    [LYAP_SQL_LAYERS] =
        "SELECT layer, step, name, kind, method, bound_step, marks" LAYERS " FROM layers"
        " WHERE run_id = ?3 AND attempt = ?4 AND layer > ?1 ORDER BY layer LIMIT ?2",
    [LYAP_SQL_TENSORS] =
        "SELECT n.name, t.step, t.tensor" TENSORS_OF_T " FROM tensor_points t JOIN tensors n"
        " ON n.run_id = t.run_id AND n.attempt = t.attempt AND n.tensor = t.tensor"
        " WHERE t.run_id = ?1 AND t.attempt = ?2 AND t.step ="
        " (SELECT max(step) FROM tensor_points WHERE run_id = ?1 AND attempt = ?2)"
        " ORDER BY CASE ?5" LYAP_TENSOR_METRIC_TABLE(
            CHOOSE) " END DESC NULLS LAST, t.tensor LIMIT ?3 OFFSET ?4",
    BOTH(ATTEMPTS,
         "SELECT run_id, attempt, key, started_ns, ended_ns, first_step, last_step, "
         "reference_loss, healthy_lr FROM attempts WHERE run_id = ?3 AND ",
         "attempt", ""),
    BOTH(EVENTS, EVENT_HEAD, "e.id", ""),
    BOTH(RUN_EVENTS, EVENT_HEAD "e.run_id = ?3 AND ", "e.id", ""),
    BOTH(RULES, "SELECT id, " RULE_COLUMNS ", 0 FROM rules WHERE ", "id", ""),
    BOTH(RULE_VERSIONS,
         "SELECT version, " RULE_COLUMNS ", is_deleted FROM rule_versions WHERE name = ?3 AND ",
         "version", ""),
    BOTH(SILENCES,
         "SELECT id, " SILENCE_COLUMNS " FROM silences WHERE (?3 = 0 OR until_ns > ?3) AND ", "id",
         ""),
    BOTH(ALERT_GROUPS, GROUP_HEAD, GROUP_ID, " GROUP BY " GROUP_ID),
    [LYAP_SQL_TENSOR_POINTS] =
        "SELECT NULL, t.step, t.tensor" TENSORS_OF_T " FROM tensor_points t"
        " WHERE t.run_id = ?1 AND t.attempt = ?2 AND t.step BETWEEN ?3 AND ?4"
        " ORDER BY t.step, t.tensor",
    BOTH(ALERTS, ALERT_HEAD ALERT_FILTER, "a.id", ""),
    BOTH(CHANGED_ALERTS, ALERT_HEAD " INDEXED BY alerts_by_change" ALERT_FILTER, "a.id", ""),
    BOTH(STATE_ALERTS, ALERT_HEAD " INDEXED BY alerts_by_state" ALERT_FILTER "a.state = ?3 AND ",
         "a.id", ""),
    BOTH(RUN_ALERTS, ALERT_HEAD " INDEXED BY alerts_by_run" ALERT_FILTER "a.run_id = ?6 AND ",
         "a.id", ""),
    BOTH(RECEIVERS, "SELECT id, " RECEIVER_COLUMNS " FROM receivers WHERE ", "id", ""),
    BOTH(DELIVERIES, "SELECT id, " DELIVERY_COLUMNS " FROM deliveries" DELIVERY_FILTER, "id", ""),
    BOTH(ALERT_DELIVERIES,
         "SELECT id, " DELIVERY_COLUMNS " FROM deliveries" DELIVERY_FILTER "alert_id = ?5 AND ",
         "id", ""),
    [LYAP_SQL_DUE_DELIVERIES] =
        "SELECT id, " DELIVERY_COLUMNS " FROM deliveries d INDEXED BY deliveries_due"
        " WHERE d.receiver = ?1 AND d.next_ns IS NOT NULL AND NOT EXISTS (SELECT 1"
        " FROM deliveries e WHERE e.alert_id = d.alert_id AND e.receiver = d.receiver"
        " AND e.id < d.id AND e.state = 'waiting') ORDER BY d.next_ns, d.id LIMIT ?2",

    [LYAP_SQL_BEGIN] = "BEGIN IMMEDIATE",
    [LYAP_SQL_COMMIT] = "COMMIT",
    [LYAP_SQL_ROLLBACK] = "ROLLBACK",
    [LYAP_SQL_INSERT_RUN] =
        "INSERT INTO runs(name, created_ns, updated_ns, attempt, state, verdict, action, "
        "action_lr, action_reason, action_step, rollbacks, retention, sketch_seed, last_step, "
        "declaration, labels)"
        " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [LYAP_SQL_UPDATE_RUN] =
        "UPDATE runs SET name = ?, created_ns = ?, updated_ns = ?, attempt = ?, state = ?, "
        "verdict = ?, action = ?, action_lr = ?, action_reason = ?, action_step = ?, rollbacks = "
        "?, "
        "retention = ?, "
        "sketch_seed = ?, last_step = ?, declaration = ?, labels = ?"
        " WHERE id = ? AND name IS NOT NULL",
    [LYAP_SQL_DELETE_RUN] = "UPDATE runs SET name = NULL, labels = '{}'"
                            " WHERE id = ?1 AND name IS NOT NULL",
    [LYAP_SQL_PUT_ATTEMPT] =
        "INSERT INTO attempts(run_id, attempt, key, started_ns, ended_ns, first_step, "
        "last_step, reference_loss, healthy_lr) VALUES(?,?,?,?,?,?,?,?,?)"
        " ON CONFLICT(run_id, attempt) DO UPDATE SET key = excluded.key, "
        "started_ns = excluded.started_ns, ended_ns = excluded.ended_ns, "
        "first_step = excluded.first_step, last_step = excluded.last_step, "
        "reference_loss = excluded.reference_loss, healthy_lr = excluded.healthy_lr",
    [LYAP_SQL_PUT_TENSOR] =
        "INSERT INTO tensors(run_id, attempt, tensor, name, shape) VALUES(?,?,?,?,?)",
    [LYAP_SQL_TENSOR_SET] = "SELECT name, shape, (SELECT count(*) FROM tensors"
                            " WHERE run_id = ?1 AND attempt = ?2)"
                            " FROM tensors WHERE run_id = ?1 AND attempt = ?2 ORDER BY tensor",
    [LYAP_SQL_FIND_ANNOTATION] = "SELECT id FROM annotations WHERE run_id = ?1 AND text = ?2",
    [LYAP_SQL_PUT_ANNOTATION] = "INSERT INTO annotations(run_id, text) VALUES(?,?)",
    [LYAP_SQL_PUT_POINT] =
        "INSERT INTO points(" POINT_COLUMNS
        ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?" METRIC_MARKS METRIC_MARKS ")",
    [LYAP_SQL_PUT_TENSOR_POINT] = "INSERT INTO tensor_points(run_id, attempt, step, tensor" TENSORS
                                  ") VALUES(?,?,?,?" TENSOR_MARKS ")",
    [LYAP_SQL_PUT_ROLLUP] =
        "INSERT INTO rollups(run_id, attempt, level, bin, first_step, "
        "last_step, last_ns, points" ROLLUPS ") VALUES(?,?,?,?,?,?,?,?" ROLLUP_MARKS ")",
    [LYAP_SQL_PUT_EVENT] = "INSERT INTO events(run_id, attempt, step, time_ns, kind, detail)"
                           " VALUES(?,?,?,?,?,?)",
    [LYAP_SQL_NEXT_VERSION] =
        "SELECT 1 + coalesce(max(version), 0) FROM rule_versions WHERE name = ?1",
    [LYAP_SQL_PUT_RULE] =
        "INSERT INTO rules(" RULE_COLUMNS ") VALUES(" RULE_MARKS ")"
        " ON CONFLICT(name) DO UPDATE SET version = excluded.version, "
        "updated_ns = excluded.updated_ns, is_enabled = excluded.is_enabled, "
        "is_builtin = excluded.is_builtin, metric = excluded.metric, "
        "tensor_pattern = excluded.tensor_pattern, comparison = excluded.comparison, "
        "threshold = excluded.threshold, clear = excluded.clear, for_steps = excluded.for_steps, "
        "clear_steps = excluded.clear_steps, is_once = excluded.is_once, "
        "min_points = excluded.min_points, cooldown_steps = excluded.cooldown_steps, "
        "cooldown_s = excluded.cooldown_s, notify_per_hour = excluded.notify_per_hour, "
        "cause = excluded.cause, severity = excluded.severity, action = excluded.action, "
        "run_pattern = excluded.run_pattern, runs = excluded.runs, source = excluded.source, "
        "notify = excluded.notify",
    [LYAP_SQL_PUT_VERSION] = "INSERT INTO rule_versions(" RULE_COLUMNS ", is_deleted)"
                             " SELECT " RULE_COLUMNS ", 0 FROM rules WHERE name = ?1",
    [LYAP_SQL_END_VERSIONS] = "INSERT INTO rule_versions(" RULE_COLUMNS ", is_deleted)"
                              " SELECT name, version + 1, ?2, " RULE_REST ", 1"
                              " FROM rules WHERE name = ?1",
    [LYAP_SQL_TRIM_VERSIONS] = "DELETE FROM rule_versions WHERE name = ?1 AND version <= "
                               "(SELECT max(version) FROM rule_versions WHERE name = ?1) - ?2",
    [LYAP_SQL_TRIM_ALL_VERSIONS] =
        "DELETE FROM rule_versions WHERE id <= (SELECT max(id) FROM rule_versions) - ?1",
    [LYAP_SQL_DELETE_RULE] = "DELETE FROM rules WHERE name = ?1",
    [LYAP_SQL_INSERT_SILENCE] = "INSERT INTO silences(" SILENCE_COLUMNS ") VALUES(?,?,?,?,?,?,?,?)",
    [LYAP_SQL_UPDATE_SILENCE] = "UPDATE silences SET until_ns = ?2 WHERE id = ?1",
    [LYAP_SQL_TRIM_SILENCES] = "DELETE FROM silences WHERE until_ns < ?2"
                               " AND id <= (SELECT max(id) FROM silences) - ?1",
    [LYAP_SQL_INSERT_ALERT] = "INSERT INTO alerts(" ALERT_COLUMNS ") VALUES(" ALERT_MARKS ")",
    [LYAP_SQL_UPDATE_ALERT] =
        "UPDATE alerts SET run_id = ?, attempt = ?, rule = ?, rule_version = ?, tensor = ?, "
        "state = ?, severity = ?, pending_step = ?, firing_step = ?, resolved_step = ?, "
        "updated_ns = ?, firing_ns = ?, resolved_ns = ?, acked_ns = ?, ack_until_ns = ?, "
        "acked_by = ?, ack_comment = ?, cause = ?, group_id = ?, silence_id = ?, "
        "silenced_until_ns = ?, notified_ns = ?, held = ?, value = ?, threshold = ?, summary = ?, "
        "evidence = ? WHERE id = ?",
    [LYAP_SQL_PUT_RECEIVER] =
        "INSERT INTO receivers(" RECEIVER_COLUMNS ") VALUES(?,?,?,?,?,?,?,?)"
        " ON CONFLICT(name) DO UPDATE SET type = excluded.type, format = excluded.format, "
        "target = excluded.target, secret = excluded.secret, "
        "min_severity = excluded.min_severity, labels = excluded.labels, "
        "is_from_file = excluded.is_from_file",
    [LYAP_SQL_DELETE_RECEIVER] = "DELETE FROM receivers WHERE name = ?1",
    [LYAP_SQL_PUT_DELIVERY] =
        "INSERT INTO deliveries(" DELIVERY_COLUMNS ") VALUES(?,?,?,?,?,?,?,?,?,?)"
        " ON CONFLICT(alert_id, receiver, kind) DO NOTHING",
    [LYAP_SQL_RESOLVE_REPEATING] = "UPDATE deliveries SET state = 'delivered', next_ns = NULL"
                                   " WHERE alert_id IN (" OF_GROUP ") AND state = 'repeating'",
    [LYAP_SQL_RESOLVE_DELIVERIES] =
        "INSERT INTO deliveries(" DELIVERY_COLUMNS ")"
        " SELECT alert_id, receiver, 'resolved', 'waiting', 0, ?3, ?3, NULL, NULL,"
        " CASE alert_id WHEN json_extract(?2, '$.alert.id') THEN json_set(?2, '$.labels',"
        " json_extract(payload, '$.labels'), '$.since', json_extract(payload, '$.since'))"
        " ELSE json_set(payload, '$.alert.state', 'resolved', '$.alert.updated',"
        " json_extract(?2, '$.alert.updated')) END FROM deliveries WHERE id IN"
        " (SELECT min(id) FROM deliveries WHERE alert_id IN (" OF_GROUP ") AND kind = 'firing'"
        " GROUP BY alert_id, receiver) ON CONFLICT(alert_id, receiver, kind) DO NOTHING",
    [LYAP_SQL_UPDATE_DELIVERY] =
        "UPDATE deliveries SET state = ?, next_ns = ?, attempts = ?, delivered_ns = ?, error = ?"
        " WHERE id = ?",
    [LYAP_SQL_END_REPEATING] =
        "UPDATE deliveries SET state = 'delivered', next_ns = NULL WHERE id = ?1"
        " AND NOT EXISTS (SELECT 1 FROM alerts f CROSS JOIN alerts a"
        " ON " GROUP_ID " = coalesce(f.group_id, f.id) AND a.state = 'firing'"
        " WHERE f.id = deliveries.alert_id)",
    [LYAP_SQL_FAIL_DELIVERIES] = "UPDATE deliveries SET next_ns = NULL, error = ?2, state ="
                                 " CASE state WHEN 'waiting' THEN 'failed' ELSE 'delivered' END"
                                 " WHERE receiver = ?1 AND next_ns IS NOT NULL",
    [LYAP_SQL_PRUNE_DELIVERIES] =
        "DELETE FROM deliveries WHERE id IN (SELECT d.id FROM deliveries d"
        " JOIN alerts a ON a.id = d.alert_id WHERE d.next_ns IS NULL AND d.created_ns < ?1"
        " AND a.state = 'resolved' AND NOT EXISTS (SELECT 1 FROM deliveries e"
        " WHERE e.alert_id = d.alert_id AND e.next_ns IS NOT NULL) LIMIT " STRING(
            PRUNE_DELIVERIES_MAX) ")",
    [LYAP_SQL_COUNT_DELIVERIES] = "SELECT count(*), min(created_ns) FROM deliveries"
                                  " WHERE next_ns IS NOT NULL AND state = 'waiting'",
    [LYAP_SQL_PUT_LAYER] =
        "INSERT OR REPLACE INTO layers(run_id, attempt, layer, step, name, kind, method,"
        " bound_step, marks" LAYERS ") VALUES(?,?,?,?,?,?,?,?,?" LAYER_MARKS ")",
    [LYAP_SQL_TRIM_LAYERS] =
        "DELETE FROM layers WHERE run_id = ?1 AND attempt = ?2 AND layer >= ?3",
    [LYAP_SQL_PUT_PROFILE] = "INSERT OR REPLACE INTO profiles(run_id, attempt, step, bytes)"
                             " VALUES(?,?,?,?)",
    [LYAP_SQL_DELETE_PROFILE] = "DELETE FROM profiles WHERE run_id = ?1 AND attempt = ?2",
    [LYAP_SQL_PROFILE] = "SELECT step, bytes FROM profiles WHERE run_id = ?1 AND attempt = ?2",
    [LYAP_SQL_SET_OLDEST] = "UPDATE attempts SET oldest_ns = ?3"
                            " WHERE run_id = ?1 AND attempt = ?2 AND oldest_ns IS NULL",
    [LYAP_SQL_OLDEST_ATTEMPT] = "SELECT run_id, attempt FROM attempts WHERE oldest_ns < ?1"
                                " ORDER BY oldest_ns LIMIT 1",
    [LYAP_SQL_PRUNABLE_POINTS] = "SELECT step, time_ns FROM points"
                                 " WHERE run_id = ?1 AND attempt = ?2 ORDER BY step LIMIT ?3",
    [LYAP_SQL_PRUNE_POINTS] = "DELETE FROM points"
                              " WHERE run_id = ?1 AND attempt = ?2 AND step < ?3",
    [LYAP_SQL_PRUNE_TENSOR_POINTS] = "DELETE FROM tensor_points"
                                     " WHERE run_id = ?1 AND attempt = ?2 AND step < ?3",
    [LYAP_SQL_SET_PRUNED] = "UPDATE attempts SET oldest_ns = ?3, "
                            "pruned_step = max(pruned_step, ?4)"
                            " WHERE run_id = ?1 AND attempt = ?2",
    [LYAP_SQL_DELETED_RUN] = "SELECT id FROM runs WHERE name IS NULL LIMIT 1",
    [LYAP_SQL_PURGE_TENSOR_POINTS] =
        "DELETE FROM tensor_points WHERE (run_id, attempt, step, tensor) IN"
        " (SELECT run_id, attempt, step, tensor FROM tensor_points"
        " WHERE run_id = ?1 LIMIT " STRING(PURGE_ROWS_MAX) ")",
    [LYAP_SQL_PURGE_POINTS] = PURGE("points"),
    [LYAP_SQL_PURGE_ROLLUPS] = PURGE("rollups"),
    [LYAP_SQL_PURGE_ANNOTATIONS] = PURGE("annotations"),
    [LYAP_SQL_PURGE_EVENTS] = PURGE("events"),
    [LYAP_SQL_PURGE_DELIVERIES] = "DELETE FROM deliveries WHERE id IN (SELECT d.id FROM alerts a"
                                  " JOIN deliveries d ON d.alert_id = a.id WHERE a.run_id = ?1"
                                  " LIMIT " STRING(PURGE_ROWS_MAX) ")",
    [LYAP_SQL_PURGE_ALERTS] = PURGE("alerts"),
    [LYAP_SQL_PURGE_PROFILES] = "DELETE FROM profiles WHERE run_id = ?1",
    [LYAP_SQL_PURGE_LAYERS] = "DELETE FROM layers WHERE (run_id, attempt, layer) IN"
                              " (SELECT run_id, attempt, layer FROM layers"
                              " WHERE run_id = ?1 LIMIT " STRING(PURGE_ROWS_MAX) ")",
    [LYAP_SQL_PURGE_TENSORS] = "DELETE FROM tensors WHERE (run_id, attempt, tensor) IN"
                               " (SELECT run_id, attempt, tensor FROM tensors"
                               " WHERE run_id = ?1 LIMIT " STRING(PURGE_ROWS_MAX) ")",
    [LYAP_SQL_PURGE_ATTEMPTS] = "DELETE FROM attempts WHERE run_id = ?1",
    [LYAP_SQL_PURGE_RUN] = "DELETE FROM runs WHERE id = ?1",
    [LYAP_SQL_PAGES] = "SELECT page_count, freelist_count, page_size"
                       " FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    [LYAP_SQL_VACUUM] = "PRAGMA incremental_vacuum(" STRING(VACUUM_PAGES) ")",
};

const char *lyap_sql_text(enum lyap_sql_id id)
{
    assert(texts[id]);
    return texts[id];
}
